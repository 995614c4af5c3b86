"""Pooling that remembers where its maxima were, and what puts numbers back in their places.

    MaxPoolWithArgmax, MaxUnpool   the switches of ZFNet (arXiv:1311.2901, section 2.1) and DeconvNet (arXiv:1505.04366)
    BedOfNails                     every number in a corner of zeros

Made of slices, comparisons and stacking alone: TFLite has neither pooling with positions nor scatter, and a one-hot
in 8 bits writes 0 where the number that stands for zero should be.
"""

import keras
from keras import layers, ops, saving

from keras_cnns.errors import InputError

register = saving.register_keras_serializable("keras_cnns")


class _Windows(layers.Layer):
    def __init__(self, pool_size=2, strides=None, **kwargs):
        super().__init__(**kwargs)
        strides = pool_size if strides is None else strides
        if not all(isinstance(n, int) and n > 0 for n in (pool_size, strides)):
            raise InputError(f"{type(self).__name__}(pool_size={pool_size!r}, strides={strides!r}): give whole numbers "
                             "from 1.")
        self.pool_size, self.strides = pool_size, strides

    def get_config(self):
        return {**super().get_config(), "pool_size": self.pool_size, "strides": self.strides}


@register
class MaxPoolWithArgmax(_Windows):
    """Max pooling and the places of the maxima: `[B, H, W, C] -> [B, h, w, C], int32 [B, h, w, C]`.

    A place is a number within its window, row by row: `i * pool_size + j` is row i, column j of it. Of equal numbers
    the first is the maximum. Rows and columns at the end that fill no window are not seen: h = (H - pool_size) //
    strides + 1.

    Args:
      pool_size: rows and columns of a window.
      strides: from window to window; by default `pool_size`.
    """

    def call(self, inputs):
        pooled = ops.max_pool(inputs, self.pool_size, self.strides, "valid")
        values, maxima = ops.stop_gradient(inputs), ops.stop_gradient(pooled)
        height, width = ops.shape(pooled)[1:3]
        last, step = self.pool_size**2 - 1, self.strides
        places = ops.full_like(maxima, last, dtype="int32")
        for place in reversed(range(last)):
            i, j = divmod(place, self.pool_size)
            seen = values[:, i:i + (height - 1) * step + 1:step, j:j + (width - 1) * step + 1:step]
            places = ops.where(seen >= maxima, place, places)
        return pooled, places

    def compute_output_spec(self, inputs):
        sides = [n and (n - self.pool_size) // self.strides + 1 for n in inputs.shape[1:3]]
        if any(n is not None and n < 1 for n in sides):
            raise InputError(f"{self.name}: windows of {self.pool_size}x{self.pool_size} do not fit into a map of "
                             f"{inputs.shape[1:3]}.")
        shape = (inputs.shape[0], *sides, inputs.shape[3])
        return keras.KerasTensor(shape, self.compute_dtype), keras.KerasTensor(shape, "int32")


@register
class MaxUnpool(_Windows):
    """Numbers at the places where maxima were, zeros elsewhere: `[B, h, w, C], int32 [B, h, w, C] -> [B, H, W, C]`.

    H = (h - 1) * strides + pool_size, the rows that the windows saw. Where windows overlap, numbers that fall on the
    same place add, as those of a transposed convolution do; so this is also what max pooling hands its gradients
    through.

    Args:
      pool_size, strides: those of the `MaxPoolWithArgmax` that gives the places.
    """

    def call(self, inputs, places):
        size, step = self.pool_size, self.strides
        further = (size - 1) // step  # steps that a window reaches beyond its own
        maps = {}  # of every `step` rows and columns of the answer one
        for place in range(size**2):
            i, j = divmod(place, size)
            here = ops.where(ops.equal(places, place), inputs, ops.cast(0, inputs.dtype))
            if further:
                here = ops.pad(here, ((0, 0), *((n // step, further - n // step) for n in (i, j)), (0, 0)))
            phase = i % step, j % step
            maps[phase] = maps[phase] + here if phase in maps else here
        nothing = ops.zeros_like(here)
        whole = _interleaved([[maps.get((i, j), nothing) for j in range(step)] for i in range(step)])
        if size % step == 0:
            return whole
        height, width = ((n - 1) * step + size for n in ops.shape(inputs)[1:3])
        return whole[:, :height, :width]

    def compute_output_shape(self, inputs_shape, places_shape):
        if any(n != m for n, m in zip(inputs_shape[1:], places_shape[1:]) if None not in (n, m)):
            raise InputError(f"{self.name}: a map of {inputs_shape[1:]} and places of {places_shape[1:]}; give those "
                             "of one size, such as maps of an image whose sides all poolings halve evenly.")
        sides = [n and (n - 1) * self.strides + self.pool_size for n in inputs_shape[1:3]]
        return inputs_shape[0], *sides, inputs_shape[3]


def _interleaved(maps):
    """Map `[i][j]`, of s x s maps `[B, h, w, C]`, is every s-th row and column from i and j on: `[B, s h, s w, C]`."""
    step, (height, width, channels) = len(maps), ops.shape(maps[0][0])[1:]
    rows = [ops.reshape(ops.stack(row, 3), (-1, height, step * width, channels)) for row in maps]
    return ops.reshape(ops.stack(rows, 2), (-1, step * height, step * width, channels))


@register
class BedOfNails(layers.Layer):
    """Every number in the top left corner of a square of zeros: `[B, h, w, C] -> [B, size h, size w, C]`."""

    def __init__(self, size=2, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(size, int) or size < 1:
            raise InputError(f"BedOfNails(size={size!r}): give a whole number from 1.")
        self.size = size

    def call(self, inputs):
        height, width, channels = ops.shape(inputs)[1:]
        zeros = ((0, 0), (0, 0), (0, self.size - 1), (0, 0))
        rows = ops.pad(ops.reshape(inputs, (-1, height * width, 1, channels)), zeros)
        squares = ops.pad(ops.reshape(rows, (-1, height, 1, width * self.size * channels)), zeros)
        return ops.reshape(squares, (-1, height * self.size, width * self.size, channels))

    def compute_output_shape(self, shape):
        return shape[0], *(n and n * self.size for n in shape[1:3]), shape[3]

    def get_config(self):
        return {**super().get_config(), "size": self.size}
