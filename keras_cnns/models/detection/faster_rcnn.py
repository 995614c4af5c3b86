"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks.

Ren, He, Girshick, Sun. NIPS 2015, arXiv:1506.01497. The second stage is Fast R-CNN's (Girshick, ICCV 2015,
arXiv:1504.08083); with a feature pyramid, FPN's (arXiv:1612.03144, sections 4.1 and 4.2).

    image -> backbone -> features -> RPN -> proposals -> RoI pooling -> head -> detections

`build` returns the network to train; `detector(network)` the graph to serve. Both are functional graphs over
the same layers, so they share weights.

Rows: `faster_rcnn_resnet18` is this package's own small one, in the paper's form (RPN and RoIPool on one map,
fc6 and fc7, the four COCO scales) at half its image side, and so on conv3_x, stride 8: at stride 16 a cell
would be as large a part of the picture as at 32 in the paper. `faster_rcnn_resnet50_fpn` is torchvision's, number
for number: RoIAlign, frozen batch norm (train it from ImageNet weights, or it learns badly), its losses.

Anchors across the border count, unlike section 3.1.3, as in FPN and in every release since; a small input would
have few others.
"""

from typing import NamedTuple

from keras import Input, Model, initializers, layers

from keras_cnns.errors import InputError
from keras_cnns.layers.detection import Anchors, AnchorTargets, DecodeDetections, PadToStride, Proposals, SampleRoIs
from keras_cnns.layers.roi import RoIAlign, RoIPool
from keras_cnns.losses import BoxLoss, ClassLoss, ObjectnessLoss
from keras_cnns.models.classification import common, resnet
from keras_cnns.models.detection import fpn
from keras_cnns.models.detection.two_stage import TwoStageModel
from keras_cnns.ops import anchors as anchor_ops

TASK, YEAR = "detection", 2015
PAPER = "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, arXiv:1506.01497"


class Variant(NamedTuple):
    backbone: str
    features: tuple        # layers of the backbone; more than one feed a pyramid
    levels: tuple          # (stride, anchor sizes) of each map the RPN runs on
    rpn_width: int         # channels of the RPN's 3x3 convolution
    rois: int              # regions an image that the second stage learns from
    proposals: tuple       # an image, to train and to test
    beta: float            # where the second stage's box loss bends: 1 in Fast R-CNN, 1/9 in torchvision's
    min_size: float        # of a proposal, pixels; the authors' code: one cell, or RoIPool may miss the map
    iou_threshold: float   # of the last NMS
    input_shape: tuple
    num_classes: int
    frozen_bn: bool = False


VARIANTS = {
    "faster_rcnn_resnet18": Variant(
        "resnet18", ("conv3_x",), ((8, (32, 64, 128, 256)),), 256, 64, (300, 100), 1.0, 8.0,
        0.3, (320, 320, 3), 20),
    "faster_rcnn_resnet50_fpn": Variant(
        "resnet50_v1_5", ("conv2_x", "conv3_x", "conv4_x", "conv5_x"),
        ((4, (32,)), (8, (64,)), (16, (128,)), (32, (256,)), (64, (512,))),
        256, 512, (2000, 1000), 1 / 9, 1e-3, 0.5, (800, 800, 3), 90, frozen_bn=True),
}

PUBLISHED = {"faster_rcnn_resnet50_fpn": "COCO val2017: box AP 37.0 (torchvision's release)"}
RATIOS = (0.5, 1.0, 2.0)  # section 3.1.1
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # of the second stage, as in the authors' code


STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5")  # how the names of a trunk's layers begin


def backbone(v, input_shape, frozen_stages=0):
    """`[B, H, W, 3] -> [maps]`, finest first: one of the trunk's, or its pyramid. Sides are whole cells of the last."""
    trunk = resnet.build(v.backbone, input_shape, num_classes=None)
    maps = [trunk.get_layer(name).output for name in v.features]
    model = Model(trunk.input, fpn.pyramid(maps) if len(maps) > 1 else maps, name="backbone")
    for layer in model.layers:
        frozen_bn = v.frozen_bn and isinstance(layer, layers.BatchNormalization)
        layer.trainable = not (frozen_bn or layer.name.startswith(STAGES[:frozen_stages]))
    return model


