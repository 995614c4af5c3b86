import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from keras_cnns.data import augment, views

SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
COLOURS = np.array([[40, 40, 40], [230, 30, 30], [30, 200, 40], [40, 60, 240], [240, 220, 30], [220, 40, 220],
                    [30, 220, 220]], "float32")  # of the background and the labels 1 to 6
PHOTO = tf.random.Generator.from_seed(1).uniform([40, 60, 3], 0, 255)


def scene(height, width, seed=0, kinds=("rectangle", "ellipse")):
    """A reader's element: six objects apart from each other, each of one colour, its first joint in its middle."""
    dice = np.random.default_rng(seed)
    numbers = np.zeros((height, width), "uint8")
    y, x = np.mgrid[:height, :width] + 0.5
    points = np.zeros((6, 2, 3), "float32")
    for i in range(6):
        cell = np.array([width / 3, height / 2])
        half = cell * dice.uniform(0.15, 0.4, 2)
        middle = cell * (i % 3, i // 3) + dice.uniform(half, cell - half)
        u, v = (x - middle[0]) / half[0], (y - middle[1]) / half[1]
        there = np.maximum(abs(u), abs(v)) < 1 if dice.choice(kinds) == "rectangle" else u**2 + v**2 < 1
        numbers[there] = i + 1
        points[i, 0] = *middle, 2
    masks = numbers == np.arange(1, 7)[:, None, None]
    boxes = np.array([extents(mask) for mask in masks], "float32")
    return {key: tf.constant(value) for key, value in {
        "image": COLOURS[numbers].astype("uint8"), "boxes": boxes, "labels": np.arange(1, 7, dtype="int32"),
        "ignored": np.zeros(6, bool), "masks": masks.astype("uint8"), "keypoints": points, "segmentation": numbers,
        "name": "scene", "image_id": "1"}.items()}


def coordinates(height, width):
    """A picture whose colours tell what place a pixel shows: red is x, green is y."""
    y, x = np.mgrid[:height, :width] + 0.5
    return tf.constant(np.stack([x, y, 0 * x], -1), tf.float32)


def extents(mask):
    """The box around what a mask has."""
    y, x = np.nonzero(mask)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def numpy(element):
    return {key: value.numpy() for key, value in element.items()}


def check_alignment(element, tolerance, blur=2):
    """Boxes, masks, segmentation and first joints tell of the same objects as the image's colours; returns them."""
    out = numpy(element)
    found = out["labels"] > 0
    for label, box, mask, points in zip(*(out[key][found] for key in ("labels", "boxes", "masks", "keypoints"))):
        inner = scipy.ndimage.binary_erosion(mask, iterations=blur)
        np.testing.assert_allclose(out["image"][inner], np.broadcast_to(COLOURS[label], (inner.sum(), 3)), atol=1)
        assert (out["segmentation"][mask > 0] == label).all()
        if mask.any():
            np.testing.assert_allclose(box, extents(mask), atol=tolerance)
        if points[0, 2]:
            near = scipy.ndimage.binary_dilation(mask, iterations=2)
            assert near[int(points[0, 1]), int(points[0, 0])]
    return {**out, **{key: out[key][found] for key in ("labels", "boxes", "masks", "keypoints")}}


def many(function, count, calls=2):
    """What a pipeline makes of the seeds (7, 0), (7, 1), ..., on so many threads."""
    seeds = tf.data.Dataset.from_tensor_slices(tf.constant([[7, i] for i in range(count)], tf.int64))
    return list(seeds.map(function, calls).as_numpy_iterator())


@pytest.mark.parametrize("function", [
    lambda seed: augment.photometric(PHOTO, seed),
    lambda seed: augment.jitter_colour(PHOTO, seed),
    lambda seed: augment.colour_pca(PHOTO, seed),
    lambda seed: augment.exposure_and_saturation(PHOTO, seed),
    lambda seed: augment.elastic({"image": PHOTO}, seed)["image"],
    lambda seed: augment.elastic_turned({"image": PHOTO}, seed)["image"],
    lambda seed: augment.mosaic([scene(40, 60, i) for i in range(4)], (48, 64), seed)["image"],
    lambda seed: augment.mixup(tf.stack([PHOTO, 255 - PHOTO, PHOTO / 2]), tf.eye(3), seed)[1],
    lambda seed: augment.cutmix(tf.stack([PHOTO, 255 - PHOTO, PHOTO / 2]), tf.eye(3), seed)[1],
], ids=["photometric", "jitter_colour", "colour_pca", "yolo", "elastic", "turned", "mosaic", "mixup", "cutmix"])
def test_a_seed_decides_alone_on_any_number_of_threads(function):
    one, eight = many(function, 12, 1), many(function, 12, 8)
    for a, b in zip(one, eight, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({a.tobytes() for a in one}) > 6  # SSD leaves one image in sixteen as it is, mixtures may pair with self
    np.testing.assert_allclose(function([7, 3]), one[3], atol=1e-3)  # outside a pipeline too, but for the order of sums


@pytest.mark.parametrize("function", [augment.photometric, augment.jitter_colour, augment.colour_pca,
                                      augment.exposure_and_saturation])
def test_colours_stay_in_range(function):
    for changed in many(lambda seed: function(PHOTO, seed), 50):
        assert changed.shape == PHOTO.shape and changed.dtype == np.float32
        assert changed.min() >= 0 and changed.max() <= 255


def test_each_of_ssds_distortions_comes_every_second_time_and_within_its_range():
    # A colour far from black, white and grey, of which the hue tells of hue, the saturation of saturation and
    # brightness, the value of brightness and contrast.
    image = tf.constant([[[100.0, 120.0, 80.0]]])
    hue, saturation, value = np.moveaxis(np.array(many(
        lambda seed: tf.image.rgb_to_hsv(augment.photometric(image, seed) / 255)[0, 0], 2000)), -1, 0)
    turned = np.abs((hue - 0.25 + 0.5) % 1 - 0.5)
    assert abs((turned > 1e-4).mean() - 0.5) < 0.05 and 0.095 < turned.max() <= 0.1001
    value *= 255
    assert abs((abs(value - 120) < 1e-3).mean() - 0.25) < 0.05  # neither brightness nor contrast
    assert 88 * 0.5 <= value.min() < 52 and 215 < value.max() <= 152 * 1.5
    brightness_only = value - 120  # where contrast happens to be 1 it is within 32
    assert abs((abs(brightness_only) < 32.01).mean() - 0.66) < 0.1
    assert saturation.min() < 1 / 3 * 0.5 and saturation.max() > 1 / 3 * 1.5
    assert abs((abs(saturation - 1 / 3) < 1e-4).mean() - 0.25) < 0.05  # neither saturation nor brightness


def test_yolos_exposure_and_saturation_are_times_or_divided_by_up_to_one_and_a_half():
    image = tf.constant([[[80.0, 120.0, 100.0]]])  # hue 150 degrees, saturation 1/3
    hue, saturation, value = np.moveaxis(np.array(many(
        lambda seed: tf.image.rgb_to_hsv(augment.exposure_and_saturation(image, seed) / 255)[0, 0], 1000)), -1, 0)
    np.testing.assert_allclose(hue, 150 / 360, atol=1e-3)
    for factors in (saturation * 3, value * 255 / 120):
        assert 1 / 1.5 - 1e-3 <= factors.min() < 0.68 and 1.48 < factors.max() <= 1.501
        assert abs((factors < 1).mean() - 0.5) < 0.06


def test_photometric_is_the_authors_steps_one_after_another():
    for found, dice in many(
            lambda seed: (augment.photometric(PHOTO, seed), tf.random.stateless_uniform([2, 5], seed)), 60):
        (b, c, s, h, _), (vb, vc, vs, vh, order) = dice
        want = PHOTO.numpy()
        if b < 0.5:
            want = np.clip(want + 64 * vb - 32, 0, 255)
        contrast = c < 0.5
        if contrast and order < 0.5:
            want = np.clip(want * (0.5 + vc), 0, 255)
        hsv = tf.image.rgb_to_hsv(want).numpy()
        if s < 0.5:
            hsv[..., 1] = np.minimum(hsv[..., 1] * (0.5 + vs), 1)
        if h < 0.5:
            hsv[..., 0] = (hsv[..., 0] + (36 * 2 * vh - 36) / 360) % 1
        want = tf.image.hsv_to_rgb(hsv).numpy()
        if contrast and order >= 0.5:
            want = np.clip(want * (0.5 + vc), 0, 255)
        np.testing.assert_allclose(found, want, atol=0.02)


def test_jitter_is_pillows_enhancement_in_any_order():
    image = np.random.default_rng(0).integers(90, 150, (30, 50, 3), "uint8")  # nothing that is clipped on the way
    for i in range(20):
        draw = 1 + tf.random.stateless_uniform([3], (4, i), -1.0, 1.0).numpy() * 0.3
        steps = list(zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), map(float, draw)))
        want = Image.fromarray(image)
        for j in np.random.default_rng(i).permutation(3):
            want = steps[j][0](want).enhance(steps[j][1])
        found = augment.jitter_colour(tf.constant(image, tf.float32), (4, i), 0.3, 0.3, 0.3)
        np.testing.assert_allclose(found, np.asarray(want), atol=4)  # Pillow cuts off after every step


