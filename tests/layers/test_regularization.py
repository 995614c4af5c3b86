"""Stochastic depth: what happens to a block that is left out, and to one that is not."""

import time

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnns.errors import InputError
from keras_cnns.layers import StochasticDepth

NEVER, ALWAYS = 1e-9, 1.0 - 1e-9


def branch():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), layers.Dense(6), layers.BatchNormalization(momentum=0.5)])


def rows(n=8):
    return np.random.default_rng(0).normal(1.0, 2.0, (n, 6)).astype("float32")


def weights(part):
    return [np.array(w) for w in part.get_weights()]


def network(survival, part=None, policy=None):
    inputs = keras.Input((6,))
    x = StochasticDepth(part or branch(), survival, seed=0, name="block", dtype=policy)(inputs)
    net = keras.Model(inputs, layers.Dense(1)(x))
    net.compile(keras.optimizers.SGD(0.1), loss="mse")
    return net


def test_a_dropped_block_is_its_shortcut_and_leaves_its_statistics():
    part = branch()
    before = weights(part)
    np.testing.assert_array_equal(StochasticDepth(part, NEVER)(rows(), training=True), rows())
    np.testing.assert_array_equal(StochasticDepth(part, NEVER)(rows(), 2 * rows(), training=True), 2 * rows())
    for a, b in zip(before, weights(part)):
        np.testing.assert_array_equal(a, b)


def test_a_block_that_survives_adds_its_branch_unscaled_and_moves_its_statistics():
    part, twin = branch(), branch()
    found = StochasticDepth(part, ALWAYS)(rows(), training=True)
    want = rows() + keras.ops.convert_to_numpy(twin(rows(), training=True))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), want, rtol=1e-5, atol=1e-5)
    for a, b in zip(weights(part), weights(twin)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class Counted(layers.Dense):
    """A dense layer that knows how often it was computed in training."""

    def build(self, shape):
        super().build(shape)
        self.times = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=None):
        if training:
            self.times.assign(self.times + 1.0)
        return super().call(x)


def test_at_test_the_branch_counts_by_its_probability_which_is_the_expectation_of_training():
    part = keras.Sequential([keras.Input((6,)), Counted(6)])
    found, want = (keras.ops.convert_to_numpy(block(rows())) for block in (StochasticDepth(part, 0.7), part))
    np.testing.assert_allclose(found, rows() + 0.7 * want, rtol=1e-5, atol=1e-5)
    network(0.7, part).fit(rows(400), rows(400)[:, :1], batch_size=1, verbose=0)
    assert abs(float(part.layers[0].times) / 400 - 0.7) < 4 * np.sqrt(0.7 * 0.3 / 400)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_compiled_training_step_moves_only_what_survives(policy):
    for survival, moves in ((NEVER, False), (ALWAYS, True)):
        net = network(survival, policy=policy)
        before = weights(net.get_layer("block").branch)
        net.fit(rows(), rows()[:, :1], batch_size=8, epochs=2, verbose=0)
        after = weights(net.get_layer("block").branch)
        changed = [not np.array_equal(a, b) for a, b in zip(before, after)]
        assert all(changed[i] == moves for i in (0, 2, 3, 4, 5))  # the bias before a batch norm has no gradient
        assert all(np.isfinite(a).all() for a in after)


def test_a_dropped_branch_costs_no_time():
    def seconds(survival):
        part = keras.Sequential([keras.Input((6,)), *(layers.Dense(1000) for _ in range(4)), layers.Dense(6)])
        net = network(survival, part)
        net.train_on_batch(rows(512), rows(512)[:, :1])
        times = []
        for _ in range(3):
            start = time.perf_counter()
            net.train_on_batch(rows(512), rows(512)[:, :1])
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(NEVER) < 0.5 * seconds(1.0)


def test_gradients_pass_a_dropped_block_by_the_shortcut():
    inputs = keras.Input((6,))
    x = StochasticDepth(branch(), NEVER)(layers.Dense(6, name="before")(inputs))
    net = keras.Model(inputs, x)
    net.compile(keras.optimizers.SGD(0.1), loss="mse")
    before = weights(net.get_layer("before"))
    net.train_on_batch(rows(), rows())
    assert not np.allclose(before[0], weights(net.get_layer("before"))[0])


def test_lives_through_a_file_and_counts_its_branch(tmp_path):
    net = network(0.4)
    net.fit(rows(), rows()[:, :1], verbose=0)
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    assert again.get_layer("block").survival == 0.4
    np.testing.assert_array_equal(again.predict(rows(), verbose=0), net.predict(rows(), verbose=0))
    again.fit(rows(), rows()[:, :1], verbose=0)
    assert net.get_layer("block").multiply_adds((None, 6)) == 36


def test_convolutions_and_strides_are_counted():
    part = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3, 2, padding="same"), layers.ReLU(),
                             layers.Conv2D(8, 1)])
    assert StochasticDepth(part, 0.5).multiply_adds((None, 10, 8, 3)) == 5 * 4 * (27 * 4 + 4 * 8)


@pytest.mark.parametrize("survival", [0.0, 1.5, -1.0])
def test_what_is_no_probability_is_refused(survival):
    with pytest.raises(InputError, match="give a probability"):
        StochasticDepth(branch(), survival)