def rpn_head(channels, num_anchors, width):
    """3x3 convolution, then two 1x1 siblings (Fig. 3), of one map: `-> logits [B, A], offsets [B, A, 4]`."""
    small = initializers.RandomNormal(stddev=0.01)  # section 3.1.3
    features = Input((None, None, channels))
    x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer=small, name="rpn_conv")(features)
    logits = layers.Conv2D(num_anchors, 1, kernel_initializer=small, name="rpn_cls")(x)
    offsets = layers.Conv2D(4 * num_anchors, 1, kernel_initializer=small, name="rpn_reg")(x)
    return Model(features, [layers.Reshape((-1,))(logits), layers.Reshape((-1, 4))(offsets)], name="rpn_head")


def roi_head(pooled_shape, num_classes, width=1024):
    """fc6, fc7, then class and box siblings (Fast R-CNN, section 2 and Fig. 1).

    `[B, R, h, w, C] -> logits [B, R, K+1], offsets [B, R, K, 4]`.
    """
    pooled = Input((None, *pooled_shape))
    x = layers.Reshape((-1, pooled_shape[0] * pooled_shape[1] * pooled_shape[2]), name="flatten")(pooled)
    x = layers.Dense(width, activation="relu", kernel_initializer="he_normal", name="fc6")(x)
    x = layers.Dense(width, activation="relu", kernel_initializer="he_normal", name="fc7")(x)
    logits = layers.Dense(num_classes + 1, kernel_initializer=initializers.RandomNormal(stddev=0.01),
                          name="cls_score")(x)
    offsets = layers.Dense(4 * (num_classes + 1), kernel_initializer=initializers.RandomNormal(stddev=0.001),
                           name="bbox_pred")(x)  # both deviations: Fast R-CNN, section 2.3
    offsets = layers.Reshape((-1, num_classes + 1, 4))(offsets)
    offsets = layers.Cropping2D(((0, 0), (1, 0)))(offsets)  # the background has a box in the papers' code, unused
    return Model(pooled, [logits, offsets], name="roi_head")


def rpn(head, maps):
    """The shared head on every map, one row an anchor: `-> logits [B, A], offsets [B, A, 4]`."""
    logits, offsets = zip(*(head(m) for m in maps))
    if len(maps) == 1:
        return logits[0], offsets[0]
    return layers.Concatenate(axis=1)(list(logits)), layers.Concatenate(axis=1)(list(offsets))


class Graph(NamedTuple):
    """What a network is made of, and what a further branch takes up."""

    inputs: dict       # image, boxes, labels
    maps: list         # of the backbone, finest first
    rois: object       # `[B, R, 4]`, sampled to learn from
    matched: object    # `[B, R]`, the number of each region's ground truth
    predictions: dict
    targets: dict


def graph(v, input_shape=None, num_classes=None, frozen_stages=0):
    """All layers of a row's network; arguments as `build` takes them."""
    input_shape = v.input_shape if input_shape is None else tuple(input_shape)
    num_classes = v.num_classes if num_classes is None else num_classes
    if len(input_shape) != 3 or input_shape[2] != 3 or num_classes < 1 or frozen_stages not in range(6):
        raise InputError(f"input_shape={input_shape}, num_classes={num_classes}, frozen_stages={frozen_stages}: a "
                         "detector takes (height, width, 3), at least one class, and 0 to 5 frozen stages.")
    image = Input(input_shape, name="image")
    boxes = Input((None, 4), name="boxes")
    labels = Input((None,), dtype="int32", name="labels")

    stride = v.levels[len(v.features) - 1][0]
    padded = PadToStride(stride, common.IMAGENET_MEAN, name="pad")(image)
    maps = backbone(v, padded.shape[1:], frozen_stages)(padded)
    references = [anchor_ops.about_origin(sizes, RATIOS) for _, sizes in v.levels]
    anchors = Anchors(references, stride, name="anchors")(image, maps)
    rpn_logits, rpn_offsets = rpn(rpn_head(maps[0].shape[-1], len(references[0]), v.rpn_width), maps)
    proposals = Proposals(top_n=v.proposals[0], pre_nms=max(1000, v.proposals[0]), min_size=v.min_size,
                          name="proposals")(rpn_logits, rpn_offsets, anchors, image)

    rpn_targets = AnchorTargets(name="anchor_targets")(anchors, boxes, labels)
    rois, roi_targets, matched = SampleRoIs(v.rois, VARIANCES, name="sample_rois")(proposals, boxes, labels)

    if len(maps) == 1:
        pooled = RoIPool(7, stride, name="roi_pool")(maps[0], rois)
    else:  # the coarsest map only proposes
        strides = tuple(stride for stride, _ in v.levels[:-1])
        pooled = RoIAlign(7, strides, samples=2, aligned=False, name="roi_pool")(maps[:-1], rois)
    roi_logits, roi_offsets = roi_head(pooled.shape[2:], num_classes)(pooled)

    return Graph({"image": image, "boxes": boxes, "labels": labels}, maps, rois, matched,
                 {"rpn_cls": rpn_logits, "rpn_reg": rpn_offsets, "roi_cls": roi_logits, "roi_reg": roi_offsets},
                 {"rpn_cls": rpn_targets, "rpn_reg": rpn_targets, "roi_cls": roi_targets, "roi_reg": roi_targets})


