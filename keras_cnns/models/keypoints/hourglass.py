"""Stacked hourglass: Stacked Hourglass Networks for Human Pose Estimation.

Newell, Yang, Deng. ECCV 2016, arXiv:1603.06937. A map of a quarter of the image's size goes down to its sixteenth and
up again, a residual module at each step and a branch to each size on the way up (Fig. 3). Several such hourglasses
stand one behind another; each predicts a heat map a joint, is taught by its own loss, and hands features and
predictions on to the next (Fig. 4, section 3.2).

As the authors' code (pose-hg-train, hg.lua), where the text is silent: the modules of Fig. 4, left, are
preactivated, their convolutions have biases; the first one goes from 64 to 128 maps and the third from 128 to 256. (A
well-known re-implementation widens to 256 in the second and has 3,586,960 trainable parameters with one stack, not
3,426,448.) Pixels are 0 to 1, without a mean.

`hourglass2_64` is this package's own: a quarter of the maps throughout.
"""

from typing import NamedTuple

from keras import Model, initializers, layers, ops

from keras_cnns.errors import InputError
from keras_cnns.layers import DecodeHeatmaps, MirrorAverage
from keras_cnns.losses import HeatmapLoss
from keras_cnns.models.classification import common, resnet

TASK, YEAR = "keypoints", 2016
PAPER = "Stacked Hourglass Networks for Human Pose Estimation, arXiv:1603.06937"

STRIDE = 4  # pixels to a cell of the heat maps
DEPTH = 4   # halvings of an hourglass
SIDES = STRIDE * 2**DEPTH  # of which an image's must be multiples


class Variant(NamedTuple):
    stacks: int
    maps: int = 256


VARIANTS = {
    "hourglass1": Variant(1),
    "hourglass2": Variant(2),
    "hourglass8": Variant(8),
    "hourglass2_64": Variant(2, 64),
}

PUBLISHED = {"hourglass8": "MPII test: PCKh@0.5 90.9 % (Table 2)"}


def build(name="hourglass2", input_shape=None, num_classes=16):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] ->` {"stack1": `[B, H/4, W/4, J]`, "stack2": ...}, heat maps.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, multiples of 64; by default (256, 256, 3).
      num_classes: J, the joints. Not None: what an hourglass hands on is made of its heat maps.
    """
    stacks, maps = VARIANTS[name]
    if num_classes is None:
        raise InputError(f"num_classes=None: {name} has no features without joints; give their number, such as 16.")
    for side in tuple(input_shape or ())[:2]:
        if side is None or side % SIDES:
            raise InputError(f"input_shape={input_shape}: {name} needs a fixed height and width that are multiples of "
                             f"{SIDES}, such as (256, 256, 3).")
    inputs, x = common.pixels(input_shape, (256, 256, 3), SIDES, (0.0,) * 3, (255.0**2,) * 3)
    x = conv(x, maps // 4, 7, "conv1", strides=2)
    x = bn_relu(x, "conv1")
    x = residual(x, maps // 2, "conv2")
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = residual(x, maps // 2, "conv3")
    x = residual(x, maps, "conv4")
    outputs = {}
    for i in range(1, stacks + 1):
        features = residual(hourglass(x, DEPTH, f"hourglass{i}"), maps, f"hourglass{i}")
        features = bn_relu(conv(features, maps, 1, f"features{i}"), f"features{i}")
        heat = conv(features, num_classes, 1, f"heatmaps{i}")
        outputs[f"stack{i}"] = layers.Activation("linear", dtype="float32", name=f"stack{i}")(heat)
        if i < stacks:
            x = layers.Add(name=f"merge{i}")([x, conv(features, maps, 1, f"features{i}_back"),
                                              conv(heat, maps, 1, f"heatmaps{i}_back")])
    return Model(inputs, outputs, name=name)


def conv(x, filters, kernel_size, name, strides=1):
    """With a bias, begun as Torch does: He's kernels would make the maps grow from module to module."""
    if strides > 1:  # padded evenly, as in the authors' framework
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, kernel_size, strides, "valid" if strides > 1 else "same",
                         kernel_initializer=initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
                         name=f"{name}_conv")(x)


def bn_relu(x, name):
    return layers.ReLU(name=f"{name}_relu")(resnet.bn(x, name))


def residual(x, maps, name):
    """BN, ReLU and convolution three times, 1x1 and 3x3 to half of the maps, 1x1 to all; the shortcut is projected
    where their number changes."""
    y = x
    for i, (filters, kernel_size) in enumerate(((maps // 2, 1), (maps // 2, 3), (maps, 1)), 1):
        y = conv(bn_relu(y, f"{name}_{i}"), filters, kernel_size, f"{name}_{i}")
    shortcut = x if x.shape[-1] == maps else conv(x, maps, 1, f"{name}_shortcut")
    return layers.Add(name=name)([shortcut, y])


def hourglass(x, depth, name):
    """Half the size and back, `depth` times one in another: Fig. 3."""
    maps = x.shape[-1]
    branch = residual(x, maps, f"{name}_branch{depth}")
    x = layers.MaxPooling2D(2, name=f"{name}_pool{depth}")(x)
    x = residual(x, maps, f"{name}_down{depth}")
    x = hourglass(x, depth - 1, name) if depth > 1 else residual(x, maps, f"{name}_bottom")
    x = residual(x, maps, f"{name}_up{depth}")
    x = layers.UpSampling2D(2, name=f"{name}_nearest{depth}")(x)
    return layers.Add(name=f"{name}_add{depth}")([branch, x])


def losses(name):
    """A loss for each hourglass, all of the same targets: joints `[B, J, 3]`, pixels of the input. Section 3.2."""
    return {f"stack{i}": HeatmapLoss(STRIDE) for i in range(1, VARIANTS[name].stacks + 1)}


def detector(network, pairs=()):
    """The inference graph: image `[B, H, W, 3] -> {"keypoints": [B, J, 3]}`, x and y in pixels of it, and the heat.

    Of the last hourglass's maps.

    Args:
      pairs: of joints that change names in the mirror, ((left, right), ...). With these the mirrored image is looked at
        too, and the maps are averaged, as the paper tests (section 4.1): twice the work.
    """
    heat = network.output[f"stack{len(network.output)}"]
    if pairs:
        mirrored = Model(network.input, heat)(ops.flip(network.input, axis=2))
        heat = MirrorAverage(pairs, name="mirror_average")(heat, mirrored)
    return Model(network.input, {"keypoints": DecodeHeatmaps(STRIDE, name="keypoints")(heat)},
                 name=f"{network.name}_detector")
