"""The solvers against equations with known solutions; the adjoint's gradients against those through the steps."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_cnns.errors import InputError
from keras_cnns.layers import ode
from keras_cnns.layers.ode import ODEBlock


def growth(t, y, cos=np.cos):
    """y' = 3 y cos(3 t): y(1) = y(0) exp(sin 3)."""
    return [3.0 * part * cos(3.0 * t) for part in y]


@pytest.mark.parametrize("table, order", [(ode.RK4, 4), (ode.DOPRI5, 5)])
def test_error_falls_at_the_stated_order(table, order):
    errors = [abs(ode.fixed_steps(growth, [np.float64(1.0)], steps, table)[0][0] - math.exp(math.sin(3.0)))
              for steps in (16, 32, 64)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.35)


def test_dormand_princes_estimate_is_of_order_five_and_sums_to_nothing():
    assert abs(sum(ode.DOPRI5.error)) < 1e-15
    for node, row in zip(ode.DOPRI5.nodes, ode.DOPRI5.rows):
        assert sum(row) == pytest.approx(node)
    fourth = np.subtract([*ode.DOPRI5.weights, 0], ode.DOPRI5.error)
    nodes = np.array([0, *ode.DOPRI5.nodes, 1])
    for power in range(4):  # the embedded method integrates t**3 exactly, but not t**4
        assert fourth @ nodes**power == pytest.approx(1 / (power + 1))
    assert fourth @ nodes**4 != pytest.approx(1 / 5, abs=1e-6)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4, 1e-5])
def test_adaptive_steps_keep_to_the_tolerance(tolerance):
    def circle(t, y):  # once around
        return [2 * math.pi * ops.stack([y[0][1], -y[0][0]])]

    (y,), evaluations = ode.adaptive_steps(circle, [ops.convert_to_tensor([1.0, 0.0])], tolerance, tolerance)
    assert np.abs(np.array(y) - [1.0, 0.0]).max() < 10 * tolerance
    (y,), _ = ode.adaptive_steps(lambda t, y: growth(t, y, ops.cos), [ops.convert_to_tensor([1.0, 2.0])],
                                 tolerance, tolerance)
    np.testing.assert_allclose(y, math.exp(math.sin(3.0)) * np.array([1.0, 2.0]), rtol=10 * tolerance)
    assert int(evaluations) % 6 == 2 and int(evaluations) < 400


def test_fewer_evaluations_for_a_coarser_answer_and_none_rejected_of_a_straight_line():
    def evaluations(function, tolerance):
        return int(ode.adaptive_steps(function, [ops.ones((3,))], tolerance, tolerance)[1])

    wave = [evaluations(lambda t, y: growth(t, y, ops.cos), tolerance) for tolerance in (1e-1, 1e-3, 1e-5)]
    assert wave == sorted(set(wave))
    assert evaluations(lambda t, y: [ops.ones((3,))], 1e-3) <= 2 + 6 * 5


def test_too_many_steps_end_in_nan_not_in_a_wrong_number():
    (y,), evaluations = ode.adaptive_steps(lambda t, y: growth(t, y, ops.cos), [ops.ones((2,))], 1e-5, 1e-5, 3)
    assert np.isnan(y).all() and int(evaluations) == 2 + 6 * 3
    (y,), _ = ode.adaptive_steps(lambda t, y: [y[0] * float("nan")], [ops.ones((2,))], 1e-3, 1e-3, 3)
    assert np.isnan(y).all()


@keras.saving.register_keras_serializable("tests")
class Swirl(layers.Layer):
    """dy/dt = tanh(W y + t)."""

    def build(self, t_shape, y_shape):
        self.matrix = self.add_weight(shape=(y_shape[-1],) * 2, initializer="glorot_uniform")
        self.built = True

    def call(self, t, y):
        return ops.tanh(ops.matmul(y, self.matrix) + t)


def network(**options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="before")(inputs)  # its gradient is that of the block's input
    x = ODEBlock(Swirl(dtype="float32"), name="ode", **options)(x)
    return keras.Model(inputs, layers.Dense(2, name="after")(x))


def pairs():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")


def gradients_of(weight=1.0, **options):
    """By a step of gradient descent with rate 1, of a loss multiplied by `weight` and divided again."""
    net = network(**options)
    before = net.get_weights()
    net.compile(keras.optimizers.SGD(1.0 / weight), loss="mse", loss_weights=weight)
    net.train_on_batch(*pairs())
    return [a - b for a, b in zip(before, net.get_weights())]


@pytest.fixture(scope="module")
def exact():
    return gradients_of(solver="rk4", steps=6)


@pytest.mark.parametrize("options", [
    dict(solver="rk4", steps=6, adjoint=True),
    # A gradient a million times smaller is far below the absolute tolerance.
    dict(solver="dopri5", rtol=1e-5, atol=1e-5, adjoint=True, weight=2.0**-20),
    dict(solver="dopri5", rtol=1e-5, atol=1e-5)])
def test_adjoint_and_direct_gradients_agree(options, exact):
    if keras.backend.backend() == "jax" and options["solver"] == "dopri5" and "adjoint" not in options:
        with pytest.raises(InputError, match="adjoint=True"):
            gradients_of(**options)
        return
    found = gradients_of(**options)
    assert min(np.abs(g).max() for g in exact) > 1e-2  # of the matrix too
    for ours, theirs in zip(found, exact):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_integrates_in_float32_under_mixed_precision():
    x = pairs()[0]
    block = ODEBlock(Swirl(dtype="float32"))
    want = block(x)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = ODEBlock(Swirl(dtype="float32"))
        mixed.build(x.shape)
        mixed.set_weights(block.get_weights())
        found = mixed(x)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_array_equal(ops.convert_to_numpy(found), ops.convert_to_numpy(want))


def test_solve_tells_the_evaluations_and_the_block_lives_through_a_file(tmp_path):
    x = pairs()[0]
    net = network(rtol=1e-4)
    y, evaluations = net.get_layer("ode").solve(ops.convert_to_tensor(x))
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (y, net.get_layer("ode")(x))), rtol=1e-6)
    assert int(evaluations) > 8
    assert network(solver="rk4", steps=3).get_layer("ode").solve(x)[1] == 12
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    assert again.get_layer("ode").rtol == 1e-4
    np.testing.assert_array_equal(again.predict(x, verbose=0), net.predict(x, verbose=0))


def test_an_unknown_solver_is_refused():
    with pytest.raises(InputError, match="solver='euler': choose from 'dopri5', 'rk4'"):
        ODEBlock(Swirl(), "euler")
