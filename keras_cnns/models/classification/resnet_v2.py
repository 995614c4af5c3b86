"""ResNet v2: Identity Mappings in Deep Residual Networks.

He, Zhang, Ren, Sun. ECCV 2016, arXiv:1603.05027. The five orders of activation: Fig. 4, a function each. For CIFAR:
110 layers of basic units with parameter-free shortcuts (Table 2), 164 and 1001 layers of bottlenecks (Table 4) as in
the authors' Torch code; `resnet164_cifar` is the original unit at that depth. For ImageNet: Table 5 and the authors'
Torch code, which strides in the 3x3 (as the later code of the same group does).

With full pre-activation the shortcut is never passed through a ReLU. Where a unit changes dimensions, its batch norm
and ReLU stand before both paths; after the last unit comes one more pair. The paper prints 10.2 million parameters
for ResNet-1001; its released code has 10.33.
"""

from typing import Callable, NamedTuple

from keras import Model, layers

from keras_cnns.errors import InputError
from keras_cnns.models.classification import resnet
from keras_cnns.models.classification.resnet import bn, conv

TASK, YEAR = "classification", 2016
PAPER = "Identity Mappings in Deep Residual Networks, arXiv:1603.05027"


def relu(x, name):
    return layers.ReLU(name=name)(x)


def bn_relu(x, name):
    return relu(bn(x, name), f"{name}_relu")


def convs_then(x, convs, last, name):
    """conv-BN-ReLU of each convolution; after the last one `last` instead of BN-ReLU."""
    for i, c in enumerate(convs, 1):
        x = conv(x, *c, f"{name}_{i}")
        x = bn_relu(x, f"{name}_{i}") if i < len(convs) else last(x, f"{name}_{i}")
    return x


def add(x, y, name):
    return layers.Add(name=name)([x, y])


def nothing(x, name):
    return x


def changes(x, convs):
    """Whether a unit's answer has another shape than `x`."""
    return x.shape[-1] != convs[-1][0] or any(strides > 1 for _, _, strides in convs)


# A unit of Fig. 4 takes x, its convolutions (filters, kernel, strides), its shortcut as a function of a tensor and of
# what follows a projection, its name, the name of its last layer, and whether it is the network's first: then x comes
# out of conv1's batch norm and ReLU, and both paths begin with it (section 4.1).

def original(x, convs, shortcut, unit, name, first):
    """conv-BN-ReLU-conv-BN, addition, ReLU (Fig. 4a)."""
    y = convs_then(x, convs, bn, unit)
    return relu(add(shortcut(x, bn), y, f"{unit}_add"), name)


def bn_after_addition(x, convs, shortcut, unit, name, first):
    """conv-BN-ReLU-conv, addition, BN-ReLU (Fig. 4b)."""
    y = convs_then(x, convs, nothing, unit)
    return relu(bn(add(shortcut(x, nothing), y, f"{unit}_add"), unit), name)


def relu_before_addition(x, convs, shortcut, unit, name, first):
    """conv-BN-ReLU-conv-BN-ReLU, addition (Fig. 4c)."""
    y = convs_then(x, convs, bn_relu, unit)
    return add(shortcut(x, bn), y, name)


def relu_only_preactivation(x, convs, shortcut, unit, name, first):
    """ReLU-conv-BN-ReLU-conv-BN, addition (Fig. 4d)."""
    y = x if first else relu(x, f"{unit}_relu")
    return add(shortcut(y if changes(x, convs) else x, bn), convs_then(y, convs, bn, unit), name)


def full_preactivation(x, convs, shortcut, unit, name, first):
    """BN-ReLU-conv-BN-ReLU-conv, addition (Fig. 4e)."""
    y = x if first else bn_relu(x, unit)
    return add(shortcut(y if changes(x, convs) else x, nothing), convs_then(y, convs, nothing, unit), name)


ORDERS = {order.__name__: order for order in (
    original, bn_after_addition, relu_before_addition, relu_only_preactivation, full_preactivation)}


