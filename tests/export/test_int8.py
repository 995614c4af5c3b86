"""TFLite in 8 bits: classifiers, segmenters with and without unpooling, detectors, and what cannot be."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnns import cli, export
from keras_cnns.data import images, synthetic
from keras_cnns.errors import InputError
from keras_cnns.export import int8
from keras_cnns.layers import MaxPoolWithArgmax, MaxUnpool
from keras_cnns.models import create_model, detector
from tests.export.test_classifiers import photo, tiny


def unpooling(shape=(32, 48, 3)):
    """A segmenter of two convolutions and an unpooling."""
    image = keras.Input(shape, name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(keras.layers.Rescaling(1 / 64, -2.0)(image))
    pooled, places = MaxPoolWithArgmax()(x)
    pooled = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(pooled)
    x = keras.layers.Conv2D(6, 3, padding="same")(MaxUnpool()(pooled, places))
    return keras.Model(image, keras.layers.Activation("softmax", name="predictions")(x), name="unpooling")


def runner(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()  # would fail on an op that is not built in
    return interpreter.get_signature_runner("serving_default")


@pytest.mark.parametrize("make", [pytest.param(lambda: tiny("predictions"), marks=pytest.mark.slow), unpooling])
def test_in_8_bits_it_gives_nearly_what_keras_gives(make, tmp_path):
    keras.utils.set_random_seed(0)
    network = make()
    shape = network.input_shape[1:]
    seen = [photo(*shape, seed=seed) for seed in range(20)]
    path = export.tflite(network, tmp_path / "a.tflite", "int8", seen)
    run = runner(path)
    for image in (photo(*shape, seed=100), *seen[:3]):
        want = network.predict(image[None].astype("float32"), verbose=0)
        found = run(image=image[None].astype("float32"))["probabilities"]
        assert found.dtype == "float32" and np.abs(found - want).mean() < 0.02
    assert not int8.ops_of(path.read_bytes()) & {"READ_VARIABLE", "GATHER"}


def test_images_come_as_arrays_batches_or_samples(tmp_path):
    module = importlib.import_module("keras_cnns.export.tflite")
    kind = module.answers.kind_of(tiny("predictions"))
    large, fitting = photo(50, 40), photo(32, 32, seed=1)
    want = [images.central(large, (32, 32, 3)).numpy(), fitting]
    dataset = tf.data.Dataset.from_generator(lambda: ({"image": i} for i in (large, fitting)), output_signature={
        "image": tf.TensorSpec((None, None, 3), tf.uint8)})
    for given in ([large, fitting], [{"image": large}, fitting], dataset):
        np.testing.assert_array_equal(module._canvases(kind, given), want)
    many = module._canvases(kind, iter([np.stack([fitting] * 70)] * 3))
    assert many.shape == (module.REPRESENTATIVE, 32, 32, 3) and many.dtype == "float32"


@pytest.mark.parametrize("quantization, representative, says", [
    ("int8", None, "takes images such as the network will see"),
    ("dynamic", [photo(32, 32)], "the others none"),
    ("int8", [], "not one image"),
    ("int8", [np.zeros((32, 32))], r"\(32, 32\); give images"),
    ("int4", None, "choose from None, 'float16', 'dynamic', 'int8'")])
def test_what_cannot_be_is_one_line_and_leaves_nothing(quantization, representative, says, tmp_path):
    with pytest.raises(InputError, match=says) as error:
        export.tflite(tiny("predictions"), tmp_path / "a.tflite", quantization, representative)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_conversion_that_fails_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "__name__", "keras_cnns.nowhere")
    with pytest.raises(RuntimeError, match="the conversion to 8 bits failed: .*No module named") as error:
        export.tflite(tiny("predictions"), tmp_path / "a.tflite", "int8", [photo(32, 32)])
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_detectors_boxes_stay_in_float32(tmp_path):
    keras.utils.set_random_seed(0)
    graph = detector(create_model("faster_rcnn_resnet18", (96, 96, 3), 3), score_threshold=0.01, max_detections=20)
    seen = [images.decode(sample.source, sample.name) for sample in synthetic.samples(10)]
    path = export.tflite(graph, tmp_path / "a.tflite", "int8", seen)
    assert path.stat().st_size < 1.2 * graph.count_params()
    canvas, _ = images.letterbox(seen[0], (96, 96))
    run = runner(path)
    whole = runner(export.tflite(graph, tmp_path / "b.tflite"))
    want, found = (np.sort(each(image=canvas[None].numpy())["detection_scores"]) for each in (whole, run))
    np.testing.assert_allclose(found, want, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet_same", "enet"])
def test_a_trained_segmenter_labels_nearly_as_before(name, tmp_path, monkeypatch):
    from keras_cnns.models.segmentation import unet

    monkeypatch.setattr(unet, "FILTERS", 8)
    keras.utils.set_random_seed(0)
    network = create_model(name, (64, 64, 3), 3)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (16, 4, 4)).repeat(16, 1).repeat(16, 2)
    pictures = (np.eye(3)[labels] * 255 * rng.uniform(0.6, 1, (16, 64, 64, 1))).astype("float32")
    network.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    network.fit(pictures, labels, epochs=60, batch_size=8, verbose=0)
    run = runner(export.tflite(network, tmp_path / "a.tflite", "int8", pictures))
    before = network.predict(pictures, verbose=0).argmax(-1)
    after = np.concatenate([run(image=picture[None])["labels"] for picture in pictures])
    print(name, "agree", (before == after).mean(), "right", (before == labels).mean(), (after == labels).mean())
    assert (before == labels).mean() > 0.8 and (before == after).mean() > 0.95


@pytest.mark.slow
def test_from_the_command_line(tmp_path, capsys):
    network = create_model("mobilenet_v1_025", (32, 32, 3), 3)
    network.save(tmp_path / "network.keras")
    call = ["export", str(tmp_path), str(tmp_path / "a.tflite"), "--quantization", "int8"]
    assert cli.main(call) == 2 and "belong together" in capsys.readouterr().err
    assert cli.main([*call, "--representative", "synthetic:6"]) == 0
    assert (tmp_path / "a.tflite").stat().st_size < 1.5 * network.count_params()
