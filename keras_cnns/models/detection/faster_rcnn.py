"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks.

Ren, He, Girshick, Sun. NIPS 2015, arXiv:1506.01497. The second stage is Fast R-CNN's (Girshick, ICCV 2015,
arXiv:1504.08083); with a feature pyramid, FPN's (arXiv:1612.03144, sections 4.1 and 4.2).

    image -> backbone -> features -> RPN -> proposals -> RoI pooling -> head -> detections

`build` returns the network to train; `detector(network)` the graph to serve. Both are functional graphs over
the same layers, so they share weights.

Rows: `faster_rcnn_vgg16` is the paper's, for VOC. The rows called c4 are those of ResNet's paper (arXiv:1512.03385,
appendix A): RPN and RoIPool on conv4_x, conv5_x on each region. `faster_rcnn_resnet18` is this package's own small one,
in the paper's form (RPN and RoIPool on one map, fc6 and fc7, the four COCO scales) at half its image side, and so on
conv3_x, stride 8: at stride 16 a cell would be as large a part of the picture as at 32 in the paper.
`faster_rcnn_resnet50_fpn` is torchvision's, number for number: RoIAlign, its losses. `faster_rcnn` stands on any
classifier of the zoo: on one layer of it in the paper's form, on several in FPN's. Batch norm is frozen (train from
ImageNet weights, or they learn badly) but in `faster_rcnn_resnet18` and `faster_rcnn`.

Not as in the paper. Anchors across the border count, unlike section 3.1.3, as in FPN and in every release since; a
small input would have few others. And not as in the authors' code, py-faster-rcnn: x2 and y2 of a box are exclusive,
where theirs are the last pixel's, to which their decoding does not keep, so that of the same numbers their final boxes
lie half a pixel further right and below, and are larger as if the region had a pixel more a side; min_size is in pixels
of the network's input, theirs in the image's; and boxes that it drops still take up candidates for NMS.
"""

import functools
import re
from typing import Callable, NamedTuple

import numpy as np
from keras import Input, Model, initializers, layers, ops, tree

from keras_cnns.errors import InputError
from keras_cnns.layers.detection import Anchors, AnchorTargets, DecodeDetections, PadToStride, Proposals, SampleRoIs
from keras_cnns.layers.roi import RoIAlign, RoIPool
from keras_cnns.losses import BoxLoss, ClassLoss, ObjectnessLoss
from keras_cnns.models.classification import common, resnet, vgg
from keras_cnns.models.detection import backbones, fpn, two_stage
from keras_cnns.models.detection.backbones import features
from keras_cnns.ops import anchors as anchor_ops

TASK, YEAR = "detection", 2015
PAPER = "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, arXiv:1506.01497"


RATIOS = (0.5, 1.0, 2.0)  # section 3.1.1
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # of the second stage, as in the authors' code


def about_corner(stride, scales):
    """Anchors `[n, 4]` about a cell's corner, of areas `(stride * scale)**2`: torchvision's."""
    return anchor_ops.about_origin([stride * scale for scale in scales], RATIOS)


def about_centre(stride, scales):
    """The authors': a cell's area in each ratio, in whole pixels, times each scale, about the cell's centre.

    Of stride 16 and scale 8 the first is (-84, -40, 100, 56), which they write as (-84, -40, 99, 55).
    """
    widths = [round(stride / ratio**0.5) for ratio in RATIOS]
    sides = np.array([(w * s, round(w * ratio) * s) for w, ratio in zip(widths, RATIOS) for s in scales], "float32")
    return np.concatenate([stride - sides, stride + sides], -1) / 2


def fully_connected(x, v, width=1024, dropout=0.0):
    """fc6 and fc7: `[B, R, h, w, C] -> [B, R, width]`. Fast R-CNN, Fig. 1."""
    x = layers.Reshape((-1, x.shape[-3] * x.shape[-2] * x.shape[-1]), name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = layers.Dense(width, activation="relu", kernel_initializer="he_normal", name=name)(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return x


def conv5_x(x, v):
    """ResNet's last stage on each region: `[N, 14, 14, C] -> [N, D]`. arXiv:1512.03385, appendix A."""
    trunk = resnet.VARIANTS[v.backbone]
    x = resnet.stage(x, trunk, 512, trunk.depths[3], 2, "conv5_x")
    return layers.GlobalAveragePooling2D(name="avg_pool")(x)


