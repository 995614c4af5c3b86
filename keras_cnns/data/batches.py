"""Samples to batches of a network's input: to train on, from any step on, and to be looked at."""

import numpy as np
import tensorflow as tf

from keras_cnns.data import images
from keras_cnns.data import samples as data_samples
from keras_cnns.data import views

OBJECTS = {"boxes": 0.0, "labels": 0, "masks": 0, "keypoints": 0.0}  # an object a row, and what padding rows hold


def steps_per_epoch(samples, batch, worker=0, workers=1, remainder="drop"):
    """Batches in one pass of one worker, at least one, the same for every worker.

    No batch is ever short, so no replica is ever empty: a remainder is dropped, or filled up ("pad") from the
    beginning of the epoch.
    """
    share = len(samples) // workers
    return max(-(-share // batch) if remainder == "pad" else share // batch, 1)


def order(count, batch, epochs, seed, worker=0, workers=1, remainder="drop"):
    """Which samples a worker sees, epoch after epoch: indices `[epochs, steps * batch]`.

    Every epoch is a new order of all, of which worker w takes every `workers`-th from the w-th on: the workers' parts
    have none in common, and together are the epoch (less a remainder of fewer than `workers`).
    """
    used = steps_per_epoch(range(count), batch, worker, workers, remainder) * batch
    rows = []
    for epoch in range(epochs):
        permutation = np.random.default_rng([seed, epoch]).permutation(count)
        mine = permutation[:max(count // workers, 1) * workers][worker::workers]
        rows.append(np.resize(mine if len(mine) else permutation, used))
    return np.array(rows)


def training(samples, image_size, batch, epochs, seed, first_step=0, view=None, colour=None, pairs=(), keep="visible",
             worker=0, workers=1, remainder="drop"):
    """The training input of a network, from any step on.

    Every epoch is a new order of the samples, every place in it a new chance of augmentation; both follow from
    `seed` alone, so a run that starts again at `first_step` sees just what it would have seen, on any number of threads.

    Args:
      samples: `data.samples.Sample`s. image_size: (height, width).
      view: function of (size `[2]`, boxes `[G, 4]`, seed) to a window `[4]` and whether it is mirrored, as of
        `views.render`; by default `letterbox_or_mirror`.
      colour: function of (image `[H, W, 3]` float32, 0 to 255, seed) to the same, such as those of `augment`.
      pairs, keep: as of `views.render`.
      worker, workers, remainder: as of `order`.

    Returns:
      `tf.data.Dataset` of dicts: image `[batch, H, W, 3]` float32; boxes `[batch, G, 4]` in its pixels; labels
      `[batch, G]` int32, 0 in rows of padding, -1 where ground truth is to be ignored; G is the same throughout. And,
      where the samples have them, masks `[batch, G, H, W]`, keypoints `[batch, G, J, 3]`, segmentation
      `[batch, H, W]`, label `[batch]`, present `[batch, K]`.
    """
    places = order(len(samples), batch, epochs, seed, worker, workers, remainder).reshape(-1)
    numbers = np.arange(len(places))[first_step * batch:]
    elements = tf.data.Dataset.zip(data_samples.encoded(samples, places[first_step * batch:]),
                                   tf.data.Dataset.from_tensor_slices(numbers * workers + worker))
    rows = max([1, *(len(s.boxes) for s in samples)])
    return batched(elements, image_size, batch, seed, rows, view, colour, pairs, keep)


def batched(elements, image_size, batch, seed, rows, view=None, colour=None, pairs=(), keep="visible"):
    """Batches of rendered elements; arguments and elements as of `training`.

    Args:
      elements: `tf.data.Dataset` of (element as of `samples.encoded`, place int64 `[]`: what its chance follows from).
      rows: objects an image, padded or cut to so many.
    """
    view = view or letterbox_or_mirror(image_size)

    def prepare(element, place):
        chance = tf.stack([tf.constant(seed, tf.int64), place])
        image = images.opened(element["image"], element["name"])
        window, mirrored = view(tf.cast(image.size, tf.float32), element["boxes"], chance)
        element = views.render({**element, "image": image}, window, image_size, mirrored, pairs, keep)
        if colour:
            element["image"] = colour(element["image"], chance + [1, 0])
        element["labels"] = tf.where(element.pop("ignored"), -1, element["labels"])
        for key, value in OBJECTS.items():
            if key in element:
                shape = [rows, *element[key].shape[1:]]
                kept = element[key][:rows]
                padding = [[0, rows - tf.shape(kept)[0]]] + [[0, 0]] * (len(shape) - 1)
                element[key] = tf.ensure_shape(tf.pad(kept, padding, constant_values=value), shape)
        return {key: value for key, value in element.items() if key not in ("name", "image_id")}

    batches = elements.map(prepare, tf.data.AUTOTUNE, deterministic=True).batch(batch, drop_remainder=True).prefetch(2)
    return one_thread_an_op(batches)


def letterbox_or_mirror(image_size):
    """The view of a detector's training: letterboxed, mirrored every second time."""
    return lambda size, boxes, seed: (views.letterbox(size, image_size), views.coin(seed))


def one_thread_an_op(elements):
    """The same elements; parallel are the images, not the parts of one image, which on all cores is faster."""
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    return elements.with_options(options)


def canvases(samples, image_size, batch):
    """Every sample once, in order, letterboxed.

    Returns:
      `tf.data.Dataset` of (canvas `[B, H, W, 3]` float32; scale `(x, y)`, canvas pixels to an image pixel, `[B, 2]`;
      width and height of the images, `[B, 2]` float32); the last batch may be short.
    """
    def prepare(element):
        image, scale = images.letterbox(element["image"], image_size)
        return image, scale, tf.cast(tf.shape(element["image"])[:2][::-1], tf.float32)

    elements = data_samples.dataset(samples).map(prepare, tf.data.AUTOTUNE, deterministic=True)
    return one_thread_an_op(elements.batch(batch).prefetch(2))