def test_jitter_of_nothing_changes_nothing():
    np.testing.assert_allclose(augment.jitter_colour(PHOTO, (1, 2), 0, 0, 0), PHOTO, atol=1e-3)


def test_colour_pca_adds_one_colour_of_imagenets_covariance():
    grey = tf.fill([2, 3, 3], 128.0)
    changes = np.array(many(lambda seed: augment.colour_pca(grey, seed) - grey, 2000))
    assert (np.ptp(changes, axis=(1, 2)) == 0).all()
    colours = changes[:, 0, 0] / 255
    vectors = np.array(augment.EIGENVECTORS)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)  # the numbers are a rotation
    want = vectors @ np.diag(np.square(np.array(augment.EIGENVALUES) * 0.1)) @ vectors.T
    np.testing.assert_allclose(np.cov(colours.T), want, atol=0.08 * want.max())
    assert abs(colours.mean(0)).max() < 1e-3


def test_a_right_angle_moves_pixels_to_pixels():
    element = scene(50, 80)
    for turns in range(-4, 5):
        canvas = (80, 50) if turns % 2 else (50, 80)
        out = numpy(augment.rotate(element, 90 * turns, canvas))
        np.testing.assert_array_equal(out["image"], np.rot90(element["image"], turns).astype("float32"))
        np.testing.assert_array_equal(out["segmentation"], np.rot90(element["segmentation"], turns))
        np.testing.assert_array_equal(out["masks"], np.rot90(element["masks"], turns, (1, 2)))
        np.testing.assert_array_equal(out["boxes"], [extents(mask) for mask in out["masks"]])
        check_alignment(augment.rotate(element, 90 * turns, canvas), 0)