def network(graph, name):
    """The training network of a graph; its predictions are float32 under every dtype policy."""
    predictions = {key: layers.Activation("linear", dtype="float32", name=key)(x)
                   for key, x in graph.predictions.items()}
    return TwoStageModel(graph.inputs, {"predictions": predictions, "targets": graph.targets}, name=name)


def build(name="faster_rcnn_resnet18", input_shape=None, num_classes=None, frozen_stages=0):
    """The training network.

    Inputs: image `[B, H, W, 3]`, RGB 0 to 255; boxes `[B, G, 4]`, pixels, G >= 1; labels `[B, G]`, 1...K, 0 in
    rows of padding, -1 for regions to ignore. Outputs: predictions and targets, each keyed rpn_cls, rpn_reg,
    roi_cls, roi_reg.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, 3)`, by default the row's; height and width may be None.
      num_classes: without background; by default the row's.
      frozen_stages: how many of conv1, conv2_x ... conv5_x do not learn. The papers' 2 want a backbone that has
        already learnt, as torchvision has it, which freezes none otherwise.
    """
    return network(graph(VARIANTS[name], input_shape, num_classes, frozen_stages), name)


def losses(name="faster_rcnn_resnet18"):
    """What `compile(loss=...)` takes for a row of `VARIANTS`, keyed like the outputs.

    Section 3.1.2, eq. 1, but both terms are divided by the sampled rows and weigh the same, as in the authors'
    later code; the paper divides the boxes' by the number of cells and weighs it by 10, which comes to about the same.
    """
    return {"rpn_cls": ObjectnessLoss(), "rpn_reg": BoxLoss(beta=1 / 9), "roi_cls": ClassLoss(),
            "roi_reg": BoxLoss(VARIANTS[name].beta)}


class Served(NamedTuple):
    """What an inference graph is made of, and what a further branch takes up."""

    image: object
    maps: list        # of the backbone, finest first
    detections: dict  # boxes, scores, labels, count


def served(network, v, proposals=None, score_threshold=0.05, iou_threshold=None, max_detections=100):
    """The layers of a network of row `v` on the way from image to detections; arguments as `detector` takes them."""
    layer = network.get_layer
    image = Input(network.input["image"].shape[1:], name="image")
    maps = layer("backbone")(layer("pad")(image))
    anchors = layer("anchors")(image, maps)
    top_n = v.proposals[1] if proposals is None else proposals
    iou_threshold = v.iou_threshold if iou_threshold is None else iou_threshold
    config = {**layer("proposals").get_config(), "top_n": top_n, "pre_nms": max(1000, top_n)}
    rois = Proposals.from_config(config)(*rpn(layer("rpn_head"), maps), anchors, image)
    pool = layer("roi_pool")
    logits, offsets = layer("roi_head")(pool(maps[0] if isinstance(pool, RoIPool) else maps[:-1], rois))
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
