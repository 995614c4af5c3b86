"""The ResNet of stochastic depth: counts and the paper's rule at its depth, the rest on one block a stage."""

import keras
import numpy as np
import pytest

from keras_cnns.layers import StochasticDepth
from keras_cnns.models.classification import stochastic_depth
from tests.models import helpers

NAME = "resnet110_stochastic_depth_cifar"


def pictures(n=2):
    return helpers.images((n, 32, 32, 3))


@pytest.fixture
def small(monkeypatch):
    """Builds a network of three blocks."""
    monkeypatch.setitem(stochastic_depth.VARIANTS, "resnet8_cifar", (1, 1, 1))
    return lambda **options: stochastic_depth.build("resnet8_cifar", **options)


def test_counts_and_survivals_are_those_of_the_paper():
    network = stochastic_depth.build()
    assert helpers.count(network.trainable_weights) == 1_727_962
    assert helpers.count(network.weights) == 1_736_058
    blocks = [layer for layer in network.layers if isinstance(layer, StochasticDepth)]
    np.testing.assert_allclose([b.survival for b in blocks], 1 - 0.5 * np.arange(1, 55) / 54)
    sizes = [32] * 19 + [16] * 18 + [8] * 17  # of what enters a block
    widths = [16] * 19 + [32] * 18 + [64] * 17
    branches = sum(b.multiply_adds((None, s, s, w)) for b, s, w in zip(blocks, sizes, widths))
    assert round((branches + 32 * 32 * 27 * 16 + 640) / 1e9, 5) == 0.25289
    assert network.get_layer("conv4_x").output.shape == (None, 8, 8, 64)


def test_a_shortcut_that_changes_dimensions_averages_and_adds_zeros(small):
    network = small(survival=1.0)
    block = network.get_layer("conv3_1_add")
    block.branch.set_weights([np.zeros_like(w) for w in block.branch.get_weights()])
    x, y = keras.Model(network.input, [network.get_layer("conv2_x").output, network.get_layer("conv3_x").output])(
        pictures())
    np.testing.assert_allclose(y[..., :16], keras.ops.average_pool(x, 2, 2), rtol=1e-5, atol=1e-6)
    assert np.abs(np.array(y[..., 16:])).max() == 0.0


def test_sizes(small):
    assert small(input_shape=(None, None, 3)).predict(helpers.images((1, 9, 15, 3)), verbose=0).shape == (1, 10)
    assert small(num_classes=None).output.shape == (None, 8, 8, 64)


def test_answers_the_same_from_a_file_and_exported(small, tmp_path):
    network = small()
    helpers.answers_the_same_from_a_file(network, pictures(), tmp_path)
    helpers.answers_the_same_exported(network, pictures(), tmp_path)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_trains_a_step(small, policy):
    helpers.trains_a_step(small, pictures(), policy)


def test_learns_eight_images_by_heart(small):
    keras.utils.set_random_seed(0)
    helpers.learns_by_heart(small(), pictures(8), epochs=60, rate=3e-3)


@pytest.mark.slow
def test_the_whole_depth_answers_the_same_from_a_file_and_exported_and_trains(tmp_path):
    network = stochastic_depth.build(NAME)
    helpers.answers_the_same_from_a_file(network, pictures(), tmp_path)
    helpers.answers_the_same_exported(network, pictures(), tmp_path)
    for policy in ("float32", "mixed_float16"):
        helpers.trains_a_step(stochastic_depth.build, pictures(), policy)
