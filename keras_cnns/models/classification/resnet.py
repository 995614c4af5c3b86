"""ResNet: Deep Residual Learning for Image Recognition.

He, Zhang, Ren, Sun. CVPR 2016, arXiv:1512.03385. Architectures: Table 1; blocks: Fig. 5; projection
shortcuts: option B of section 3.3; He initialisation and batch norm after every convolution: section 3.4. The
plain nets of Fig. 3 (middle) are the same tables with `residual=False`.

The authors stride in the first 1x1 convolution of a bottleneck; the rows called v1_5 stride in its 3x3, as the
later releases of Torch and torchvision do (same parameters, 0.23 billion multiply-adds more). The paper's
Table 2 uses the parameter-free shortcut A for 18 and 34 layers; these rows use B, as every release does.

The last layer of each stage carries the paper's name, "conv2_x" to "conv5_x" (strides 4, 8, 16, 32), so that
a detector cuts the graph with `get_layer`.
"""

from typing import Callable, NamedTuple

from keras import Input, Model, layers

TASK, YEAR = "classification", 2015
PAPER = "Deep Residual Learning for Image Recognition, arXiv:1512.03385"

MEAN = (123.675, 116.28, 103.53)  # ImageNet, RGB, 0 to 255
VARIANCE = (58.395**2, 57.12**2, 57.375**2)


def conv_bn(x, filters, kernel_size, strides, name):
    """Convolution without bias, zero-padded symmetrically, then batch norm (Caffe's epsilon, momentum 0.9)."""
    if kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(filters, kernel_size, strides, use_bias=False,
                      kernel_initializer="he_normal", name=f"{name}_conv")(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)


def conv_bn_relu(x, filters, kernel_size, strides, name):
    x = conv_bn(x, filters, kernel_size, strides, name)
    return layers.ReLU(name=f"{name}_relu")(x)


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


class Variant(NamedTuple):
    block: Callable
    depths: tuple[int, int, int, int]  # blocks in conv2_x, conv3_x, conv4_x, conv5_x
    residual: bool = True


VARIANTS = {
    "plain18":        Variant(basic_block,           (2, 2, 2, 2), residual=False),
    "plain34":        Variant(basic_block,           (3, 4, 6, 3), residual=False),
    "resnet18":       Variant(basic_block,           (2, 2, 2, 2)),
    "resnet34":       Variant(basic_block,           (3, 4, 6, 3)),
    "resnet50":       Variant(bottleneck_block,      (3, 4, 6, 3)),
    "resnet101":      Variant(bottleneck_block,      (3, 4, 23, 3)),
    "resnet152":      Variant(bottleneck_block,      (3, 8, 36, 3)),
    "resnet50_v1_5":  Variant(bottleneck_block_v1_5, (3, 4, 6, 3)),
    "resnet101_v1_5": Variant(bottleneck_block_v1_5, (3, 4, 23, 3)),
    "resnet152_v1_5": Variant(bottleneck_block_v1_5, (3, 8, 36, 3)),
}


def stage(x, variant, filters, depth, strides, name):
    """`depth` blocks; the first one strides. The last layer is called `name`."""
    for i in range(1, depth + 1):
        block, s = f"{name[:-1]}{i}", strides if i == 1 else 1
        y = variant.block(x, filters, s, block)
        if variant.residual:
            if x.shape[-1] != y.shape[-1] or s != 1:  # option B: project
                x = conv_bn(x, y.shape[-1], 1, s, f"{block}_shortcut")
            y = layers.Add(name=f"{block}_add")([x, y])
        x = layers.ReLU(name=name if i == depth else f"{block}_relu")(y)
    return x


def build(name="resnet50", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, (224, 224, 3) by default; height and width may be None.
      num_classes: units of the classifier; None leaves the network headless, its output being "conv5_x",
        `[B, H/32, W/32, C]`.
      classifier_activation: "softmax", or None for logits.
    """
    variant = VARIANTS[name]
    inputs = Input(input_shape or (224, 224, 3), name="image")
    x = layers.Normalization(mean=MEAN, variance=VARIANCE, name="normalize")(inputs)
    x = conv_bn_relu(x, 64, 7, 2, "conv1")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    for i, (filters, depth) in enumerate(zip((64, 128, 256, 512), variant.depths)):
        x = stage(x, variant, filters, depth, 1 if i == 0 else 2, f"conv{i + 2}_x")
    if num_classes is not None:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(num_classes, name="fc")(x)
        x = layers.Activation(classifier_activation or "linear", dtype="float32", name="predictions")(x)
    return Model(inputs, x, name=name)
