"""From ground truth to training targets.

A target row is `(t_x, t_y, t_w, t_h, label)`; label K >= 1 is an object of class K, 0 is background, -1 does
not count. Ground truth padded with label 0 needs no mask; a ground-truth row with label -1 is a region in
which nothing is held against the network (a VOC difficult object, a COCO crowd).
"""

from keras import ops, random

from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import gather

# A row with this share of its area inside an ignored region is not background. Nor is a row that would not be
# background if the region were an object: a small one has its rows, too.
IGNORED_IOA = 0.5


def match(anchors, boxes, labels, positive_iou, negative_iou, keep_best=False):
    """Labels each anchor after its best ground-truth box.

    Args:
      anchors: `[B, A, 4]` or `[A, 4]`. boxes: `[B, G, 4]`, G >= 1. labels: `[B, G]`; 0 padding, -1 ignored.
      keep_best: also accept, for each box, its best anchors (Faster R-CNN, 3.1.2, rule i).

    Returns:
      matched boxes `[B, A, 4]` and labels `[B, A]`, int32 in -1, 0, 1...K.
    """
    if len(anchors.shape) == 2:
        anchors = anchors[None]
    labels = ops.cast(labels, "int32")
    common = box_ops.intersection(anchors, boxes)  # [B, A, G]
    area = box_ops.area(anchors)[..., :, None]
    union = area + box_ops.area(boxes)[..., None, :] - common
    iou = ops.divide_no_nan(common, union)
    real, ignored = labels[:, None, :] > 0, labels[:, None, :] < 0
    overlap = ops.where(real, iou, 0.0)
    best, best_box = ops.max(overlap, -1), ops.argmax(overlap, -1)
    positive = best >= positive_iou
    inside = ops.where(ignored, ops.divide_no_nan(common, area), 0.0)
    neither = ops.any((inside >= IGNORED_IOA) | (ignored & (iou >= negative_iou)), -1)
    if keep_best:
        of_best_anchor = (iou == ops.max(iou, axis=1, keepdims=True)) & (iou > 0)
        positive = positive | ops.any(of_best_anchor & real, -1)
        neither = neither | ops.any(of_best_anchor & ignored, -1)
    negative = (best < negative_iou) & ~neither
    label = ops.where(positive, gather.rows(labels, best_box), ops.where(negative, 0, -1))
    return gather.rows(boxes, best_box), label


def _priority(labels, size, positive_fraction, seed):
    """Chance order of sampling, `[B, N]`: objects within their quota above 2, background above 1, the rest 0."""
    # One throw a row, the same for every image: then an image's sample depends neither on its place in the
    # batch nor on the replica that holds it, and two replicas do exactly what one does.
    dice = random.uniform(ops.shape(labels)[1:], seed=seed)[None]
    quota = min(int(size * positive_fraction), labels.shape[1] or size)
    objects = ops.where(labels > 0, dice, -1.0)
    within = (labels > 0) & (objects >= ops.top_k(objects, quota)[0][:, -1:])
    return ops.where(within, 2.0 + dice, ops.where(labels == 0, 1.0 + dice, 0.0))


def sample(labels, size, positive_fraction, seed):
    """Picks `size` rows an image, at most the given fraction of them objects: `[B, N] -> index, real`.

    index: `[B, size]`, int32. real: `[B, size]`, False where an image ran out of rows.
    N must be at least `size`.
    """
    score, index = ops.top_k(_priority(labels, size, positive_fraction, seed), size)
    return index, score > 0


def keep_sampled(labels, size, positive_fraction, seed):
    """The labels of a sample of `size` rows, -1 for all others: `[B, N] -> [B, N]`."""
    priority = _priority(labels, size, positive_fraction, seed)
    last = ops.top_k(priority, min(size, labels.shape[1]))[0][:, -1:]
    return ops.where((priority >= last) & (priority > 0), labels, -1)


def rows(matched, labels, anchors, variances=(1.0, 1.0, 1.0, 1.0)):
    """Packs target rows: `[B, A, 4], [B, A], [B, A, 4] -> [B, A, 5]`, float32."""
    offsets = box_ops.encode(matched, anchors, variances)
    return ops.concatenate([offsets, ops.cast(labels, offsets.dtype)[..., None]], -1)
