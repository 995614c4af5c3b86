"""Persons one at a time, as networks of single poses look at them: upright in the middle of a crop.

A crop's frame is `(x, y, width)`: its centre and its width in pixels of the image; it has the canvas's proportions, and
what of it lies beside the image is black. It is a quarter wider than the person (`MARGIN`), as in the authors' code of
arXiv:1603.06937, which MPII's own centre and scale are meant for: 250 pixels at scale 1, its centre 15 pixels lower.
"""

import re

import numpy as np
import tensorflow as tf

from keras_cnns.data import batches, images, mpii, views
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError

MARGIN = 1.25
LOWER = 15  # pixels at MPII's scale 1
SIDES = {"left": "right", "l": "r"}
JOINTS = "joints"  # under which `about` has their names


def split(samples, names, on_bad_sample="stop"):
    """A sample for each person with a labelled joint, of one row; those of an image keep its id and their order.

    Crowds and persons without joints are left out.

    Args:
      samples: with keypoints `[G, J, 3]`. names: of the J joints, which `about["joints"]` of the new ones has.
      on_bad_sample: at a joint that lies further beside the image than that is wide, or high, and so must be another
        image's, "stop" or "skip".

    Returns:
      `(persons, skipped)`: and one line on each person skipped.

    Raises:
      InputError: a bad joint, or names of another number.
    """
    read = data_samples.attempt(_person)
    return data_samples.sift(
        (read(sample, i, names) for sample in samples for i in range(len(sample.labels))
         if sample.keypoints[i, :, 2].any() and not sample.ignored[i]), on_bad_sample)


def _person(sample, i, names):
    if sample.keypoints.shape[1] != len(names):
        raise InputError(f"{sample.name}: {sample.keypoints.shape[1]} joints, but {len(names)} names; give one a "
                         "joint.")
    size = np.array(sample.size[::-1], float)
    for name, (*place, visible) in zip(names, sample.keypoints[i]):
        if visible and size.all() and not ((-size < place) & (place < 2 * size)).all():
            raise InputError(f"{sample.name}: {name} at {place[0]:g}, {place[1]:g} is far outside the image of "
                             f"{sample.size[1]} x {sample.size[0]} pixels; {data_samples.REMEDY}")
    row = slice(i, i + 1)
    return sample._replace(
        boxes=sample.boxes[row], labels=sample.labels[row], ignored=sample.ignored[row],
        keypoints=sample.keypoints[row], details={key: values[row] for key, values in sample.details.items()},
        masks=None, segmentation=None, about={**sample.about, JOINTS: tuple(names)})


def joints(samples):
    """The names of the joints of samples that `split` has made.

    Raises:
      InputError: others.
    """
    for sample in samples:
        if sample.keypoints is None or len(sample.keypoints) != 1 or JOINTS not in sample.about:
            raise InputError(f"{sample.name}: is no person's sample; make them with data.persons.split, or read the "
                             "data with data.named.keypoints.")
    return samples[0].about[JOINTS]


def pairs(names):
    """The joints that change names in the mirror, ((left, right), ...): those whose names differ in the word left or
    right, or the letter l or r between other signs than letters: left_eye, L-eye, eye.l."""
    words = [tuple(re.split("([a-z]+)", name.lower())) for name in names]
    others = [tuple(SIDES.get(word, word) for word in each) for each in words]
    return tuple((i, words.index(other)) for i, other in enumerate(others) if other != words[i] and other in words)


