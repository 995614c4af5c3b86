"""YOLO: You Only Look Once: Unified, Real-Time Object Detection.

Redmon, Divvala, Girshick, Farhadi. CVPR 2016, arXiv:1506.02640. The network: Fig. 3 and section 2.1; loss and
training: section 2.2; what the paper leaves open is as in the authors' code, darknet.

    image -> 24 convolutions -> two fully connected layers -> S x S cells, each with N boxes and K classes

`build` returns the network to train, whose targets `target_encoder(network)` makes in the input pipeline;
`detector(network)` the graph to serve, over the same layers. Convolutions are named "conv1" to "conv24", the grid's
layer "grid". A cell's numbers are N times (x, y, root of w, root of h, confidence), then K class scores: x and y in
cells from the cell's corner, w and h as shares of the image's. The paper's network, too, answers with the roots.

Rows: `yolo_v1` is the paper's, `yolo_v1_tiny` its Fast YOLO (darknet's cfg/yolo-tiny.cfg of that time: nine
convolutions, and a fully connected layer without activation more). `yolo_v1_bn` has batch norm after each convolution.
`yolo_v1_local` is what darknet released later as cfg/yolov1.cfg: batch norm, a locally connected layer in place of the
first fully connected one, three boxes a cell. `yolo_v1_resnet18` is this package's own small one, on a residual network
and without fully connected layers; the cells are the last map's, of stride 32.

The paper's first 20 convolutions learn from ImageNet before (section 2.2); there are no such weights here, nor that
classifier.

A cell answers for one object: of several whose centres fall into it the largest counts, and `lost` tells how many are
so lost. (Authors: the first in a random order.) Cells with an ignored object's centre, or half or more within an
ignored region, cost nothing unless an object is there; the authors leave such objects out as if they were background.
"""

import functools
from typing import Callable, NamedTuple

import numpy as np
from keras import Model, initializers, layers

from keras_cnns.errors import InputError
from keras_cnns.layers.detection import DecodeGrid
from keras_cnns.layers.local import LocallyConnected
from keras_cnns.losses import YOLOLoss
from keras_cnns.models.classification import common
from keras_cnns.models.detection import backbones
from keras_cnns.ops import default_boxes as default_box_ops
from keras_cnns.ops.targets import IGNORED_IOA

TASK, YEAR = "detection", 2016
PAPER = "You Only Look Once: Unified, Real-Time Object Detection, arXiv:1506.02640"

POOL = None  # 2x2, stride 2
FIG_3 = (  # filters, size, stride
    (64, 7, 2), POOL, (192, 3, 1), POOL, (128, 1, 1), (256, 3, 1), (256, 1, 1), (512, 3, 1), POOL,
    *((256, 1, 1), (512, 3, 1)) * 4, (512, 1, 1), (1024, 3, 1), POOL,
    *((512, 1, 1), (1024, 3, 1)) * 2, (1024, 3, 1), (1024, 3, 2), (1024, 3, 1), (1024, 3, 1))
FAST = (*(row for filters in (16, 32, 64, 128, 256, 512) for row in ((filters, 3, 1), POOL)), *((1024, 3, 1),) * 3)


def leaky(x, name):
    return layers.LeakyReLU(0.1, name=name)(x)  # section 2.2, eq. 2


def fully_connected(x, numbers, widths=(4096,)):
    """Fig. 3: fully connected layers, of which the last before the grid's is leaky, with dropout of a half after it."""
    cells = x.shape[1:3]
    x = layers.Flatten(name="flatten")(x)
    for i, width in enumerate(widths, 1):
        x = layers.Dense(width, kernel_initializer="he_normal", name=f"fc{i}")(x)
    x = layers.Dropout(0.5, name="dropout")(leaky(x, f"fc{i}_leaky"))
    x = layers.Dense(cells[0] * cells[1] * numbers, name=f"fc{i + 1}")(x)
    return layers.Reshape((*cells, numbers), name="cells")(x)


