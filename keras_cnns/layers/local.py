"""Convolution whose kernel is another at every place."""

import math

from keras import initializers, layers, ops, saving


@saving.register_keras_serializable("keras_cnns")
class LocallyConnected(layers.Layer):
    """A convolution of stride 1, zero-padded, with kernels and biases of their own at every place.

    `[B, H, W, C] -> [B, H, W, filters]`, H and W fixed. The authors' code of YOLO calls it "local". Kernels are
    `[H, W, size * size * C, filters]`: of the map 14x14x16 and size 3, rows, then columns, then channels.

    Args:
      filters: of each place. size: of the kernel, odd.
    """

    def __init__(self, filters, size, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.size = filters, size

    def build(self, input_shape):
        _, height, width, channels = input_shape
        seen = self.size**2 * channels
        he = initializers.RandomNormal(stddev=math.sqrt(2 / seen))  # he_normal would count the places, too
        self.kernel = self.add_weight(shape=(height, width, seen, self.filters), initializer=he, name="kernel")
        self.bias = self.add_weight(shape=(height, width, self.filters), initializer="zeros", name="bias")

    def call(self, x):
        height, width = x.shape[1:3]
        margin = self.size // 2
        x = ops.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        shifts = [(i, j) for i in range(self.size) for j in range(self.size)]
        seen = ops.concatenate([x[:, i:i + height, j:j + width] for i, j in shifts], -1)
        return ops.einsum("bhwi,hwif->bhwf", seen, self.kernel) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.filters)

    def multiply_adds(self, input_shape):
        return math.prod(self.kernel.shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "size": self.size}
