"""Samples to batches of a detector's input: to train on, from any step on, and to be looked at."""

import numpy as np
import tensorflow as tf

from keras_cnns.data import augment, images
from keras_cnns.data import samples as data_samples


def steps_per_epoch(samples, batch):
    """Whole batches in one pass, at least one: no batch is ever short, so no replica is ever empty."""
    return max(len(samples) // batch, 1)


def training(samples, image_size, batch, epochs, seed, first_step=0):
    """The training input of a detector, from any step on.

    Every epoch is a new order of the samples, every place in it a new chance of augmentation; both follow from
    `seed` alone, so a run that starts again at `first_step` sees just what it would have seen.

    Returns:
      `tf.data.Dataset` of dicts: image `[batch, H, W, 3]` float32; boxes `[batch, G, 4]` in its pixels; labels
      `[batch, G]` int32, 0 in rows of padding, -1 where ground truth is to be ignored. G is the same throughout.
    """
    used = steps_per_epoch(samples, batch) * batch
    order = np.concatenate([np.resize(np.random.default_rng([seed, epoch]).permutation(len(samples)), used)
                            for epoch in range(epochs)])
    place = np.arange(first_step * batch, len(order))
    rows = max([1, *(len(s.boxes) for s in samples)])

    def prepare(element, place):
        element = augment.flip(element, tf.stack([tf.constant(seed, tf.int64), place]))
        image, scale = images.letterbox(element["image"], image_size)
        boxes = element["boxes"] * tf.tile(scale, [2])
        labels = tf.where(element["ignored"], -1, element["labels"])
        padding = [[0, rows - tf.shape(boxes)[0]]]
        return {"image": image, "boxes": tf.ensure_shape(tf.pad(boxes, [*padding, [0, 0]]), [rows, 4]),
                "labels": tf.ensure_shape(tf.pad(labels, padding), [rows])}

    elements = tf.data.Dataset.zip(data_samples.dataset(samples, order[place]),
                                   tf.data.Dataset.from_tensor_slices(place))
    return elements.map(prepare, tf.data.AUTOTUNE, deterministic=True).batch(batch, drop_remainder=True).prefetch(2)


def canvases(samples, image_size, batch):
    """Every sample once, in order, letterboxed.

    Returns:
      `tf.data.Dataset` of (canvas `[B, H, W, 3]` float32; scale `(x, y)`, canvas pixels to an image pixel, `[B, 2]`;
      width and height of the images, `[B, 2]` float32); the last batch may be short.
    """
    def prepare(element):
        image, scale = images.letterbox(element["image"], image_size)
        return image, scale, tf.cast(tf.shape(element["image"])[:2][::-1], tf.float32)

    return data_samples.dataset(samples).map(prepare, tf.data.AUTOTUNE, deterministic=True).batch(batch).prefetch(2)
