import numpy as np
import pytest
import tensorflow as tf

from keras_cnns.data import images


@pytest.mark.parametrize("height, width", [(50, 100), (100, 50), (300, 200), (7, 500), (96, 128)])
def test_letterbox_keeps_proportions_in_the_top_left_corner(height, width):
    canvas, scale = images.letterbox(np.full((height, width, 3), 10, "uint8"), (96, 128))
    canvas, (x, y) = canvas.numpy(), scale.numpy()
    inner = max(round(height * min(96 / height, 128 / width)), 1), max(round(width * min(96 / height, 128 / width)), 1)
    assert canvas.shape == (96, 128, 3)
    np.testing.assert_allclose(canvas[:inner[0], :inner[1]], 10, atol=1e-3)
    np.testing.assert_allclose(canvas[inner[0]:], np.broadcast_to(images.PADDING, canvas[inner[0]:].shape), rtol=1e-5)
    np.testing.assert_allclose((x * width, y * height), inner[::-1], rtol=1e-5)


def test_a_batch_is_letterboxed_like_its_images():
    batch = np.random.default_rng(0).uniform(0, 255, (3, 40, 70, 3)).astype("float32")
    together, _ = images.letterbox(batch, (64, 64))
    for image, want in zip(batch, together):
        np.testing.assert_allclose(images.letterbox(image, (64, 64))[0], want, atol=1e-4)


def test_letterbox_has_a_static_shape_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def graph(image):
        canvas, _ = images.letterbox(image, (32, 48))
        assert canvas.shape == (32, 48, 3)
        return canvas

    graph(np.zeros((5, 6, 3), "uint8"))
