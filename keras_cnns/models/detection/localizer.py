"""Classification and localization: what is in the picture, and one box around it.

    image -> trunk -> map -> average -> class scores
                          -> fc      -> box

Two heads on one classifier, learnt together by softmax's log loss plus lambda times the L2 loss of the box's four
edges, as lectures tell it. The head of boxes is that of Sermanet et al., OverFeat, ICLR 2014, arXiv:1312.6229, section
4.2: fully connected layers on the last map, which, unlike its average, knows places. Krizhevsky et al., who won
ILSVRC-2012's localization with AlexNet, have not written how.

Rows: `localizer_resnet18` is this package's own small one; `localizer` stands on any classifier of the zoo. A network
looks at the whole image and finds at most one object. Of images of several it learns the largest by area, among those
that are not to be ignored; of images of none that they are background, which has a score, too.

Not as in OverFeat: one fully connected layer before the box, not two; one box for all classes, not one each; trunk and
heads learn together.
"""

from typing import NamedTuple

import numpy as np
from keras import Model, initializers, layers, ops, saving

from keras_cnns.errors import InputError
from keras_cnns.losses import ClassLoss, SquaredBoxLoss
from keras_cnns.models.detection import backbones
from keras_cnns.ops import gather

TASK, YEAR = "detection", 2013
PAPER = "OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks, arXiv:1312.6229"


class Variant(NamedTuple):
    backbone: str
    features: str        # its layer that is the last map
    width: int           # of the fully connected layer before the box
    weight: float        # lambda, of the box's loss; its edges are shares of the image's sides
    input_shape: tuple = (224, 224, 3)
    num_classes: int = 20


VARIANTS = {
    "localizer_resnet18": Variant("resnet18", "conv5_x", 512, 10.0, (128, 128, 3)),
    "localizer": Variant("vgg16", "pool5", 4096, 10.0),
}
PUBLISHED = {}


def build(name="localizer_resnet18", input_shape=None, num_classes=None, backbone=None, features=None):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> {"cls": logits [B, 1, K+1], "reg": edges [B, 1, 4]}`.

    Edges are `(x1, y1, x2, y2)` in shares of the image's width and height.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, 3)`, fixed. num_classes: without background. Both by default the row's.
      backbone, features: of `localizer`: a classifier of the zoo, and its layer that is the last map; by default what
        it ends with when it has no classes.
    """
    v = VARIANTS[name]
    if (features is not None and not backbone) or (backbone and name != "localizer"):
        raise InputError(f"{name} with backbone={backbone!r}, features={features!r}: the model 'localizer' takes a "
                         "backbone, and then its layer; the others take neither.")
    shape = v.input_shape if input_shape is None else tuple(input_shape)
    num_classes = v.num_classes if num_classes is None else num_classes
    if len(shape) != 3 or None in shape:
        raise InputError(f"input_shape={input_shape}: fully connected layers need a fixed size, such as "
                         f"{v.input_shape}.")
    trunk = backbones.trunk(backbone or v.backbone, shape)
    if not backbone or features:
        (x,) = backbones.features(trunk, (features or v.features,), backbone or v.backbone)
    else:
        x = trunk.output
    if len(x.shape) != 4:
        raise InputError(f"backbone={backbone!r} ends in no map; name its layer that is one, by features=.")
    logits = layers.Dense(num_classes + 1, kernel_initializer=initializers.RandomNormal(stddev=0.01), name="cls_score")(
        layers.GlobalAveragePooling2D(name="average")(x))
    x = layers.Dense(v.width, activation="relu", kernel_initializer="he_normal", name="fc_box")(
        layers.Flatten(name="flatten")(x))
    edges = layers.Dense(4, kernel_initializer=initializers.RandomNormal(stddev=0.001), bias_initializer=_middle,
                         name="bbox_pred")(x)
    # The one row of each is the one region there is: the image.
    return Model(trunk.input, {key: layers.Reshape((1, x.shape[-1]), dtype="float32", name=key)(x)
                               for key, x in (("cls", logits), ("reg", edges))}, name=name)


@saving.register_keras_serializable("keras_cnns")
def _middle(shape, dtype=None):
    """The box to begin with: the middle of the image."""
    return ops.convert_to_tensor([0.25, 0.25, 0.75, 0.75], dtype)


def target_encoder(network):
    """A function of boxes `[G, 4]` and labels `[G]`, in pixels, to target rows `[1, 5]`, for the input pipeline."""
    height, width = network.input_shape[1:3]

    def encode(boxes, labels):
        row, objects = np.zeros((1, 5), "float32"), np.flatnonzero(labels > 0)
        if len(objects):
            sides = boxes[objects, 2:] - boxes[objects, :2]
            largest = objects[sides.prod(1).argmax()]
            row[0] = *(boxes[largest] / (width, height, width, height)), labels[largest]
        elif (np.asarray(labels) < 0).any():
            row[0, 4] = -1
        return row

    return encode


def losses(name="localizer_resnet18"):
    """What `compile(loss=...)` takes, keyed like the outputs; another lambda is `SquaredBoxLoss(weight=...)`."""
    return {"cls": ClassLoss(), "reg": SquaredBoxLoss(VARIANTS[name].weight)}


def detector(network, score_threshold=0.05):
    """The inference graph `image [B, H, W, 3] -> {boxes [B, 1, 4], scores, labels, count}` over the network's layers.

    Args:
      score_threshold: an object of this score or less is not told.
    """
    height, width = network.input_shape[1:3]
    scores = ops.softmax(network.output["cls"])[..., 1:]
    best, label = gather.top_k(scores, 1)  # [B, 1, 1]
    edges = ops.clip(network.output["reg"], 0.0, 1.0)
    boxes = edges * ops.convert_to_tensor([width, height, width, height], "float32")
    real = best > score_threshold
    return Model(network.input, {
        "boxes": ops.where(real, boxes, 0.0), "scores": ops.where(real, best, 0.0)[..., 0],
        "labels": ops.where(real, ops.cast(label, "int32") + 1, 0)[..., 0],
        "count": ops.cast(real, "int32")[:, 0, 0]}, name=f"{network.name}_detector")
