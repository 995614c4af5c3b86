"""SSD: Single Shot MultiBox Detector.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg. ECCV 2016, arXiv:1512.02325. The network: Fig. 2; default boxes, matching
and loss: section 2.2, with the sizes of sections 3.1 (VOC) and 3.4 (COCO); SSD512: section 3.1, footnote.

    image -> VGG-16 -> fc6, fc7 as convolutions -> extra layers
               conv4_3 and each of the others -> two 3x3 convolutions: classes and offsets of its default boxes

`build` returns the network to train, whose targets `target_encoder(network)` makes in the input pipeline;
`detector(network)` the graph to serve, over the same layers. Maps are named as in Fig. 2: "conv4_3_norm", "fc7",
"conv8_2" to "conv11_2", and of SSD512 "conv12_2".

Rows: `ssd300_vgg16` and `ssd512_vgg16` have the default boxes for COCO, of which the least are 21 pixels wide, and
20.48; `ssd300_vgg16` is the release of torchvision, which cuts boxes to the image's sides, as the authors' code does
not. The rows called voc have the boxes for VOC, from 30 pixels on, and 35.84. All are meant to be trained from VGG-16's
ImageNet weights. The other backbones follow arXiv:1611.10012: two maps of theirs, of strides 16 and 32, and four extra
ones; the default boxes are those for VOC. `ssd` stands so on any classifier of the zoo, six maps in all, at most five
of them the classifier's.

Not as in the papers: the loss is divided by the number of positives of each image, not of the batch, so that it is the
same on any number of devices. The extra layers have no batch norm on any backbone.
"""

import functools
from typing import NamedTuple

import numpy as np
from keras import Model, layers

from keras_cnns.errors import InputError
from keras_cnns.layers.detection import DecodeDefaultBoxes
from keras_cnns.layers.normalization import L2Normalize
from keras_cnns.losses import BoxLoss, HardNegativeClassLoss
from keras_cnns.models.classification import common, vgg
from keras_cnns.models.detection import backbones
from keras_cnns.ops import default_boxes as default_box_ops
from keras_cnns.ops.targets import IGNORED_IOA

TASK, YEAR = "detection", 2016
PAPER = "SSD: Single Shot MultiBox Detector, arXiv:1512.02325"


class Extra(NamedTuple):
    """A 1x1 convolution, name_1, then name_2, which makes a map."""

    name: str
    width: int    # of name_1
    filters: int  # of name_2
    kernel: int = 3
    strides: int = 2
    padding: int = 1


class Variant(NamedTuple):
    side: int        # of the input, pixels
    backbone: str    # a classifier of the zoo
    features: tuple  # its layers that are maps, fine to coarse; the extra layers' follow
    extras: tuple
    scales: tuple    # of each map's boxes, shares of the image's sides; and one that the last map's second square needs
    ratios: tuple    # of each map's boxes, besides 1
    strides: tuple = ()  # pixels to a cell; of maps beyond these, the cells share the image evenly
    clip: bool = False   # no box is larger than the image


def halving(first, maps=4, name="conv"):
    """Maps, each half of the one before, four of these depths as in arXiv:1611.10012."""
    return tuple(Extra(f"{name}{first + i}", depth // 2, depth)
                 for i, depth in enumerate((512, 256, 256, 128, 128)[:maps]))


VGG_300 = Variant(
    300, "vgg16", ("conv4_3_norm", "fc7"), (Extra("conv8", 256, 512), Extra("conv9", 128, 256),  # Fig. 2
                                            Extra("conv10", 128, 256, 3, 1, 0), Extra("conv11", 128, 256, 3, 1, 0)),
    (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05), ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)), (8, 16, 32, 64))
VGG_512 = Variant(
    512, "vgg16", ("conv4_3_norm", "fc7"), (Extra("conv8", 256, 512), Extra("conv9", 128, 256),
                                            Extra("conv10", 128, 256), Extra("conv11", 128, 256),
                                            Extra("conv12", 128, 256, 4, 1, 1)),
    (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05), ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    (8, 16, 32, 64, 128, 256))
OTHER_300 = VGG_300._replace(strides=())

# Scales are those of the authors' code, which rounds the steps between them to whole hundredths.
VARIANTS = {
    "ssd300_vgg16": VGG_300._replace(scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), clip=True),
    "ssd512_vgg16": VGG_512._replace(scales=(0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06)),
    "ssd300_vgg16_voc": VGG_300,
    "ssd512_vgg16_voc": VGG_512,
    "ssd300_mobilenet_v1": OTHER_300._replace(
        backbone="mobilenet_v1", features=("conv11_pw_relu", "conv13_pw_relu"), extras=halving(14)),
    "ssd300_inception_v2": OTHER_300._replace(
        backbone="inception_v2", features=("inception_4b", "inception_5b"), extras=halving(6)),
    "ssd300_resnet18": OTHER_300._replace(
        backbone="resnet18", features=("conv4_x", "conv5_x"), extras=halving(6)),
    "ssd": OTHER_300._replace(
        backbone="inception_v2", features=("inception_4b", "inception_5b"), extras=halving(1, name="extra")),
}

