"""Masks of objects: cut out to travel, aligned to regions to learn from, pasted into the image.

A mask of a whole canvas for each of a hundred objects would be a hundred images. So an object's mask travels as a
crop of `size x size` cells, uint8, read around its box: cell (i, j) is the pixel at `start + step * (j, i)`
(`window`). Of a side up to `size - 2` pixels that is the mask itself; of a longer one every second, third, ... pixel.
"""

import numpy as np
from keras import ops


def window(boxes, size):
    """The pixels of a crop of each box: `[..., 4] -> start [..., 2], step [..., 2]`, whole, float32, x before y.

    A pixel more than the box on each side, since masks and boxes are rounded each in its own way; a cell is in the
    middle of the pixels it stands for, or half a pixel before.
    """
    start = ops.floor(boxes[..., :2]) - 1.0
    sides = ops.ceil(boxes[..., 2:]) + 1.0 - start
    step = ops.maximum(ops.ceil(sides / size), 1.0)
    return start + ops.floor((step - 1.0) / 2.0), step


def align(crops, boxes, rois, size, canvas):
    """What each region sees of its object, the targets of a mask head: `-> [B, P, size, size]`, float32, 0 to 1.

    As RoIAlign of the mask itself, with a sample a pixel (Mask R-CNN, section 3: the intersection between a region and
    its object's mask): cell i of the mask lies at coordinate i, and what is sampled beside the canvas is its border.
    Not rounded to 0 and 1, as in torchvision. Exactly that for crops of step 1; for others a sample a cell of the crop:
    of objects of COCO at 640 pixels and crops of 224, targets are 0.0015 apart in the mean of an image, 0.13 at most.

    Args:
      crops: `[B, P, S, S]`, 0 and 1, as of `window(boxes, S)`. boxes: `[B, P, 4]`, of the crops. rois: `[B, P, 4]`.
      canvas: `(height, width)` of the image, pixels.
    """
    boxes, rois = ops.convert_to_tensor(boxes, "float32"), ops.convert_to_tensor(rois, "float32")
    cells = crops.shape[-1]
    start, step = window(boxes, cells)
    rows = _readings(rois[..., 1], rois[..., 3], start[..., 1], step[..., 1], canvas[0], size, cells)
    columns = _readings(rois[..., 0], rois[..., 2], start[..., 0], step[..., 0], canvas[1], size, cells)
    return ops.matmul(ops.matmul(rows, ops.cast(crops, "float32")), ops.swapaxes(columns, -1, -2))


def _readings(low, high, start, step, limit, size, cells):
    """How much each bin of a region takes of each cell of a crop along one axis: `[B, P] -> [B, P, size, cells]`."""
    length = ops.maximum(high - low, 1.0)
    samples = ops.ceil(length / (size * step))  # to a bin: of the neighbouring regions one does not need as many
    bins, grid = ops.arange(size, dtype="float32"), ops.arange(cells, dtype="float32")
    limit, last = ops.cast(limit, "float32"), ops.max(samples)

    def add(k, total):
        place = low[..., None] + (bins + ((k + 0.5) / samples)[..., None]) * (length / size)[..., None]
        counts = (k < samples)[..., None] & (place >= -1.0) & (place <= limit)
        place = (ops.clip(place, 0.0, limit - 1.0) - start[..., None]) / step[..., None]
        near = ops.maximum(1.0 - ops.abs(place[..., None] - grid), 0.0)
        return k + 1.0, total + near * ops.where(counts, 1.0 / samples[..., None], 0.0)[..., None]

    nothing = ops.zeros_like(low)[..., None, None] * ops.zeros((size, cells))
    return ops.while_loop(lambda k, total: k < last, add, (ops.zeros(()), nothing))[1]


def cut(masks, boxes, inner):
    """The masks of boxes of which a part is left, that part: `[..., M, M], [..., 4], [..., 4] -> [..., M, M]`.

    Bilinear; a box without area in either list gives zeros.
    """
    size = masks.shape[-1]
    grid = ops.arange(size, dtype="float32")

    def axis(low, high):
        length = boxes[..., high] - boxes[..., low]
        scale = ops.divide_no_nan(inner[..., high] - inner[..., low], length)
        shift = ops.divide_no_nan(inner[..., low] - boxes[..., low], length) * size
        place = ops.clip((grid + 0.5) * scale[..., None] + shift[..., None] - 0.5, 0.0, size - 1.0)
        weights = ops.maximum(1.0 - ops.abs(place[..., None] - grid), 0.0)
        return ops.where(scale[..., None, None] > 0, weights, 0.0)

    return ops.matmul(ops.matmul(axis(1, 3), masks), ops.swapaxes(axis(0, 2), -1, -2))


