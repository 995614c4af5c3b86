"""Layers between a detector's predictions and its boxes: anchors, proposals, targets, detections.

None of them has weights, so a graph may make them anew with other numbers (2000 proposals to train, 300 to
test). All compute in float32 whatever the policy: pixels would lose digits in half precision. Where a layer is
called with the image, it only looks at its size, which need not be known before.
"""

import numpy as np
from keras import layers, ops, random, saving

from keras_cnns.ops import anchors as anchor_ops
from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import default_boxes as default_box_ops
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
class PadToStride(_Float32):
    """Adds a margin right and below, up to whole cells: `[B, H, W, C] -> [B, H', W', C]`.

    Args:
      stride: pixels to a cell of the coarsest map that is convolved.
      values: of the margin, a number a channel: with the mean that the network subtracts, the margin is 0 behind it.
    """

    def __init__(self, stride, values, **kwargs):
        super().__init__(dict(stride=stride, values=values), **kwargs)
        self.stride, self.values = stride, values

    def call(self, image):
        height, width = ops.shape(image)[1:3]
        below, right = -height % self.stride, -width % self.stride
        if isinstance(below, int) and isinstance(right, int) and below == right == 0:
            return image
        image = ops.pad(image, ((0, 0), (0, below), (0, right), (0, 0)))
        inside = (ops.arange(height + below) < height)[:, None] & (ops.arange(width + right) < width)
        return ops.where(inside[..., None], image, ops.convert_to_tensor(self.values, image.dtype))