PUBLISHED = {
    "ssd300_vgg16": "COCO val2017: box AP 25.1 (torchvision's release)",
    "ssd300_vgg16_voc": "VOC2007 test: AP 77.2 % from VOC07+12 (authors' release)",
    "ssd512_vgg16": "COCO test-dev2015: box AP 28.8 (authors' release)",
    "ssd512_vgg16_voc": "VOC2007 test: AP 79.8 % from VOC07+12 (authors' release)",
}
STRETCHED = True  # to the square, in training and after: the authors' code
MEAN = (123.0, 117.0, 104.0)  # of the authors' code
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # of the authors' code
MATCHED_IOU = 0.5  # section 2.2
SMALLEST_VGG = 268  # pixels a side, below which the last map is empty


def build(name="ssd300_vgg16", input_shape=None, num_classes=None, backbone=None, features=None):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] ->` cls `[B, A, K+1]`, logits; reg `[B, A, 4]`, offsets.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, 3)`, fixed, by default the row's square; of VGG at least 268 pixels a side
        (`ssd` on "vgg16": 12).
      num_classes: K, without background; by default VOC's 20.
      backbone, features: of `ssd`: a classifier of the zoo, and the name or names, fine to coarse, of its layers that
        are maps, one to five. By default those of `backbones.DEFAULTS`. VGG-16 is the one of this file.
    """
    v = VARIANTS[name]
    if (features is not None and not backbone) or (backbone and name != "ssd"):
        raise InputError(f"{name} with backbone={backbone!r}, features={features!r}: the model 'ssd' takes a backbone, "
                         "and then its layers; the others take neither.")
    if backbone:
        features = backbones.named(backbone, features, "ssd")
        if len(set(features)) < len(features):
            raise InputError(f"features={features}: one of them is there twice; name each once.")
        if len(features) > 5:
            raise InputError(f"features={features}: an SSD has six maps, of which at least one is its own; name at "
                             "most five.")
        v = v._replace(backbone=backbone, features=features, extras=halving(1, 6 - len(features), "extra"))
    num_classes = 20 if num_classes is None else num_classes
    shape = tuple(input_shape or (v.side, v.side, 3))
    if None in shape[:2]:
        raise InputError(f"input_shape={input_shape}: default boxes are constants of a size; give a fixed one, such as "
                         f"{(v.side, v.side, 3)}.")
    if v.backbone == "vgg16":
        trunk = vgg16(shape, 12 if backbone else SMALLEST_VGG)  # or pool4 is empty
    else:
        trunk = backbones.trunk(v.backbone, shape)
    maps = backbones.features(trunk, v.features, v.backbone)
    cells = [x.shape[1] * x.shape[2] for x in maps]
    if cells != sorted(cells, reverse=True):
        raise InputError(f"features={v.features}: name them fine to coarse; of {shape[0]}x{shape[1]} pixels these have "
                         f"{', '.join(map(str, cells))} cells.")
    for extra in v.extras:
        maps.append(extra_layers(maps[-1], extra))
    logits, offsets = [], []
    for source, x, ratios in zip(sources(v), maps, v.ratios):
        boxes = 2 + 2 * len(ratios)  # of a cell
        for part, width, rows in (("cls", num_classes + 1, logits), ("reg", 4, offsets)):
            y = layers.Conv2D(boxes * width, 3, padding="same", name=f"{source}_{part}")(x)
            rows.append(layers.Reshape((-1, width), name=f"{source}_{part}_rows")(y))
    outputs = {"cls": layers.Concatenate(axis=1, name="logits")(logits),
               "reg": layers.Concatenate(axis=1, name="offsets")(offsets)}
    return Model(trunk.input, {key: layers.Activation("linear", dtype="float32", name=key)(x)
                               for key, x in outputs.items()}, name=name)


def sources(v):
    """Names of the layers that are maps, fine to coarse."""
    return [*v.features, *(f"{extra.name}_2" for extra in v.extras)]


def vgg16(input_shape, smallest):
    """VGG-16 to fc7 (section 3): pool3 rounds up, pool5 keeps the size, fc6 is a convolution with holes."""
    inputs, x = common.pixels(input_shape, (300, 300, 3), smallest, MEAN, (1.0,) * 3)
    for i, (filters, depth) in enumerate(zip((64, 128, 256, 512, 512), vgg.VARIANTS["vgg16"].depths), 1):
        for j in range(1, depth + 1):
            x = vgg.conv_relu(x, filters, 3, False, f"conv{i}_{j}")
        if i == 4:
            conv4_3 = L2Normalize(20.0, name="conv4_3_norm")(x)  # section 3.1
        if i == 3:
            x = common.caffe_max_pool(x, 2, 2, "pool3")
        elif i == 5:
            x = layers.MaxPooling2D(3, 1, padding="same", name="pool5")(x)
        else:
            x = layers.MaxPooling2D(2, 2, name=f"pool{i}")(x)
    x = layers.Conv2D(1024, 3, padding="same", dilation_rate=6, activation="relu", name="fc6")(x)
    return Model(inputs, [conv4_3, layers.Conv2D(1024, 1, activation="relu", name="fc7")(x)])


def reduced(name, values):
    """What fc6 or fc7 begins with of VGG-16's `[kernel, bias]` (section 3): of 7x7 cells every third row and column, of
    4,096 maps every fourth."""
    kernel, bias = values
    if name == "fc6":
        kernel = kernel.reshape(7, 7, 512, 4096)[::3, ::3]
    else:
        kernel = kernel[None, None, ::4]
    return [kernel[..., ::4], bias[::4]]


def extra_layers(x, extra):
    x = layers.Conv2D(extra.width, 1, activation="relu", name=f"{extra.name}_1")(x)
    if extra.padding:
        x = layers.ZeroPadding2D(extra.padding, name=f"{extra.name}_pad")(x)
    return layers.Conv2D(extra.filters, extra.kernel, extra.strides, activation="relu", name=f"{extra.name}_2")(x)


def maps_of(network):
    """The rows `(cells, strides, sides)` of a network's maps, as `ops.default_boxes.pyramid` takes them."""
    v, image_size = VARIANTS[network.name], network.input_shape[1:3]
    # A loaded network does not tell its backbone, but its heads, in the order in which they are joined.
    heads = [layer for layer in network.layers if layer.name.endswith("_cls")]
    rows = []
    for i, (head, ratios) in enumerate(zip(heads, v.ratios)):
        cells = head.output.shape[1:3]
        strides = [v.strides[i]] * 2 if i < len(v.strides) else [side / n for side, n in zip(image_size, cells)]
        sides = default_box_ops.sides(v.scales[i], v.scales[i + 1], ratios, v.clip)
        rows.append((list(cells), strides, sides.tolist()))
    return rows


