"""Inception v4 and the Inception-ResNets.

Szegedy, Ioffe, Vanhoucke, Alemi. AAAI 2017, arXiv:1602.07261. Figures as named at each function; Table 1 for the
filters of Reduction-A. `inception_resnet_v2` is the authors' released code: 10, 20 and 10 modules, a stem like v3's,
batch norm without gamma, a last module without ReLU, and 1536 maps at the end. `inception_resnet_v2_paper` is what the
paper draws: 5, 10 and 5 modules on v4's stem, whose widths add up to 1152 and 2144 where Fig. 17 and 19 print 1154 and
2048.

The residual of a module is scaled (section 3.3) by 0.17, 0.10 and 0.20, as the code has it; the 1x1 before it is
linear: a bias, no batch norm, no ReLU (Fig. 10 and others).
"""

from typing import Callable, NamedTuple

from keras import Model, layers

from keras_cnns.models.classification import common
from keras_cnns.models.classification.inception_v2 import branch, conv_bn_relu, join
from keras_cnns.models.classification.inception_v3 import average, fork, largest

TASK, YEAR = "classification", 2016
PAPER = "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, arXiv:1602.07261"


def stem_v4(x):
    """Fig. 3: `299x299x3 -> 35x35x384`."""
    x = branch(x, "conv1", (32, 3, 2))
    x = branch(x, "conv2", (32, 3, 1), (64, 3))
    x = join("mixed_3a", largest(x, "mixed_3a_pool"), branch(x, "mixed_3a_3x3", (96, 3, 2)))
    x = join(
        "mixed_4a",
        branch(x, "mixed_4a_3x3", (64, 1), (96, 3, 1)),
        branch(x, "mixed_4a_7x7", (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1)))
    return join("mixed_5a", branch(x, "mixed_5a_3x3", (192, 3, 2)), largest(x, "mixed_5a_pool"))


def stem_resnet_v1(x):
    """Fig. 14: `299x299x3 -> 35x35x256`."""
    x = branch(x, "conv1", (32, 3, 2))
    x = branch(x, "conv2", (32, 3, 1), (64, 3))
    x = largest(x, "pool1")
    return branch(x, "conv3", (80, 1), (192, 3, 1), (256, 3, 2))


def stem_resnet_v2(x):
    """The released code: `299x299x3 -> 35x35x320`."""
    x = branch(x, "conv1", (32, 3, 2), scale=False)
    x = branch(x, "conv2", (32, 3, 1), (64, 3), scale=False)
    x = largest(x, "pool1")
    x = branch(x, "conv3", (80, 1), (192, 3, 1), scale=False)
    x = largest(x, "pool2")
    return join(
        "mixed_5b",
        branch(x, "mixed_5b_1x1", (96, 1), scale=False),
        branch(x, "mixed_5b_5x5", (48, 1), (64, 5), scale=False),
        branch(x, "mixed_5b_double", (64, 1), (96, 3), (96, 3), scale=False),
        branch(average(x, "mixed_5b_pool"), "mixed_5b_pool_proj", (64, 1), scale=False))


def inception_a(x, name):
    """35x35x384: Fig. 4."""
    return join(
        name,
        branch(average(x, f"{name}_pool"), f"{name}_pool_proj", (96, 1)),
        branch(x, f"{name}_1x1", (96, 1)),
        branch(x, f"{name}_3x3", (64, 1), (96, 3)),
        branch(x, f"{name}_double", (64, 1), (96, 3), (96, 3)))


def inception_b(x, name):
    """17x17x1024: Fig. 5."""
    return join(
        name,
        branch(average(x, f"{name}_pool"), f"{name}_pool_proj", (128, 1)),
        branch(x, f"{name}_1x1", (384, 1)),
        branch(x, f"{name}_7x7", (192, 1), (224, (1, 7)), (256, (7, 1))),
        branch(x, f"{name}_double", (192, 1), (192, (1, 7)), (224, (7, 1)), (224, (1, 7)), (256, (7, 1))))


def inception_c(x, name):
    """8x8x1536: Fig. 6."""
    return join(
        name,
        branch(average(x, f"{name}_pool"), f"{name}_pool_proj", (256, 1)),
        branch(x, f"{name}_1x1", (256, 1)),
        fork(branch(x, f"{name}_3x3", (384, 1)), 256, f"{name}_3x3_fork"),
        fork(branch(x, f"{name}_double", (384, 1), (448, (1, 3)), (512, (3, 1))), 256, f"{name}_double_fork"))


def reduction_a(x, k, l, m, n, name, scale=True):
    """35x35 to 17x17: Fig. 7 with the filters of Table 1."""
    return join(
        name,
        branch(x, f"{name}_3x3", (n, 3, 2), scale=scale),
        branch(x, f"{name}_double", (k, 1), (l, 3), (m, 3, 2), scale=scale),
        largest(x, f"{name}_pool"))