class Variant(NamedTuple):
    backbone: str          # a classifier of the zoo
    features: tuple        # its layers that are maps, finest first; more than one feed a pyramid
    rois: int              # regions an image that the second stage learns from
    proposals: tuple       # an image, to train and to test
    candidates: tuple      # of which so many of a map, of the highest score, enter NMS
    scales: tuple = (8,)   # of the anchors, in cells of their map
    anchors: Callable = about_corner
    rpn_width: int = 256   # channels of the RPN's 3x3 convolution
    rpn_scores: int = 1    # of an anchor; 2, as in the paper, are for object and for background
    pooled: int = 7        # bins to a side of a region
    aligned: bool = False  # by RoIAlign, as always of a pyramid, or by RoIPool
    head: Callable = fully_connected  # what the second stage does with them
    beta: float = 1.0      # where its box loss bends: 1 in Fast R-CNN, 1/9 in torchvision's
    min_size: float = 1e-3  # of a proposal, pixels
    iou_threshold: float = 0.3  # of the last NMS
    padded: bool = True    # images, to whole cells; else a trunk that rounds up makes the last cell out of less
    frozen_bn: bool = False
    input_shape: tuple = (600, 1000, 3)
    num_classes: int = 20


PAPER_FORM = Variant(
    "vgg16", ("conv5_3_relu",), 128, (2000, 300), (12000, 6000), (8, 16, 32), about_centre, rpn_width=512, rpn_scores=2,
    head=functools.partial(fully_connected, width=4096, dropout=0.5), min_size=16.0, padded=False)
C4 = PAPER_FORM._replace(features=("conv4_x",), pooled=14, head=conv5_x, frozen_bn=True)

VARIANTS = {
    # A region of less than a cell may miss the map.
    "faster_rcnn_resnet18": Variant(
        "resnet18", ("conv3_x",), 64, (300, 100), (1000, 1000), (4, 8, 16, 32), min_size=8.0,
        input_shape=(320, 320, 3)),
    "faster_rcnn_vgg16": PAPER_FORM,
    **{f"faster_rcnn_{resnet}_c4": C4._replace(backbone=resnet) for resnet in ("resnet18", "resnet50", "resnet101")},
    "faster_rcnn_resnet50_fpn": Variant(
        "resnet50_v1_5", ("conv2_x", "conv3_x", "conv4_x", "conv5_x"), 512, (2000, 1000), (2000, 1000), beta=1 / 9,
        iou_threshold=0.5, frozen_bn=True, input_shape=(800, 800, 3), num_classes=90),
    # Map and number of proposals as in arXiv:1611.10012, which calls the map Mixed_4e.
    "faster_rcnn": PAPER_FORM._replace(
        backbone="inception_v2", features=("inception_4d",), head=fully_connected, padded=True),
}

PUBLISHED = {
    "faster_rcnn_vgg16": "VOC2007 test: mAP 69.9 % from VOC07, 73.2 % from VOC07+12 (Table 3)",
    "faster_rcnn_resnet101_c4": "VOC2007 test: mAP 76.4 % from VOC07+12 (arXiv:1512.03385, Table 7)",
    "faster_rcnn_resnet50_fpn": "COCO val2017: box AP 37.0 (torchvision's release)",
}
AUTHORS_MEAN = (122.7717, 115.9465, 102.9801)  # RGB, of their Caffe files


def vgg16():
    """VGG-16 to conv5_3 with the authors' mean. Its pooling rounds up, as Caffe's: 38x63 cells of 600x1000 pixels."""
    inputs, x = common.pixels((None, None, 3), None, mean=AUTHORS_MEAN, variance=(1.0,) * 3)
    for i, (filters, depth) in enumerate(zip((64, 128, 256, 512, 512), vgg.VARIANTS["vgg16"].depths), 1):
        if i > 1:
            x = common.caffe_max_pool(x, 2, 2, f"pool{i - 1}")
        for j in range(1, depth + 1):
            x = vgg.conv_relu(x, filters, 3, False, f"conv{i}_{j}")
    return Model(inputs, x)


def trunk(name):
    """A classifier of the zoo without its classes."""
    return vgg16() if name == "vgg16" else backbones.trunk(name)


