"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks.

Ren, He, Girshick, Sun. NIPS 2015, arXiv:1506.01497. The second stage is Fast R-CNN's (Girshick, ICCV 2015,
arXiv:1504.08083); with a feature pyramid, FPN's (arXiv:1612.03144, sections 4.1 and 4.2).

    image -> backbone -> features -> RPN -> proposals -> RoI pooling -> head -> detections

`build` returns the network to train; `detector(network)` the graph to serve. Both are functional graphs over
the same layers, so they share weights.

Rows: `faster_rcnn_resnet18` is this package's own small one, in the paper's form (RPN and RoIPool on one map,
fc6 and fc7, the four COCO scales) at half its image side, and so on conv3_x, stride 8: at stride 16 a cell
would be as large a part of the picture as at 32 in the paper. `faster_rcnn_resnet50_fpn` is built as the
release of torchvision: RoIAlign, frozen batch norm (train it from ImageNet weights, or it learns badly); its
anchors are centred in the cells, and the second stage's box loss is Fast R-CNN's, not bent at 1/9. Anchors
across the border count, unlike section 3.1.3, as in FPN and in every release since; a small input would have
few others.
"""

from typing import NamedTuple

from keras import Input, Model, initializers, layers

from keras_cnns.errors import InputError
from keras_cnns.layers.detection import AnchorTargets, DecodeDetections, Proposals, SampleRoIs
from keras_cnns.layers.roi import RoIAlign, RoIPool
from keras_cnns.losses import BoxLoss, ClassLoss, ObjectnessLoss
from keras_cnns.models.classification import resnet
from keras_cnns.models.detection import fpn
from keras_cnns.models.detection.two_stage import TwoStageModel

TASK, YEAR = "detection", 2015
PAPER = "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, arXiv:1506.01497"


class Variant(NamedTuple):
    backbone: str
    features: tuple        # layers of the backbone; more than one feed a pyramid
    levels: tuple          # (stride, anchor sizes) of each map the RPN runs on
    rpn_width: int         # channels of the RPN's 3x3 convolution
    rois: int              # regions an image that the second stage learns from
    proposals: tuple       # an image, to train and to test
    min_size: float        # of a proposal, pixels; the authors' code: one cell, or RoIPool may miss the map
    iou_threshold: float   # of the last NMS
    input_shape: tuple
    num_classes: int
    frozen_bn: bool = False


VARIANTS = {
    "faster_rcnn_resnet18": Variant(
        "resnet18", ("conv3_x",), ((8, (32, 64, 128, 256)),), 256, 64, (300, 100), 8.0,
        0.3, (320, 320, 3), 20),
    "faster_rcnn_resnet50_fpn": Variant(
        "resnet50_v1_5", ("conv2_x", "conv3_x", "conv4_x", "conv5_x"),
        ((4, (32,)), (8, (64,)), (16, (128,)), (32, (256,)), (64, (512,))),
        256, 512, (2000, 1000), 1e-3, 0.5, (800, 800, 3), 90, frozen_bn=True),
}

PUBLISHED = {"faster_rcnn_resnet50_fpn": "COCO val2017: box AP 37.0 (torchvision's release)"}
RATIOS = (0.5, 1.0, 2.0)  # section 3.1.1
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # of the second stage, as in the authors' code


def backbone(v, input_shape):
    """`[B, H, W, 3] -> [maps]`, finest first: one of the trunk's, or its pyramid."""
    trunk = resnet.build(v.backbone, input_shape, num_classes=None)
    maps = [trunk.get_layer(name).output for name in v.features]
    model = Model(trunk.input, fpn.pyramid(maps) if len(maps) > 1 else maps, name="backbone")
    if v.frozen_bn:
        for layer in model.layers:
            layer.trainable = not isinstance(layer, layers.BatchNormalization)
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
    x = layers.Reshape((-1, pooled_shape[0] * pooled_shape[1] * pooled_shape[2]))(pooled)
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


