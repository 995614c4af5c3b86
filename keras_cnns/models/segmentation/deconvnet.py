"""DeconvNet: Learning Deconvolution Network for Semantic Segmentation.

Noh, Hong, Han. ICCV 2015, arXiv:1505.04366. VGG-16 with fully connected layers as convolutions, and its mirror image:
each pooling is undone by unpooling to the places of its maxima (section 3.2.1), each convolution by a transposed one
(Fig. 2, Table 2 of the appendix); batch norm after all of them but the scores (section 4.1). Layers carry the names of
the authors' Caffe files, - as _.

The paper trains in two stages, on crops around single objects and then on proposals (section 4.2), and adds up the
answers to 50 proposals of an image (section 5.1): the network is the same. `deconvnet_16` is this package's own: a
quarter of the maps throughout.
"""

from typing import NamedTuple

from keras import Model, initializers, layers

from keras_cnns.errors import InputError
from keras_cnns.layers import MaxPoolWithArgmax, MaxUnpool
from keras_cnns.models.classification import common, vgg
from keras_cnns.models.segmentation import fcn

TASK, YEAR = "segmentation", 2015
PAPER = "Learning Deconvolution Network for Semantic Segmentation, arXiv:1505.04366"


class Variant(NamedTuple):
    widths: tuple         # maps of conv1 to conv5
    backbone: str | None  # whose weights it begins with (section 5.1)


VARIANTS = {
    "deconvnet":    Variant((64, 128, 256, 512, 512), "vgg16"),
    "deconvnet_16": Variant((16, 32, 64, 128, 128), None),
}

PUBLISHED = {"deconvnet": "VOC 2012 test: mean IoU 69.6 %, with a CRF 70.5 % (Table 1)"}


def build(name="deconvnet", input_shape=None, num_classes=21, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, H, W, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3); sides are multiples of 32 from 224, or free.
      num_classes: with the background; None leaves the network headless, its output being that of deconv1_2, with as
        many maps as conv1, `[B, H, W, 64]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.

    Raises:
      InputError: a side that is none of these, with those next to it.
    """
    widths = VARIANTS[name].widths
    inputs, x = common.pixels(input_shape, (224, 224, 3), 224, mean=fcn.MEAN, variance=(1.0,) * 3)
    for side in inputs.shape[1:3]:
        if side is not None and side % 32:
            raise InputError(f"input_shape={input_shape}: {name}'s sides are multiples of 32, such as "
                             f"{side // 32 * 32} and {side // 32 * 32 + 32} beside {side}.")
    depths = vgg.VARIANTS["vgg16"].depths
    places = []
    for i, (filters, depth) in enumerate(zip(widths, depths), 1):
        for j in range(1, depth + 1):
            x = bn_relu(layers.Conv2D(filters, 3, padding="same", name=f"conv{i}_{j}"), x)
        x, where = MaxPoolWithArgmax(name=f"pool{i}")(x)
        places.append(where)
    x = bn_relu(layers.Conv2D(8 * widths[-1], 7, name="fc6"), x)
    x = bn_relu(layers.Conv2D(8 * widths[-1], 1, name="fc7"), x)
    x = bn_relu(layers.Conv2DTranspose(widths[-1], 7, kernel_initializer=small(), name="fc6_deconv"), x)
    for i, depth in reversed(list(enumerate(depths, 1))):
        x = MaxUnpool(name=f"unpool{i}")(x, places[i - 1])
        for j in range(1, depth + 1):
            filters = widths[max(i - 2, 0)] if j == depth else widths[i - 1]
            x = bn_relu(layers.Conv2DTranspose(filters, 3, padding="same", kernel_initializer=small(),
                                               name=f"deconv{i}_{j}"), x)
    if num_classes is not None:
        x = layers.Conv2D(num_classes, 1, kernel_initializer=small(), name="seg_score")(x)
        x = common.predictions(x, classifier_activation)
    return Model(inputs, x, name=name)


def begin_with(network, donor):
    """Copies into a DeconvNet `vgg16`, convolutions and fully connected layers: errors and result of `fcn`'s."""
    return fcn.begin_with(network, donor)


def bn_relu(convolution, x):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{convolution.name}_bn")(convolution(x))
    return layers.ReLU(name=f"{convolution.name}_relu")(x)


def small():
    return initializers.RandomNormal(stddev=0.01)  # the authors' files
