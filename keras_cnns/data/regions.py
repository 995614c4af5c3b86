"""Regions of images to batches of a network that sees one at a time: R-CNN's fine-tuning."""

import numpy as np
import tensorflow as tf

from keras_cnns.data import batches, images, views
from keras_cnns.data import samples as data_samples


def warped(samples, chosen, size, context, padding, batch, first_step, steps):
    """Batches of warped regions, cut out as `layers.RoIWarp` does, but out of the image before it is letterboxed.

    Args:
      chosen: function of a step, a whole number, to numbers of samples `[batch]`, regions `[batch, 4]` in pixels of
        these, whether they are mirrored `[batch]`, and labels `[batch]`, NumPy.
      size, context: as of `RoIWarp`. padding: the colour beside the image. steps: all of them, from the first on.

    Returns:
      `tf.data.Dataset` of (pixels `[batch, size, size, 3]`, {"cls": labels `[batch]`}).
    """
    read = data_samples.reader([data_samples.Sample(s.image_id, s.source) for s in samples])

    def of_step(step):
        index, regions, mirrored, labels = chosen(int(step))
        middle, half = (regions[:, :2] + regions[:, 2:]) / 2, (regions[:, 2:] - regions[:, :2]) / 2
        half = half * (size / (size - 2 * context))
        windows = np.concatenate([np.floor(middle - half + 0.5), np.floor(middle + half + 0.5)], 1)
        windows[:, 2:] = np.maximum(windows[:, 2:], windows[:, :2] + 1)
        return np.int64(index), np.float32(windows), np.bool_(mirrored), np.int32(labels)

    def rows(step):
        found = tf.numpy_function(of_step, [step], (tf.int64, tf.float32, tf.bool, tf.int32))
        shapes = ([batch], [batch, 4], [batch], [batch])
        return tf.data.Dataset.from_tensor_slices(tuple(map(tf.ensure_shape, found, shapes)))

    def cut(index, window, mirrored, label):
        element = read(index)
        image = images.opened(element["image"], element["name"])
        return views.look({"image": image}, window, (size, size), mirrored, padding)[0]["image"], {"cls": label}

    found = tf.data.Dataset.range(first_step, steps).flat_map(rows).map(cut, tf.data.AUTOTUNE, deterministic=True)
    return batches.one_thread_an_op(found.batch(batch, drop_remainder=True).prefetch(2))