class Variant(NamedTuple):
    convs: Callable  # (filters, strides) -> the convolutions of a unit
    depths: tuple[int, ...]
    shortcut: str = "B"
    order: str = "full_preactivation"


def basic(filters, strides):
    return (filters, 3, strides), (filters, 3, 1)


def bottleneck(filters, strides):
    return (filters, 1, strides), (filters, 3, 1), (4 * filters, 1, 1)


def bottleneck_3x3(filters, strides):
    return (filters, 1, 1), (filters, 3, strides), (4 * filters, 1, 1)


VARIANTS = {
    "resnet50_v2":         Variant(bottleneck_3x3, (3, 4, 6, 3)),
    "resnet101_v2":        Variant(bottleneck_3x3, (3, 4, 23, 3)),
    "resnet152_v2":        Variant(bottleneck_3x3, (3, 8, 36, 3)),
    "resnet200_v2":        Variant(bottleneck_3x3, (3, 24, 36, 3)),
    "resnet164_cifar":     Variant(bottleneck, (18, 18, 18), "B", "original"),
    "resnet110_v2_cifar":  Variant(basic, (18, 18, 18), "A"),
    "resnet164_v2_cifar":  Variant(bottleneck, (18, 18, 18)),
    "resnet1001_v2_cifar": Variant(bottleneck, (111, 111, 111)),
}

PUBLISHED = {
    "resnet152_v2": "ImageNet val, one 320x320 crop: top-1 error 21.1 %, top-5 5.5 % (Table 5)",
    "resnet200_v2": "ImageNet val, one 320x320 crop: top-1 error 20.7 %, top-5 5.3 % (Table 5)",
    "resnet164_cifar": "CIFAR-10 test: error 5.93 % (Table 2)",
    "resnet110_v2_cifar": "CIFAR-10 test: error 6.37 % (Table 2)",
    "resnet164_v2_cifar": "CIFAR-10 test: error 5.46 % (Table 2)",
    "resnet1001_v2_cifar": "CIFAR-10 test: error 4.92 %, mean of five 4.89 (Table 4)",
}


def build(name="resnet50_v2", input_shape=None, num_classes=..., classifier_activation="softmax", order=None):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape, num_classes, classifier_activation: as of `resnet.build`. Headless, the output is that of the last
        unit, after the batch norm and ReLU that follow it ("post_relu").
      order: of activation in every unit, a key of `ORDERS`; by default the row's.

    Raises:
      InputError: another order, besides what `common` refuses.
    """
    variant, cifar = VARIANTS[name], name.endswith("_cifar")
    order = order or variant.order
    if order not in ORDERS:
        raise InputError(f"order={order!r}: choose from {', '.join(ORDERS)}.")
    inputs, x = (resnet.cifar_stem if cifar else resnet.imagenet_stem)(input_shape)
    for i, depth in enumerate(variant.depths):
        x = stage(x, variant, ORDERS[order], (16 if cifar else 64) * 2**i, depth, 2 if i else 1, f"conv{i + 2}_x")
    if order == "full_preactivation":
        x = bn_relu(x, "post")
    elif order == "relu_only_preactivation":
        x = relu(x, "post_relu")
    return Model(inputs, resnet.head(x, num_classes, 10 if cifar else 1000, classifier_activation), name=name)


def stage(x, variant, unit, filters, depth, strides, name):
    """`depth` units; the first one strides. The last layer is called `name`."""
    for i in range(1, depth + 1):
        block, s = f"{name[:-1]}{i}", strides if i == 1 else 1
        convs = variant.convs(filters, s)
        shortcut = shortcut_of(variant.shortcut, convs[-1][0], s, f"{block}_shortcut")
        x = unit(x, convs, shortcut, block, name if i == depth else f"{block}_out", first=block == "conv2_1")
    return x


def shortcut_of(kind, filters, strides, name):
    """The shortcut as a function of its tensor and of what follows a projection, such as `bn`."""
    def shortcut(x, after):
        if strides == 1 and x.shape[-1] == filters:
            return x
        if kind == "A":
            return resnet.pad_channels(x, filters, strides, name)
        return after(conv(x, filters, 1, strides, name), name)
    return shortcut
