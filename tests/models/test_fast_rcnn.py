"""Fast R-CNN: counts, what it learns from, its SVD, and regions through every door."""

import csv
import pathlib

import keras
import numpy as np
import pytest

from keras_cnns.data import batches, synthetic
from keras_cnns.errors import InputError
from keras_cnns.layers.detection import SampleRoIs
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector, info, model_info, module_of
from keras_cnns.models.detection import fast_rcnn
from keras_cnns.ops import boxes as box_ops
from keras_cnns.training import detect, recipes

SHAPE = (96, 96, 3)


def jittered(samples, count=100, seed=0):
    """Samples with proposals: their boxes moved a little, and boxes at random."""
    rng = np.random.default_rng(seed)

    def proposals(sample):
        near = sample.boxes[rng.integers(0, len(sample.boxes), count // 2)]
        sides = near[:, 2:] - near[:, :2]
        near = near + rng.normal(0, 0.1, near.shape) * np.tile(sides, 2)
        corner = rng.uniform(0, 0.8, (count - len(near), 2)) * sample.size[::-1]
        far = np.concatenate([corner, corner + rng.uniform(0.05, 0.6, corner.shape) * sample.size[::-1]], -1)
        found = np.concatenate([near, far])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        return np.clip(found, 0, np.tile(sample.size[::-1], 2)).astype("float32")

    return [sample._replace(proposals=proposals(sample)) for sample in samples]


@pytest.fixture(scope="module")
def samples():
    return jittered(synthetic.samples(10))


@pytest.fixture(scope="module")
def network():
    """With heads of some life in them."""
    keras.utils.set_random_seed(0)
    network = create_model("fast_rcnn_resnet18", SHAPE, 5)
    head = network.get_layer("roi_head")
    head.set_weights([30 * w if w.ndim == 2 and w.shape[-1] in (6, 24) else w for w in head.get_weights()])
    return network


def some(samples, count=2, proposals=1000):
    return next(iter(batches.canvases(samples[:count], SHAPE[:2], count, regions=proposals)))[0]


def test_counts_are_those_of_the_reference():
    with open(pathlib.Path(__file__).with_name("counts.csv"), newline="") as file:
        want = {row["model"]: row for row in csv.DictReader(file)}["fast_rcnn_vgg16"]
    found = model_info("fast_rcnn_vgg16")
    assert (found.trainable_parameters, found.parameters) == (int(want["trainable"]), int(want["all"]))
    one = info.weightless(lambda: info.cost(detector(create_model("fast_rcnn_vgg16"), proposals=1)))[0]
    assert one == pytest.approx(float(want["multiply_adds"]), rel=1e-4)
    assert found.multiply_adds == pytest.approx(one + 1999 * 0.11997e9, rel=1e-3)


def test_background_begins_at_a_tenth_and_a_quarter_are_objects(samples):
    batch = next(iter(batches.training(samples, SHAPE[:2], 4, 1, 0, regions=1000)))
    rois, rows, matched = SampleRoIs(64, background=fast_rcnn.BACKGROUND)(
        *(batch[key] for key in ("proposals", "boxes", "labels")))
    best = np.array(keras.ops.max(keras.ops.where(
        batch["labels"][:, None] > 0, box_ops.iou(rois, batch["boxes"]), 0.0), -1))
    label = np.array(rows)[..., 4]
    assert (best[label > 0] >= 0.5).all() and (label > 0).sum(1).max() == 16
    assert (label == 0).any() and (best[label == 0] >= 0.1).all() and (best[label == 0] < 0.5).all()


def test_all_regions_stay_in_their_order(samples):
    batch = next(iter(batches.training(samples, SHAPE[:2], 2, 1, 0)))
    rois, rows, matched = SampleRoIs(None)(*(batch[key] for key in ("proposals", "boxes", "labels")))
    np.testing.assert_array_equal(rois[:, :100], np.where(
        batch["proposals"].numpy().any(-1, keepdims=True), batch["proposals"], [0, 0, 1, 1]))
    assert rois.shape[1] == rows.shape[1] == 100 + batch["boxes"].shape[1]


def test_rows_of_zeros_are_no_proposals(network, samples):
    graph = detector(network, proposals=200, score_threshold=0.0)
    shown = {key: np.array(value) for key, value in some(samples, proposals=200).items()}
    want = graph.predict(shown, verbose=0)
    wide = {**shown, "proposals": np.pad(shown["proposals"], ((0, 0), (0, 100), (0, 0)))}
    found = detector(network, proposals=300, score_threshold=0.0).predict(wide, verbose=0)
    for key in want:
        np.testing.assert_allclose(found[key], want[key], atol=1e-4)
    nothing = {**shown, "proposals": np.zeros_like(shown["proposals"])}
    assert not graph.predict(nothing, verbose=0)["count"].any()


def test_svd_of_full_rank_changes_nothing_and_of_less_drops_the_smallest_values(network, samples):
    shown = some(samples)
    whole = fast_rcnn.truncated_svd(network, (1024, 1024))
    want, found = (detector(n, score_threshold=0.2).predict_on_batch(shown) for n in (network, whole))
    assert want["count"].min() > 0
    np.testing.assert_array_equal(found["labels"], want["labels"])
    np.testing.assert_allclose(found["boxes"], want["boxes"], atol=1e-2)
    small = fast_rcnn.truncated_svd(network, (100, 25))
    assert small.count_params() < network.count_params() - 6_000_000
    for name, rank in (("fc6", 100), ("fc7", 25)):
        kernel, bias = network.get_layer("roi_head").get_layer(name).get_weights()
        (first,), (second, same) = (
            small.get_layer("roi_head").get_layer(n).get_weights() for n in (f"{name}_svd", name))
        values = np.linalg.svd(kernel, compute_uv=False)
        assert first.shape[1] == rank and (same == bias).all()
        np.testing.assert_allclose(np.linalg.norm(kernel - first @ second), np.linalg.norm(values[rank:]), rtol=1e-4)
    with pytest.raises(InputError, match="fc7 of rank 2000: give a whole number from 1 to 1024"):
        fast_rcnn.truncated_svd(network, (10, 2000))


def test_what_cannot_be_cut_by_svd_is_refused(network):
    cut = fast_rcnn.truncated_svd(network, (8, 4))
    for given, ranks, says in ((cut, (8, 4), "of truncated SVD already"), (network, (8,), "two whole numbers"),
                               (network, (0, 4), "from 1 to")):
        with pytest.raises(InputError, match=says):
            fast_rcnn.truncated_svd(given, ranks)


@pytest.mark.slow
def test_it_lives_in_a_file_with_svd_too(network, samples, tmp_path):
    for given in (network, fast_rcnn.truncated_svd(network, (100, 25))):
        given.save(tmp_path / "network.keras")
        again = keras.saving.load_model(tmp_path / "network.keras")
        want, found = (detector(n).predict_on_batch(some(samples)) for n in (given, again))
        for key in want:
            np.testing.assert_array_equal(found[key], want[key])
        batch = next(iter(detect.elements(again, samples, recipes.recipe(again.name), 0, 0)))
        again.compile("sgd", loss=module_of(again.name).losses())
        assert np.isfinite(again.train_on_batch(batch)[0])


def test_as_tflite_with_built_in_ops_it_finds_the_same(network, samples, tmp_path):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    graph = detector(network, proposals=200)
    archive = keras.export.ExportArchive()
    archive.track(graph)
    archive.add_endpoint("serve", graph.call, input_signature=[{
        "image": tf.TensorSpec((1, *SHAPE), name="image"), "proposals": tf.TensorSpec((1, 200, 4), name="proposals")}])
    archive.write_out(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"), signature_keys=["serve"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    run = Interpreter(model_content=converter.convert()).get_signature_runner("serve")
    shown = {key: np.array(value) for key, value in some(samples, 1, proposals=200).items()}
    want, found = graph.predict(shown, verbose=0), run(**shown)
    assert want["count"][0] > 0
    np.testing.assert_array_equal(found["labels"], want["labels"])
    np.testing.assert_allclose(found["scores"], want["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], want["boxes"], atol=1e-2)


def test_samples_without_proposals_or_with_too_many_are_refused(network, samples):
    bare, many = synthetic.samples(1), jittered(samples[:1], 1001)
    recipe = recipes.recipe(network.name)
    for data, says in ((bare, "has no proposals, which fast_rcnn"), (many, "1001 proposals, more than the 1000")):
        with pytest.raises(InputError, match=says):
            detect.elements(network, data, recipe, 0, 0)
        with pytest.raises(InputError, match=says):
            detect.detect(detector(network), data, progress=False)


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart(samples):
    keras.utils.set_random_seed(1)
    few = [s for s in samples if not s.ignored.any()][:8]
    network = create_model("fast_rcnn_resnet18", SHAPE, 5)
    recipe = recipes.recipe(network.name)._replace(batch=8, epochs=60)
    network.compile(keras.optimizers.Adam(1e-3), loss=module_of(network.name).losses())
    network.fit(detect.elements(network, few, recipe, 0, 0), shuffle=False, verbose=0)
    found = detect.detect(detector(network), few, progress=False)
    assert metrics.voc_ap(detect.truth(few), found).mean > 0.9
