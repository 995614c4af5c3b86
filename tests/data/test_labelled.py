import numpy as np
import pytest
import tensorflow as tf

from keras_cnns.data import augment, images, labelled, views
from keras_cnns.data.samples import Sample


def sample(height, width, seed=0, **told):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")
    return Sample(str(seed), tf.io.encode_png(image).numpy(), (height, width), **(told or {"label": seed})), image


def test_a_digit_lies_in_black_in_training_as_in_testing():
    digit, image = sample(28, 28)
    digit = digit._replace(source=tf.io.encode_png(image[..., :1]).numpy())  # grey
    (seen, label), = labelled.training([digit], (32, 32, 1), 1, 1, seed=0)
    assert seen.shape == (1, 32, 32, 1) and label.numpy() == [0]
    want = np.pad(image[..., 0], 2).astype("float32")
    np.testing.assert_allclose(seen[0, ..., 0], want, atol=1e-3)
    asked, = labelled.views_of([digit], (32, 32, 1), 1)
    np.testing.assert_allclose(asked[0, 0, ..., 0], want, atol=1e-3)


def test_a_larger_image_of_a_small_network_is_seen_whole_and_in_luma():
    big, image = sample(64, 96)
    (seen, _), = labelled.training([big], (32, 32, 1), 1, 1, seed=0)
    asked, = labelled.views_of([big], (32, 32, 1), 1)
    np.testing.assert_allclose(seen[0], asked[0, 0], atol=0.01)
    np.testing.assert_allclose(np.mean(seen), (image @ augment.LUMA).mean(), atol=5)


def test_a_run_begun_in_the_middle_sees_what_it_would_have_seen():
    arguments = [sample(60, 90, i)[0] for i in range(5)], (120, 100, 3), 2, 2, 3
    shown = list(labelled.training(*arguments, view=views.inception, colour=augment.colour_pca))
    assert len(shown) == 4 and shown[0][0].shape == (2, 120, 100, 3)
    again = list(labelled.training(*arguments, first_step=3, view=views.inception, colour=augment.colour_pca))
    np.testing.assert_array_equal(shown[3][0], again[0][0])
    np.testing.assert_array_equal(shown[3][1], again[0][1])


def test_several_labels_come_as_they_are():
    told = np.array([1, 0, -1], "int32")
    (_, present), = labelled.training([sample(20, 20, present=told)[0]], (16, 16, 3), 1, 1, 0)
    np.testing.assert_array_equal(present, [told])


def test_one_view_is_what_is_served_and_ten_are_crops_of_the_middle():
    found = [sample(*size, i) for i, size in enumerate([(256, 300), (400, 256), (256, 256)])]
    asked = np.concatenate(list(labelled.views_of([s for s, _ in found], (224, 224, 3), 2)))
    for view, (_, image) in zip(asked[:, 0], found, strict=True):
        np.testing.assert_allclose(view, images.central(image, (224, 224, 3)), atol=1e-3)
    ten = np.concatenate(list(labelled.views_of([s for s, _ in found], (224, 224, 3), 2, count=10)))
    assert ten.shape == (3, 10, 224, 224, 3)
    for crops, (_, image) in zip(ten, found):
        y0, x0 = ((side - 256) // 2 for side in image.shape[:2])
        for crop, (y, x) in zip(crops, ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))):
            np.testing.assert_allclose(crop, image[y0 + y:y0 + y + 224, x0 + x:x0 + x + 224], atol=1e-3)
        np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])


@pytest.mark.parametrize("size", [(28, 28), (40, 60)])
def test_ten_views_of_a_small_network(size):
    asked, = labelled.views_of([sample(*size)[0]], (32, 32, 3), 4, count=10)
    assert asked.shape == (1, 10, 32, 32, 3) and np.isfinite(asked).all()
