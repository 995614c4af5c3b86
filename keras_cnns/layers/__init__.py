"""Layers that papers brought and Keras has not: `from keras_cnns.layers import RoIPool`."""

from keras_cnns.layers.normalization import LocalResponseNormalization
from keras_cnns.layers.ode import ODEBlock
from keras_cnns.layers.regularization import StochasticDepth
from keras_cnns.layers.roi import RoIAlign, RoIPool, SpatialPyramidPool

__all__ = ["LocalResponseNormalization", "ODEBlock", "RoIAlign", "RoIPool", "SpatialPyramidPool", "StochasticDepth"]
