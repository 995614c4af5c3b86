"""Persons' crops: pixels and joints go the same way, wherever they are looked at."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_cnns.data import coco, mpii, persons, samples
from keras_cnns.data.samples import Sample
from tests.data.helpers import stopped as refused

NAMES = ("left_eye", "right_eye", "tail")


def picture(joints, height=90, width=120):
    """A black image with a white spot of 5 x 5 pixels around each joint, encoded without loss."""
    image = np.zeros((height, width, 3), "uint8")
    for channel, (x, y) in enumerate(joints):
        image[int(y) - 2:int(y) + 3, int(x) - 2:int(x) + 3, channel] = 255
    return tf.io.encode_png(image).numpy()


def person(joints=((40.5, 30.5), (70.5, 35.5), (60.5, 60.5)), box=(20, 15, 90, 75), **more):
    keypoints = np.array([[(*place, 2) for place in joints]], "float32")
    made = Sample("a", picture(joints), (90, 120), np.array([box], "float32"), np.ones(1, "int32"), np.zeros(1, bool),
                  keypoints=keypoints)._replace(**more)
    return persons.split([made], NAMES)[0][0]


def spots(image):
    """The centre of what is bright in each channel, x and y."""
    y, x = np.mgrid[:image.shape[0], :image.shape[1]] + 0.5
    return [((x * c).sum() / c.sum(), (y * c).sum() / c.sum()) for c in np.moveaxis(np.asarray(image, float), -1, 0)]


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 128)])
def test_joints_lie_where_their_pixels_lie_however_turned_and_mirrored(size):
    sample, turned = person(), set()
    for image, joints in persons.training([sample] * 4, size, 4, 4, seed=3).unbatch():
        bright = spots(image)
        mirrored = bright[0][0] > bright[1][0]  # and what was the left eye is now called the right one
        order = (1, 0, 2) if mirrored else (0, 1, 2)
        np.testing.assert_allclose(joints.numpy()[:, :2], np.array(bright)[list(order)], atol=0.15)
        turned.add((mirrored, round(math.atan2(*(joints[1, 1::-1] - joints[0, 1::-1]).numpy()), 3)))
    assert len(turned) == 16 and {mirrored for mirrored, _ in turned} == {True, False}


def test_an_upright_crop_shows_a_quarter_more_than_the_box_and_joints_come_back():
    sample = person(box=(20, 20, 60, 52))
    np.testing.assert_array_equal(persons.frame(sample, (64, 64)), [40, 36, 50])
    np.testing.assert_array_equal(persons.frame(sample, (64, 32)), [40, 36, 50])
    np.testing.assert_array_equal(persons.frame(sample, (64, 128)), [40, 36, 80])
    sample = person()
    (image, frame), = persons.crops([sample], (64, 96), 2)
    back = persons.in_image(np.array([spots(image[0])], "float32"), np.asarray(frame), (64, 96))
    np.testing.assert_allclose(back, sample.keypoints[..., :2], atol=0.1)


def test_what_a_frame_shows_equals_a_loop():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (9, 12, 3)).astype("float32")
    frame, size, angle = np.array([5.0, 4.0, 14.0], "float32"), (6, 7), math.radians(25)
    found = persons.seen(image, frame, size, 25.0, True).numpy()
    for i, j in np.ndindex(size):
        x, y = -(j + 0.5 - 3.5) * 2, (i + 0.5 - 3) * 2
        x, y = 5 + math.cos(angle) * x - math.sin(angle) * y - 0.5, 4 + math.sin(angle) * x + math.cos(angle) * y - 0.5
        want = np.zeros(3)
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < 9 and 0 <= column < 12:
                    want += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
        np.testing.assert_allclose(found[i, j], want, atol=1e-3)
    np.testing.assert_allclose(persons.seen(np.stack([image, image]), frame, size, 25.0, True)[1], found, atol=1e-3)


def test_a_crop_of_a_part_of_the_image_is_that_of_all_of_it():
    sample = person(box=(30, 20, 60, 50))
    whole = samples.pixels(sample)
    (image, frame), = persons.crops([sample], (64, 64), 1)
    np.testing.assert_allclose(image[0], persons.seen(whole, frame[0], (64, 64)), atol=0.01)


def test_mpiis_own_centre_and_scale_are_the_frame():
    sample = person(details={"center": [[41.0, 31.0]], "scale": [0.3]})
    np.testing.assert_allclose(persons.frame(sample, (64, 64)), [40, 34.5, 75], rtol=1e-6)


@pytest.mark.parametrize("sides, want", [((64, 128), [64, 32, 128]), ((90, 50), [25, 45, 180])])
def test_a_whole_image_is_framed_alike_in_a_graph(sides, want):
    framed = tf.function(lambda sides: persons.whole(sides, (64, 128)))
    np.testing.assert_allclose(framed(tf.constant(sides)), want)
    np.testing.assert_allclose(persons.whole(sides, (64, 128)), want)


def test_a_run_goes_on_where_it_was_and_nothing_is_left_to_other_chance():
    found = [[np.array(part) for part in element]
             for element in persons.training([person(), person(box=(10, 10, 80, 80))], (64, 64), 2, 3, seed=1)]
    again = persons.training([person(), person(box=(10, 10, 80, 80))], (64, 64), 2, 3, seed=1, first_step=1)
    for (image, joints), (image_again, joints_again) in zip(found[1:], again, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(joints, joints_again)
    other = next(iter(persons.training([person()] * 2, (64, 64), 2, 1, seed=2)))
    assert np.abs(other[1] - found[0][1]).max() > 0.5


def test_joints_beside_the_crop_keep_their_label_and_others_have_none():
    sample = person(box=(20, 15, 50, 45))
    sample.keypoints[0, 1] = 0
    _, joints = next(iter(persons.training([sample], (64, 64), 1, 1, seed=0, turn=0.0, zoom=0.0)))
    unlabelled = joints[0].numpy()[joints[0, :, 2] == 0]
    np.testing.assert_array_equal(unlabelled, [[0, 0, 0]])
    assert joints[0, 2, 2] == 2 and joints[0, 2].numpy()[:2].max() > 64


def test_pairs_are_told_by_the_names():
    assert {frozenset(pair) for pair in persons.pairs(mpii.KEYPOINTS)} == set(map(frozenset, mpii.KEYPOINT_PAIRS))
    assert persons.pairs(coco.KEYPOINTS) == coco.KEYPOINT_PAIRS
    assert persons.pairs(("nose", "left_ear", "left_eye", "right_eye")) == ((2, 3),)
    assert persons.pairs(("R-Eye", "ear.l", "L-Eye", "eye right", "Eye Left", "ear.r")) == ((1, 5), (2, 0), (4, 3))
    assert persons.pairs(("tail", "collar", "roof")) == ()


def crowd():
    """Three rows: one person, a crowd, and one without joints."""
    sample = person()
    return sample._replace(
        boxes=sample.boxes.repeat(3, 0), labels=np.ones(3, "int32"), ignored=np.array([False, True, False]),
        keypoints=np.concatenate([sample.keypoints, sample.keypoints, 0 * sample.keypoints]),
        details={"area": [7.0, 8.0, 9.0]})


def test_crowds_and_persons_without_joints_are_left_out():
    found, skipped = persons.split([crowd(), person()], NAMES)
    assert len(found) == 2 and not skipped
    assert found[0].details == {"area": [7.0]} and found[0].keypoints.shape == (1, 3, 3)
    assert found[0].about["joints"] == persons.joints(found) == NAMES


def test_a_joint_far_outside_is_another_images():
    far = person()
    far.keypoints[0, 1] = 500, 20, 2
    refused(lambda: persons.split([far], NAMES), "right_eye at 500, 20 is far outside the image of 120 x 90")
    assert len(persons.split([far, person()], NAMES, "skip")[0]) == 1
    refused(lambda: persons.split([person()], NAMES[:2]), "3 joints, but 2 names")


@pytest.mark.parametrize("sample", [crowd(), person()._replace(about={}), person()._replace(keypoints=None)])
def test_only_persons_samples_are_trained_on(sample):
    refused(lambda: persons.training([sample], (64, 64), 1, 1, 0), "is no person's sample", "data.persons.split")
