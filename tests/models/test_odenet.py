"""ODE-Net: counts, both solvers through every door, and what it learns."""

import numpy as np
import pytest
from keras import ops

from keras_cnns.errors import InputError
from keras_cnns.models.classification import odenet
from tests.models import helpers


def pictures(n=2):
    return helpers.images((n, 28, 28, 1))


def test_counts_are_those_of_the_reference():
    network = odenet.build()
    assert helpers.count(network.trainable_weights) == helpers.count(network.weights) == 208_266
    assert network.get_layer("ode").multiply_adds((None, 6, 6, 64)) == 2 * 36 * 9 * 65 * 64
    assert network.get_layer("ode").output.shape == (None, 6, 6, 64)


def test_time_is_the_first_channel_of_both_convolutions():
    function = odenet.build(num_classes=None).get_layer("ode").function
    y = np.random.default_rng(0).normal(size=(1, 6, 6, 64)).astype("float32")
    for convolution in function.convolutions:  # made blind to all but time
        kernel, bias = convolution.get_weights()
        kernel[:, :, 1:] = 0.0
        convolution.set_weights([kernel, bias])
    at = [np.abs(np.array(function(ops.convert_to_tensor(t), y))).max() for t in (0.0, 0.5)]
    assert at[0] == 0.0 and at[1] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_answers_the_same_from_a_file_and_exported(solver, tmp_path):
    network = odenet.build(solver=solver)
    helpers.answers_the_same_from_a_file(network, pictures(), tmp_path)
    helpers.answers_the_same_exported(network, pictures(), tmp_path)


def test_both_solvers_agree():
    exact, steps = odenet.build(solver="dopri5"), odenet.build(solver="rk4")
    steps.set_weights(exact.get_weights())
    np.testing.assert_allclose(steps.predict(pictures(), verbose=0), exact.predict(pictures(), verbose=0), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("options", [{"adjoint": False}, {"adjoint": True}, {"solver": "rk4"}])
def test_trains_a_step(policy, options):
    helpers.trains_a_step(lambda: odenet.build(**options), pictures(), policy)


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", [False, True])
def test_learns_eight_images_by_heart(adjoint):
    helpers.learns_by_heart(odenet.build(adjoint=adjoint), pictures(8), epochs=40)


def test_sizes():
    assert odenet.build(input_shape=(None, None, 1)).predict(helpers.images((1, 6, 9, 1)), verbose=0).shape == (1, 10)
    with pytest.raises(InputError, match=r"smallest that works is \(6, 6, 1\)"):
        odenet.build(input_shape=(5, 28, 1))
    with pytest.raises(InputError, match="solver='euler'"):
        odenet.build(solver="euler")
