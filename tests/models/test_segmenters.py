"""DeconvNet, U-Net, ENet, the multi-scale and the recurrent labeller, and FCN on any backbone: counts, sizes, that each
is what its paper draws, and what every network must do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_cnns.errors import InputError
from keras_cnns.layers import CropToMatch
from keras_cnns.models import create_model, info, list_models, model_info
from keras_cnns.models.segmentation import deconvnet, multiscale, recurrent, unet
from tests.models import helpers
from tests.models.test_zoo import COUNTS

NAMES = [name for name in list_models(task="segmentation") if not name.startswith("fcn_") and name[-1] != "s"]
SHAPES = {"unet": (188, 204, 1), **dict.fromkeys(("unet_same", "unet_same_32", "unet_same_16"), (37, 50, 1)),
          "deconvnet": (224, 256, 3), "deconvnet_16": (224, 224, 3),
          "enet": (37, 50, 3), "multiscale_convnet": (33, 50, 3), "fcn": (37, 66, 3)}  # others (20, 23, 3)
QUICK = {"unet_same"}


@pytest.fixture
def narrow(monkeypatch):
    """Fewer maps, or tests take gigabytes and minutes."""
    monkeypatch.setitem(deconvnet.VARIANTS, "deconvnet", deconvnet.Variant((4, 4, 4, 8, 8), "vgg16"))
    monkeypatch.setattr(unet, "FILTERS", 4)
    for name in ("unet_same_32", "unet_same_16"):
        monkeypatch.setitem(unet.VARIANTS, name, unet.VARIANTS[name]._replace(narrower=1))
    monkeypatch.setattr(multiscale, "HIDDEN", 16)


def every(names=NAMES):
    return pytest.mark.parametrize(
        "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names])


def shape(name):
    return SHAPES.get(name, (20, 23, 3))


def weightless(*arguments, **options):
    return info.weightless(lambda: create_model(*arguments, **options))


def lively(name, num_classes=3, **options):
    """A network whose scores are not all zero."""
    keras.utils.set_random_seed(0)
    network = create_model(name, shape(name), num_classes, **options)
    for layer in network.layers:
        if layer.name.startswith("score_"):
            layer.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in layer.weights])
        elif name.startswith("deconvnet") and layer.name.startswith(("fc6_deconv", "deconv", "seg_score")):
            layer.set_weights([w * (100 / np.sqrt(max(np.prod(w.shape[:2]) * w.shape[-1] / 2, 1)) if w.ndim == 4 else 1)
                               for w in layer.get_weights()])  # from the authors' 0.01
    return network


def logits(network):
    return keras.Model(network.input, network.get_layer("predictions").input)


@pytest.mark.parametrize("name", ["unet", "deconvnet", "enet"])
def test_parameters_and_multiply_adds_are_those_of_the_reference(name):
    found, want = model_info(name), COUNTS[name]
    assert (found.trainable_parameters, found.parameters) == (int(want["trainable"]), int(want["all"]))
    assert found.multiply_adds == pytest.approx(float(want["multiply_adds"]), rel=1e-4)


def test_parameters_that_no_reference_counts_are_added_up_by_hand():
    count = {name: model_info(name).parameters for name in ("unet_same", "multiscale_convnet", "recurrent_cnn2")}
    assert count == {
        "unet_same": 31_030_658,  # the valid form's
        "multiscale_convnet": (49 * 10 + 10) + (49 * 2 * 6 + 6) + (49 * 16 * 64 + 64) + (49 * 64 * 256 + 256)
        + (768 * 1024 + 1024) + (1024 * 8 + 8),
        "recurrent_cnn2": (64 * 11 * 25 + 25) + (64 * 25 * 50 + 50) + (50 * 8 + 8)}
    assert model_info("recurrent_cnn3_aux").parameters == count["recurrent_cnn2"]  # weights do not grow with instances


def test_counts_with_other_channels_and_classes_are_those_of_the_reference():
    assert info.parameters(weightless("unet", (572, 572, 3)))[0] == 31_031_810
    assert info.parameters(weightless("unet", num_classes=1))[0] == 31_030_593
    assert [info.parameters(weightless("enet", num_classes=k))[0] for k in (12, 19)] == [363_856, 364_311]


@every()
def test_a_free_size_answers_as_a_fixed_one(name, narrow):
    fixed = lively(name)
    free = create_model(name, (None, None, shape(name)[2]), 3)
    free.set_weights(fixed.get_weights())
    image = helpers.images((2, *shape(name)))
    want, found = (keras.tree.flatten(network(image)) for network in (fixed, free))
    for a, b in zip(want, found):
        np.testing.assert_allclose(a, b, atol=1e-5)
    least = 4 if name == "unet" else shape(name)[0]
    assert want[0].shape[1] == least and np.ptp(np.array(want[0])) > 1e-3


# U-Net.

def test_unet_has_the_sizes_of_figure_1():
    network = weightless("unet")
    sides = [network.get_layer(name).output.shape[1:] for name in (
        "conv_d0b", "conv_d1b", "conv_d2b", "conv_d3b", "conv_d4b", "upconv_3a", "upconv_2a", "upconv_1a", "upconv_0a")]
    assert sides == [(568, 568, 64), (280, 280, 128), (136, 136, 256), (64, 64, 512), (28, 28, 1024), (56, 56, 512),
                     (104, 104, 256), (200, 200, 128), (392, 392, 64)]
    assert network.output.shape == (None, 388, 388, 2)
    crops = {layer.name: layer.offset for layer in network.layers if isinstance(layer, CropToMatch)}
    assert crops == {"crop_d3c": 4, "crop_d2c": 16, "crop_d1c": 40, "crop_d0c": 88}  # the middle of 64 for 56, ...
    assert [layer.rate for layer in network.layers if isinstance(layer, layers.Dropout)] == [0.5, 0.5]


def test_both_unets_answer_the_same_where_nothing_but_the_image_is_seen(narrow):
    """The maps that are pooled begin 2 pixels before those of an image that is padded."""
    valid, same = create_model("unet", (204, 188, 1)), create_model("unet_same", (206, 190, 1))
    same.set_weights(valid.get_weights())
    image = helpers.images((1, 204, 188, 1))
    whole = logits(same)(np.pad(image, ((0, 0), (2, 0), (2, 0), (0, 0))))[:, 94:-92, 94:-92]
    want = logits(valid)(image)
    assert want.shape == whole.shape == (1, 20, 4, 2)
    np.testing.assert_allclose(whole, want, atol=1e-5)


def test_unet_begins_with_the_variance_of_its_section_3():
    keras.utils.set_random_seed(0)
    network = create_model("unet_same_16", (32, 32, 1))
    for layer in network.layers:
        if isinstance(layer, layers.Conv2DTranspose):
            into_one = layer.kernel.shape[-1]  # 2x2 at a stride of 2: one number of each map
        elif isinstance(layer, layers.Conv2D):
            into_one = np.prod(layer.kernel.shape[:-1])
        else:
            continue
        assert np.std(layer.kernel) == pytest.approx(np.sqrt(2 / into_one), rel=0.15), layer.name


@pytest.mark.parametrize("side, says", [(256, "252 and 268 work"), (571, "556 and 572 work"), (187, "188, 188, 1")])
def test_sizes_that_unet_cannot_pool_are_answered_with_those_it_can(side, says):
    with pytest.raises(InputError, match=says) as error:
        create_model("unet", (572, side, 1))
    assert "\n" not in str(error.value)


# DeconvNet.

def test_deconvnet_mirrors_vgg16_down_to_one_pixel():
    network = weightless("deconvnet")
    shapes = [network.get_layer(name).output.shape[1:] for name in (
        "fc6", "fc7", "fc6_deconv", "unpool5", "deconv5_3", "unpool4", "deconv4_3", "unpool3", "deconv3_3", "unpool2",
        "deconv2_2", "unpool1", "deconv1_2")]
    assert shapes == [(1, 1, 4096), (1, 1, 4096), (7, 7, 512), (14, 14, 512), (14, 14, 512), (28, 28, 512),
                      (28, 28, 256), (56, 56, 256), (56, 56, 128), (112, 112, 128), (112, 112, 64), (224, 224, 64),
                      (224, 224, 64)]
    unnormalised = [layer.name for layer in network.layers if isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose))
                    and f"{layer.name}_bn" not in {other.name for other in network.layers}]
    assert unnormalised == ["seg_score"]


def test_deconvnet_unpools_to_where_the_maxima_were(narrow):
    network = create_model("deconvnet", num_classes=3)
    inner = keras.Model(network.input, {
        i: [network.get_layer(f"pool{i}").input, network.get_layer(f"unpool{i}").output] for i in range(1, 6)})
    for before, after in inner(helpers.images((1, 224, 224, 3))).values():
        before, after = np.array(before), np.array(after)
        height, width = before.shape[1] // 2, before.shape[2] // 2
        windows = before.reshape(1, height, 2, width, 2, -1)
        where = windows == windows.max((2, 4), keepdims=True)
        empty = after.reshape(windows.shape)[~where]
        assert not empty.any() and after.any()


def test_sizes_that_deconvnet_cannot_halve_are_answered_with_those_it_can():
    with pytest.raises(InputError, match="224 and 256 beside 230"):
        create_model("deconvnet", (224, 230, 3))
    with pytest.raises(InputError, match="smallest that works is \\(224, 224, 3\\)"):
        create_model("deconvnet", (192, 224, 3))


# ENet.

def test_enet_has_the_blocks_and_sizes_of_table_1():
    network = weightless("enet", (512, 512, 3), 12)
    sizes = {name: network.get_layer(name).output.shape[1:] for name in (
        "initial", "bottleneck1_0", "bottleneck2_0", "bottleneck3_7", "bottleneck4_0", "bottleneck5_0", "fullconv")}
    assert sizes == {"initial": (256, 256, 16), "bottleneck1_0": (128, 128, 64), "bottleneck2_0": (64, 64, 128),
                     "bottleneck3_7": (64, 64, 128), "bottleneck4_0": (128, 128, 64), "bottleneck5_0": (256, 256, 16),
                     "fullconv": (512, 512, 12)}
    middle = {i: network.get_layer(f"bottleneck3_{i}_2_conv") for i in range(8)}
    assert [layer.dilation_rate[0] for layer in middle.values()] == [1, 2, 1, 4, 1, 8, 1, 16]
    assert [layer.kernel_size for layer in middle.values()][2] == (5, 1)
    again = [network.get_layer(f"bottleneck2_{i + 1}_2_conv") for i in range(8)]
    assert [a.get_config() | {"name": b.name} for a, b in zip(again, middle.values())] == [
        b.get_config() for b in middle.values()]


def test_enet_unpools_to_the_places_of_its_own_maxima():
    network = weightless("enet")
    for up, down in ((4, 2), (5, 1)):
        places = network.get_layer(f"bottleneck{up}_0_unpool").input[1]
        assert places is network.get_layer(f"bottleneck{down}_0_pool").output[1]


# Multi-scale.

def test_the_pyramid_adds_up_to_the_image():
    image = keras.Input((32, 48, 3))
    levels = keras.Model(image, list(multiscale.pyramid(image, 3)))
    x = helpers.images((2, 32, 48, 3))
    fine, middle, coarse = levels(x)
    assert [tuple(level.shape[1:3]) for level in (fine, middle, coarse)] == [(32, 48), (16, 24), (8, 12)]
    enlarge = layers.UpSampling2D(2, interpolation="bilinear")
    np.testing.assert_allclose(fine + enlarge(middle + enlarge(coarse)), x, atol=1e-3)


def test_local_normalization_equals_a_loop():
    x = helpers.images((1, 19, 17, 2)) / 255
    out = np.array(multiscale.normalized(ops.convert_to_tensor(x)))[0]

    def mean(x):
        return np.stack([[x[max(i - 7, 0):i + 8, max(j - 7, 0):j + 8].mean((0, 1)) for j in range(17)]
                         for i in range(19)])
    centred = x[0] - mean(x[0])
    np.testing.assert_allclose(out, centred / np.sqrt(mean(centred**2)), atol=1e-4)


def test_a_window_of_46_pixels_of_each_level_is_seen():
    network = multiscale.convnet()
    image = np.zeros((1, 96, 96, 3), "float32")
    before = np.array(network(image))[0, 12, 12]
    first, last = 4 * 12 - 21, 4 * 12 + 24
    for at, seen in ((first, True), (last, True), (first - 1, False), (last + 1, False)):
        image[:] = 0
        image[0, at] = np.random.default_rng(0).normal(size=(96, 3))
        assert np.any(np.array(network(image))[0, 12, 12] != before) == seen, at


def test_luminance_and_colour_are_those_of_the_standard():
    np.testing.assert_allclose(np.ones(3) @ multiscale.YUV, [1, 0, 0], atol=1e-5)
    with pytest.raises(InputError, match="3 channels"):
        create_model("multiscale_convnet", (32, 32, 1))


# Recurrent.

def strided(weights, image, labels, pools):
    """The paper's network on a patch: convolutions, pooling with strides, tanh, scores."""
    x = np.concatenate([image, labels], -1)[None].astype("float32")
    for (kernel, bias), pool in zip(weights[:2], pools):
        x = np.array(ops.conv(x, kernel, padding="valid")) + bias
        x = np.tanh(np.array(ops.max_pool(x, pool)))
    return (x @ weights[2][0][0, 0] + weights[2][1])[0]


