"""Non-maximum suppression.

Under TensorFlow it is the op that TFLite has built in; elsewhere the same greedy rule is a loop over the boxes
picked, with no op of any one backend.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import gather

# TFLite's kernel picks a box without area again and again, since its overlap with itself is 0.
SMALLEST_SIDE = 1e-2


def nms(boxes, scores, size, iou_threshold, score_threshold=0.0):
    """The best `size` boxes of which no two overlap by more than `iou_threshold`, best first.

    `[B, N, 4], [B, N] -> index [B, size], int32; real [B, size], bool`, False where fewer were left. Boxes with
    a score of `score_threshold` or less do not take part; of equal scores the earlier comes first.
    """
    tensorflow = keras.backend.backend() == "tensorflow"
    n = ops.shape(boxes)[1]
    boxes, scores = ops.convert_to_tensor(boxes), ops.convert_to_tensor(scores)
    scores, order = gather.top_k(scores, n)
    # From here on the place in the order stands for the score: RoIPool gives neighbouring regions the very same
    # score, and kernels differ in which of equals they take.
    place = ops.where(scores > score_threshold, ops.arange(n, 0, -1, dtype="float32"), 0.0)
    boxes = gather.rows(boxes, order)
    boxes = ops.concatenate([boxes[..., :2], ops.maximum(boxes[..., 2:], boxes[..., :2] + SMALLEST_SIDE)], -1)
    index, real = (_built_in if tensorflow else _greedy)(boxes, place, size, iou_threshold)
    return gather.rows(ops.cast(order, "int32"), index), real


def _built_in(boxes, place, size, iou_threshold):
    import tensorflow as tf

    def one(image):
        # The kernel itself: tf.image.non_max_suppression_padded is a loop over all pairs, a hundred times slower.
        index, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=image[0], scores=image[1], max_output_size=size, iou_threshold=iou_threshold, score_threshold=0.5,
            pad_to_max_output_size=True)
        return tf.reshape(index, [size]), count

    if boxes.shape[0] == 1:  # without a loop: what TFLite likes
        index, count = one((boxes[0], place[0]))
        index, count = index[None], count[None]
    else:
        index, count = tf.map_fn(one, (boxes, place), fn_output_signature=(
            tf.TensorSpec([size], tf.int32), tf.TensorSpec([], tf.int32)))
    return index, tf.range(size)[None] < count[:, None]


def _greedy(boxes, place, size, iou_threshold):
    """Picks the best box left and drops what it overlaps, `size` times: memory grows with N, not with its square."""
    positions, steps = ops.arange(ops.shape(boxes)[1], dtype="int32"), ops.arange(size, dtype="int32")

    def some_left(step, left, picked):
        return ops.any(left > 0) & (step < size)

    def pick(step, left, picked):
        best = ops.cast(ops.argmax(left, -1), "int32")[:, None]
        found = ops.max(left, -1, keepdims=True) > 0
        picked = ops.where((steps == step) & found, best, picked)
        overlap = box_ops.iou(gather.rows(boxes, best), boxes)[:, 0]
        return step + 1, ops.where((overlap > iou_threshold) | (positions == best), 0.0, left), picked

    nothing = ops.zeros_like(place, dtype="int32")[:, :1] - ops.ones((1, size), "int32")
    _, _, picked = ops.while_loop(some_left, pick, (ops.convert_to_tensor(0, "int32"), place, nothing))
    return ops.maximum(picked, 0), picked >= 0


def class_nms(boxes, scores, size, iou_threshold, score_threshold):
    """NMS within each class, then the best `size` of all.

    `[B, N, K, 4], [B, N, K] ->` dict of boxes `[B, size, 4]`, scores `[B, size]`, labels `[B, size]` (1...K, 0 in
    the padding), count `[B]`. Boxes must not be negative; each class is moved to a place of its own, so that one
    pass serves all.
    """
    boxes, scores, (n, k) = ops.convert_to_tensor(boxes), ops.convert_to_tensor(scores), scores.shape[1:]
    # The places form a square: in a row, the last of 90 classes would be so far out that boxes lost their digits.
    side = math.ceil(math.sqrt(k))
    places = np.array([(c % side, c // side) * 2 for c in range(k)], "float32")
    moved = boxes + ops.convert_to_tensor(places, boxes.dtype) * (ops.max(boxes) + 1.0)
    flat_scores = ops.reshape(scores, (-1, n * k))
    index, real = nms(ops.reshape(moved, (-1, n * k, 4)), flat_scores, size, iou_threshold, score_threshold)
    scores = ops.where(real, gather.rows(flat_scores, index), 0.0)
    boxes = ops.where(real[..., None], gather.rows(ops.reshape(boxes, (-1, n * k, 4)), index), 0.0)
    labels = ops.where(real, index % k + 1, 0)
    return {"boxes": boxes, "scores": scores, "labels": labels,
            "count": ops.sum(ops.cast(real, "int32"), -1)}
