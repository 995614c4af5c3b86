"""Learning Hierarchical Features for Scene Labeling.

Farabet, Couprie, Najman, LeCun. PAMI 35(8), 2013; ICML 2012, arXiv:1202.2160. Each pixel by what a window around it
shows at three scales: a Laplacian pyramid of the image, the same convolutional network on each of its levels, coarse
maps enlarged to the finest and joined, and a classifier of two layers (Fig. 1, section 3). The network slides over the
image as convolutions; its window is 46 pixels of each level, 184 of the image.

The paper's segmentations, by which it cleans the labels afterwards, are not here.

Not as in the paper: every map of a layer sees all before it, where the paper draws 8 of 16 and 32 of 64 by chance. Not
told in the paper, and so chosen: the pyramid halves by means of 2x2 and enlarges bilinearly, as do maps and scores; in
the local normalization no deviation counts as less than one grey value.
"""

import numpy as np
from keras import Input, Model, layers, ops

from keras_cnns.errors import InputError
from keras_cnns.layers import CropToMatch
from keras_cnns.layers.detection import PadToStride
from keras_cnns.models.classification import common

TASK, YEAR = "segmentation", 2012
PAPER = "Learning Hierarchical Features for Scene Labeling, PAMI 35(8), 2013"

VARIANTS = {"multiscale_convnet": 3}  # levels of the pyramid
HIDDEN = 1024  # units of the classifier
WINDOW = 15    # pixels within which a level has mean 0 and deviation 1

PUBLISHED = {"multiscale_convnet": "Stanford Background: pixel accuracy 78.8 %, class accuracy 72.4 % (Table I)"}

# Of R, G and B, a row each: ITU-R BT.601.
YUV = np.array([[0.299, -0.14713, 0.615], [0.587, -0.28886, -0.51499], [0.114, 0.436, -0.10001]], "float32")


def build(name="multiscale_convnet", input_shape=None, num_classes=8, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, H, W, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, 3)`, by default (240, 320, 3); any size, or free: inside, images are padded to whole
        16 x 16 pixels.
      num_classes: by default those of Stanford Background; None leaves the network headless, its output being the
        joined maps, `[B, H/4, W/4, 768]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    scales = VARIANTS[name]
    inputs, x = common.pixels(input_shape, (240, 320, 3), 1, *common.HALF)
    if inputs.shape[-1] != 3:
        raise InputError(f"input_shape={tuple(input_shape)}: {name} sees luminance and colour of RGB; give 3 channels.")
    x = PadToStride(4 * 2**(scales - 1), (0.0, 0.0, 0.0), name="pad")(x)
    network = convnet()
    maps = []
    for i, level in enumerate(pyramid(ops.matmul(x, YUV), scales)):
        y = network(normalized(level))
        maps.append(layers.UpSampling2D(2**i, interpolation="bilinear", name=f"up{i}")(y) if i else y)
    x = layers.Concatenate(name="features")(maps)
    if num_classes is not None:
        x = layers.Conv2D(HIDDEN, 1, activation="tanh", name="hidden")(x)
        x = layers.Conv2D(num_classes, 1, name="scores")(x)
        x = layers.UpSampling2D(4, interpolation="bilinear", name="upscores")(x)
        x = common.predictions(CropToMatch(name="crop")(x, inputs), classifier_activation)
    return Model(inputs, x, name=name)


def pyramid(x, levels):
    """Laplacian: what each halving takes away, finest first, and at last what is left."""
    for _ in range(levels - 1):
        coarse = layers.AveragePooling2D(2)(x)
        yield layers.Subtract()([x, layers.UpSampling2D(2, interpolation="bilinear")(coarse)])
        x = coarse
    yield x


def normalized(x):
    """Each channel with mean 0 and deviation 1 within `WINDOW` pixels around each."""
    x = x - ops.average_pool(x, WINDOW, 1, "same")
    deviation = ops.sqrt(ops.average_pool(ops.square(x), WINDOW, 1, "same"))
    return x / ops.maximum(deviation, 1 / 127.5)


def convnet():
    """`[B, h, w, 3] -> [B, h/4, w/4, 256]`: filters of 7x7, tanh and pooling, twice, and filters (section 3.1)."""
    yuv = Input((None, None, 3))
    y = layers.Conv2D(10, 7, padding="same", activation="tanh", name="conv1_y")(yuv[..., :1])
    uv = layers.Conv2D(6, 7, padding="same", activation="tanh", name="conv1_uv")(yuv[..., 1:])
    x = layers.MaxPooling2D(2, name="pool1")(layers.Concatenate(name="conv1")([y, uv]))
    x = layers.Conv2D(64, 7, padding="same", activation="tanh", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    return Model(yuv, layers.Conv2D(256, 7, padding="same", name="conv3")(x), name="convnet")
