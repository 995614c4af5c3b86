"""VGG: Very Deep Convolutional Networks for Large-Scale Image Recognition.

Simonyan, Zisserman. ICLR 2015, arXiv:1409.1556. Table 1, columns A, A-LRN, B, C, D and E; all strides, paddings and
the three fully connected layers with dropout 0.5 as in section 2.1. The rows called bn have batch norm after every
convolution, whose bias stays, as torchvision releases them; the paper has none. Column C differs from D in the kernels
of the third convolution of the last three stages: 1x1.

Weights begin as Glorot's, which the paper found to do without its pre-training (section 3.1): Keras' default.

The paper subtracts the mean pixel and divides by nothing; so do these rows, but for the _bn ones, which were
released with torchvision's deviations. LRN in A-LRN: the parameters of AlexNet (section 2.1). Layers carry the names of
the authors' Caffe files, "conv1_1" to "pool5", "fc6" to "fc8".
"""

from typing import NamedTuple

from keras import Model, layers

from keras_cnns.layers import LocalResponseNormalization
from keras_cnns.models.classification import common

TASK, YEAR = "classification", 2014
PAPER = "Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556"


class Variant(NamedTuple):
    depths: tuple[int, int, int, int, int]  # convolutions before each pooling
    third_kernel: int = 3  # of conv3_3, conv4_3 and conv5_3
    lrn: bool = False      # after conv1_1
    bn: bool = False


COLUMNS = {
    "vgg11":     Variant((1, 1, 2, 2, 2)),            # A
    "vgg11_lrn": Variant((1, 1, 2, 2, 2), lrn=True),  # A-LRN
    "vgg13":     Variant((2, 2, 2, 2, 2)),            # B
    "vgg16c":    Variant((2, 2, 3, 3, 3), 1),         # C
    "vgg16":     Variant((2, 2, 3, 3, 3)),            # D
    "vgg19":     Variant((2, 2, 4, 4, 4)),            # E
}
VARIANTS = {**COLUMNS, **{f"{name}_bn": v._replace(bn=True) for name, v in COLUMNS.items() if not v.lrn}}

PUBLISHED = {
    "vgg11":     "ImageNet val: top-1 error 29.6 %, top-5 10.4 % (Table 3)",
    "vgg11_lrn": "ImageNet val: top-1 error 29.7 %, top-5 10.5 % (Table 3)",
    "vgg13":     "ImageNet val: top-1 error 28.7 %, top-5 9.9 % (Table 3)",
    "vgg16c":    "ImageNet val: top-1 error 28.1 %, top-5 9.4 % (Table 3)",
    "vgg16":     "ImageNet val: top-1 error 27.0 %, top-5 8.8 % (Table 3)",
    "vgg19":     "ImageNet val: top-1 error 27.3 %, top-5 9.0 % (Table 3)",
    "vgg11_bn":  "ImageNet val, 1 crop: top-1 error 29.63 %, top-5 10.19 % (torchvision's release)",
    "vgg13_bn":  "ImageNet val, 1 crop: top-1 error 28.41 %, top-5 9.63 % (torchvision's release)",
    "vgg16_bn":  "ImageNet val, 1 crop: top-1 error 26.64 %, top-5 8.48 % (torchvision's release)",
    "vgg19_bn":  "ImageNet val, 1 crop: top-1 error 25.78 %, top-5 8.16 % (torchvision's release)",
}


def build(name="vgg16", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3), at least 32 pixels a side; free sides
        only without a classifier.
      num_classes: units of the classifier; None leaves the network headless, its output being "pool5",
        `[B, H/32, W/32, 512]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    variant = VARIANTS[name]
    variance = common.IMAGENET_VARIANCE if variant.bn else (1.0,) * 3
    inputs, x = common.pixels(input_shape, (224, 224, 3), 32, variance=variance, fixed=num_classes is not None)
    for i, (filters, depth) in enumerate(zip((64, 128, 256, 512, 512), variant.depths), 1):
        for j in range(1, depth + 1):
            kernel_size = variant.third_kernel if (i > 2 and j == 3) else 3
            x = conv_relu(x, filters, kernel_size, variant.bn, f"conv{i}_{j}")
            if variant.lrn and i == 1:
                x = LocalResponseNormalization(name="norm1")(x)
        x = layers.MaxPooling2D(2, 2, name=f"pool{i}")(x)
    if num_classes is not None:
        x = layers.Flatten(name="flatten")(x)
        for fc in ("fc6", "fc7"):
            x = layers.Dense(4096, activation="relu", name=fc)(x)
            x = layers.Dropout(0.5, name=f"{fc}_dropout")(x)
        x = common.predictions(layers.Dense(num_classes, name="fc8")(x), classifier_activation)
    return Model(inputs, x, name=name)


def conv_relu(x, filters, kernel_size, bn, name):
    x = layers.Conv2D(filters, kernel_size, padding="same", name=name)(x)
    if bn:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
