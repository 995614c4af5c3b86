import keras
import numpy as np

from keras_cnns.training import callbacks


def network():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs))
    model.compile("sgd")
    return model


def test_dropout_goes_on_with_its_dice(tmp_path):
    before, x = network(), np.ones((4, 8), "float32")
    before(x, training=True)
    callbacks.Checkpoint(tmp_path / "checkpoint", network=before).on_epoch_end(0, {"loss": 1.0})
    want = np.array(before(x, training=True))
    after = network()
    assert callbacks.resume(after, tmp_path / "checkpoint") == [{"loss": 1.0}]
    np.testing.assert_array_equal(after(x, training=True), want)
    assert callbacks.resume(after, tmp_path / "none") == []
