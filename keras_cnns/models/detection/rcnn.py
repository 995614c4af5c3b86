"""R-CNN: Rich feature hierarchies for accurate object detection and semantic segmentation.

Girshick, Donahue, Darrell, Malik. CVPR 2014, arXiv:1311.2524. Regions that some other method proposes are cut out of
the image, with 16 pixels of context stretched to one size (appendix A), and each is shown to a classifier; linear SVMs
judge its fc7, linear regressions correct the box from its pool5 (appendix C).

    image, proposals -> warped regions -> CNN -> fc7   -> an SVM a class          -> NMS -> detections
                                              -> pool5 -> box regression a class  ->

`build` returns the CNN with a softmax over background and classes, which is fine-tuned on regions: the paper's network,
its input one region. `assembled` puts SVMs and regressions in the softmax's place. `detector` gives of either the graph
from an image and its proposals to detections; of the first as in appendix B, without box regression. All of it is
trained by `training.stages`.

Rows: `rcnn_alexnet` and `rcnn_vgg16` are the paper's (section 3.3), `rcnn_resnet20` is this package's own small one,
of regions of 32 pixels; its SVMs weigh an error a hundred times as much as the authors', which of classes of a few
objects learn next to nothing.

Not as in the paper: images are letterboxed to 500 pixels a side, VOC's largest, before regions are cut out. Scores are
the logistic function of the SVMs' margins, which keeps their order: 0.5 stands for a margin of 0.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import Input, Model, layers, ops, tree

from keras_cnns import models
from keras_cnns.errors import InputError
from keras_cnns.layers.detection import DecodeDetections
from keras_cnns.layers.roi import RoIWarp
from keras_cnns.models import info
from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import nms as nms_ops

TASK, YEAR = "detection", 2014
PAPER = "Rich feature hierarchies for accurate object detection and semantic segmentation, arXiv:1311.2524"

register = keras.saving.register_keras_serializable("keras_cnns")
NEVER = -1e4  # margin of a class that was not learnt: its score is 0


class Variant(NamedTuple):
    backbone: str    # a classifier of the zoo
    pool5: str       # its layer from which boxes are corrected
    fc7: str         # and the one that the SVMs judge
    size: int        # pixels to a side of a warped region
    context: int     # of these around it
    proposals: int = 2000       # an image, at most, section 2.2
    canvas: tuple = (500, 500)  # height and width to which images are letterboxed
    background: float = 0.0     # least overlap of background that is learnt from in fine-tuning, section 2.3
    pairs: float = 0.6          # least overlap of a region with the box it learns to become, appendix C
    ridge: float = 1000.0       # lambda there
    num_classes: int = 20
    cost: float = 1e-3          # C of the SVMs


VARIANTS = {
    "rcnn_alexnet":  Variant("alexnet", "pool5", "fc7", 227, 16),
    "rcnn_vgg16":    Variant("vgg16", "pool5", "fc7", 224, 16),
    "rcnn_resnet20": Variant("resnet20_cifar", "conv4_x", "avg_pool", 32, 2, cost=0.1),
}

PUBLISHED = {
    "rcnn_alexnet": "VOC2007 test: mAP 58.5 %, 54.2 % without box regression (Table 2)",
    "rcnn_vgg16": "VOC2007 test: mAP 66.0 %, 62.2 % without box regression (Table 3)",
}


def build(name="rcnn_alexnet", input_shape=None, num_classes=None):
    """The CNN to fine-tune: warped regions, RGB 0 to 255, `[N, size, size, 3] ->` {"cls": logits `[N, K+1]`}.

    Args:
      name: a key of `VARIANTS`.
      input_shape: of a region, `(size, size, 3)`, by default the row's.
      num_classes: K, without background.
    """
    v = VARIANTS[name]
    shape = tuple(input_shape or (v.size, v.size, 3))
    if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3 or shape[0] <= 2 * v.context:
        raise InputError(f"input_shape={input_shape}: regions are (size, size, 3) of more than {2 * v.context} pixels "
                         f"a side, such as {(v.size, v.size, 3)}.")
    classes = v.num_classes if num_classes is None else num_classes
    whole = models.module_of(v.backbone).build(v.backbone, shape, classes + 1, classifier_activation=None)
    return Model(whole.input, {"cls": whole.output}, name=name)


def losses(name="rcnn_alexnet"):
    """What `compile(loss=...)` takes of a network to fine-tune."""
    return {"cls": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}


def region_features(network, v):
    """The CNN up to what is learnt from: regions `->` {"pool5": `[N, P]`, "fc7": `[N, F]`}."""
    pool5 = network.get_layer(v.pool5).output
    if len(pool5.shape) > 2:
        pool5 = layers.Flatten(name="pool5_flat")(pool5)
    return Model(network.input, {"pool5": pool5, "fc7": network.get_layer(v.fc7).output})


def assembled(network, svms, regressions):
    """The CNN with SVMs and regressions for its softmax: regions `->` {"scores": `[N, K]`, "offsets": `[N, K, 4]`}.

    Args:
      network: fine-tuned, of this module or of `sppnet`.
      svms: weights `[F, K]` and biases `[K]`: margins of fc7. regressions: `[P, K, 4]` and `[K, 4]`: eq. 6-9 of pool5.
    """
    features = region_features(network, models.module_of(network.name).VARIANTS[network.name])
    classes = len(svms[1])
    svm, regression = layers.Dense(classes, name="svm", dtype="float32"), layers.Dense(
        4 * classes, name="bbox_pred", dtype="float32")
    scores, offsets = svm(features.output["fc7"]), regression(features.output["pool5"])
    svm.set_weights(svms)
    regression.set_weights([np.reshape(part, (-1, 4 * classes) if part.ndim == 3 else -1) for part in regressions])
    return Model(network.input, {"scores": scores, "offsets": layers.Reshape((classes, 4), name="offsets")(offsets)},
                 name=network.name)


@register
class OverRegions(layers.Wrapper):
    """A network's answers for regions of images: `proposals [B, R, 4], image [B, H, W, 3] -> [B, R, ...]` each.

    Warped regions are many times the image: they are made, and forgotten, some at a time. If these are only padding,
    rows of zeros at the end, their answers are 0 without work.

    Args:
      layer: the network of one region. context, value: as of `RoIWarp`. chunk: regions at a time.
    """

    def __init__(self, layer, context, value, chunk=64, **kwargs):
        super().__init__(layer, autocast=False, **kwargs)  # pixels would lose digits in half precision
        self.context, self.value, self.chunk = context, value, chunk
        self.warp = RoIWarp(layer.input_shape[1], context, value)

    def call(self, proposals, image):
        batch, count = ops.shape(proposals)[:2]
        chunk = min(self.chunk, count) if isinstance(count, int) else self.chunk
        parts = -(-count // chunk)
        padded = ops.pad(proposals, ((0, 0), (0, parts * chunk - count), (0, 0)))
        padded = ops.reshape(padded, (-1, chunk, 4))
        number = ops.arange(batch * parts, dtype="int32") // parts

        def answers(part):
            rois, i = part
            return ops.cond(
                ops.any(rois > 0),
                lambda: self.layer(self.warp(ops.take(image, i[None], axis=0), rois[None])[0], training=False),
                lambda: tree.map_structure(lambda x: ops.zeros((chunk, *x.shape[1:]), x.dtype), self.layer.output))

        if isinstance(batch * parts, int) and batch * parts == 1:  # without a loop
            found = tree.map_structure(lambda x: x[None], answers((padded[0], number[0])))
        else:
            # Keras asks once more about the first element, beforehand: let it be padding, which is no work.
            padded, number = ops.pad(padded, ((1, 0), (0, 0), (0, 0))), ops.pad(number, ((1, 0),))
            found = tree.map_structure(lambda x: x[1:], ops.map(answers, (padded, number)))
        return tree.map_structure(
            lambda x: ops.reshape(x, (batch, parts * chunk, *x.shape[2:]))[:, :count], found)

    def compute_output_spec(self, proposals, image):
        return tree.map_structure(
            lambda x: keras.KerasTensor((*proposals.shape[:2], *x.shape[1:]), x.dtype), self.layer.output)

    def multiply_adds(self, input_shape):
        return (input_shape[1] or 1) * info.cost(self.layer)[0]

    def get_config(self):
        return {**super().get_config(), "context": self.context, "value": self.value, "chunk": self.chunk}


@register
class DecodeMargins(DecodeDetections):
    """Margins of SVMs and per-class offsets to final boxes, by NMS within each class; arguments as it."""

    def call(self, margins, offsets, rois, image):
        """`[B, R, K], [B, R, K, 4], [B, R, 4], [B, H, W, C] ->` dict of boxes, scores, labels, count."""
        boxes = box_ops.clip(box_ops.decode(offsets, rois[:, :, None, :]), *ops.shape(image)[1:3])
        real = box_ops.area(rois)[..., None] > 0  # rows of padding are never objects
        wide = ops.min(boxes[..., 2:] - boxes[..., :2], -1) >= self.min_size
        scores = ops.where(real & wide, ops.sigmoid(margins), 0.0)
        return nms_ops.class_nms(boxes, scores, self.max_detections, self.iou_threshold, self.score_threshold)


def mean_of(network):
    """What a network subtracts of each channel."""
    return np.ravel(network.get_layer("normalize").get_config()["mean"]).tolist()


def inputs(v, regions):
    """Image `[B, H, W, 3]` and proposals `[B, R, 4]`, pixels, rows of zeros being padding."""
    return {"image": Input((*v.canvas, 3), name="image"), "proposals": Input((regions, 4), name="proposals")}


def over_image(network, v, regions=None, chunk=64):
    """The graph from an image and proposals to what a network answers of each.

    Args:
      network: of regions, or a part of it. regions: R; None: any number.
    """
    given = inputs(v, regions)
    over = OverRegions(network, v.context, mean_of(network), chunk, name="regions")
    return Model(given, over(given["proposals"], given["image"]))


def of_region(network):
    """What learns of regions, warped ones: the whole network."""
    return network


def features(network, v):
    """The graph from an image and proposals to what SVMs and regressions learn from: {"pool5": `[B, R, P]`, "fc7":
    `[B, R, F]`}.
    """
    return over_image(region_features(network, v), v)


def decoded(name, answers, **decoding):
    """What `detector` gives, of a graph from image and proposals to the answers for these."""
    image, proposals, found = answers.input["image"], answers.input["proposals"], answers.output
    if "scores" in found:
        detections = DecodeMargins(**decoding, name="detections")(found["scores"], found["offsets"], proposals, image)
    else:
        still = ops.stack([ops.zeros_like(found["cls"][..., 1:])] * 4, -1)
        detections = DecodeDetections(**decoding, name="detections")(found["cls"], still, proposals, image)
    return Model(answers.input, detections, name=f"{name}_detector")


def detector(network, proposals=None, score_threshold=0.05, iou_threshold=0.3, max_detections=100):
    """The inference graph {"image": `[B, H, W, 3]`, "proposals": `[B, R, 4]`} `->` {boxes, scores, labels, count}.

    Args:
      network: fine-tuned, or assembled, or loaded from a file.
      proposals: R, by default the row's number. Rows of zeros are none.
      score_threshold, iou_threshold, max_detections: of the NMS, within each class, section 2.2.
    """
    v = VARIANTS[network.name]
    return decoded(network.name, over_image(network, v, v.proposals if proposals is None else proposals),
                   score_threshold=score_threshold, iou_threshold=iou_threshold, max_detections=max_detections)
