"""Region-of-interest pooling layers.

    RoIPool    Fast R-CNN, section 2.1 (Girshick, ICCV 2015, arXiv:1504.08083)
    RoIAlign   Mask R-CNN, section 3 (He et al., ICCV 2017, arXiv:1703.06870), over one map or a feature
               pyramid (Lin et al., CVPR 2017, arXiv:1612.03144, eq. 1)
    PSRoIPool  R-FCN, section 3 (Dai et al., NIPS 2016, arXiv:1605.06409)
    RoIWarp    R-CNN, appendix A (Girshick et al., CVPR 2014, arXiv:1311.2524), regions of the image itself
    SpatialPyramidPool   SPP-net, section 2.2 (He et al., ECCV 2014, arXiv:1406.4729), the whole map being the region
    RoIPyramidPool       the same of regions, section 4.1

Regions are `[x1, y1, x2, y2]` in pixels of the network input. The first three are made of
gathers of whole rows, so that every backend runs them and TFLite has all their ops built in; the size of their features
need not be known before.
"""

import itertools
import math

import numpy as np
from keras import layers, ops, saving

register = saving.register_keras_serializable("keras_cnns")


def _pick(row, index):
    """Whole numbers of a table by index: N numbers or scalar tensors, `[...] -> [...]`, int32."""
    return ops.take(ops.convert_to_tensor(row, "int32"), index)


