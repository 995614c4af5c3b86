"""Chance changes of an image and its boxes, seeded: the same sample at the same place gives the same picture."""

import tensorflow as tf


def flip(element, seed):
    """Mirrors left and right, every second time. `element` has image `[H, W, 3]` and boxes `[G, 4]`.

    Args:
      seed: two whole numbers, as stateless TensorFlow ops take them.
    """
    image, boxes = element["image"], element["boxes"]
    width = tf.cast(tf.shape(image)[1], tf.float32)
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    mirrored = tf.stack([width - x2, y1, width - x1, y2], -1)
    chosen = tf.random.stateless_uniform([], seed) < 0.5
    return {**element, "image": tf.where(chosen, image[:, ::-1], image), "boxes": tf.where(chosen, mirrored, boxes)}
