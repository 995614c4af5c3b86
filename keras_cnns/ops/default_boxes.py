"""Default boxes of SSD, in NumPy: they are constants of an architecture. arXiv:1512.02325, section 2.2.

And what the input pipeline asks of them and of an image's objects: there, an image at a time on one thread, NumPy is
several times as fast as the same in `ops.boxes`.
"""

import numpy as np


def sides(scale, next_scale, ratios, clip=False):
    """Widths and heights `[2 + 2 len(ratios), 2]` of a map's boxes, as shares of the image's, in the authors' order.

    A square of `scale`; one of the geometric mean with the next map's; of each ratio r, one r times as wide as high,
    then one as high as wide.

    Args:
      clip: none is wider or higher than the image.
    """
    squares = [(scale, scale), (np.sqrt(scale * next_scale),) * 2]
    wide = [(scale * np.sqrt(r), scale / np.sqrt(r)) for r in ratios]
    made = np.array(squares + [side for w, h in wide for side in ((w, h), (h, w))])
    return np.minimum(made, 1.0) if clip else made


def pyramid(maps, image_size):
    """The boxes of all maps, finest first, each row-major, centred in its cells: `[A, 4]`, pixels, float32.

    Args:
      maps: rows `(cells, strides, sides)`: (rows, columns) of the map; pixels from one cell to the next (down, right);
        (width, height) of each of a cell's boxes, as shares of the image's.
      image_size: `(height, width)`, pixels.
    """
    boxes = []
    for cells, strides, shares in maps:
        y, x = ((np.arange(n) + 0.5) * stride for n, stride in zip(cells, strides))
        center = np.stack(np.meshgrid(x, y), -1)[:, :, None]
        half = np.asarray(shares) * image_size[::-1] / 2
        boxes.append(np.concatenate([center - half, center + half], -1).reshape(-1, 4))
    return np.concatenate(boxes).astype("float32")


def overlap(default_boxes, boxes):
    """Of each pair, as of `ops.boxes`, IoU and the share of the default box that is common: `[A, 4], [G, 4] -> [A, G]`.

    0 where there is no area.
    """
    start = [np.maximum(default_boxes[:, None, i], boxes[:, i]) for i in (0, 1)]
    end = [np.minimum(default_boxes[:, None, i], boxes[:, i]) for i in (2, 3)]
    common = np.maximum(end[0] - start[0], 0.0) * np.maximum(end[1] - start[1], 0.0)
    area, of_boxes = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (default_boxes, boxes))
    return common / np.maximum(area[:, None] + of_boxes - common, 1e-9), common / np.maximum(area, 1e-9)[:, None]


def encode(boxes, default_boxes, variances):
    """Offsets from default boxes to boxes: `[N, 4], [N, 4] -> [N, 4]`, as of `ops.boxes`."""
    (start, end), (start_d, end_d) = ((b[:, :2], b[:, 2:]) for b in (boxes, default_boxes))
    size, size_d = np.maximum(end - start, 1e-3), end_d - start_d
    t = np.concatenate([(start + end - start_d - end_d) / 2 / size_d, np.log(size / size_d)], -1)
    return (t / variances).astype("float32")
