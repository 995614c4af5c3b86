"""One segmenter through every door: Keras, SavedModel (pixels and encoded), TFLite, and a server's client."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from PIL import Image

from keras_cnns import export
from keras_cnns.errors import InputError
from keras_cnns.models import create_model
from keras_cnns.models.segmentation import fcn, multiscale, unet
from keras_cnns.training import segment

SIZES = (64, 64), (40, 90), (130, 70)
NAMES = ["background", "one", "two"]


def photo(height, width, channels=3, seed=0):
    """Coarse coloured noise, uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 5, channels))
    return tf.image.resize(noise, (height, width)).numpy().round().astype("uint8")


def network(name, input_shape):
    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "FILTERS", 4)
        return create_model(name, input_shape, 3)


@pytest.fixture(scope="module")
def graph():
    return network("unet_same", (64, 64, 3))


@pytest.fixture(scope="module")
def version(graph, tmp_path_factory):
    return export.saved_model(graph, tmp_path_factory.mktemp("models") / "three", NAMES)


def signatures(path):
    return tf.saved_model.load(str(path)).signatures


def png(image):
    return tf.io.encode_png(image).numpy()


def assert_answers(answer, want):
    assert set(answer) == {"probabilities", "labels"} and np.array(answer["labels"]).dtype == "int32"
    np.testing.assert_allclose(answer["probabilities"], want, rtol=0, atol=1e-5)
    assert (np.asarray(answer["labels"]) == want.argmax(-1)).mean() > 0.999


def test_pixels_of_any_size_give_what_keras_gives(graph, version):
    function = signatures(version)["serving_default"]
    for size in SIZES:
        images = np.stack([photo(*size, seed=seed) for seed in range(2)])
        want = np.stack([segment.probabilities(graph, image) for image in images])
        assert want.shape == (2, *size, 3) and want.argmax(-1).std() > 0
        assert_answers(function(image=tf.constant(images, tf.float32)), want)


def assert_label_maps(maps, want):
    for encoded, probabilities in zip(maps, want, strict=True):
        with Image.open(io.BytesIO(encoded)) as picture:
            assert (picture.format, picture.mode) == ("PNG", "L")
            assert (np.asarray(picture) == probabilities.argmax(-1)).mean() > 0.999


def test_encoded_images_of_any_size_give_label_maps_of_theirs(graph, version):
    images = [photo(*size, seed=seed) for seed, size in enumerate(SIZES)]
    answer = signatures(version)["jpeg"](jpeg=tf.constant([png(image) for image in images]))
    assert set(answer) == {"label_maps"}
    assert_label_maps(answer["label_maps"].numpy(), [segment.probabilities(graph, image) for image in images])


def test_a_server_and_its_client_hand_them_on(graph, version):
    from keras_cnns.serving import Client
    from keras_cnns.serving.server import Server

    images = [photo(*size, seed=seed) for seed, size in enumerate(SIZES[1:])]
    with Server(version.parents[1], port=0) as server, Client(f"127.0.0.1:{server.port}") as client:
        want = [segment.probabilities(graph, image) for image in images]
        assert_answers(client.predict("three", images[0]), want[0][None])
        assert_label_maps(client.predict("three", [png(image) for image in images])["label_maps"], want)
    assert (version / "assets.extra" / "labels.txt").read_text().split() == NAMES


def test_tflite_gives_what_keras_gives(graph, tmp_path):
    path = export.tflite(graph, tmp_path / "three.tflite")
    image = photo(64, 64)[None].astype("float32")
    answer = litert.Interpreter(str(path)).get_signature_runner("serving_default")(image=image)
    assert_answers(answer, graph.predict(image, verbose=0))


def test_a_grey_network_that_answers_for_the_middle_is_served_in_tiles(tmp_path):
    graph = network("unet", (252, 220, 1))
    version = export.saved_model(graph, tmp_path / "tiles", NAMES)
    image = photo(100, 80)
    want = segment.probabilities(graph, image)
    assert want.shape == (100, 80, 3)
    answer = signatures(version)["jpeg"](jpeg=tf.constant([png(image)]))
    assert_label_maps(answer["label_maps"].numpy(), [want])
    grey = tf.constant(image[None] @ np.float32([[0.299], [0.587], [0.114]]), tf.float32)
    assert_answers(signatures(version)["serving_default"](image=grey), want[None])


@pytest.mark.slow
@pytest.mark.parametrize("name, shape", [
    ("fcn32s", (64, 96, 3)), ("fcn16s", (64, 96, 3)), ("fcn8s", (64, 96, 3)), ("fcn_resnet50_aux", (65, 96, 3)),
    ("fcn", (65, 96, 3)), ("deconvnet_16", (224, 224, 3)), ("enet", (64, 96, 3)), ("multiscale_convnet", (64, 96, 3)),
    ("recurrent_cnn2_aux", (64, 96, 3))])
def test_every_network_answers_alike_through_every_door(name, shape, tmp_path, monkeypatch):
    monkeypatch.setattr(fcn, "WIDTH", 16)
    monkeypatch.setattr(multiscale, "HIDDEN", 16)
    keras.utils.set_random_seed(0)
    graph = create_model(name, shape, 3)
    for layer in graph.layers:  # scores that begin as zeros
        if layer.name.startswith("score_") and layer.weights:
            layer.set_weights([np.random.default_rng(0).normal(0, 0.05, w.shape) for w in layer.weights])
    image = photo(*shape[:2])
    want = segment.probabilities(graph, image)
    version = export.saved_model(graph, tmp_path / name, NAMES)
    assert_answers(signatures(version)["serving_default"](image=tf.constant(image[None], tf.float32)), want[None])
    answer = litert.Interpreter(str(export.tflite(graph, tmp_path / "a.tflite"))).get_signature_runner(
        "serving_default")(image=image[None].astype("float32"))
    assert_answers(answer, want[None])


def test_names_of_another_number_than_the_classes_are_refused(graph, tmp_path):
    with pytest.raises(InputError, match="2 labels for 3 classes"):
        export.saved_model(graph, tmp_path / "x", NAMES[1:])
