"""A view of an image: the window one looks at it through, the canvas it falls on, mirrored or not.

Letterboxing, cropping, scale jitter, SSD's patches and expansion, and flipping are all one thing: a window
`[x1, y1, x2, y2]` in pixels of the image, which may reach over its border, is stretched to a canvas. So chance chooses
windows, and `render` moves pixels, boxes, masks, keypoints and segmentation at once, and only once: of a JPEG no more
is decoded than the window shows.

A window's chooser takes the image's size `(height, width)`, float32 `[2]`, and, if it throws dice, a seed (two whole
numbers, as stateless TensorFlow ops take them); it gives float32 `[4]`. At the end stand the views of training, all of
the form `view(size, canvas, boxes, seed) -> (window, mirrored)`.
"""

import numpy as np
import tensorflow as tf

from keras_cnns.data import images
from keras_cnns.ops import masks as mask_ops

IGNORED = 255  # a pixel of a segmentation that counts neither way
OBJECTS = ("boxes", "labels", "ignored", "masks", "keypoints")  # keys whose rows are objects


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


def rescaled_crop(size, canvas, seed, shorter=(256 / 224, 256 / 224), square=False):
    """A crop at a random place of the image whose shorter side was made `shorter` times the crop's, from ... to.

    VGG, arXiv:1409.1556, section 3.1: 256 to 512 pixels for a crop of 224.

    Args:
      square: only of the square in the image's middle (of the canvas's proportions), as AlexNet (section 2) and
        ZFNet (section 3) have it.
    """
    size = tf.cast(size, tf.float32)[::-1]  # x, y
    draw = tf.random.stateless_uniform([3], seed)
    crop = tf.cast(canvas, tf.float32)[::-1]
    largest = crop * tf.reduce_min(size / crop)
    crop = largest / (shorter[0] + (shorter[1] - shorter[0]) * draw[0])
    room = largest if square else size
    start = (size - room) / 2 + draw[1:] * (room - crop)
    return tf.concat([start, start + crop], 0)


def central(size, canvas, share=7 / 8):
    """The crop in the middle, `share` of the largest that fits into the image: 224 of a shorter side of 256."""
    size, crop = tf.cast(size, tf.float32)[::-1], tf.cast(canvas, tf.float32)[::-1]
    crop *= share * tf.reduce_min(size / crop)
    return tf.concat([(size - crop) / 2, (size + crop) / 2], 0)


