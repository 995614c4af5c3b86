"""Every classifier: its counts, what it refuses, and that it saves, exports, converts, steps and learns."""

import csv
import pathlib

import keras
import numpy as np
import pytest

from keras_cnns import export
from keras_cnns.errors import InputError
from keras_cnns.models import create_model, info, list_models, load_weights, model_info

with open(pathlib.Path(__file__).with_name("counts.csv"), newline="") as file:
    COUNTS = {row["model"]: row for row in csv.DictReader(file)}  # as published, released or counted by hand

NAMES = list_models(task="classification")
UNCOUNTED = {"resnet34_c", "zfnet_512_1024_512"}  # rows of the papers' tables for which nobody gives a count
# Built and compiled within seconds; the others are slow.
QUICK = {"lenet5", "lenet5_dense", "mobilenet_v1_025", "resnet20_cifar"}
# Of random weights each block doubles the variance of what comes out, which overflows, unless they are made smaller.
DEEPEST = {"resnet1001_v2_cifar", "resnet1202_cifar"}
# Pixels a side where 32 are too few.
SMALL = {"odenet": 28, "alexnet": 67, "alexnet_ungrouped": 67, "alexnet_owt": 63, "zfnet": 63, "zfnet_512_1024_512": 63,
         "nin": 39, "sppnet_zf5": 64, "googlenet_aux": 79, "inception_v3": 75, "inception_v3_aux": 299,
         "inception_v4": 75, "inception_resnet_v1": 75, "inception_resnet_v2": 75, "inception_resnet_v2_paper": 75}
# The least a side may have, and the next less is refused.
LEAST = {"lenet5": 32, "alexnet": 67, "alexnet_owt": 63, "zfnet": 63, "nin": 39, "nin_cifar": 4, "vgg16": 32,
         "googlenet": 31, "googlenet_aux": 79, "googlenet_bn": 15, "inception_v3": 75, "inception_v3_aux": 299,
         "inception_v4": 75, "inception_resnet_v1": 75, "inception_resnet_v2": 75, "inception_resnet_v2_paper": 75,
         "densenet121": 29, "densenet40_k12_cifar": 4, "mobilenet_v1": 32}


