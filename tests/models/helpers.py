"""What every network must do: live through a file, train in either precision, answer the same when exported."""

import keras
import numpy as np


def count(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


def images(shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def answers_the_same_from_a_file(network, x, tmp_path):
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), network.predict(x, verbose=0))


def answers_the_same_exported(network, x, tmp_path):
    """As a SavedModel, and from there as TFLite with built-in ops only."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    network.export(tmp_path / "saved", verbose=False, input_signature=[
        keras.InputSpec(shape=(None, *network.input_shape[1:]), dtype="float32", name="image")])
    want = network.predict(x, verbose=0)
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.serve(x), want, atol=1e-4)
    lite = Interpreter(model_content=tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    image, answer = lite.get_input_details()[0]["index"], lite.get_output_details()[0]["index"]
    lite.resize_tensor_input(image, x.shape)
    lite.allocate_tensors()
    lite.set_tensor(image, x)
    lite.invoke()
    np.testing.assert_allclose(lite.get_tensor(answer), want, atol=1e-4)


def trains_a_step(build, x, policy):
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        network = build()
        assert network.get_layer("predictions").compute_dtype == "float32"
        network.compile(keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy")
        assert np.isfinite(network.train_on_batch(x, np.arange(len(x))))
        assert np.isfinite(network.predict(x, verbose=0)).all()
    finally:
        keras.config.set_dtype_policy(before)


def learns_by_heart(network, x, epochs, rate=1e-3):
    keras.utils.set_random_seed(0)
    labels = np.arange(len(x)) % network.output_shape[-1]
    network.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy")
    network.fit(x, labels, epochs=epochs, verbose=0)
    np.testing.assert_array_equal(network.predict(x, verbose=0).argmax(-1), labels)
