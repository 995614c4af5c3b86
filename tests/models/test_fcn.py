"""FCN: counts, sizes and offsets as in Caffe, scores as by a loop, and what every network must do."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnns.errors import InputError
from keras_cnns.models import create_model, info, model_info
from keras_cnns.models.segmentation import fcn
from keras_cnns.weights import zoo
from tests.layers.test_upsampling import overlap_and_add
from tests.models import helpers

NAMES = ("fcn32s", "fcn16s", "fcn8s")
COUNTS = {  # trainable, all, multiply-adds
    "fcn32s": (134_346_581, 136_152_917, 181.3659e9), "fcn16s": (134_357_354, 134_815_994, 181.4481e9),
    "fcn8s": (134_362_751, 134_489_759, 181.529e9),
    # torchvision's count of parameters and multiply-adds is of all, with the auxiliary classifier
    "fcn_resnet50": (35_322_218 - 2_365_205, 33_011_157, 142.7257728e9),
    "fcn_resnet50_aux": (35_322_218, 35_376_874, 152.717e9)}


@pytest.fixture
def narrow(monkeypatch):
    """fc6 and fc7 of 16 maps, or every test takes half a gigabyte."""
    monkeypatch.setattr(fcn, "WIDTH", 16)


def weightless(*arguments, **options):
    return info.weightless(lambda: create_model(*arguments, **options))


def lively(name, input_shape, num_classes=3, **options):
    """A network whose scores are not all zero."""
    network = create_model(name, input_shape, num_classes, **options)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if "score_fr" in layer.name or layer.name in ("score_pool4", "score_pool3"):
            layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    return network


def logits(network):
    return keras.Model(network.input, network.get_layer("predictions").input)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_multiply_adds_are_the_published(name):
    found, (trainable, everything, multiply_adds) = model_info(name), COUNTS[name]
    assert (found.task, found.trainable_parameters, found.parameters) == ("segmentation", trainable, everything)
    assert found.multiply_adds == pytest.approx(multiply_adds, rel=1e-4)
    assert found.published


# Layers of the authors' files: name, kind, kernel, stride, padding; and what is cut to the size of what.
VGG = [(f"conv{i}_{j}", "conv", 3, 1, 100 if (i, j) == (1, 1) else 1) if j else (f"pool{i}", "pool", 2, 2, 0)
       for i, depth in enumerate((2, 2, 3, 3, 3), 1) for j in (*range(1, depth + 1), 0)]
TRUNK = [*VGG, ("fc6", "conv", 7, 1, 0), ("fc7", "conv", 1, 1, 0), ("score_fr", "conv", 1, 1, 0)]
UPSAMPLING = {
    "fcn32s": [("upscore", 64, 32, "image")],
    "fcn16s": [("upscore2", 4, 2, "pool4"), ("upscore16", 32, 16, "image")],
    "fcn8s": [("upscore2", 4, 2, "pool4"), ("upscore_pool4", 4, 2, "pool3"), ("upscore8", 16, 8, "image")]}


def caffe(name, size):
    """Of a side of the image: sizes of all maps, and by what is cut off the front of each map that is cut, as Caffe's
    coord_map works it out: where pixel x of a map lies in the image, at a x + b."""
    sizes, places = {"image": size}, {"image": (1.0, 0.0)}
    a, b = places["image"]
    for layer, kind, kernel, stride, padding in TRUNK:
        exact = (size + 2 * padding - kernel) / stride
        size = (math.ceil(exact) if kind == "pool" else math.floor(exact)) + 1
        a, b = a * stride, b + a * ((kernel - 1) / 2 - padding)
        sizes[layer], places[layer] = size, (a, b)
    cuts = {}
    for layer, kernel, stride, other in UPSAMPLING[name]:
        size = (size - 1) * stride + kernel
        a, b = a / stride, b - a / stride * (kernel - 1) / 2
        sizes[layer] = size
        if other == "image":  # the upsampled is cut to the image
            cuts["score"], size = -b / a, sizes["image"]
        else:  # scores of the pooling are cut to the upsampled
            cuts[f"score_{other}c"] = (b - places[other][1]) / places[other][0]
            assert places[other][0] == a
        sizes["score" if other == "image" else f"fuse_{other}"] = size
    return sizes, cuts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height, width", [(1, 501), (33, 97), (101, 255), (375, 499), (223, 7)])
def test_sizes_and_offsets_are_those_of_the_published_nets(name, height, width):
    network = weightless(name, (height, width, 3))
    rows, cuts = caffe(name, height)
    columns, again = caffe(name, width)
    for layer in rows.keys() - {"conv1_1"}:
        assert network.get_layer(layer).output.shape[1:3] == (rows[layer], columns[layer]), layer
    assert network.output.shape == (None, height, width, 21)
    found = {layer.name: layer.offset for layer in network.layers if isinstance(layer, fcn.CropToMatch)}
    assert found == cuts == again


def test_the_offsets_of_the_authors_files():
    assert [caffe(name, 37)[1] for name in NAMES] == [
        {"score": 19}, {"score_pool4c": 5, "score": 27}, {"score_pool4c": 5, "score_pool3c": 9, "score": 31}]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_upsampled_cut_and_added_as_by_a_loop(name, narrow):
    network = lively(name, (None, None, 3))
    image = helpers.images((1, 21, 45, 3))
    inner = {layer.name: layer.output for layer in network.layers if layer.name.startswith("score_")}
    found = {key: np.array(value)[0] for key, value in keras.Model(network.input, inner)(image).items()}
    x, cuts = found["score_fr"], caffe(name, 21)[1]
    for layer, kernel, stride, other in UPSAMPLING[name]:
        triangle = 1 - np.abs(np.arange(kernel) - (kernel - 1) / 2) / stride
        x = overlap_and_add(x, np.outer(triangle, triangle)[..., None, None] * np.eye(3), stride)
        if other != "image":
            offset = int(cuts[f"score_{other}c"])
            x = x + found[f"score_{other}"][offset:offset + x.shape[0], offset:offset + x.shape[1]]
    offset = int(cuts["score"])
    x = x[offset:offset + 21, offset:offset + 45]
    assert x.std() > 0.1
    np.testing.assert_allclose(np.array(logits(network)(image))[0], x, atol=1e-5 * np.abs(x).max())
    np.testing.assert_allclose(np.array(network(image)).sum(-1), 1, rtol=1e-5)


def test_a_free_size_answers_as_a_fixed_one(narrow):
    free, fixed = lively("fcn8s", (None, None, 3)), create_model("fcn8s", (30, 19, 3), 3)
    fixed.set_weights(free.get_weights())
    image = helpers.images((2, 30, 19, 3))
    np.testing.assert_allclose(free(image), fixed(image), atol=1e-6)


def test_all_scores_begin_as_zeros_and_upsampling_is_not_learnt(narrow):
    network = create_model("fcn8s", (16, 16, 3))
    np.testing.assert_allclose(network(helpers.images((1, 16, 16, 3))), 1 / 21, rtol=1e-5)
    fixed = {layer.name for layer in network.layers if layer.weights and not layer.trainable}
    assert fixed == {"upscore2", "upscore_pool4", "upscore8"}


def classifier():
    """The end of a VGG-16, of 16 units."""
    x = image = keras.Input((7, 7, 512))
    x = layers.Conv2D(512, 3, padding="same", name="conv5_3")(x)
    x = layers.Flatten(name="flatten")(x)
    for name, units in (("fc6", 16), ("fc7", 16)):
        x = layers.Dense(units, activation="relu", name=name)(x)
    return keras.Model(image, layers.Dense(1000, name="fc8")(x), name="vgg16")


def test_each_net_begins_with_the_coarser_one(narrow):
    nets = {name: create_model(name, (20, 33, 3), 3) for name in NAMES}
    donor = classifier()
    assert fcn.begin_with(nets["fcn32s"], donor) == ["conv5_3", "fc6", "fc7"]
    x = helpers.images((2, 7, 7, 512)) / 100
    convolutions = keras.Sequential([nets["fcn32s"].get_layer(name) for name in ("conv5_3", "fc6", "fc7")])
    want = np.array(keras.Model(donor.input, donor.get_layer("fc7").output)(x))
    np.testing.assert_allclose(np.array(convolutions(x))[:, 0, 0], want, rtol=1e-4, atol=1e-4 * want.max())
    score = nets["fcn32s"].get_layer("score_fr")
    score.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in score.weights])
    for coarse, fine in itertools.pairwise(NAMES):
        copied = fcn.begin_with(nets[fine], nets[coarse])
        assert copied[0] == "conv1_1" and "score_fr" in copied
    assert not nets["fcn8s"].get_layer("score_pool4").kernel.numpy().any()
    image = helpers.images((1, 20, 33, 3))
    coarse, fine = (np.array(logits(nets[name])(image)) for name in ("fcn32s", "fcn8s"))
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.95  # other scores are zero yet
    other = create_model("fcn32s", (20, 33, 3), 5)
    assert "score_fr" not in fcn.begin_with(other, nets["fcn32s"])


def test_a_coarser_nets_file_and_vggs_weights_begin_one(narrow, tmp_path):
    coarse = create_model("fcn32s", (20, 33, 3), 3)
    donor = classifier()
    zoo._take(coarse, donor)
    np.testing.assert_array_equal(np.ravel(coarse.get_layer("fc6").kernel), np.ravel(donor.get_layer("fc6").kernel))
    coarse.save(tmp_path / "a.keras")
    fine = create_model("fcn16s", (20, 33, 3), 3, tmp_path / "a.keras")
    np.testing.assert_array_equal(fine.get_layer("fc6").kernel, coarse.get_layer("fc6").kernel)
    assert zoo.backbone_of("fcn8s") == zoo.backbone_of("deconvnet") == "vgg16"
    assert zoo.backbone_of("fcn_resnet50") == "resnet50_v1_5" and zoo.backbone_of("deconvnet_16") is None


@pytest.mark.slow
@pytest.mark.parametrize("name, donor", [("fcn_resnet50_aux", "resnet50_v1_5"), ("deconvnet", "vgg16")])
def test_a_classifiers_file_begins_one(name, donor, tmp_path):
    classifier = create_model(donor, (224, 224, 3), 3)
    classifier.save(tmp_path / "a.keras")
    network = create_model(name, (224, 224, 3), 3, tmp_path / "a.keras")
    shared = {layer.name for layer in network.layers if layer.weights} & {
        layer.name for layer in classifier.layers if layer.weights}
    assert len(shared) > 12
    for layer in shared:
        for ours, theirs in zip(network.get_layer(layer).get_weights(), classifier.get_layer(layer).get_weights()):
            np.testing.assert_array_equal(ours.ravel(), theirs.ravel())


def test_only_networks_with_vggs_layers_begin_an_fcn():
    with pytest.raises(InputError, match="resnet20_cifar has no weights for fcn_resnet50: give what it"):
        fcn.begin_with(weightless("fcn_resnet50"), create_model("resnet20_cifar"))


def test_without_classes_the_features_remain(narrow):
    assert weightless("fcn8s", (64, 50, 3), None).output.shape == (None, 3, 2, 16)
    assert weightless("fcn_resnet50_aux", (64, 50, 3), None).output.shape == (None, 8, 7, 2048)


def test_resnet_keeps_stride_8_and_dilates_as_torchvision():
    network = weightless("fcn_resnet50_aux", (65, 100, 3), 5)
    shapes = [network.get_layer(name).output.shape[1:] for name in ("conv3_x", "conv4_x", "conv5_x", "score_fr")]
    assert shapes == [(9, 13, 512), (9, 13, 1024), (9, 13, 2048), (9, 13, 5)]
    assert {key: value.shape for key, value in network.output.items()} == {
        "predictions": (None, 65, 100, 5), "aux1": (None, 65, 100, 5)}
    dilations = {layer.name: layer.dilation_rate[0] for layer in network.layers
                 if isinstance(layer, layers.Conv2D) and layer.name.endswith("_2_conv")}
    want = {f"conv{i}_{j}_2_conv": 1 if i < 4 else 2 * (i - 3) // (2 if j == 1 else 1)
            for i, depth in ((2, 3), (3, 4), (4, 6), (5, 3)) for j in range(1, depth + 1)}
    assert dilations == want
    assert {layer.strides[0] for layer in network.layers if layer.name.startswith(("conv4", "conv5"))
            and isinstance(layer, layers.Conv2D)} == {1}


SMALL = {"fcn8s": (16, 23, 3), "fcn_resnet50": (40, 33, 3)}


@pytest.mark.parametrize("name", ["fcn8s", pytest.param("fcn_resnet50", marks=pytest.mark.slow)])
def test_it_answers_the_same_from_a_file(name, narrow, tmp_path):
    network = lively(name, (None, None, 3))
    helpers.answers_the_same_from_a_file(network, helpers.images((2, *SMALL[name])), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_exported_it_answers_the_same(name, narrow, tmp_path):
    network, x = lively(name, SMALL[name]), helpers.images((1, *SMALL[name]))
    spread = logits(network).predict(x, verbose=0).std()  # of hundreds, in which all probabilities are 0 or 1
    for layer in network.layers:
        if layer.name.startswith("score_"):
            layer.set_weights([w / spread for w in layer.get_weights()])
    assert np.mean(network.predict(x, verbose=0).max(-1) < 0.95) > 0.5
    helpers.answers_the_same_exported(network, x, tmp_path)


def test_a_step_of_training_changes_the_scores(narrow):
    network = create_model("fcn8s", (16, 23, 3), 3)
    network.compile(keras.optimizers.SGD(1e-4), loss="sparse_categorical_crossentropy")
    labels = np.arange(16 * 23).reshape(1, 16, 23) % 3
    assert np.isfinite(network.train_on_batch(helpers.images((1, 16, 23, 3)), labels))
    assert all(np.array(network.get_layer(f"score_{name}").kernel).any() for name in ("fr", "pool4", "pool3"))


@pytest.mark.slow
def test_a_step_in_mixed_precision_stays_finite():
    network = create_model("fcn_resnet50_aux", (33, 40, 3), 3, dtype_policy="mixed_float16")
    network.compile(keras.optimizers.SGD(1e-4), loss=dict.fromkeys(
        ("predictions", "aux1"), "sparse_categorical_crossentropy"), loss_weights={"predictions": 1, "aux1": 0.5})
    labels = np.arange(33 * 40).reshape(1, 33, 40) % 3
    image = helpers.images((1, 33, 40, 3))
    assert np.isfinite(network.train_on_batch(image, {"predictions": labels, "aux1": labels})).all()
    answers = network(image)
    assert all(a.dtype == "float32" and np.isfinite(a).all() for a in answers.values())


@pytest.mark.slow
def test_eight_pictures_are_learnt_by_heart():
    keras.utils.set_random_seed(0)
    network = create_model("fcn_resnet50", (16, 16, 3), 3)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (8, 2, 2)).repeat(8, 1).repeat(8, 2)
    images = np.eye(3)[labels] * 255 * rng.uniform(0.5, 1, (8, 16, 16, 1))
    network.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    for _ in range(12):
        network.fit(images, labels, epochs=5, verbose=0)
        right = (network.predict(images, verbose=0).argmax(-1) == labels).mean()
        if right > 0.95:  # scores are interpolated across the borders of blocks
            return
    raise AssertionError(right)


def test_sizes_and_shapes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="give .height, width, channels."):
        create_model("fcn8s", (16, 16))
    with pytest.raises(InputError, match="choose from 'softmax'"):
        weightless("fcn8s", classifier_activation="relu")