def every(names=NAMES):
    return pytest.mark.parametrize(
        "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names])


def shape(name):
    side = SMALL.get(name, 32)
    return side, side, 1 if name.startswith(("lenet", "odenet")) else 3


def images(name, count=8):
    """Blocks of colour, each image another: `[count, H, W, C]`."""
    height, width, channels = shape(name)
    blocks = np.random.default_rng(3).uniform(0, 255, (count, 8, 8, channels)).astype("float32")
    return blocks.repeat(-(-height // 8), 1).repeat(-(-width // 8), 2)[:, :height, :width]


def small(name, num_classes=8, **options):
    keras.utils.set_random_seed(1)
    return create_model(name, shape(name), num_classes, **options)


def answer(outputs):
    return np.array(outputs["predictions"] if isinstance(outputs, dict) else outputs)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_multiply_adds_are_those_of_the_reference(name):
    found = model_info(name)
    assert found.task == "classification" and found.year and found.activations
    if name not in UNCOUNTED:
        want = COUNTS[name]
        assert (found.trainable_parameters, found.parameters) == (int(want["trainable"]), int(want["all"]))
        assert found.multiply_adds == pytest.approx(float(want["multiply_adds"]), rel=0.005, abs=5e3)


def test_every_model_of_the_reference_is_there():
    assert set(COUNTS) - set(list_models()) == set() and set(NAMES) - set(COUNTS) == UNCOUNTED


@every()
def test_a_network_made_of_weights_has_the_counts_of_the_weightless_one(name):
    network = create_model(name)
    assert info.parameters(network) == (model_info(name).trainable_parameters, model_info(name).parameters)
    names = [layer.name for layer in network.layers]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", LEAST)
def test_the_smallest_image_that_works_is_named(name):
    least, channels = LEAST[name], shape(name)[2]
    info.weightless(lambda: create_model(name, (least, least, channels)))
    with pytest.raises(InputError, match=f"smallest that works is \\({least}, {least}, {channels}\\)"):
        create_model(name, (least - 1, 400, channels))


@every()
def test_saved_exported_and_converted_it_answers_the_same(name, tmp_path):
    network, image = small(name), images(name, 2)
    if name in DEEPEST:
        for kernel in network.trainable_weights:
            kernel.assign(kernel * 0.1 if kernel.path.endswith("kernel") else kernel)
    want = answer(network(image))
    assert np.isfinite(want).all()
    network.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(answer(again(image)), want, atol=1e-5)
    import tensorflow as tf

    served = tf.saved_model.load(export.saved_model(network, tmp_path / name))
    probabilities = served.signatures["serving_default"](image=tf.constant(image))["probabilities"]
    np.testing.assert_allclose(probabilities, want, atol=1e-5)
    from ai_edge_litert.interpreter import Interpreter

    phone = Interpreter(str(export.tflite(network, tmp_path / "a.tflite"))).get_signature_runner("serving_default")
    np.testing.assert_allclose(phone(image=image[:1])["probabilities"], want[:1], atol=1e-4)


def compiled(network, rate, **options):
    """The network to train on its logits."""
    outputs = network.output if isinstance(network.output, dict) else {"predictions": network.output}
    training = keras.Model(network.input, {key: network.get_layer(key).input for key in outputs})
    loss = {key: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for key in outputs}
    training.compile(keras.optimizers.Adam(rate), loss=loss, **options)
    return training


@every()
def test_a_step_in_mixed_precision_changes_the_weights_and_stays_finite(name):
    network = small(name, dtype_policy="mixed_float16")
    assert answer(network(images(name, 1))).dtype == np.float32
    before = [np.array(w) for w in network.trainable_weights]
    training = compiled(network, 1e-4, run_eagerly=True)  # the same arithmetic; the traced step learns by heart below
    # Eight images, since batch norm over two points of a 1x1 map is singular: gradients of 4e7 even in float32.
    # NIN's last kernel is zero at first and hands nothing back, then too little for half precision without a scale.
    for _ in range(3 if name.startswith("nin") else 1):
        loss = training.train_on_batch(images(name), {key: np.arange(8) for key in training.output})
    assert np.isfinite(loss).all()
    after = [np.array(w) for w in network.trainable_weights]
    assert all(np.isfinite(w).all() for w in after)
    assert sum(np.any(a != b) for a, b in zip(after, before)) > len(after) / 2


@every()
def test_eight_images_are_learnt_by_heart(name):
    network, x, y = small(name), images(name), np.arange(8)
    training = compiled(network, keras.optimizers.schedules.CosineDecay(rate(name, network), 300, 0.01))
    for _ in range(15):
        for _ in range(20):
            training.train_on_batch(x, {key: y for key in training.output})
        found = answer(network.predict(x, verbose=0)).argmax(1)
        if (found == y).all():
            return
    raise AssertionError(f"{(found == y).sum()} of 8")


def rate(name, network):
    """Of Adam: small where there is no batch norm or much dropout, and where pixels come in undivided, smaller."""
    if name == "nin":
        return 2e-5
    normalised = any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    return 1e-3 if normalised and not name.startswith("vgg") else 1e-4


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "zfnet", "googlenet_aux", "lenet5"])
def test_fully_connected_layers_need_a_fixed_size(name):
    channels = shape(name)[2]
    with pytest.raises(InputError, match="fixed size"):
        create_model(name, (None, None, channels))
    info.weightless(lambda: create_model(name, (None, None, channels), num_classes=None))


@pytest.mark.parametrize("options, says", [
    (dict(num_classes=0), "num_classes=0"),
    (dict(num_classes=2.5), "whole number"),
    (dict(classifier_activation="relu"), "choose from 'softmax', 'sigmoid', None"),
    (dict(input_shape=(32, 32)), "height, width, channels"),
    (dict(input_shape=(32, -1, 3)), "height, width, channels"),
])
def test_what_cannot_be_is_refused_in_one_line(options, says):
    with pytest.raises(InputError, match=says) as error:
        create_model("resnet20_cifar", **options)
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="No model 'resnet51'. Did you mean resnet50"):
        create_model("resnet51")
    with pytest.raises(InputError, match="keras-cnns models"):
        model_info("42")


def test_weights_for_other_channels_are_refused(tmp_path):
    create_model("resnet20_cifar").save(tmp_path / "a.keras")
    with pytest.raises(InputError, match="do not fit"):
        load_weights(create_model("resnet20_cifar", (32, 32, 1)), tmp_path / "a.keras")


def test_several_classes_may_be_true():
    network = small("resnet20_cifar", classifier_activation="sigmoid")
    logits = keras.Model(network.input, network.get_layer("predictions").input)
    x = images("resnet20_cifar", 2)
    np.testing.assert_allclose(answer(network(x)), keras.ops.sigmoid(logits(x)), rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_than_rgb(channels):
    network = create_model("resnet20_cifar", (32, 32, channels))
    assert network(np.zeros((1, 32, 32, channels), "float32")).shape == (1, 10)
