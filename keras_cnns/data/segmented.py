"""Images and the labels of their pixels for a segmenter: to train on, and how it is shown a whole image.

A network may answer for less than it is shown: one without padding, as U-Net (arXiv:1505.04597, section 2), for the
middle, `size` of `shape`. Beside its border an image goes on mirrored then, the pixels at the border twice.
"""

import math

import numpy as np
import tensorflow as tf

from keras_cnns.data import batches, images, views
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError

IGNORED = views.IGNORED
STRIDE = 32  # pixels: the coarsest grid of any network, to which tiles keep, so that they are pooled like the whole
FAR = 6  # sigmas, beyond which no cell adds to a weight: less than 2e-8 of the largest


def training(samples, shape, size, batch, epochs, seed, first_step=0, view=views.letterboxed_or_mirrored, colour=None,
             change=None, border=(), classes=IGNORED):
    """The training input of a segmenter, from any step on: `batches.training` with less in it.

    Args:
      samples: `data.samples.Sample`s, all with `segmentation`.
      shape: `(height, width, channels)` of the network's input; one channel sees the luma. size: `(height, width)` of
        its answer.
      border: `(w0, sigma)` of `border_weights`, or () for none.
      classes: that the network knows; a label above them ends the training, saying so.
      The others as of `batches.training`.

    Returns:
      `tf.data.Dataset` of (image `[batch, *shape]` float32, 0 to 255; labels `[batch, *size]` uint8, or, with border
      weights, `[batch, *size, 2]` float32: label, weight).
    """
    top, left, bottom, right = _margins(shape, size)

    def pair(elements, seed):
        image = images.of_channels(elements["image"], shape[-1])
        labels = elements["segmentation"][:, top:top + size[0], left:left + size[1]]
        labels = tf.ensure_shape(labels, (batch, *size))
        known = tf.reduce_all((labels < classes) | (labels == IGNORED))
        wrong = f"A label above {classes - 1}: the network knows {classes}, counted from 0; give data of its classes."
        with tf.control_dependencies([tf.debugging.Assert(known, [wrong])]):
            labels = tf.identity(labels)
        if border:
            weights = tf.numpy_function(
                lambda labels: np.stack([border_weights(each, *border) for each in labels]), [labels], tf.float32)
            labels = tf.stack([tf.cast(labels, tf.float32), tf.ensure_shape(weights, labels.shape)], -1)
        return tf.ensure_shape(image, (batch, *shape)), labels

    def framed(item):
        element = read(item)
        if not (top or left or bottom or right):
            return element
        image = data_samples.decoded(element)["image"]
        sides = tf.shape(image)[:2]
        rows = _mirrored(tf.range(-top, sides[0] + bottom), sides[0])
        columns = _mirrored(tf.range(-left, sides[1] + right), sides[1])
        return {**element, **{key: tf.gather(tf.gather(values, rows), columns, axis=1)
                              for key, values in (("image", image), ("segmentation", element["segmentation"]))}}

    items = batches.places(len(samples), batch, epochs, seed, first_step)
    read = data_samples.reader(alone(samples), 1)
    return batches.batched(items, framed, shape[:2], batch, seed, view, colour, change, mix=pair)


def alone(samples):
    """The samples without all that is not of their pixels."""
    return [sample._replace(boxes=data_samples.NO_BOXES, labels=data_samples.NO_LABELS, ignored=data_samples.NO_FLAGS,
                            details={}, masks=None, keypoints=None, label=None, present=None, proposals=None)
            for sample in samples]


def drawn(sample):
    """A sample whose `segmentation` is made of its objects' masks; pixels of several classes, and of what is ignored,
    count neither way.

    Raises:
      InputError: it has no masks.
    """
    if sample.masks is None:
        raise InputError(f"{sample.name}: has neither labels of pixels nor masks; name data that have them, such as "
                         "voc:PATH, camvid:PATH or coco:PATH.")
    masks = data_samples.masks(sample)
    labels = np.zeros(masks.shape[1:], "uint8")
    for mask, label, ignored in zip(masks, sample.labels, sample.ignored):
        there = mask > 0
        others = there & (labels > 0) & (labels != label)
        labels[there] = IGNORED if ignored else label
        labels[others] = IGNORED
    return sample._replace(segmentation=data_samples.LabelImage(tf.io.encode_png(labels[..., None]).numpy()))


