"""A view of an image: the window one looks at it through, the canvas it falls on, mirrored or not.

Letterboxing, cropping, scale jitter, SSD's patches and expansion, and flipping are all one thing: a window
`[x1, y1, x2, y2]` in pixels of the image, which may reach over its border, is stretched to a canvas. So chance chooses
windows, and `render` moves pixels, boxes, masks, keypoints and segmentation at once, and only once: of a JPEG no more
is decoded than the window shows.

A chooser takes the image's size `(height, width)`, float32 `[2]`, and a seed (two whole numbers, as stateless
TensorFlow ops take them), and gives a window, float32 `[4]`.
"""

import tensorflow as tf

from keras_cnns.data import images

IGNORED = 255  # a pixel of a segmentation that counts neither way


def whole(size):
    """The whole image, its proportions not kept."""
    height, width = tf.unstack(tf.cast(size, tf.float32))
    return tf.stack([0.0, 0.0, width, height])


def letterbox(size, canvas):
    """The whole image in the top left corner, its proportions kept, for a canvas `(height, width)`."""
    canvas = tf.cast(canvas, tf.float32)
    factor = tf.reduce_min(canvas / tf.cast(size, tf.float32))
    height, width = tf.unstack(canvas / factor)
    return tf.stack([0.0, 0.0, width, height])


def jitter(size, canvas, seed, low=0.8, high=1.25):
    """Scale jitter: the letterboxed image times `low...high`, cropped at a random place or padded below and right.

    Ghiasi et al., Simple Copy-Paste, arXiv:2012.07177, section 3 (standard jittering 0.8 to 1.25, large scale
    jittering 0.1 to 2.0).
    """
    size = tf.cast(size, tf.float32)
    draw = tf.random.stateless_uniform([3], seed)
    window = letterbox(size, canvas) / (low + (high - low) * draw[0])
    room = tf.maximum(size[::-1] - window[2:], 0.0)  # x, y
    return window + tf.tile(draw[1:] * room, [2])


def random_resized(size, seed, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), trials=10):
    """A crop of a share of the area and a ratio of width to height, both by chance. GoogLeNet, arXiv:1409.4842, sec. 6.

    The first of ten that fits into the image; if none does, the largest centred one of a ratio in range.
    """
    size = tf.cast(size, tf.float32)
    height, width = tf.unstack(size)
    draw = tf.random.stateless_uniform([4, trials], seed)
    share = area[0] + (area[1] - area[0]) * draw[0]
    aspect = tf.exp(tf.math.log(ratio[0]) + (tf.math.log(ratio[1]) - tf.math.log(ratio[0])) * draw[1])
    wide, high = tf.sqrt(share * height * width * aspect), tf.sqrt(share * height * width / aspect)
    fits = (wide <= width) & (high <= height)
    i = tf.argmax(fits)  # the first
    x, y = draw[2, i] * (width - wide[i]), draw[3, i] * (height - high[i])
    centred = tf.minimum(width, height * ratio[1]), tf.minimum(height, width / ratio[0])
    x0, y0 = (width - centred[0]) / 2, (height - centred[1]) / 2
    return tf.where(tf.reduce_any(fits), tf.stack([x, y, x + wide[i], y + high[i]]),
                    tf.stack([x0, y0, x0 + centred[0], y0 + centred[1]]))


def expansion(size, seed, largest=4.0):
    """The image somewhere on a canvas of up to `largest` times its sides, every second time. SSD, section 3.6."""
    height, width = tf.unstack(tf.cast(size, tf.float32))
    draw = tf.random.stateless_uniform([4], seed)
    factor = tf.where(draw[0] < 0.5, 1.0, 1.0 + (largest - 1.0) * draw[1])
    x, y = draw[2] * (factor - 1.0) * width, draw[3] * (factor - 1.0) * height
    return tf.stack([-x, -y, factor * width - x, factor * height - y])


