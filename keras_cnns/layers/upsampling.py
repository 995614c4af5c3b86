"""What makes small maps large again, and brings one map to the size of another.

    Bilinear        the kernel of a transposed convolution that interpolates; FCN, section 3.3 (arXiv:1411.4038)
    CropToMatch     Caffe's Crop, by which FCN aligns what it adds
    ResizeToMatch   bilinear interpolation to the size of another map
"""

import numpy as np
from keras import initializers, layers, ops, saving

from keras_cnns.errors import InputError

register = saving.register_keras_serializable("keras_cnns")


@register
class Bilinear(initializers.Initializer):
    """A kernel by which `Conv2DTranspose(maps, 2 * s, s)` interpolates `s` times as many pixels, each map by itself.

    `(height, width, maps, maps)`; zero between different maps. Cut s / 2 off each side of what comes out, and its
    interior is `keras.ops.image.resize`'s; at the border there are zeros to be interpolated with.
    """

    def __call__(self, shape, dtype=None):
        if len(shape) != 4 or shape[2] != shape[3]:
            raise InputError(f"Bilinear is for a kernel (height, width, maps, maps), not {tuple(shape)}: as many maps "
                             "must go out as come in.")
        kernel = np.outer(_triangle(shape[0]), _triangle(shape[1]))
        return ops.convert_to_tensor(kernel[:, :, None, None] * np.eye(shape[2]), dtype or "float32")


def _triangle(size):
    return 1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2)


@register
class CropToMatch(layers.Layer):
    """The part of a map that lies over another: `[B, H, W, C], [B, h, w, D] -> [B, h, w, C]`.

    Args:
      offset: rows above and columns left of it, whole number from 0. H and W are at least `offset` larger than h and w.
    """

    def __init__(self, offset=0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(offset, int) or offset < 0:
            raise InputError(f"CropToMatch(offset={offset!r}): give a whole number from 0.")
        self.offset = offset

    def call(self, inputs, reference):
        height, width = ops.shape(reference)[1:3]
        return inputs[:, self.offset:self.offset + height, self.offset:self.offset + width]

    def compute_output_shape(self, inputs_shape, reference_shape):
        for size, wanted in zip(inputs_shape[1:3], reference_shape[1:3]):
            if None not in (size, wanted) and size < self.offset + wanted:
                raise InputError(f"CropToMatch(offset={self.offset}): a map of {inputs_shape[1:3]} is too small to cut "
                                 f"{reference_shape[1:3]} out of it.")
        return (*reference_shape[:3], inputs_shape[-1])

    def get_config(self):
        return {**super().get_config(), "offset": self.offset}


@register
class ResizeToMatch(layers.Layer):
    """A map interpolated to the size of another, from centre to centre of pixels: `[B, H, W, C], [B, h, w, D] ->
    [B, h, w, C]`. Torch's "bilinear" with `align_corners=False`."""

    def call(self, inputs, reference):
        return ops.image.resize(inputs, tuple(ops.shape(reference)[1:3]), interpolation="bilinear")

    def compute_output_shape(self, inputs_shape, reference_shape):
        return (*reference_shape[:3], inputs_shape[-1])