def locally_connected(x, numbers):
    """cfg/yolov1.cfg."""
    cells = x.shape[1:3]
    x = layers.Dropout(0.5, name="dropout")(leaky(LocallyConnected(256, 3, name="local")(x), "local_leaky"))
    x = layers.Dense(cells[0] * cells[1] * numbers, name="fc")(layers.Flatten(name="flatten")(x))
    return layers.Reshape((*cells, numbers), name="cells")(x)


def convolutional(x, numbers):
    """One more 3x3 convolution, then the same 1x1 for every cell."""
    x = conv_leaky(x, 512, 3, 1, True, "head")
    return layers.Conv2D(numbers, 1, kernel_initializer=initializers.RandomNormal(stddev=0.01), name="cells")(x)


class Variant(NamedTuple):
    head: Callable = fully_connected  # of the last map and how many numbers a cell has
    convs: tuple = FIG_3
    batch_norm: bool = False
    backbone: str | None = None  # a classifier of the zoo, instead of `convs`
    boxes: int = 2  # of a cell
    input_shape: tuple = (448, 448, 3)


VARIANTS = {
    "yolo_v1": Variant(),
    "yolo_v1_tiny": Variant(functools.partial(fully_connected, widths=(256, 4096)), FAST),
    "yolo_v1_bn": Variant(batch_norm=True),
    "yolo_v1_local": Variant(locally_connected, batch_norm=True, boxes=3),
    "yolo_v1_resnet18": Variant(convolutional, backbone="resnet18", input_shape=(224, 224, 3)),
}

PUBLISHED = {
    "yolo_v1": "VOC2007 test: mAP 63.4 % from VOC07+12 (Table 1)",
    "yolo_v1_tiny": "VOC2007 test: mAP 52.7 % from VOC07+12 (Table 1)",
}
STRETCHED = True  # to the square, in training and after: the authors' code
SMALLEST = 64  # pixels a side, below which there is no cell


def build(name="yolo_v1", input_shape=None, num_classes=None):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] ->` grid `[B, H/64, W/64, N * 5 + K]`, as told above.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, 3)`, fixed, by default the row's; of every 64 pixels (`yolo_v1_resnet18`: 32) is
        made a cell.
      num_classes: K; by default VOC's 20.
    """
    v = VARIANTS[name]
    num_classes = 20 if num_classes is None else num_classes
    shape = tuple(input_shape or v.input_shape)
    if None in shape:
        raise InputError(f"input_shape={input_shape}: the cells are of a fixed size; give one, such as "
                         f"{v.input_shape}.")
    if v.backbone:
        trunk = backbones.trunk(v.backbone, shape)
        inputs, x = trunk.input, trunk.output
    else:
        inputs, x = darknet(v, shape)
    grid = v.head(x, v.boxes * 5 + num_classes)
    return Model(inputs, {"grid": layers.Activation("linear", dtype="float32", name="grid")(grid)}, name=name)


def darknet(v, input_shape):
    """Image and last map of a row's convolutions, on pixels from -1 to 1 (as cfg/yolo-tiny.cfg crops them)."""
    inputs, x = common.pixels(input_shape, v.input_shape, SMALLEST, *common.HALF)
    convs = pools = 0
    for row in v.convs:
        if row is POOL:
            pools += 1
            x = layers.MaxPooling2D(2, name=f"pool{pools}")(x)
        else:
            convs += 1
            x = conv_leaky(x, *row, v.batch_norm, f"conv{convs}")
    return inputs, x


def conv_leaky(x, filters, size, strides, batch_norm, name):
    if strides > 1:
        x, padding = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x), "valid"
    else:
        padding = "same"
    x = layers.Conv2D(filters, size, strides, padding, use_bias=not batch_norm, kernel_initializer="he_normal",
                      name=name)(x)
    if batch_norm:
        x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
    return leaky(x, f"{name}_leaky")


