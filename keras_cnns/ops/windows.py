"""Windows that slide over an image of several sizes, in NumPy: they are constants of a detector.

An image of H x W pixels is resized by each scale s to `round(s H) x round(s W)`, and a window of fixed size moves over
it by a fixed step, wherever it fits.
"""

import numpy as np


def resized(image_size, scales):
    """Sizes of the image at each scale: `(height, width), ... `."""
    return [tuple(max(int(scale * side + 0.5), 1) for side in image_size) for scale in scales]


def places(image_size, window, stride):
    """Rows and columns of windows in an image: `((H - h) // s + 1, (W - w) // s + 1)`, 0 where none fits."""
    return tuple(max((side - length) // stride + 1, 0) for side, length in zip(image_size, window))


def count(image_size, window, stride, scales=(1.0,)):
    """How many windows there are, by the closed formula: `((W - w) / s + 1) ((H - h) / s + 1)`, summed over the scales.

    Args:
      image_size, window: `(height, width)`, pixels. stride: pixels of the resized image.
    """
    return sum(rows * columns for rows, columns in (
        places(size, window, stride) for size in resized(image_size, scales)))


def boxes(image_size, window, stride, scales=(1.0,)):
    """The windows, scale by scale, row by row: `[count, 4]`, float32, in pixels of the image as it came."""
    found = []
    for size in resized(image_size, scales):
        rows, columns = (stride * np.arange(n) for n in places(size, window, stride))
        y, x = (grid.reshape(-1) for grid in np.meshgrid(rows, columns, indexing="ij"))
        corners = np.stack([x, y, x + window[1], y + window[0]], -1)
        found.append(corners * np.tile(np.divide(image_size, size)[::-1], 2))
    return np.concatenate([np.zeros((0, 4)), *found]).astype("float32")
