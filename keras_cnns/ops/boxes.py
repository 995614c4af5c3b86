"""Box arithmetic. A box is `[x1, y1, x2, y2]`, float32, in pixels of the network input, x2 and y2 exclusive.

Pure functions of tensors or arrays: no layers, no state. Anything with a batch in front works.
"""

import math

from keras import ops

LARGEST_GROWTH = math.log(1000 / 16)  # t_w, t_h are cut there before exp, as in the papers' code


def area(boxes):
    """`[..., 4] -> [...]`, in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a, b):
    """Common area of every pair: `[..., M, 4], [..., N, 4] -> [..., M, N]`, in square pixels."""
    top_left = ops.maximum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = ops.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    sides = ops.maximum(bottom_right - top_left, 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(a, b):
    """Intersection over union of every pair: `[..., M, 4], [..., N, 4] -> [..., M, N]`; 0 if both have no area."""
    a, b = ops.convert_to_tensor(a, "float32"), ops.convert_to_tensor(b, "float32")
    common = intersection(a, b)
    return ops.divide_no_nan(common, area(a)[..., :, None] + area(b)[..., None, :] - common)


def ioa(a, b):
    """Intersection over the area of `a`: `[..., M, 4], [..., N, 4] -> [..., M, N]`; 0 if `a` has no area."""
    a, b = ops.convert_to_tensor(a, "float32"), ops.convert_to_tensor(b, "float32")
    return ops.divide_no_nan(intersection(a, b), area(a)[..., :, None])


def center_form(boxes):
    """`(x1, y1, x2, y2) -> (center, size)`, each `[..., 2]`."""
    boxes = ops.convert_to_tensor(boxes, "float32")
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def encode(boxes, anchors, variances=(1.0, 1.0, 1.0, 1.0)):
    """Offsets `(t_x, t_y, t_w, t_h)` from anchors to boxes. R-CNN, eq. 6-9.

    Rows of padding have no size; they are encoded as if a thousandth of a pixel wide.
    """
    (center, size), (center_a, size_a) = center_form(boxes), center_form(anchors)
    size, size_a = ops.maximum(size, 1e-3), ops.maximum(size_a, 1e-3)
    t = ops.concatenate([(center - center_a) / size_a, ops.log(size / size_a)], -1)
    return t / ops.convert_to_tensor(variances, t.dtype)


def decode(offsets, anchors, variances=(1.0, 1.0, 1.0, 1.0)):
    """The inverse of `encode`. R-CNN, eq. 1-4."""
    offsets = ops.convert_to_tensor(offsets, "float32")
    offsets = offsets * ops.convert_to_tensor(variances, offsets.dtype)
    center_a, size_a = center_form(anchors)
    center = offsets[..., :2] * size_a + center_a
    size = ops.exp(ops.minimum(offsets[..., 2:], LARGEST_GROWTH)) * size_a
    return ops.concatenate([center - 0.5 * size, center + 0.5 * size], -1)


def clip(boxes, height, width):
    """Cuts boxes to the image: `[..., 4] -> [..., 4]`; what lies outside is left without area.

    height, width: pixels, numbers or scalar tensors.
    """
    limits = ops.cast(ops.convert_to_tensor([width, height, width, height]), boxes.dtype)
    return ops.minimum(ops.maximum(boxes, 0.0), limits)