def reduction_b(x, name):
    """17x17 to 8x8: Fig. 8."""
    return join(
        name,
        branch(x, f"{name}_3x3", (192, 1), (192, 3, 2)),
        branch(x, f"{name}_7x7", (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2)),
        largest(x, f"{name}_pool"))


def residual_reduction_b(x, short, middle, long, name, scale=True):
    """17x17 to 8x8: Fig. 12 and 18."""
    return join(
        name,
        branch(x, f"{name}_1", (256, 1), (384, 3, 2), scale=scale),
        branch(x, f"{name}_2", (256, 1), (short, 3, 2), scale=scale),
        branch(x, f"{name}_double", (256, 1), (middle, 3), (long, 3, 2), scale=scale),
        largest(x, f"{name}_pool"))


def residual(x, branches, factor, name, scale=True, last=False):
    """x + factor * a linear 1x1 of the joined branches, then ReLU, but for the last of the released code.

    Fig. 10, 11 and 13; Fig. 16, 17 and 19.
    """
    y = join(f"{name}_join", *(branch(x, f"{name}_{i}", *convs, scale=scale) for i, convs in enumerate(branches, 1)))
    y = layers.Conv2D(x.shape[-1], 1, name=f"{name}_up")(y)
    if last:
        return layers.Add(name=name)([x, y])
    y = layers.Rescaling(factor, name=f"{name}_scale")(y)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))


class ResNet(NamedTuple):
    """An Inception-ResNet: its stem; of each stage the number of modules and their branches; its reductions."""

    stem: Callable
    depths: tuple[int, int, int]
    branches: tuple
    reduction_a: tuple[int, int, int, int]  # Table 1: k, l, m, n
    reduction_b: tuple[int, int, int]
    released: bool = False  # the code's: no gamma, a last module and a last convolution of its own


V1 = (
    (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (32, 3), (32, 3))),
    (((128, 1),), ((128, 1), (128, (1, 7)), (128, (7, 1)))),
    (((192, 1),), ((192, 1), (192, (1, 3)), (192, (3, 1)))))
V2 = (
    (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3))),
    (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1)))),
    (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1)))))

VARIANTS = {
    "inception_v4": None,
    "inception_resnet_v1": ResNet(
        stem_resnet_v1, (5, 10, 5), V1, (192, 192, 256, 384), (256, 256, 256)),
    "inception_resnet_v2": ResNet(
        stem_resnet_v2, (10, 20, 9), V2, (256, 256, 384, 384), (288, 288, 320), released=True),
    "inception_resnet_v2_paper": ResNet(
        stem_v4, (5, 10, 5), V2, (256, 256, 384, 384), (288, 288, 320)),
}

PUBLISHED = {
    "inception_v4":        "ImageNet val, 1 crop: top-1 error 20.0 %, top-5 5.0 % (Table 2)",
    "inception_resnet_v1": "ImageNet val, 1 crop: top-1 error 21.3 %, top-5 5.5 % (Table 2)",
    "inception_resnet_v2": "ImageNet val, 1 crop: top-1 error 19.9 %, top-5 4.9 % (Table 2)",
}


def inception_v4(x):
    """Fig. 9: four, seven and three modules. `299x299x3 -> 8x8x1536`."""
    x = stem_v4(x)
    for i in range(1, 5):
        x = inception_a(x, f"inception_a_{i}")
    x = reduction_a(x, 192, 224, 256, 384, "reduction_a")
    for i in range(1, 8):
        x = inception_b(x, f"inception_b_{i}")
    x = reduction_b(x, "reduction_b")
    for i in range(1, 4):
        x = inception_c(x, f"inception_c_{i}")
    return x


def inception_resnet(x, variant):
    """Fig. 15. `299x299x3 -> 8x8xC`."""
    scale = not variant.released
    x = variant.stem(x)
    for stage, depth, branches, factor in zip("abc", variant.depths, variant.branches, (0.17, 0.10, 0.20)):
        if stage == "b":
            x = reduction_a(x, *variant.reduction_a, "reduction_a", scale)
        elif stage == "c":
            x = residual_reduction_b(x, *variant.reduction_b, "reduction_b", scale)
        for i in range(1, depth + 1):
            x = residual(x, branches, factor, f"inception_{stage}_{i}", scale)
    if variant.released:
        x = residual(x, branches, 1.0, f"inception_c_{depth + 1}", scale, last=True)
        x = conv_bn_relu(x, 1536, 1, scale=scale, name="conv_7b")
    return x


def build(name="inception_v4", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (299, 299, 3), at least 75 pixels a side; height and width
        may be None.
      num_classes: units of the classifier; None leaves the network headless, its output being that of the last
        module, `[B, 8, 8, C]` of 299 pixels.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    inputs, x = common.pixels(input_shape, (299, 299, 3), 75, *common.HALF)
    variant = VARIANTS[name]
    x = inception_resnet(x, variant) if variant else inception_v4(x)
    if num_classes is not None:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.2, name="dropout")(x)
        x = common.predictions(layers.Dense(num_classes, name="fc")(x), classifier_activation)
    return Model(inputs, x, name=name)