def patch(window, boxes, seed, trials=50):
    """SSD's patch sampling within a window: itself, or one that keeps enough of some object. SSD, section 2.2.

    One of seven at random: the whole window; a patch whose IoU with an object is at least 0.1, 0.3, 0.5, 0.7 or 0.9;
    any patch. A patch has a ratio of 1/2 to 2 and a scale of 0.3 to 1 (the authors' code; the paper says 0.1 to 1 of
    the size); fifty are tried, and if none will do the window stays.

    Args:
      window: `[4]`, such as `expansion` gives. boxes: `[G, 4]`.
    """
    place, sides = window[:2], window[2:] - window[:2]
    draw = tf.random.stateless_uniform([trials + 1, 4], seed)
    minimum = tf.gather([2.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0], tf.cast(7 * draw[0, 0], tf.int32))
    draw = draw[1:]
    # As in the authors' code: a scale of the sides, 0.3...1, and a ratio that leaves the patch inside.
    scale = 0.3 + 0.7 * draw[:, 0]
    low, high = tf.maximum(0.5, scale**2), tf.minimum(2.0, 1.0 / scale**2)
    ratio = tf.sqrt(low + (high - low) * draw[:, 1])
    share = tf.stack([scale * ratio, scale / ratio], -1)  # of width and height
    start = draw[:, 2:] * (1.0 - share)
    patches = tf.concat([place + start * sides, place + (start + share) * sides], -1)  # [trials, 4]
    corner = tf.maximum(patches[:, None, :2], boxes[None, :, :2])
    other = tf.minimum(patches[:, None, 2:], boxes[None, :, 2:])
    common = tf.reduce_prod(tf.maximum(other - corner, 0.0), -1)
    union = tf.reduce_prod(patches[:, 2:] - patches[:, :2], -1)[:, None] + tf.reduce_prod(
        boxes[:, 2:] - boxes[:, :2], -1)[None] - common
    good = tf.reduce_any(common >= minimum * union, -1) | (minimum == 0.0)
    return tf.where(tf.reduce_any(good), patches[tf.argmax(good)], window)


def coin(seed):
    """True every second time: bool `[]`."""
    return tf.random.stateless_uniform([], seed) < 0.5


def render(element, window, canvas, mirrored=False, pairs=(), keep="visible", padding=images.PADDING):
    """An element as it is seen through a window.

    Args:
      element: a reader's dict. image: encoded (string `[]`), pixels (uint8 `[H, W, 3]`) or `images.Opened`; and any
        of boxes `[G, 4]` with labels and ignored `[G]`, masks `[G, H, W]`, keypoints `[G, J, 3]`, segmentation
        `[H, W]`.
      window: float32 `[4]` in pixels of the image. canvas: `(height, width)`, whole numbers or an int32 tensor.
      mirrored: bool, left to right on the canvas.
      pairs: of joints that change names when mirrored, ((left, right), ...).
      keep: which objects stay: those "visible", with any area on the canvas, or those whose "center" is (SSD,
        section 2.2); None keeps all rows, those unseen with boxes of no area.
      padding: the colour beside the image.

    Returns:
      the same keys. image: float32 `[height, width, 3]`, 0 to 255. Boxes in pixels of the canvas, clipped. Masks,
      uint8, are 0 beside the image, and the segmentation 255. Keypoints beside the canvas have visibility 0.
      Everything else in the element passes through.
    """
    image = element["image"]
    if not isinstance(image, images.Opened):
        image = images.opened(image, element.get("name", "image"))
    canvas_tensor = tf.cast(canvas, tf.int32)
    shown, rect = _visible(image.size, window, canvas_tensor)
    pixels = _stretch(tf.cast(images.cut(image, *tf.unstack(shown)), tf.float32), shown, rect, "bilinear")
    out = dict(element, image=_place(pixels - padding, rect, canvas_tensor) + padding)
    mirrored = tf.convert_to_tensor(mirrored)
    # From pixels of the image to pixels of the canvas, exactly as they were resized.
    scale = tf.cast(rect[2:] - rect[:2], tf.float32) / tf.cast(shown[2:] - shown[:2], tf.float32)
    shift = tf.cast(rect[:2], tf.float32) - tf.cast(shown[:2], tf.float32) * scale
    height, width = tf.unstack(tf.cast(canvas_tensor, tf.float32))

    def flip(x, axis):
        return tf.cond(mirrored, lambda: tf.reverse(x, [axis]), lambda: x)

    def grid(values, outside):  # [H, W, N] -> [height, width, N]
        values = tf.cast(values, tf.int32) - outside
        x1, y1, x2, y2 = tf.unstack(shown)
        values = _place(_stretch(values[y1:y2, x1:x2], shown, rect, "nearest"), rect, canvas_tensor)
        return tf.cast(flip(values, 1) + outside, tf.uint8)

    out["image"] = flip(out["image"], 1)
    if "segmentation" in element:
        out["segmentation"] = grid(element["segmentation"][..., None], IGNORED)[..., 0]
    if "keypoints" in element:
        xy, visible = element["keypoints"][..., :2] * scale + shift, element["keypoints"][..., 2]
        visible = tf.where(tf.reduce_all((xy >= 0) & (xy < tf.stack([width, height])), -1), visible, 0.0)
        x = tf.where(mirrored, width - xy[..., 0], xy[..., 0])
        points = tf.stack([x, xy[..., 1], visible], -1)
        points = tf.where(visible[..., None] > 0, points, 0.0)
        if pairs:
            order = list(range(points.shape[1]))
            for left, right in pairs:
                order[left], order[right] = right, left
            points = tf.where(mirrored, tf.gather(points, order, axis=1), points)
        out["keypoints"] = points
    if "masks" in element:
        out["masks"] = tf.transpose(grid(tf.transpose(element["masks"], (1, 2, 0)), 0), (2, 0, 1))
    if "boxes" in element:
        boxes = element["boxes"] * tf.tile(scale, [2]) + tf.tile(shift, [2])
        x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
        boxes = tf.where(mirrored, tf.stack([width - x2, y1, width - x1, y2], -1), boxes)
        limits = tf.stack([width, height, width, height])
        clipped = tf.clip_by_value(boxes, 0.0, limits)
        out["boxes"] = clipped
        if keep == "center":
            center = (boxes[:, :2] + boxes[:, 2:]) / 2
            stays = tf.reduce_all((center >= 0) & (center < limits[:2]), -1)
        else:
            stays = tf.reduce_all(clipped[:, 2:] > clipped[:, :2], -1)
        if keep:
            for key in ("boxes", "labels", "ignored", "masks", "keypoints"):
                if key in out:
                    out[key] = tf.boolean_mask(out[key], stays)
    if not tf.is_tensor(canvas):
        for key, shape in (("image", (*canvas, 3)), ("segmentation", canvas), ("masks", (None, *canvas))):
            if key in out:
                out[key] = tf.ensure_shape(out[key], shape)
    return out


