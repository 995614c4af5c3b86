import keras
import numpy as np
import pytest

from keras_cnns.models import create_model

@pytest.mark.parametrize("name", ["resnet18", "plain18", "resnet50", "resnet50_v1_5"])
def test_features_have_the_strides_of_table_1(name):
    network = create_model(name, (97, 130, 3), num_classes=None)
    wide = 4 if "50" in name else 1
    for i, (layer, stride) in enumerate([("conv2_x", 4), ("conv3_x", 8), ("conv4_x", 16), ("conv5_x", 32)]):
        shape = network.get_layer(layer).output.shape
        assert shape == (None, -(-97 // stride), -(-130 // stride), 64 * wide * 2**i)
    assert network.output is network.get_layer("conv5_x").output


def strides(network, i):
    return network.get_layer(f"conv3_1_{i}_conv").strides


def test_v1_strides_in_the_first_1x1_and_v1_5_in_the_3x3():
    v1, v1_5 = create_model("resnet50", num_classes=None), create_model("resnet50_v1_5", num_classes=None)
    assert [strides(v1, i) for i in (1, 2)] == [(2, 2), (1, 1)]
    assert [strides(v1_5, i) for i in (1, 2)] == [(1, 1), (2, 2)]


def test_plain_nets_have_no_shortcuts():
    assert not [layer for layer in create_model("plain18").layers if isinstance(layer, keras.layers.Add)]


def test_the_head_gives_probabilities_or_logits():
    image = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    network = create_model("resnet18", (64, 64, 3), num_classes=7)
    probabilities = np.array(network(image))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    logits = create_model("resnet18", (64, 64, 3), num_classes=7, classifier_activation=None)
    logits.set_weights(network.get_weights())
    np.testing.assert_allclose(keras.ops.softmax(logits(image)), probabilities, rtol=1e-4)


def test_any_input_size_where_none_is_given():
    network = create_model("resnet18", (None, None, 3), num_classes=3)
    assert network(np.zeros((1, 50, 71, 3), "float32")).shape == (1, 3)


def test_save_and_load_give_the_same(tmp_path):
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    network = create_model("resnet18", (64, 64, 3), num_classes=3)
    network.save(tmp_path / "a.keras")
    network.save_weights(tmp_path / "a.weights.h5")
    for again in (keras.saving.load_model(tmp_path / "a.keras"),
                  create_model("resnet18", (64, 64, 3), num_classes=3, weights=tmp_path / "a.keras"),
                  create_model("resnet18", (64, 64, 3), num_classes=3, weights=tmp_path / "a.weights.h5")):
        np.testing.assert_allclose(again(image), network(image), rtol=1e-5)
