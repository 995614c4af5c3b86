"""Inception v2: Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift.

Ioffe, Szegedy. ICML 2015, arXiv:1502.03167. Fig. 5: GoogLeNet with batch norm in place of response normalisation and of
the biases, two 3x3 in place of each 5x5, pooling within modules mostly by averages, and modules 3c and 4e which halve
the size and pass a max pooling on. conv1 is a plain 7x7 (a later release of the authors makes it separable). Fig. 5
prints 576 maps for 4c and 4d, whose widths, as printed, give 608: these are taken.
"""

from keras import Model, layers

from keras_cnns.models.classification import common

TASK, YEAR = "classification", 2015
PAPER = "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, arXiv:1502.03167"

# Fig. 5: 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pool proj. Modules without a 1x1 have stride 2.
INCEPTION = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),  # its pooling is a max
}

VARIANTS = {"inception_v2": INCEPTION}

PUBLISHED = {"inception_v2": "ImageNet val, 1 crop: top-1 error 25.2 %, top-5 7.8 % (section 4.2.2, Fig. 4)"}


def conv_bn_relu(x, filters, kernel_size, strides=1, padding="same", scale=True, name=None):
    """Convolution without bias, batch norm (`scale`: with gamma), ReLU."""
    x = layers.Conv2D(filters, kernel_size, strides, padding, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, scale=scale, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def branch(x, name, *convs, reduction="valid", scale=True):
    """Convolutions after one another: (filters, kernel) or, with padding `reduction`, (filters, kernel, strides)."""
    for i, (filters, kernel_size, *strides) in enumerate(convs, 1):
        x = conv_bn_relu(x, filters, kernel_size, strides[0] if strides else 1, reduction if strides else "same", scale,
                         f"{name}_{i}")
    return x


def join(name, *branches):
    return layers.Concatenate(name=name)(branches)


def inception(x, widths, pooling, name):
    """A module of Fig. 5. `[B, H, W, C] -> [B, H/s, W/s, sum of its branches]`."""
    n1, n3_reduce, n3, double_reduce, double, pool = widths
    s = () if n1 else (2,)
    branches = [branch(x, f"{name}_1x1", (n1, 1))] if n1 else []
    branches.append(branch(x, f"{name}_3x3", (n3_reduce, 1), (n3, 3, *s), reduction="same"))
    branches.append(branch(x, f"{name}_double", (double_reduce, 1), (double, 3), (double, 3, *s), reduction="same"))
    x = pooling(3, 1 if n1 else 2, "same", name=f"{name}_pool")(x)
    branches.append(branch(x, f"{name}_pool_proj", (pool, 1)) if pool else x)
    return join(name, *branches)


def build(name="inception_v2", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3); height and width may be None.
      num_classes: units of the classifier; None leaves the network headless, its output being "inception_5b",
        `[B, H/32, W/32, 1024]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    inputs, x = common.pixels(input_shape, (224, 224, 3), 1, *common.HALF)
    x = conv_bn_relu(x, 64, 7, 2, name="conv1")
    x = layers.MaxPooling2D(3, 2, "same", name="pool1")(x)
    x = conv_bn_relu(x, 64, 1, name="conv2_reduce")
    x = conv_bn_relu(x, 192, 3, name="conv2")
    x = layers.MaxPooling2D(3, 2, "same", name="pool2")(x)
    for key, widths in INCEPTION.items():
        pooling = layers.MaxPooling2D if not widths[0] or key == "5b" else layers.AveragePooling2D
        x = inception(x, widths, pooling, f"inception_{key}")
    if num_classes is not None:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = common.predictions(layers.Dense(num_classes, name="fc")(x), classifier_activation)
    return Model(inputs, x, name=name)
