"""Layers that papers brought and Keras has not: `from keras_cnns.layers import RoIPool`."""

from keras_cnns.layers.normalization import L2Normalize, LocalResponseNormalization
from keras_cnns.layers.ode import ODEBlock
from keras_cnns.layers.regularization import StochasticDepth
from keras_cnns.layers.roi import RoIAlign, RoIPool, SpatialPyramidPool
from keras_cnns.layers.upsampling import Bilinear, CropToMatch, ResizeToMatch

__all__ = ["Bilinear", "CropToMatch", "L2Normalize", "LocalResponseNormalization", "ODEBlock", "ResizeToMatch",
           "RoIAlign", "RoIPool", "SpatialPyramidPool", "StochasticDepth"]
