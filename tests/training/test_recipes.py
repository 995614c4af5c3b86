import keras
import numpy as np
import pytest

from keras_cnns.data import augment, views
from keras_cnns.errors import InputError
from keras_cnns.models import create_model, list_models, module_of
from keras_cnns.training import recipes, schedules


def test_every_classifier_and_every_detector_of_the_recipes_is_a_model():
    assert set(list_models(task="classification")) == set(recipes.CLASSIFICATION)
    assert {module_of(name).TASK for name in recipes.DETECTION} == {"detection"}


def test_every_row_is_sound():
    for recipe in set(recipes.RECIPES.values()):
        assert hasattr(views, recipe.view) and (recipe.colour is None or hasattr(augment, recipe.colour))
        assert all(0 < drop < recipe.epochs for drop in recipe.drops) and list(recipe.drops) == sorted(recipe.drops)
        first = float(recipes.optimizer(recipe, 10).learning_rate)
        assert 0 <= first <= 1.001 * recipe.learning_rate


def test_a_shorter_recipe_drops_in_proportion():
    short = recipes.lasting(recipes.recipe("resnet20_cifar"), 16)
    assert short.epochs == 16 and short.drops == (8, 12) and short.decay == ()
    assert recipes.lasting(recipes.recipe("googlenet"), 125).decay == (0.96, 4)
    assert recipes.lasting(recipes.recipe("vgg16"), 74) == recipes.recipe("vgg16")


def rates(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def test_learning_rates_rise_then_drop():
    np.testing.assert_allclose(
        rates(schedules.Drops(0.02, [1600, 2200], warmup=10), 0, 5, 10, 1599, 1600, 2200),
        [0, 0.01, 0.02, 0.02, 0.002, 0.0002], rtol=1e-4)


def test_a_rate_without_warm_up_is_there_from_the_first_step():
    np.testing.assert_allclose(rates(schedules.Drops(0.1, [4], 0, factor=0.5), 0, 3, 4), [0.1, 0.1, 0.05], rtol=1e-6)


def test_resnet_110_begins_with_400_steps_at_a_tenth():
    rate = recipes.optimizer(recipes.recipe("resnet110_cifar"), 390)._learning_rate
    np.testing.assert_allclose(rates(rate, 0, 399, 400, 390 * 82 - 1, 390 * 82, 390 * 123),
                               [0.01, 0.01, 0.1, 0.1, 0.01, 0.001], rtol=1e-5)
    again = schedules.Drops.from_config(rate.get_config())
    assert rates(again, 0, 400) == rates(rate, 0, 400)


def test_inception_v3_falls_every_other_epoch():
    rate = recipes.optimizer(recipes.recipe("inception_v3"), 10)._learning_rate
    np.testing.assert_allclose(rates(rate, 0, 19, 20, 40), [0.045, 0.045, 0.045 * 0.94, 0.045 * 0.94**2], rtol=1e-5)


def test_a_decay_in_the_gradient_goes_through_momentum():
    """Of a loss that is 0, what is left is the decay: v = 0.9 v - rate decay w, as Caffe has it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((3,))
    x = keras.layers.Dense(2, bias_initializer="ones", name="fc")(image)
    network = keras.Model(image, x)
    recipe = recipes.recipe("vgg16")._replace(learning_rate=0.1, weight_decay=0.5)
    recipes.decay_in_gradient(network, recipe)
    network.compile(recipes.optimizer(recipe, 10), "mse", loss_weights=[0.0])
    w, v = network.get_weights()[0], 0.0
    first = w
    network.fit(np.zeros((4, 3)), np.zeros((4, 2)), batch_size=1, verbose=0)
    for _ in range(4):
        v = 0.9 * v - 0.1 * 0.5 * w
        w = w + v
    np.testing.assert_allclose(network.get_weights()[0], w, rtol=1e-5)
    assert np.abs(w / first - 1).min() > 0.1
    np.testing.assert_array_equal(network.get_weights()[1], 1.0)  # biases do not decay
    assert "L2" not in network.to_json()


def test_depthwise_kernels_do_not_decay_nor_batch_norms_numbers():
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(3), keras.layers.Conv2D(4, 1),
                                keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    recipes.decay_in_gradient(network, recipes.recipe("mobilenet_v1"))
    decayed = [v.path for v in network.trainable_variables if v.regularizer]
    assert len(decayed) == 2 and all("depthwise" not in path and path.endswith("kernel") for path in decayed)


def test_adamw_and_detectors_decay_beside_the_gradient():
    network = create_model("resnet18", (32, 32, 3), 2)
    for recipe in (recipes.recipe("resnet18")._replace(optimizer="adamw"), recipes.recipe("faster_rcnn_resnet18")):
        recipes.decay_in_gradient(network, recipe)
        assert not any(v.regularizer for v in network.trainable_variables)
        assert recipes.optimizer(recipe, 10).weight_decay == recipe.weight_decay


def test_an_unknown_optimizer_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="'lbfgs'. Known: sgd, nesterov"):
        recipes.optimizer(recipes.recipe("vgg16")._replace(optimizer="lbfgs"), 10)
