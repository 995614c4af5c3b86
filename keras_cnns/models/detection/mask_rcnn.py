"""Mask R-CNN. He, Gkioxari, Dollar, Girshick. ICCV 2017, arXiv:1703.06870.

    Faster R-CNN -> regions -> RoIAlign -> mask head -> a mask a class, or a heat map a joint

`build` returns the network to train; `detector(network)` the graph to serve, in which the branch looks at the boxes
that were found, not at proposals (section 3, "Inference"). Both are Faster R-CNN's graphs and one branch more: the head
of Fig. 4 for masks; that of section 5 for joints. Regions are read by RoIAlign throughout.

Rows: `mask_rcnn_resnet50_fpn` and `keypoint_rcnn_resnet50_fpn` are built as the releases of torchvision;
`mask_rcnn_resnet50_c4` is the form of Fig. 4, left, whose branches share conv5_x, with the numbers of section 3.1;
`mask_rcnn_resnet18` is this package's own small one, `faster_rcnn_resnet18` with a mask head of half the width and
depth. Deviations: masks travel to the network as crops, which of objects larger than the crop hold not every pixel
(`ops.masks`); an object whose mask is empty teaches the head of boxes alone.
"""

from typing import NamedTuple

from keras import Input, Model, initializers, layers, ops

from keras_cnns.layers.masks import KeypointTargets, MaskTargets
from keras_cnns.layers.roi import RoIAlign
from keras_cnns.losses import KeypointLoss, MaskLoss
from keras_cnns.models.detection import faster_rcnn

TASK, YEAR = "detection", 2017
PAPER = "Mask R-CNN, arXiv:1703.06870"


class Variant(NamedTuple):
    base: str         # the row of Faster R-CNN
    widths: tuple     # of the 3x3 convolutions of the branch; none: it begins at the box head's conv5_x
    num_classes: int
    crop: int = 0     # cells to a side of the crops in which masks travel; 0: none do
    joints: int = 0   # of an object, whose heat maps are learnt instead
    own: dict = {}    # numbers of the row of Faster R-CNN that are others here


VARIANTS = {
    "mask_rcnn_resnet18": Variant("faster_rcnn_resnet18", (128,) * 2, 20, crop=112),
    "mask_rcnn_resnet50_c4": Variant(
        "faster_rcnn_resnet50_c4", (), 80, crop=224,
        own=dict(rois=64, proposals=(2000, 300), scales=(2, 4, 8, 16, 32), iou_threshold=0.5,
                 input_shape=(800, 800, 3))),
    "mask_rcnn_resnet50_fpn": Variant("faster_rcnn_resnet50_fpn", (256,) * 4, 90, crop=224),
    "keypoint_rcnn_resnet50_fpn": Variant("faster_rcnn_resnet50_fpn", (512,) * 8, 1, joints=17),
}

PUBLISHED = {
    "mask_rcnn_resnet50_fpn": "COCO val2017: box AP 37.9, mask AP 34.6 (torchvision's release)",
    "keypoint_rcnn_resnet50_fpn": "COCO val2017, persons: box AP 54.6, keypoint AP 65.0 (torchvision's release)",
}
POOLED = 14    # cells to a side of a region, Fig. 4, right
WIDTH = 256    # of the transposed convolution, Fig. 4
HEAT_MAP = 56  # cells to a side, section 5


def base(v):
    """The row of Faster R-CNN that a row stands on."""
    return faster_rcnn.VARIANTS[v.base]._replace(aligned=True, **v.own)


def mask_head(cells, channels, num_classes, widths):
    """Fig. 4: `[N, M, M, C] -> logits [N, 2M, 2M, K+1]`; channel 0, the background's, is not used."""
    regions = x = Input((cells, cells, channels))
    for i, width in enumerate(widths, 1):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal",
                          name=f"mask_fcn{i}")(x)
    x = layers.Conv2DTranspose(widths[-1] if widths else WIDTH, 2, 2, activation="relu", kernel_initializer="he_normal",
                               name="conv5_mask")(x)
    logits = layers.Conv2D(num_classes + 1, 1, kernel_initializer=initializers.RandomNormal(stddev=0.001),
                           name="mask_fcn_logits")(x)
    return Model(regions, logits, name="mask_head")


def keypoint_head(channels, joints, widths):
    """Section 5: `[N, 14, 14, C] -> logits [N, 56, 56, J]`."""
    regions = x = Input((POOLED, POOLED, channels))
    for i, width in enumerate(widths, 1):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal",
                          name=f"conv_fcn{i}")(x)
    x = layers.Conv2DTranspose(joints, 4, 2, padding="same", kernel_initializer=initializers.RandomNormal(stddev=0.001),
                               name="kps_score_lowres")(x)
    return Model(regions, layers.UpSampling2D(2, interpolation="bilinear")(x), name="keypoint_head")


