"""Classical convolutional networks of computer vision, exact to their papers, for Keras 3.

>>> import keras_cnns
>>> network = keras_cnns.create_model("faster_rcnn_resnet18", num_classes=5)
>>> detector = keras_cnns.detector(network)  # image -> boxes, scores, labels, count

Everything is loaded on first use: importing the package imports neither Keras nor TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {"create_model": "weights", "model_info": "weights", "detector": "models", "list_models": "models"}
_ROOMS = ("data", "export", "layers", "losses", "metrics", "models", "ops", "serving", "training", "weights")
__all__ = [*_HOMES, *_ROOMS, "__version__"]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_cnns.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"keras_cnns.{name}")
    raise AttributeError(f"module 'keras_cnns' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