@given(st.floats(-400, 400, width=32), st.integers(0, 99), st.sampled_from([None, (60, 60), (90, 130), (30, 50)]))
@settings(max_examples=15, deadline=None)
def test_objects_turn_with_the_image(degrees, number, canvas):
    element = scene(50, 80, number)
    out = check_alignment(augment.rotate(element, degrees, canvas), 0)
    assert set(out["labels"]) <= set(range(1, 7))
    without_masks = {key: value for key, value in element.items() if key != "masks"}
    hulls = numpy(augment.rotate(without_masks, degrees, canvas))
    for label, box in zip(out["labels"], out["boxes"]):
        hull = hulls["boxes"][hulls["labels"] == label][0]
        assert (hull[:2] <= box[:2] + 1).all() and (hull[2:] >= box[2:] - 1).all()


@given(st.floats(-180, 180, width=32))
@settings(max_examples=15, deadline=None)
def test_turning_back_gives_the_middle_back(degrees):
    image = tf.image.resize(tf.random.stateless_uniform([6, 8, 3], (0, 1), 0, 255), (60, 90), "bicubic")
    points = tf.constant([[[45.0, 30.0, 2.0], [20.0, 25.0, 1.0], [0.0, 0.0, 0.0]]])
    there = augment.rotate({"image": image, "keypoints": points}, degrees, (110, 110))
    back = augment.rotate(there, -degrees, (60, 90))
    np.testing.assert_allclose(back["image"][2:-2, 2:-2], image[2:-2, 2:-2], atol=8)
    np.testing.assert_allclose(back["keypoints"], points, atol=1e-3)


def test_rotation_is_scipys_about_the_middle_counter_clockwise():
    image = PHOTO.numpy()
    want = scipy.ndimage.rotate(image, 30, reshape=False, order=1, mode="reflect")
    np.testing.assert_allclose(augment.rotate({"image": PHOTO}, 30)["image"], want, atol=0.05)


