import keras
import numpy as np
import pytest

from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import nms

BACKENDS = ["tensorflow", "other"] if keras.backend.backend() == "tensorflow" else [keras.backend.backend()]


@pytest.fixture(params=BACKENDS)
def method(request, monkeypatch):
    """Both ways of suppression, the second also where TensorFlow could do it."""
    monkeypatch.setattr(keras.backend, "backend", lambda: request.param)
    return nms.nms


def by_loop(boxes, scores, size, iou_threshold, score_threshold=0.0):
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] > score_threshold and len(kept) < size:
            if all(float(box_ops.iou(boxes[i:i + 1], boxes[j:j + 1])[0, 0]) <= iou_threshold for j in kept):
                kept.append(i)
    return kept


def crowd(rng, batch, n):
    corner = rng.uniform(0, 60, (batch, n, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 60, (batch, n, 2))], -1).astype("float32")


@pytest.mark.parametrize("batch", [1, 3])
def test_nms_equals_the_loop(method, batch):
    rng = np.random.default_rng(batch)
    boxes, scores = crowd(rng, batch, 80), rng.uniform(-0.2, 1, (batch, 80)).astype("float32")
    index, real = method(boxes, scores, 20, 0.4)
    for b in range(batch):
        assert np.array(index)[b][np.array(real)[b]].tolist() == by_loop(boxes[b], scores[b], 20, 0.4)


def test_a_long_chain_of_boxes_is_settled(method):
    x = np.arange(40, dtype="float32")[None, :, None]  # each overlaps only its neighbours
    boxes = np.concatenate([x, 0 * x, x + 1.9, 0 * x + 1], -1)
    scores = np.linspace(1, 0.5, 40, dtype="float32")[None]
    index, real = method(boxes, scores, 40, 0.3)
    assert np.array(index)[0][np.array(real)[0]].tolist() == list(range(0, 40, 2))


def test_of_equal_scores_the_earlier_comes_first(method):
    boxes = np.array([[[0, 0, 9, 9], [0, 0, 9, 8], [50, 50, 60, 60], [0, 0, 9, 9]]], "float32")
    index, real = method(boxes, np.full((1, 4), 0.7, "float32"), 4, 0.5)
    assert np.array(index)[np.array(real)].tolist() == [0, 2]


def test_fewer_boxes_than_asked_for_leave_padding():
    boxes, scores = np.array([[[0, 0, 9, 9], [0, 0, 9, 9]]], "float32"), np.array([[0.5, 0.9]], "float32")
    index, real = nms.nms(boxes, scores, 4, 0.5)
    assert np.array(real).tolist() == [[True, False, False, False]] and int(index[0, 0]) == 1


def test_a_box_without_area_is_taken_once():
    boxes, scores = np.array([[[5, 5, 5, 5], [20, 20, 40, 40]]], "float32"), np.array([[0.9, 0.5]], "float32")
    index, real = nms.nms(boxes, scores, 4, 0.5)
    assert np.array(index)[np.array(real)].tolist() == [0, 1]


def test_classes_do_not_suppress_each_other():
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]]], "float32")[:, :, None].repeat(2, 2)
    scores = np.array([[[0.9, 0.0], [0.8, 0.0], [0.0, 0.7]]], "float32")
    found = {k: np.array(v) for k, v in nms.class_nms(boxes, scores, 5, 0.5, 0.05).items()}
    assert found["count"].tolist() == [2]
    assert found["labels"].tolist() == [[1, 2, 0, 0, 0]]
    np.testing.assert_allclose(found["scores"], [[0.9, 0.7, 0, 0, 0]])
    assert found["boxes"][0, 2:].sum() == 0


def test_class_nms_equals_nms_of_each_class():
    rng = np.random.default_rng(5)
    boxes = np.stack([crowd(rng, 1, 40) for _ in range(3)], 2)
    scores = rng.uniform(0, 1, (1, 40, 3)).astype("float32")
    found = nms.class_nms(boxes, scores, 100, 0.4, 0.3)
    want = sorted(((scores[0, i, k], k + 1) for k in range(3)
                   for i in by_loop(boxes[0, :, k], scores[0, :, k], 100, 0.4, 0.3)), reverse=True)
    assert int(found["count"][0]) == len(want)
    np.testing.assert_allclose(np.array(found["scores"])[0, :len(want)], [s for s, _ in want])
    assert np.array(found["labels"])[0, :len(want)].tolist() == [k for _, k in want]
