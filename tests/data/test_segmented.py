import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns.data import named, records, segmented, synthetic, views, voc
from keras_cnns.data import samples as data_samples
from keras_cnns.data.samples import LabelImage, Sample
from tests.data.helpers import DATA, real, stopped


def encoded(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def sample(height=40, width=60, seed=0):
    """Noise, whose labels tell the red value of each pixel of it: 0, 1, or ignored."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")
    labels = np.digitize(pixels[..., 0], (100, 220)).astype("uint8")
    labels[labels == 2] = 255
    return Sample(str(seed), encoded(pixels), segmentation=LabelImage(encoded(labels))), pixels, labels


def first(samples, shape, size, **options):
    options = {"batch": 1, "epochs": 1, "seed": 3} | options
    return next(segmented.training(samples, shape, size, **options).as_numpy_iterator())


def tile_of(top, left):
    """A view without chance."""
    return lambda size, canvas, boxes, seed: (
        tf.constant([left, top, left + canvas[1], top + canvas[0]], tf.float32), False)


def test_images_and_labels_go_together():
    one, pixels, labels = sample()
    image, target = first([one], (16, 24, 3), (16, 24), view=tile_of(5, 7))
    np.testing.assert_array_equal(image[0], pixels[5:21, 7:31])
    np.testing.assert_array_equal(target[0], labels[5:21, 7:31])
    grey, _ = first([one], (16, 24, 1), (16, 24), view=tile_of(5, 7))
    np.testing.assert_allclose(grey[0, ..., 0], pixels[5:21, 7:31] @ [0.299, 0.587, 0.114], rtol=1e-5)
    image, target = first([one], (16, 24, 3), (16, 24), view=tile_of(30, 50))  # over the border
    assert (target[0, 10:] == 255).all() and (target[0, :10, :10] == labels[30:, 50:]).all()


def test_a_network_that_answers_for_the_middle_sees_the_image_go_on_mirrored():
    one, pixels, labels = sample(20, 30)
    image, target = first([one], (24, 28, 3), (10, 12), view=tile_of(0, 0))
    around = np.pad(pixels, ((7, 7), (8, 8), (0, 0)), "symmetric")
    np.testing.assert_array_equal(image[0], around[:24, :28])
    np.testing.assert_array_equal(target[0], labels[:10, :12])


def test_a_tile_is_a_part_of_the_image_or_its_mirror_image():
    one, pixels, labels = sample()
    places = set()
    tiles = segmented.training([one], (16, 24, 3), (16, 24), 1, 12, 0, view=views.tile)
    for image, target in tiles.as_numpy_iterator():
        found = [(y, x, turn) for y, x in np.argwhere((pixels[:25] == image[0, 0, 0]).all(-1)) for turn in (1, -1)
                 for x in [x if turn == 1 else x - 23] if 0 <= x < 37
                 if (pixels[y:y + 16, x:x + 24][:, ::turn] == image[0]).all()]
        (y, x, turn), = found
        np.testing.assert_array_equal(target[0], labels[y:y + 16, x:x + 24][:, ::turn])
        places.add((y, x, turn))
    assert len(places) > 9 and {turn for *_, turn in places} == {1, -1}


def test_the_run_goes_on_at_any_step():
    samples = [sample(seed=seed)[0] for seed in range(3)]
    options = dict(batch=1, epochs=2, seed=5)
    every = list(segmented.training(samples, (16, 24, 3), (16, 24), **options).as_numpy_iterator())
    rest = list(segmented.training(samples, (16, 24, 3), (16, 24), first_step=4, **options).as_numpy_iterator())
    assert len(every) == 6 and len(rest) == 2
    for one, other in zip(every[4:], rest):
        np.testing.assert_array_equal(one[0], other[0])


def test_a_label_that_the_network_does_not_know_ends_the_training():
    samples = [Sample(str(label), encoded(np.zeros((8, 8, 3), "uint8")), segmentation=LabelImage(encoded(
        np.full((8, 8), label, "uint8")))) for label in (1, 255, 2)]
    arguments = samples, (8, 8, 3), (8, 8), 1, 1, 0
    assert {int(labels[0, 0, 0]) for _, labels in segmented.training(*arguments, classes=3)} == {1, 255, 2}
    with pytest.raises(tf.errors.InvalidArgumentError, match="A label above 1: the network knows 2"):
        list(segmented.training(*arguments, classes=2))


def test_the_middle_of_an_image_is_shown_as_it_is():
    image = np.arange(10 * 12 * 3, dtype="float32").reshape(10, 12, 3)
    np.testing.assert_array_equal(segmented.middle(image, (4, 6, 3)), image[3:7, 3:9])
    larger = np.asarray(segmented.middle(image, (14, 6, 3)))
    np.testing.assert_array_equal(larger, np.concatenate([image[1::-1], image, image[:-3:-1]])[:, 3:9])
    assert segmented.middle(image, (14, 14, 1)).shape == (14, 14, 1)


def test_border_weights_equal_a_loop():
    labels = np.zeros((18, 22), "uint8")
    labels[1:8, 1:9] = labels[1:8, 11:20] = labels[10:17, 3:7] = 1
    labels[12:15, 12:19] = 2
    labels[0, 20:] = 255
    cells = [labels == 2, *(np.zeros(labels.shape, bool) for _ in range(3))]
    for cell, place in zip(cells[1:], ((slice(1, 8), slice(1, 9)), (slice(1, 8), slice(11, 20)),
                                       (slice(10, 17), slice(3, 7)))):
        cell[place] = True
    expected = np.zeros(labels.shape)
    for y, x in np.ndindex(labels.shape):
        if labels[y, x] == 255:
            continue
        counted = (labels != 255).sum()
        expected[y, x] = counted / (3 * (labels == labels[y, x]).sum())
        if labels[y, x] == 0:
            near = sorted(min(np.hypot(y - v, x - u) for v, u in np.argwhere(cell)) for cell in cells)
            expected[y, x] += 10 * np.exp(-(near[0] + near[1])**2 / (2 * 3.0**2))
    found = segmented.border_weights(labels, 10.0, 3.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert found[4, 9] > 5 > found[17, 21]  # between two cells, and far from any two


def test_border_weights_of_one_cell_of_none_and_of_nothing_known():
    one = np.zeros((6, 8), "uint8")
    one[2:4, 2:4] = 1
    np.testing.assert_allclose(segmented.border_weights(one)[[0, 2], [0, 2]], [48 / 88, 48 / 8], rtol=1e-6)
    np.testing.assert_allclose(segmented.border_weights(np.zeros((3, 3))), 1.0)
    assert not segmented.border_weights(np.full((3, 3), 255)).any()


def test_border_weights_come_with_the_labels():
    one, _, labels = sample()
    image, target = first([one], (16, 24, 3), (16, 24), view=tile_of(5, 7), border=(10.0, 5.0))
    assert target.shape == (1, 16, 24, 2) and target.dtype == "float32"
    np.testing.assert_array_equal(target[0, ..., 0], labels[5:21, 7:31])
    np.testing.assert_allclose(target[0, ..., 1], segmented.border_weights(labels[5:21, 7:31]), rtol=1e-5)


def test_border_weights_name_what_they_need(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    stopped(lambda: segmented.border_weights(np.zeros((2, 2))), 'pip install "keras_cnns[segmentation]"')


@pytest.mark.parametrize("height, width", [(20, 30), (64, 48), (70, 33)])
def test_what_a_network_of_fixed_size_says_comes_back_at_the_images_size(height, width):
    image = np.random.default_rng(0).uniform(0, 255, (2, height, width, 3)).astype("float32")
    seen = []

    def answer(canvas):
        seen.append(canvas.shape)
        return tf.concat([canvas, 2 * canvas], -1)

    found = segmented.whole(answer, image, (32, 32, 3), (32, 32))
    assert found.shape == (2, height, width, 6) and seen == [(2, 32, 32, 3)]
    np.testing.assert_allclose(found.numpy().mean((1, 2))[:, :3], image.mean((1, 2)), rtol=0.1)
    smooth = np.broadcast_to(np.linspace(0, 200, width)[:, None], (1, height, width, 3)).astype("float32")
    found = segmented.whole(answer, smooth, (32, 32, 3), (32, 32)).numpy()[..., :3]
    assert abs(found - smooth)[:, 4:-4, 4:-4].max() < 8


@pytest.mark.parametrize("height, width", [(20, 30), (64, 97), (33, 128)])
def test_tiles_of_a_network_that_answers_for_the_middle_are_joined(height, width):
    image = np.random.default_rng(0).uniform(0, 255, (2, height, width, 3)).astype("float32")

    def answer(canvas):  # the mean of 9 x 9
        return tf.nn.avg_pool2d(canvas, 9, 1, "VALID")

    around = np.pad(image, ((0, 0), (4, 4), (4, 4), (0, 0)), "symmetric")
    expected = tf.nn.avg_pool2d(around, 9, 1, "VALID")
    found = segmented.whole(answer, image, (48, 72, 3), (40, 64))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    found = tf.function(lambda image: segmented.whole(answer, image, (48, 72, 3), (40, 64)))(image)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_masks_are_drawn_and_what_is_doubtful_is_ignored():
    masks = np.zeros((4, 6, 8), "uint8")
    masks[0, :3, :3] = masks[1, 2:5, 2:5] = masks[2, 5:, 5:] = masks[3, 2:5, 4:6] = 1
    number = np.arange(1, 5)[:, None, None]
    assert (masks * number).max() == 4
    runs = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    one = Sample("a", encoded(np.zeros((6, 8, 3), "uint8")), (6, 8), np.zeros((4, 4), "float32"),
                 np.array([1, 2, 3, 2], "int32"), np.array([False, False, True, False]), masks=runs)
    labels = data_samples.segmentation(segmented.drawn(one))
    expected = np.zeros((6, 8), "uint8")
    expected[:3, :3], expected[2:5, 2:6] = 1, 2
    expected[2, 2] = expected[5, 5:] = 255
    np.testing.assert_array_equal(labels, expected)
    stopped(lambda: segmented.drawn(one._replace(masks=None)), "neither labels of pixels nor masks")


# Data by name.

def test_drawn_objects_are_data_for_a_segmenter():
    samples, names, skipped = named.segmentation("synthetic:3")
    assert names == list(synthetic.CLASSES) and not skipped and len(samples) == 3
    for one in samples:
        assert not len(one.boxes) and one.masks is None
        assert set(np.unique(data_samples.segmentation(one))) <= {0, 1, 2, 3, 4, 5, 255}


@real
@pytest.mark.parametrize("name, split, count, classes", [
    ("voc:{}/voc/VOCdevkit", "train", 30, 20), ("camvid:{}/camvid", "val", 10, 11), ("isbi:{}/isbi", "train", 20, 1),
    ("coco:{}/coco", "val", 20, 80)])
def test_the_real_samples_have_labels_of_pixels(name, split, count, classes):
    samples, names, skipped = named.segmentation(name.format(DATA), split)
    assert (len(samples), len(names), skipped) == (count, classes, [])
    labels = data_samples.segmentation(samples[0])
    assert labels.max() == 255 or labels.max() <= classes


@pytest.fixture
def pairs(tmp_path):
    """CamVid's layout, with one good pair."""
    for folder in ("train", "trainannot"):
        (tmp_path / folder).mkdir()
    (tmp_path / "train" / "a.png").write_bytes(encoded(np.zeros((12, 10, 3), "uint8")))
    (tmp_path / "train.txt").write_text("train/a.png trainannot/a.png\n")
    return tmp_path


@pytest.mark.parametrize("labels, kind, says", [
    (np.zeros((12, 9), "uint8"), "PNG", "label image is 9 x 12 pixels, the image"),
    (np.full((12, 10), 12, "uint8"), "PNG", "unknown labels 12"),
    (np.zeros((12, 10), "uint8"), "JPEG", "saved as a JPEG")])
def test_bad_label_images_are_told(pairs, labels, kind, says):
    (pairs / "trainannot" / "a.png").write_bytes(encoded(labels, kind))
    message = stopped(lambda: named.segmentation(f"camvid:{pairs}"), says)
    assert str(pairs / "trainannot" / "a.png") in message


def test_a_palette_index_that_is_no_class_is_told(tmp_path):
    root = tmp_path / "VOCdevkit"
    one, _, labels = sample()
    voc.write([one._replace(size=(40, 60))], root, ["thing"], split="train")
    path = root / "VOC2012/SegmentationClass/0.png"
    picture = Image.fromarray(np.where(labels == 1, 7, 0).astype("uint8"), "L").convert("P")
    picture.save(path)
    stopped(lambda: named.segmentation(f"voc:{root}"), f"{path}: label", "expected 0 to 1", "list all classes")
    records.write([one._replace(segmentation=LabelImage(encoded(np.arange(2400).reshape(40, 60).astype("uint8"))))],
                  tmp_path / "records", ["thing"], "train")
    stopped(lambda: named.segmentation(f"records:{tmp_path / 'records'}"), "label 2, expected 0 to 1", "JPEG")


def test_data_without_labels_of_pixels_are_no_data_for_a_segmenter(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(encoded(np.zeros((12, 10, 3), "uint8")))
    stopped(lambda: named.segmentation(f"folder:{tmp_path}"), "neither labels of pixels nor masks")