def test_a_warp_is_scipys_and_keras_bilinear_lookup_mirrored_at_the_border():
    image, element = PHOTO.numpy(), {"image": PHOTO, "segmentation": tf.cast(PHOTO[..., 0], tf.uint8)}
    x, y = np.random.default_rng(2).uniform((-59, -39), (119, 79), (30, 20, 2)).T.astype("float32")
    found = numpy(augment.warp(element, tf.stack([x, y], -1)))
    for channel in range(3):
        want = scipy.ndimage.map_coordinates(image[..., channel], [y - 0.5, x - 0.5], order=1, mode="reflect")
        np.testing.assert_allclose(found["image"][..., channel], want, atol=0.02)
        keras_says = keras.ops.image.map_coordinates(image[..., channel], np.stack([y, x]) - 0.5, 1, "nearest")
        inside = (x > 0) & (x < 60) & (y > 0) & (y < 40)
        np.testing.assert_allclose(found["image"][..., channel][inside], np.array(keras_says)[inside], atol=0.02)
    nearest = scipy.ndimage.map_coordinates(element["segmentation"].numpy(), [y - 0.5, x - 0.5], order=0,
                                            mode="reflect")
    np.testing.assert_array_equal(found["segmentation"], nearest)


def test_beside_the_image_is_the_padding_that_was_asked_for():
    element = scene(40, 60)
    out = numpy(augment.rotate(element, 45, (80, 80), padding=(1.0, 2.0, 3.0)))
    np.testing.assert_array_equal(out["image"][0, 0], [1, 2, 3])
    assert out["segmentation"][0, 0] == views.IGNORED
    mirrored = numpy(augment.rotate(element, 45, (80, 80)))
    assert mirrored["segmentation"].max() <= 6
    for both in (out, mirrored):  # an object's image in the mirror is no part of it
        np.testing.assert_array_equal(both["masks"], out["masks"])
        assert not both["masks"][:, 0, 0].any()


def test_objects_bend_with_the_image():
    for seed in range(4):
        element = scene(120, 170, seed)
        out = check_alignment(augment.elastic(element, (seed, 1), deviation=5.0), 0)
        without_masks = {key: value for key, value in element.items() if key != "masks"}
        hulls = numpy(augment.elastic(without_masks, (seed, 1), deviation=5.0))
        for label, box in zip(out["labels"], out["boxes"]):
            hull = hulls["boxes"][hulls["labels"] == label][0]
            assert (hull[:2] <= box[:2] + 2).all() and (hull[2:] >= box[2:] - 2).all()


def test_of_a_filled_rectangle_the_bent_box_is_the_bent_masks():
    element = scene(200, 270, 3, ["rectangle"])
    without_masks = {key: value for key, value in element.items() if key != "masks"}
    for i in range(3):
        np.testing.assert_allclose(augment.elastic(without_masks, (i, 0), deviation=7.0)["boxes"],
                                   augment.elastic(element, (i, 0), deviation=7.0)["boxes"], atol=2)


