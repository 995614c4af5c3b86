"""The localizer: targets, answers, files, and pictures by heart."""

import keras
import numpy as np
import pytest

from keras_cnns import export
from keras_cnns.data import synthetic
from keras_cnns.errors import InputError
from keras_cnns.losses import SquaredBoxLoss
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector, info, module_of
from keras_cnns.training import detect, recipes

SHAPE = (64, 96, 3)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return create_model("localizer_resnet18", SHAPE, 5)


def singles(count, first=0):
    return [s for s in synthetic.samples(count, first=first) if len(s.labels) == 1 and not s.ignored.any()]


def test_the_target_is_the_largest_object_in_shares_of_the_image(network):
    encode = module_of(network.name).target_encoder(network)
    boxes = np.array([[0, 0, 10, 10], [48, 16, 96, 64], [0, 0, 96, 64], [0, 0, 0, 0]], "float32")
    np.testing.assert_allclose(encode(boxes, np.array([3, 2, -1, 0])), [[0.5, 0.25, 1, 1, 2]])
    assert encode(boxes[2:], np.array([-1, 0]))[0].tolist() == [0, 0, 0, 0, -1]
    assert encode(boxes[3:], np.array([0]))[0].tolist() == [0, 0, 0, 0, 0]


def test_the_loss_is_lambda_times_the_squared_distance_by_hand():
    targets = np.array([[[0.1, 0.2, 0.5, 0.6, 2]], [[0, 0, 0, 0, 0]], [[0, 0, 0, 0, -1]]], "float32")
    boxes = np.array([[[0.2, 0.2, 0.5, 0.3]], [[1, 1, 1, 1]], [[1, 1, 1, 1]]], "float32")
    np.testing.assert_allclose(SquaredBoxLoss(10.0).call(targets, boxes), [10 * (0.01 + 0.09), 0, 0], rtol=1e-5)


def test_one_box_in_pixels_or_none(network, tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")
    logits, edges = (np.array(network(images)[key])[:, 0] for key in ("cls", "reg"))
    found = detector(network, score_threshold=0.0).predict(images, verbose=0)
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert found["boxes"].shape == (2, 1, 4) and (found["count"] == 1).all()
    np.testing.assert_allclose(found["scores"][:, 0], scores[:, 1:].max(-1), rtol=1e-4)
    np.testing.assert_array_equal(found["labels"][:, 0], scores[:, 1:].argmax(-1) + 1)
    np.testing.assert_allclose(found["boxes"][:, 0], edges.clip(0, 1) * (96, 64, 96, 64), rtol=1e-4)
    nothing = detector(network, score_threshold=1.0).predict(images, verbose=0)
    assert not any(nothing[key].any() for key in nothing)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    same = detector(again, score_threshold=0.0).predict(images, verbose=0)
    np.testing.assert_array_equal(same["boxes"], found["boxes"])


@pytest.mark.slow
def test_exported_it_finds_the_same(network, tmp_path):
    export.saved_model(detector(network), tmp_path / "saved")
    assert export.tflite(detector(network), tmp_path / "network.tflite").stat().st_size > 4e7


def test_it_stands_on_any_classifier_that_ends_in_a_map():
    for name in ("alexnet", "mobilenet_v1", "densenet121"):
        network = info.weightless(lambda: create_model("localizer", (128, 128, 3), 3, backbone=name))
        assert network.output["cls"].shape == (None, 1, 4) and network.output["reg"].shape == (None, 1, 4)
    assert info.weightless(lambda: create_model("localizer")).get_layer("fc_box").kernel.shape == (25088, 4096)
    with pytest.raises(InputError, match="fixed size"):
        create_model("localizer_resnet18", (None, None, 3))
    with pytest.raises(InputError, match="'localizer' takes a backbone"):
        create_model("localizer_resnet18", backbone="resnet18")


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart():
    keras.utils.set_random_seed(1)
    few = singles(60)[:8]
    network = create_model("localizer_resnet18", (64, 64, 3), 5)
    recipe = recipes.recipe(network.name)._replace(batch=8, epochs=120, warmup=10, view="letterboxed_or_mirrored")
    network.compile(recipes.optimizer(recipe, 1), loss=module_of(network.name).losses())
    network.fit(detect.elements(network, few, recipe, 0, 0), shuffle=False, verbose=0)
    found = detect.detect(detector(network), few, progress=False)
    assert metrics.voc_ap(detect.truth(few), found).mean > 0.9
