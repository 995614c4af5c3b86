"""LeNet-5: Gradient-Based Learning Applied to Document Recognition.

LeCun, Bottou, Bengio, Haffner. Proceedings of the IEEE, 1998. Section II.B and Fig. 2: `lenet5` with the connections of
Table I, trainable sub-sampling, the squashing function 1.7159 tanh(2x/3) (appendix A), and an output of squared
distances to fixed codes, the digits of Fig. 3 on 7x12 pixels (drawn anew after that figure). Its loss is eq. 9.
340,908 connections, 60,000 trainable parameters, 840 fixed ones.

`lenet5_dense` is what most people call LeNet-5 today: all maps connected, average pooling, a softmax.

Digits of 28x28 pixels lie in the middle of 32x32. Pixels 0...255, ink bright, become -0.1...1.175 (section II.B).
"""

import numpy as np
from keras import Model, layers, ops, saving

from keras_cnns.layers.lenet import FanInUniform, NegativeDistances, Subsampling, TableConv2D
from keras_cnns.losses import CompetitiveLoss
from keras_cnns.models.classification import common

TASK, YEAR = "classification", 1998
PAPER = "Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998"

VARIANTS = {  # whether it is the paper's form
    "lenet5":       True,
    "lenet5_dense": False,
}

PUBLISHED = {"lenet5": "MNIST test: error 0.95 %, with distorted digits 0.8 % (section III.C)"}

# Table I: the maps of S2 that each map of C3 sees.
C3 = ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1),
      (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2),
      (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5))

# Fig. 3, first ten: 7 wide, 12 high.
DIGITS = """
..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ...###. ##..... .##.... .....## ##...## ##...##
##...## .####.. .....## .....## ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..##. ######. ######. ....##. .#####. ##...##
##...## ...##.. ...##.. ..####. ##..##. .....## ##...## ...##.. .#####. .######
##...## ...##.. ..##... .....## ####### .....## ##...## ...##.. ##...## .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... ##...## ....##. ##...## ##...## .##.... ##...## .....##
.##.##. ...##.. ##..... ##...## ....##. ##...## ##...## .##.... ##...## ....##.
..###.. .###### ####### .#####. ....##. .#####. .#####. .##.... .#####. .####..
"""


def codes(num_classes):
    """The code of each class, `[num_classes, 84]`, -1 and 1: the drawn digits, or of other numbers chosen by chance."""
    if num_classes != 10:
        return np.random.default_rng(0).choice([-1, 1], (num_classes, 84))
    rows = np.array([line.split() for line in DIGITS.split("\n")[1:-1]])
    return np.array([[1 if c == "#" else -1 for c in "".join(rows[:, i])] for i in range(10)])


def losses(name):
    """The loss of the logits: the paper's, or None, which stands for cross-entropy."""
    return CompetitiveLoss() if VARIANTS[name] else None


@saving.register_keras_serializable("keras_cnns")
def squash(x):
    """1.7159 tanh(2x/3): it maps -1 and 1 to themselves."""
    return 1.7159 * ops.tanh(2.0 / 3.0 * x)


def conv(x, filters, name):
    fan_in = 25 * x.shape[-1]
    return layers.Conv2D(filters, 5, kernel_initializer=FanInUniform(fan_in), activation=squash, name=name)(x)


def dense(x, units, name, activation=squash):
    return layers.Dense(units, kernel_initializer=FanInUniform(x.shape[-1]), activation=activation, name=name)(x)


def build(name="lenet5", input_shape=None, num_classes=10, classifier_activation="softmax"):
    """The network: grey pixels, 0 to 255, `[B, H, W, 1] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (32, 32, 1), at least 32 pixels a side; free sides only
        without a classifier.
      num_classes: classes; None leaves the network headless, its output being "c5", `[B, 1, 1, 120]`.
      classifier_activation: "softmax", "sigmoid", or None for logits, which `lenet5` has as minus its distances.
    """
    paper = VARIANTS[name]
    inputs, x = common.pixels(input_shape, (32, 32, 1), 32, (20.0,), (200.0**2,), fixed=num_classes is not None)
    x = conv(x, 6, "c1")
    x = subsampled(x, paper, "s2")
    x = layers.Activation(squash, name="c3")(TableConv2D(C3, 5, name="c3_conv")(x)) if paper else conv(x, 16, "c3")
    x = subsampled(x, paper, "s4")
    x = conv(x, 120, "c5")
    if num_classes is not None:
        x = dense(layers.Flatten(name="flatten")(x), 84, "f6")
        if paper:
            x = NegativeDistances(codes(num_classes), name="output")(x)
        else:
            x = dense(x, num_classes, "output", None)
        x = common.predictions(x, classifier_activation)
    return Model(inputs, x, name=name)


def subsampled(x, paper, name):
    if paper:
        return layers.Activation(squash, name=name)(Subsampling(name=f"{name}_sum")(x))
    return layers.AveragePooling2D(2, 2, name=name)(x)
