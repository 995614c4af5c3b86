"""Networks for other programs: `saved_model` for TensorFlow Serving, `tflite` for a phone."""

from keras_cnns.export.saved_model import saved_model
from keras_cnns.export.tflite import tflite

__all__ = ["saved_model", "tflite"]
