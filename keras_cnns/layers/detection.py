"""Layers between a detector's predictions and its boxes: proposals, targets, detections.

None of them has weights, so a graph may make them anew with other numbers (2000 proposals to train, 300 to
test). All compute in float32 whatever the policy: pixels would lose digits in half precision. `levels` is the
row `(stride, anchor sizes)` of each feature map, finest first; `image_size` is `(height, width)`, pixels.
"""

from keras import layers, ops, random, saving

from keras_cnns.ops import anchors as anchor_ops
from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import gather
from keras_cnns.ops import nms as nms_ops
from keras_cnns.ops import targets as target_ops

register = saving.register_keras_serializable("keras_cnns")


class _Float32(layers.Layer):
    """A layer in float32 that is made again from the keywords it was made with."""

    def __init__(self, config, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self._config = config

    def get_config(self):
        return {**super().get_config(), **self._config}


class _Sampling(_Float32):
    """A layer that throws dice. Their state is saved with the weights, so that a run goes on as if never stopped."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.seed_generator = random.SeedGenerator()

    def save_own_variables(self, store):
        store["seed"] = self.seed_generator.state

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["seed"])


@register
class Proposals(_Float32):
    """The best anchors after regression and NMS. Faster R-CNN, section 3.3; by level, FPN, section 4.1.

    Args:
      top_n: proposals an image. pre_nms: of each level this many of the highest score enter NMS.
      iou_threshold: of the NMS, which runs within each level. min_size: narrower boxes are dropped, pixels.
    """

    def __init__(self, levels, ratios, image_size, top_n=300, pre_nms=1000, iou_threshold=0.7, min_size=1e-3,
                 **kwargs):
        super().__init__(dict(levels=levels, ratios=ratios, image_size=image_size, top_n=top_n, pre_nms=pre_nms,
                              iou_threshold=iou_threshold, min_size=min_size), **kwargs)
        self.grids = anchor_ops.pyramid(image_size, levels, ratios)
        self.image_size, self.top_n, self.pre_nms = image_size, top_n, pre_nms
        self.iou_threshold, self.min_size = iou_threshold, min_size

    def call(self, logits, offsets):
        """`[B, A], [B, A, 4] -> [B, top_n, 4]`, best first, padded with rows of zeros; no gradient."""
        candidates, start = [], 0
        for level, anchors in enumerate(self.grids):
            n = len(anchors)
            score, index = ops.top_k(logits[:, start:start + n], min(self.pre_nms, n))
            chosen = gather.rows(offsets[:, start:start + n], index)
            boxes = box_ops.decode(chosen, ops.take(ops.convert_to_tensor(anchors), index, axis=0))
            candidates.append((box_ops.clip(boxes, *self.image_size), ops.sigmoid(score), level))
            start += n
        boxes = ops.concatenate([b for b, _, _ in candidates], 1)
        scores = ops.concatenate([s for _, s, _ in candidates], 1)
        # Each level has a place of its own, so that one pass of NMS serves all.
        apart = ops.concatenate([b + level * (max(self.image_size) + 1.0) for b, _, level in candidates], 1)
        wide = ops.min(boxes[..., 2:] - boxes[..., :2], -1) >= self.min_size
        index, real = nms_ops.nms(apart, ops.where(wide, scores, 0.0), self.top_n, self.iou_threshold)
        return ops.stop_gradient(ops.where(real[..., None], gather.rows(boxes, index), 0.0))


@register
class AnchorTargets(_Sampling):
    """RPN targets: 256 sampled anchors, at most half of them objects. Faster R-CNN, sections 3.1.2 and 3.1.3."""

    def __init__(self, levels, ratios, image_size, size=256, **kwargs):
        super().__init__(dict(levels=levels, ratios=ratios, image_size=image_size, size=size), **kwargs)
        self.grids = anchor_ops.pyramid(image_size, levels, ratios)
        self.size = size

    def call(self, boxes, labels):
        """`[B, G, 4], [B, G] -> target rows [B, A, 5]`, label 1 object, 0 background, -1 not sampled or ignored."""
        anchors = ops.concatenate([ops.convert_to_tensor(g) for g in self.grids])[None]
        matched, label = target_ops.match(anchors, boxes, labels, 0.7, 0.3, keep_best=True)  # section 3.1.2
        label = target_ops.keep_sampled(ops.minimum(label, 1), self.size, 0.5, self.seed_generator)
        return ops.stop_gradient(target_ops.rows(matched, label, anchors))


@register
class SampleRoIs(_Sampling):
    """Regions and targets for the second stage: a quarter objects. Fast R-CNN, section 2.3.

    Ground truth joins the proposals, as in the authors' code, so that the head has objects from the first step.
    Background is every overlap below 0.5, as in their code for joint training; the paper starts at 0.1.
    """

    def __init__(self, size=128, variances=(0.1, 0.1, 0.2, 0.2), **kwargs):
        super().__init__(dict(size=size, variances=variances), **kwargs)
        self.size, self.variances = size, variances

    def call(self, proposals, boxes, labels):
        """`[B, R, 4], [B, G, 4], [B, G] -> rois [B, size, 4], targets [B, size, 5]`.

        Rows are filled up, where an image ran out, with one-pixel regions of label -1.
        """
        labels = ops.cast(labels, "int32")
        regions = ops.concatenate([proposals, ops.where((labels > 0)[..., None], boxes, 0.0)], axis=1)
        matched, label = target_ops.match(regions, boxes, labels, 0.5, 0.5)
        label = ops.where(box_ops.area(regions) > 0, label, -1)
        index, real = target_ops.sample(label, self.size, 0.25, self.seed_generator)
        label = ops.where(real, gather.rows(label, index), -1)
        rois = ops.where(real[..., None], gather.rows(regions, index), ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))
        targets = target_ops.rows(gather.rows(matched, index), label, rois, self.variances)
        return ops.stop_gradient(rois), ops.stop_gradient(targets)


@register
class DecodeDetections(_Float32):
    """Class logits and per-class offsets to final boxes, by NMS within each class. Fast R-CNN, section 3.

    Args:
      score_threshold: detections of this score or less are dropped. max_detections: rows of the output, N.
    """

    def __init__(self, image_size, score_threshold=0.05, iou_threshold=0.3, max_detections=100,
                 variances=(0.1, 0.1, 0.2, 0.2), **kwargs):
        super().__init__(dict(image_size=image_size, score_threshold=score_threshold, iou_threshold=iou_threshold,
                              max_detections=max_detections, variances=variances), **kwargs)
        self.image_size, self.variances = image_size, variances
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections

    def call(self, logits, offsets, rois):
        """`[B, R, K+1], [B, R, K, 4], [B, R, 4] ->` dict of boxes, scores, labels, count."""
        real = box_ops.area(rois) > 0  # rows of padding are never objects
        scores = ops.where(real[..., None], ops.softmax(logits)[..., 1:], 0.0)
        boxes = box_ops.decode(offsets, rois[:, :, None, :], self.variances)
        boxes = box_ops.clip(boxes, *self.image_size)
        return nms_ops.class_nms(boxes, scores, self.max_detections, self.iou_threshold, self.score_threshold)
