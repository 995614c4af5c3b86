"""One detector through every door: Keras, SavedModel (pixels and encoded), TFLite."""

import importlib
import io
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_cnns import export
from keras_cnns.data import batches, images, synthetic
from keras_cnns.errors import InputError
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector
from keras_cnns.models.detection import faster_rcnn
from keras_cnns.training import detect

SIZE = (96, 128)


@pytest.fixture(scope="module")
def pictures():
    return synthetic.samples(20)


@pytest.fixture(scope="module")
def graph(pictures):
    """A detector that has seen a little, so that its answers are not all alike."""
    keras.utils.set_random_seed(0)
    network = create_model("faster_rcnn_resnet18", (*SIZE, 3), 5)
    network.compile(keras.optimizers.Adam(1e-3), loss=faster_rcnn.losses())
    network.fit(batches.training(pictures[:8], SIZE, 8, 12, 0), shuffle=False, verbose=0)
    return detector(network)


@pytest.fixture(scope="module")
def version(graph, tmp_path_factory):
    return export.saved_model(graph, tmp_path_factory.mktemp("models") / "shapes", synthetic.CLASSES)


@pytest.fixture(scope="module")
def expected(graph, pictures):
    """Keras' detections, boxes in 0...1 of each image."""
    found = detect.detect(graph, pictures, progress=False)
    for sample, answer in zip(pictures, found):
        answer["boxes"] = answer["boxes"] / np.tile(sample.size[::-1], 2)
    assert sum(len(answer["scores"]) for answer in found) >= 20
    return found


def as_detections(answer):
    answer = {key: np.array(value) for key, value in answer.items()}
    return [{"boxes": answer["detection_boxes"][i, :int(n)][:, [1, 0, 3, 2]],
             "scores": answer["detection_scores"][i, :int(n)],
             "labels": answer["detection_classes"][i, :int(n)].astype(int)}
            for i, n in enumerate(answer["num_detections"])]


def assert_equal(expected, found):
    result = metrics.agreement(expected, found)
    assert result.same and result.iou > 0.99 and result.score < 1e-4, result


def test_encoded_images_of_any_size_give_what_keras_gives(version, pictures, expected):
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["jpeg"](jpeg=tf.constant([s.source for s in pictures]))
    assert_equal(expected, as_detections(answer))


def test_pixels_of_any_size_give_what_keras_gives(version, pictures, expected):
    loaded = tf.saved_model.load(str(version))
    for sample, want in list(zip(pictures, expected))[:4]:
        image = images.decode(sample.source, sample.name).astype("float32")
        assert_equal([want], as_detections(loaded.signatures["serving_default"](image=tf.constant(image[None]))))


def test_what_lies_beside_the_image_is_not_answered(graph, version):
    """A narrow strip fills a sliver of the canvas; the rest is margin."""
    strip = np.random.default_rng(0).uniform(0, 255, (1, 90, 12, 3)).astype("float32")
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](image=tf.constant(strip))
    found, = as_detections(answer)
    assert ((found["boxes"][:, 2:] - found["boxes"][:, :2]) * (12, 90)).min(initial=9) >= 1
    rest = {key: np.array(value)[0, len(found["scores"]):] for key, value in answer.items() if key != "num_detections"}
    assert all((value == 0).all() for value in rest.values())


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_any_batch_gives_the_same_rows(version, pictures, expected, batch):
    function = tf.saved_model.load(str(version)).signatures["jpeg"]
    assert_equal(expected[:batch], as_detections(function(jpeg=tf.constant([s.source for s in pictures[:batch]]))))


def test_tflite_gives_what_keras_gives_with_built_in_ops_only(graph, pictures, tmp_path):
    """On pictures of the canvas's shape: in a margin all scores are equal, and ties may fall either way."""
    from ai_edge_litert.interpreter import Interpreter

    path = export.tflite(graph, tmp_path / "shapes.tflite")
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()  # would fail on an op that is not built in
    names = {op["op_name"] for op in interpreter._get_ops_details()}
    assert not [name for name in names if name.startswith(("Flex", "Custom"))] and "CONV_2D" in names
    runner, expected, found = interpreter.get_signature_runner("serving_default"), [], []
    for sample in pictures:
        canvas, _ = images.letterbox(images.decode(sample.source, sample.name)[:120, :160], SIZE)
        answer = graph.predict(canvas[None], verbose=0)
        n = int(answer["count"][0])
        expected.append({"boxes": answer["boxes"][0, :n] / np.tile(SIZE[::-1], 2),
                         "scores": answer["scores"][0, :n], "labels": answer["labels"][0, :n]})
        found += as_detections(runner(image=canvas[None].numpy()))
    assert sum(len(answer["scores"]) for answer in expected) >= 20
    assert_equal(expected, found)


