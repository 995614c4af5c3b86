"""ResNeXt: Aggregated Residual Transformations for Deep Neural Networks.

Xie, Girshick, Dollár, Tu, He. CVPR 2017, arXiv:1611.05431. Table 1, template of Fig. 3(c): a bottleneck whose 3x3 is a
grouped convolution of `cardinality` groups of `width` channels in conv2_x, doubled in each stage; it carries the
stride. Shortcuts are option B. Everything else is ResNet's.
"""

from typing import NamedTuple

from keras import Model, layers

from keras_cnns.models.classification import resnet
from keras_cnns.models.classification.resnet import bn, conv_bn, conv_bn_relu, he

TASK, YEAR = "classification", 2016
PAPER = "Aggregated Residual Transformations for Deep Neural Networks, arXiv:1611.05431"


class Variant(NamedTuple):
    depths: tuple[int, int, int, int]
    cardinality: int
    width: int  # channels of a group in conv2_x
    shortcut: str = "B"

    def block(self, x, filters, strides, name):
        """1x1 reduce, grouped 3x3, 1x1 restore (Fig. 3c). `[B, H, W, C] -> [B, H/s, W/s, 4F]`."""
        inner = filters // 64 * self.width * self.cardinality
        x = conv_bn_relu(x, inner, 1, 1, f"{name}_1")
        if strides > 1:
            x = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(x)
        x = layers.Conv2D(inner, 3, strides, "same" if strides == 1 else "valid", groups=self.cardinality,
                          use_bias=False, kernel_initializer=he(), name=f"{name}_2_conv")(x)
        x = layers.ReLU(name=f"{name}_2_relu")(bn(x, f"{name}_2"))
        return conv_bn(x, 4 * filters, 1, 1, f"{name}_3")


VARIANTS = {
    "resnext50_32x4d":  Variant((3, 4, 6, 3), 32, 4),
    "resnext101_32x4d": Variant((3, 4, 23, 3), 32, 4),
    "resnext101_64x4d": Variant((3, 4, 23, 3), 64, 4),
}

PUBLISHED = {
    "resnext50_32x4d":  "ImageNet val, 1 crop: top-1 error 22.2 % (Table 3)",
    "resnext101_32x4d": "ImageNet val, 1 crop: top-1 error 21.2 % (Table 3)",
    "resnext101_64x4d": "ImageNet val, 1 crop: top-1 error 20.4 %, top-5 5.3 % (Table 4)",
}


def build(name="resnext50_32x4d", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network; arguments and result as of `resnet.build`."""
    variant = VARIANTS[name]
    inputs, x = resnet.imagenet_stem(input_shape)
    for i, depth in enumerate(variant.depths):
        x = resnet.stage(x, variant, 64 * 2**i, depth, 2 if i else 1, f"conv{i + 2}_x")
    return Model(inputs, resnet.head(x, num_classes, 1000, classifier_activation), name=name)
