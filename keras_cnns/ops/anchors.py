"""Anchor (default box) grids, in NumPy: they are constants of an architecture."""

import numpy as np


def grid(height, width, stride, sizes, ratios):
    """`[height * width * len(sizes) * len(ratios), 4]`, row-major, centred in each cell.

    Args:
      height, width: of the feature map, cells. stride: pixels of the input to a cell.
      sizes: square roots of the anchors' areas, pixels. ratios: height / width.
    """
    sides = np.array([(s / np.sqrt(r), s * np.sqrt(r)) for s in sizes for r in ratios])
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    center = (np.stack([x, y], -1)[:, :, None] + 0.5) * stride
    return np.concatenate([center - sides / 2, center + sides / 2], -1).reshape(-1, 4).astype("float32")


def pyramid(image_size, levels, ratios):
    """One grid a feature map, finest first: a list of `[A_l, 4]`.

    Args:
      image_size: `(height, width)` of the network input, pixels.
      levels: a row `(stride, sizes)` a map; a map has `ceil(side / stride)` cells to a side.
    """
    height, width = image_size
    return [grid(-(-height // stride), -(-width // stride), stride, sizes, ratios) for stride, sizes in levels]