def conv5_x(pool, head, maps, rois):
    """What the box head's last stage makes of regions, `[B, R, 4] -> [B, R, 7, 7, 2048]`. Fig. 4, left."""
    stage = Model(head.input, head.get_layer("conv5_x").output)
    return faster_rcnn.over_regions(stage, faster_rcnn.pooled_regions(pool, maps, rois))


def build(name="mask_rcnn_resnet18", input_shape=None, num_classes=None, frozen_stages=0):
    """The training network.

    Inputs: those of `faster_rcnn.build`, and masks `[B, G, S, S]`, uint8, in crops as of `ops.masks.window`, S being
    the row's; or keypoints `[B, G, J, 3]`: x, y in pixels, and 0 where not labelled. Outputs: predictions and targets,
    as of `faster_rcnn.build` and keyed "mask" or "keypoint".

    Arguments as of `faster_rcnn.build`.
    """
    v = VARIANTS[name]
    num_classes = v.num_classes if num_classes is None else num_classes
    graph = faster_rcnn.graph(base(v), input_shape, num_classes, frozen_stages)
    # At most a quarter of the regions are objects, and they come first.
    rois, matched, rows = (
        t[:, :base(v).rois // 4] for t in (graph.rois, graph.matched, graph.targets["roi_cls"]))
    if v.widths:
        maps = faster_rcnn.pooled_maps(graph.maps)
        features = RoIAlign(POOLED, tuple(graph.strides[:len(maps)]), samples=2, aligned=False, name="mask_pool")(
            maps, rois)
    else:
        features = conv5_x(graph.pool, graph.head, graph.maps, rois)
    cells, channels = features.shape[-2:]
    if v.joints:
        key, head = "keypoint", keypoint_head(channels, v.joints, v.widths)
        given = {"keypoints": Input((None, v.joints, 3), name="keypoints")}
        targets = KeypointTargets(HEAT_MAP, name="keypoint_targets")(rois, matched, rows, given["keypoints"])
    else:
        key, head = "mask", mask_head(cells, channels, num_classes, v.widths)
        given = {"masks": Input((None, v.crop, v.crop), dtype="uint8", name="masks")}
        targets = MaskTargets(2 * cells, name="mask_targets")(
            rois, matched, rows, graph.inputs["boxes"], given["masks"], graph.inputs["image"])
    logits = faster_rcnn.over_regions(head, features)
    return faster_rcnn.network(graph._replace(
        inputs={**graph.inputs, **given}, predictions={**graph.predictions, key: logits},
        targets={**graph.targets, key: targets}), name)


def losses(name="mask_rcnn_resnet18"):
    """What `compile(loss=...)` takes for a row of `VARIANTS`, keyed like the outputs: section 3, all of weight 1."""
    v = VARIANTS[name]
    own = {"keypoint": KeypointLoss()} if v.joints else {"mask": MaskLoss()}
    return {**faster_rcnn.losses(v.base), **own}


def detector(network, **decoding):
    """The inference graph `image [B, H, W, 3] -> {boxes, scores, labels, count, masks}` over the network's layers.

    masks: `[B, N, 28, 28]`, of the C4 form 14x14, probabilities 0 to 1 of the detection's own class, over its box; 0 in
    the padding. Of a network of joints instead heatmaps `[B, N, 56, 56, J]`, logits, of which `ops.masks.joints` makes
    joints.

    Arguments as of `faster_rcnn.detector`.
    """
    v, layer = VARIANTS[network.name], network.get_layer
    parts = faster_rcnn.served(network, base(v), **decoding)
    boxes, labels = parts.detections["boxes"], parts.detections["labels"]
    if v.widths:
        features = layer("mask_pool")(faster_rcnn.pooled_maps(parts.maps), boxes)
    else:
        features = conv5_x(layer("roi_pool"), layer("roi_head"), parts.maps, boxes)
    head = layer("keypoint_head" if v.joints else "mask_head")
    logits = ops.cast(faster_rcnn.over_regions(head, features), "float32")
    if v.joints:
        own = {"heatmaps": logits}
    else:
        chosen = ops.one_hot(labels, logits.shape[-1])
        masks = ops.sigmoid(ops.einsum("bnhwk,bnk->bnhw", logits, chosen))
        own = {"masks": ops.where(labels[..., None, None] > 0, masks, 0.0)}
    return Model(parts.image, {**parts.detections, **own}, name=f"{network.name}_detector")