def frame(sample, size):
    """Where to look for a sample's person: float32 `[3]`, see above. Without a box that is the whole image.

    Args:
      size: `(height, width)` of the canvas.
    """
    if not len(sample.boxes):
        known = sample.size if all(sample.size) else images.upright_size(sample.source, sample.name)
        return np.array(whole(known, size))
    if {"center", "scale"} <= sample.details.keys():  # MPII's, counted from 1
        (x, y), scale = sample.details["center"][0], sample.details["scale"][0]
        center, sides = (x - 1, y - 1 + LOWER * scale), (mpii.UNIT * scale,) * 2
    else:
        x1, y1, x2, y2 = sample.boxes[0]
        center, sides = ((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1)
    return np.array([*center, MARGIN * max(sides[0], sides[1] * size[1] / size[0])], "float32")


def whole(image_size, size):
    """The frame of a whole image, without a margin, both sizes being `(height, width)`: float32 `[3]`."""
    sides = tf.cast(image_size, tf.float32)
    # Not a stack of three numbers, of which TensorFlow's optimiser halves the last, too.
    return tf.concat([tf.reverse(sides, [0]) / 2, [tf.reduce_max(sides * [size[1] / size[0], 1.0])]], 0)


def seen(image, frame, size, degrees=0.0, mirrored=False, corner=(0.0, 0.0)):
    """What a frame shows: pixels `[H, W, C]` or `[B, H, W, C]` to float32 `[height, width, C]`, or a batch of them.

    Bilinear, black beside the image.

    Args:
      degrees: by which the person is turned in its frame, counter-clockwise.
      mirrored: bool, left to right, after that.
      corner: (x, y) of the image at which the given pixels begin.
    """
    matrix = _to_image(frame, size, degrees, mirrored)
    shift = frame[:2] - corner - tf.linalg.matvec(matrix, [size[1] / 2 - 0.5, size[0] / 2 - 0.5]) - 0.5
    transform = tf.concat([matrix[0], shift[:1], matrix[1], shift[1:], [0.0, 0.0]], 0)
    image = tf.cast(image, tf.float32)
    canvas = tf.raw_ops.ImageProjectiveTransformV3(
        images=image if image.shape.rank == 4 else image[None], transforms=transform[None],
        output_shape=tf.constant(size, tf.int32), fill_value=0.0, interpolation="BILINEAR", fill_mode="CONSTANT")
    return tf.ensure_shape(canvas if image.shape.rank == 4 else canvas[0], (*image.shape[:-3], *size, image.shape[-1]))


def _to_image(frame, size, degrees, mirrored):
    """From steps on the canvas to steps in the image: `[2, 2]`."""
    angle = tf.cast(degrees, tf.float32) * (np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    turn = tf.stack([tf.stack([cos, -sin]), tf.stack([sin, cos])])
    return turn * (frame[2] / size[1]) * tf.where(mirrored, [-1.0, 1.0], [1.0, 1.0])


def training(samples, size, batch, epochs, seed, first_step=0, turn=30.0, zoom=0.25, colour=None):
    """The training input of a network of poses, from any step on: `batches.training` with other views.

    A person is turned by up to `turn` degrees, its frame's width changed by up to the share `zoom`, both uniformly
    (the paper gives the ranges; the authors' code has normal distributions, cut off at twice these numbers, and turns
    two of five), and mirrored every second time, if `pairs` are known: else left and right would be one.

    Args:
      samples: as of `split`. size: `(height, width)` of the canvas. The others as of `batches.training`.

    Returns:
      `tf.data.Dataset` of (image `[batch, height, width, 3]` float32, 0 to 255; joints `[batch, J, 3]` float32: x, y in
      its pixels, also of those beside it, and 0 where not labelled).

    Raises:
      InputError: others than persons' samples.
    """
    names = joints(samples)
    order, sides = np.arange(len(names)), pairs(names)
    for left, right in sides:
        order[[left, right]] = right, left
    frames = tf.constant(np.stack([frame(sample, size) for sample in samples]), tf.float32)
    read = data_samples.reader(samples, 1)

    def prepare(i, place):
        element, chance = read(i), tf.stack([tf.constant(seed, tf.int64), place])
        draw = tf.random.stateless_uniform([2], chance, -1.0, 1.0)
        mirrored, degrees = bool(sides) & views.coin(views.another_seed(chance, 1)), turn * draw[0]
        about = tf.gather(frames, i) * tf.stack([1.0, 1.0, 1.0 + zoom * draw[1]])
        image = images.opened(element["image"], element["name"])
        pixels, corner = _around(image, about, size)
        if colour:
            pixels = colour(tf.cast(pixels, tf.float32), views.another_seed(chance, 9))
        back = tf.linalg.inv(_to_image(about, size, degrees, mirrored))
        places, visible = tf.split(element["keypoints"][0], [2, 1], -1)
        places = tf.linalg.matvec(back, places - about[:2]) + [size[1] / 2, size[0] / 2]
        rows = tf.where(visible > 0, tf.concat([places, visible], -1), 0.0)
        rows = tf.where(mirrored, tf.gather(rows, order), rows)
        return seen(pixels, about, size, degrees, mirrored, corner), rows

    items = batches.places(len(samples), batch, epochs, seed, first_step)
    elements = items.map(prepare, tf.data.AUTOTUNE, deterministic=True).batch(batch, drop_remainder=True)
    return batches.one_thread_an_op(elements.prefetch(2))


def crops(samples, size, batch):
    """Every sample once, in order, upright in its frame.

    Returns:
      `tf.data.Dataset` of (image `[B, height, width, 3]` float32; frame `[B, 3]`); the last batch may be short.
    """
    frames = tf.constant(np.stack([frame(sample, size) for sample in samples]), tf.float32)
    read = data_samples.reader([sample._replace(keypoints=None) for sample in samples])

    def prepare(i):
        element, about = read(i), tf.gather(frames, i)
        pixels, corner = _around(images.opened(element["image"], element["name"]), about, size)
        return seen(pixels, about, size, corner=corner), about

    elements = tf.data.Dataset.range(len(samples)).map(prepare, tf.data.AUTOTUNE, deterministic=True)
    return batches.one_thread_an_op(elements.batch(batch).prefetch(2))


def _around(image, frame, size):
    """Of an `images.Opened` no more than a frame can show, however turned, and where that begins: (x, y)."""
    reach = frame[2] * (0.5 * np.hypot(1.0, size[0] / size[1])) + 1.0
    sides = tf.cast(image.size[::-1], tf.float32)
    start = tf.clip_by_value(tf.floor(frame[:2] - reach), 0.0, sides - 1.0)
    end = tf.clip_by_value(tf.math.ceil(frame[:2] + reach), start + 1.0, sides)
    return images.cut(image, tf.cast(tf.concat([start, end], 0), tf.int32)), start


def in_image(keypoints, frame, size):
    """Joints `[..., J, 2 or more]` from a canvas to its image: x and y back by a frame `[..., 3]`; NumPy or tensors."""
    scale = frame[..., None, 2:] / size[1]
    return (keypoints[..., :2] - np.array([size[1] / 2, size[0] / 2], "float32")) * scale + frame[..., None, :2]
