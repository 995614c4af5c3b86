"""Spatial pyramid pooling against a loop over its bins."""

import math

import keras
import numpy as np
import pytest

from keras_cnns.layers import SpatialPyramidPool


def features(height, width, channels=2):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


def by_loop(x, bins):
    height, width = x.shape[1:3]
    found = []
    for n in bins:
        for i in range(n):
            for j in range(n):
                rows = slice(math.floor(i * height / n), math.ceil((i + 1) * height / n))
                columns = slice(math.floor(j * width / n), math.ceil((j + 1) * width / n))
                found.append(x[:, rows, columns].max((1, 2)))
    return np.concatenate(found, -1)


@pytest.mark.parametrize("size", [(13, 13), (10, 10), (5, 7), (1, 2), (24, 17)])
def test_equals_the_loop_for_maps_of_any_size(size):
    np.testing.assert_array_equal(SpatialPyramidPool()(features(*size)), by_loop(features(*size), (6, 3, 2, 1)))


def test_has_the_papers_windows_on_its_map_of_13_cells():
    for n in (6, 3, 2, 1):  # section 2.3: window ceil(13 / n), stride floor(13 / n)
        window, stride = math.ceil(13 / n), math.floor(13 / n)
        want = keras.ops.max_pool(features(13, 13), window, stride)
        np.testing.assert_array_equal(SpatialPyramidPool((n,))(features(13, 13)), np.reshape(want, (2, -1)))


def test_one_network_takes_all_sizes_trained_and_from_a_file(tmp_path):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = SpatialPyramidPool((2, 1), name="spp")(x)
    assert x.shape == (None, 20)
    net = keras.Model(inputs, keras.layers.Dense(2)(x))
    net.compile("sgd", loss="mse")
    for size in ((9, 9), (6, 12)):
        assert np.isfinite(net.train_on_batch(features(*size, 3), np.ones((2, 2))))
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    assert again.get_layer("spp").bins == (2, 1)
    x = features(7, 8, 3)
    np.testing.assert_array_equal(again.predict(x, verbose=0), net.predict(x, verbose=0))