def border_weights(labels, w0=10.0, sigma=5.0):
    """U-Net's weights of pixels (arXiv:1505.04597, eq. 2): `[H, W]` whole numbers -> `[H, W]` float32.

    Those that make the classes of the image weigh alike, their mean 1; and on the background between cells
    `w0 * exp(-(d1 + d2)**2 / (2 * sigma**2))` more, of the distances, in pixels, to the nearest cell and the second
    nearest. A cell is what is connected (by four neighbours) of one class. Where labels are 255 the weight is 0.

    Raises:
      InputError: SciPy is not installed.
    """
    try:
        from scipy import ndimage
    except ImportError:
        raise InputError('Border weights are computed with SciPy: pip install "keras_cnns[segmentation]"') from None
    labels = np.asarray(labels)
    found, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    known = found != IGNORED
    balance = np.where(known, counts[known].sum() / (max(known.sum(), 1) * counts), 0.0)
    weights = balance[inverse].reshape(labels.shape)
    nearest, second = (np.full(labels.shape, np.inf) for _ in range(2))
    reach = math.ceil(FAR * sigma)
    for label in found[known & (found > 0)]:
        cells, _ = ndimage.label(labels == label)
        for i, place in enumerate(ndimage.find_objects(cells), 1):
            near = tuple(slice(max(part.start - reach, 0), part.stop + reach) for part in place)
            distance = ndimage.distance_transform_edt(cells[near] != i)
            second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
            nearest[near] = np.minimum(nearest[near], distance)
    return (weights + w0 * np.exp(-(nearest + second)**2 / (2 * sigma**2)) * (labels == 0)).astype("float32")


def whole(answer, image, shape, size):
    """What a network of fixed size says of images of any size, at their size.

    A network that answers for all it is shown sees them letterboxed, and its answer is enlarged again, bilinearly. One
    that answers for the middle sees them unscaled, in tiles (`tiled`).

    Args:
      answer: function of canvases, float32 `[B, *shape]`, to `[B, *size, K]`.
      image: `[B, H, W, C]`, any number type, 0 to 255, of 3 channels or those of `shape`.

    Returns:
      float32 `[B, H, W, K]`.
    """
    if tuple(size) != tuple(shape[:2]):
        return tiled(answer, images.of_channels(tf.cast(image, tf.float32), shape[-1]), shape, size)
    sides = tf.shape(image)[1:3]
    shown, scale = canvas(image, shape)
    inner = tf.cast(tf.round(tf.cast(sides, tf.float32) * scale[::-1]), tf.int32)
    return tf.image.resize(tf.convert_to_tensor(answer(shown))[:, :inner[0], :inner[1]], sides)


def canvas(image, shape):
    """Images `[..., H, W, C]` letterboxed: float32 `[..., *shape]`, and their scale as `images.letterbox` gives it."""
    shown, scale = images.letterbox(images.of_channels(tf.cast(image, tf.float32), 3), shape[:2])
    return images.of_channels(shown, shape[-1]), scale


def middle(image, shape):
    """The middle of images `[..., H, W, C]` as they are, going on mirrored where it is larger: `[..., *shape]`, which
    is what `tiled` shows of it at once."""
    image = images.of_channels(tf.cast(image, tf.float32), shape[-1])
    for axis, side in zip((-3, -2), shape):
        length = tf.shape(image)[axis]
        image = tf.gather(image, _mirrored((length - side) // 2 + tf.range(side), length), axis=axis)
    return image


def tiled(answer, image, shape, size):
    """The same, in tiles of the network's size, side by side, as `training.tiles` has them; all of it in a graph.

    Args:
      image: float32 `[B, H, W, C]` of the channels of `shape`.
    """
    steps = [step(side) for side in size]
    sides = tf.shape(image)[1:3]
    counts = -(-sides // steps)

    def index(axis, margin):  # [tiles, pixels of one]
        start = tf.range(counts[axis])[:, None] * steps[axis] - margin
        return _mirrored(start + tf.range(shape[axis]), sides[axis])

    rows, columns = (index(axis, margin) for axis, margin in enumerate(_margins(shape, size)[:2]))

    def one(tile):
        cut = tf.gather(tf.gather(image, rows[tile // counts[1]], axis=1), columns[tile % counts[1]], axis=2)
        return tf.convert_to_tensor(answer(tf.ensure_shape(cut, (None, *shape))))[:, :steps[0], :steps[1]]

    found = tf.map_fn(one, tf.range(counts[0] * counts[1]),
                      fn_output_signature=tf.TensorSpec([None, *steps, None]))  # [tiles, B, h, w, K]
    found = tf.reshape(found, tf.concat([counts, tf.shape(found)[1:]], 0))
    found = tf.transpose(found, (2, 0, 3, 1, 4, 5))  # [B, rows, h, columns, w, K]
    found = tf.reshape(found, tf.concat([tf.shape(image)[:1], counts * steps, tf.shape(found)[-1:]], 0))
    return found[:, :sides[0], :sides[1]]


def step(side):
    """Pixels from tile to tile, of an answer of `side` pixels."""
    return side // STRIDE * STRIDE or side


def _margins(shape, size):
    """What a network is shown beside what it answers for: pixels above, left, below, right."""
    top, left = ((seen - told) // 2 for seen, told in zip(shape, size))
    return top, left, shape[0] - size[0] - top, shape[1] - size[1] - left


def _mirrored(index, length):
    """Places on a line that goes on mirrored at both ends of 0...length-1, as ones within it, int32."""
    index = index % (2 * length)
    return tf.minimum(index, 2 * length - 1 - index)