def strides_of(maps, image, names):
    """Pixels to a cell of each map, from what the layers make of 512x1024 pixels; InputError if they are no pyramid."""
    shapes = Model(image, maps).compute_output_shape((1, 512, 1024, 3))
    differences = [shape[2] - shape[1] for shape in shapes]
    strides = [512 // n if n else 0 for n in differences]
    halved = all(2 * b == a for fine, coarse in zip(shapes, shapes[1:]) for a, b in zip(fine[1:3], coarse[1:3]))
    if not halved or any(stride * n != 512 for stride, n in zip(strides, differences)):
        cells = ", ".join(f"{height}x{width}" for _, height, width, _ in shapes)
        raise InputError(f"features={names}: of 512x1024 pixels these have {cells} cells. Give one layer that keeps "
                         "places apart, or several, finest first, each with twice the next one's cells.")
    return strides


def backbone(v, frozen_stages=0):
    """`[B, H, W, 3] -> [maps]`, finest first: one of the trunk's, or its pyramid; and pixels to a cell of each."""
    whole = trunk(v.backbone)
    maps = features(whole, v.features, v.backbone)
    strides = strides_of(maps, whole.input, v.features)
    if len(maps) > 1:
        maps, strides = fpn.pyramid(maps, strides[0].bit_length() - 1), [*strides, 2 * strides[-1]]
    return frozen(Model(whole.input, maps, name="backbone"), v, frozen_stages), strides


def frozen(model, v, stages):
    """The model, in which the first stages, named "conv1" and so on, do not learn, nor batch norm that is frozen."""
    for layer in model.layers:
        stage = re.match(r"conv(\d+)", layer.name)
        early = stages and stage and int(stage[1]) <= stages
        if early or (v.frozen_bn and isinstance(layer, layers.BatchNormalization)):
            layer.trainable = False
    return model


def rpn_head(channels, num_anchors, width, scores=1):
    """3x3 convolution, then two 1x1 siblings (Fig. 3), of one map: `-> logits [B, A], offsets [B, A, 4]`.

    Of two scores of each anchor, background's and object's, the logit is the difference: its sigmoid is their softmax.
    They stand as in the authors' files, all anchors of the one, then of the other.
    """
    small = initializers.RandomNormal(stddev=0.01)  # section 3.1.3
    maps = Input((None, None, channels))
    x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer=small, name="rpn_conv")(maps)
    logits = layers.Conv2D(scores * num_anchors, 1, kernel_initializer=small, name="rpn_cls")(x)
    if scores == 2:
        logits = logits[..., num_anchors:] - logits[..., :num_anchors]
    offsets = layers.Conv2D(4 * num_anchors, 1, kernel_initializer=small, name="rpn_reg")(x)
    return Model(maps, [layers.Reshape((-1,))(logits), layers.Reshape((-1, 4))(offsets)], name="rpn_head")


def roi_head(v, pooled_shape, num_classes):
    """What is common to all classes, then class and box siblings (Fast R-CNN, section 2 and Fig. 1).

    `[B, R, h, w, C] -> logits [B, R, K+1], offsets [B, R, K, 4]`; with convolutions, of single regions, without B.
    """
    pooled = Input(pooled_shape if v.head is conv5_x else (None, *pooled_shape))
    x = v.head(pooled, v)
    logits = layers.Dense(num_classes + 1, kernel_initializer=initializers.RandomNormal(stddev=0.01),
                          name="cls_score")(x)
    offsets = layers.Dense(4 * (num_classes + 1), kernel_initializer=initializers.RandomNormal(stddev=0.001),
                           name="bbox_pred")(x)  # both deviations: Fast R-CNN, section 2.3
    offsets = layers.Reshape((-1,) * (len(x.shape) - 2) + (num_classes + 1, 4))(offsets)
    # The background has a box in the papers' code, unused.
    return Model(pooled, [logits, offsets[..., 1:, :]], name="roi_head")


def over_regions(head, pooled):
    """A head, also one of single regions, on those of each image: `[B, R, ...] -> [B, R, ...]`, one or several."""
    if len(head.input.shape) == len(pooled.shape):
        return head(pooled)
    answers = head(ops.reshape(pooled, (-1, *pooled.shape[2:])))
    return tree.map_structure(lambda x: ops.reshape(x, (-1, pooled.shape[1], *x.shape[1:])), answers)


def rpn(head, maps):
    """The shared head on every map, one row an anchor: `-> logits [B, A], offsets [B, A, 4]`."""
    logits, offsets = zip(*(head(m) for m in maps))
    if len(maps) == 1:
        return logits[0], offsets[0]
    return layers.Concatenate(axis=1)(list(logits)), layers.Concatenate(axis=1)(list(offsets))


