"""Recurrent Convolutional Neural Networks for Scene Labeling.

Pinheiro, Collobert. ICML 2014, arXiv:1306.2795. A small network labels the middle of a patch; applied again, with the
same weights, to a coarser image and its own scores of it, it labels the middle of a larger patch, and so on (section
3.2, Fig. 2 and 3). `recurrent_cnn2` is the paper's rCNN2, two instances that see 25 and 121 pixels; `recurrent_cnn3`
rCNN3, three that see 23, 67 and 155. The rows called aux answer the scores of the earlier instances as outputs "aux1"
and "aux2", of which the paper adds up the losses (equation 9), each in full. Weights of the one fit the other.

Here a network labels all pixels at once, as if every patch went through it by itself, which the paper reaches by
shifting the image (section 3.3): pooling does not stride, and what comes after it is dilated instead.

Not told in the paper, and so chosen: the coarser image is the mean over squares; pixels are scaled by ImageNet's mean
and deviation; beyond the border they are 0.
"""

from typing import NamedTuple

from keras import Model, layers, ops

from keras_cnns.errors import InputError
from keras_cnns.layers import CropToMatch
from keras_cnns.layers.atrous import AtrousConv2D
from keras_cnns.models.classification import common

TASK, YEAR = "segmentation", 2014
PAPER = "Recurrent Convolutional Neural Networks for Scene Labeling, ICML 2014, arXiv:1306.2795"


class Variant(NamedTuple):
    instances: int
    pools: tuple  # windows and strides of pooling after each of two 8x8 convolutions
    auxiliary: bool = False


RCNN2, RCNN3 = Variant(2, (2, 2)), Variant(3, (2, 1))  # section 4
VARIANTS = {
    "recurrent_cnn2":     RCNN2,
    "recurrent_cnn2_aux": RCNN2._replace(auxiliary=True),
    "recurrent_cnn3":     RCNN3,
    "recurrent_cnn3_aux": RCNN3._replace(auxiliary=True),
}
FILTERS, KERNEL = (25, 50), 8

PUBLISHED = {
    **dict.fromkeys(("recurrent_cnn2", "recurrent_cnn2_aux"), "Stanford Background: pixel accuracy 79.5 % (Table 1)"),
    **dict.fromkeys(("recurrent_cnn3", "recurrent_cnn3_aux"), "Stanford Background: pixel accuracy 80.2 % (Table 1)"),
}


def build(name="recurrent_cnn2", input_shape=None, num_classes=8, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, H, W, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (240, 320, 3); any size, or free.
      num_classes: by default those of Stanford Background; it cannot be None, since the network sees its own scores.
      classifier_activation: "softmax", "sigmoid", or None for logits.

    Returns:
      a `keras.Model`; that of an aux row answers a dict of "predictions", "aux1" and so on.
    """
    v = VARIANTS[name]
    if num_classes is None:
        raise InputError(f"num_classes=None: {name} sees its own scores of the classes; give their number.")
    inputs, x = common.pixels(input_shape, (240, 320, 3))
    coarser = v.pools[0] * v.pools[1]
    scales = [coarser**i for i in range(v.instances)]
    lost = patch(v) - 1  # pixels that an instance takes from each map, at scale 1
    border = lost * sum(scales) // 2
    x = layers.ZeroPadding2D(border, name="border")(x)
    convolutions = (*(AtrousConv2D(n, KERNEL, name=f"conv{i}") for i, n in enumerate(FILTERS, 1)),
                    layers.Conv2D(num_classes, 1, name="conv3"))
    scores, gone, outputs = None, 0, {}
    for i, scale in enumerate(scales, 1):
        if scores is None:  # of classes nothing is known yet
            # Not `ops.pad`: TensorFlow 2.20 with oneDNN fuses it with the convolution, and loses what pads channels.
            seen = ops.concatenate([x] + [ops.zeros_like(x[..., :1])] * num_classes, -1)
        else:
            coarse = layers.AveragePooling2D(scale, 1, name=f"coarse{i}")(x)
            seen = layers.Concatenate(name=f"seen{i}")([CropToMatch(gone - scale // 2)(coarse, scores), scores])
        scores = instance(seen, convolutions, v.pools, scale)
        gone += lost * scale // 2
        if i == v.instances:
            outputs["predictions"] = common.predictions(scores, classifier_activation)
        elif v.auxiliary:
            logits = CropToMatch(border - gone)(scores, inputs)
            outputs[f"aux{i}"] = common.predictions(logits, classifier_activation, f"aux{i}")
    return Model(inputs, outputs if v.auxiliary else outputs["predictions"], name=name)


def patch(v):
    """Pixels a side that one instance sees: 25 or 23."""
    side = 1
    for pool in reversed(v.pools):
        side = side * pool + KERNEL - 1
    return side


def instance(x, convolutions, pools, scale):
    """One pass of the shared network over a map whose pixels are `scale` apart."""
    for convolution, pool in zip(convolutions, pools):
        x = convolution(x, dilation=scale)
        if pool == 2:  # of neighbours `scale` apart
            x = ops.maximum(x[:, scale:], x[:, :-scale])
            x = ops.maximum(x[:, :, scale:], x[:, :, :-scale])
        x = ops.tanh(x)
        scale *= pool
    return convolutions[-1](x)