def test_bent_keypoints_are_where_the_image_shows_their_place():
    height, width = 200, 270
    places = np.random.default_rng(0).uniform((30, 30), (width - 30, height - 30), (40, 2)).astype("float32")
    element = {"image": coordinates(height, width),
               "keypoints": tf.constant(np.concatenate([places, np.full((40, 1), 2)], 1)[None], tf.float32)}
    for out in many(lambda seed: augment.elastic(element, seed, deviation=6.0), 8):
        x, y, visible = out["keypoints"][0].T
        assert (visible == 2).mean() > 0.95
        inside = (visible > 0) & (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        for k in (0, 1):
            shows = scipy.ndimage.map_coordinates(out["image"][..., k], [y - 0.5, x - 0.5], order=1)
            np.testing.assert_allclose(shows[inside], places[inside, k], atol=0.1)


def test_a_drawn_dot_moves_with_its_keypoint():
    y, x = np.mgrid[:200, :300] + 0.5
    image = 255 * np.exp(-((x - 130.3)**2 + (y - 80.6)**2) / 18)
    element = {"image": tf.constant(np.repeat(image[..., None], 3, 2), tf.float32),
               "keypoints": tf.constant([[[130.3, 80.6, 2.0]]])}
    for out in (augment.rotate(element, 33.0), augment.rotate(element, -120, (250, 260)),
                *(augment.elastic(element, (i, 1), deviation=6.0) for i in range(4))):
        out = numpy(out)
        weight = out["image"][..., 0]
        y, x = np.mgrid[:weight.shape[0], :weight.shape[1]] + 0.5
        middle = (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()
        np.testing.assert_allclose(out["keypoints"][0, 0, :2], middle, atol=0.6)


def test_a_field_that_folds_loses_keypoints_rather_than_misplacing_them():
    height, width = 60, 90
    image = coordinates(height, width)
    places = np.random.default_rng(0).uniform((0, 0), (width, height), (200, 2))
    points = tf.constant(np.concatenate([places, np.full((200, 1), 2)], 1)[None], tf.float32)
    out = numpy(augment.elastic({"image": image, "keypoints": points}, (1, 1)))  # 10 pixels, neighbours 20 apart
    seen = out["keypoints"][0, :, 2] > 0
    assert 20 < seen.sum() < 200
    for place, (px, py, _) in zip(places[seen], out["keypoints"][0][seen]):
        assert np.abs(out["image"][int(py), int(px), :2] - place).max() < 12  # a fold is steep


def test_elastic_displacements_are_gaussian_and_as_smooth_as_bicubic():
    height, width = 90, 120
    image = coordinates(height, width)
    shows = np.array(many(lambda seed: augment.elastic({"image": image}, seed, deviation=2.0)["image"], 300))
    moves = (shows[..., :2] - image.numpy()[..., :2])[:, 8:-8, 8:-8]  # where no border is near
    middles = moves[:, 45 - 8, [20 - 8, 60 - 8, 100 - 8]]  # of the cells in the middle row
    np.testing.assert_allclose(middles.std(0), 2.0, rtol=0.15)
    assert abs(middles.mean(0)).max() < 0.4
    assert abs(np.diff(moves, 2, axis=2)).max() < 0.1  # no corners: linear interpolation would make some of 0.3
    again = augment.elastic({"image": image}, (0, 0), deviation=0.0)["image"]
    np.testing.assert_allclose(again, image, atol=1e-3)


def test_tissue_is_turned_any_way_and_then_bent():
    image, found = coordinates(60, 60), []
    turned = [augment.rotate({"image": image}, 90.0 * turns)["image"] for turns in range(4)]
    for i in range(24):
        shows = augment.elastic_turned({"image": image}, (i, 5))["image"].numpy()
        same = [np.allclose(shows, augment.elastic({"image": one}, (i, 5))["image"], atol=1e-3) for one in turned]
        assert sum(same) == 1
        found.append(same.index(True))
    assert set(found) == {0, 1, 2, 3}


def test_objects_turned_off_the_canvas_are_no_more():
    element = {"image": tf.zeros([40, 80, 3], tf.uint8), "boxes": tf.constant([[0.0, 15, 5, 25], [35, 15, 45, 25]]),
               "labels": tf.constant([1, 2]), "ignored": tf.constant([True, False]),
               "keypoints": tf.constant([[[2.0, 20, 2]], [[40, 20, 2]]])}
    out = numpy(augment.rotate(element, 90))
    real = out["labels"] > 0
    assert out["labels"][real].tolist() == [2] and out["ignored"][real].tolist() == [False]
    np.testing.assert_allclose(out["boxes"][real], [[35, 15, 45, 25]], atol=1e-4)
    np.testing.assert_allclose(out["keypoints"][real], [[[40, 20, 2]]], atol=1e-4)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 7), (30, 40)])
def test_images_without_objects_and_of_a_pixel_are_moved_too(height, width):
    element = {"image": tf.fill([height, width, 3], tf.constant(9, tf.uint8)), "boxes": tf.zeros([0, 4]),
               "labels": tf.zeros([0], tf.int32), "ignored": tf.zeros([0], tf.bool),
               "masks": tf.zeros([0, height, width], tf.uint8), "keypoints": tf.zeros([0, 5, 3]),
               "segmentation": tf.zeros([height, width], tf.uint8)}
    for out in (augment.rotate(element, 20.0), augment.elastic(element, (1, 2)),
                augment.mosaic([element] * 4, (16, 20), (1, 2))):
        out = numpy(out)
        np.testing.assert_allclose(out["image"], 9, atol=1e-4)
        assert out["boxes"].shape == (0, 4) and out["keypoints"].shape == (0, 5, 3)
        assert out["masks"].shape == (0, *out["image"].shape[:2]) and not out["segmentation"].any()


