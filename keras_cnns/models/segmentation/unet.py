"""U-Net: Convolutional Networks for Biomedical Image Segmentation.

Ronneberger, Fischer, Brox. MICCAI 2015, arXiv:1505.04597. Fig. 1: four times two 3x3 convolutions and a pooling, and
back up with 2x2 up-convolutions, each joined to the map of its size on the way down.

`unet` is the paper's: convolutions without padding, so that an image loses 92 pixels at each of its sides, 572 -> 388,
and what is joined is cropped. `unet_same` pads with zeros instead: of an image of any size the answer has the size.
Weights of the one fit the other. `unet_same_32` and `unet_same_16` are this package's own: a half and a quarter of the
maps throughout.

As in the authors' Caffe files, not told in the paper: ReLU after the up-convolutions, dropout of half at the end of the
two lowest levels of the way down, the map from the left before the one from below; and the layers' names, - as _.
Weights begin as Gaussians of sqrt(2 / N) (section 3). The paper does not say how pixels are scaled: to -1...1 here.
"""

import math
from typing import NamedTuple

from keras import Model, initializers, layers

from keras_cnns.errors import InputError
from keras_cnns.layers import CropToMatch
from keras_cnns.layers.detection import PadToStride
from keras_cnns.models.classification import common

TASK, YEAR = "segmentation", 2015
PAPER = "U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv:1505.04597"

FILTERS = 64  # of the first level; twice as many a level down
LEVELS = 4    # below the first
MARGIN = 92   # pixels that convolutions without padding take from each side


class Variant(NamedTuple):
    padding: str
    input_shape: tuple
    narrower: int = 1  # times


VARIANTS = {
    "unet":      Variant("valid", (572, 572, 1)),
    "unet_same": Variant("same", (512, 512, 1)),
    "unet_same_32": Variant("same", (512, 512, 1), 2),
    "unet_same_16": Variant("same", (512, 512, 1), 4),
}

PUBLISHED = {
    "unet": "ISBI 2012 EM segmentation challenge: warping error 0.000353, Rand error 0.0382, pixel error 0.0611 "
            "(Table 1, average of 7 rotations)",
}


def build(name="unet", input_shape=None, num_classes=2, classifier_activation="softmax"):
    """The network: pixels, 0 to 255, `[B, H, W, C] -> [B, H', W', num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`. `unet`: H' = H - 184; the others: H' = H.
      input_shape: `(height, width, channels)`, by default (572, 572, 1), of the others (512, 512, 1). Sides of `unet`
        are 188 and every 16 more, so that all maps that are pooled are even; left free, of an image of other sides
        up to 15 pixels right and below are not answered. Sides of `unet_same` may be any, or free.
      num_classes: with the background; None leaves the network headless, its output being 64 maps, or 32, or 16.
      classifier_activation: "softmax", "sigmoid", or None for logits.

    Raises:
      InputError: a shape that does not fit, with those next to it that do.
    """
    v = VARIANTS[name]
    least = 2 * MARGIN + 4 if v.padding == "valid" else 1
    inputs, x = common.pixels(input_shape, v.input_shape, least, *common.HALF)
    if v.padding == "valid":
        check_sides(inputs.shape[1:])
    else:
        x = PadToStride(2**LEVELS, [0.0] * inputs.shape[-1], name="pad_to_stride")(x)
    down = []
    for level in range(LEVELS + 1):
        if level:
            x = layers.MaxPooling2D(2, name=f"pool_d{level - 1}c_{level}a")(x)
        x = two_convolutions(x, v, level, "d")
        if level >= LEVELS - 1:
            x = layers.Dropout(0.5, name=f"dropout_d{level}c")(x)
        down.append(x)
    for level, left in reversed(list(enumerate(down[:-1]))):
        one_tap = initializers.RandomNormal(stddev=math.sqrt(2 / x.shape[-1]))  # of each map comes into a number
        x = layers.Conv2DTranspose(filters(v, level), 2, 2, kernel_initializer=one_tap, activation="relu",
                                   name=f"upconv_{level}a")(x)
        if v.padding == "valid":  # 4, 16, 40 and 88 pixels from the lowest up
            left = CropToMatch(12 * 2**(LEVELS - level - 1) - 8, name=f"crop_d{level}c")(left, x)
        x = layers.Concatenate(name=f"concat_{level}b")([left, x])
        x = two_convolutions(x, v, level, "u")
    if num_classes is None:
        return Model(inputs, cut(x, inputs, v), name=name)
    x = layers.Conv2D(num_classes, 1, kernel_initializer=gaussian(), name="conv_u0d_score")(x)
    return Model(inputs, common.predictions(cut(x, inputs, v), classifier_activation), name=name)


def two_convolutions(x, v, level, way):
    for i in "ab" if way == "d" else "bc":
        x = layers.Conv2D(filters(v, level), 3, padding=v.padding, activation="relu", kernel_initializer=gaussian(),
                          name=f"conv_{way}{level}{i}")(x)
    return x


def filters(v, level):
    return FILTERS // v.narrower * 2**level


def gaussian():
    """Of sqrt(2 / N), N numbers that come into one (section 3)."""
    return initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


def cut(x, inputs, v):
    return x if v.padding == "valid" else CropToMatch(name="crop")(x, inputs)


def check_sides(shape):
    """InputError if a side of an image `(H, W, C)` leaves an odd map to a pooling of the form without padding."""
    for side in shape[:2]:
        if side is not None and (side - 2 * MARGIN - 4) % 16:
            below = side - (side - 2 * MARGIN - 4) % 16
            raise InputError(f"input_shape={tuple(shape)}: of a side of {side} a map of odd size would be pooled; "
                             f"{below} and {below + 16} work, 572 is the paper's. Pad the image, or take unet_same.")
