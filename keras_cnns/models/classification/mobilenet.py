"""MobileNet: MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications.

Howard et al. 2017, arXiv:1704.04861. Table 1 with the width multiplier of section 3.3 in each name: 1.0, 0.75, 0.5 and
0.25. Batch norm and ReLU follow both the depthwise and the pointwise convolution (Fig. 3). The last depthwise
convolution has stride 1, as the 7x7 maps after it tell; the table prints 2. ReLU is cut off at 6, padding is at the
right and below where strides are 2, and dropout is 0.001, as in the authors' releases.
"""

from keras import Model, layers

from keras_cnns.models.classification import common

TASK, YEAR = "classification", 2017
PAPER = "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, arXiv:1704.04861"

VARIANTS = {  # width multiplier
    "mobilenet_v1":     1.0,
    "mobilenet_v1_075": 0.75,
    "mobilenet_v1_050": 0.5,
    "mobilenet_v1_025": 0.25,
}

PUBLISHED = {
    "mobilenet_v1":     "ImageNet val: top-1 accuracy 70.6 % (Table 6)",
    "mobilenet_v1_075": "ImageNet val: top-1 accuracy 68.4 % (Table 6)",
    "mobilenet_v1_050": "ImageNet val: top-1 accuracy 63.7 % (Table 6)",
    "mobilenet_v1_025": "ImageNet val: top-1 accuracy 50.6 % (Table 6)",
}

# Table 1: filters and stride of each depthwise separable convolution.
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def bn_relu(x, name):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def padded(x, strides, name):
    return x if strides == 1 else layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)


def separable(x, filters, strides, name):
    """3x3 depthwise, 1x1 pointwise (Fig. 3, right). `[B, H, W, C] -> [B, H/s, W/s, filters]`."""
    padding = "same" if strides == 1 else "valid"
    x = padded(x, strides, f"{name}_dw")
    x = layers.DepthwiseConv2D(3, strides, padding, use_bias=False, name=f"{name}_dw")(x)
    x = bn_relu(x, f"{name}_dw")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_pw")(x)
    return bn_relu(x, f"{name}_pw")


def build(name="mobilenet_v1", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3), at least 32 pixels a side; height and width
        may be None.
      num_classes: units of the classifier; None leaves the network headless, its output being "conv13_pw_relu",
        `[B, H/32, W/32, C]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    width = VARIANTS[name]
    inputs, x = common.pixels(input_shape, (224, 224, 3), 32, *common.HALF)
    x = layers.Conv2D(int(32 * width), 3, 2, "same", use_bias=False, name="conv0")(x)
    x = bn_relu(x, "conv0")
    for i, (filters, strides) in enumerate(SEPARABLE, 1):
        x = separable(x, int(filters * width), strides, f"conv{i}")
    if num_classes is not None:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(1e-3, name="dropout")(x)
        x = common.predictions(layers.Dense(num_classes, name="fc")(x), classifier_activation)
    return Model(inputs, x, name=name)
