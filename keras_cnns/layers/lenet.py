"""The layers of LeNet-5 that nothing after it kept. LeCun, Bottou, Bengio, Haffner, Proc. IEEE 1998, section II.B."""

import numpy as np
from keras import initializers, layers, ops, saving

register = saving.register_keras_serializable("keras_cnns")


@register
class FanInUniform(initializers.Initializer):
    """Uniform in -2.4/F...2.4/F, F being the inputs of a unit (appendix A)."""

    def __init__(self, fan_in):
        self.fan_in = fan_in
        self.uniform = initializers.RandomUniform(-2.4 / fan_in, 2.4 / fan_in)

    def __call__(self, shape, dtype=None):
        return self.uniform(shape, dtype)

    def get_config(self):
        return {"fan_in": self.fan_in}


@register
class Subsampling(layers.Layer):
    """The sum of each 2x2 cells, times a trainable coefficient, plus a trainable bias, of each map.

    `[B, H, W, C] -> [B, H/2, W/2, C]`; 2C parameters.
    """

    def build(self, input_shape):
        maps = (input_shape[-1],)
        self.coefficient = self.add_weight(shape=maps, initializer=FanInUniform(4), name="coefficient")
        self.bias = self.add_weight(shape=maps, initializer="zeros", name="bias")

    def call(self, x):
        return 4.0 * ops.average_pool(x, 2, 2) * self.coefficient + self.bias

    def compute_output_shape(self, input_shape):
        b, h, w, c = input_shape
        return b, h and h // 2, w and w // 2, c


@register
class TableConv2D(layers.Layer):
    """A convolution without padding whose maps each see only some maps of the input (Table I).

    `[B, H, W, C] -> [B, H-k+1, W-k+1, len(table)]`.

    Args:
      table: for each map, the numbers of the input maps it sees.
      kernel_size: k, pixels.
    """

    def __init__(self, table, kernel_size, **kwargs):
        super().__init__(**kwargs)
        self.table, self.kernel_size = [list(row) for row in table], kernel_size

    def build(self, input_shape):
        k, channels = self.kernel_size, input_shape[-1]
        links = [(i, j) for j, row in enumerate(self.table) for i in row]
        place = np.zeros((len(links), channels * len(self.table)), "float32")  # of each link in the whole kernel
        place[range(len(links)), [i * len(self.table) + j for i, j in links]] = 1.0
        self.place, self.shape = place, (k, k, channels, len(self.table))
        each = [FanInUniform(k * k * len(self.table[j])) for _, j in links]
        self.kernel = self.add_weight(
            shape=(k, k, len(links)), name="kernel",
            initializer=lambda shape, dtype: ops.stack([one((k, k), dtype) for one in each], axis=-1))
        self.bias = self.add_weight(shape=(len(self.table),), initializer="zeros", name="bias")

    def call(self, x):
        place = ops.convert_to_tensor(self.place, self.compute_dtype)
        kernel = ops.reshape(ops.matmul(self.kernel, place), self.shape)
        return ops.conv(x, kernel, padding="valid") + self.bias

    def compute_output_shape(self, input_shape):
        b, h, w, _ = input_shape
        k = self.kernel_size
        return b, h and h - k + 1, w and w - k + 1, len(self.table)

    def multiply_adds(self, input_shape):
        """Of one image, whole number."""
        _, height, width, _ = self.compute_output_shape(input_shape)
        return height * width * self.kernel_size**2 * sum(map(len, self.table))

    def get_config(self):
        return {**super().get_config(), "table": self.table, "kernel_size": self.kernel_size}


@register
class NegativeDistances(layers.Layer):
    """Minus the squared distance to the fixed code of each class, `[B, N] -> [B, K]` (eq. 7).

    Args:
      codes: `[K, N]`, -1 and 1. They are weights that do not train.
    """

    def __init__(self, codes, **kwargs):
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.codes = np.asarray(codes, "float32")

    def build(self, input_shape):
        self.centers = self.add_weight(shape=self.codes.shape, trainable=False, name="codes",
                                       initializer=lambda shape, dtype: ops.convert_to_tensor(self.codes, dtype))

    def call(self, x):
        return -ops.sum(ops.square(x[:, None] - self.centers), axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape[0], len(self.codes)

    def multiply_adds(self, input_shape):
        """Of one image, whole number."""
        return self.codes.size

    def get_config(self):
        return {**super().get_config(), "codes": self.codes.astype(int).tolist()}
