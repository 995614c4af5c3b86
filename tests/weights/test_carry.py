"""Same weights, same answer: donors of random weights and batch norm statistics, carried over."""

import functools
import re

import keras
import numpy as np
import pytest

from keras_cnns import create_model, weights
from keras_cnns.errors import InputError
from keras_cnns.weights import carry, names
from tests.weights import donors


def pixels(*shape):
    return np.random.default_rng(1).uniform(0, 255, shape).astype("float32")


def logits(network, image):
    """Of each answer of a network, by name."""
    heads = {name: network.get_layer(name).input for name in ("predictions", "aux1") if name in network.output_names}
    return {name: np.array(value) for name, value in keras.Model(network.input, heads)(image).items()}


def difference(ours, theirs):
    """The largest of a logit, to the largest logit."""
    assert theirs.std() > 0.1
    found = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert found < 1e-4
    return found


def record(name, donor, found):
    """Of differences by size."""
    donors.record(name, donor, "largest difference of a logit to the largest logit", f"{max(found.values()):.1e}",
                  ", ".join(f"{height}x{width}" for height, width in found))


def random_donor(maker, size, **options):
    """A keras.applications model of random weights that keep activations alive."""
    donor = getattr(keras.applications, maker)(
        weights=None, classifier_activation=None, classes=50, input_shape=(*size, 3), **options)
    rng = np.random.default_rng(0)
    for variable in donor.weights:
        if variable.name == "kernel":
            fan_in = np.prod(variable.shape[:2 if "_dw_" in variable.path else -1])
            value = rng.standard_normal(variable.shape, "float32") * (2 / fan_in) ** 0.5
        else:
            positive = variable.name in ("gamma", "moving_variance")
            value = rng.uniform(*((0.5, 1.5) if positive else (-0.2, 0.2)), variable.shape)
        variable.assign(value)
    return donor


def fed(network, image, bgr=False, deviation=1.0):
    """What a donor's preprocessing makes of pixels, but with the network's mean."""
    x = (image - np.ravel(network.get_layer("normalize").get_config()["mean"])) / deviation
    return (x[..., ::-1] if bgr else x).astype("float32")


CAFFE, HALF, IMAGENET = {"bgr": True}, {"deviation": 127.5}, {"deviation": np.array((58.395, 57.12, 57.375))}
APPLICATIONS = {  # our name: theirs, its preprocessing, its options
    **{f"vgg{n}": (f"VGG{n}", CAFFE, {}) for n in (16, 19)},
    **{f"resnet{n}": (f"ResNet{n}", CAFFE, {}) for n in (50, 101, 152)},
    "inception_v3": ("InceptionV3", HALF, {}),
    "inception_resnet_v2": ("InceptionResNetV2", HALF, {}),
    **{f"densenet{n}": (f"DenseNet{n}", IMAGENET, {}) for n in (121, 169, 201)},
    **{f"mobilenet_v1{end}": ("MobileNet", HALF, {"alpha": alpha})
       for end, alpha in (("", 1.0), ("_075", 0.75), ("_050", 0.5), ("_025", 0.25))},
}


def cases(rows, quick):
    return [pytest.param(*row, marks=() if row in quick else pytest.mark.slow) for row in rows]


@pytest.mark.parametrize("name", cases(
    [(name,) for name in APPLICATIONS], [(name,) for name in (
        "resnet50", "mobilenet_v1_025")]))
def test_keras_applications(name):
    maker, preprocessing, options = APPLICATIONS[name]
    found = {}
    for size in ((75, 107), (96, 80), (128, 224)):
        donor, network = random_donor(maker, size, **options), create_model(name, (*size, 3), num_classes=50)
        report = weights.transfer(network, donor)
        image = pixels(2, *size, 3)
        found[size] = difference(logits(network, image)["predictions"],
                                 np.array(donor(fed(network, image, **preprocessing))))
        assert len(report.carried) == len(donor.weights) and not report.left_out and not report.kept
        assert ["0.499 grey values" in note for note in report.notes] == [True] * (preprocessing is CAFFE)
    record(name, "keras", found)