def test_an_encoded_image_is_turned_like_its_pixels():
    element = scene(50, 80)
    encoded = {**element, "image": tf.io.encode_png(element["image"])}
    want = augment.rotate(element, 30)
    for out in tf.data.Dataset.from_tensors(encoded).map(lambda element: augment.rotate(element, 30)):
        for key in element.keys() - {"name", "image_id"}:
            np.testing.assert_allclose(out[key], want[key], atol=1e-3)


def test_an_empty_mask_leaves_its_object_the_hull_of_its_box():
    element = scene(50, 80)
    bare = {**element, "masks": element["masks"] * tf.constant([0, 1, 1, 1, 1, 1], tf.uint8)[:, None, None]}
    hulls = numpy(augment.rotate({k: v for k, v in element.items() if k != "masks"}, 20, (100, 100)))["boxes"]
    boxes = numpy(augment.rotate(bare, 20, (100, 100)))["boxes"]
    np.testing.assert_array_equal(boxes[0], hulls[0])
    np.testing.assert_array_equal(boxes[1:], numpy(augment.rotate(element, 20, (100, 100)))["boxes"][1:])


def test_a_mosaic_keeps_objects_aligned():
    sizes = [(60, 90), (90, 60), (40, 200), (120, 80)]
    elements = [tf.data.Dataset.from_tensors(scene(*size, i, ["rectangle"])) for i, size in enumerate(sizes)]
    seeds = tf.data.Dataset.range(12)
    mosaics = tf.data.Dataset.zip(seeds, *(each.repeat() for each in elements)).map(
        lambda i, *four: augment.mosaic(four, (120, 170), tf.stack([i, i])))
    assert mosaics.element_spec["image"].shape == (120, 170, 3)
    assert mosaics.element_spec["masks"].shape[1:] == (120, 170)
    for out in mosaics:
        found = check_alignment(out, 2.5, blur=4)  # the smallest are enlarged three times
        assert len(found["labels"]) > 0
        assert (found["segmentation"] <= 6).all()  # no padding anywhere


def test_the_four_meet_between_a_fifth_and_four_fifths():
    plain = [{"image": tf.fill([30, 50, 3], tf.constant(colour, tf.uint8))} for colour in (50, 100, 150, 200)]
    meetings = []
    for image in many(lambda seed: tf.round(augment.mosaic(plain, (100, 150), seed)["image"])[..., 0], 60):
        y, x = (image[:, 0] == 50).sum(), (image[0] == 50).sum()
        want = np.block([[np.full((y, x), 50), np.full((y, 150 - x), 100)],
                         [np.full((100 - y, x), 150), np.full((100 - y, 150 - x), 200)]])
        np.testing.assert_array_equal(image, want)
        meetings.append((y / 100, x / 150))
    assert 0.19 < np.min(meetings) < 0.3 and 0.7 < np.max(meetings) < 0.81


def test_a_mosaics_keypoints_change_names_where_it_is_mirrored():
    y, x = np.mgrid[:60, :90] + 0.5
    image = tf.constant(np.repeat((x * 2)[..., None], 3, 2), tf.uint8)  # brighter to the right
    element = {"image": image, "boxes": tf.constant([[0.0, 0, 90, 60]]), "labels": tf.constant([1]),
               "keypoints": tf.constant([[[20.0, 30, 2], [70, 30, 2]]])}  # the left hand, the right
    mirrored = []
    for i in range(8):
        out = numpy(augment.mosaic([element] * 4, (200, 300), (i, 0), pairs=[(0, 1)]))
        for (left, right), box in zip(out["keypoints"], out["boxes"]):
            if left[2] and right[2]:
                assert left[0] < right[0]
                shown = out["image"][int(left[1]), [int(left[0]), int(right[0])], 0]
                mirrored.append(shown[0] > shown[1])
                np.testing.assert_allclose(sorted(shown), [40, 140], atol=8)
    assert 0 < np.mean(mirrored) < 1


def batch_of(count, seed=0):
    dice = np.random.default_rng(seed)
    return dice.uniform(0, 255, (count, 10, 14, 3)).astype("float32"), np.eye(count, dtype="float32")


