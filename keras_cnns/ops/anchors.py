"""Anchors: reference boxes about a point, and the same about every cell of a feature map."""

import numpy as np
from keras import ops


def about_origin(sizes, ratios):
    """`[len(ratios) * len(sizes), 4]`, NumPy, centred at 0, in whole pixels; the sizes of a ratio are neighbours.

    Args:
      sizes: square roots of the anchors' areas, pixels. ratios: height / width.
    """
    sides = np.array([(s / np.sqrt(r), s * np.sqrt(r)) for r in ratios for s in sizes], "float32")
    return (np.concatenate([-sides, sides], -1) / 2).round()


def grid(reference, cells, steps):
    """The reference boxes at the corner of every cell: `[n, 4] -> [height * width * n, 4]`, float32, row by row.

    Args:
      cells: `(height, width)` of the map; steps: `(y, x)`, pixels from a cell to the next. Whole numbers or tensors.
    """
    y, x = (ops.cast(ops.arange(n, dtype="int32") * step, "float32") for n, step in zip(cells, steps))
    y, x = ops.meshgrid(y, x, indexing="ij")
    corners = ops.reshape(ops.stack([x, y, x, y], -1), (-1, 1, 4))
    return ops.reshape(corners + ops.convert_to_tensor(reference, "float32"), (-1, 4))