def target_encoder(network):
    """`encode_targets` of this network's cells: a function of boxes and labels, for the input pipeline."""
    return functools.partial(encode_targets, cells=network.output["grid"].shape[1:3],
                             image_size=network.input_shape[1:3])


def encode_targets(boxes, labels, cells, image_size):
    """What the network is to answer to an image: `[S, S', 5]`, float32, NumPy.

    Of each cell (x, y, w, h, label) of the object whose centre lies in it: x and y in cells from the cell's corner, w
    and h as shares of the image's. Label 0 is of a cell without one, -1 of one that does not count.

    Args:
      boxes: `[G, 4]`, pixels. labels: `[G]`, 1...K, 0 in rows of padding, -1 of regions to ignore.
      cells: `(S, S')`, rows and columns. image_size: `(height, width)`, pixels.
    """
    boxes, labels = np.asarray(boxes, "float32"), np.asarray(labels)
    rows, columns = cells
    targets = np.zeros((rows * columns, 5), "float32")
    if (labels < 0).any():
        ignored = boxes[labels < 0]
        of_cells = default_box_ops.pyramid(
            [(cells, [side / n for side, n in zip(image_size, cells)], [(1 / columns, 1 / rows)])], image_size)
        inside = default_box_ops.overlap(of_cells, ignored)[1]
        targets[(inside >= IGNORED_IOA).any(1), 4] = -1
        targets[_cell(ignored, cells, image_size)[0], 4] = -1
    sides = boxes[:, 2:] - boxes[:, :2]
    real = (labels > 0) & (sides > 0).all(1)
    for i in np.flatnonzero(real)[np.argsort(sides[real].prod(1), kind="stable")]:  # so that the largest stays
        cell, place = _cell(boxes[i], cells, image_size)
        targets[cell] = (*place, *sides[i] / image_size[::-1], labels[i])
    return targets.reshape(rows, columns, 5)


def _cell(boxes, cells, image_size):
    """The number of the cell, row by row, in which each box has its centre, and its place in it: `[...], [..., 2]`."""
    last = np.array(cells[::-1]) - 1
    place = (boxes[..., :2] + boxes[..., 2:]) / 2 / image_size[::-1] * cells[::-1]
    corner = np.clip(place.astype(int), 0, last)
    return corner[..., 1] * cells[1] + corner[..., 0], place - corner


def lost(images, cells=(7, 7)):
    """How many objects have no cell of their own, and how many there are: whole numbers.

    Args:
      images: rows `(boxes [G, 4], labels [G], (height, width))`, pixels, labels as of `encode_targets`, of images as
        they are, to be stretched. Of `data.samples.Sample`s: `(s.boxes, s.labels * ~s.ignored, s.size)`.
    """
    missing = total = 0
    for boxes, labels, size in images:
        found = encode_targets(boxes, labels, cells, size)[..., 4]
        total += np.sum(np.asarray(labels) > 0)
        missing += np.sum(np.asarray(labels) > 0) - np.sum(found > 0)
    return int(missing), int(total)


def losses(name="yolo_v1"):
    """What `compile(loss=...)` takes, keyed like the output."""
    return {"grid": YOLOLoss(VARIANTS[name].boxes)}


def detector(network, score_threshold=0.001, iou_threshold=0.5, max_detections=100):
    """The inference graph `image [B, H, W, 3] -> {boxes, scores, labels, count}` over the network's layers.

    Args:
      network: what `build` returned, trained or loaded from a file.
      score_threshold, iou_threshold: of the NMS within each class; the numbers of the authors' code for measuring.
        A score is a class's times the box's confidence (section 2, eq. 1).
      max_detections: of all classes together, this package's own.
    """
    decode = DecodeGrid(VARIANTS[network.name].boxes, network.input_shape[1:3], score_threshold, iou_threshold,
                        max_detections, name="detections")
    return Model(network.input, decode(network.output["grid"]), name=f"{network.name}_detector")
