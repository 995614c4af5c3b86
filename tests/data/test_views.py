import io
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_cnns.data import images, views

SIDES = st.integers(1, 400)
COLOURS = np.array([[40, 40, 40], [230, 30, 30], [30, 200, 40], [40, 60, 240], [240, 220, 30], [220, 40, 220],
                    [30, 220, 220]], "float32")  # of the background and the labels 1 to 6


def scene(height, width, seed=0):
    """A reader's element: six rectangles apart from each other, each of one colour; joints in its middle and corner."""
    dice = np.random.default_rng(seed)
    numbers = np.zeros((height, width), "uint8")
    boxes, points = np.zeros((6, 4), "float32"), np.zeros((6, 2, 3), "float32")
    for i in range(6):
        cell = np.array([width // 3, height // 2])
        start = dice.integers(1, cell // 3 + 1) + cell * (i % 3, i // 3)
        end = start + dice.integers(cell // 3, cell // 2 + 1)
        numbers[start[1]:end[1], start[0]:end[0]] = i + 1
        boxes[i] = *start, *end
        points[i] = [*(start + end) / 2, 2], [*start + 0.5, 1]
    masks = (numbers == np.arange(1, 7)[:, None, None]).astype("uint8")
    return {"image": COLOURS[numbers].astype("uint8"), "boxes": boxes, "labels": np.arange(1, 7, dtype="int32"),
            "ignored": np.zeros(6, bool), "masks": masks, "keypoints": points, "segmentation": numbers,
            "image_id": "7"}


def tensors(element):
    return {key: tf.constant(value) for key, value in element.items()}


def seen(element, window, canvas, *options, **named):
    """What `render` gives, as NumPy's; the rows of objects without the padding."""
    out = views.render(tensors(element), tf.constant(window, tf.float32), canvas, *options, **named)
    return {key: value.numpy() for key, value in views.without_padding({"labels": tf.constant([]), **out}).items()}


def as_given(out):
    """The same with the image as readers have it, to be seen again."""
    return {**out, "image": out["image"].round().astype("uint8")}


def whole(element):
    return 0, 0, element["image"].shape[1], element["image"].shape[0]


def extents(mask):
    """The box around what a mask has."""
    y, x = np.nonzero(mask)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def check_alignment(out, tolerance, blur):
    """Boxes, masks, segmentation and joints tell of the same rectangles as the image's colours."""
    height, width = out["image"].shape[:2]
    for label, box, mask, (middle, corner) in zip(*(out[key] for key in ("labels", "boxes", "masks", "keypoints"))):
        assert (box >= 0).all() and (box <= (width, height, width, height)).all() and (box[2:] > box[:2]).all()
        if mask.any():
            np.testing.assert_allclose(box, extents(mask), atol=tolerance)
        assert (out["segmentation"][mask > 0] == label).all()
        x1, y1, x2, y2 = (int(edge) for edge in box + [blur, blur, -blur, -blur])
        inner = out["image"][max(y1, 0):max(y2, 0), max(x1, 0):max(x2, 0)]
        np.testing.assert_allclose(inner, np.broadcast_to(COLOURS[label], inner.shape), atol=1)
        for x, y, visible in (middle, corner):
            assert visible == 0 or (box[:2] - tolerance <= (x, y)).all() and (box[2:] + tolerance >= (x, y)).all()


@given(st.integers(0, 99), st.integers(12, 90), st.integers(12, 90))
@settings(max_examples=15, deadline=None)
def test_mirrored_twice_is_as_before(seed, height, width):
    element = scene(height, width, seed)
    once = seen(element, whole(element), (height, width), True, [(0, 1)])
    assert (once["image"] == element["image"][:, ::-1]).all() and (once["masks"] == element["masks"][..., ::-1]).all()
    twice = seen(as_given(once), whole(element), (height, width), True, [(0, 1)])
    for key in element.keys() - {"image_id"}:
        np.testing.assert_allclose(twice[key], element[key], atol=1e-4, err_msg=key)


def test_mirroring_swaps_the_names_of_pairs_and_only_then():
    points = np.float32([[[1, 5, 2], [20, 6, 1], [30, 7, 2], [0, 0, 0]]])  # nose, left hand, right hand, unlabelled
    element = {"image": np.zeros((40, 60, 3), "uint8"), "boxes": np.float32([[0, 0, 60, 40]]),
               "labels": np.int32([1]), "keypoints": points}
    plain = seen(element, whole(element), (80, 60), False, [(1, 2)])
    np.testing.assert_allclose(plain["keypoints"], points * [1, 2, 1])
    mirrored = seen(element, whole(element), (80, 60), True, [(1, 2)])
    np.testing.assert_allclose(mirrored["keypoints"], [[[59, 10, 2], [30, 14, 2], [40, 12, 1], [0, 0, 0]]])


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_a_crop_undone_is_as_before_where_it_was_kept(data):
    height, width = data.draw(st.integers(12, 60)), data.draw(st.integers(12, 60))
    x1, y1 = data.draw(st.integers(0, width - 2)), data.draw(st.integers(0, height - 2))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    element = scene(height, width, data.draw(st.integers(0, 9)))
    cropped = seen(element, (x1, y1, x2, y2), (y2 - y1, x2 - x1))
    assert (cropped["image"] == element["image"][y1:y2, x1:x2]).all()
    back = seen(as_given(cropped), (-x1, -y1, width - x1, height - y1), (height, width))
    kept = np.zeros((height, width), bool)
    kept[y1:y2, x1:x2] = True
    np.testing.assert_array_equal(back["image"], np.where(kept[..., None], element["image"],
                                                          np.float32(images.PADDING)))
    np.testing.assert_array_equal(back["segmentation"], np.where(kept, element["segmentation"], views.IGNORED))
    clipped = np.clip(element["boxes"], (x1, y1, x1, y1), (x2, y2, x2, y2))
    stays = (clipped[:, 2:] > clipped[:, :2]).all(1)
    np.testing.assert_array_equal(back["labels"], element["labels"][stays])
    np.testing.assert_allclose(back["boxes"], clipped[stays], atol=1e-4)
    np.testing.assert_array_equal(back["masks"], (element["masks"] * kept)[stays])
    points = element["keypoints"][stays]
    inside = (points[..., :2] >= (x1, y1)).all(-1) & (points[..., :2] <= (x2, y2)).all(-1)
    np.testing.assert_allclose(back["keypoints"], points * inside[..., None], atol=1e-4)


@given(SIDES, SIDES, SIDES, SIDES)
@settings(max_examples=30, deadline=None)
def test_letterbox_is_that_of_images(height, width, canvas_height, canvas_width):
    canvas = canvas_height, canvas_width
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), "uint8")
    boxes = np.float32([[0, 0, width, height], [width / 3, height / 4, width / 2, height / 2]])
    out = seen({"image": image, "boxes": boxes, "labels": np.int32([1, 2])},
               views.letterbox((height, width), canvas), canvas)
    want, scale = images.letterbox(image, canvas)
    np.testing.assert_allclose(out["image"], want, atol=0.05)
    np.testing.assert_allclose(out["boxes"], boxes * np.tile(scale, 2), atol=1e-3, rtol=1e-4)


CLASSIFIERS = [views.inception, views.plain, views.distorted, views.padded_crop, views.scaled_crop, views.square_crop,
               views.vgg, views.resnet]
VIEWS = [views.letterboxed_or_mirrored, views.jittered, views.largely_jittered, views.ssd, views.inception, views.vgg,
         views.resnet]


@pytest.mark.parametrize("view, size, canvas", [
    (views.letterboxed, (200, 120), (100, 160)), (views.letterboxed_or_mirrored, (200, 120), (100, 160)),
    (views.jittered, (90, 140), (150, 120)),
    (views.largely_jittered, (90, 140), (150, 120)), (views.ssd, (90, 140), (150, 120)),
    (views.inception, (200, 120), (100, 160))])
def test_objects_stay_where_the_image_shows_them(view, size, canvas):
    elements = tf.data.Dataset.zip(tf.data.Dataset.range(12), tf.data.Dataset.from_tensor_slices(
        tf.nest.map_structure(lambda *x: np.stack(x), *(scene(*size, i) for i in range(12)))))

    def look(i, element):
        window, mirrored = view(tf.constant(size, tf.float32), canvas, element["boxes"], tf.stack([i, i]))
        out = views.without_padding(views.render(element, window, canvas, mirrored))
        pixel = tf.cast(canvas[::-1], tf.float32) / (window[2:] - window[:2])  # of the image, on the canvas
        return out, tf.reduce_max(pixel)

    for out, pixel in elements.map(look).as_numpy_iterator():
        # A mask's pixel is there or not; and the image is shown from a whole pixel to a whole pixel.
        check_alignment(out, tolerance=1.0 + pixel, blur=2 + 2 * pixel)


@pytest.mark.parametrize("view", [views.largely_jittered, views.ssd])
def test_a_seed_decides_alone_on_any_number_of_threads(view):
    element = tensors(scene(60, 90))

    def look(i):
        window, mirrored = view(tf.constant([60.0, 90]), (40, 50), element["boxes"], tf.stack([i, 3]))
        return views.render(element, window, (40, 50), mirrored)["image"]

    one, eight = (list(tf.data.Dataset.range(16).map(look, calls).as_numpy_iterator()) for calls in (1, 8))
    np.testing.assert_array_equal(one, eight)
    assert len({image.tobytes() for image in one}) > 8


def test_a_drawn_dot_lands_where_its_keypoint_says():
    y, x = np.mgrid[:100, :160] + 0.5
    dot = 255 * np.exp(-((x - 71.3)**2 + (y - 40.6)**2) / 18)
    element = {"image": np.repeat(dot[..., None], 3, 2).round().astype("uint8"),
               "boxes": np.float32([[0, 0, 160, 100]]), "labels": np.int32([1]),
               "keypoints": np.float32([[[71.3, 40.6, 2]]])}
    for window in (0, 0, 160, 100), (20, 10, 120, 90), (-50, -30, 200, 120), (33, 11, 133, 100):
        for mirrored in (False, True):
            out = seen(element, window, (120, 150), mirrored, padding=(0.0, 0.0, 0.0))
            weight = out["image"][..., 0]
            y, x = np.mgrid[:120, :150] + 0.5
            middle = (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()
            np.testing.assert_allclose(out["keypoints"][0, 0, :2], middle, atol=0.5)


def windows(choose, count=300):
    """A chooser's windows for the seeds (5, 0), (5, 1), ...: `[count, 4]`."""
    seeds = tf.data.Dataset.from_tensor_slices(tf.constant([[5, i] for i in range(count)], tf.int64))
    return np.array(list(seeds.map(choose).as_numpy_iterator()))


@pytest.mark.parametrize("height, width", [(375, 500), (500, 375), (60, 300), (300, 60), (1, 1)])
def test_inceptions_crops_have_their_areas_and_ratios(height, width):
    x1, y1, x2, y2 = windows(lambda seed: views.random_resized((height, width), seed)).T
    eps = 1e-3 * max(height, width)
    assert (x1 >= -eps).all() and (y1 >= -eps).all() and (x2 <= width + eps).all() and (y2 <= height + eps).all()
    share, ratio = (x2 - x1) * (y2 - y1) / (height * width), (x2 - x1) / (y2 - y1)
    assert (ratio > 3 / 4 - 1e-3).all() and (ratio < 4 / 3 + 1e-3).all()
    assert (share <= 1.001).all() and (share >= 0.0799).all()
    if max(height, width) < 2 * min(height, width):
        assert share.min() < 0.12 and share.max() > 0.8 and ratio.min() < 0.78 and ratio.max() > 1.28


def test_inceptions_last_resort_is_the_largest_centred_crop_of_a_ratio_in_range():
    found = windows(lambda seed: views.random_resized((10, 1000), seed, area=(0.9, 1.0)), 5)
    np.testing.assert_allclose(found, np.tile([500 - 20 / 3, 0, 500 + 20 / 3, 10], (5, 1)), rtol=1e-5)


@pytest.mark.parametrize("height, width", [(375, 500), (500, 375)])
def test_expansion_holds_the_image_in_up_to_four_times_its_sides_every_second_time(height, width):
    found = windows(lambda seed: views.expansion((height, width), seed), 1000)
    unchanged = (found == (0, 0, width, height)).all(1)
    assert abs(unchanged.mean() - 0.5) < 0.05
    x1, y1, x2, y2 = found[~unchanged].T
    assert (x1 <= 0).all() and (y1 <= 0).all() and (x2 > width - 0.1).all() and (y2 > height - 0.1).all()
    factor = (x2 - x1) / width
    np.testing.assert_allclose((y2 - y1) / height, factor, rtol=1e-4)
    assert 1 <= factor.min() < 1.05 and 3.95 < factor.max() <= 4.0001
    place = -x1 / (x2 - x1 - width + 1e-6)
    assert place.min() < 0.05 and place.max() > 0.95 and abs(place.mean() - 0.5) < 0.05


@pytest.mark.parametrize("canvas", [(300, 300), (200, 400)])
@pytest.mark.parametrize("low, high", [(0.8, 1.25), (0.1, 2.0)])
def test_jitter_scales_within_its_range_and_crops_or_pads(canvas, low, high):
    size = np.array([375, 500])
    x1, y1, x2, y2 = windows(lambda seed: views.jitter(size, canvas, seed, low, high), 500).T
    factor = np.min(canvas / size)
    scale = canvas[1] / (x2 - x1) / factor
    np.testing.assert_allclose(canvas[0] / (y2 - y1) / factor, scale, rtol=1e-4)  # proportions are kept
    margin = 0.05 * (high - low)
    assert low * 0.999 <= scale.min() < low + margin and high - margin < scale.max() <= high * 1.001
    wide, high_enough = x2 - x1 <= 500, y2 - y1 <= 375
    assert (x1[~wide] == 0).all() and (y1[~high_enough] == 0).all()  # padded below and right
    assert (x1 >= 0).all() and (x2[wide] < 500.1).all() and (y1 >= 0).all() and (y2[high_enough] < 375.1).all()


def iou(window, boxes):
    x = np.minimum(window[2], boxes[:, 2]) - np.maximum(window[0], boxes[:, 0])
    y = np.minimum(window[3], boxes[:, 3]) - np.maximum(window[1], boxes[:, 1])
    common = np.maximum(x, 0) * np.maximum(y, 0)
    area = (window[2] - window[0]) * (window[3] - window[1])
    return common / (area + (boxes[:, 2:] - boxes[:, :2]).prod(1) - common)


def test_a_patch_keeps_as_much_of_an_object_as_it_promised():
    boxes = np.float32([[50, 40, 260, 300], [300, 100, 460, 180], [0, 0, 30, 30]])
    window = np.float32([-100, -50, 700, 450])
    found, promised = [], []
    for minimum, patch in tf.data.Dataset.range(1200).map(lambda i: (
            tf.random.stateless_uniform([51, 4], tf.stack([5, i]))[0, 0],
            views.patch(window, boxes, tf.stack([5, i])))).as_numpy_iterator():
        promised.append([np.inf, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0][int(7 * minimum)])
        found.append(patch)
    found, promised = np.array(found), np.array(promised)
    same = (found == window).all(1)
    assert same[promised == np.inf].all() and not same[promised == 0].any()
    best = np.array([iou(patch, boxes).max() for patch in found])
    assert (best[~same] >= promised[~same] - 1e-4).all()
    for minimum in (0.1, 0.3, 0.5):  # with fifty trials these are mostly found
        assert same[promised == minimum].mean() < 0.8
    share = (found[~same, 2:] - found[~same, :2]) / (window[2:] - window[:2])
    scale, ratio = np.sqrt(share.prod(1)), share[:, 0] / share[:, 1]
    assert 0.3 <= scale.min() + 1e-3 and scale.max() <= 1.001 and 0.5 <= ratio.min() + 1e-3 and ratio.max() <= 2.002
    assert (found[:, :2] >= window[:2] - 0.01).all() and (found[:, 2:] <= window[2:] + 0.01).all()


def test_without_objects_a_patch_is_the_window_or_any():
    window = np.float32([0, 0, 500, 375])
    found = windows(lambda seed: views.patch(window, tf.zeros([0, 4]), seed), 200)
    same = (found == window).all(1)
    assert abs(same.mean() - 6 / 7) < 0.1


def test_the_views_of_training_throw_dice_for_window_and_mirroring_apart():
    size, boxes = tf.constant([375.0, 500]), tf.zeros([0, 4])
    for view in VIEWS[1:]:
        drawn = list(tf.data.Dataset.range(400).map(lambda i, view=view: view(
            size, (300, 300), boxes, tf.stack([i, 2]))).as_numpy_iterator())
        mirrored, sides = np.array([m for _, m in drawn]), np.array([w[2] - w[0] for w, _ in drawn])
        assert 0.4 < mirrored.mean() < 0.6
        assert abs(np.corrcoef(mirrored, sides)[0, 1]) < 0.15


def picture(height=120, width=170):
    """A smooth photograph with colours that change within a few pixels."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9) * np.cos(y / 7), np.sin(x / 13 + 1), np.cos((x + y) / 11)], -1)
    return (128 + 100 * waves).astype("uint8")


def encoded(pixels, **options):
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, **options)
    return contents.getvalue()


WINDOWS = [(0, 0, 170, 120), (16, 8, 136, 104), (13, 7, 120, 99), (41, 33, 50, 39), (-20, -30, 200, 130),
           (100, 60, 250, 300)]


def test_png_and_pixels_are_seen_alike():
    pixels = picture()
    png = tensors({"image": encoded(pixels, format="PNG"), "name": "x"})
    from_png = tf.data.Dataset.from_tensor_slices(np.float32(WINDOWS)).map(
        lambda window: views.render(png, window, (90, 110))["image"])
    for window, found in zip(WINDOWS, from_png, strict=True):
        np.testing.assert_array_equal(found, seen({"image": pixels}, window, (90, 110))["image"])


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("window", WINDOWS)
def test_of_a_jpeg_is_seen_what_is_seen_of_its_pixels(window, subsampling):
    jpeg = encoded(picture(), format="JPEG", quality=95, subsampling=subsampling)
    pixels = tf.io.decode_jpeg(jpeg, channels=3).numpy()
    canvas = 120, 150  # no window is seen at less than half its size, from where on the decoder shrinks
    found = seen({"image": jpeg, "name": "x"}, window, canvas)["image"]
    want = seen({"image": pixels}, window, canvas)["image"]
    # libjpeg makes the colours of a part's outermost pixels without those beyond, where they are stored at half size.
    assert np.abs(found - want).max() <= (0 if subsampling == 0 else 24)
    assert (np.abs(found - want) > 1).mean() < 0.1


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpegs_part_is_that_part_of_the_whole(subsampling):
    jpeg = encoded(picture(), format="JPEG", quality=95, subsampling=subsampling)
    pixels = tf.io.decode_jpeg(jpeg, channels=3).numpy().astype(int)
    for x1, y1, x2, y2 in (0, 0, 170, 120), (16, 16, 64, 48), (13, 7, 120, 99), (41, 33, 42, 34), (165, 110, 170, 120):
        part = seen({"image": jpeg, "name": "x"}, (x1, y1, x2, y2), (y2 - y1, x2 - x1))["image"]
        difference = np.abs(part - pixels[y1:y2, x1:x2])
        assert not difference[:, 1:-1].any() or subsampling
        assert difference.max() <= (0 if subsampling == 0 else 24) and difference[1:-1, 1:-1].max(initial=0) <= (
            0 if subsampling == 0 else 2)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 80), st.integers(1, 80))
@settings(max_examples=15, deadline=None)
def test_a_shrunk_jpeg_has_its_objects_in_place(height, width, canvas_height, canvas_width):
    assume(height > 8 and width > 8)
    pixels = np.zeros((height, width, 3), "uint8")
    pixels[height // 3:, width // 4:] = 255
    boxes = np.float32([[width // 4, height // 3, width, height]])
    out = seen({"image": encoded(pixels, format="JPEG", quality=98, subsampling=0), "name": "x", "boxes": boxes,
                "labels": np.int32([1]), "masks": pixels[None, ..., 0]}, (0, 0, width, height),
               (canvas_height, canvas_width))
    x, y = canvas_width / width, canvas_height / height
    np.testing.assert_allclose(out["boxes"], boxes * [x, y, x, y], atol=1.01)
    if out["masks"].any():
        np.testing.assert_allclose(extents(out["masks"][0]), out["boxes"][0], atol=2)
    bright = out["image"][..., 0] / 255
    np.testing.assert_allclose(bright.sum(), (out["boxes"][0, 2:] - out["boxes"][0, :2]).prod(),
                               atol=2 + 1.2 * (canvas_height + canvas_width))


@pytest.mark.parametrize("window", [(200, 10, 260, 50), (-90, 10, -30, 50), (10, 300, 70, 340), (500, -700, 560, -660)])
def test_of_a_window_beside_the_image_is_seen_padding_and_at_most_a_line_of_pixels(window):
    element = scene(60, 90)
    out = seen(element, window, (40, 60))
    padding = (np.abs(out["image"] - images.PADDING).max(-1) < 1e-3)
    assert padding.sum() >= 40 * 60 - 60
    assert (out["segmentation"] == views.IGNORED).sum() >= 40 * 60 - 60 and not out["masks"][:, 1:-1, 1:-1].any()


@pytest.mark.parametrize("window", [(10.2, 20.3, 10.7, 20.6), (10, 20, 11, 21), (88.5, 58.5, 89.9, 59.9)])
def test_a_window_of_a_pixel_or_less_shows_the_pixel(window):
    element = scene(60, 90)
    out = seen(element, window, (20, 30))
    x, y = int(window[0]), int(window[1])
    near = element["image"][y:y + 2, x:x + 2].reshape(-1, 3).astype("float32")
    assert (out["image"] >= near.min(0) - 1e-3).all() and (out["image"] <= near.max(0) + 1e-3).all()
    assert np.isfinite(out["boxes"]).all()


@given(SIDES, SIDES, st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_images_of_a_pixel_or_a_line_are_seen(height, width, canvas_height, canvas_width):
    element = {"image": np.full((height, 1, 3), 77, "uint8"), "segmentation": np.full((height, 1), 3, "uint8"),
               "masks": np.ones((1, height, 1), "uint8"), "boxes": np.float32([[0, 0, 1, height]]),
               "labels": np.int32([1])}
    out = seen(element, (0, 0, 1, height), (canvas_height, canvas_width))
    assert (out["image"] == 77).all() and (out["segmentation"] == 3).all() and (out["masks"] == 1).all()
    np.testing.assert_allclose(out["boxes"], [[0, 0, canvas_width, canvas_height]], rtol=1e-5)


def test_images_without_objects_are_seen():
    element = {**scene(60, 90), "boxes": np.zeros((0, 4), "float32"), "labels": np.int32([]),
               "ignored": np.zeros(0, bool), "masks": np.zeros((0, 60, 90), "uint8"),
               "keypoints": np.zeros((0, 17, 3), "float32")}
    for window in (0, 0, 90, 60), (-10, -10, 120, 100), (10, 10, 20, 20):
        for mirrored in (False, True):
            out = seen(element, window, (40, 50), mirrored, [(0, 1)])
            assert out["boxes"].shape == (0, 4) and out["masks"].shape == (0, 40, 50)
            assert out["keypoints"].shape == (0, 17, 3) and out["image"].shape == (40, 50, 3)


def test_objects_stay_that_are_visible_or_whose_centre_is():
    boxes = np.float32([[0, 0, 18, 10], [0, 0, 30, 10], [20, 20, 30, 30], [0, 0, 10, 10], [5, 0, 5, 9]])
    element = {"image": np.zeros((60, 90, 3), "uint8"), "boxes": boxes, "labels": np.arange(1, 6, dtype="int32"),
               "ignored": np.array([True, False, True, False, False])}
    out = seen(element, (10, 0, 60, 40), (40, 50))
    assert out["labels"].tolist() == [1, 2, 3] and out["ignored"].tolist() == [True, False, True]
    np.testing.assert_allclose(out["boxes"], [[0, 0, 8, 10], [0, 0, 20, 10], [10, 20, 20, 30]])
    out = seen(element, (10, 0, 60, 40), (40, 50), keep="center")
    assert out["labels"].tolist() == [2, 3] and out["ignored"].tolist() == [False, True]


def test_shapes_are_known_to_the_graph_and_a_canvas_may_be_a_tensor():
    element = scene(60, 90)
    dataset = tf.data.Dataset.from_tensors(element)
    fixed = dataset.map(lambda element: views.render(element, views.whole((60, 90)), (40, 50)))
    spec = fixed.element_spec
    assert spec["image"].shape == (40, 50, 3) and spec["segmentation"].shape == (40, 50)
    assert spec["masks"].shape[1:] == (40, 50)
    free = dataset.map(lambda element: views.render(
        element, views.whole((60, 90)), tf.cast([39.5, 49.5] + tf.random.stateless_uniform([2], (1, 2), 0.5, 1.0),
                                                tf.int32)))
    for a, b in zip(fixed, free):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_real_photographs_are_seen_alike_however_they_are_given():
    root = os.environ.get("KERAS_CNNS_DATA")
    if not root:
        pytest.skip("KERAS_CNNS_DATA is not set")
    for path in sorted(pathlib.Path(root).glob("voc/VOCdevkit/VOC2012/JPEGImages/*.jpg"))[:5]:
        jpeg = path.read_bytes()
        pixels = images.decode(jpeg, path.name)
        height, width = pixels.shape[:2]
        window = width * 0.21, height * 0.13, width * 0.83, height * 0.9
        found, want = (seen({"image": image, "name": "x"}, window, (300, 300))["image"]
                       for image in (jpeg, pixels))
        assert (np.abs(found - want) > 1).mean() < 0.02  # the colours of the part's outermost pixels


@pytest.mark.parametrize("view, smallest, largest", [
    (views.scaled_crop, 7 / 8, 7 / 8), (views.square_crop, 7 / 8, 7 / 8), (views.vgg, 224 / 512, 7 / 8),
    (views.resnet, 224 / 480, 7 / 8), (views.distorted, 7 / 8, 1)])
def test_crops_are_that_share_of_the_shorter_side_everywhere_in_the_image(view, smallest, largest):
    for size, canvas in (((300, 500), (224, 224)), ((500, 300), (224, 224)), ((300, 500), (100, 200))):
        x1, y1, x2, y2 = windows(lambda seed: view(tf.constant(size, tf.float32), canvas, None, seed)[0]).T
        share = (y2 - y1) / min(size[0], size[1] * canvas[0] / canvas[1])
        np.testing.assert_allclose((x2 - x1) / (y2 - y1), canvas[1] / canvas[0], rtol=1e-4)
        assert share.min() >= smallest - 1e-4 and share.max() <= largest + 1e-4
        assert share.max() - share.min() >= 0.9 * (largest - smallest)
        assert min(x1.min(), y1.min()) >= -1e-3 and x2.max() <= size[1] + 1e-3 and y2.max() <= size[0] + 1e-3
        if view is views.scaled_crop:  # the whole of the image is seen sooner or later
            assert x1.min() < 5 and y1.min() < 5 and x2.max() > size[1] - 5 and y2.max() > size[0] - 5
        if view is views.square_crop and canvas == (224, 224):
            assert x1.min() >= (size[1] - 300) / 2 - 1e-3 and y2.max() <= (size[0] + 300) / 2 + 1e-3


def test_a_padded_crop_is_moved_by_whole_pixels_of_the_canvas():
    found = windows(lambda seed: views.padded_crop(tf.constant([32.0, 32.0]), (32, 32), None, seed)[0])
    np.testing.assert_array_equal(found[:, 2:] - found[:, :2], 32)
    assert {tuple(row) for row in found[:, :2]} == {(x, y) for x in range(-4, 5) for y in range(-4, 5)}
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype("uint8")
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    x, y = found[7, :2].astype(int)
    out = seen({"image": image}, found[7], (32, 32), padding=(0.0, 0.0, 0.0))
    np.testing.assert_array_equal(out["image"], padded[y + 4:y + 36, x + 4:x + 36])
    larger = windows(lambda seed: views.padded_crop(tf.constant([64.0, 96.0]), (32, 32), None, seed)[0], 20)
    assert (larger[:, 0] % 3 == 0).all() and (larger[:, 1] % 2 == 0).all()


def test_yolos_edges_move_alone_by_up_to_a_fifth_of_the_side():
    found = windows(lambda seed: views.yolo(tf.constant([100.0, 200.0]), (64, 64), None, seed)[0], 400)
    moves = (np.array(found) - (0, 0, 200, 100)) / (200, 100, 200, 100)
    assert np.abs(moves).max() <= 0.2 + 1e-6 and (np.abs(moves).max(0) > 0.19).all()
    assert np.abs(np.corrcoef(moves.T) - np.eye(4)).max() < 0.2


def test_every_second_crop_is_mirrored_and_digits_are_not():
    for view in CLASSIFIERS:
        mirrored = windows(lambda seed: tf.cast(view(tf.constant([300.0, 400.0]), (224, 224), None, seed)[1], tf.int32))
        assert mirrored.sum() == 0 if view in (views.plain, views.distorted) else 100 < mirrored.sum() < 200


def test_crops_for_testing_are_the_middle_and_the_corners_of_the_square():
    np.testing.assert_allclose(views.central((256, 356), (224, 224)), [66, 16, 290, 240])
    np.testing.assert_allclose(views.five_crops((256, 356), (224, 224)), [
        [50, 0, 274, 224], [82, 0, 306, 224], [50, 32, 274, 256], [82, 32, 306, 256], [66, 16, 290, 240]], atol=1e-3)