@pytest.mark.slow
@pytest.mark.parametrize("quantization, share", [("float16", 0.6), ("dynamic", 0.35)])
def test_quantized_files_are_smaller_and_run(graph, tmp_path, quantization, share):
    whole = export.tflite(graph, tmp_path / "a.tflite")
    small = export.tflite(graph, tmp_path / "b.tflite", quantization)
    assert small.stat().st_size < share * whole.stat().st_size


def test_a_file_that_differs_is_not_written(graph, tmp_path, monkeypatch):
    module = importlib.import_module("keras_cnns.export.tflite")  # the function hides its file of the same name
    monkeypatch.setitem(module.TOLERANCE, None, -1.0)
    with pytest.raises(RuntimeError, match="differs"):
        export.tflite(graph, tmp_path / "a.tflite")
    assert list(tmp_path.iterdir()) == []


def tiny():
    """A graph with a detector's outputs and hardly a weight."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    scores = keras.layers.Dense(2, "sigmoid")(x)
    boxes = keras.layers.Reshape((2, 4))(keras.layers.Dense(8)(x))
    labels = keras.ops.cast(scores > 0, "int32")
    return keras.Model(image, {"boxes": boxes, "scores": scores, "labels": labels, "count": keras.ops.sum(labels, -1)})


def test_versions_count_up_and_nothing_half_written_is_left(tmp_path, monkeypatch):
    graph = tiny()
    first = export.saved_model(graph, tmp_path / "m")
    (tmp_path / "m" / "7").mkdir()
    assert first.name == "1" and export.saved_model(graph, tmp_path / "m").name == "8"
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importlib.import_module("keras_cnns.export.saved_model"), "_write_warm_up", fail)
    with pytest.raises(OSError, match="No space left"):
        export.saved_model(graph, tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["1", "7", "8"]


def test_a_folder_that_cannot_be_written_is_named_in_one_line(graph, tmp_path):
    (tmp_path / "file").write_text("")
    for write in (lambda: export.saved_model(graph, tmp_path / "file" / "m"),
                  lambda: export.tflite(graph, tmp_path / "file" / "m.tflite")):
        with pytest.raises(InputError, match="cannot be written") as error:
            write()
        assert "\n" not in str(error.value)


def test_a_detectors_network_is_no_graph_to_export(tmp_path):
    with pytest.raises(InputError, match=r"give the graph that keras_cnns\.detector\(network\) returns"):
        export.saved_model(create_model("faster_rcnn_resnet18", (64, 64, 3), num_classes=2), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_extra_assets_hold_labels_and_requests_that_warm_up(version):
    from tensorflow_serving.apis import prediction_log_pb2

    extra = pathlib.Path(version) / "assets.extra"
    assert (extra / "labels.txt").read_text().split() == list(synthetic.CLASSES)
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy())
            for record in tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))]
    signatures = {log.predict_log.request.model_spec.signature_name for log in logs}
    assert signatures == {"serving_default", "jpeg"}
    loaded = tf.saved_model.load(str(version))
    for log in logs:
        request = log.predict_log.request
        feeds = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        assert loaded.signatures[request.model_spec.signature_name](**feeds)["num_detections"].shape == (1,)


def test_bytes_that_are_no_image_name_their_place_in_the_batch(version, pictures):
    function = tf.saved_model.load(str(version)).signatures["jpeg"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[1\]"):
        function(jpeg=tf.constant([pictures[0].source, b"hello", pictures[1].source]))


@pytest.mark.parametrize("mode, kind", [("L", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG")])
def test_grey_and_transparent_images_are_taken(version, mode, kind):
    encoded = io.BytesIO()
    Image.new("RGB", (50, 40), (200, 10, 10)).convert(mode).save(encoded, kind)
    function = tf.saved_model.load(str(version)).signatures["jpeg"]
    assert function(jpeg=tf.constant([encoded.getvalue()]))["detection_boxes"].shape == (1, 100, 4)


def test_the_saved_model_runs_without_keras(version):
    program = ("import sys, tensorflow as tf; sys.modules['keras'] = None\n"
               f"f = tf.saved_model.load({str(version)!r}).signatures['serving_default']\n"
               "print(f(image=tf.zeros([2, 50, 70, 3]))['num_detections'].shape)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "(2,)", done.stderr[-2000:]
