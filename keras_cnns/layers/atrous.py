"""Convolutions whose weights serve at several spacings."""

import keras
from keras import layers, ops, saving


@saving.register_keras_serializable("keras_cnns")
class AtrousConv2D(layers.Conv2D):
    """A convolution without padding that is told its dilation at each call, so that the same weights see maps of
    several strides: `[B, H, W, C] -> [B, H - d (k - 1), W - d (k - 1), F]`.

    Args:
      filters, kernel_size: as of `Conv2D`, whose other ways to convolve this has not.
    """

    def call(self, inputs, dilation=1):
        return ops.conv(inputs, self.kernel, padding="valid", dilation_rate=dilation) + self.bias

    def compute_output_spec(self, inputs, dilation=1):
        sides = [n and n - dilation * (k - 1) for n, k in zip(inputs.shape[1:3], self.kernel_size)]
        return keras.KerasTensor((inputs.shape[0], *sides, self.filters), self.compute_dtype)
