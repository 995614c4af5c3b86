import keras
import numpy as np

from keras_cnns.layers.local import LocallyConnected


def test_every_place_has_a_kernel_of_its_own():
    rng = np.random.default_rng(0)
    layer, x = LocallyConnected(5, 3), rng.normal(size=(2, 4, 6, 3)).astype("float32")
    layer.build(x.shape)
    layer.bias.assign(rng.normal(size=(4, 6, 5)))
    kernel, bias, padded = np.array(layer.kernel), np.array(layer.bias), np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    want = np.zeros((2, 4, 6, 5))
    for i in range(4):
        for j in range(6):
            want[:, i, j] = padded[:, i:i + 3, j:j + 3].reshape(2, -1) @ kernel[i, j] + bias[i, j]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), want, rtol=1e-4, atol=1e-5)
    assert layer.compute_output_shape(x.shape) == (2, 4, 6, 5)
    assert layer.multiply_adds(x.shape) == 4 * 6 * 27 * 5


def test_with_one_kernel_everywhere_it_is_a_convolution():
    x = np.random.default_rng(0).normal(size=(1, 5, 4, 2)).astype("float32")
    convolution, layer = keras.layers.Conv2D(3, 3, padding="same"), LocallyConnected(3, 3)
    want = keras.ops.convert_to_numpy(convolution(x))
    layer = LocallyConnected.from_config(layer.get_config())
    layer.build(x.shape)
    layer.kernel.assign(np.broadcast_to(convolution.get_weights()[0].reshape(18, 3), (5, 4, 18, 3)))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), want, atol=1e-5)