def pooled_maps(maps):
    """Those that regions are read from: of a pyramid all but the coarsest, which only proposes."""
    return maps[:-1] or maps


def pooled_regions(pool, maps, rois):
    """`[B, R, 4] -> [B, R, h, w, C]`."""
    return pool(maps[0] if isinstance(pool, RoIPool) else pooled_maps(maps), rois)


class Graph(NamedTuple):
    """What a network is made of, and what a further branch takes up."""

    inputs: dict       # image, boxes, labels
    maps: list         # of the backbone, finest first
    strides: list      # pixels to a cell of each
    rois: object       # `[B, R, 4]`, sampled to learn from
    matched: object    # `[B, R]`, the number of each region's ground truth
    pool: object       # of the regions
    head: object
    predictions: dict
    targets: dict


def entrances(v, input_shape, num_classes, frozen_stages):
    """Image, boxes and labels of a row's network, and the number of classes; arguments as `build` takes them."""
    input_shape = v.input_shape if input_shape is None else tuple(input_shape)
    num_classes = v.num_classes if num_classes is None else num_classes
    if len(input_shape) != 3 or input_shape[2] != 3 or num_classes < 1 or frozen_stages not in range(6):
        raise InputError(f"input_shape={input_shape}, num_classes={num_classes}, frozen_stages={frozen_stages}: a "
                         "detector takes (height, width, 3), at least one class, and 0 to 5 frozen stages.")
    return {"image": Input(input_shape, name="image"), "boxes": Input((None, 4), name="boxes"),
            "labels": Input((None,), dtype="int32", name="labels")}, num_classes


def maps_of(trunk, image, stride, padded):
    """A backbone's maps of an image that is padded to whole cells, if it shall be, with the mean that is subtracted."""
    mean = np.ravel(trunk.get_layer("normalize").get_config()["mean"]).tolist()
    return trunk(PadToStride(stride if padded else 1, mean, name="pad")(image))


def first_stage(v, inputs, maps, strides, coarsest):
    """Regions of the maps `[B, R, 4]`, and what is predicted and to be predicted of the anchors, keyed like outputs."""
    image, boxes, labels = inputs["image"], inputs["boxes"], inputs["labels"]
    references = [v.anchors(stride, v.scales) for stride in strides]
    anchors = Anchors(references, coarsest, name="anchors")(image, maps)
    rpn_logits, rpn_offsets = rpn(rpn_head(maps[0].shape[-1], len(references[0]), v.rpn_width, v.rpn_scores), maps)
    proposals = Proposals(top_n=v.proposals[0], pre_nms=v.candidates[0], min_size=v.min_size,
                          name="proposals")(rpn_logits, rpn_offsets, anchors, image)
    targets = AnchorTargets(name="anchor_targets")(anchors, boxes, labels)
    return proposals, {"rpn_cls": rpn_logits, "rpn_reg": rpn_offsets}, {"rpn_cls": targets, "rpn_reg": targets}


def graph(v, input_shape=None, num_classes=None, frozen_stages=0):
    """All layers of a row's network; arguments as `build` takes them."""
    inputs, num_classes = entrances(v, input_shape, num_classes, frozen_stages)
    trunk, strides = backbone(v, frozen_stages)
    coarsest = strides[len(v.features) - 1]
    maps = maps_of(trunk, inputs["image"], coarsest, v.padded)
    proposals, predictions, targets = first_stage(v, inputs, maps, strides, coarsest)
    rois, roi_targets, matched = SampleRoIs(v.rois, VARIANCES, name="sample_rois")(
        proposals, inputs["boxes"], inputs["labels"])

    if v.aligned or len(maps) > 1:
        pool = RoIAlign(v.pooled, tuple(strides[:len(v.features)]), samples=2, aligned=False, name="roi_pool")
    else:
        pool = RoIPool(v.pooled, coarsest, name="roi_pool")
    pooled = pooled_regions(pool, maps, rois)
    head = frozen(roi_head(v, pooled.shape[2:], num_classes), v, frozen_stages)
    roi_logits, roi_offsets = over_regions(head, pooled)

    return Graph(inputs, maps, strides, rois, matched, pool, head,
                 {**predictions, "roi_cls": roi_logits, "roi_reg": roi_offsets},
                 {**targets, "roi_cls": roi_targets, "roi_reg": roi_targets})


def network(graph, name):
    """The training network of a graph."""
    return two_stage.network(graph.inputs, graph.predictions, graph.targets, name)


