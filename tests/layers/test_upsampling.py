"""Transposed convolution as the lectures draw it, bilinear kernels, and maps cut or resized to others."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_cnns.errors import InputError
from keras_cnns.layers import Bilinear, CropToMatch, ResizeToMatch


def maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def overlap_and_add(x, kernel, stride):
    """Every pixel of `[h, w, C]` paints its copies of the kernel `[k, k, D, C]`; where copies overlap they add."""
    (height, width, _), size = x.shape, len(kernel)
    out = np.zeros(((height - 1) * stride + size, (width - 1) * stride + size, kernel.shape[2]))
    for i in range(height):
        for j in range(width):
            out[i * stride:i * stride + size, j * stride:j * stride + size] += kernel @ x[i, j]
    return out


def test_in_one_dimension_copies_of_the_filter_overlap_and_add_by_hand():
    a, b = 2.0, 3.0
    x, y, z = 5.0, 7.0, 11.0
    layer = layers.Conv1DTranspose(1, 3, 2, use_bias=False)
    layer.build((1, 2, 1))
    layer.set_weights([np.reshape([x, y, z], (3, 1, 1))])
    out = ops.convert_to_numpy(layer(np.reshape([a, b], (1, 2, 1))))[0, :, 0]
    np.testing.assert_allclose(out, [a * x, a * y, a * z + b * x, b * y, b * z])


def test_3x3_transposed_convolution_of_stride_2_by_hand():
    layer = layers.Conv2DTranspose(1, 3, 2, use_bias=False)
    layer.build((1, 2, 2, 1))
    layer.set_weights([np.ones((3, 3, 1, 1))])
    out = ops.convert_to_numpy(layer(np.reshape([[1.0, 2.0], [3.0, 4.0]], (1, 2, 2, 1))))[0, :, :, 0]
    # The lecture's 4x4, padding 1, lacks the first row and column.
    np.testing.assert_allclose(out, [[1, 1, 3, 2, 2], [1, 1, 3, 2, 2], [4, 4, 10, 6, 6], [3, 3, 7, 4, 4],
                                     [3, 3, 7, 4, 4]])


@pytest.mark.parametrize("size, stride", [(3, 2), (4, 2), (5, 3), (2, 2)])
def test_transposed_convolution_equals_a_loop(size, stride):
    layer = layers.Conv2DTranspose(3, size, stride, use_bias=False)
    x = maps(1, 4, 5, 2)
    layer.build(x.shape)
    out = ops.convert_to_numpy(layer(x))[0]
    np.testing.assert_allclose(out, overlap_and_add(x[0], np.array(layer.kernel), stride), atol=1e-5)


def test_bilinear_kernels_by_hand():
    np.testing.assert_allclose(np.array(Bilinear()((4, 4, 1, 1)))[:, :, 0, 0] * 16,
                               np.outer([1, 3, 3, 1], [1, 3, 3, 1]))
    np.testing.assert_allclose(np.array(Bilinear()((3, 3, 1, 1)))[:, :, 0, 0] * 4, np.outer([1, 2, 1], [1, 2, 1]))
    kernel = np.array(Bilinear()((4, 4, 3, 3)))
    assert not kernel[:, :, ~np.eye(3, dtype=bool)].any() and (kernel[:, :, 1, 1] > 0).all()


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_a_bilinear_transposed_convolution_equals_a_loop_of_bilinear_resizing_inside(stride):
    x = maps(1, 4, 5, 3)
    layer = layers.Conv2DTranspose(3, 2 * stride, stride, use_bias=False, kernel_initializer=Bilinear())
    cut = stride // 2
    out = ops.convert_to_numpy(layer(x))[:, cut:-cut, cut:-cut]
    want = np.array(ops.image.resize(x, (4 * stride, 5 * stride), interpolation="bilinear"))
    np.testing.assert_allclose(out[:, cut:-cut, cut:-cut], want[:, cut:-cut, cut:-cut], atol=1e-5)
    assert np.abs(out - want).max() > 0.1  # at the border the former interpolates with zeros


def test_a_layer_with_a_bilinear_kernel_lives_through_a_file(tmp_path):
    x = keras.Input((4, 5, 3))
    y = layers.Conv2DTranspose(3, 4, 2, use_bias=False, kernel_initializer=Bilinear(), trainable=False)(x)
    network = keras.Model(x, CropToMatch(1)(y, x))
    network.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again(maps(1, 4, 5, 3)), network(maps(1, 4, 5, 3)))
    assert not again.trainable_weights and isinstance(again.layers[1].kernel_initializer, Bilinear)


def bilinear(x, height, width):
    """Resizing of `[h, w, C]`, pixel by pixel, from centre to centre."""
    out = np.zeros((height, width, x.shape[2]))
    for i in range(height):
        for j in range(width):
            y, z = ((k + 0.5) * n / m - 0.5 for k, n, m in ((i, x.shape[0], height), (j, x.shape[1], width)))
            y, z = (min(max(v, 0), n - 1) for v, n in ((y, x.shape[0]), (z, x.shape[1])))
            for row in range(x.shape[0]):
                for column in range(x.shape[1]):
                    out[i, j] += max(0, 1 - abs(y - row)) * max(0, 1 - abs(z - column)) * x[row, column]
    return out


@pytest.mark.parametrize("height, width", [(13, 18), (8, 5), (25, 7)])
def test_maps_of_any_size_are_resized_and_cut_as_by_a_loop(height, width):
    small, large = keras.Input((None, None, 2)), keras.Input((None, None, 1))
    assert ResizeToMatch()(small, large).shape == CropToMatch(3)(small, large).shape == (None, None, None, 2)
    resized = keras.Model([small, large], ResizeToMatch()(small, large))
    x, image = maps(2, 4, 5, 2), maps(2, height, width, 1)
    out = np.array(resized([x, image]))
    for b in range(2):
        np.testing.assert_allclose(out[b], bilinear(x[b], height, width), atol=1e-5)
    cut = keras.Model([small, large], CropToMatch(3)(small, large))
    big = maps(2, height + 3, width + 9, 2)
    np.testing.assert_array_equal(cut([big, image]), big[:, 3:, 3:width + 3])


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="offset=-1"):
        CropToMatch(-1)
    with pytest.raises(InputError, match=r"a map of \(9, 9\) is too small to cut \(8, 8\) out of it"):
        CropToMatch(2)(keras.Input((9, 9, 1)), keras.Input((8, 8, 3)))
    with pytest.raises(InputError, match="as many maps must go out as come in"):
        layers.Conv2DTranspose(3, 4, 2, kernel_initializer=Bilinear())(keras.Input((4, 4, 2)))