@register
class Anchors(_Float32):
    """The anchors of each feature map. Faster R-CNN, section 3.1.1; a size a level, FPN, section 4.1.

    They stand at the corner of each cell. That is what the cell looks at where strided layers are padded on both
    sides (ResNet); where they are not (VGG), it is the cell's centre, half a stride on, and `references` say so. From
    cell to cell it is as many whole pixels as go into the padded image: 61 from 13 cells to 800 pixels, as torchvision
    has it, for a stride of 64.

    Args:
      references: a list a map, finest first, of the boxes `[n, 4]` about one cell, as `ops.anchors` gives them.
      stride: of the coarsest map of the backbone, to which images are padded.
    """

    def __init__(self, references, stride, **kwargs):
        references = [np.array(boxes, "float32").tolist() for boxes in references]
        super().__init__(dict(references=references, stride=stride), **kwargs)
        self.references, self.stride = references, stride

    def call(self, image, maps):
        """`[B, H, W, C], [[B, H_l, W_l, C_l], ...] -> [[A_l, 4], ...]`."""
        sides = [-(-side // self.stride) * self.stride for side in ops.shape(image)[1:3]]
        grids = []
        for reference, cells in zip(self.references, (ops.shape(m)[1:3] for m in maps)):
            steps = [side // n for side, n in zip(sides, cells)]
            grids.append(anchor_ops.grid(reference, cells, steps))
        return grids


@register
class Proposals(_Float32):
    """The best anchors after regression and NMS. Faster R-CNN, section 3.3; by level, FPN, section 4.1.

    Args:
      top_n: proposals an image. pre_nms: of each level this many of the highest score enter NMS.
      iou_threshold: of the NMS, which runs within each level. min_size: narrower boxes are dropped, pixels.
    """

    def __init__(self, top_n=300, pre_nms=1000, iou_threshold=0.7, min_size=1e-3, **kwargs):
        super().__init__(dict(top_n=top_n, pre_nms=pre_nms, iou_threshold=iou_threshold, min_size=min_size), **kwargs)
        self.top_n, self.pre_nms, self.iou_threshold, self.min_size = top_n, pre_nms, iou_threshold, min_size

    def call(self, logits, offsets, anchors, image):
        """`[B, A], [B, A, 4], [[A_l, 4], ...], [B, H, W, C] -> [B, top_n, 4]`, best first; no gradient.

        Padded with rows of zeros. Boxes are cut to the image.
        """
        candidates, start = [], 0
        for grid in anchors:
            n = ops.shape(grid)[0]
            k = min(self.pre_nms, n) if isinstance(n, int) else ops.minimum(self.pre_nms, n)
            score, index = gather.top_k(logits[:, start:start + n], k)
            boxes = box_ops.decode(gather.rows(offsets[:, start:start + n], index), ops.take(grid, index, axis=0))
            boxes = box_ops.clip(boxes, *ops.shape(image)[1:3])
            wide = ops.min(boxes[..., 2:] - boxes[..., :2], -1) >= self.min_size
            score = ops.where(wide, ops.sigmoid(score), -1.0)
            index, real = nms_ops.nms(boxes, score, self.top_n, self.iou_threshold, score_threshold=-1.0)
            candidates.append((ops.where(real, gather.rows(score, index), -1.0),
                               ops.where(real[..., None], gather.rows(boxes, index), 0.0)))
            start += n
        scores, boxes = (ops.concatenate(parts, 1) for parts in zip(*candidates))
        return ops.stop_gradient(gather.rows(boxes, gather.top_k(scores, self.top_n)[1]))


@register
class AnchorTargets(_Sampling):
    """RPN targets: 256 sampled anchors, at most half of them objects. Faster R-CNN, sections 3.1.2 and 3.1.3."""

    def __init__(self, size=256, **kwargs):
        super().__init__(dict(size=size), **kwargs)
        self.size = size

    def call(self, anchors, boxes, labels):
        """`[[A_l, 4], ...], [B, G, 4], [B, G] ->` target rows `[B, A, 5]`.

        Label 1 is an object, 0 background, -1 not sampled or ignored.
        """
        anchors = ops.concatenate(anchors)[None]
        matched, label = target_ops.match(anchors, boxes, labels, 0.7, 0.3, keep_best=True)  # section 3.1.2
        label = target_ops.keep_sampled(ops.minimum(label, 1), self.size, 0.5, self.seed_generator)
        return ops.stop_gradient(target_ops.rows(matched, label, anchors))


@register
class SampleRoIs(_Sampling):
    """Regions and targets for the second stage: a quarter objects. Fast R-CNN, section 2.3.

    Ground truth joins the proposals, as in the authors' code, so that the head has objects from the first step.

    Args:
      size: regions an image; None: all, in their order. background: the least overlap with an object that a region of
        background has. All below 0.5 are, as in the authors' code for joint training; in the paper those from 0.1 on.
    """

    def __init__(self, size=128, variances=(0.1, 0.1, 0.2, 0.2), background=0.0, **kwargs):
        super().__init__(dict(size=size, variances=variances, background=background), **kwargs)
        self.size, self.variances, self.background = size, variances, background

    def call(self, proposals, boxes, labels):
        """`[B, R, 4], [B, G, 4], [B, G] -> rois [B, size, 4], targets [B, size, 5], matched [B, size]`.

        Of all R + G regions where size is None. `matched` is the number of each region's ground truth. Rows are filled
        up, where an image ran out, with one-pixel regions of label -1.
        """
        labels = ops.cast(labels, "int32")
        regions = ops.concatenate([proposals, ops.where((labels > 0)[..., None], boxes, 0.0)], axis=1)
        matched, label = target_ops.match_index(regions, boxes, labels, 0.5, 0.5)
        if self.background:
            far = target_ops.match_index(regions, boxes, labels, 0.5, self.background)[1] == 0
            label = ops.where(far, -1, label)
        real = box_ops.area(regions) > 0
        label = ops.where(real, label, -1)
        if self.size is not None:
            index, real = target_ops.sample(label, self.size, 0.25, self.seed_generator)
            regions, matched, label = (gather.rows(t, index) for t in (regions, matched, label))
            label = ops.where(real, label, -1)
        rois = ops.where(real[..., None], regions, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))
        targets = target_ops.rows(gather.rows(boxes, matched), label, rois, self.variances)
        return ops.stop_gradient(rois), ops.stop_gradient(targets), matched


@register
class DecodeDetections(_Float32):
    """Class logits and per-class offsets to final boxes, by NMS within each class. Fast R-CNN, section 3.

    Args:
      score_threshold: detections of this score or less are dropped. max_detections: rows of the output, N.
      min_size: narrower boxes are dropped, pixels.
    """

    def __init__(self, score_threshold=0.05, iou_threshold=0.3, max_detections=100, variances=(0.1, 0.1, 0.2, 0.2),
                 min_size=1e-2, **kwargs):
        super().__init__(dict(score_threshold=score_threshold, iou_threshold=iou_threshold, variances=variances,
                              max_detections=max_detections, min_size=min_size), **kwargs)
        self.score_threshold, self.iou_threshold, self.variances = score_threshold, iou_threshold, variances
        self.max_detections, self.min_size = max_detections, min_size

    def call(self, logits, offsets, rois, image):
        """`[B, R, K+1], [B, R, K, 4], [B, R, 4], [B, H, W, C] ->` dict of boxes, scores, labels, count."""
        boxes = box_ops.decode(offsets, rois[:, :, None, :], self.variances)
        boxes = box_ops.clip(boxes, *ops.shape(image)[1:3])
        real = box_ops.area(rois)[..., None] > 0  # rows of padding are never objects
        wide = ops.min(boxes[..., 2:] - boxes[..., :2], -1) >= self.min_size
        scores = ops.where(real & wide, ops.softmax(logits)[..., 1:], 0.0)
        return nms_ops.class_nms(boxes, scores, self.max_detections, self.iou_threshold, self.score_threshold)


@register
class DecodeDefaultBoxes(_Float32):
    """Class logits and offsets of default boxes to final boxes, by NMS within each class. SSD, section 3.7.

    Args:
      maps: as of `ops.default_boxes.pyramid`. pre_nms: of each class this many of the highest score enter NMS. The
        others as of `DecodeDetections`.
    """

    def __init__(self, maps, image_size, score_threshold=0.01, iou_threshold=0.45, max_detections=200, pre_nms=400,
                 variances=(0.1, 0.1, 0.2, 0.2), **kwargs):
        super().__init__(dict(maps=maps, image_size=image_size, score_threshold=score_threshold, pre_nms=pre_nms,
                              iou_threshold=iou_threshold, max_detections=max_detections, variances=variances),
                         **kwargs)
        self.anchors = default_box_ops.pyramid(maps, image_size)
        self.image_size, self.variances, self.pre_nms = image_size, variances, pre_nms
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections

    def call(self, logits, offsets):
        """`[B, A, K+1], [B, A, 4] ->` dict of boxes, scores, labels, count."""
        boxes = box_ops.clip(box_ops.decode(offsets, ops.convert_to_tensor(self.anchors), self.variances),
                             *self.image_size)
        scores = ops.transpose(ops.softmax(logits)[..., 1:], (0, 2, 1))
        classes, n = scores.shape[1], min(self.pre_nms, len(self.anchors))
        scores, index = gather.top_k(scores, n)  # [B, K, n]
        boxes = ops.reshape(gather.rows(boxes, ops.reshape(index, (-1, classes * n))), (-1, classes, n, 4))
        return nms_ops.class_nms(ops.transpose(boxes, (0, 2, 1, 3)), ops.transpose(scores, (0, 2, 1)),
                                 self.max_detections, self.iou_threshold, self.score_threshold)


@register
class DecodeGrid(_Float32):
    """A grid of cells' answers to final boxes, by NMS within each class. YOLO, arXiv:1506.02640, sections 2 and 2.3.

    Args:
      boxes: of a cell. image_size: `(height, width)`, pixels. The others as of `DecodeDetections`.
    """

    def __init__(self, boxes, image_size, score_threshold=0.001, iou_threshold=0.5, max_detections=100, **kwargs):
        super().__init__(dict(boxes=boxes, image_size=image_size, score_threshold=score_threshold,
                              iou_threshold=iou_threshold, max_detections=max_detections), **kwargs)
        self.boxes, self.image_size = boxes, image_size
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections

    def call(self, grid):
        """`[B, S, S', 5N + K]`, of each cell N times (x, y, root of w, root of h, confidence) and K class scores, `->`
        dict of boxes, scores, labels, count.
        """
        (rows, columns, numbers), n = grid.shape[1:], self.boxes
        height, width = self.image_size
        corners = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1)  # of the cells
        corners = np.repeat(corners.reshape(-1, 1, 2), n, 1).reshape(-1, 2).astype("float32")
        found = ops.reshape(grid[..., :5 * n], (-1, rows * columns * n, 5))
        center = (found[..., :2] + corners) * np.array([width / columns, height / rows], "float32")
        half = found[..., 2:4] ** 2 * np.array([width / 2, height / 2], "float32")
        boxes = box_ops.clip(ops.concatenate([center - half, center + half], -1), height, width)
        classes = ops.repeat(ops.reshape(grid[..., 5 * n:], (-1, rows * columns, numbers - 5 * n)), n, 1)
        scores = ops.clip(found[..., 4:] * classes, 0.0, 1.0)
        boxes = ops.repeat(boxes[:, :, None], numbers - 5 * n, 2)
        return nms_ops.class_nms(boxes, scores, self.max_detections, self.iou_threshold, self.score_threshold)
