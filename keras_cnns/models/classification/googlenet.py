"""GoogLeNet: Going Deeper with Convolutions.

Szegedy et al. CVPR 2015, arXiv:1409.4842. Table 1, the module of Fig. 2(b), in `naive` form that of Fig. 2(a), where
the pooling passes all its maps on. Response normalisation stands after pool1 and before pool2; pooling rounds up (as
in the authors' Caffe files, whose numbers of the normalisation and biases of 0.2 are taken). The auxiliary classifiers
of section 5 hang on 4a and 4d: `googlenet_aux` has them as outputs "aux1" and "aux2", of which training takes 0.3
each.

`googlenet_bn` is torchvision's release: batch norm, no biases, no response normalisation, 3x3 in place of 5x5, pool4
of 2x2, and pixels of -1 to 1 (the release undoes torchvision's usual mean and deviation).
"""

from typing import NamedTuple

from keras import Model, initializers, layers

from keras_cnns.layers import LocalResponseNormalization
from keras_cnns.models.classification import common

TASK, YEAR = "classification", 2014
PAPER = "Going Deeper with Convolutions, arXiv:1409.4842"

# Table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class Variant(NamedTuple):
    bn: bool = False
    auxiliary: tuple[str, ...] = ()  # modules with a classifier of their own


VARIANTS = {
    "googlenet":     Variant(),
    "googlenet_aux": Variant(auxiliary=("4a", "4d")),
    "googlenet_bn":  Variant(bn=True),
}

PUBLISHED = {
    "googlenet":     "ImageNet val, 1 crop: top-5 error 10.07 % (Table 3)",
    "googlenet_aux": "ImageNet val, 1 crop: top-5 error 10.07 % (Table 3)",
    "googlenet_bn":  "ImageNet val, 1 crop: top-1 error 30.22 %, top-5 10.47 % (torchvision's release)",
}


def conv_relu(x, filters, kernel_size, bn, name, strides=1):
    if strides > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(filters, kernel_size, strides, "same" if strides == 1 else "valid", use_bias=not bn,
                      bias_initializer=initializers.Constant(0.2), name=name)(x)
    if bn:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def inception(x, widths, bn, name):
    """Fig. 2(b): `[B, H, W, C] -> [B, H, W, sum of the four branches]`."""
    n1, n3_reduce, n3, n5_reduce, n5, pool = widths
    a = conv_relu(x, n1, 1, bn, f"{name}_1x1")
    b = conv_relu(x, n3_reduce, 1, bn, f"{name}_3x3_reduce")
    b = conv_relu(b, n3, 3, bn, f"{name}_3x3")
    c = conv_relu(x, n5_reduce, 1, bn, f"{name}_5x5_reduce")
    c = conv_relu(c, n5, 3 if bn else 5, bn, f"{name}_5x5")
    d = layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    d = conv_relu(d, pool, 1, bn, f"{name}_pool_proj")
    return layers.Concatenate(name=name)([a, b, c, d])


def naive_inception(x, widths, bn, name):
    """Fig. 2(a): no reductions; the maps of the pooling are all passed on."""
    n1, _, n3, _, n5, _ = widths
    a = conv_relu(x, n1, 1, bn, f"{name}_1x1")
    b = conv_relu(x, n3, 3, bn, f"{name}_3x3")
    c = conv_relu(x, n5, 3 if bn else 5, bn, f"{name}_5x5")
    d = layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    return layers.Concatenate(name=name)([a, b, c, d])


def auxiliary(x, num_classes, activation, name):
    """Average 5x5 with stride 3, 1x1, fully connected, 70 % dropout, classifier (section 5)."""
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = conv_relu(x, 128, 1, False, f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc1")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return common.predictions(layers.Dense(num_classes, name=f"{name}_fc2")(x), activation, name)


def build(name="googlenet", input_shape=None, num_classes=1000, classifier_activation="softmax", naive=False):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3), at least 31 pixels a side, with batch norm
        15; height and width may be None, but for `googlenet_aux` with its classifiers, which needs at least 79.
      num_classes: units of the classifier; None leaves the network headless, its output being "inception_5b",
        `[B, H/32, W/32, 1024]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
      naive: modules of Fig. 2(a), which nobody trains: 5b ends with 6,672 maps.

    Returns:
      a `keras.Model`; that of `googlenet_aux` answers a dict of "predictions", "aux1" and "aux2".
    """
    variant = VARIANTS[name]
    bn, module = variant.bn, naive_inception if naive else inception
    has_aux = variant.auxiliary and num_classes is not None
    scale = common.HALF if bn else (common.IMAGENET_MEAN, (1.0,) * 3)
    inputs, x = common.pixels(input_shape, (224, 224, 3), 79 if has_aux else 15 if bn else 31, *scale, fixed=has_aux)
    x = conv_relu(x, 64, 7, bn, "conv1", strides=2)
    x = common.caffe_max_pool(x, 3, 2, "pool1")
    x = x if bn else normalized(x, "norm1")
    x = conv_relu(x, 64, 1, bn, "conv2_reduce")
    x = conv_relu(x, 192, 3, bn, "conv2")
    x = x if bn else normalized(x, "norm2")
    x = common.caffe_max_pool(x, 3, 2, "pool2")
    outputs = {}
    for key, widths in INCEPTION.items():
        if key == "4a":
            x = common.caffe_max_pool(x, 3, 2, "pool3")
        if key == "5a":
            x = common.caffe_max_pool(x, 2 if bn else 3, 2, "pool4")
        x = module(x, widths, bn, f"inception_{key}")
        if has_aux and key in variant.auxiliary:
            aux = f"aux{len(outputs) + 1}"
            outputs[aux] = auxiliary(x, num_classes, classifier_activation, aux)
    if num_classes is not None:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.2 if bn else 0.4, name="dropout")(x)
        x = common.predictions(layers.Dense(num_classes, name="fc")(x), classifier_activation)
    return Model(inputs, {"predictions": x, **outputs} if outputs else x, name=name)


def normalized(x, name):
    return LocalResponseNormalization(bias=1.0, alpha=1e-4 / 5, name=name)(x)  # Caffe divides alpha by the 5 maps
