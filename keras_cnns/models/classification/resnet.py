"""ResNet: Deep Residual Learning for Image Recognition.

He, Zhang, Ren, Sun. CVPR 2016, arXiv:1512.03385. For ImageNet: Table 1, blocks of Fig. 5; for CIFAR: section 4.2,
6n+2 layers of 16, 32 and 64 filters. Batch norm after every convolution and He's initialisation: section 3.4.
Shortcuts A, B and C: section 3.3 and Table 3. The plain nets of Fig. 3 (middle) are the same tables without any.

The authors stride in the first 1x1 convolution of a bottleneck; the rows called v1_5 stride in its 3x3, as the
later releases of Torch and torchvision do (same parameters, 0.23 billion multiply-adds more). The paper's Table 2
uses the parameter-free shortcut A for 18 and 34 layers (rows _a); `resnet18` and `resnet34` use B, as every
release does.

The last layer of each stage carries the paper's name, "conv2_x" to "conv5_x" (strides 4, 8, 16, 32; for CIFAR
"conv2_x" to "conv4_x", strides 1, 2, 4), so that a detector cuts the graph with `get_layer`.
"""

from typing import Callable, NamedTuple

from keras import Input, Model, initializers, layers, ops

from keras_cnns.models.classification import common

TASK, YEAR = "classification", 2015
PAPER = "Deep Residual Learning for Image Recognition, arXiv:1512.03385"


def he():
    """He's initialisation, a whole Gaussian: Keras' "he_normal" cuts its tails off, and takes twice as long."""
    return initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


def conv(x, filters, kernel_size, strides, name):
    """Convolution without bias, zero-padded symmetrically (which "same" is not where it strides)."""
    if kernel_size > 1 and strides > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, kernel_size, strides, "same" if strides == 1 else "valid", use_bias=False,
                         kernel_initializer=he(), name=f"{name}_conv")(x)


