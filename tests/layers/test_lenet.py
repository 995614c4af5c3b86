import keras
import numpy as np

from keras_cnns.layers.lenet import NegativeDistances, Subsampling, TableConv2D

DICE = np.random.default_rng(0)


def test_subsampling_equals_a_loop():
    layer, x = Subsampling(), DICE.normal(size=(2, 6, 4, 3)).astype("float32")
    layer.build(x.shape)
    coefficient, bias = DICE.normal(size=(2, 3)).astype("float32")
    layer.set_weights([coefficient, bias])
    y = keras.ops.convert_to_numpy(layer(x))
    for i in range(3):
        for j in range(2):
            want = x[:, 2 * i:2 * i + 2, 2 * j:2 * j + 2].sum((1, 2)) * coefficient + bias
            np.testing.assert_allclose(y[:, i, j], want, rtol=1e-4, atol=1e-5)


def test_table_convolution_equals_a_loop():
    table = [(0, 2), (1,), (0, 1, 2)]
    layer, x = TableConv2D(table, 3), DICE.normal(size=(1, 5, 6, 3)).astype("float32")
    layer.build(x.shape)
    kernel, bias = DICE.normal(size=(3, 3, 6)).astype("float32"), DICE.normal(size=3).astype("float32")
    layer.set_weights([kernel, bias])
    y = keras.ops.convert_to_numpy(layer(x))
    assert y.shape == layer.compute_output_shape(x.shape) == (1, 3, 4, 3)
    assert layer.multiply_adds(x.shape) == 3 * 4 * 9 * 6
    link = 0
    for j, maps in enumerate(table):
        want = np.full((3, 4), bias[j])
        for i in maps:
            for row in range(3):
                for column in range(4):
                    want[row, column] += (x[0, row:row + 3, column:column + 3, i] * kernel[..., link]).sum()
            link += 1
        np.testing.assert_allclose(y[0, ..., j], want, rtol=1e-4, atol=1e-5)


def test_distances_equal_a_loop_and_their_codes_do_not_train():
    codes = DICE.choice([-1, 1], (4, 5))
    layer, x = NegativeDistances(codes), DICE.normal(size=(3, 5)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x))
    for b in range(3):
        for k in range(4):
            np.testing.assert_allclose(y[b, k], -sum((x[b, n] - codes[k, n])**2 for n in range(5)), rtol=1e-5)
    assert not layer.trainable_weights and layer.count_params() == 20


def test_weights_begin_within_their_fan_in():
    layer = TableConv2D([(0,), (0, 1, 2, 3)], 5)
    layer.build((None, 9, 9, 4))
    kernel = np.array(layer.kernel)
    assert 0.05 < np.abs(kernel[..., 0]).max() <= 2.4 / 25 and 0.01 < np.abs(kernel[..., 1:]).max() <= 2.4 / 100


def test_they_are_saved_with_what_they_are(tmp_path):
    x = keras.Input((8, 8, 2))
    y = keras.layers.Flatten()(TableConv2D([(0, 1), (1,)], 3)(Subsampling()(x)))
    network = keras.Model(x, NegativeDistances(DICE.choice([-1, 1], (3, 8)))(y))
    network.save(tmp_path / "a.keras")
    image = DICE.normal(size=(1, 8, 8, 2)).astype("float32")
    again, found = keras.saving.load_model(tmp_path / "a.keras")(image), network(image)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again), keras.ops.convert_to_numpy(found), rtol=1e-5)
