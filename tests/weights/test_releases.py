"""Released weights by name: what is fetched is checked, kept whole or not, and answers as its authors' network."""

import functools
import hashlib
import http.server
import re
import threading
import types

import keras
import numpy as np
import pytest

import keras_cnns
from keras_cnns import export, weights
from keras_cnns.errors import InputError
from keras_cnns.models import list_models
from keras_cnns.weights import carry, cards, releases, zoo

NAME, SIZE = "mobilenet_v1_025", (64, 96)


@functools.cache
def donor():
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(*SIZE, 3))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder on a server of HTTP: its path and address."""
    folder = tmp_path_factory.mktemp("shop")
    donor().save(folder / "mobilenet.h5")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def released(shop, monkeypatch, tmp_path):
    """The release of a server, an empty cache, and nothing by hand."""
    folder, address = shop
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KERAS_CNNS_WEIGHTS", raising=False)
    digest = hashlib.sha256((folder / "mobilenet.h5").read_bytes()).hexdigest()

    def release(file="mobilenet.h5", digits=digest[:8]):
        row = releases.RELEASES[NAME][0]._replace(origin=f"{address}/{file}", digest=f"sha256:{digits}")
        monkeypatch.setitem(releases.RELEASES, NAME, (row,))
        return row

    return release


def pixels():
    return np.random.default_rng(0).uniform(0, 255, (2, *SIZE, 3)).astype("float32")


def create(**options):
    return keras_cnns.create_model(NAME, (*SIZE, 3), weights="imagenet", **options)


def kept(tmp_path):
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_fetched_once_kept_and_the_same_answer_through_every_door(released, tmp_path, monkeypatch):
    released()
    want = donor()(keras.applications.mobilenet.preprocess_input(pixels()))
    network = create()
    np.testing.assert_allclose(network(pixels()), want, atol=1e-6)
    assert kept(tmp_path) == ["mobilenet.h5"]
    monkeypatch.setattr(keras.utils, "get_file", None)  # from here on it is there
    np.testing.assert_allclose(create()(pixels()), want, atol=1e-6)
    network.save(tmp_path / "a.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "a.keras")(pixels()), want, atol=1e-6)
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    served = tf.saved_model.load(export.saved_model(network, tmp_path / "served")).signatures["serving_default"]
    np.testing.assert_allclose(served(image=tf.constant(pixels()))["probabilities"], want, atol=1e-6)
    phone = Interpreter(str(export.tflite(network, tmp_path / "a.tflite"))).get_signature_runner("serving_default")
    np.testing.assert_allclose(phone(image=pixels()[:1])["probabilities"], want[:1], atol=1e-5)


def test_by_hand_from_a_folder_or_a_file(released, shop, monkeypatch, tmp_path):
    row = released()
    monkeypatch.setattr(keras.utils, "get_file", None)
    for place in (shop[0], shop[0] / "mobilenet.h5"):
        monkeypatch.setenv("KERAS_CNNS_WEIGHTS", str(place))
        assert releases.fetch(row) == shop[0] / "mobilenet.h5"
    (tmp_path / "mobilenet.h5").write_bytes(b"another")
    monkeypatch.setenv("KERAS_CNNS_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match="sha256 is [0-9a-f]{64}, but .* damaged or another"):
        releases.fetch(row)
    monkeypatch.setenv("KERAS_CNNS_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no such file or folder; fetch http.*mobilenet.h5 .*by hand"):
        releases.fetch(row)


def test_a_damaged_download_is_refused_and_not_kept(released, tmp_path):
    row = released(digits="00000000")
    with pytest.raises(InputError, match="sha256 is .* 00000000"):
        releases.fetch(row)
    assert kept(tmp_path) == []


def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(released, tmp_path):
    row = released("gone.h5")
    with pytest.raises(InputError, match=r"could not be fetched .*404.*fetch http.*gone\.h5 \(its sha256 begins with .*"
                                         r"\) by hand and put it into .*keras_cnns, or into a folder that KERAS_CNNS_"):
        releases.fetch(row)
    assert kept(tmp_path) == []


def test_what_is_left_of_a_broken_download_is_fetched_anew(released, tmp_path):
    row = released()
    half = tmp_path / "home" / "keras_cnns" / ".fetching"
    half.mkdir(parents=True)
    (half / "mobilenet.h5").write_bytes(b"half")
    releases.fetch(row)
    assert kept(tmp_path) == ["mobilenet.h5"]


def test_a_file_damaged_in_the_cache_is_named(released):
    path = releases.fetch(released())
    path.write_bytes(b"rot")
    with pytest.raises(InputError, match=f"{re.escape(str(path))}: its sha256 .* delete it"):
        create()


def test_other_classes_none_and_other_channels(released, monkeypatch):
    released()
    whole, headless, few = create(), create(num_classes=None), create(num_classes=5)
    assert few.output_shape == (None, 5)
    trunk = keras.Model(few.input, few.get_layer(headless.layers[-1].name).output)
    np.testing.assert_allclose(trunk(pixels()), headless(pixels()), atol=1e-5)
    np.testing.assert_array_equal(create(num_classes=1000).get_weights()[-1], whole.get_weights()[-1])
    with pytest.raises(InputError, match="2 input channels; known are 1 .grey., 3"):
        keras_cnns.create_model(NAME, (*SIZE, 2), weights="imagenet")


def test_caffes_mean_is_the_networks_own_then(tmp_path):
    keras.utils.set_random_seed(0)
    theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=7)
    theirs.save(tmp_path / "resnet.h5")
    network = keras_cnns.create_model("resnet50", (64, 64, 3), 7, weights=tmp_path / "resnet.h5")
    image = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    want = theirs(keras.applications.resnet.preprocess_input(image.copy()))
    np.testing.assert_allclose(network(image), want, atol=1e-5)
    assert network.get_layer("conv4_x").output.shape[1:] == (4, 4, 1024)  # its layers are its own
    keras.Model(network.input, network.get_layer("conv4_x").output)


def test_a_detector_begins_with_its_backbones_weights():
    network = keras_cnns.create_model("ssd300_mobilenet_v1", weights=None)
    assert zoo.backbone_of("ssd300_mobilenet_v1") == "mobilenet_v1" and zoo.backbone_of("lenet5") is None
    classifier = keras_cnns.create_model("mobilenet_v1", num_classes=None)
    zoo._take(network, classifier)
    for layer in classifier.layers:
        ours = [each for each in carry.leaves(network) if each.name == layer.name]
        assert not layer.weights or all(map(np.array_equal, ours[0].get_weights(), layer.get_weights()))


def test_ssd_begins_with_parts_of_vgg16s_fully_connected_layers():
    dice = np.random.default_rng(0)
    theirs = {"fc6": [dice.random((25088, 4096), "float32"), dice.random(4096, "float32")],
              "fc7": [dice.random((4096, 4096), "float32"), dice.random(4096, "float32")]}
    donor = types.SimpleNamespace(name="vgg16", layers=[
        types.SimpleNamespace(name=name, weights=values, get_weights=lambda values=values: values)
        for name, values in theirs.items()])
    network = keras_cnns.create_model("ssd300_vgg16", weights=None)
    zoo._take(network, donor)
    kernel, bias = network.get_layer("fc6").get_weights()
    for y, x, channel, filters in ((0, 0, 0, 0), (1, 2, 7, 5), (2, 2, 511, 1023)):
        cell = (3 * y * 7 + 3 * x) * 512 + channel  # of a flattened map
        assert kernel[y, x, channel, filters] == theirs["fc6"][0][cell, 4 * filters]
        assert bias[filters] == theirs["fc6"][1][4 * filters]
    kernel, bias = network.get_layer("fc7").get_weights()
    assert kernel[0, 0, 3, 5] == theirs["fc7"][0][12, 20] and bias[5] == theirs["fc7"][1][20]


def test_released_detectors_batch_norm_adds_nothing_to_the_variance(monkeypatch):
    keras.utils.set_random_seed(0)
    name = "faster_rcnn_resnet50_fpn"
    network = keras_cnns.create_model(name, (64, 64, 3))
    state = {f"{carry.names.find(carry.detectors.pyramid(name, ()), layer.name)}.{carry.TORCH_PARTS[variable.name]}":
             variable.numpy() for layer in carry.leaves(network) for variable in layer.weights}
    monkeypatch.setattr(releases, "fetch", lambda release: release.file)
    state = {key: value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T for key, value in state.items()}
    fc6 = state["roi_heads.box_head.fc6.weight"]
    state["roi_heads.box_head.fc6.weight"] = fc6.reshape(-1, 7, 7, 256).transpose(0, 3, 1, 2).reshape(fc6.shape)
    monkeypatch.setattr(zoo.files, "read", lambda file: state)
    released = keras_cnns.create_model(name, (64, 64, 3), weights="coco")
    for ours, theirs in zip(released.weights, network.weights):
        shift = zoo.EPSILON if ours.name == "moving_variance" else 0
        np.testing.assert_allclose(ours, theirs - shift, atol=1e-9)
    norm = carry.leaf(released, "conv1_bn")
    assert norm.epsilon == zoo.EPSILON


def test_unknown_names():
    with pytest.raises(InputError, match="resnet50 has the releases 'imagenet'; give one, the path of a file"):
        keras_cnns.create_model("resnet50", weights="imagnet")
    with pytest.raises(InputError, match="lenet5 has no release"):
        keras_cnns.create_model("lenet5", weights="imagenet")
    with pytest.raises(InputError, match="No model 'resnet51'"):
        keras_cnns.create_model("resnet51", weights="imagenet")
    with pytest.raises(InputError, match=r"resnet51.pth: no such file"):
        keras_cnns.create_model("resnet50", weights="resnet51.pth")


def test_every_row_names_a_model_with_a_donor_of_its_kind():
    families = {"keras": carry.names.KERAS, "caffe": carry.caffe.FAMILIES, "torchvision": carry.STATE_DICTS}
    for name, rows in releases.RELEASES.items():
        assert name in list_models() and len({row.name for row in rows}) == len(rows)
        for row in rows:
            assert name in families[cards.donor_of(row)]
            assert re.fullmatch("https?://.*/[^/]+", row.origin)
            assert re.fullmatch("|(sha256:[0-9a-f]{8,64}|sha1:[0-9a-f]{40}|md5:[0-9a-f]{32})", row.digest)
    assert keras_cnns.model_info("vgg16").weights == ("imagenet", "imagenet_torchvision", "imagenet_caffe")


def test_classes_have_their_names():
    row = releases.RELEASES["resnet50"][0]
    assert len(weights.class_names(row)) == len(releases.data_names(row)) == 1000
    assert releases.data_names(row) == sorted(releases.data_names(row))
    assert dict(zip(releases.data_names(row), weights.class_names(row)))["n01531178"] == "goldfinch"
    names = weights.class_names(releases.RELEASES["faster_rcnn_resnet50_fpn"][0])
    assert len(names) == len(set(names)) == 90 and names[0] == "person" and names[89] == "toothbrush"
    assert sum(not name.startswith("none ") for name in names) == 80


def test_a_card_says_what_where_whose_and_how_well():
    card = cards.card("vgg16")
    for text in ("138,357,544 trainable", "weights='imagenet': ILSVRC2012 val: top-1 71.268", "licence CC BY 4.0",
                 "md5:64373286793e3c8b2b4e3219cbf3544b", "keras-cnns evaluate vgg16 --weights imagenet --data folder:",
                 "checked: largest difference of a logit"):
        assert text in card
    assert "weights" not in cards.card("lenet5")
    assert "evaluate fcn8s --weights voc --data voc:VOCdevkit:2011 --split seg11valid" in cards.card("fcn8s")
    assert "evaluate" not in cards.card("fcn_resnet50")  # COCO's pixels by VOC's names: no data set has them
