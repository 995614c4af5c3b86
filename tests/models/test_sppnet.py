"""SPP-net: counts, its normalisation against a loop, images of any size with the classifier."""

import keras
import numpy as np
import pytest

from keras_cnns.errors import InputError
from keras_cnns.models.classification import sppnet
from tests.models import helpers


def pictures(n=2, size=(64, 48)):
    return helpers.images((n, *size, 3))


def test_counts_and_maps_are_those_of_the_reference():
    network = sppnet.build()
    assert helpers.count(network.trainable_weights) == helpers.count(network.weights) == 77_037_672
    sides = {name: network.get_layer(name).output.shape[1] for name in ("conv1", "pool1", "conv2", "pool2", "conv5")}
    assert sides == {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv5": 13}
    assert network.get_layer("spp").output.shape == (None, 50 * 256)
    total = sum(np.prod(layer.output.shape[1:-1], dtype=int) * np.prod(layer.kernel.shape)
                for layer in network.layers if hasattr(layer, "kernel"))
    assert round(total / 1e9, 5) == 1.18271


def test_normalisation_equals_the_loop_over_each_map():
    x = np.random.default_rng(0).normal(0, 300, (1, 4, 5, 2)).astype("float32")
    padded = np.pad(x.astype("float64")**2, ((0, 0), (1, 1), (1, 1), (0, 0)))
    mean = sum(padded[:, i:i + 4, j:j + 5] for i in range(3) for j in range(3)) / 9
    np.testing.assert_allclose(sppnet.WithinMapNormalization()(x), x / (1 + 5e-5 * mean)**0.75, rtol=1e-5)
    half = sppnet.WithinMapNormalization(dtype="mixed_float16")(x.astype("float16"))
    np.testing.assert_allclose(half, x / (1 + 5e-5 * mean)**0.75, rtol=2e-3, atol=0.2)


def test_one_network_for_images_of_any_size_down_to_the_smallest(tmp_path):
    network = sppnet.build(input_shape=(None, None, 3), num_classes=5)
    for size in ((31, 31), (64, 48)):
        assert network.predict(pictures(1, size), verbose=0).shape == (1, 5)
    fixed = sppnet.build(input_shape=(64, 48, 3), num_classes=5)
    fixed.set_weights(network.get_weights())
    np.testing.assert_allclose(fixed.predict(pictures(), verbose=0), network.predict(pictures(), verbose=0), atol=1e-6)
    with pytest.raises(InputError, match=r"smallest that works is \(31, 31, 3\)"):
        sppnet.build(input_shape=(30, 64, 3))


@pytest.mark.slow
def test_answers_the_same_from_a_file_and_exported(tmp_path):
    network = sppnet.build(input_shape=(64, 48, 3), num_classes=10)
    helpers.answers_the_same_from_a_file(network, pictures(), tmp_path)
    helpers.answers_the_same_exported(network, pictures(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_trains_a_step(policy):
    helpers.trains_a_step(lambda: sppnet.build(input_shape=(64, 48, 3), num_classes=10), pictures(), policy)


@pytest.mark.slow
def test_learns_eight_images_by_heart():
    keras.utils.set_random_seed(0)
    helpers.learns_by_heart(sppnet.build(input_shape=(64, 48, 3), num_classes=10), pictures(8), epochs=40, rate=1e-4)