@given(SEEDS, st.integers(1, 9), st.floats(0.05, 4))
@settings(max_examples=25, deadline=None)
def test_mixup_is_kerass_with_the_same_partners_and_shares(seed, count, alpha):
    images, labels = batch_of(count)
    mixed, shares = (x.numpy() for x in augment.mixup(images, labels, seed, alpha))
    # With one label an image the mixed labels tell partner and share: a row has its own share, the other its rest.
    own = np.diag(shares)
    rest = shares * (1 - np.eye(count))
    partner = np.where(rest.any(1), rest.argmax(1), np.arange(count))
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    layer = keras.layers.MixUp(alpha)
    same = {"mix_weight": own, "permutation_order": partner}
    np.testing.assert_allclose(mixed, layer.transform_images(images, same), atol=0.01)
    np.testing.assert_allclose(shares, layer.transform_labels(labels, same), atol=1e-5)
    other = [j for i, j in enumerate(partner) if i != j]
    assert len(set(other)) == len(other)  # a permutation: nobody is taken twice


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixups_shares_are_of_the_beta_distribution(alpha):
    images, labels = np.zeros((2, 1, 1, 3), "float32"), np.eye(2, dtype="float32")
    first = np.array(many(lambda seed: augment.mixup(images, labels, seed, alpha)[1][0, 0], 1500))
    share = first[first < 1]  # an image beside itself tells nothing
    assert abs(len(share) / 1500 - 0.5) < 0.06
    assert abs(share.mean() - 0.5) < 0.05 and abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.02


def test_a_tiny_alpha_is_still_a_share():
    images, labels = batch_of(64)
    mixed, shares = augment.mixup(images, labels, (1, 2), 1e-4)
    assert np.isfinite(mixed).all()
    assert ((shares.numpy() < 1e-3) | (shares.numpy() > 0.999)).all()


@given(SEEDS, st.integers(1, 9), st.sampled_from([0.3, 1.0, 2.0]))
@settings(max_examples=25, deadline=None)
def test_cutmix_is_kerass_with_the_same_partners_and_rectangles(seed, count, alpha):
    images, labels = batch_of(count)
    mixed, shares = (x.numpy() for x in augment.cutmix(images, labels, seed, alpha))
    partner = np.zeros(count, int)
    for i in range(count):
        foreign = (mixed[i] != images[i]).any(-1)
        partner[i] = i
        if foreign.any():
            x1, y1, x2, y2 = extents(foreign)
            assert foreign.sum() == (x2 - x1) * (y2 - y1)  # one rectangle
            source = [j for j in range(count) if (images[j][foreign] == mixed[i][foreign]).all()]
            assert len(source) == 1
            partner[i] = source[0]
            np.testing.assert_allclose(shares[i, i], 1 - foreign.mean(), atol=1e-6)  # its own share is its pixels'
    masks = np.repeat((mixed != images).any(-1, keepdims=True), 3, -1)
    same = {"batch_masks": masks, "mix_weight": np.diag(shares), "permutation_order": partner}
    layer = keras.layers.CutMix()
    np.testing.assert_array_equal(mixed, layer.transform_images(images, same))
    np.testing.assert_allclose(shares, layer.transform_labels(labels, same), atol=1e-6)


def test_cutmixs_rectangles_have_the_images_proportions_and_reach_its_borders():
    images = np.stack([np.zeros((60, 90, 3)), np.ones((60, 90, 3))]).astype("float32")
    heights, widths, corners = [], [], 0
    for mixed, shares in many(lambda seed: augment.cutmix(images, tf.eye(2), seed), 600):
        cut = mixed[0, ..., 0] == 1
        np.testing.assert_allclose(shares[0, 1], cut.mean(), atol=1e-6)
        if cut.any():
            x1, y1, x2, y2 = extents(cut)
            corners += (y1 == 0 or y2 == 60) and (x1 == 0 or x2 == 90)
            if y1 > 0 and y2 < 60 and x1 > 0 and x2 < 90:  # not cut off
                heights.append((y2 - y1) / 60)
                widths.append((x2 - x1) / 90)
    np.testing.assert_allclose(heights, widths, atol=0.02)
    assert corners > 50 and max(heights) > 0.6


def test_colours_of_torch_are_both_one_after_the_other():
    image, seed = tf.random.stateless_uniform([5, 6, 3], (1, 2), 0.0, 255.0), tf.constant([3, 4], tf.int64)
    found = augment.jitter_and_pca(image, seed)
    want = augment.colour_pca(augment.jitter_colour(image, seed, 0.4, 0.4, 0.4), views.another_seed(seed, 1))
    np.testing.assert_array_equal(found, want)
    assert np.abs(found - image).max() > 1