def five_crops(size, canvas, share=7 / 8):
    """Crops of one size out of the square in the middle: its four corners and its middle. AlexNet, section 4.1.

    Returns:
      windows `[5, 4]`.
    """
    middle = central(size, canvas, share)
    room = (middle[2:] - middle[:2]) * (1 / share - 1) / 2  # x, y
    corners = tf.constant([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    return middle + tf.tile(corners * room, [1, 2])


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


def another_seed(seed, number):
    """A seed of its own for the next thing that chance decides. (`tf.random.fold_in` does that in a dozen ops.)"""
    return tf.cast(seed, tf.int64) + [number * 1_000_003, 0]


def coin(seed):
    """True every second time: bool `[]`."""
    return tf.random.stateless_uniform([], seed) < 0.5


def render(element, window, canvas, mirrored=False, pairs=(), keep="visible", padding=images.PADDING):
    """An element as it is seen through a window.

    Args:
      element: a reader's dict. image: encoded (string `[]`), pixels (uint8 `[H, W, 3]`) or `images.Opened`; and any
        of boxes `[G, 4]` with labels and ignored `[G]`, masks `[G, H, W]`, keypoints `[G, J, 3]`, segmentation
        `[H, W]`, proposals `[R, 4]`.
      window: float32 `[4]` in pixels of the image. canvas: `(height, width)`, whole numbers or an int32 tensor.
      mirrored: bool, left to right on the canvas.
      pairs: of joints that change names when mirrored, ((left, right), ...).
      keep: which objects stay: those "visible", with any area on the canvas, or those whose "center" is (SSD,
        section 2.2). The rows of the others become padding, zeros with label 0; `without_padding` drops them.
      padding: the colour beside the image.

    Returns:
      the same keys. image: float32 `[height, width, 3]`, 0 to 255. Boxes and proposals in pixels of the canvas,
      clipped; a proposal beside it becomes a row of zeros. Masks, uint8, are 0 beside the image, and the segmentation
      255. Keypoints beside the canvas have visibility 0.
      Everything else in the element passes through.
    """
    element, scale, shift = look(element, window, canvas, mirrored, padding)
    return move(with_all_masks(element), scale, shift, canvas, pairs, keep)


def look(element, window, canvas, mirrored=False, padding=images.PADDING, colour=None):
    """The first half of `render`: what is made of pixels.

    Args:
      colour: function of an image, float32 `[h, w, 3]`, 0 to 255, to the same; what lies beside it keeps its colour.
      The others as of `render`.

    Returns:
      the element with its image, masks (as many as were given) and segmentation on the canvas, and whither an image's
      `(x, y)` goes: `(x, y) * scale + shift`, float32 `[2]` each, exactly as the pixels were resized. Mirrored, x has a
      negative scale.
    """
    image = element["image"]
    if not isinstance(image, images.Opened):
        image = images.opened(image, element.get("name", "image"))
    static = None if tf.is_tensor(canvas) else tuple(canvas)
    canvas = tf.cast(canvas, tf.int32)
    shown, rect = _visible(image.size, window, canvas)
    mirrored = tf.convert_to_tensor(mirrored)

    def flipped(values):
        return tf.cond(mirrored, lambda: tf.reverse(values, [1]), lambda: values)

    def stretched(values, method):  # [h, w, N] to the rectangle's size
        return method(images=values[None], size=tf.reverse(rect[2:] - rect[:2], [0]), half_pixel_centers=True)[0]

    def numbers(values, outside):  # [H, W, N] of uint8 to [height, width, N]
        x1, y1, x2, y2 = tf.unstack(shown)
        values = stretched(values[y1:y2, x1:x2], tf.raw_ops.ResizeNearestNeighbor)
        x1, y1, x2, y2 = tf.unstack(rect)
        margin = [[y1, canvas[0] - y2], [x1, canvas[1] - x2], [0, 0]]
        return flipped(tf.pad(values, margin, constant_values=tf.constant(outside, tf.uint8)))

    pixels = stretched(tf.cast(images.cut(image, shown), tf.float32), tf.raw_ops.ResizeBilinear)
    pixels = colour(pixels) if colour else pixels
    sides = tf.reverse(canvas, [0])  # not [::-1], which TensorFlow's optimiser stumbles over
    covered = tf.reduce_all(rect == tf.concat([[0, 0], sides], 0))
    pixels = tf.cond(covered, lambda: pixels, lambda: _paste(pixels, rect, _background(padding, static or canvas)))
    out = dict(element, image=flipped(pixels))
    if "segmentation" in element:
        out["segmentation"] = numbers(element["segmentation"][..., None], IGNORED)[..., 0]
    if "masks" in element:
        masks = tf.transpose(element["masks"], (1, 2, 0))
        nothing = tf.zeros(tf.concat([canvas, [0]], 0), tf.uint8)
        masks = tf.cond(tf.size(masks) > 0, lambda: numbers(masks, 0), lambda: nothing)
        out["masks"] = tf.transpose(masks, (2, 0, 1))
    if static:
        for key, shape in (("image", (*static, 3)), ("segmentation", static), ("masks", (None, *static))):
            if key in out:
                out[key] = tf.ensure_shape(out[key], shape)
    scale = tf.cast(rect[2:] - rect[:2], tf.float32) / tf.cast(shown[2:] - shown[:2], tf.float32)
    shift = tf.cast(rect[:2], tf.float32) - tf.cast(shown[:2], tf.float32) * scale
    turn = tf.where(mirrored, [-1.0, 1.0], [1.0, 1.0])
    return out, scale * turn, shift * turn + tf.where(mirrored, [1.0, 0.0], [0.0, 0.0]) * tf.cast(
        sides, tf.float32)


def move(element, scale, shift, canvas, pairs=(), keep="visible"):
    """The second half of `render`, of an element or a batch of them: what is made of coordinates.

    Args:
      element: a dict of tensors `[...]` as of `render`. scale, shift: `[..., 2]`, of `look`. canvas, pairs, keep: as of
        `render`.
    """
    out, sides = dict(element), tf.reverse(tf.cast(canvas, tf.float32), [0])
    if "keypoints" in element:
        points = element["keypoints"][..., :2] * scale[..., None, None, :] + shift[..., None, None, :]
        visible = element["keypoints"][..., 2:] * tf.cast(
            tf.reduce_all((points >= 0.0) & (points <= sides), -1, keepdims=True), tf.float32)
        points = tf.concat([points, visible], -1) * tf.cast(visible > 0, tf.float32)
        if pairs:
            order = np.arange(points.shape[-2])
            for left, right in pairs:
                order[[left, right]] = right, left
            mirrored = scale[..., None, None, :1] < 0
            points = tf.where(mirrored, tf.gather(points, order, axis=-2), points)
        out["keypoints"] = points
    if "proposals" in element:
        shown, stays, _ = _moved(element["proposals"], scale, shift, sides)
        out["proposals"] = shown * tf.cast(stays[..., None], tf.float32)
    if "boxes" in element:
        out["boxes"], stays, center = _moved(element["boxes"], scale, shift, sides)
        if keep == "center":
            stays &= tf.reduce_all((center >= 0.0) & (center < sides), -1)
        out = with_padding(out, stays)
    return out


def _moved(boxes, scale, shift, sides):
    """Boxes on the canvas, clipped `[..., 4]`; whether any of each is there; their centres before, `[..., 2]`."""
    corners = [boxes[..., part] * scale[..., None, :] + shift[..., None, :] for part in (slice(2), slice(2, 4))]
    start, end = tf.minimum(*corners), tf.maximum(*corners)
    shown = tf.clip_by_value(start, 0.0, sides), tf.clip_by_value(end, 0.0, sides)
    return tf.concat(shown, -1), tf.reduce_all(shown[1] > shown[0], -1), (start + end) / 2


def with_all_masks(element):
    """The element with as many masks, empty ones, as there are labels: readers give none of rows of padding."""
    if not {"masks", "labels"} <= element.keys():
        return element
    masks, labels = element["masks"], element["labels"]
    missing = tf.shape(labels)[0] - tf.shape(masks)[0]
    masks = tf.pad(masks, [[0, missing], [0, 0], [0, 0]])
    return {**element, "masks": tf.ensure_shape(masks, (labels.shape[0], *masks.shape[1:]))}


def cut_out(masks, boxes, size):
    """Masks of a canvas as crops around their boxes: `[G, H, W], [G, 4] -> [G, size, size]`, uint8.

    The pixels that `ops.masks.window` tells, 0 beside the canvas.
    """
    start, step = mask_ops.window(boxes, size)
    cells = tf.cast(start[:, None] + step[:, None] * tf.range(float(size))[:, None], tf.int32)  # [G, size, 2]
    limits = tf.shape(masks)[:0:-1]  # x, y
    inside = tf.cast((cells >= 0) & (cells < limits), tf.uint8)
    cells = tf.clip_by_value(cells, 0, limits - 1)
    crops = tf.gather(tf.gather(masks, cells[..., 1], axis=1, batch_dims=1), cells[..., 0], axis=2, batch_dims=1)
    return crops * inside[:, :, None, 1] * inside[:, None, :, 0]


def with_padding(element, stays):
    """An element, or a batch, in which the rows of objects that do not stay (bool `[..., G]`) are zeros."""
    out = dict(element)
    for key in element.keys() & set(OBJECTS):
        seen = stays[(..., *[None] * (len(out[key].shape) - len(stays.shape)))]
        out[key] = out[key] & seen if key == "ignored" else out[key] * tf.cast(seen, out[key].dtype)
    return out


def without_padding(element):
    """The element without the rows of objects whose label is 0."""
    real = element["labels"] != 0
    return {key: tf.boolean_mask(value, real) if key in OBJECTS else value for key, value in element.items()}


def _visible(size, window, canvas):
    """What of an image a window shows, whole pixels `[4]`, and its place on the canvas, `[4]`, int32: a pixel or more,
    even of a window that misses the image.
    """
    sides = tf.reverse(tf.cast(canvas, tf.float32), [0])
    per_pixel = (window[2:] - window[:2]) / sides  # pixels of the image to one of the canvas: x, y
    corners = tf.reshape(window, [2, 2])  # start and end, of x and y
    corners = tf.stack([tf.floor(corners[0] + 1e-3), tf.math.ceil(corners[1] - 1e-3)])
    shown = _inside(corners, tf.reverse(tf.cast(size, tf.float32), [0]))
    rect = _inside(tf.round((shown - window[:2]) / per_pixel), sides)
    return tf.cast(tf.reshape(shown, [4]), tf.int32), tf.cast(tf.reshape(rect, [4]), tf.int32)


def _inside(corners, limits):
    """Start and end `[2, 2]` within 0 and limits `[2]`, at least 1 apart."""
    room = tf.constant([[0.0], [1.0]])
    corners = tf.clip_by_value(corners, room, limits - 1.0 + room)
    return tf.maximum(corners, corners[:1] + room)


def _background(colour, canvas):
    """A canvas of one colour: a constant, if its size is known beforehand."""
    if tf.is_tensor(canvas):
        return tf.broadcast_to(tf.constant(colour), tf.concat([canvas, [3]], 0))
    return tf.constant(np.broadcast_to(np.float32(colour), (*canvas, 3)))


def _paste(values, rect, background):
    """Background `[H, W, 3]` with values `[h, w, 3]` in a rectangle of it: joined, which is faster than adding."""
    x1, y1, x2, y2 = tf.unstack(rect)
    middle = tf.concat([background[y1:y2, :x1], values, background[y1:y2, x2:]], 1)
    return tf.concat([background[:y1], middle, background[y2:]], 0)


def letterboxed(size, canvas, boxes, seed):
    """The whole image in its proportions; nothing is left to chance."""
    return letterbox(size, canvas), False


def letterboxed_or_mirrored(size, canvas, boxes, seed):
    """The whole image, every second time mirrored: Fast and Faster R-CNN's only augmentation."""
    return letterbox(size, canvas), coin(seed)


def jittered(size, canvas, boxes, seed):
    """Standard scale jitter and mirroring."""
    return jitter(size, canvas, seed), coin(another_seed(seed, 1))


def largely_jittered(size, canvas, boxes, seed):
    """Large scale jitter and mirroring."""
    return jitter(size, canvas, seed, 0.1, 2.0), coin(another_seed(seed, 1))


def ssd(size, canvas, boxes, seed):
    """SSD's expansion, patch and mirroring; the patch is stretched to the canvas. Objects stay by `keep="center"`."""
    return patch(expansion(size, seed), boxes, another_seed(seed, 1)), coin(another_seed(seed, 2))


def inception(size, canvas, boxes, seed):
    """A random resized crop and mirroring: what classifiers are trained on since GoogLeNet."""
    return random_resized(size, seed), coin(another_seed(seed, 1))


def plain(size, canvas, boxes, seed):
    """The whole image, stretched to the canvas; nothing is left to chance."""
    return whole(size), False


def distorted(size, canvas, boxes, seed):
    """A crop of at least 7/8 of the image, not mirrored, for digits: of the distortions that LeNet-5 was trained with
    (section III.B) shifts and sizes.
    """
    return rescaled_crop(size, canvas, seed, (1.0, 8 / 7)), False


def padded_crop(size, canvas, boxes, seed):
    """The whole image moved by up to 4 pixels of the canvas either way, and mirroring: what classifiers of CIFAR are
    trained on since arXiv:1409.5185. A crop out of the image padded by 4, said otherwise.
    """
    move = tf.random.stateless_uniform([2], seed, -4, 5, tf.int32)
    window, canvas = whole(size), tf.cast(canvas, tf.float32)
    return window + tf.tile(tf.cast(move, tf.float32) * window[2:] / canvas[::-1], [2]), coin(another_seed(seed, 1))


def scaled_crop(size, canvas, boxes, seed):
    """A crop of 224 of a shorter side of 256, and mirroring: VGG's at one scale, section 3.1."""
    return rescaled_crop(size, canvas, seed), coin(another_seed(seed, 1))


def square_crop(size, canvas, boxes, seed):
    """The same out of the square in the middle, and mirroring: AlexNet, section 4.1."""
    return rescaled_crop(size, canvas, seed, square=True), coin(another_seed(seed, 1))


def vgg(size, canvas, boxes, seed):
    """A crop of 224 of a shorter side of 256 to 512, and mirroring: VGG's of many scales, section 3.1."""
    return rescaled_crop(size, canvas, seed, (256 / 224, 512 / 224)), coin(another_seed(seed, 1))


def resnet(size, canvas, boxes, seed):
    """A crop of 224 of a shorter side of 256 to 480, and mirroring: ResNet, arXiv:1512.03385, section 3.4."""
    return rescaled_crop(size, canvas, seed, (256 / 224, 480 / 224)), coin(another_seed(seed, 1))


def tile(size, canvas, boxes, seed):
    """A part of the image as large as the canvas, unscaled: U-Net, arXiv:1505.04597, section 3; and mirroring."""
    size, crop = tf.cast(size, tf.float32)[::-1], tf.cast(canvas, tf.float32)[::-1]
    start = tf.floor(tf.random.stateless_uniform([2], seed) * tf.maximum(size - crop + 1.0, 1.0))
    return tf.concat([start, start + crop], 0), coin(another_seed(seed, 1))


def stretched_crop(size, canvas, boxes, seed):
    """A crop of 224 a side of the image stretched to 250, and mirroring: DeconvNet, arXiv:1505.04366, section 5.1."""
    crop = whole(size) * (224 / 250)
    room = tf.cast(size, tf.float32)[::-1] - crop[2:]
    start = tf.random.stateless_uniform([2], seed) * room
    return crop + tf.tile(start, [2]), coin(another_seed(seed, 1))


def half_to_double(size, canvas, boxes, seed):
    """A crop of 480 of a shorter side of 260 to 1040, which may end before it, and mirroring: torchvision's FCN."""
    return rescaled_crop(size, canvas, seed, (260 / 480, 1040 / 480)), coin(another_seed(seed, 1))


def yolo(size, canvas, boxes, seed):
    """The whole image, each of its edges moved in or out by up to 20 % of the side, and mirroring: random scaling and
    translation as in YOLO's authors' code (arXiv:1506.02640, section 2.2). Stretched to the canvas.
    """
    window = whole(size)
    move = tf.random.stateless_uniform([4], seed, -0.2, 0.2)
    return window + move * tf.tile(window[2:], [2]), coin(another_seed(seed, 1))