def build(name="faster_rcnn_resnet18", input_shape=None, num_classes=None, frozen_stages=0, backbone=None,
          features=None):
    """The training network.

    Inputs: image `[B, H, W, 3]`, RGB 0 to 255; boxes `[B, G, 4]`, pixels, G >= 1; labels `[B, G]`, 1...K, 0 in
    rows of padding, -1 for regions to ignore. Outputs: predictions and targets, each keyed rpn_cls, rpn_reg,
    roi_cls, roi_reg.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, 3)`, by default the row's; with a pyramid height and width may be None.
      num_classes: without background; by default the row's.
      frozen_stages: how many of conv1, conv2_x ... conv5_x do not learn. The papers' 2 want a backbone that has
        already learnt, as torchvision has it, which freezes none otherwise.
      backbone, features: of `faster_rcnn`: a classifier of the zoo, and the name or names, finest first, of its layers
        that are maps; each of several has twice the cells of the next. By default those of `backbones.DEFAULTS`.
    """
    v = VARIANTS[name]
    if (features is not None and not backbone) or (backbone and name != "faster_rcnn"):
        raise InputError(f"{name} with backbone={backbone!r}, features={features!r}: the model 'faster_rcnn' takes "
                         "a backbone, and then its layers; the others take neither.")
    if backbone:
        features = backbones.named(backbone, features, "two_stage")
        v = v._replace(backbone=backbone, features=features)
        if len(features) > 1:
            v = v._replace(scales=(8,), anchors=about_corner, rpn_width=256, candidates=(2000, 1000), min_size=1e-3)
    return network(graph(v, input_shape, num_classes, frozen_stages), name)


def losses(name="faster_rcnn_resnet18"):
    """What `compile(loss=...)` takes for a row of `VARIANTS`, keyed like the outputs.

    Section 3.1.2, eq. 1, but both terms are divided by the sampled rows and weigh the same, as in the authors'
    later code; the paper divides the boxes' by the number of cells and weighs it by 10, which comes to about the same.
    """
    return {"rpn_cls": ObjectnessLoss(), "rpn_reg": BoxLoss(beta=1 / 9), "roi_cls": ClassLoss(),
            "roi_reg": BoxLoss(VARIANTS[name].beta)}


def second_stage(network, maps, rois):
    """A network's answers for regions of its maps, `[B, R, 4] -> logits [B, R, K+1], offsets [B, R, K, 4]`."""
    return over_regions(network.get_layer("roi_head"), pooled_regions(network.get_layer("roi_pool"), maps, rois))


class Served(NamedTuple):
    """What an inference graph is made of, and what a further branch takes up."""

    image: object
    maps: list        # of the backbone, finest first
    detections: dict  # boxes, scores, labels, count


def proposed(network, v, image, maps, proposals=None):
    """The regions that a network proposes to a detector, `[B, R, 4]`, by default the row's number for testing."""
    layer, top_n = network.get_layer, v.proposals[1] if proposals is None else proposals
    config = {**layer("proposals").get_config(), "top_n": top_n, "pre_nms": max(v.candidates[1], top_n)}
    return Proposals.from_config(config)(*rpn(layer("rpn_head"), maps), layer("anchors")(image, maps), image)


def served(network, v, proposals=None, score_threshold=0.05, iou_threshold=None, max_detections=100):
    """The layers of a network of row `v` on the way from image to detections; arguments as `detector` takes them."""
    layer = network.get_layer
    image = Input(network.input["image"].shape[1:], name="image")
    maps = layer("backbone")(layer("pad")(image))
    rois = proposed(network, v, image, maps, proposals)
    iou_threshold = v.iou_threshold if iou_threshold is None else iou_threshold
    logits, offsets = second_stage(network, maps, rois)
    detections = DecodeDetections(score_threshold, iou_threshold, max_detections, VARIANCES, name="detections")(
        logits, offsets, rois, image)
    return Served(image, maps, detections)


def detector(network, proposals=None, score_threshold=0.05, iou_threshold=None, max_detections=100):
    """The inference graph `image [B, H, W, 3] -> {boxes, scores, labels, count}` over the network's layers.

    Args:
      network: what `build` returned, trained or loaded from a file.
      proposals: an image, by default the row's number for testing.
      score_threshold, iou_threshold, max_detections: of the last NMS, within each class.
    """
    parts = served(network, VARIANTS[network.name], proposals, score_threshold, iou_threshold, max_detections)
    return Model(parts.image, parts.detections, name=f"{network.name}_detector")
