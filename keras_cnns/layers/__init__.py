"""Layers that papers brought and Keras has not: `from keras_cnns.layers import RoIPool`."""

from keras_cnns.layers.heatmaps import DecodeHeatmaps, MirrorAverage
from keras_cnns.layers.normalization import L2Normalize, LocalResponseNormalization
from keras_cnns.layers.ode import ODEBlock
from keras_cnns.layers.pooling import BedOfNails, MaxPoolWithArgmax, MaxUnpool
from keras_cnns.layers.regularization import StochasticDepth
from keras_cnns.layers.roi import PSRoIPool, RoIAlign, RoIPool, RoIPyramidPool, RoIWarp, SpatialPyramidPool
from keras_cnns.layers.upsampling import Bilinear, CropToMatch, ResizeToMatch

__all__ = ["BedOfNails", "Bilinear", "CropToMatch", "DecodeHeatmaps", "L2Normalize", "LocalResponseNormalization",
           "MaxPoolWithArgmax", "MaxUnpool", "MirrorAverage", "ODEBlock", "PSRoIPool", "ResizeToMatch", "RoIAlign",
           "RoIPool", "RoIPyramidPool", "RoIWarp", "SpatialPyramidPool", "StochasticDepth"]
