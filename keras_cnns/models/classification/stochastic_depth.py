"""Stochastic depth: Deep Networks with Stochastic Depth.

Huang, Sun, Liu, Sedra, Weinberger. ECCV 2016, arXiv:1603.09382. CIFAR's ResNet of 110 layers whose l-th block of
L = 54 survives a training step with probability `1 - l/L (1 - p_L)` (eq. 4), p_L = 0.5. Where dimensions change the
authors' shortcut averages 2x2 pixels and adds channels of zeros.
"""

from keras import Input, Model, layers

from keras_cnns.layers import StochasticDepth
from keras_cnns.models.classification.resnet import basic_block, cifar_stem, head, pad_channels

TASK, YEAR = "classification", 2016
PAPER = "Deep Networks with Stochastic Depth, arXiv:1603.09382"

VARIANTS = {"resnet110_stochastic_depth_cifar": (18, 18, 18)}  # blocks in conv2_x, conv3_x and conv4_x

PUBLISHED = {"resnet110_stochastic_depth_cifar": "CIFAR-10 test: error 5.25 %, constant depth 6.41 (authors' code)"}


def stage(x, filters, depth, strides, name, survivals):
    """`depth` blocks; the first one strides. The last layer is called `name`."""
    for i in range(1, depth + 1):
        block, s = f"{name[:-1]}{i}", strides if i == 1 else 1
        inputs = Input(x.shape[1:])
        branch = Model(inputs, basic_block(inputs, filters, s, block), name=f"{block}_branch")
        shortcut = x
        if s > 1:
            shortcut = layers.AveragePooling2D(s, padding="same", name=f"{block}_shortcut_pool")(x)
            shortcut = pad_channels(shortcut, filters, 1, f"{block}_shortcut")
        x = StochasticDepth(branch, next(survivals), name=f"{block}_add")(x, shortcut)
        x = layers.ReLU(name=name if i == depth else f"{block}_relu")(x)
    return x


def build(name="resnet110_stochastic_depth_cifar", input_shape=None, num_classes=10, classifier_activation="softmax",
          survival=0.5):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (32, 32, 3); height and width may be None.
      num_classes: units of the classifier; None leaves the network headless, its output being "conv4_x",
        `[B, H/4, W/4, 64]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
      survival: p_L, of the last block; 1.0 makes the twin of constant depth.
    """
    depths = VARIANTS[name]
    total = sum(depths)
    survivals = (1.0 - l / total * (1.0 - survival) for l in range(1, total + 1))  # eq. 4
    inputs, x = cifar_stem(input_shape)
    for i, depth in enumerate(depths):
        x = stage(x, 16 * 2**i, depth, 2 if i else 1, f"conv{i + 2}_x", survivals)
    return Model(inputs, head(x, num_classes, 10, classifier_activation), name=name)
