"""Joints as heat maps: drawn as Gaussians to learn from, read back where they are hottest.

Newell, Yang, Deng: Stacked Hourglass Networks for Human Pose Estimation, arXiv:1603.06937, section 3.1. A joint is a
row `(x, y, visibility)`, x and y in pixels of the network's input, visibility 0 where it is not labelled. Cell (i, j)
of a map of stride s covers the pixels from `s * (j, i)` to `s * (j + 1, i + 1)`.

A Gaussian stands where its joint is, at a fraction of a cell. The authors' code rounds it to a whole cell, and draws it
with a deviation of 1.75 cells (Torch's default for 7 x 7), where the paper says 1.
"""

from keras import ops

from keras_cnns.ops import gather


def encode(keypoints, height, width, stride, sigma=1.0):
    """Gaussians of peak 1, a map a joint: `[..., J, 3] -> [..., height, width, J]`; also of joints that lie beside it.

    Args:
      sigma: their standard deviation, cells.
    """
    def along(axis, cells):  # of a product of two: [..., cells, J]
        distance = ops.arange(cells, dtype="float32")[:, None] + 0.5 - keypoints[..., None, :, axis] / stride
        return ops.exp(-0.5 * (distance / sigma) ** 2)

    return along(1, height)[..., :, None, :] * along(0, width)[..., None, :, :]


def decode(heatmaps, stride):
    """Each joint's hottest cell, `[B, h, w, J] -> [B, J, 3]`: x, y in pixels of the network's input, and its heat.

    A quarter of a cell from its middle towards the hotter of two neighbours, not at the map's border, as in the
    authors' code; there a cell at one border is not moved along it either. Of equal cells the first is taken.
    """
    _, height, width, joints = heatmaps.shape

    def rows(values):  # [B, J, cells]
        return ops.transpose(ops.reshape(values, (-1, height * width, joints)), (0, 2, 1))

    heat, index = gather.top_k(rows(heatmaps), 1)  # not argmax, which TFLite has no built-in form of
    hottest = ops.equal(ops.arange(height * width, dtype="int32"), ops.cast(index, "int32"))
    across = ops.pad(heatmaps[:, :, 2:] - heatmaps[:, :, :-2], ((0, 0), (0, 0), (1, 1), (0, 0)))
    down = ops.pad(heatmaps[:, 2:] - heatmaps[:, :-2], ((0, 0), (1, 1), (0, 0), (0, 0)))

    def place(cell, slope):
        slope = ops.sum(ops.where(hottest, rows(slope), 0.0), -1, keepdims=True)
        side = ops.cast(slope > 0, "float32") - ops.cast(slope < 0, "float32")
        return (ops.cast(cell, "float32") + 0.5 + 0.25 * side) * stride

    return ops.concatenate([place(index % width, across), place(index // width, down), heat], -1)


def mirror_average(heatmaps, mirrored, pairs):
    """The mean of an image's maps and those of its mirror image: `[B, h, w, J], [B, h, w, J] -> [B, h, w, J]`.

    Section 4.1. Args: pairs: of joints that change names in the mirror, ((left, right), ...).
    """
    heatmaps, order = ops.convert_to_tensor(heatmaps), list(range(heatmaps.shape[-1]))
    for left, right in pairs:
        order[left], order[right] = right, left
    return (heatmaps + ops.take(ops.flip(mirrored, axis=2), order, axis=-1)) / 2
