"""A classifier in the embedded server, over gRPC: our client and the command line."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnns import cli, export
from keras_cnns.data import images
from keras_cnns.models import create_model
from keras_cnns.serving import Client
from keras_cnns.serving.server import Server

LABELS = ["apple", "pear", "plum"]


@pytest.fixture(scope="module")
def graph():
    keras.utils.set_random_seed(0)
    return create_model("resnet18", (32, 32, 3), num_classes=3)


@pytest.fixture(scope="module")
def server(graph, tmp_path_factory):
    """Live, so that its warm-up requests have been answered."""
    folder = tmp_path_factory.mktemp("models")
    export.saved_model(graph, folder / "fruit", LABELS)
    with Server(folder, port=0) as server:
        yield server


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_pixels_and_files_are_answered_as_keras_answers(server, graph):
    batch = noise(3, 32, 32, 3)
    photo = noise(50, 70, 3)
    with Client(f"127.0.0.1:{server.port}") as client:
        answer = client.predict("fruit", batch)
        want = graph.predict(batch.astype("float32"), verbose=0)
        np.testing.assert_allclose(answer["probabilities"], want, atol=1e-5)
        assert answer["classes"].tolist() == want.argmax(-1).tolist()
        encoded = client.predict("fruit", [tf.io.encode_png(image).numpy() for image in (photo, batch[0])])
        prepared = np.stack([images.central(photo, (32, 32, 3)), batch[0]])
        np.testing.assert_allclose(encoded["probabilities"], graph.predict(prepared, verbose=0), atol=1e-5)
        assert client.metadata("fruit")["jpeg"]["outputs"] == {
            "probabilities": ("float32", (None, 3)), "classes": ("int32", (None,))}


def test_query_prints_the_best_classes(server, graph, capsys, tmp_path):
    image, labels = tmp_path / "a.png", server.folder / "fruit" / "1" / "assets.extra" / "labels.txt"
    image.write_bytes(tf.io.encode_png(noise(32, 32, 3)).numpy())
    arguments = ["query", f"127.0.0.1:{server.port}", "fruit", str(image)]
    assert cli.main([*arguments, "--labels", str(labels)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    want = graph.predict(noise(1, 32, 32, 3).astype("float32"), verbose=0)[0]
    assert str(image) in head
    assert [row.split("\t")[1:] for row in rows] == [
        [LABELS[i], f"{want[i]:.3f}"] for i in np.argsort(-want)]
    assert cli.main(arguments) == 0
    assert [row.split("\t")[1] for row in capsys.readouterr().out.splitlines()[1:]] == [
        str(i) for i in np.argsort(-want)]
