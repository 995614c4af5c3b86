"""Images to a network's size, in TensorFlow ops: the same in the pipeline and in a SavedModel."""

import tensorflow as tf

# What networks trained on ImageNet normalise to 0, RGB, 0 to 255.
PADDING = (123.675, 116.28, 103.53)


def letterbox(image, size):
    """Scales an image, its proportions kept, into the top left corner of a canvas of the mean colour.

    Args:
      image: `[H, W, 3]` or `[B, H, W, 3]`, any number type, 0 to 255.
      size: `(height, width)` of the canvas.

    Returns:
      the canvas, float32 `[height, width, 3]` or `[B, height, width, 3]`, and the scale `(x, y)`, float32 `[2]`:
      canvas pixels to an image pixel, so that boxes go over by `boxes * [x, y, x, y]`.
    """
    canvas_size, size = size, tf.constant(size, tf.int32)
    given = tf.cast(tf.shape(image)[-3:-1], tf.float32)
    factor = tf.reduce_min(tf.cast(size, tf.float32) / given)
    inner = tf.clip_by_value(tf.cast(tf.round(given * factor), tf.int32), 1, size)
    image = tf.image.resize(image, inner) - PADDING
    margin = [[0, 0]] * (image.shape.rank - 3) + [[0, size[0] - inner[0]], [0, size[1] - inner[1]], [0, 0]]
    canvas = tf.pad(image, margin) + PADDING
    canvas = tf.ensure_shape(canvas, (*image.shape[:-3], *canvas_size, 3))
    return canvas, (tf.cast(inner, tf.float32) / given)[::-1]