@pytest.mark.parametrize("name, sides", [("recurrent_cnn2_aux", (25, 121)), ("recurrent_cnn3_aux", (23, 67, 155))])
def test_every_pixel_is_labelled_as_the_middle_of_its_patch_by_a_loop(name, sides):
    v = recurrent.VARIANTS[name]
    assert recurrent.patch(v) == sides[0]
    network = create_model(name, (9, 12, 3), 4)
    for layer in network.layers:
        if layer.name.startswith("conv"):
            layer.set_weights([layer.kernel, np.random.default_rng(0).normal(size=layer.bias.shape)])
    weights = [network.get_layer(f"conv{i}").get_weights() for i in (1, 2, 3)]
    image = helpers.images((1, 9, 12, 3))
    found = keras.Model(network.input, {key: network.get_layer(key).input for key in network.output})(image)
    half, step = sides[-1] // 2, np.prod(v.pools)
    pixels = np.pad(np.array(network.get_layer("normalize")(image))[0], ((half, half), (half, half), (0, 0)))
    for i, j in ((0, 0), (8, 11), (4, 5)):
        patch = pixels[i:i + sides[-1], j:j + sides[-1]]
        seen, labels, place = patch, np.zeros((*patch.shape[:2], 4)), 0
        for depth, side in enumerate(reversed((1, *sides[:-1])), 1):
            labels = strided(weights, seen, labels, v.pools)
            assert labels.shape == (side, side, 4)
            place += sides[0] // 2 * step**(depth - 1)  # of the first label in the patch
            corners = place + np.arange(side) * step**depth - step**depth // 2
            squares = np.arange(step**depth)
            if side > 1:
                seen = np.array([[patch[r + squares][:, c + squares].mean((0, 1)) for c in corners] for r in corners])
            if depth == v.instances - 1:  # the label of the middle, by one instance less
                middle = labels[side // 2, side // 2]
                np.testing.assert_allclose(np.array(found[f"aux{depth}"])[0, i, j], middle, atol=1e-4)
        np.testing.assert_allclose(np.array(found["predictions"])[0, i, j], labels[0, 0], atol=1e-4)


def test_rows_called_aux_share_their_weights_with_the_others():
    aux, plain = create_model("recurrent_cnn3_aux", (9, 12, 3)), create_model("recurrent_cnn3", (9, 12, 3))
    plain.set_weights(aux.get_weights())
    image = helpers.images((1, 9, 12, 3))
    np.testing.assert_array_equal(aux(image)["predictions"], plain(image))
    with pytest.raises(InputError, match="sees its own scores"):
        create_model("recurrent_cnn2", num_classes=None)


# FCN on any backbone.

def test_fcn_upsamples_the_sum_of_scores_of_a_backbones_maps():
    network = lively("fcn", 4)
    image = helpers.images((1, 37, 66, 3))
    names = ("score_fr", "score_conv4_x", "score_conv3_x")
    inner = keras.Model(network.input, [network.get_layer(name).output for name in names])
    x, *finer = (np.array(value) for value in inner(image))
    assert [value.shape[1:3] for value in (x, *finer)] == [(2, 3), (4, 6), (8, 12)]

    def upsampled(x, stride):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # zeros beyond the border
        size = tuple(stride * n for n in padded.shape[1:3])
        return np.array(ops.image.resize(padded, size))[:, stride:-stride, stride:-stride]
    for skip in finer:
        x = upsampled(x, 2) + skip
    want = upsampled(x, 8)[:, :37, :66]
    np.testing.assert_allclose(logits(network)(image), want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("backbone, features, strides", [
    ("vgg16", ("pool3", "pool4", "pool5"), (8, 16, 32)), ("mobilenet_v1_025", "conv13_pw_relu", (32,)),
    ("densenet121", ("dense_block3", "post_relu"), (16, 32)), ("resnet50", ["conv5_x"], (32,))])
def test_any_classifier_is_an_encoder(backbone, features, strides):
    network = weightless("fcn", (97, 131, 3), 5, backbone=backbone, features=features)
    assert network.output.shape == (None, 97, 131, 5) and network.get_layer("upscore").strides == (strides[0],) * 2
    assert weightless("fcn", (97, 131, 3), None, backbone=backbone, features=features).output.shape[1:3] == (4, 5)


@pytest.mark.parametrize("options, says", [
    (dict(backbone="resnet18"), "the model 'fcn' takes both"),
    (dict(backbone="resnet18", features="conv9_x"), "conv5_x"),
    (dict(backbone="unet", features="conv_d4b"), "is for segmentation"),
    (dict(backbone="resnet18", features=("conv5_x", "conv4_x")), "twice the next one's cells"),
    (dict(backbone="inception_v3", features="mixed_7c"), "cuts the border off")])
def test_backbones_that_cannot_be_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        weightless("fcn", **options)
    with pytest.raises(InputError, match="the others take neither"):
        create_model("fcn8s", backbone="resnet18", features="conv5_x")


# What every network must do.

@every()
def test_it_answers_the_same_from_a_file(name, narrow, tmp_path):
    network, image = lively(name), helpers.images((2, *shape(name)))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    for a, b in zip(*(keras.tree.flatten(n(image)) for n in (network, again))):
        np.testing.assert_array_equal(a, b)


@every([name for name in NAMES if not name.endswith("_aux")])
def test_exported_it_answers_the_same(name, narrow, tmp_path):
    helpers.answers_the_same_exported(lively(name), helpers.images((1, *shape(name))), tmp_path)


@every()
def test_a_step_in_mixed_precision_stays_finite(name, narrow):
    network = lively(name, dtype_policy="mixed_float16")
    answers = keras.tree.flatten(network(helpers.images((1, *shape(name)))))
    assert all(answer.dtype == "float32" for answer in answers)
    labels = np.arange(np.prod(answers[0].shape[:3])).reshape(answers[0].shape[:3]) % 3
    outputs = network.output if isinstance(network.output, dict) else None
    network.compile(keras.optimizers.SGD(1e-4), {key: "sparse_categorical_crossentropy" for key in outputs}
                    if outputs else "sparse_categorical_crossentropy")
    y = dict.fromkeys(outputs, labels) if outputs else labels
    assert np.isfinite(network.train_on_batch(helpers.images((1, *shape(name))), y)).all()
    assert all(np.isfinite(w).all() for w in network.get_weights())


def test_a_graph_answers_as_calls_do(narrow):
    for name in ("recurrent_cnn2", "enet"):  # which pad channels
        network, x = lively(name), helpers.images((1, *shape(name)))
        np.testing.assert_allclose(network.predict_on_batch(x), network(x), atol=1e-5)


def test_without_classes_the_features_remain(narrow):
    shapes = {name: weightless(name, shape(name), None).output.shape[1:] for name in (
        "unet", "unet_same", "deconvnet", "enet", "multiscale_convnet", "fcn")}
    assert shapes == {"unet": (4, 20, 4), "unet_same": (37, 50, 4), "deconvnet": (224, 256, 4), "enet": (20, 28, 16),
                      "multiscale_convnet": (12, 16, 768), "fcn": (2, 3, 512)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("deconvnet") and not n.endswith("_aux")])
def test_eight_pictures_are_learnt_by_heart(name, narrow):
    network = lively(name)
    height, width, channels = shape(name)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (8, -(-height // 12), -(-width // 12))).repeat(12, 1).repeat(12, 2)[:, :height, :width]
    colours = np.eye(3) if channels == 3 else np.array([[0.2], [0.6], [1.0]])
    images = colours[labels] * 255 * rng.uniform(0.7, 1, (8, height, width, 1))
    border = (height - network.output.shape[1]) // 2
    labels = labels[:, border:height - border, border:width - border]
    network.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    for _ in range(20):
        network.fit(images, labels, epochs=10, verbose=0)
        right = (network.predict(images, verbose=0).argmax(-1) == labels).mean()
        if right > 0.9:  # borders between the blocks are hard
            return
    raise AssertionError(right)
