import pytest

import keras_cnns
from keras_cnns.errors import InputError
from keras_cnns.models import MODELS, create_model, detector, list_models


def test_models_are_listed_by_pattern_and_task():
    assert list_models("resnet*0") == ["resnet50"]
    assert set(list_models(task="detection")) == {"faster_rcnn_resnet18", "faster_rcnn_resnet50_fpn"}
    assert set(list_models()) == set(MODELS)


@pytest.mark.parametrize("name", list_models())
def test_layer_names_are_unique(name):
    names = [layer.name for layer in create_model(name, num_classes=2).layers]
    assert len(names) == len(set(names))


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
