"""One classifier through every door: Keras, SavedModel (pixels and encoded), TFLite; and networks of one output."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnns import export
from keras_cnns.data import images, views
from keras_cnns.errors import InputError
from keras_cnns.export import answers
from keras_cnns.models import create_model

SIZES = (32, 32), (20, 28), (45, 33), (120, 90), (33, 200)


def photo(height, width, channels=3, seed=0):
    """Coarse coloured noise, uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, channels))
    return tf.image.resize(noise, (height, width)).numpy().round().astype("uint8")


def tiny(*outputs, shape=(32, 32, 3), groups=1, activation="softmax"):
    """A network of two convolutions with outputs of the given names, of 6 classes each."""
    image = keras.Input(shape, name="image")
    x = keras.layers.Rescaling(1 / 64, -2.0)(image)
    x = keras.layers.Conv2D(32, 3, 2, activation="relu")(x)
    x = keras.layers.Conv2D(128, 3, 2, groups=groups, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    heads = {name: keras.layers.Activation(activation, name=name)(keras.layers.Dense(6)(x)) for name in outputs}
    return keras.Model(image, heads if len(outputs) > 1 else heads[outputs[0]], name="tiny")


def signatures(path):
    return tf.saved_model.load(str(path)).signatures


@pytest.fixture(scope="module")
def graph():
    keras.utils.set_random_seed(0)
    network = create_model("resnet18", (32, 32, 3), num_classes=3)
    for variable in network.get_layer("conv1_bn").weights:  # as if it had been trained
        variable.assign(variable + 0.3 * np.random.default_rng(0).random(variable.shape))
    return network


@pytest.fixture(scope="module")
def pictures():
    return [photo(*size, seed=seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def expected(graph, pictures):
    found = graph.predict(np.stack([images.central(image, (32, 32, 3)) for image in pictures]), verbose=0)
    assert np.ptp(found, 0).max() > 0.01  # not all alike
    return found


@pytest.fixture(scope="module")
def version(graph, tmp_path_factory):
    return export.saved_model(graph, tmp_path_factory.mktemp("models") / "three", ["one", "two", "three"])


def assert_answers(answer, expected):
    assert set(answer) == {"probabilities", "classes"} and np.array(answer["classes"]).dtype == "int32"
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(answer["classes"], expected.argmax(-1))


@pytest.mark.parametrize("number", [1, 5])
def test_encoded_images_of_any_size_give_what_keras_gives(version, pictures, expected, number):
    encoded = tf.constant([tf.io.encode_png(image).numpy() for image in pictures[:number]])
    assert_answers(signatures(version)["jpeg"](jpeg=encoded), expected[:number])


def test_pixels_of_any_size_give_what_keras_gives(version, graph, pictures, expected):
    function = signatures(version)["serving_default"]
    for image, want in zip(pictures, expected):
        assert_answers(function(image=tf.constant(image[None], tf.float32)), want[None])
    batch = np.stack([photo(32, 32, seed=seed) for seed in range(3)]).astype("float32")
    assert_answers(function(image=tf.constant(batch)), graph.predict(batch, verbose=0))


def test_labels_stand_a_line_a_class(version):
    assert (version / "assets.extra" / "labels.txt").read_text() == "one\ntwo\nthree\n"


def test_tflite_gives_what_keras_gives_with_built_in_ops_only(graph, pictures, expected, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(export.tflite(graph, tmp_path / "three.tflite")))
    interpreter.allocate_tensors()  # would fail on an op that is not built in
    runner = interpreter.get_signature_runner("serving_default")
    for image, want in zip(pictures, expected):
        canvas = images.central(image, (32, 32, 3)).numpy()
        assert_answers(runner(image=canvas[None]), want[None])


@pytest.mark.parametrize("groups", [1, 2])
def test_quantized_files_are_smaller_and_run(tmp_path, groups):
    keras.utils.set_random_seed(0)
    network = tiny("predictions", groups=groups)
    whole, half, quarter = (export.tflite(network, tmp_path / f"{kind}.tflite", kind).stat().st_size
                            for kind in (None, "float16", "dynamic"))
    assert half < 0.7 * whole and quarter < (0.6 if groups == 1 else 1) * whole


def test_classes_that_change_places_are_a_difference():
    kind = answers.kind_of(tiny("predictions"))
    want = {"probabilities": np.array([[0.001, 0.002, 0.002]])}
    got = {"probabilities": np.array([[0.002, 0.001, 0.002]])}
    assert kind.difference(want, want) == 0 and kind.difference(want, got) == 0.5


def test_auxiliary_heads_stay_behind(tmp_path):
    network = tiny("aux1", "predictions", "aux2")
    image = photo(32, 32).astype("float32")[None]
    answer = signatures(export.saved_model(network, tmp_path / "m"))["serving_default"](image=tf.constant(image))
    assert_answers(answer, network.predict(image, verbose=0)["predictions"])


def test_logits_are_not_called_probabilities(tmp_path):
    found = signatures(export.saved_model(tiny("predictions", activation="linear"), tmp_path / "m"))
    assert set(found["jpeg"].structured_outputs) == {"logits", "classes"}


@pytest.mark.parametrize("policy", [pytest.param("mixed_float16", marks=pytest.mark.slow), "mixed_bfloat16"])
def test_of_a_network_in_half_precision_the_tflite_file_is_one_of_its_weights_in_float32(policy, graph, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    half = create_model("resnet18", (32, 32, 3), num_classes=3, dtype_policy=policy)
    half.set_weights(graph.get_weights())
    written = [export.tflite(network, tmp_path / f"{i}.tflite") for i, network in enumerate((half, graph))]
    runners = [Interpreter(str(path)).get_signature_runner("serving_default") for path in written]
    found, want = (runner(image=photo(32, 32)[None].astype("float32"))["probabilities"] for runner in runners)
    np.testing.assert_allclose(found, want, atol=1e-6)
    assert half.compute_dtype == policy.removeprefix("mixed_")


def test_what_a_layer_in_half_precision_made_of_its_weights_is_in_the_file_too(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    normalization = keras.layers.Normalization(dtype="mixed_bfloat16")
    normalization.adapt(photo(32, 32)[None].astype("float32"))
    image = keras.Input((32, 32, 3), name="image")
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="features")(normalization(image)))
    network.compile("sgd", loss=lambda y, p: p)  # no name that a file could tell
    runner = Interpreter(str(export.tflite(network, tmp_path / "n.tflite"))).get_signature_runner("serving_default")
    x = 0.5 * photo(32, 32, seed=1)[None].astype("float32")
    np.testing.assert_allclose(runner(image=x)["features"], network.predict(x, verbose=0), atol=0.05)


@pytest.mark.parametrize("mode", ["headless", "5 channels"])
def test_what_no_picture_can_be_made_for_takes_pixels_of_its_own_size(tmp_path, mode):
    name, shape = ("features", (32, 32, 3)) if mode == "headless" else ("probabilities", (32, 32, 5))
    network = tiny("any" if mode == "headless" else "predictions", shape=shape)
    found = signatures(export.saved_model(network, tmp_path / "m"))
    assert set(found) == {"serving_default"}
    batch = np.stack([photo(*shape, seed=seed) for seed in range(3)]).astype("float32")
    answer = found["serving_default"](image=tf.constant(batch))[name]
    np.testing.assert_allclose(answer, network.predict(batch, verbose=0), atol=1e-5)
    assert export.tflite(network, tmp_path / "m.tflite").is_file()


def test_a_grey_network_takes_digits_and_photos(tmp_path):
    """A digit of 28 x 28 stands in the middle of LeNet's 32 x 32."""
    network = tiny("predictions", shape=(32, 32, 1))
    digit = photo(28, 28, 1)
    want = network.predict(np.pad(digit[None].astype("float32"), ((0, 0), (2, 2), (2, 2), (0, 0))), verbose=0)
    found = signatures(export.saved_model(network, tmp_path / "m"))
    assert_answers(found["serving_default"](image=tf.constant(digit[None], tf.float32)), want)
    encoded = [tf.io.encode_png(image).numpy() for image in (digit, photo(50, 40))]
    answer = found["jpeg"](jpeg=tf.constant(encoded))
    np.testing.assert_allclose(answer["probabilities"][:1], want, atol=1e-5)


@pytest.mark.parametrize("size, canvas, window", [
    ((256, 256), (224, 224), (16, 16, 240, 240)),
    ((512, 600), (224, 224), (76, 32, 524, 480)),
    ((224, 224), (224, 224), (0, 0, 224, 224)),
    ((300, 300), (299, 299), (19, 19, 281, 281)),
    ((256, 400), (112, 224), (25, 40, 375, 215)),
    ((28, 28), (32, 32), (-2, -2, 30, 30)),
    ((27, 32), (32, 32), (0, -3, 32, 29)),
    ((33, 20), (32, 32), (0, 0, 20, 33))])
def test_what_is_shown_of_an_image(size, canvas, window):
    assert images.central_window(size, canvas).numpy().tolist() == list(window)


@pytest.mark.parametrize("canvas", [(32, 32), (112, 128)])
@pytest.mark.parametrize("size", [(28, 28), (131, 170), (112, 128), (300, 40)])
def test_one_is_shown_in_the_server_what_one_is_shown_in_evaluation(size, canvas):
    image = photo(*size)
    window = tf.cast(images.central_window(size, canvas), tf.float32)
    seen = views.look({"image": tf.constant(image)}, window, canvas, padding=(0.0, 0.0, 0.0))[0]["image"]
    np.testing.assert_array_equal(images.central(image, (*canvas, 3)), seen)
    np.testing.assert_allclose(images.central(image[None], (*canvas, 1))[0], images.grey(seen), atol=1e-4)


@pytest.mark.parametrize("network, labels, says", [
    (lambda: tiny("predictions"), ["a", "b"], "2 labels for 6 classes"),
    (lambda: tiny("predictions", shape=(None, None, 3)), None, "fixed size"),
    (lambda: tiny("one", "two"), None, "this is none"),
    (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), None, "networks of one image")])
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(tmp_path, network, labels, says):
    with pytest.raises(InputError, match=says) as error:
        export.saved_model(network(), tmp_path / "m", labels)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []
