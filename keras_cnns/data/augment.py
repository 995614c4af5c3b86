"""Augmentation beyond windows (`views`): colours, rotation, elastic deformation, and images mixed of several.

All are TensorFlow ops for `tf.data`, and all chance comes of a seed, two whole numbers as stateless ops take them: the
same results on any number of threads. Functions given the same seed throw the same dice: give each its own, by
`views.another_seed(seed, n)`.

Keras' layers of such names are not used: their dice are a variable that the threads of a pipeline take turns at, and
they accept no tensor for a seed; CutMix and RandomElasticTransform differ from the papers, and none moves keypoints.
"""

import math

import tensorflow as tf

from keras_cnns.data import images, views

# Eigenvalues and, in columns, eigenvectors of the covariance of R, G and B, from 0 to 1, over some of ImageNet's
# training images, as computed in fb.resnet.torch, datasets/imagenet.lua.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
LUMA = (0.299, 0.587, 0.114)  # of R, G, B: ITU-R BT.601

STEPS = 16  # of the iteration that inverts a field
OUTLINE = 16  # points on a side of a box, by which a field moves it


def photometric(image, seed):
    """SSD's distortion of colours: brightness, contrast, saturation and hue, each every second time.

    Brightness changes by up to 32 of 255; contrast (about black) and saturation are multiplied by 0.5 to 1.5; hue turns
    by up to 36 degrees. Contrast comes second or last, with equal chance. Of the authors' code
    (github.com/weiliu89/caffe, branch ssd: im_transforms.cpp, and ssd_pascal.py, whose hue_delta of 18 is in OpenCV's
    steps of 2 degrees, and which never swaps channels), as the paper (arXiv:1512.02325, section 2.2) only refers to
    Howard. Unlike there hue goes on round the circle at red, and nothing is rounded between the steps.

    Saturation and hue are HSV's, by `tf.image`, whose kernels run only where chance wants them: on a thread all this
    takes 0.6 ms of an image of 300 x 300 on average, as long as `jitter_colour` with its one product, in which hue
    could only turn in another space than HSV.

    Args:
      image: float32 `[H, W, 3]`, 0 to 255; and so is the result.
    """
    draw = tf.random.stateless_uniform([2, 5], seed)
    wanted = draw[0] < 0.5
    brightness, contrast, saturation, hue, _ = tf.unstack(2.0 * draw[1] - 1.0)
    early = draw[1, 4] < 0.5

    def clipped(image):
        return tf.clip_by_value(image, 0.0, 255.0)

    image = tf.cond(wanted[0], lambda: clipped(image + 32.0 * brightness), lambda: image)
    image = tf.cond(wanted[1] & early, lambda: clipped(image * (1.0 + 0.5 * contrast)), lambda: image)
    image = tf.cond(wanted[2], lambda: tf.image.adjust_saturation(image, 1.0 + 0.5 * saturation), lambda: image)
    image = tf.cond(wanted[3], lambda: tf.image.adjust_hue(image, 0.1 * hue), lambda: image)  # of a whole turn
    return tf.cond(wanted[1] & ~early, lambda: clipped(image * (1.0 + 0.5 * contrast)), lambda: image)


def jitter_colour(image, seed, brightness=0.5, contrast=0.5, saturation=0.5):
    """Brightness, contrast and saturation times 1 plus or minus up to the given shares. Howard, arXiv:1312.5402.

    As Pillow's ImageEnhance has them: blended with black, with the image's mean luma, with each pixel's luma. GoogLeNet
    was trained with it, and the networks of fb.resnet.torch with 0.4 and AlexNet's colours after it (`jitter_and_pca`).
    The three in any order are the same affine map, so one product does them all, and only its result is clipped.

    Args:
      image: float32 `[H, W, 3]`, 0 to 255; and so is the result.
    """
    draw = 1.0 + tf.random.stateless_uniform([3], seed, -1.0, 1.0) * (brightness, contrast, saturation)
    brightness, contrast, saturation = tf.unstack(draw)
    luma = tf.constant(LUMA)[:, None]  # [3, 1]
    mean = tf.reduce_mean(tf.reshape(image, [-1, 3]) @ luma)
    matrix = brightness * contrast * (saturation * tf.eye(3) + (1.0 - saturation) * tf.tile(luma, [1, 3]))
    return tf.clip_by_value(image @ matrix + brightness * (1.0 - contrast) * mean, 0.0, 255.0)


def colour_pca(image, seed, deviation=0.1):
    """AlexNet's change of the light's colour and strength (section 4.1): one colour is added to all pixels.

    It is the sum of the principal components of ImageNet's colours, each times its eigenvalue and a Gaussian number of
    deviation 0.1. The eigenvalues are of colours from 0 to 1, so that the first moves 255 levels by some 5.

    Args:
      image: float32 `[H, W, 3]`, 0 to 255; and so is the result.
    """
    strength = tf.random.stateless_normal([3], seed, stddev=deviation) * EIGENVALUES
    colour = 255.0 * tf.linalg.matvec(tf.constant(EIGENVECTORS), strength)
    height, width, _ = tf.unstack(tf.shape(image))
    rows = tf.reshape(image, [height, width * 3]) + tf.tile(colour, [width])  # faster than to add three numbers a pixel
    return tf.reshape(tf.clip_by_value(rows, 0.0, 255.0), tf.shape(image))


def jitter_and_pca(image, seed):
    """The colours of fb.resnet.torch (datasets/imagenet.lua): `jitter_colour` by up to 0.4, then `colour_pca`."""
    return colour_pca(jitter_colour(image, seed, 0.4, 0.4, 0.4), views.another_seed(seed, 1))


def exposure_and_saturation(image, seed):
    """Both times, or divided by, up to 1.5, in HSV: YOLO, arXiv:1506.02640, section 2.2; how, as in its authors' code.

    Args:
      image: float32 `[H, W, 3]`, 0 to 255; and so is the result.
    """
    draw = tf.random.stateless_uniform([2, 2], seed)
    factor = 1.0 + 0.5 * draw[0]
    factor = tf.where(draw[1] < 0.5, factor, 1.0 / factor)
    return tf.image.adjust_saturation(tf.clip_by_value(factor[0] * image, 0.0, 255.0), factor[1])


def rotate(element, degrees, canvas=None, padding=None):
    """An element turned about its centre, counter-clockwise.

    Args:
      element, padding, result: as of `warp`. degrees: number or float32 `[]`.
      canvas: `(height, width)`, in whose centre the image's centre comes to lie, unscaled; by default the image's size.
    """
    pixels = _pixels(element)
    size = tf.shape(pixels)[:2]
    canvas = size if canvas is None else canvas
    middle = tf.cast(size[::-1], tf.float32) / 2.0  # x, y
    other = tf.cast(canvas, tf.float32)[::-1] / 2.0
    # In double precision a right angle is so nearly one that pixels meet pixels exactly.
    angle = tf.cast(degrees, tf.float64) * (math.pi / 180.0)
    cos, sin = tf.cast(tf.cos(angle), tf.float32), tf.cast(tf.sin(angle), tf.float32)

    def turned(points, sin):
        x, y = tf.unstack(points, axis=-1)
        return tf.stack([cos * x + sin * y, cos * y - sin * x], -1)

    field = turned(_centres(canvas) - other, -sin) + middle
    return warp({**element, "image": pixels}, field, lambda points: turned(points - middle, sin) + other, padding)


def elastic(element, seed, cells=3, deviation=10.0, padding=None):
    """U-Net's elastic deformation (arXiv:1505.04597, section 3.1).

    The middles of `cells` x `cells` parts of the image are moved at random, all between by bicubic interpolation.

    Args:
      element, padding, result: as of `warp`.
      deviation: of the Gaussian displacements, in pixels. An image of less than 25 times that (for 3 x 3 cells) may
        be folded over itself.
    """
    pixels = _pixels(element)
    size = tf.shape(pixels)[:2]
    moves = tf.random.stateless_normal([cells, cells, 2], seed, stddev=deviation)
    field = _centres(size) + tf.image.resize(moves, size, "bicubic")
    return warp({**element, "image": pixels}, field, padding=padding)


def elastic_turned(element, seed):
    """`elastic`, after any number of quarter turns: of tissue no side is up. (U-Net, section 3.1: "rotation".)"""
    turns = tf.random.stateless_uniform([], views.another_seed(seed, 1), 0, 4, tf.int32)
    return elastic(rotate(element, 90.0 * tf.cast(turns, tf.float32)), seed)


def warp(element, field, forward=None, padding=None):
    """An element whose every pixel shows another place of the image: pixels bilinear, labels of pixels the nearest.

    Args:
      element: a reader's dict, as of `views.render`; the image may be float32 too.
      field: float32 `[height, width, 2]`: the place (x, y) in the image that a pixel of the canvas shows, in pixels:
        (0.5, 0.5) is the centre of the first.
      forward: function of places in the image, `[..., 2]`, to places on the canvas: the field's inverse. By default it
        is found by iteration, to less than 0.1 pixels where neighbours in a field move by at most half a pixel to or
        from each other.
      padding: the colour beside the image, where the segmentation is 255. By default both go on there mirrored, as in
        U-Net (sections 2 and 3.1). Masks end at the image's border in any case.

    Returns:
      the same keys. image: float32 `[height, width, 3]`. Boxes are those of the moved masks; of an object without a
      mask (or with an empty one), those around its moved box, clipped. Rows of which nothing is left are zeros.
      Keypoints whose place the canvas does not show have visibility 0. Everything else in the element passes through.
    """
    pixels = _pixels(element)
    size = tf.shape(pixels)[:2]
    forward = forward or _inverse(field)
    x, y = tf.unstack(field, axis=-1)
    height, width = tf.unstack(tf.cast(size, tf.float32))
    inside = (x >= 0.0) & (x < width) & (y >= 0.0) & (y < height)
    x, y = _mirrored(x, width), _mirrored(y, height)
    index = _index(x, y, size)
    out = dict(element, image=_bilinear(pixels, x, y))
    if padding is not None:
        out["image"] = tf.where(inside[..., None], out["image"], padding)
    if "segmentation" in element:
        out["segmentation"] = tf.gather(tf.reshape(element["segmentation"], [-1]), index)
        if padding is not None:
            out["segmentation"] = tf.where(inside, out["segmentation"], tf.constant(views.IGNORED, tf.uint8))
    canvas = tf.cast(tf.shape(field)[1::-1], tf.float32)  # x, y
    if "keypoints" in element:
        before, visible = tf.split(element["keypoints"], [2, 1], -1)
        points = forward(before)
        # The last: the inverse of a field that folds may not be found.
        seen = (visible > 0.0) & tf.reduce_all(
            (points >= 0.0) & (points <= canvas) & (tf.abs(_at(field, points) - before) < 1.0), -1, keepdims=True)
        out["keypoints"] = tf.where(seen, tf.concat([points, visible], -1), 0.0)
    if "masks" in element:
        masks = tf.gather(tf.reshape(element["masks"], [-1, size[0] * size[1]]), index, axis=1)
        out["masks"] = tf.where(inside, masks, tf.constant(0, tf.uint8))
    if "boxes" in element:
        outline = forward(_outlines(element["boxes"]))
        boxes = tf.concat([tf.reduce_min(outline, 1), tf.reduce_max(outline, 1)], -1)
        boxes = tf.clip_by_value(boxes, 0.0, tf.tile(canvas, [2]))
        if "masks" in element:
            masked = tf.reduce_any(element["masks"] > 0, (1, 2))
            boxes = tf.where(masked[:, None], _extents(out["masks"]), boxes)
        out["boxes"] = boxes
        stays = tf.reduce_all(boxes[:, 2:] > boxes[:, :2], -1)
        out = views.with_padding(out, stays)
    return out


def mosaic(elements, canvas, seed, scale=(0.5, 1.5), pairs=(), keep="visible"):
    """Four images around a point of one canvas. YOLOv4, arXiv:2004.10934, section 3.3.

    The point lies between 0.2 and 0.8 of the canvas's sides (the authors' code). Each image is shown at the scale at
    which the whole of it would fit the canvas, times a random number of `scale`, but never so small that it would not
    fill its part; which piece, and whether mirrored, is chance. (The paper says nothing of it.)

    Args:
      elements: four readers' dicts, as of `views.render`, with the same keys. canvas: `(height, width)`.
      pairs, keep: as of `views.render`.

    Returns:
      one element: image float32 `[height, width, 3]`; the objects of all, and the segmentation, where the elements have
      them; name and image_id of the first. What else they have is lost.
    """
    height, width = canvas
    draw = tf.random.stateless_uniform([5, 4], seed)
    x, y = tf.unstack(tf.cast(tf.round((0.2 + 0.6 * draw[4, :2]) * (width, height)), tf.int32))
    places = (0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)
    parts = []
    for element, (x1, y1, x2, y2), dice in zip(elements, places, tf.unstack(draw[:4]), strict=True):
        image = images.opened(element["image"], element.get("name", "image"))
        size = tf.cast(image.size, tf.float32)
        sides = tf.stack([y2 - y1, x2 - x1])
        factor = scale[0] + (scale[1] - scale[0]) * dice[0]
        factor = tf.maximum(factor * tf.reduce_min(canvas / size), tf.reduce_max(tf.cast(sides, tf.float32) / size))
        shown = tf.cast(sides, tf.float32)[::-1] / factor  # x, y
        start = dice[1:3] * (size[::-1] - shown)
        window = tf.concat([start, start + shown], 0)
        part = views.render({**element, "image": image}, window, sides, dice[3] < 0.5, pairs, keep)
        parts.append(_shifted(views.without_padding(part) if "labels" in part else part, x1, y1, canvas))
    out = {key: parts[0][key] for key in ("name", "image_id") if key in parts[0]}
    out.update({key: tf.concat([part[key] for part in parts], 0) for key in views.OBJECTS if key in parts[0]})
    for key in {"image", "segmentation"} & parts[0].keys():
        rows = [tf.concat([left[key], right[key]], 1) for left, right in (parts[:2], parts[2:])]
        out[key] = tf.ensure_shape(tf.concat(rows, 0), (*canvas, *parts[0][key].shape[2:]))
    return out


def mixup(images, labels, seed, alpha=0.2):
    """Each image of a batch blended with another of it, and their labels alike. Zhang et al., arXiv:1710.09412.

    Args:
      images: float32 `[B, H, W, 3]`. labels: float32 `[B, K]`, one-hot or smoothed.
      alpha: a pair's share is drawn from Beta(alpha, alpha); the paper has 0.1 to 0.4 on ImageNet.

    Returns:
      images and labels of the same shapes.
    """
    other, share = _partners(images, seed, alpha)
    x = share[:, None, None, None]
    return x * images + (1.0 - x) * tf.gather(images, other), _blended(labels, other, share)


def cutmix(images, labels, seed, alpha=1.0):
    """A rectangle of each image of a batch replaced by another's, labels shared by area. Yun et al., arXiv:1905.04899.

    The rectangle has the image's proportions, an area of one minus a number from Beta(alpha, alpha), and its centre
    anywhere in the image, whose border cuts it off; the labels' shares are those of the pixels there are.

    Args, Returns: as of `mixup`.
    """
    other, share = _partners(images, seed, alpha)
    size = tf.shape(images)[1:3]
    sides = tf.cast(tf.cast(size, tf.float32) * tf.sqrt(1.0 - share)[:, None], tf.int32)  # [B, 2]: height, width
    place = tf.random.stateless_uniform([tf.shape(images)[0], 2], tf.random.fold_in(seed, 3))
    start = tf.cast(place * tf.cast(size, tf.float32), tf.int32) - sides // 2
    start, end = tf.clip_by_value(start, 0, size), tf.clip_by_value(start + sides, 0, size)
    y, x = ((start[:, i, None] <= tf.range(size[i])) & (tf.range(size[i]) < end[:, i, None]) for i in (0, 1))
    rows = tf.reshape(images, [-1, size[0], size[1] * 3])  # faster than a mask that is repeated for three channels
    rows = tf.where(y[:, :, None] & tf.repeat(x, 3, 1)[:, None, :], tf.gather(rows, other), rows)
    share = 1.0 - tf.cast(tf.reduce_prod(end - start, -1), tf.float32) / tf.cast(tf.reduce_prod(size), tf.float32)
    return tf.reshape(rows, tf.shape(images)), _blended(labels, other, share)


def _pixels(element):
    """An element's image, decoded if it is not, float32 `[H, W, 3]`."""
    image = element["image"]
    if not isinstance(image, images.Opened):
        if image.dtype != tf.string:
            return tf.cast(image, tf.float32)
        image = images.opened(image, element.get("name", "image"))
    return tf.cast(images.cut(image, tf.concat([[0, 0], image.size[::-1]], 0)), tf.float32)


def _centres(size):
    """Where the pixels of a canvas have their centres, x and y: `[height, width, 2]`."""
    height, width = tf.unstack(tf.cast(size, tf.int32))
    return tf.stack(tf.meshgrid(*(tf.cast(tf.range(n), tf.float32) + 0.5 for n in (width, height))), -1)


def _mirrored(x, length):
    """Coordinates on a line that goes on mirrored at both ends of 0 to length, again and again, as ones within it."""
    x -= 2.0 * length * tf.floor(x / (2.0 * length))
    return length - tf.abs(x - length)


def _index(x, y, size):
    """The number, row by row, of the image's pixel nearest to a place: int32, of the places' shape."""
    x, y = tf.cast(tf.floor(x), tf.int32), tf.cast(tf.floor(y), tf.int32)
    return tf.clip_by_value(y, 0, size[0] - 1) * size[1] + tf.clip_by_value(x, 0, size[1] - 1)


def _bilinear(values, x, y):
    """Values `[H, W, N]` between the centres of pixels, and beside the image those at its border: `[..., N]`."""
    size, rows = tf.shape(values)[:2], tf.reshape(values, [-1, values.shape[-1]])
    left, top = tf.floor(x - 0.5), tf.floor(y - 0.5)
    a, b, c, d = (tf.gather(rows, _index(left + i, top + j, size)) for j in (0.0, 1.0) for i in (0.0, 1.0))
    x, y = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]
    above, below = a + x * (b - a), c + x * (d - c)
    return above + y * (below - above)


def _at(values, points):
    """Values `[H, W, N]` at points `[..., 2]`."""
    return _bilinear(values, *tf.unstack(points, axis=-1))


def _inverse(field):
    """The function from places in the image to places on the canvas, for a field near the identity."""
    moves = field - _centres(tf.shape(field)[:2])

    def forward(points):
        found = points
        for _ in range(STEPS):
            found = points - _at(moves, found)
        return found

    return forward


def _outlines(boxes):
    """Points around boxes `[G, 4]`: `[G, P, 2]`."""
    part = tf.linspace(0.0, 1.0, OUTLINE)
    x = tf.concat([part, part, tf.zeros_like(part), tf.ones_like(part)], 0)
    y = tf.concat([tf.zeros_like(part), tf.ones_like(part), part, part], 0)
    return boxes[:, None, :2] + tf.stack([x, y], -1) * (boxes[:, None, 2:] - boxes[:, None, :2])


def _extents(masks):
    """The boxes around masks `[G, H, W]`, of zeros around empty ones: float32 `[G, 4]`."""
    def ends(axis):
        there = tf.cast(tf.reduce_any(masks > 0, axis), tf.int32)
        end = tf.shape(there)[1] - tf.argmax(there[:, ::-1], 1, tf.int32)
        return tf.argmax(there, 1, tf.int32), tf.where(tf.reduce_any(there > 0, 1), end, 0)

    (x1, x2), (y1, y2) = ends(1), ends(2)
    return tf.cast(tf.stack([x1, y1, x2, y2], -1), tf.float32)


def _shifted(part, x, y, canvas):
    """A rendered element as a part of a canvas, whose first pixel comes to x, y; its image and segmentation stay."""
    shift = tf.cast(tf.stack([x, y, x, y]), tf.float32)
    out = dict(part)
    if "boxes" in part:
        out["boxes"] = part["boxes"] + shift
    if "keypoints" in part:
        seen = part["keypoints"][..., 2:] > 0.0
        out["keypoints"] = part["keypoints"] + tf.where(seen, tf.concat([shift[:2], [0.0]], 0), 0.0)
    if "masks" in part:
        _, height, width = tf.unstack(tf.shape(part["masks"]))
        margin = [[0, 0], [y, canvas[0] - y - height], [x, canvas[1] - x - width]]
        out["masks"] = tf.ensure_shape(tf.pad(part["masks"], margin), (None, *canvas))
    return out


def _partners(images, seed, alpha):
    """A permutation of a batch, and each image's own share beside its partner's: int32 and float32 `[B]`."""
    count = tf.shape(images)[0]
    other = tf.argsort(tf.random.stateless_uniform([count], seed))
    # A Beta number is X / (X + Y) with X and Y from Gamma(alpha), which is Gamma(alpha + 1) times a uniform number to
    # the power of 1 / alpha: in logarithms, since for a small alpha they are too small for float32.
    logs = tf.math.log(tf.random.stateless_gamma([2, count], tf.random.fold_in(seed, 1), alpha + 1.0))
    logs += tf.math.log(tf.random.stateless_uniform([2, count], tf.random.fold_in(seed, 2))) / alpha
    return other, tf.sigmoid(logs[0] - logs[1])


def _blended(labels, other, share):
    return share[:, None] * labels + (1.0 - share[:, None]) * tf.gather(labels, other)
