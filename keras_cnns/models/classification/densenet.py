"""DenseNet: Densely Connected Convolutional Networks.

Huang, Liu, van der Maaten, Weinberger. CVPR 2017, arXiv:1608.06993. For ImageNet: Table 1, DenseNet-BC with growth 32
(161: 48). For CIFAR: section 3, "Implementation Details": three blocks of equal depth after a 3x3 of 16 filters (2k
in the BC form), without batch norm of its own; transitions halve the size by averages, and the maps in the BC form.
A layer is BN-ReLU-1x1(4k)-BN-ReLU-3x3(k), without the first half if there is no B; [x, new] are joined in that order.
After the last block come one more batch norm and ReLU. The authors' Torch code begins the plain CIFAR nets with 2k
filters, unlike the paper's text.
"""

from typing import NamedTuple

from keras import Model, layers

from keras_cnns.models.classification import common, resnet
from keras_cnns.models.classification.resnet import bn, conv

TASK, YEAR = "classification", 2016
PAPER = "Densely Connected Convolutional Networks, arXiv:1608.06993"


class Variant(NamedTuple):
    depths: tuple[int, ...]  # layers of each block
    growth: int = 32  # k, the maps each layer adds
    bc: bool = True   # bottlenecks, and transitions that halve the maps


VARIANTS = {
    "densenet121": Variant((6, 12, 24, 16)),
    "densenet169": Variant((6, 12, 32, 32)),
    "densenet201": Variant((6, 12, 48, 32)),
    "densenet264": Variant((6, 12, 64, 48)),
    "densenet161": Variant((6, 12, 36, 24), 48),
    "densenet40_k12_cifar":     Variant((12, 12, 12), 12, bc=False),
    "densenet100_k12_cifar":    Variant((32, 32, 32), 12, bc=False),
    "densenet100_k24_cifar":    Variant((32, 32, 32), 24, bc=False),
    "densenet100_k12_bc_cifar": Variant((16, 16, 16), 12),
    "densenet250_k24_bc_cifar": Variant((41, 41, 41), 24),
    "densenet190_k40_bc_cifar": Variant((31, 31, 31), 40),
}

PUBLISHED = {  # C10+: CIFAR-10 with mirroring and shifts
    "densenet121": "ImageNet val, 1 crop: top-1 error 25.02 %, top-5 7.71 % (Table 3)",
    "densenet169": "ImageNet val, 1 crop: top-1 error 23.80 %, top-5 6.85 % (Table 3)",
    "densenet201": "ImageNet val, 1 crop: top-1 error 22.58 %, top-5 6.34 % (Table 3)",
    "densenet264": "ImageNet val, 1 crop: top-1 error 22.15 %, top-5 6.12 % (Table 3)",
    "densenet161": "ImageNet val, 1 crop: top-1 error 22.86 %, top-5 6.44 % (torchvision's release)",
    "densenet40_k12_cifar":     "C10+: error 5.24 % (Table 2)",
    "densenet100_k12_cifar":    "C10+: error 4.10 % (Table 2)",
    "densenet100_k24_cifar":    "C10+: error 3.74 % (Table 2)",
    "densenet100_k12_bc_cifar": "C10+: error 4.51 % (Table 2)",
    "densenet250_k24_bc_cifar": "C10+: error 3.62 % (Table 2)",
    "densenet190_k40_bc_cifar": "C10+: error 3.46 % (Table 2)",
}


def bn_relu_conv(x, filters, kernel_size, dropout, name):
    x = layers.ReLU(name=f"{name}_relu")(bn(x, name))
    x = conv(x, filters, kernel_size, 1, name)
    return layers.Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x


def dense_block(x, depth, growth, bottlenecks, dropout, name):
    """Each layer sees all maps before it. `[B, H, W, C] -> [B, H, W, C + depth * growth]`."""
    for i in range(1, depth + 1):
        y = bn_relu_conv(x, 4 * growth, 1, dropout, f"{name}_{i}_1") if bottlenecks else x
        y = bn_relu_conv(y, growth, 3, dropout, f"{name}_{i}_2")
        x = layers.Concatenate(name=name if i == depth else f"{name}_{i}")([x, y])
    return x


def transition(x, filters, dropout, name):
    """BN-ReLU-1x1 and averages of 2x2. `[B, H, W, C] -> [B, H/2, W/2, filters]`."""
    x = bn_relu_conv(x, filters, 1, dropout, name)
    return layers.AveragePooling2D(2, 2, name=f"{name}_pool")(x)


def build(name="densenet121", input_shape=None, num_classes=..., classifier_activation="softmax", dropout=0.0):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3), at least 29 pixels a side, or, for CIFAR,
        (32, 32, 3), at least 4; height and width may be None.
      num_classes: units of the classifier, by default 1000 or, for CIFAR, 10; None leaves the network headless, its
        output being "post_relu", `[B, H/32, W/32, C]`, for CIFAR `[B, H/4, W/4, C]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
      dropout: rate after each convolution but the first; the paper takes 0.2 where it does not augment.
    """
    v, cifar = VARIANTS[name], name.endswith("_cifar")
    if cifar:
        inputs, x = common.pixels(input_shape, (32, 32, 3), 4, common.CIFAR_MEAN, common.CIFAR_VARIANCE)
        x = conv(x, 2 * v.growth if v.bc else 16, 3, 1, "conv1")
    else:
        inputs, x = common.pixels(input_shape, (224, 224, 3), 29)
        x = resnet.conv_bn_relu(x, 2 * v.growth, 7, 2, "conv1")
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
        x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    for i, depth in enumerate(v.depths, 1):
        if i > 1:
            x = transition(x, x.shape[-1] // 2 if v.bc else x.shape[-1], dropout, f"transition{i - 1}")
        x = dense_block(x, depth, v.growth, v.bc, dropout, f"dense_block{i}")
    x = layers.ReLU(name="post_relu")(bn(x, "post"))
    return Model(inputs, resnet.head(x, num_classes, 10 if cifar else 1000, classifier_activation), name=name)