def paste(masks, boxes, height, width, threshold=0.5):
    """Masks of boxes into an image: `[N, M, M], [N, 4] -> [N, height, width]`, bool, NumPy.

    As torchvision's `paste_masks_in_image`, whose rule is that of the authors' code: a border of zeros around each
    mask, box and border rounded toward 0 to whole pixels, bilinear; inside is what exceeds the threshold.

    Args:
      masks: 0 to 1. boxes: pixels of the image; they may reach beyond it.
    """
    masks, boxes = np.asarray(masks, "float32"), np.asarray(boxes, "float32")
    pasted = np.zeros((len(masks), height, width), bool)
    if not len(masks):
        return pasted
    size = masks.shape[-1]
    middle, half = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5), (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5)
    half *= np.float32((size + 2) / size)
    whole = np.concatenate([middle - half, middle + half], 1).astype("int64")
    for mask, (x1, y1, x2, y2), image in zip(np.pad(masks, ((0, 0), (1, 1), (1, 1))), whole.tolist(), pasted):
        rows, y = _stretch(size + 2, y1, y2, height)
        columns, x = _stretch(size + 2, x1, x2, width)
        image[y, x] = rows @ mask @ columns.T > threshold
    return pasted


def joints(heat_maps, boxes):
    """The joints of boxes, where each one's heat map is hottest: `[N, M, M, J], [N, 4] -> [N, J, 3]`, float32, NumPy.

    As torchvision and its authors' code: the map is stretched to the box, bicubic, and the middle of a pixel is taken.
    x and y in pixels of the image, and the stretched map's number there, a logit.
    """
    heat_maps, boxes = np.asarray(heat_maps, "float32"), np.asarray(boxes, "float32")
    found = np.zeros((len(boxes), heat_maps.shape[-1], 3), "float32")
    for maps, box, rows in zip(heat_maps, boxes, found):
        sides = np.maximum(box[2:] - box[:2], 1)
        width, height = np.ceil(sides).astype(int)
        stretched = np.einsum("hy,yxj->jhx", _cubic(len(maps), height), maps, optimize=True)
        stretched = (stretched @ _cubic(len(maps), width).T).reshape(len(rows), -1)
        best = stretched.argmax(1)
        rows[:, 0] = (best % width + 0.5) * (sides[0] / width) + box[0]
        rows[:, 1] = (best // width + 0.5) * (sides[1] / height) + box[1]
        rows[:, 2] = stretched.max(1)
    return found


def _cubic(cells, count):
    """Bicubic weights (a = -0.75) of cells stretched to `count` pixels, the border repeated: `[count, cells]`."""
    place = (np.arange(count) + 0.5) * (cells / count) - 0.5
    first = np.floor(place).astype(int)
    weights = np.zeros((count, cells), "float32")
    for shift in (-1, 0, 1, 2):
        x = np.abs(place - first - shift)
        near, far = (1.25 * x - 2.25) * x * x + 1, ((-0.75 * x + 3.75) * x - 6) * x + 3
        np.add.at(weights, (np.arange(count), np.clip(first + shift, 0, cells - 1)), np.where(x <= 1, near, far))
    return weights


def _stretch(cells, low, high, limit):
    """Bilinear weights of cells stretched to the pixels `low ... high`, both inclusive, and which are in the image."""
    count = max(high - low + 1, 1)
    inside = slice(max(low, 0), max(min(high + 1, limit), 0))
    pixels = np.arange(inside.start, max(inside.stop, inside.start), dtype="float32") - np.float32(low)
    place = np.maximum((pixels + np.float32(0.5)) * np.float32(cells / count) - np.float32(0.5), 0)
    place = np.minimum(place, np.float32(cells - 1))
    return np.maximum(1 - np.abs(place[:, None] - np.arange(cells, dtype="float32")), 0), inside
