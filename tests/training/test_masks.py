"""Mask R-CNN from samples to masks in pixels of their own images, and through every door."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnns import export
from keras_cnns.data import batches, images, synthetic
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError
from keras_cnns.export import answers
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector, module_of
from keras_cnns.ops import masks as mask_ops
from keras_cnns.training import detect, recipes

SIZE = (96, 128)
RECIPE = recipes.recipe("mask_rcnn_resnet18")._replace(learning_rate=1e-3, batch=8)


@pytest.fixture(scope="module")
def pictures():
    return synthetic.samples(12, masks=True)


@pytest.fixture(scope="module")
def network(pictures):
    """It has seen a little, so that its answers are not all alike."""
    keras.utils.set_random_seed(0)
    network = create_model("mask_rcnn_resnet18", (*SIZE, 3), 5)
    detect.compiled(network, keras.optimizers.Adam(1e-3), RECIPE, pictures)
    few = pictures[:8]
    network.fit(detect.elements(network, few, RECIPE._replace(epochs=12), 0, 0), shuffle=False, verbose=0)
    return network


@pytest.fixture(scope="module")
def found(network, pictures):
    found = detect.detect(detector(network), pictures, progress=False)
    assert sum(len(answer["scores"]) for answer in found) >= 12
    return found


def test_elements_are_what_the_network_takes(network, pictures):
    batch = next(iter(detect.elements(network, pictures, RECIPE._replace(epochs=1), 0, 0)))
    assert set(batch) == set(network.input)
    boxes_only = create_model("faster_rcnn_resnet18", (*SIZE, 3), 5)
    assert set(next(iter(detect.elements(boxes_only, pictures, RECIPE._replace(epochs=1), 0, 0)))) == {
        "image", "boxes", "labels"}


def test_samples_without_masks_are_refused(network, pictures):
    with pytest.raises(InputError, match="000002.*no masks.*mask_rcnn_resnet18"):
        detect.elements(network, [pictures[0], pictures[1]._replace(masks=None)], RECIPE, 0, 0)


def test_masks_come_back_in_the_size_of_each_image(pictures, found):
    for sample, answer in zip(pictures, found):
        masks = detect.mask_pixels(answer)
        assert len(masks) == len(answer["boxes"])
        for mask, box in zip(masks, answer["boxes"]):
            assert mask.shape == sample.size
            y, x = np.nonzero(mask)
            if len(x):  # within its box and the two pixels that pasting adds
                assert (np.array([x.min(), y.min()]) >= np.floor(box[:2]) - 2 - 0.05 * (box[2:] - box[:2])).all()
                assert (np.array([x.max(), y.max()]) <= np.ceil(box[2:]) + 2 + 0.05 * (box[2:] - box[:2])).all()


def test_what_is_found_is_measured_against_the_truth(pictures, found):
    true = detect.truth(pictures)
    areas = [data_samples.masks(sample).sum((1, 2)) for sample in pictures]
    perfect = [{**t, "scores": np.ones(len(t["labels"]))} for t in true]
    assert metrics.coco_ap(true, perfect, "segm")["AP"] == pytest.approx(1)
    assert sum(map(len, areas)) == sum(len(t["masks"]) for t in true)
    assert 0 <= metrics.coco_ap(true, found, "segm")["AP50"] <= 1


def as_answer(answer, i):
    n = int(answer["num_detections"][i])
    return {key.removeprefix("detection_"): np.array(value[i][:n]) for key, value in answer.items()
            if key != "num_detections"}


def paste_served(served, size):
    height, width = size
    boxes = served["boxes"][:, [1, 0, 3, 2]] * (width, height, width, height)
    return mask_ops.paste(served["masks"], boxes, height, width)


def overlap(a, b):
    return (a & b).sum((1, 2)) / np.maximum((a | b).sum((1, 2)), 1)


@pytest.mark.slow
def test_a_served_model_of_any_batch_answers_the_same_masks(network, pictures, found, tmp_path):
    graph = detector(network)
    loaded = tf.saved_model.load(str(export.saved_model(graph, tmp_path / "shapes", synthetic.CLASSES)))
    rows = []
    for batch in (1, 2, 8):
        answer = {key: value.numpy() for key, value in
                  loaded.signatures["jpeg"](jpeg=tf.constant([s.source for s in pictures[:batch]])).items()}
        assert answer["detection_masks"].shape[2:] == (28, 28)
        assert not any(masks[int(n):].any() for masks, n in zip(answer["detection_masks"], answer["num_detections"]))
        rows.append(as_answer(answer, 0))
        for i in range(batch):
            served, want = as_answer(answer, i), found[i]
            np.testing.assert_array_equal(served["classes"], want["labels"])
            np.testing.assert_allclose(served["scores"], want["scores"], atol=1e-4)
            masks = paste_served(served, pictures[i].size)
            inside = detect.mask_pixels(want)
            large = np.array([mask.sum() for mask in inside]) > 400
            if large.any():  # cut at the image's border a mask is sampled anew; a pixel of its border may differ
                assert overlap(masks[large], inside[large] > 0).min() > 0.95
    for other in rows[1:]:
        np.testing.assert_allclose(other["masks"], rows[0]["masks"], atol=1e-4)


@pytest.mark.slow
def test_tflite_answers_the_same_masks_with_built_in_ops_only(network, pictures, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    graph = detector(network)
    interpreter = Interpreter(str(export.tflite(graph, tmp_path / "shapes.tflite")))
    interpreter.allocate_tensors()
    assert not [op["op_name"] for op in interpreter._get_ops_details() if op["op_name"].startswith(("Flex", "Custom"))]
    runner = interpreter.get_signature_runner("serving_default")
    for sample in pictures[:4]:
        canvas, _ = images.letterbox(images.decode(sample.source, sample.name)[:120, :160], SIZE)
        want, got = graph.predict(canvas[None], verbose=0), as_answer(runner(image=canvas[None].numpy()), 0)
        n = int(want["count"][0])
        np.testing.assert_array_equal(got["classes"], want["labels"][0, :n])
        np.testing.assert_allclose(got["masks"], want["masks"][0, :n], atol=1e-3)


@pytest.mark.slow
def test_eight_images_and_their_masks_are_learnt_by_heart(pictures):
    keras.utils.set_random_seed(1)
    few = [s for s in pictures if not s.ignored.any()][:8]
    network = create_model("mask_rcnn_resnet18", (128, 128, 3), 5)
    network.compile(keras.optimizers.Adam(1e-3), loss=module_of(network.name).losses(network.name))
    network.fit(detect.elements(network, few, RECIPE._replace(epochs=120), 0, 0), shuffle=False, verbose=0)
    logs = detect.evaluation(network, few, 8)()
    assert logs["AP50"] > 0.9 and logs["mask_AP50"] > 0.85


@pytest.mark.slow
def test_a_network_of_any_size_sees_each_image_alone():
    """At the size it has for itself, as torchvision's detectors have it; nothing is letterboxed."""
    wide, tall = (s for s in synthetic.samples(6)[:2])
    keras.utils.set_random_seed(0)
    free = create_model("mask_rcnn_resnet18", (None, None, 3), 5)
    fixed = create_model("mask_rcnn_resnet18", (64, 80, 3), 5)
    fixed.set_weights(free.get_weights())
    sizes = [image.shape[1:3] for image, *_ in batches.resized([wide, tall], 64, 80)]
    for (height, width), sample in zip(sizes, (wide, tall)):
        factor = min(64 / min(sample.size), 80 / max(sample.size))
        assert (height, width) == tuple(int(side * factor) for side in sample.size)
    graph = detector(free, score_threshold=0.0, max_detections=5)
    found = detect.detect(graph, [wide, tall], progress=False, sides=(64, 80))
    for sample, answer in zip((wide, tall), found):
        assert len(answer["boxes"]) == len(answer["masks"])
        assert (answer["boxes"][:, 2:] <= np.array(sample.size[::-1]) + 1e-3).all()
    canvas = np.random.default_rng(0).uniform(0, 255, (1, 64, 80, 3)).astype("float32")
    want, got = (detector(n, score_threshold=0.0, max_detections=5).predict_on_batch(canvas) for n in (fixed, free))
    for key in want:
        np.testing.assert_allclose(got[key], want[key], atol=1e-3)


def test_joints_are_answered_where_their_heat_maps_are_hottest():
    heat = np.zeros((1, 2, 8, 8, 3), "float32")
    heat[0, 0, 2, 5, 1], heat[0, 1, 7, 0, 2] = 4, 9
    boxes = np.float32([[[0, 0, 80, 40], [10, 20, 18, 28]]])
    found = answers.with_joints({"boxes": boxes, "heatmaps": tf.constant(heat), "scores": np.ones((1, 2), "float32"),
                                 "labels": np.ones((1, 2), "int32"), "count": np.int32([2])}, tf.constant(boxes))
    assert "heatmaps" not in found
    np.testing.assert_allclose(found["keypoints"][0, 0, 1], [55, 12.5, 4])
    np.testing.assert_allclose(found["keypoints"][0, 1, 2], [10.5, 27.5, 9])
    served = answers.detections({**found, "boxes": tf.constant(boxes)}, 100.0, 200.0)
    np.testing.assert_allclose(served["detection_keypoints"][0, 0, 1], [0.125, 0.275], rtol=1e-6)  # y, x
    np.testing.assert_allclose(served["detection_keypoint_scores"][0, 1], [0, 0, 9])
