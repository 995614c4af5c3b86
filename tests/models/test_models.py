import numpy as np
import pytest

import keras_cnns
from keras_cnns.errors import InputError
from keras_cnns.models import MODELS, create_model, detector, list_models, load_weights


def test_models_are_listed_by_pattern_and_task():
    assert list_models("resnet*0") == ["resnet50"]
    assert set(list_models(task="detection")) == {"faster_rcnn_resnet18", "faster_rcnn_resnet50_fpn"}
    assert set(list_models()) == set(MODELS)


# Trainable and all, as published or released, at the paper's number of classes.
PARAMETERS = {
    "plain18": (11_515_688, 11_523_496),
    "plain34": (21_623_848, 21_639_080),
    "resnet18": (11_689_512, 11_699_112),
    "resnet34": (21_797_672, 21_814_696),
    "resnet50": (25_557_032, 25_610_152),
    "resnet101": (44_549_160, 44_654_504),
    "resnet152": (60_192_808, 60_344_232),
    "resnet50_v1_5": (25_557_032, 25_610_152),
    "resnet101_v1_5": (44_549_160, 44_654_504),
    "resnet152_v1_5": (60_192_808, 60_344_232),
    "faster_rcnn_resnet50_fpn": (41_755_286, 41_861_526),  # 90 classes; batch norm frozen
}
OWN = {"faster_rcnn_resnet18"}  # no paper to compare with


def count(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


@pytest.mark.parametrize("name", list_models())
def test_every_model_has_the_parameters_of_its_reference_and_unique_names(name):
    network = create_model(name)
    names = [layer.name for layer in network.layers]
    assert len(names) == len(set(names))
    if name not in OWN:
        assert (count(network.trainable_weights), count(network.weights)) == PARAMETERS[name]


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="No model 'resnet51'.*resnet50"):
        create_model("resnet51")


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


def test_a_detector_of_no_fixed_size_is_refused():
    with pytest.raises(InputError, match="fixed"):
        create_model("faster_rcnn_resnet18", (None, None, 3))


def test_a_classifier_is_no_detector():
    with pytest.raises(InputError, match="no detector"):
        detector(create_model("resnet18", (32, 32, 3), num_classes=2))


def test_the_package_has_the_names_of_its_contract():
    assert keras_cnns.create_model is create_model and keras_cnns.detector is detector
    assert keras_cnns.list_models is list_models
    for room in ("data", "export", "layers", "ops", "serving"):
        assert getattr(keras_cnns, room)
    with pytest.raises(AttributeError):
        keras_cnns.nonsense