def _visible(size, window, canvas):
    """What of the image a window shows, whole pixels `[4]` int32, and where on the canvas that lies, int32 `[4]`."""
    limits = tf.cast(tf.tile(size[::-1], [2]), tf.float32)
    shown = tf.concat([tf.floor(window[:2] + 1e-3), tf.math.ceil(window[2:] - 1e-3)], 0)
    shown = tf.clip_by_value(shown, 0.0, limits)
    # At least a pixel, even of a window that misses the image.
    start = tf.minimum(shown[:2], limits[:2] - 1.0)
    shown = tf.concat([start, tf.maximum(shown[2:], start + 1.0)], 0)
    sides = tf.cast(canvas[::-1], tf.float32)
    rect = (shown - tf.tile(window[:2], [2])) * tf.tile(sides / (window[2:] - window[:2]), [2])
    rect = tf.clip_by_value(tf.cast(tf.round(rect), tf.int32), 0, tf.tile(canvas[::-1], [2]))
    start = tf.minimum(rect[:2], canvas[::-1] - 1)
    return tf.cast(shown, tf.int32), tf.concat([start, tf.maximum(rect[2:], start + 1)], 0)


def _stretch(values, shown, rect, method):
    """`[h, w, N]` to the rectangle's size; where it has it already, as it is."""
    sides = rect[2:] - rect[:2]
    return tf.cond(
        tf.reduce_all(sides == shown[2:] - shown[:2]), lambda: values,
        lambda: tf.image.resize(values, sides[::-1], method))


def _place(values, rect, canvas):
    """Zeros around values `[h, w, N]` that lie in a rectangle of a canvas: `[height, width, N]`."""
    height, width = tf.unstack(canvas)
    x1, y1, x2, y2 = tf.unstack(rect)
    whole = tf.reduce_all(rect == tf.stack([0, 0, width, height]))
    return tf.cond(whole, lambda: values, lambda: tf.pad(values, [[y1, height - y2], [x1, width - x2], [0, 0]]))