@donors.needs_torchvision
@pytest.mark.parametrize("theirs, name", cases(
    [(family.maker, name) for name, family in names.STATE_DICTS.items() if name != "resnext101_32x4d"],
    [("googlenet", "googlenet_bn"), ("resnet18", "resnet18")]))
def test_torchvision(theirs, name, tmp_path):
    donors.run_torch("torch_donors.py", theirs, tmp_path / "donor.npz")
    with np.load(tmp_path / "donor.npz") as file:
        donor = dict(file)
    state = {key.removeprefix("state/"): donor.pop(key) for key in [*donor] if key.startswith("state/")}
    found = {}
    for i in range(3):
        image = donor.pop(f"pixels/{i}")
        network = create_model(name, image.shape[1:])
        report = weights.transfer(network, state)
        ours = logits(network, image)
        found[image.shape[1:3]] = max(difference(ours[key], donor[f"{key}/{i}"]) for key in ours)
        assert not report.kept and not report.notes
        assert {key[:5] for key in report.left_out} == ({"aux1.", "aux2."} if theirs == "googlenet" else set())
    record(name, "torchvision", found)
    (tmp_path / "donor.npz").unlink()


def state_dict(network, table):
    """A network's weights as torchvision would have them."""
    state = {}
    for layer in network.layers:
        for variable in layer.weights:
            value = variable.numpy()
            if layer.name == "fc6" and value.ndim == 2:
                value = value.reshape(*network.get_layer("flatten").input.shape[1:], -1)
                value = value.transpose(3, 2, 0, 1).reshape(value.shape[-1], -1)
            else:
                value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            state[f"{names.find(table, layer.name)}.{carry.TORCH_PARTS[variable.name]}"] = value
    return state


@functools.cache
def resnet18():
    network = create_model("resnet18", (64, 96, 3), num_classes=5)
    for variable in network.weights:
        variable.assign(np.random.default_rng(0).uniform(0.1, 0.2, variable.shape))
    return network, state_dict(network, names.RESNET)


def changed(change):
    state = dict(resnet18()[1])
    change(state)
    return state


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("layer3.1.bn2.running_var"), r"missing: layer3\.1\.bn2\.running_var\.$"),
    (lambda s: s.update({"layer1.2.bn1.bias": np.zeros(64)}), r"changed\. left over: layer1\.2\.bn1\.bias\.$"),
    (lambda s: s.update({"layer2.0.conv1.weight": s["layer2.0.conv1.weight"].transpose(1, 0, 2, 3)}),
     r"wrong shape, .*: layer2\.0\.conv1\.weight \(3, 3, 128, 64\) for conv3_1_1_conv/kernel \(3, 3, 64, 128\)\.$"),
    (lambda s: s.update({"conv1.weight": s["conv1.weight"][:, :, 0]}), r"wrong shape, .*: conv1\.weight"),
    (lambda s: s.update({"conv1.weight": s["conv1.weight"].repeat(2, 1)}), r"conv1\.weight \(7, 7, 6, 64\)"),
    (lambda s: s.update({"fc.weight": np.float32(3)}), r"wrong shape, .*: fc\.weight"),
    (lambda s: s.update({"fc.weight": s["fc.weight"][:4], "fc.bias": s["fc.bias"][:4]}), r"fc\.weight .* fc\.bias"),
    (lambda s: s.update({"bn1": {}}), r"donor\['bn1'\] is a dict"),
    (lambda s: s.clear(), r"missing: conv1\.weight"),
])
def test_a_wrong_state_dict_is_refused_and_changes_nothing(change, message):
    network = create_model("resnet18", (64, 96, 3), num_classes=5)
    before = network.get_weights()
    with pytest.raises(InputError, match=message):
        weights.transfer(network, changed(change))
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights()))