def _bins(low, high, n, limit):
    """Splits cells `low..high` into n bins, `[B, R] -> start, end`, each `[B, R, n]`, within `0..limit`."""
    def within(cells):  # as floats, since TFLite makes a ReLU6 of whole numbers, which it does not have, of 0..6
        return ops.cast(ops.clip(ops.cast(cells, "float32"), 0.0, ops.cast(limit, "float32")), "int32")

    i = ops.arange(n, dtype="int32")
    length = ops.maximum(high - low + 1, 1)[..., None]
    start = low[..., None] + i * length // n
    end = low[..., None] - (-(i + 1) * length // n)
    return within(start), within(end)


def _running_max(x, axis, levels):
    """Tables by window: the k-th holds, at each cell, the maximum of the `2**k` cells from there on, within the map."""
    tables, last = [x], ops.shape(x)[axis] - 1
    for k in range(levels - 1):
        behind = ops.take(tables[-1], ops.minimum(ops.arange(last + 1, dtype="int32") + 2**k, last), axis=axis)
        tables.append(ops.maximum(tables[-1], behind))
    return tables


@register
class RoIPool(layers.Layer):
    """Max pooling of each region to a fixed grid. Fast R-CNN, section 2.1.

    `features [B, H, W, C], rois [B, R, 4] -> [B, R, size, size, C]`; corners are rounded to whole cells and
    the cells split into bins by integer arithmetic, as the paper's code means it. A bin outside the map is 0.

    The maximum of any bin is the maximum of four overlapping power-of-two windows, so the layer is a set of
    running maxima and four gathers. Exact for boxes of any size, inside or outside the map (of a map whose size is not
    known before, for bins of up to 256 cells).

    Args:
      size: bins to a side, 7 in the paper. stride: pixels of the network input to a feature cell.
    """

    def __init__(self, size, stride, **kwargs):
        super().__init__(autocast=False, **kwargs)  # pixels would lose digits in half precision
        self.size, self.stride = size, stride

    def call(self, features, rois):
        height, width = ops.shape(features)[1:3]
        left, top, right, bottom = ops.unstack(self._cells(ops.cast(rois, "float32"), height, width), axis=-1)
        bins = (*_bins(top, bottom, self.size, height), *_bins(left, right, self.size, width))
        # Most windows are for boxes larger than the map: they are only made if there is one.
        usual, all_levels = zip(*(self._levels(side) for side in features.shape[1:3]))
        if usual == all_levels:
            return self._pool(features, bins, usual)
        y0, y1, x0, x1 = bins
        fits = (ops.max(y1 - y0) <= 2**usual[0]) & (ops.max(x1 - x0) <= 2**usual[1])
        return ops.cond(fits, lambda: self._pool(features, bins, usual), lambda: self._pool(features, bins, all_levels))

    def _cells(self, rois, height, width):
        """The first and last cells of regions, `[B, R, 4] -> [B, R, 4]`, int32."""
        return ops.cast(ops.floor(rois / self.stride + 0.5), "int32")

    def _levels(self, side):
        """How many windows bins need, 1, 2, 4 ... cells: of boxes as large as the map, and of any."""
        if side is None:
            return 5, 8
        return tuple(int(math.log2(cells)) + 1 for cells in (min(side, -(-side // self.size) + 1), side))

    def _pool(self, features, bins, levels):
        y0, y1, x0, x1 = bins
        height, width = ops.shape(features)[1:3]
        # All tables of an image one below the other, a row a cell.
        tables = [ops.reshape(table, (-1, height * width, features.shape[-1]))
                  for line in _running_max(features, 1, levels[0]) for table in _running_max(line, 2, levels[1])]
        table = ops.reshape(ops.concatenate(tables, axis=1), (-1, features.shape[-1]))

        def level(length, count):  # the largest window that fits
            return sum((ops.cast(length >= 2**k, "int32") for k in range(1, count)), length * 0)

        ky, kx = level(y1 - y0, levels[0]), level(x1 - x0, levels[1])
        image = ops.arange(ops.shape(features)[0], dtype="int32") * len(tables)
        number = ky[..., :, None] * levels[1] + kx[..., None, :] + image[:, None, None, None]
        empty = (y1 <= y0)[..., :, None] | (x1 <= x0)[..., None, :]
        pooled = None
        for y in (y0, y1 - _pick([2**k for k in range(levels[0])], ky)):
            for x in (x0, x1 - _pick([2**k for k in range(levels[1])], kx)):
                cell = (number * height + y[..., :, None]) * width + x[..., None, :]
                corner = ops.take(table, ops.where(empty, 0, cell), axis=0)
                pooled = corner if pooled is None else ops.maximum(pooled, corner)
        return ops.where(empty[..., None], ops.zeros((), pooled.dtype), pooled)

    def compute_output_shape(self, features_shape, rois_shape):
        return (*rois_shape[:2], self.size, self.size, features_shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride}


@register
class RoIAlign(layers.Layer):
    """Bilinear sampling of each region, averaged over a fixed grid. Mask R-CNN, section 3.

    `features [B, H, W, C], rois [B, R, 4] -> [B, R, size, size, C]`. `features` may be a list of maps, finest
    first, and `stride` the tuple of their strides; each region is then read from one level by its size, level 4
    (stride 16) for 224 pixels (FPN, eq. 1). Samples more than a cell outside the map are 0.

    Args:
      size: bins to a side. stride: pixels to a feature cell, or one number a level.
      samples: sampling points to a side of a bin. aligned: True puts a cell's value at its centre (half a
        pixel from the corner); False is the first published code's rule, where regions are also never
        smaller than one cell.
    """

    def __init__(self, size, stride, samples=2, aligned=True, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.size, self.stride, self.samples, self.aligned = size, stride, samples, aligned

    def call(self, features, rois):
        maps = list(features) if isinstance(features, (list, tuple)) else [features]
        strides = list(self.stride) if isinstance(self.stride, (list, tuple)) else [self.stride]
        if len(maps) != len(strides):
            raise ValueError(f"RoIAlign got {len(maps)} feature maps and {len(strides)} strides; give a stride a map.")
        channels = maps[0].shape[-1]
        heights, widths = zip(*(ops.shape(m)[1:3] for m in maps))
        begins = list(itertools.accumulate((h * w for h, w in zip(heights, widths)), initial=0))
        table = ops.concatenate([ops.reshape(m, (-1, h * w, channels))
                                 for m, h, w in zip(maps, heights, widths)], axis=1)
        table = ops.reshape(table, (-1, channels))

        rois = ops.cast(rois, "float32")
        side = ops.sqrt(ops.maximum((rois[..., 2] - rois[..., 0]) * (rois[..., 3] - rois[..., 1]), 1e-12))
        finest = int(math.log2(strides[0]))
        level = ops.floor(4.0 + ops.log2(side / 224.0) + 1e-6)  # eq. 1
        level = ops.cast(ops.clip(level, finest, finest + len(maps) - 1), "int32") - finest  # [B, R]
        image = ops.arange(ops.shape(maps[0])[0], dtype="int32") * begins[-1]
        begin = (_pick(begins[:-1], level) + image[:, None])[:, :, None, None]
        width = _pick(widths, level)[:, :, None, None]

        scale = 1.0 / ops.take(ops.convert_to_tensor(np.array(strides, "float32")), level)
        shift = 0.5 if self.aligned else 0.0

        def axis(low, high, limits):
            """Sample positions on one axis, `[B, R, size]` for each sample: cells below, above, share above, inside."""
            low, high = low * scale - shift, high * scale - shift
            length = high - low if self.aligned else ops.maximum(high - low, 1.0)
            last = ops.cast(_pick(limits, level), "float32")[..., None] - 1.0
            bins, each = ops.arange(self.size, dtype="float32"), (length / self.size)[..., None]
            for k in range(self.samples):
                p = low[..., None] + bins * each + (k + 0.5) * each / self.samples  # in torchvision's order, to a bit
                inside = ops.cast((p >= -1.0) & (p <= last + 1.0), "float32")
                p = ops.clip(p, 0.0, last)
                below = ops.minimum(ops.floor(p), last)
                above = ops.minimum(below + 1.0, last)
                yield ops.cast(below, "int32"), ops.cast(above, "int32"), p - below, inside

        rows = list(axis(rois[..., 1], rois[..., 3], heights))
        columns = list(axis(rois[..., 0], rois[..., 2], widths))
        total = None
        for y0, y1, fy, in_y in rows:
            for x0, x1, fx, in_x in columns:
                for y, wy in ((y0, (1.0 - fy) * in_y), (y1, fy * in_y)):
                    for x, wx in ((x0, (1.0 - fx) * in_x), (x1, fx * in_x)):
                        cell = begin + y[..., :, None] * width + x[..., None, :]
                        weight = ops.cast((wy[..., :, None] * wx[..., None, :])[..., None], table.dtype)
                        part = ops.take(table, cell, axis=0) * weight
                        total = part if total is None else total + part
        return total / self.samples**2

    def compute_output_shape(self, features_shape, rois_shape):
        shape = features_shape[0] if isinstance(features_shape[0], (list, tuple)) else features_shape
        return (*rois_shape[:2], self.size, self.size, shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride,
                "samples": self.samples, "aligned": self.aligned}


@register
class PSRoIPool(layers.Layer):
    """Average pooling of each region in which every bin has maps of its own. R-FCN, section 3, eq. 1.

    `features [B, H, W, size * size * D], rois [B, R, 4] -> [B, R, size, size, D]`. Of number d of bin (i, j), row i and
    column j, the map is `(d * size + i) * size + j`. Corners are rounded to whole cells and the cells split into bins
    by integer arithmetic. A bin outside the map is 0.

    As torchvision's ps_roi_pool, whose regions end before the map's last row and column; the authors' code counts
    these. Beside a margin of a row and a column below and right, which is then what is left out, all cells count.

    A bin's sum is four gathers from a table of sums from the map's corner on. Far from it these are large, so numbers
    are parted: into whole multiples of a unit, of which the sums are exact, and what is left, of which they are small.

    Args:
      size: bins to a side, 7 in the paper. stride: pixels of the network input to a feature cell.
    """

    def __init__(self, size, stride, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.size, self.stride = size, stride

    def call(self, features, rois):
        (height, width), n = ops.shape(features)[1:3], self.size**2
        depth = features.shape[-1] // n
        cells = ops.cast(ops.floor(ops.cast(rois, "float32") / self.stride + 0.5), "int32")
        left, top, right, bottom = ops.unstack(cells, axis=-1)
        y0, y1 = _bins(top, bottom - 1, self.size, height - 1)
        x0, x1 = _bins(left, right - 1, self.size, width - 1)

        maps = ops.reshape(ops.cast(features, "float32"), (-1, height, width, depth, n))
        maps = ops.transpose(maps, (0, 4, 1, 2, 3))
        unit = ops.max(ops.abs(maps), (1, 2, 3, 4), keepdims=True) * ops.cast(height * width, "float32") / 2**23
        unit = ops.stop_gradient(ops.maximum(unit, 1e-30))
        whole = ops.stop_gradient(ops.round(maps / unit))
        sums = ops.cumsum(ops.cumsum(ops.concatenate([whole, maps - whole * unit], -1), 2), 3)
        table = ops.reshape(ops.pad(sums, ((0, 0), (0, 0), (1, 0), (1, 0), (0, 0))), (-1, 2 * depth))

        number = ops.arange(ops.shape(features)[0], dtype="int32")[:, None] * n + ops.arange(n, dtype="int32")
        number = ops.reshape(number, (-1, 1, self.size, self.size))

        def to(y, x):
            cell = (number * (height + 1) + y[..., :, None]) * (width + 1) + x[..., None, :]
            return ops.take(table, cell, axis=0)

        total = to(y1, x1) - to(y0, x1) - to(y1, x0) + to(y0, x0)
        total = total[..., :depth] * unit + total[..., depth:]
        area = ((y1 - y0)[..., :, None] * (x1 - x0)[..., None, :])[..., None]
        mean = total / ops.cast(ops.maximum(area, 1), "float32")
        return ops.cast(ops.where(area > 0, mean, 0.0), features.dtype)

    def compute_output_shape(self, features_shape, rois_shape):
        return (*rois_shape[:2], self.size, self.size, features_shape[-1] // self.size**2)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride}


@register
class RoIWarp(layers.Layer):
    """Each region of the image itself, with what is around it, stretched to one size. R-CNN, appendix A, form (d).

    `image [B, H, W, C], rois [B, R, 4] -> [B, R, size, size, C]`, float32. The window shows the region with `context`
    pixels of the result on every side; its edges are rounded to whole pixels of the image. What of it lies in the
    image is resized, bilinear, to its share of the result; the rest is `value`. A region of no size, such as padding,
    gives what is around its corner.

    Args:
      size: pixels to a side of the result, 227 for AlexNet. context: 16 in the paper. value: of each channel, the mean
        that the network subtracts.
    """

    def __init__(self, size, context=16, value=(123.675, 116.28, 103.53), **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.size, self.context, self.value = size, context, tuple(value)

    def call(self, image, rois):
        image, rois = ops.cast(image, "float32"), ops.cast(rois, "float32")
        height, width, channels = *ops.shape(image)[1:3], image.shape[-1]
        # A row a pixel, with those right, below, and both; at the border they count with weight 0.
        right = ops.concatenate([image[:, :, 1:], image[:, :, -1:]], 2)
        table = ops.concatenate([image, right], -1)
        table = ops.concatenate([table, ops.concatenate([table[:, 1:], table[:, -1:]], 1)], -1)
        table = ops.reshape(table, (-1, 4 * channels))
        y, dy, in_y = self._axis(rois[..., 1], rois[..., 3], height)
        x, dx, in_x = self._axis(rois[..., 0], rois[..., 2], width)
        first = ops.arange(ops.shape(image)[0], dtype="int32")[:, None, None] * height
        near = ops.take(table, (first + y)[..., :, None] * width + x[..., None, :], axis=0)
        dy, dx = dy[..., :, None, None], dx[..., None, :, None]
        upper, lower = near[..., :2 * channels], near[..., 2 * channels:]
        row = upper + dy * (lower - upper)
        pixels = row[..., :channels] + dx * (row[..., channels:] - row[..., :channels])
        inside = (in_y[..., :, None] & in_x[..., None, :])[..., None]
        return ops.where(inside, pixels, ops.convert_to_tensor(self.value, "float32"))

    def _axis(self, low, high, side):
        """Of each pixel of the result, `[B, R, size]`: a pixel of the image, the share of the next, whether inside."""
        n, last = float(self.size), ops.cast(side, "float32")
        middle, half = (low + high) / 2, (high - low) / 2 * (n / (n - 2 * self.context))
        low, high = ops.floor(middle - half + 0.5), ops.floor(middle + half + 0.5)
        scale = n / ops.maximum(high - low, 1.0)
        start = ops.clip(low, 0.0, last - 1.0)
        end = ops.maximum(ops.minimum(high, last), start + 1.0)
        first = ops.clip(ops.round((start - low) * scale), 0.0, n - 1.0)
        behind = ops.maximum(ops.minimum(ops.round((end - low) * scale), n), first + 1.0)
        step = (end - start) / (behind - first)
        place = ops.arange(self.size, dtype="float32")
        source = (place - first[..., None] + 0.5) * step[..., None] + start[..., None] - 0.5
        source = ops.clip(source, start[..., None], end[..., None] - 1.0)
        whole = ops.floor(source)
        inside = (place >= first[..., None]) & (place < behind[..., None])
        return ops.cast(whole, "int32"), source - whole, inside

    def compute_output_shape(self, image_shape, rois_shape):
        return (*rois_shape[:2], self.size, self.size, image_shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "context": self.context, "value": self.value}


@register
class SpatialPyramidPool(layers.Layer):
    """Max pooling of a map of any size to a fixed length. SPP-net, section 2.2.

    `[B, H, W, C] -> [B, C * sum(n * n)]`: for each n of `bins` in its order, n x n bins row by row, the C channels
    of a bin together. H and W may be None. Bin i of n takes the cells from `floor(i H / n)` to
    `ceil((i + 1) H / n)`, as the paper's ceil and floor of window and stride give them for its map of 13 cells;
    unlike fixed windows these cover every map, and repeat cells where a map has fewer than n.

    Args:
      bins: to a side, a number a level; the paper's pyramid of 50 bins by default.
    """

    def __init__(self, bins=(6, 3, 2, 1), **kwargs):
        super().__init__(**kwargs)
        self.bins = tuple(bins)

    def call(self, features):
        def split(x, n, axis):
            length = ops.shape(x)[axis]
            bounds = [(i * length // n, ((i + 1) * length + n - 1) // n) for i in range(n)]
            cells = [x[:, low:high] if axis == 1 else x[:, :, low:high] for low, high in bounds]
            return ops.stack([ops.max(cell, axis) for cell in cells], axis)

        channels = features.shape[-1]
        return ops.concatenate([ops.reshape(split(split(features, n, 1), n, 2), (-1, n * n * channels))
                                for n in self.bins], axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1] * sum(n * n for n in self.bins))

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}


@register
class RoIPyramidPool(RoIPool):
    """Max pooling of each region to a spatial pyramid. SPP-net, section 4.1 and appendix A.

    `features [B, H, W, C], rois [B, R, 4] -> [B, R, C * sum(n * n)]`, in the order of `SpatialPyramidPool`, to which it
    is equal for a region whose cells are the whole map. A region has the cells whose centres are inside, on the map,
    and at least the one in its middle.

    Since the bins of 3, 2 and 1 to a side are unions of those of 6, overlapping cells included, only these are pooled.

    Args:
      bins: to a side, a number a level. stride: pixels of the network input to a cell. center: the pixel in the middle
        of what the first cell sees, 0 with the padding that the paper assumes.
    """

    def __init__(self, bins=(6, 3, 2, 1), stride=16, center=0.0, **kwargs):
        super().__init__(math.lcm(*bins), stride, **kwargs)
        self.bins, self.center = tuple(bins), center

    def call(self, features, rois):
        finest, channels = super().call(features, rois), features.shape[-1]
        levels = []
        for n in self.bins:
            parts = ops.reshape(finest, (-1, n, self.size // n, n, self.size // n, channels))
            levels.append(ops.reshape(ops.max(parts, (2, 4)), (-1, ops.shape(rois)[1], n * n * channels)))
        return ops.concatenate(levels, -1)

    def _cells(self, rois, height, width):
        place = (rois - self.center) / self.stride
        first = ops.cast(ops.floor(place[..., :2]), "int32") + 1
        last = ops.cast(ops.ceil(place[..., 2:]), "int32") - 1
        middle = (first + last) // 2
        thin = first > last
        limits = ops.convert_to_tensor([width - 1, height - 1])
        return ops.concatenate([ops.clip(ops.where(thin, middle, end), 0, limits) for end in (first, last)], -1)

    def compute_output_shape(self, features_shape, rois_shape):
        return (*rois_shape[:2], features_shape[-1] * sum(n * n for n in self.bins))

    def get_config(self):
        config = super().get_config()
        del config["size"]
        return {**config, "bins": self.bins, "center": self.center}
