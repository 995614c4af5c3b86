"""Layers that papers brought and Keras has not: `from keras_cnns.layers import RoIPool`."""

from keras_cnns.layers.roi import RoIAlign, RoIPool

__all__ = ["RoIAlign", "RoIPool"]