def build(name="faster_rcnn_resnet18", input_shape=None, num_classes=None):
    """The training network.

    Inputs: image `[B, H, W, 3]`, RGB 0 to 255; boxes `[B, G, 4]`, pixels, G >= 1; labels `[B, G]`, 1...K, 0 in
    rows of padding, -1 for regions to ignore. Outputs: predictions and targets, each keyed rpn_cls, rpn_reg,
    roi_cls, roi_reg.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, 3)`, static; by default the row's.
      num_classes: without background; by default the row's.
    """
    v = VARIANTS[name]
    input_shape = v.input_shape if input_shape is None else tuple(input_shape)
    num_classes = v.num_classes if num_classes is None else num_classes
    if len(input_shape) != 3 or None in input_shape or num_classes < 1:
        raise InputError(f"input_shape={input_shape}, num_classes={num_classes}: a detector takes a fixed "
                         "(height, width, 3), since its anchors are constants, and at least one class.")
    grid = dict(levels=v.levels, ratios=RATIOS, image_size=input_shape[:2])
    image = Input(input_shape, name="image")
    boxes = Input((None, 4), name="boxes")
    labels = Input((None,), dtype="int32", name="labels")

    maps = backbone(v, input_shape)(image)
    head = rpn_head(maps[0].shape[-1], len(v.levels[0][1]) * len(RATIOS), v.rpn_width)
    rpn_logits, rpn_offsets = rpn(head, maps)
    proposals = Proposals(**grid, top_n=v.proposals[0], pre_nms=max(1000, v.proposals[0]), min_size=v.min_size,
                          name="proposals")(rpn_logits, rpn_offsets)

    rpn_targets = AnchorTargets(**grid, name="anchor_targets")(boxes, labels)
    rois, roi_targets = SampleRoIs(v.rois, VARIANCES, name="sample_rois")(proposals, boxes, labels)

    if len(maps) == 1:
        pooled = RoIPool(7, v.levels[0][0], name="roi_pool")(maps[0], rois)
    else:  # the coarsest map only proposes
        strides = tuple(stride for stride, _ in v.levels[:-1])
        pooled = RoIAlign(7, strides, samples=2, aligned=False, name="roi_pool")(maps[:-1], rois)
    roi_logits, roi_offsets = roi_head(pooled.shape[2:], num_classes)(pooled)

    predictions = {"rpn_cls": rpn_logits, "rpn_reg": rpn_offsets, "roi_cls": roi_logits, "roi_reg": roi_offsets}
    targets = {"rpn_cls": rpn_targets, "rpn_reg": rpn_targets, "roi_cls": roi_targets, "roi_reg": roi_targets}
    predictions = {key: layers.Activation("linear", dtype="float32", name=key)(x) for key, x in predictions.items()}
    return TwoStageModel({"image": image, "boxes": boxes, "labels": labels},
                         {"predictions": predictions, "targets": targets}, name=name)


def losses():
    """What `compile(loss=...)` takes, keyed like the outputs.

    Section 3.1.2, eq. 1, but both terms are divided by the sampled rows and weigh the same, as in the authors'
    later code; the paper divides the boxes' by the number of cells and weighs it by 10, which comes to about the same.
    """
    return {"rpn_cls": ObjectnessLoss(), "rpn_reg": BoxLoss(beta=1 / 9), "roi_cls": ClassLoss(), "roi_reg": BoxLoss()}


def detector(network, proposals=None, score_threshold=0.05, iou_threshold=None, max_detections=100):
    """The inference graph `image [B, H, W, 3] -> {boxes, scores, labels, count}` over the network's layers.

    Args:
      network: what `build` returned, trained or loaded from a file.
      proposals: an image, by default the row's number for testing.
      score_threshold, iou_threshold, max_detections: of the last NMS, within each class.
    """
    v, layer = VARIANTS[network.name], network.get_layer
    image = Input(network.input["image"].shape[1:], name="image")
    maps = layer("backbone")(image)
    top_n = v.proposals[1] if proposals is None else proposals
    iou_threshold = v.iou_threshold if iou_threshold is None else iou_threshold
    config = {**layer("proposals").get_config(), "top_n": top_n, "pre_nms": max(1000, top_n)}
    rois = Proposals.from_config(config)(*rpn(layer("rpn_head"), maps))
    pool = layer("roi_pool")
    logits, offsets = layer("roi_head")(pool(maps[0] if isinstance(pool, RoIPool) else maps[:-1], rois))
    outputs = DecodeDetections(image.shape[1:3], score_threshold, iou_threshold, max_detections, VARIANCES,
                               name="detections")(logits, offsets, rois)
    return Model(image, outputs, name=f"{network.name}_detector")
