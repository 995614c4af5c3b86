"""Fast R-CNN. Girshick. ICCV 2015, arXiv:1504.08083.

    image -> backbone -> features -\
    proposals -----------------------> RoI pooling -> head -> detections

Regions are not the network's: they come with the image, from `data.proposals`. `build` returns the network to train;
`detector(network)` the graph to serve. Trunk, pooling and head are those of a row of Faster R-CNN, whose second stage
this network is. `truncated_svd` makes a network of less work of a trained one.

Rows: `fast_rcnn_vgg16` is the paper's, for VOC; `fast_rcnn_resnet18` this package's own small one, on the trunk and
head of `faster_rcnn_resnet18`. As in the authors' code, ground truth joins the proposals that are learnt from; what the
file of Faster R-CNN says of boxes holds here, too.
"""

from typing import NamedTuple

import numpy as np
from keras import Input, Model, layers, models

from keras_cnns.errors import InputError
from keras_cnns.layers.detection import DecodeDetections, SampleRoIs
from keras_cnns.layers.roi import RoIPool
from keras_cnns.losses import BoxLoss, ClassLoss
from keras_cnns.models.detection import faster_rcnn, two_stage

TASK, YEAR = "detection", 2015
PAPER = "Fast R-CNN, arXiv:1504.08083"


class Variant(NamedTuple):
    base: str        # the row of Faster R-CNN
    proposals: int   # an image, at most
    rois: int = 64   # of which so many an image are learnt from, section 2.3


VARIANTS = {
    "fast_rcnn_vgg16": Variant("faster_rcnn_vgg16", 2000),
    "fast_rcnn_resnet18": Variant("faster_rcnn_resnet18", 1000),
}

PUBLISHED = {
    "fast_rcnn_vgg16": "VOC2007 test: mAP 66.9 % from VOC07, 70.0 % from VOC07+12 (Table 1)",
}
BACKGROUND = 0.1  # the least overlap with an object, section 2.3


def build(name="fast_rcnn_vgg16", input_shape=None, num_classes=None, frozen_stages=0):
    """The training network.

    Inputs: image `[B, H, W, 3]`, RGB 0 to 255; boxes `[B, G, 4]`, pixels, G >= 1; labels `[B, G]`, 1...K, 0 in rows of
    padding, -1 for regions to ignore; proposals `[B, R, 4]`, pixels, R being the row's number, rows of zeros filling
    them up. Outputs: predictions and targets, each keyed roi_cls, roi_reg.

    Arguments as of `faster_rcnn.build`; the paper freezes 2 stages of VGG-16 with ImageNet weights (section 4.5).
    """
    v = VARIANTS[name]
    base = faster_rcnn.VARIANTS[v.base]
    inputs, num_classes = faster_rcnn.entrances(base, input_shape, num_classes, frozen_stages)
    inputs["proposals"] = Input((v.proposals, 4), name="proposals")
    trunk, (stride,) = faster_rcnn.backbone(base, frozen_stages)
    maps = faster_rcnn.maps_of(trunk, inputs["image"], stride, base.padded)
    head = faster_rcnn.roi_head(base, (base.pooled, base.pooled, maps[0].shape[-1]), num_classes)
    return _network(name, inputs, maps, SampleRoIs(v.rois, faster_rcnn.VARIANCES, BACKGROUND, name="sample_rois"),
                    RoIPool(base.pooled, stride, name="roi_pool"), head)


def _network(name, inputs, maps, sample, pool, head):
    rois, targets, _ = sample(inputs["proposals"], inputs["boxes"], inputs["labels"])
    logits, offsets = head(pool(maps[0], rois))
    return two_stage.network(
        inputs, {"roi_cls": logits, "roi_reg": offsets}, {"roi_cls": targets, "roi_reg": targets}, name)


def losses(name="fast_rcnn_vgg16"):
    """What `compile(loss=...)` takes, keyed like the outputs: section 2.3, eq. 1-3, lambda 1."""
    return {"roi_cls": ClassLoss(), "roi_reg": BoxLoss()}


def detector(network, proposals=None, score_threshold=0.05, iou_threshold=None, max_detections=100):
    """The inference graph `{image [B, H, W, 3], proposals [B, R, 4]} -> {boxes, scores, labels, count}`.

    Args:
      network: what `build` or `truncated_svd` returned, trained or loaded from a file.
      proposals: R, by default the row's number. Rows of zeros are none.
      The others as of `faster_rcnn.detector`.
    """
    v, layer = VARIANTS[network.name], network.get_layer
    base, image = faster_rcnn.VARIANTS[v.base], Input(network.input["image"].shape[1:], name="image")
    rois = Input((v.proposals if proposals is None else proposals, 4), name="proposals")
    logits, offsets = faster_rcnn.second_stage(network, layer("backbone")(layer("pad")(image)), rois)
    iou_threshold = base.iou_threshold if iou_threshold is None else iou_threshold
    detections = DecodeDetections(score_threshold, iou_threshold, max_detections, faster_rcnn.VARIANCES,
                                  name="detections")(logits, offsets, rois, image)
    return Model({"image": image, "proposals": rois}, detections, name=f"{network.name}_detector")


def truncated_svd(network, ranks=(1024, 256)):
    """The network with fc6 and fc7 each as two layers, by truncated SVD of their weights: section 3.1.

    The first of the two, "fc6_svd" and "fc7_svd", has no bias, the second that of before. All else is shared with the
    network given. The answer lives in a `.keras` file; `create_model` makes none of its kind to load weights into.

    Args:
      ranks: singular values of each that stay.

    Raises:
      InputError: no Fast R-CNN, one that has been cut already, or ranks that its layers cannot have.
    """
    if network.name not in VARIANTS:
        raise InputError(f"{network.name} is no Fast R-CNN; give one of {', '.join(VARIANTS)}.")
    if len(ranks) != 2:
        raise InputError(f"ranks={ranks}: give two whole numbers, of fc6 and of fc7.")
    ranks, layer = dict(zip(("fc6", "fc7"), ranks)), network.get_layer
    if any(inner.name.endswith("_svd") for inner in layer("roi_head").layers):
        raise InputError(f"{network.name}: its fc6 and fc7 are of truncated SVD already; give the network of before.")
    head = models.clone_model(layer("roi_head"), clone_function=lambda layer: layer,
                              call_function=lambda *arguments, **keywords: _in_two(ranks, *arguments, **keywords))
    image = network.input["image"]
    return _network(network.name, network.input, layer("backbone")(layer("pad")(image)), layer("sample_rois"),
                    layer("roi_pool"), head)


def _in_two(ranks, layer, *arguments, **keywords):
    if layer.name not in ranks:
        return layer(*arguments, **keywords)
    rank, (kernel, bias) = ranks[layer.name], layer.get_weights()
    if not isinstance(rank, int) or not 0 < rank <= min(kernel.shape):
        raise InputError(f"{layer.name} of rank {rank}: give a whole number from 1 to {min(kernel.shape)}.")
    # The singular vectors of the largest values: eigenvectors of the product, which is smaller than the kernel.
    wide = kernel.astype("float64")
    vectors = np.linalg.eigh(wide.T @ wide)[1][:, :-rank - 1:-1]
    first = layers.Dense(rank, use_bias=False, dtype=layer.dtype_policy, name=f"{layer.name}_svd")
    second = layers.Dense(layer.units, activation=layer.activation, dtype=layer.dtype_policy, name=layer.name)
    answer = second(first(*arguments))
    first.set_weights([wide @ vectors])
    second.set_weights([vectors.T, bias])
    return answer
