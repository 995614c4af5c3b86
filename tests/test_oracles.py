"""Box arithmetic beside two other libraries' own."""

import numpy as np
import pytest

from keras_cnns.ops import boxes, nms


def some_boxes(rng, n):
    corner = rng.uniform(0, 200, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 120, (n, 2))], -1).astype("float32")


def test_iou_equals_keras_cv():
    bounding_box = pytest.importorskip("keras_cv").bounding_box
    rng = np.random.default_rng(0)
    a, b = some_boxes(rng, 30), some_boxes(rng, 20)
    np.testing.assert_allclose(boxes.iou(a, b), bounding_box.compute_iou(a, b, bounding_box_format="xyxy"), atol=1e-6)


def test_encoding_and_nms_equal_the_model_garden():
    box_ops = pytest.importorskip("official.vision.ops.box_ops")
    rng = np.random.default_rng(1)
    box, anchor = some_boxes(rng, 50), some_boxes(rng, 50)
    swap = [1, 0, 3, 2]  # theirs are y before x
    want = box_ops.encode_boxes(box[:, swap], anchor[:, swap], weights=[10.0, 10.0, 5.0, 5.0])
    got = np.array(boxes.encode(box, anchor, (0.1, 0.1, 0.2, 0.2)))[:, swap]
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)

    their_nms = pytest.importorskip("official.vision.ops.nms")
    scores = rng.uniform(size=(1, 50)).astype("float32")
    want, _ = their_nms.sorted_non_max_suppression_padded(
        np.sort(scores)[:, ::-1], box[None][:, np.argsort(-scores[0])], 20, 0.4)
    index, real = nms.nms(box[None], scores, 20, 0.4)
    got = scores[0][np.array(index)[0][np.array(real)[0]]]
    np.testing.assert_allclose(got, want.numpy()[0][: len(got)])
