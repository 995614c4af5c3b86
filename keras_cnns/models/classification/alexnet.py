"""AlexNet: ImageNet Classification with Deep Convolutional Neural Networks.

Krizhevsky, Sutskever, Hinton. NIPS 2012. Fig. 2 and section 3: conv2, conv4 and conv5 see only the maps of their own
GPU, here two groups; response normalisation after the ReLU of conv1 and conv2 (3.3), overlapping pooling after that
(3.4), dropout on the answers of fc6 and fc7 (4.2); weights begin as N(0, 0.01), the biases of conv2, conv4, conv5,
fc6 and fc7 at 1 (section 5). The printed 224 pixels do not give 55 cells; 227 do.

`alexnet_ungrouped` is the same without groups, whence the "62 million" one reads of. `alexnet_owt` is Krizhevsky's one
tower of One weird trick, arXiv:1404.5997, as torchvision released it: no normalisation, dropout before fc6 and fc7.

The paper subtracts the mean image; here, as in every later release, the mean pixel is subtracted.
"""

from typing import NamedTuple

from keras import Model, initializers, layers

from keras_cnns.layers import LocalResponseNormalization
from keras_cnns.models.classification import common

TASK, YEAR = "classification", 2012
PAPER = "ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012"


class Variant(NamedTuple):
    filters: tuple[int, int, int, int, int]
    groups: int  # of conv2, conv4 and conv5
    padding: int  # of conv1
    input_size: int
    weird_trick: bool = False


VARIANTS = {
    "alexnet":           Variant((96, 256, 384, 384, 256), 2, 0, 227),
    "alexnet_ungrouped": Variant((96, 256, 384, 384, 256), 1, 0, 227),
    "alexnet_owt":       Variant((64, 192, 384, 256, 256), 1, 2, 224, weird_trick=True),
}

PUBLISHED = {
    "alexnet":     "ILSVRC-2012 val, 10 crops: top-1 error 40.7 %, top-5 18.2 % (Table 2, one network)",
    "alexnet_owt": "ImageNet val, 1 crop: top-1 error 43.48 %, top-5 20.93 % (torchvision's release)",
}


def conv_relu(x, filters, kernel_size, strides=1, padding=0, groups=1, bias=0, name=None):
    same = padding and strides == 1
    if padding and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    x = layers.Conv2D(filters, kernel_size, strides, "same" if same else "valid", groups=groups, name=name,
                      bias_initializer=initializers.Constant(bias),
                      kernel_initializer=initializers.RandomNormal(0, 0.01))(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def build(name="alexnet", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (227, 227, 3), `alexnet_owt` (224, 224, 3), at least 67 or
        63 pixels a side; free sides only without a classifier.
      num_classes: units of the classifier; None leaves the network headless, its output being "pool5",
        `[B, 6, 6, 256]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    v = VARIANTS[name]
    variance = common.IMAGENET_VARIANCE if v.weird_trick else (1.0,) * 3
    inputs, x = common.pixels(input_shape, (v.input_size, v.input_size, 3), 67 - 2 * v.padding, variance=variance,
                              fixed=num_classes is not None)
    x = conv_relu(x, v.filters[0], 11, 4, v.padding, name="conv1")
    x = normalized_and_pooled(x, v, 1)
    x = conv_relu(x, v.filters[1], 5, 1, 2, v.groups, bias=1, name="conv2")
    x = normalized_and_pooled(x, v, 2)
    x = conv_relu(x, v.filters[2], 3, 1, 1, name="conv3")
    x = conv_relu(x, v.filters[3], 3, 1, 1, v.groups, bias=1, name="conv4")
    x = conv_relu(x, v.filters[4], 3, 1, 1, v.groups, bias=1, name="conv5")
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    if num_classes is not None:
        x = layers.Flatten(name="flatten")(x)
        x = classifier(x, num_classes, classifier_activation, dropout_first=v.weird_trick)
    return Model(inputs, x, name=name)


def normalized_and_pooled(x, variant, number):
    if not variant.weird_trick:
        x = LocalResponseNormalization(name=f"norm{number}")(x)
    return layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)


def classifier(x, num_classes, activation, dropout_first=False):
    """fc6, fc7 and fc8. `[B, N] -> [B, num_classes]`."""
    for name in ("fc6", "fc7"):
        dropout = layers.Dropout(0.5, name=f"{name}_dropout")
        x = dropout(x) if dropout_first else x
        x = layers.Dense(4096, activation="relu", kernel_initializer=initializers.RandomNormal(0, 0.01),
                         bias_initializer="ones", name=name)(x)
        x = x if dropout_first else dropout(x)
    x = layers.Dense(num_classes, kernel_initializer=initializers.RandomNormal(0, 0.01), name="fc8")(x)
    return common.predictions(x, activation)
