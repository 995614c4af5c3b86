"""Inception v3: Rethinking the Inception Architecture for Computer Vision.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna. CVPR 2016, arXiv:1512.00567. Table 1 with the modules of Fig. 5 to 7 and the
reductions of Fig. 10; where the paper leaves widths open, those of the authors' release. `inception_v3_aux` has the
batch-normalised auxiliary classifier of section 4 as an output "aux1", which training takes with 0.4; it is
torchvision's release, whose average pooling counts the zeros of the padding. Module names are the release's:
"mixed_5b" to "mixed_7c".
"""

from keras import Model, layers

from keras_cnns.models.classification import common
from keras_cnns.models.classification.inception_v2 import branch, conv_bn_relu, join

TASK, YEAR = "classification", 2015
PAPER = "Rethinking the Inception Architecture for Computer Vision, arXiv:1512.00567"

VARIANTS = {  # whether it has an auxiliary classifier, and pools as torchvision does
    "inception_v3":     False,
    "inception_v3_aux": True,
}

PUBLISHED = {
    "inception_v3":     "ImageNet val, 1 crop: top-1 error 21.2 %, top-5 5.6 % (Table 3)",
    "inception_v3_aux": "ImageNet val, 1 crop: top-1 error 22.71 %, top-5 6.55 % (torchvision's release)",
}


def average(x, name, count_padding=False):
    """3x3 averages; a window over the border counts the cells inside, or all nine."""
    if count_padding:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.AveragePooling2D(3, 1, "valid" if count_padding else "same", name=name)(x)


def largest(x, name):
    return layers.MaxPooling2D(3, 2, name=name)(x)


def inception_a(x, pool_filters, count_padding, name):
    """35x35: Fig. 5, one 5x5 kept as the release has it."""
    return join(
        name,
        branch(x, f"{name}_1x1", (64, 1)),
        branch(x, f"{name}_5x5", (48, 1), (64, 5)),
        branch(x, f"{name}_double", (64, 1), (96, 3), (96, 3)),
        branch(average(x, f"{name}_pool", count_padding), f"{name}_pool_proj", (pool_filters, 1)))


def reduction_a(x, name):
    """35x35 to 17x17: Fig. 10."""
    return join(
        name,
        branch(x, f"{name}_3x3", (384, 3, 2)),
        branch(x, f"{name}_double", (64, 1), (96, 3), (96, 3, 2)),
        largest(x, f"{name}_pool"))


def inception_b(x, width, count_padding, name):
    """17x17: Fig. 6 with n = 7."""
    return join(
        name,
        branch(x, f"{name}_1x1", (192, 1)),
        branch(x, f"{name}_7x7", (width, 1), (width, (1, 7)), (192, (7, 1))),
        branch(x, f"{name}_double", (width, 1), (width, (7, 1)), (width, (1, 7)), (width, (7, 1)), (192, (1, 7))),
        branch(average(x, f"{name}_pool", count_padding), f"{name}_pool_proj", (192, 1)))


def reduction_b(x, name):
    """17x17 to 8x8."""
    return join(
        name,
        branch(x, f"{name}_3x3", (192, 1), (320, 3, 2)),
        branch(x, f"{name}_7x7", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)),
        largest(x, f"{name}_pool"))


def fork(x, filters, name):
    """1x3 and 3x1 side by side."""
    return join(name, branch(x, f"{name}_1x3", (filters, (1, 3))), branch(x, f"{name}_3x1", (filters, (3, 1))))


def inception_c(x, count_padding, name):
    """8x8: Fig. 7."""
    return join(
        name,
        branch(x, f"{name}_1x1", (320, 1)),
        fork(branch(x, f"{name}_3x3", (384, 1)), 384, f"{name}_3x3_fork"),
        fork(branch(x, f"{name}_double", (448, 1), (384, 3)), 384, f"{name}_double_fork"),
        branch(average(x, f"{name}_pool", count_padding), f"{name}_pool_proj", (192, 1)))


def build(name="inception_v3", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (299, 299, 3), at least 75 pixels a side, with the
        auxiliary classifier 299; height and width may be None.
      num_classes: units of the classifier; None leaves the network headless, its output being "mixed_7c",
        `[B, 8, 8, 2048]` of 299 pixels.
      classifier_activation: "softmax", "sigmoid", or None for logits.

    Returns:
      a `keras.Model`; that of `inception_v3_aux` answers a dict of "predictions" and "aux1".
    """
    aux = VARIANTS[name]
    has_aux = aux and num_classes is not None
    inputs, x = common.pixels(input_shape, (299, 299, 3), 299 if has_aux else 75, *common.HALF)
    x = branch(x, "conv1", (32, 3, 2))
    x = conv_bn_relu(x, 32, 3, padding="valid", name="conv2")
    x = conv_bn_relu(x, 64, 3, name="conv3")
    x = largest(x, "pool1")
    x = conv_bn_relu(x, 80, 1, name="conv4")
    x = conv_bn_relu(x, 192, 3, padding="valid", name="conv5")
    x = largest(x, "pool2")
    for key, pool_filters in zip("bcd", (32, 64, 64)):
        x = inception_a(x, pool_filters, aux, f"mixed_5{key}")
    x = reduction_a(x, "mixed_6a")
    for key, width in zip("bcde", (128, 160, 160, 192)):
        x = inception_b(x, width, aux, f"mixed_6{key}")
    outputs = {"aux1": auxiliary(x, num_classes, classifier_activation)} if has_aux else {}
    x = reduction_b(x, "mixed_7a")
    for key in "bc":
        x = inception_c(x, aux, f"mixed_7{key}")
    if num_classes is not None:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.2, name="dropout")(x)
        x = common.predictions(layers.Dense(num_classes, name="fc")(x), classifier_activation)
    return Model(inputs, {"predictions": x, **outputs} if outputs else x, name=name)


def auxiliary(x, num_classes, activation):
    """On the last 17x17 map: average 5x5 with stride 3, 1x1, 5x5 over all that is left, classifier."""
    x = layers.AveragePooling2D(5, 3, name="aux1_pool")(x)
    x = conv_bn_relu(x, 128, 1, name="aux1_1")
    x = conv_bn_relu(x, 768, 5, padding="valid", name="aux1_2")
    x = layers.GlobalAveragePooling2D(name="aux1_avg_pool")(x)
    return common.predictions(layers.Dense(num_classes, name="aux1_fc")(x), activation, "aux1")