def bn(x, name):
    """Batch norm with Caffe's epsilon and momentum 0.9."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)


def conv_bn(x, filters, kernel_size, strides, name):
    return bn(conv(x, filters, kernel_size, strides, name), name)


def conv_bn_relu(x, filters, kernel_size, strides, name):
    return layers.ReLU(name=f"{name}_relu")(conv_bn(x, filters, kernel_size, strides, name))


def basic_block(x, filters, strides, name):
    """Two 3x3 convolutions (Fig. 5, left). `[B, H, W, C] -> [B, H/s, W/s, F]`."""
    x = conv_bn_relu(x, filters, 3, strides, f"{name}_1")
    return conv_bn(x, filters, 3, 1, f"{name}_2")


def bottleneck_block(x, filters, strides, name):
    """1x1 reduce, 3x3, 1x1 restore (Fig. 5, right). `[B, H, W, C] -> [B, H/s, W/s, 4F]`."""
    x = conv_bn_relu(x, filters, 1, strides, f"{name}_1")
    x = conv_bn_relu(x, filters, 3, 1, f"{name}_2")
    return conv_bn(x, 4 * filters, 1, 1, f"{name}_3")


def bottleneck_block_v1_5(x, filters, strides, name):
    """The same with the stride in the 3x3."""
    x = conv_bn_relu(x, filters, 1, 1, f"{name}_1")
    x = conv_bn_relu(x, filters, 3, strides, f"{name}_2")
    return conv_bn(x, 4 * filters, 1, 1, f"{name}_3")


def pad_channels(x, filters, strides, name):
    """Shortcut A where dimensions change: every `strides`-th pixel, and zeros for the new channels."""
    if strides > 1:
        x = layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x)
    return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, filters - x.shape[-1])))


class Variant(NamedTuple):
    block: Callable
    depths: tuple[int, ...]  # blocks in conv2_x, conv3_x, ...
    shortcut: str | None = "B"  # A: zeros, B: a projection where dimensions change, C: everywhere; None: plain


VARIANTS = {
    "plain18":        Variant(basic_block,           (2, 2, 2, 2), None),
    "plain34":        Variant(basic_block,           (3, 4, 6, 3), None),
    "resnet18":       Variant(basic_block,           (2, 2, 2, 2)),
    "resnet18_a":     Variant(basic_block,           (2, 2, 2, 2), "A"),
    "resnet34":       Variant(basic_block,           (3, 4, 6, 3)),
    "resnet34_a":     Variant(basic_block,           (3, 4, 6, 3), "A"),
    "resnet34_c":     Variant(basic_block,           (3, 4, 6, 3), "C"),
    "resnet50":       Variant(bottleneck_block,      (3, 4, 6, 3)),
    "resnet101":      Variant(bottleneck_block,      (3, 4, 23, 3)),
    "resnet152":      Variant(bottleneck_block,      (3, 8, 36, 3)),
    "resnet50_v1_5":  Variant(bottleneck_block_v1_5, (3, 4, 6, 3)),
    "resnet101_v1_5": Variant(bottleneck_block_v1_5, (3, 4, 23, 3)),
    "resnet152_v1_5": Variant(bottleneck_block_v1_5, (3, 8, 36, 3)),
    **{f"resnet{6 * n + 2}_cifar": Variant(basic_block, (n, n, n), "A") for n in (3, 5, 7, 9, 18, 200)},
    **{f"plain{6 * n + 2}_cifar":  Variant(basic_block, (n, n, n), None) for n in (3, 5, 7, 9)},
}

PUBLISHED = {
    "plain18":  "ImageNet val, 10 crops: top-1 error 27.94 % (Table 2)",
    "plain34":  "ImageNet val, 10 crops: top-1 error 28.54 %, top-5 10.02 % (Table 3)",
    "resnet18": "ImageNet val, 1 crop: top-1 error 30.24 %, top-5 10.92 % (torchvision's release)",
    "resnet18_a": "ImageNet val, 10 crops: top-1 error 27.88 % (Table 2)",
    "resnet34": "ImageNet val, 10 crops: top-1 error 24.52 %, top-5 7.46 % (Table 3)",
    "resnet34_a": "ImageNet val, 10 crops: top-1 error 25.03 %, top-5 7.76 % (Table 3)",
    "resnet34_c": "ImageNet val, 10 crops: top-1 error 24.19 %, top-5 7.40 % (Table 3)",
    "resnet50": "ImageNet val, 10 crops: top-1 error 22.85 %, top-5 6.71 % (Table 3)",
    "resnet101": "ImageNet val, 10 crops: top-1 error 21.75 %, top-5 6.05 % (Table 3)",
    "resnet152": "ImageNet val, 10 crops: top-1 error 21.43 %, top-5 5.71 % (Table 3)",
    "resnet50_v1_5": "ImageNet val, 1 crop: top-1 error 23.87 %, top-5 7.14 % (torchvision's release)",
    "resnet101_v1_5": "ImageNet val, 1 crop: top-1 error 22.63 %, top-5 6.45 % (torchvision's release)",
    "resnet152_v1_5": "ImageNet val, 1 crop: top-1 error 21.69 %, top-5 5.95 % (torchvision's release)",
    "resnet20_cifar": "CIFAR-10 test: error 8.75 % (Table 6)",
    "resnet32_cifar": "CIFAR-10 test: error 7.51 % (Table 6)",
    "resnet44_cifar": "CIFAR-10 test: error 7.17 % (Table 6)",
    "resnet56_cifar": "CIFAR-10 test: error 6.97 % (Table 6)",
    "resnet110_cifar": "CIFAR-10 test: error 6.43 %, mean of five 6.61 (Table 6)",
    "resnet1202_cifar": "CIFAR-10 test: error 7.93 % (Table 6)",
}


def shortcut(x, kind, filters, strides, name):
    """What a block adds its answer to (section 3.3)."""
    changes = strides > 1 or x.shape[-1] != filters
    if kind == "C" or (kind == "B" and changes):
        return conv_bn(x, filters, 1, strides, f"{name}_shortcut")
    return pad_channels(x, filters, strides, f"{name}_shortcut") if changes else x


def stage(x, variant, filters, depth, strides, name):
    """`depth` blocks; the first one strides. The last layer is called `name`."""
    for i in range(1, depth + 1):
        block, s = f"{name[:-1]}{i}", strides if i == 1 else 1
        y = variant.block(x, filters, s, block)
        if variant.shortcut:
            x = shortcut(x, variant.shortcut, y.shape[-1], s, block)
            y = layers.Add(name=f"{block}_add")([x, y])
        x = layers.ReLU(name=name if i == depth else f"{block}_relu")(y)
    return x


def long_stage(x, *arguments, name):
    """A stage as a network in the network, since Keras follows a graph by recursion, a thousand layers at most."""
    inputs = Input(x.shape[1:])
    inner = Model(inputs, stage(inputs, *arguments, name=name), name=f"{name}_blocks")
    return layers.Identity(name=name)(inner(x))


def build(name="resnet50", input_shape=None, num_classes=..., classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3) or, for CIFAR, (32, 32, 3); height and
        width may be None.
      num_classes: units of the classifier, by default 1000 or, for CIFAR, 10; None leaves the network headless, its
        output being "conv5_x", `[B, H/32, W/32, C]`, or "conv4_x", `[B, H/4, W/4, 64]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    variant, cifar = VARIANTS[name], name.endswith("_cifar")
    inputs, x = (cifar_stem if cifar else imagenet_stem)(input_shape)
    for i, depth in enumerate(variant.depths):
        make = stage if depth < 100 else long_stage
        x = make(x, variant, (16 if cifar else 64) * 2**i, depth, 2 if i else 1, name=f"conv{i + 2}_x")
    return Model(inputs, head(x, num_classes, 10 if cifar else 1000, classifier_activation), name=name)


def imagenet_stem(input_shape):
    """conv1 and pool1 of Table 1: `(inputs, x [B, H/4, W/4, 64])`."""
    inputs, x = common.pixels(input_shape, (224, 224, 3))
    x = conv_bn_relu(x, 64, 7, 2, "conv1")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return inputs, layers.MaxPooling2D(3, 2, name="pool1")(x)


def cifar_stem(input_shape):
    """The first convolution of section 4.2: `(inputs, x [B, H, W, 16])`."""
    inputs, x = common.pixels(input_shape, (32, 32, 3), mean=common.CIFAR_MEAN, variance=common.CIFAR_VARIANCE)
    return inputs, conv_bn_relu(x, 16, 3, 1, "conv1")


def head(x, num_classes, default, activation):
    """Global average and the classifier; `x` itself if there are no classes."""
    if num_classes is None:
        return x
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dense(default if num_classes is ... else num_classes, name="fc")(x)
    return common.predictions(x, activation)
