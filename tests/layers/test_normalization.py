"""Normalisations against loops over channels."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_cnns.layers import L2Normalize, LocalResponseNormalization


def by_loop(x, r, bias, alpha, beta):
    y = np.empty_like(x, dtype="float64")
    for c in range(x.shape[-1]):
        window = x[..., max(0, c - r):c + r + 1].astype("float64")
        y[..., c] = x[..., c] / (bias + alpha * (window**2).sum(-1))**beta
    return y


def pixels(shape=(2, 3, 4, 7), scale=100.0):
    return np.random.default_rng(0).normal(0, scale, shape).astype("float32")


@pytest.mark.parametrize("settings", [(2, 2.0, 1e-4, 0.75), (1, 1.0, 5e-5, 0.5), (9, 1.0, 1e-4, 0.75)])
def test_equals_the_loop(settings):
    np.testing.assert_allclose(LocalResponseNormalization(*settings)(pixels()), by_loop(pixels(), *settings), rtol=2e-6)


def test_keeps_float32_inside_where_squares_overflow_half_precision():
    layer = LocalResponseNormalization(dtype="mixed_float16")
    x = np.float16([[300.0, -400.0, 1.0, 500.0]])
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    np.testing.assert_allclose(ops.cast(y, "float32"), by_loop(x.astype("float32"), 2, 2.0, 1e-4, 0.75), rtol=1e-3)


def test_gradients_equal_those_of_a_training_step_by_differences():
    # A weight multiplied onto the input gets sum(x * dloss/dinput): compared with differences of the loop.
    x, target = pixels((1, 1, 1, 6), 50.0), pixels((1, 1, 1, 6), 1.0)

    class Gains(keras.layers.Layer):
        def build(self, shape):
            self.gains = self.add_weight(shape=(shape[-1],), initializer="ones")

        def call(self, inputs):
            return inputs * self.gains

    gains = Gains()
    network = keras.Sequential([keras.Input((1, 1, 6)), gains, LocalResponseNormalization()])
    network.compile(keras.optimizers.SGD(1e-3), loss="mse")
    network.fit(x, target, verbose=0)
    found = (1.0 - np.array(gains.gains)) / 1e-3
    loss = lambda g: np.mean((by_loop(x.astype("float64") * g, 2, 2.0, 1e-4, 0.75) - target)**2)  # noqa: E731
    step = 1e-5 * np.eye(6)
    np.testing.assert_allclose(found, [(loss(1 + e) - loss(1 - e)) / 2e-5 for e in step], rtol=1e-3)


def test_l2_normalisation_equals_a_loop_and_keeps_zeros_with_a_gradient_that_is_a_number():
    x = pixels((1, 2, 3, 5))
    x[0, 0, 0] = 0
    layer = L2Normalize(20.0)
    layer(x)
    layer.scale.assign(np.arange(1.0, 6.0))
    want = np.zeros_like(x)
    for cell in np.ndindex(1, 2, 3):
        want[cell] = x[cell] / max(np.sqrt((x[cell]**2).sum()), 1e-9) * np.arange(1.0, 6.0)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), want, rtol=1e-5)
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5, "relu"), L2Normalize()])
    network.compile("sgd", loss="mse")
    assert np.isfinite(network.train_on_batch(np.zeros((2, 5), "float32"), np.ones((2, 5))))
    assert all(np.isfinite(np.array(w)).all() for w in network.weights)
    assert L2Normalize.from_config(L2Normalize(10.0).get_config()).initial == 10.0
