"""Pooling that remembers, unpooling and the bed of nails: the lectures' examples, loops, gradients, every form."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_cnns.errors import InputError
from keras_cnns.layers import BedOfNails, MaxPoolWithArgmax, MaxUnpool
from tests.layers import helpers

WINDOWS = [(2, 2), (3, 2), (2, 1), (3, 1), (5, 2), (2, 3), (3, 3), (4, 2)]  # size, strides


def maps(*shape, seed=0):
    """Each number its own, so that the maxima are single."""
    return np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape).astype("float32") / 10


def as_map(rows):
    return np.array(rows, "float32")[None, :, :, None]


def test_nearest_neighbour_and_bed_of_nails_by_hand():
    x = as_map([[1, 2], [3, 4]])
    nearest = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(layers.UpSampling2D(2)(x), as_map(nearest))
    nails = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(BedOfNails(2)(x), as_map(nails))


def test_the_lectures_4x4_max_unpooling_by_hand():
    x = as_map([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]])
    pooled, places = MaxPoolWithArgmax()(x)
    np.testing.assert_array_equal(pooled, as_map([[5, 6], [7, 8]]))
    np.testing.assert_array_equal(places, as_map([[3, 0], [2, 3]]))
    unpooled = MaxUnpool()(as_map([[1, 2], [3, 4]]), places)
    np.testing.assert_array_equal(unpooled, as_map([[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]))


def test_overlapping_windows_that_share_a_maximum_add_by_hand():
    x = as_map([[0, 0, 0], [0, 9, 0], [0, 0, 0]])
    pooled, places = MaxPoolWithArgmax(2, 1)(x)
    np.testing.assert_array_equal(places, as_map([[3, 2], [1, 0]]))
    np.testing.assert_array_equal(MaxUnpool(2, 1)(as_map([[1, 2], [3, 4]]), places),
                                  as_map([[0, 0, 0], [0, 10, 0], [0, 0, 0]]))


def test_of_equal_numbers_the_first_is_the_maximum_by_hand():
    assert np.array(MaxPoolWithArgmax()(as_map([[0, 4], [4, 4]]))[1]).item() == 1


def pool(x, size, step):
    """Of `[B, H, W, C]`, window by window: maxima, places, and where in the map they are."""
    batch, height, width, channels = x.shape
    shape = batch, (height - size) // step + 1, (width - size) // step + 1, channels
    pooled, places = np.zeros(shape), np.zeros(shape, int)
    for b, r, s, c in np.ndindex(shape):
        window = x[b, r * step:r * step + size, s * step:s * step + size, c].ravel()
        places[b, r, s, c] = window.argmax()
        pooled[b, r, s, c] = window.max()
    return pooled, places


def unpool(x, places, size, step):
    batch, height, width, channels = x.shape
    out = np.zeros((batch, (height - 1) * step + size, (width - 1) * step + size, channels))
    for b, r, s, c in np.ndindex(x.shape):
        i, j = divmod(places[b, r, s, c], size)
        out[b, r * step + i, s * step + j, c] += x[b, r, s, c]
    return out


@pytest.mark.parametrize("size, step", WINDOWS)
def test_pooling_and_unpooling_equal_a_loop(size, step):
    x = maps(2, 9, 8, 3)
    pooled, places = MaxPoolWithArgmax(size, step)(x)
    want, want_places = pool(x, size, step)
    np.testing.assert_array_equal(pooled, want)
    np.testing.assert_array_equal(places, want_places)
    assert keras.backend.standardize_dtype(places.dtype) == "int32"
    np.testing.assert_allclose(MaxUnpool(size, step)(pooled, places), unpool(want, want_places, size, step), rtol=1e-6)
    other = maps(*want.shape, seed=1)
    np.testing.assert_allclose(MaxUnpool(size, step)(other, places), unpool(other, want_places, size, step), rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_bed_of_nails_equals_a_loop(size):
    x = maps(2, 3, 4, 5)
    want = np.zeros((2, 3 * size, 4 * size, 5))
    for b, i, j, c in np.ndindex(x.shape):
        want[b, i * size, j * size, c] = x[b, i, j, c]
    np.testing.assert_array_equal(BedOfNails(size)(x), want)


@pytest.mark.parametrize("size, step", [(2, 2), (3, 2), (2, 1)])
@pytest.mark.parametrize("kind", ["pool", "unpool", "both"])
def test_gradients_equal_finite_differences(size, step, kind):
    whole = maps(1, 5, 6, 2)
    places = MaxPoolWithArgmax(size, step)(whole)[1]
    x = maps(*places.shape, seed=1) if kind == "unpool" else whole
    outside = MaxPoolWithArgmax(size, step)(whole)[0] if kind == "pool" else MaxUnpool(size, step)(
        MaxPoolWithArgmax(size, step)(whole)[0], places)
    weights = ops.convert_to_tensor(np.random.default_rng(2).normal(size=outside.shape).astype("float32"))

    def loss(x):
        if kind == "unpool":
            y = MaxUnpool(size, step)(x, places)
        else:
            y, where = MaxPoolWithArgmax(size, step)(x)
            y = y if kind == "pool" else MaxUnpool(size, step)(y, where)
        return ops.sum(y * weights)

    found = helpers.gradient(loss, x)
    for at in np.ndindex(x.shape):
        nudge = np.zeros_like(x)
        nudge[at] = 0.03  # less than the least difference, 0.1: no maximum changes places
        assert found[at] == pytest.approx(float(loss(x + nudge) - loss(x - nudge)) / 0.06, abs=2e-3)


def network(size, step, sides=(None, None)):
    image = keras.Input((*sides, 3))
    pooled, places = MaxPoolWithArgmax(size, step, name="pool")(image)
    return keras.Model(image, BedOfNails(2)(MaxUnpool(size, step, name="unpool")(pooled * 2, places)))


@pytest.mark.parametrize("size, step", [(2, 2), (3, 2)])
def test_networks_of_free_size_answer_as_a_loop_also_from_a_file(size, step, tmp_path):
    free = network(size, step)
    assert free.output.shape == (None, None, None, 3)
    assert network(size, step, (8, 8)).output.shape == (None, *((16, 16) if size == 2 else (14, 14)), 3)
    free.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    for sides in ((8, 8), (9, 7)):
        x = maps(2, *sides, 3)
        pooled, places = pool(x, size, step)
        out = np.array(free(x))
        np.testing.assert_allclose(out[:, ::2, ::2], unpool(2 * pooled, places, size, step), rtol=1e-6)
        np.testing.assert_array_equal(again(x), out)


def test_half_precision_is_kept():
    x = maps(1, 4, 4, 2)
    pooled, places = MaxPoolWithArgmax(dtype="float16")(x)
    out = MaxUnpool(dtype="float16")(pooled, places)
    assert [keras.backend.standardize_dtype(t.dtype) for t in (pooled, places, out)] == ["float16", "int32", "float16"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFLite is made from TensorFlow")
@pytest.mark.parametrize("size, step", [(2, 2), (3, 2)])
@pytest.mark.parametrize("bits", [32, 8])
def test_as_tflite_it_is_made_of_built_in_ops_and_lives_in_8_bits(size, step, bits):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    x = np.random.default_rng(0).uniform(-1, 1, (20, 8, 8, 3)).astype("float32")
    graph = network(size, step, (8, 8))
    function = tf.function(lambda image: graph(image)).get_concrete_function(tf.TensorSpec((1, 8, 8, 3)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], graph)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if bits == 8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in x)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    lite = Interpreter(model_content=converter.convert())
    lite.allocate_tensors()  # would fail on an op that is not built in
    want = np.array(graph(x))
    for image, answer in zip(x, want):
        lite.set_tensor(lite.get_input_details()[0]["index"], image[None])
        lite.invoke()
        out = lite.get_tensor(lite.get_output_details()[0]["index"])[0]
        if bits == 32:
            np.testing.assert_array_equal(out, answer)
        else:  # in 8 bits neighbours may be equal, and the first is then the maximum
            assert np.corrcoef(out.ravel(), answer.ravel())[0, 1] > 0.97
            np.testing.assert_allclose(out.sum(), answer.sum(), rtol=0.05)


@pytest.mark.parametrize("make, says", [
    (lambda: MaxPoolWithArgmax(0), "whole numbers from 1"),
    (lambda: MaxUnpool(2, 1.5), r"MaxUnpool\(pool_size=2, strides=1.5\)"),
    (lambda: BedOfNails(0), "whole number from 1"),
    (lambda: MaxPoolWithArgmax(3)(keras.Input((2, 9, 1))), "windows of 3x3 do not fit into a map of \\(2, 9\\)")])
def test_what_cannot_be_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()
