"""Images and their classes for a classifier: to train on, and to be asked about as they are served."""

import tensorflow as tf

from keras_cnns.data import batches, images, views
from keras_cnns.data import samples as data_samples


def training(samples, shape, batch, epochs, seed, first_step=0, view=views.plain, colour=None):
    """The training input of a classifier, from any step on: `batches.training` with less in it.

    Where the network's input is below 100 pixels, an image no larger than that is framed in black, not enlarged, and
    only then seen by the view: LeNet-5's 32 x 32 for digits of 28 x 28 (section II.B).

    Args:
      samples: `data.samples.Sample`s, all with `label` or all with `present`.
      shape: `(height, width, channels)` of the network's input; one channel sees the luma.
      The others as of `batches.training`.

    Returns:
      `tf.data.Dataset` of (image `[batch, H, W, C]` float32, 0 to 255; label `[batch]` or present `[batch, K]`, int32).
    """
    target = "present" if samples and samples[0].present is not None else "label"

    def pair(elements, seed):
        return _channels(elements["image"], shape), elements[target]

    items = batches.places(len(samples), batch, epochs, seed, first_step)
    read = data_samples.reader(samples, 1)
    return batches.batched(items, lambda i: _framed(read(i), shape), shape[:2], batch, seed, view, colour, mix=pair)


def views_of(samples, shape, batch, count=1, resize=None):
    """Every sample once, in order, as a trained classifier is shown it.

    Args:
      shape: as of `training`.
      count: of views of each image: 1, `images.central`; or 10, AlexNet's (section 4.1), `views.five_crops` and the
        same mirrored.
      resize: of one view: the middle as `images.resized_middle` has it, in place of `images.central`.

    Returns:
      `tf.data.Dataset` of float32 `[B, count, H, W, C]`, 0 to 255; the last batch may be short.
    """
    def one(i):
        image = data_samples.decoded(read(i))["image"]
        return (images.resized_middle(image, shape, resize) if resize else images.central(image, shape))[None]

    def ten(i):
        element = _framed(read(i), shape)
        image = images.opened(element["image"], element["name"])
        windows = tf.unstack(views.five_crops(image.size, shape[:2]))
        crops = tf.stack([views.look({"image": image}, window, shape[:2])[0]["image"] for window in windows])
        return _channels(tf.concat([crops, crops[:, :, ::-1]], 0), shape)

    read = data_samples.reader(samples)
    elements = tf.data.Dataset.range(len(samples)).map(one if count == 1 else ten, tf.data.AUTOTUNE, deterministic=True)
    return batches.one_thread_an_op(elements.batch(batch).prefetch(2))


def _framed(element, shape):
    """The element; of a small network, with its image decoded and, if it is no larger than the input, on black."""
    if min(shape[:2]) >= 100:
        return element
    image = data_samples.decoded(element)["image"]
    framed = tf.cond(tf.reduce_all(tf.shape(image)[:2] <= shape[:2]),
                     lambda: tf.cast(images.central(image, (*shape[:2], 3)), tf.uint8), lambda: image)
    return {**element, "image": framed}


def _channels(image, shape):
    return images.grey(image) if shape[-1] == 1 else image
