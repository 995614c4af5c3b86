"""Serving: `Client` talks to TensorFlow Serving or to `serving.server.Server`, its embedded twin.

Importing this package imports neither TensorFlow nor Keras; `keras_cnns.serving.server` does.
"""

from keras_cnns.serving.client import Client, ServingError

__all__ = ["Client", "ServingError"]
