"""Detectors: samples to batches of network input, a run of training, and answers in pixels of the image."""

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from keras_cnns.data import augment, images
from keras_cnns.data import samples as data_samples


def steps_per_epoch(samples, batch):
    """Whole batches in one pass, at least one: no batch is ever short, so no replica is ever empty."""
    return max(len(samples) // batch, 1)


def batches(samples, image_size, batch, epochs, seed, first_step=0):
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


def detect(detector, samples, batch=8, progress=True):
    """A detector's answers for each sample, in pixels of its own image; what lies in the margin beside it is dropped.

    Returns:
      a list of dicts, boxes `[N, 4]`, scores `[N]`, labels `[N]`, NumPy, in the order of the samples.
    """
    size = detector.input_shape[1:3]

    def prepare(element):
        image, scale = images.letterbox(element["image"], size)
        return image, scale, tf.cast(tf.shape(element["image"])[:2][::-1], tf.float32)

    found = []
    elements = data_samples.dataset(samples).map(prepare, tf.data.AUTOTUNE).batch(batch).prefetch(2)
    for image, scale, side in rich.progress.track(
            elements, "Detecting", total=-(-len(samples) // batch), transient=True, disable=not progress,
            console=rich.console.Console(stderr=True)):
        answer = detector.predict_on_batch(image)
        for i, n in enumerate(answer["count"]):
            boxes = np.minimum(answer["boxes"][i, :n] / np.tile(scale[i], 2), np.tile(side[i], 2))
            real = (boxes[:, 2:] - boxes[:, :2]).min(1) >= 1  # pixel
            found.append({"boxes": boxes[real], "scores": answer["scores"][i, :n][real],
                          "labels": answer["labels"][i, :n][real]})
    return found


def truth(samples):
    """The ground truth of samples as the metrics take it."""
    return [{"boxes": s.boxes, "labels": s.labels, "ignored": s.ignored} for s in samples]