def test_donors_of_other_networks_are_refused():
    with pytest.raises(InputError, match=r"missing: layer1\.2\.conv1\.weight.* and \d+ more"):
        weights.transfer(create_model("resnet34", num_classes=5), resnet18()[1])
    deep = keras.applications.MobileNet(weights=None, alpha=0.5, input_shape=(64, 96, 3))
    with pytest.raises(InputError, match="wrong shape, .*: conv1/kernel"):
        weights.transfer(create_model("mobilenet_v1_025", (64, 96, 3)), deep)
    with pytest.raises(InputError, match="No keras.applications model known answers as resnet18"):
        weights.transfer(resnet18()[0], deep)
    with pytest.raises(InputError, match="No state dict known answers as mobilenet_v1_025 .*resnet50_v1_5"):
        weights.transfer(create_model("mobilenet_v1_025"), resnet18()[1])
    with pytest.raises(InputError, match="donor is a str: give"):
        weights.transfer(resnet18()[0], "imagenet")


def test_a_new_head_and_none():
    donor, state = resnet18()
    network = create_model("resnet18", (64, 96, 3), num_classes=3)
    head, image = network.get_layer("fc").kernel.numpy(), pixels(1, 64, 96, 3)
    report = weights.transfer(network, state | {"bn1.num_batches_tracked": np.array(7)}, new_head=True)
    assert np.array_equal(network.get_layer("fc").kernel, head)
    assert report.kept == ("fc/kernel", "fc/bias") and sorted(report.left_out) == ["fc.bias", "fc.weight"]
    headless = create_model("resnet18", (64, 96, 3), num_classes=None)
    assert sorted(weights.transfer(headless, state).left_out) == ["fc.bias", "fc.weight"]
    features = keras.Model(donor.input, donor.get_layer("conv5_x").output)(image)
    for ours in (headless, keras.Model(network.input, network.get_layer("conv5_x").output)):
        np.testing.assert_allclose(ours(image), features, rtol=1e-5)


def test_grey_and_more_channels_than_three():
    donor = random_donor("MobileNet", (64, 96), alpha=0.25)
    rgb, grey, more = (create_model("mobilenet_v1_025", (64, 96, n), num_classes=50) for n in (3, 1, 5))
    for network in (rgb, grey, more):
        assert not weights.transfer(network, donor).notes
    image = pixels(2, 64, 96, 5)
    difference(logits(grey, image[..., :1])["predictions"], logits(rgb, image[..., [0, 0, 0]])["predictions"])
    difference(logits(more, image)["predictions"], logits(rgb, image[..., :3])["predictions"])
    network = create_model("resnet18", (64, 96, 1), num_classes=5)
    assert "up to 10.965 grey values apart" in weights.transfer(network, resnet18()[1]).notes[0]
    with pytest.raises(InputError, match="2 input channels"):
        weights.transfer(create_model("mobilenet_v1_025", (64, 96, 2), num_classes=50), donor)


def assert_carried(network, state):
    before = network.get_weights()
    network.set_weights([np.zeros_like(value) for value in before])
    weights.transfer(network, state)
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights()))


def test_names_of_timm():
    network = create_model("vgg11_bn", (64, 96, 3), num_classes=5)
    state = state_dict(network, names.torch_vgg("vgg11_bn", ()))
    for old, new, cells in (("classifier.0", "pre_logits.fc1", (2, 3)), ("classifier.3", "pre_logits.fc2", (1, 1))):
        state[f"{new}.bias"] = state.pop(f"{old}.bias")
        state[f"{new}.weight"] = state.pop(f"{old}.weight").reshape(4096, -1, *cells)
    state |= {f"head.fc.{part}": state.pop(f"classifier.6.{part}") for part in ("weight", "bias")}
    assert_carried(network, state)


def test_names_of_old_files():
    network = create_model("densenet121", num_classes=None)
    state = state_dict(network, names.DENSENET)
    assert_carried(network, {re.sub(r"(denselayer\d+\.(?:norm|conv))", r"\1.", key): state[key] for key in state})


def test_saved_and_loaded_it_answers_the_same(tmp_path):
    donor = random_donor("MobileNet", (64, 96), alpha=0.25)
    network = create_model("mobilenet_v1_025", (64, 96, 3), num_classes=50)
    weights.transfer(network, donor)
    network.save(tmp_path / "a.keras")
    again, image = keras.saving.load_model(tmp_path / "a.keras"), pixels(2, 64, 96, 3)
    difference(logits(again, image)["predictions"], np.array(donor(fed(again, image, **HALF))))
