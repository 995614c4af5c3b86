"""A classifier slid over an image against the same classifier on every window cut out."""

import keras
import numpy as np
import pytest

from keras_cnns import export
from keras_cnns.data import synthetic
from keras_cnns.errors import InputError
from keras_cnns.models import create_model
from keras_cnns.models.detection import sliding_window
from keras_cnns.ops import windows
from keras_cnns.training import detect


@pytest.fixture(scope="module")
def classifier():
    """LeNet-5 with lively weights: it does not pad its maps."""
    keras.utils.set_random_seed(0)
    network = create_model("lenet5_dense", num_classes=4)
    network.get_layer("output").kernel.assign(1000 * network.get_layer("output").kernel)
    return network


def cut_out(image, stride, side=32):
    """Every window of an image `[H, W, C]`, row by row."""
    rows, columns = windows.places(image.shape[:2], (side, side), stride)
    return np.stack([image[stride * i:stride * i + side, stride * j:stride * j + side]
                     for i in range(rows) for j in range(columns)]), rows, columns


def averaging():
    """A classifier without padding that ends in an average, whose last layers may be free of bias and with dropout."""
    image = x = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(8, 5, 2, activation="relu")(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", use_bias=False)(x), name="averaging")


def test_one_pass_equals_classifying_each_window(classifier):
    image = np.random.default_rng(0).uniform(0, 255, (61, 90, 1)).astype("float32")
    keras.utils.set_random_seed(1)
    for network in (classifier, averaging()):
        sliding = sliding_window.convolutional(network)
        stride = sliding_window.stride_of(sliding, (32, 32))
        crops, rows, columns = cut_out(image, stride)
        want = network.predict(crops, verbose=0).reshape(rows, columns, -1)
        found = np.array(sliding(image[None]))[0]
        assert stride == 4 and want.std() > 1e-3
        np.testing.assert_allclose(found, want, atol=1e-4)


def test_a_padding_classifier_slides_too_and_keeps_its_answer_at_its_own_size():
    for name, side in (("alexnet_owt", 63), ("resnet18", 64), ("mobilenet_v1_025", 64)):
        network = create_model(name, (side, side, 3), 3)
        whole = sliding_window.convolutional(network)
        image = np.random.default_rng(0).uniform(0, 255, (1, side, side, 3)).astype("float32")
        np.testing.assert_allclose(np.array(whole(image))[0, 0], network(image), atol=1e-4)
        assert sliding_window.stride_of(whole, (side, side)) == 32
        assert whole.compute_output_shape((1, side + 64, side + 32, 3)) == (1, 3, 2, 3)


def test_the_detector_finds_what_each_window_of_the_pyramid_says(classifier):
    image = np.random.default_rng(1).uniform(0, 255, (1, 60, 80, 1)).astype("float32")
    scales = (1.0, 0.6)
    found = sliding_window.detector(classifier, (60, 80), scales, background=1, iou_threshold=1.0, score_threshold=0.0,
                                    max_detections=500).predict(image, verbose=0)
    scores = []
    for height, width in windows.resized((60, 80), scales):
        resized = np.array(keras.ops.image.resize(image, (height, width)))[0]
        scores.append(classifier.predict(cut_out(resized, 4)[0], verbose=0))
    scores = np.delete(np.concatenate(scores), 1, axis=1)
    boxes = windows.boxes((60, 80), (32, 32), 4, scales)
    assert found["count"][0] == scores.size
    seen = {(label, *box): score for box, score, label in zip(
        found["boxes"][0].round(2).tolist() and map(tuple, found["boxes"][0].round(2).tolist()), found["scores"][0],
        found["labels"][0])}
    for (i, k), score in np.ndenumerate(scores):
        assert seen[(k + 1, *boxes[i].round(2).tolist())] == pytest.approx(score, abs=1e-4)


def test_it_lives_in_a_file_and_nms_leaves_one_of_a_kind(classifier, tmp_path):
    graph = sliding_window.detector(classifier, (60, 80), score_threshold=0.1)
    image = np.random.default_rng(1).uniform(0, 255, (2, 60, 80, 1)).astype("float32")
    want = graph.predict(image, verbose=0)
    graph.save(tmp_path / "detector.keras")
    found = keras.saving.load_model(tmp_path / "detector.keras").predict(image, verbose=0)
    for key in want:
        np.testing.assert_array_equal(found[key], want[key])
    assert 0 < want["count"].max() < 100


@pytest.mark.slow
def test_of_a_grey_classifier_it_is_evaluated_and_exported(classifier, tmp_path):
    import tensorflow as tf

    graph = sliding_window.detector(classifier, (60, 80), score_threshold=0.1, max_detections=10)
    samples = synthetic.samples(2)
    found = detect.detect(graph, samples, progress=False)
    served = tf.saved_model.load(str(export.saved_model(graph, tmp_path / "m"))).signatures["jpeg"]
    for sample, want in zip(samples, found):
        answer = served(jpeg=tf.constant([sample.source]))
        n = int(answer["num_detections"][0])
        assert n == len(want["scores"]) > 0
        np.testing.assert_allclose(answer["detection_scores"][0, :n], want["scores"], atol=1e-4)
    assert export.tflite(graph, tmp_path / "m.tflite").stat().st_size > 0


def test_what_cannot_slide_is_refused(classifier):
    with pytest.raises(InputError, match="output cannot slide"):
        sliding_window.convolutional(create_model("lenet5"))
    with pytest.raises(InputError, match="fixed size"):
        sliding_window.convolutional(create_model("resnet18", (None, None, 3), 3))
    with pytest.raises(InputError, match="No window of 32x32 pixels fits into 60x20"):
        sliding_window.detector(classifier, (60, 20))
