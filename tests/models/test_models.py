import keras
import numpy as np
import psutil
import pytest

import keras_cnns
from keras_cnns import weights
from keras_cnns.errors import InputError
from keras_cnns.models import MODELS, create_model, detector, info, list_models, load_weights, model_info


def test_models_are_listed_by_pattern_and_task():
    assert list_models("resnet5*") == ["resnet50", "resnet50_v1_5", "resnet50_v2", "resnet56_cifar"]
    assert list_models("faster_rcnn*", "detection") == [
        "faster_rcnn", "faster_rcnn_resnet101_c4", "faster_rcnn_resnet18", "faster_rcnn_resnet18_c4",
        "faster_rcnn_resnet50_c4", "faster_rcnn_resnet50_fpn", "faster_rcnn_vgg16"]
    assert set(list_models()) == set(MODELS)


# Trainable and all: of VGG-16 and the releases as published, of the C4 forms as test_faster_rcnn_forms.py adds them up.
DETECTORS = {
    "faster_rcnn": (38_816_863, 38_828_383),
    "faster_rcnn_resnet18": (8_574_437, 8_576_357),
    "faster_rcnn_resnet18_c4": (12_428_639, 12_447_839),
    "faster_rcnn_resnet50_c4": (28_416_863, 28_523_103),
    "faster_rcnn_resnet101_c4": (47_356_767, 47_567_455),
    "faster_rcnn_resnet50_fpn": (41_755_286, 41_861_526),
    "faster_rcnn_vgg16": (137_078_239, 137_078_239),
    "mask_rcnn_resnet50_fpn": (44_401_393, 44_507_633),
    "ssd300_vgg16_voc": (26_285_486, 26_285_486),
}


@pytest.mark.parametrize("name", list_models(task="detection"))
def test_every_detector_is_built_in_its_papers_form(name):
    network = info.weightless(lambda: create_model(name))
    assert network.name == name and info.parameters(network) == DETECTORS.get(name, info.parameters(network))
    assert info.weightless(lambda: detector(network)).output.keys() >= {"boxes", "scores", "labels", "count"}


def test_what_is_known_of_a_detector_is_counted_on_its_inference_graph():
    found = model_info("faster_rcnn_resnet50_fpn")
    assert (found.task, found.input_shape, found.trainable_parameters) == ("detection", (800, 800, 3), 41_755_286)
    assert found.multiply_adds == pytest.approx(134.38e9, rel=0.005)


def test_counting_takes_no_memory_and_leaves_nothing_behind():
    before = psutil.Process().memory_info().rss
    assert model_info("vgg19").parameters == 143_667_240
    keras.layers.Dense(1)(np.zeros((1, 1), "float32"))  # weights that wait to be made would be made now
    assert psutil.Process().memory_info().rss - before < 100e6


@pytest.mark.parametrize("weights, says", [
    ("nowhere.keras", "nowhere.keras"), ("nowhere.weights.h5", "nowhere.weights.h5"), ("imagenet", "give the path")])
def test_weights_that_are_not_there_are_named(weights, says):
    with pytest.raises(InputError, match=says) as error:
        create_model("resnet18", (32, 32, 3), num_classes=2, weights=weights)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused(tmp_path):
    create_model("resnet18", (32, 32, 3), num_classes=2).save(tmp_path / "a.keras")
    with pytest.raises(InputError, match="do not fit"):
        create_model("resnet18", (32, 32, 3), num_classes=3, weights=tmp_path / "a.keras")


def test_weights_of_another_network_of_the_same_shapes_are_refused(tmp_path):
    create_model("resnet18", (32, 32, 3), num_classes=2).save(tmp_path / "a.keras")
    network = create_model("plain18", (32, 32, 3), num_classes=2)
    with pytest.raises(InputError, match="they are resnet18's"):
        load_weights(network, tmp_path / "a.keras")


@pytest.mark.parametrize("name", list_models("ssd*"))
def test_a_detector_of_constant_default_boxes_needs_a_fixed_size(name):
    with pytest.raises(InputError, match="fixed"):
        create_model(name, (None, None, 3))


def test_a_classifier_is_no_detector():
    with pytest.raises(InputError, match="no detector"):
        detector(create_model("resnet18", (32, 32, 3), num_classes=2))


def test_the_package_has_the_names_of_its_contract():
    assert keras_cnns.create_model is weights.create_model and keras_cnns.detector is detector
    assert keras_cnns.list_models is list_models
    for room in ("data", "export", "layers", "ops", "serving"):
        assert getattr(keras_cnns, room)
    with pytest.raises(AttributeError):
        keras_cnns.nonsense
