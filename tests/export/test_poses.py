"""A network of poses through every door: Keras, SavedModel (pixels and encoded), server, command line, TFLite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnns import cli, export
from keras_cnns.data import images, mpii, persons
from keras_cnns.data.samples import Sample
from keras_cnns.errors import InputError
from keras_cnns.models import create_model, detector
from keras_cnns.serving import Client
from keras_cnns.serving.server import Server
from keras_cnns.training import keypoints

SIZES = (64, 128), (90, 50), (200, 120)
pytestmark = pytest.mark.usefixtures("shallow_hourglass")


@pytest.fixture(scope="module")
def graph():
    keras.utils.set_random_seed(0)
    return detector(create_model("hourglass2_64", (64, 128, 3)))


@pytest.fixture(scope="module")
def files():
    rng = np.random.default_rng(0)
    return [tf.io.encode_png(tf.cast(tf.image.resize(rng.integers(0, 256, (9, 9, 3)), size), tf.uint8)).numpy()
            for size in SIZES]


@pytest.fixture(scope="module")
def expected(graph, files):
    """(y, x) in 0...1 of the whole images, and heats."""
    found = keypoints.predict(graph, [Sample(str(i), file) for i, file in enumerate(files)], progress=False)
    return found[..., 1::-1] / np.array(SIZES)[:, None], found[..., 2]


@pytest.fixture(scope="module")
def version(graph, tmp_path_factory):
    return export.saved_model(graph, tmp_path_factory.mktemp("models") / "pose", mpii.KEYPOINTS)


def assert_answers(answer, keypoints, scores):
    assert set(answer) == {"keypoints", "keypoint_scores"}
    np.testing.assert_allclose(answer["keypoints"], keypoints, atol=1e-5)
    np.testing.assert_allclose(answer["keypoint_scores"], scores, atol=1e-4 * np.abs(scores).max())


def test_both_signatures_give_what_keras_gives(version, files, expected):
    signatures = tf.saved_model.load(str(version)).signatures
    assert_answers(signatures["jpeg"](jpeg=tf.constant(files)), *expected)
    for i, file in enumerate(files):
        image = tf.cast(images.decode(file, "file"), tf.float32)
        assert_answers(signatures["serving_default"](image=tf.stack([image, image])),
                       *(np.stack([part[i]] * 2) for part in expected))


@pytest.mark.slow
def test_tflite_gives_what_keras_gives_with_built_in_ops_only(graph, files, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(export.tflite(graph, tmp_path / "pose.tflite"))).get_signature_runner("serving_default")
    for file in files:
        image = images.decode(file, "file")
        canvas = persons.seen(tf.constant(image), persons.whole(image.shape[:2], (64, 128)), (64, 128)).numpy()[None]
        found = graph.predict(canvas, verbose=0)["keypoints"]
        assert_answers(runner(image=canvas), found[..., 1::-1] / (64, 128), found[..., 2])


def test_it_is_served_and_asked(version, files, expected, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(files[1])
    with Server(version.parent.parent, port=0) as server:
        assert not server.failures
        with Client(f"127.0.0.1:{server.port}") as client:
            assert_answers(client.predict("pose", files), *expected)
        labels = version / "assets.extra" / "labels.txt"
        assert cli.main(["query", f"127.0.0.1:{server.port}", "pose", str(tmp_path / "a.png"), "--labels",
                         str(labels)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "of 16 joints" in head and [row.split("\t")[1] for row in rows] == list(mpii.KEYPOINTS)
    np.testing.assert_allclose(float(rows[3].split("\t")[3]), expected[0][1, 3, 0], atol=1e-3)


def test_there_is_a_label_a_joint_and_a_network_to_train_is_not_exported(graph, tmp_path):
    with pytest.raises(InputError, match="5 labels for 16"):
        export.saved_model(graph, tmp_path / "pose", ["joint"] * 5)
    with pytest.raises(InputError, match="keras_cnns.detector"):
        export.saved_model(create_model("hourglass2_64", (64, 64, 3)), tmp_path / "pose")