def default_boxes(network):
    """The network's default boxes, `[A, 4]`, pixels, NumPy."""
    return default_box_ops.pyramid(maps_of(network), network.input_shape[1:3])


def target_encoder(network):
    """`encode_targets` of this network's default boxes: a function of boxes and labels, for the input pipeline."""
    return functools.partial(encode_targets, default_boxes=default_boxes(network))


def encode_targets(boxes, labels, default_boxes):
    """What the network is to answer to an image: rows `[A, 5]` as of `ops.targets`, NumPy.

    Section 2.2: each object has the default box that it overlaps most, all to itself (of all pairs the best first, as
    in the authors' code), and besides all that overlap it by more than 0.5. Default boxes in an ignored region, or
    that would be an object's if the region were one, do not count.

    Args:
      boxes: `[G, 4]`, pixels. labels: `[G]`, 1...K, 0 in rows of padding, -1 of regions to ignore.
      default_boxes: `[A, 4]`, of the function of this name.
    """
    boxes, labels = np.asarray(boxes, "float32"), np.asarray(labels)
    objects, ignored = boxes[labels > 0], boxes[labels < 0]
    rows = np.zeros((len(default_boxes), 5), "float32")
    if len(ignored):
        iou, inside = default_box_ops.overlap(default_boxes, ignored)
        rows[(match(iou) >= 0) | (inside >= IGNORED_IOA).any(1), 4] = -1
    if len(objects):
        which = match(default_box_ops.overlap(default_boxes, objects)[0])
        positive = which >= 0
        rows[positive, :4] = default_box_ops.encode(objects[which[positive]], default_boxes[positive], VARIANCES)
        rows[positive, 4] = labels[labels > 0][which[positive]]
    return rows


def match(iou):
    """Which object each default box belongs to: `[A, G] -> [A]`, -1 for none. Section 2.2, matching strategy."""
    which = np.where(iou.max(1) > MATCHED_IOU, iou.argmax(1), -1)
    left = iou.copy()
    for _ in range(iou.shape[1]):
        row, column = np.unravel_index(left.argmax(), left.shape)
        if left[row, column] == 0:
            break  # the objects that are left touch no box
        which[row] = column
        left[row], left[:, column] = 0, 0
    return which


def losses(name="ssd300_vgg16"):
    """What `compile(loss=...)` takes, keyed like the outputs. Section 2.2, eq. 1-3, alpha = 1."""
    return {"cls": HardNegativeClassLoss(), "reg": BoxLoss(of_objects=True)}


def detector(network, score_threshold=0.01, iou_threshold=0.45, max_detections=200, pre_nms=400):
    """The inference graph `image [B, H, W, 3] -> {boxes, scores, labels, count}` over the network's layers.

    Args:
      network: what `build` returned, trained or loaded from a file.
      score_threshold, iou_threshold, max_detections: of the NMS within each class (section 3.7).
      pre_nms: of each class this many of the highest score enter it (the authors' code, torchvision's).
    """
    decode = DecodeDefaultBoxes(maps_of(network), network.input_shape[1:3], score_threshold, iou_threshold,
                                max_detections, pre_nms, VARIANCES, name="detections")
    outputs = decode(network.output["cls"], network.output["reg"])
    return Model(network.input, outputs, name=f"{network.name}_detector")
