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


def match_index(anchors, boxes, labels, positive_iou, negative_iou, keep_best=False):
    """Labels each anchor after its best ground-truth box: what `match` does, but the box is told by its number.

    Box by box, so that memory grows with anchors and not with pairs: a pyramid of 800x1333 pixels has 268,569 anchors.

    Returns:
      number of the box `[B, A]`, int32, 0 where no box is near, and label `[B, A]`, int32 in -1, 0, 1...K.
    """
    if len(anchors.shape) == 2:
        anchors = anchors[None]
    anchors, boxes, labels = (ops.convert_to_tensor(t) for t in (anchors, boxes, labels))
    labels = ops.cast(labels, "int32")
    area = box_ops.area(anchors)
    x1, y1, x2, y2 = (anchors[..., i] for i in range(4))

    def one(g, state):
        best, index, positive, neither = state
        box, label = ops.take(boxes, g, axis=1)[:, None], ops.take(labels, g, axis=1)[:, None]  # [B, 1, 4], [B, 1]
        width = ops.minimum(x2, box[..., 2]) - ops.maximum(x1, box[..., 0])
        height = ops.minimum(y2, box[..., 3]) - ops.maximum(y1, box[..., 1])
        common = ops.maximum(width, 0.0) * ops.maximum(height, 0.0)
        iou = ops.divide_no_nan(common, area + box_ops.area(box) - common)
        real, ignored = label > 0, label < 0
        near = ops.divide_no_nan(common, area) >= IGNORED_IOA
        near = near | (iou >= negative_iou)
        if keep_best:
            of_best_anchor = (iou == ops.max(iou, -1, keepdims=True)) & (iou > 0)
            positive, near = positive | (of_best_anchor & real), near | of_best_anchor
        better = real & (iou > best)
        return (ops.where(better, iou, best), ops.where(better, ops.cast(g, "int32"), index), positive,
                neither | (near & ignored))

    nothing = ops.zeros_like(area) + ops.zeros_like(boxes[:, :1, 0])  # [B, A]
    number, no = ops.cast(nothing, "int32"), nothing > 0
    best, index, positive, neither = ops.fori_loop(0, ops.shape(boxes)[1], one, (nothing, number, no, no))
    positive = positive | (best >= positive_iou)
    negative = (best < negative_iou) & ~neither
    return index, ops.where(positive, gather.rows(labels, index), ops.where(negative, 0, -1))


def match(anchors, boxes, labels, positive_iou, negative_iou, keep_best=False):
    """Labels each anchor after its best ground-truth box.

    Args:
      anchors: `[B, A, 4]` or `[A, 4]`. boxes: `[B, G, 4]`, G >= 1. labels: `[B, G]`; 0 padding, -1 ignored.
      keep_best: also accept, for each box, its best anchors (Faster R-CNN, 3.1.2, rule i).

    Returns:
      matched boxes `[B, A, 4]` and labels `[B, A]`, int32 in -1, 0, 1...K.
    """
    index, label = match_index(anchors, boxes, labels, positive_iou, negative_iou, keep_best)
    return gather.rows(boxes, index), label


def _nth_best(scores, n):
    """The n-th highest score of each image, `[B, N] -> [B, 1]`; -1 where there are fewer."""
    return ops.top_k(ops.pad(scores, ((0, 0), (0, n)), constant_values=-1.0), n)[0][:, -1:]


def _priority(labels, size, positive_fraction, seed):
    """Chance order of sampling, `[B, N]`: objects within their quota above 2, background above 1, the rest 0."""
    labels = ops.convert_to_tensor(labels)
    # One throw a row, the same for every image: then an image's sample depends neither on its place in the
    # batch nor on the replica that holds it, and two replicas do exactly what one does.
    dice = random.uniform(ops.shape(labels)[1:], seed=seed)[None]
    objects = ops.where(labels > 0, dice, -1.0)
    within = (labels > 0) & (objects >= _nth_best(objects, int(size * positive_fraction)))
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
    return ops.where((priority >= _nth_best(priority, size)) & (priority > 0), labels, -1)


def rows(matched, labels, anchors, variances=(1.0, 1.0, 1.0, 1.0)):
    """Packs target rows: `[B, A, 4], [B, A], [B, A, 4] -> [B, A, 5]`, float32."""
    offsets = box_ops.encode(matched, anchors, variances)
    return ops.concatenate([offsets, ops.cast(labels, offsets.dtype)[..., None]], -1)
