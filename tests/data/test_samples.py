import io
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_cnns.data.images import ORIENTATION, decode
from keras_cnns.data.samples import (LabelImage, Sample, check, dataset, few, label_image, masks, reader, segmentation,
                                     sift)
from keras_cnns.errors import InputError


def picture(height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")


def encoded(image, kind="PNG", mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, kind, **options)
    return file.getvalue()


def sample(image_id, source, size=(20, 30), boxes=((1, 2, 11, 12),), labels=(1,), ignored=(False,)):
    return Sample(image_id, source, size, np.array(boxes, "float32").reshape(-1, 4),
                  np.array(labels, "int32"), np.array(ignored, bool), {})


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_images_come_back_to_the_byte(kind):
    np.testing.assert_array_equal(decode(encoded(picture(), kind), "x"), picture())


def test_paths_and_bytes_are_decoded_alike(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(picture(), "JPEG"))
    image = decode(str(tmp_path / "a.jpg"), "x")
    assert image.dtype == np.uint8 and image.shape == (20, 30, 3)
    np.testing.assert_array_equal(image, decode(encoded(picture(), "JPEG"), "x"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_becomes_three_equal_channels(kind):
    image = decode(encoded(picture(), kind, "L"), "x")
    assert image.shape == (20, 30, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_alpha_is_dropped_and_the_colours_stay():
    with_alpha = np.concatenate([picture(), np.full((20, 30, 1), 7, "uint8")], -1)
    np.testing.assert_array_equal(decode(encoded(with_alpha, mode="RGBA"), "x"), picture())


def test_a_palette_is_looked_up():
    indices = Image.fromarray(picture()).quantize(16)
    file = io.BytesIO()
    indices.save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue(), "x"), np.asarray(indices.convert("RGB")))


def test_cmyk_jpeg_becomes_rgb():
    image = decode(encoded(np.full((16, 16, 3), (200, 100, 50), "uint8"), "JPEG", "CMYK"), "x")
    np.testing.assert_allclose(image, np.broadcast_to([200, 100, 50], image.shape), atol=4)


@pytest.mark.parametrize("contents, found", [
    (b"", "empty"),
    (b"these are words, not pixels", "no JPEG, PNG"),
    (encoded(picture(), "JPEG")[:400], "truncated or corrupt"),
    (encoded(picture(), "JPEG")[:-2], "truncated or corrupt"),
    (encoded(picture(), "PNG")[:400], "truncated or corrupt"),
    (encoded(picture(), "PNG")[:-4], "truncated or corrupt"),
    (encoded(picture(), "JPEG")[:3], "truncated or corrupt"),
])
def test_what_is_no_whole_image_is_named_in_one_line(contents, found, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(contents)
    for source in (str(path), contents):
        with pytest.raises(InputError, match=found) as error:
            decode(source, str(path))
        assert one_line(error) and str(path) in str(error.value) and "give a whole JPEG" in str(error.value)


def test_a_missing_image_and_a_folder_are_named_in_one_line(tmp_path):
    for path, found in ((tmp_path / "gone.jpg", "missing"), (tmp_path, "cannot be read")):
        with pytest.raises(InputError, match=found) as error:
            decode(str(path), str(path))
        assert one_line(error) and str(path) in str(error.value)


def test_stop_raises_the_first_problem_in_order_of_the_samples():
    good, bad = encoded(picture()), [f"{name}: no JPEG" for name in ("image 'b'", "image 'd'")]
    samples = [sample("a", good), sample("b", b"no"), sample("c", good), sample("d", b"no")]
    for _ in range(5):
        with pytest.raises(InputError, match=bad[0]):
            check(samples, progress=False)


def test_skip_keeps_the_rest_and_says_a_line_of_each_other():
    right = encoded(picture())
    samples = [sample("a", right), sample("b", b""), sample("c", right), sample("d", b"no")]
    good, skipped = check(samples, "skip", progress=False)
    assert [each.image_id for each in good] == ["a", "c"]
    assert len(skipped) == 2 and "'b'" in skipped[0] and "'d'" in skipped[1]


def test_an_image_of_another_size_than_annotated_is_bad():
    with pytest.raises(InputError, match="30 x 20 pixels, its annotation says 20 x 30") as error:
        check([sample("a", encoded(picture()), size=(30, 20))], progress=False)
    assert one_line(error) and "'a'" in str(error.value)
    assert len(check([sample("a", encoded(picture()), size=(0, 0))], progress=False)[0]) == 1


def test_skip_without_one_good_sample_is_an_error():
    with pytest.raises(InputError, match="Not one of 2 samples.*'a'"):
        check([sample("a", b""), sample("b", b"")], "skip", progress=False)


def test_another_word_than_stop_or_skip_is_refused():
    with pytest.raises(InputError, match="'stop', 'skip'"):
        check([], "ignore", progress=False)


def test_no_samples_are_no_problem():
    assert check([], progress=False) == ([], [])
    assert list(dataset([])) == []


def test_a_dataset_gives_what_the_samples_say(tmp_path):
    (tmp_path / "b.png").write_bytes(encoded(picture(8, 9, seed=1)))
    samples = [sample("ä", encoded(picture()), boxes=[[1, 2, 11, 12], [0, 0, 30, 20]], labels=[2, 1],
                      ignored=[True, False]),
               sample("b", str(tmp_path / "b.png"), size=(8, 9), boxes=(), labels=(), ignored=())]
    first, second = dataset(samples).as_numpy_iterator()
    np.testing.assert_array_equal(first["image"], picture())
    np.testing.assert_array_equal(first["boxes"], [[1, 2, 11, 12], [0, 0, 30, 20]])
    np.testing.assert_array_equal(first["labels"], [2, 1])
    np.testing.assert_array_equal(first["ignored"], [True, False])
    assert (first["image_id"], second["image_id"]) == ("ä".encode(), b"b")
    np.testing.assert_array_equal(second["image"], picture(8, 9, seed=1))
    assert second["boxes"].shape == (0, 4) and second["labels"].shape == second["ignored"].shape == (0,)


def test_a_dataset_has_static_shapes_types_and_length():
    made = dataset([sample("a", encoded(picture()))] * 3)
    assert made.element_spec == {
        "image": tf.TensorSpec([None, None, 3], tf.uint8), "image_id": tf.TensorSpec([], tf.string),
        "boxes": tf.TensorSpec([None, 4], tf.float32), "labels": tf.TensorSpec([None], tf.int32),
        "ignored": tf.TensorSpec([None], tf.bool)}
    assert made.cardinality() == 3


def test_a_dataset_keeps_the_order_it_is_given():
    samples = [sample(str(i), encoded(picture(5 + 40 * (i % 3), 8)), size=(0, 0)) for i in range(12)]
    order = [7, 3, 3, 11, 0, 10, 1, 2, 9, 8]
    for _ in range(3):
        assert [int(each["image_id"].numpy()) for each in dataset(samples, order)] == order
    assert [int(each["image_id"].numpy()) for each in dataset(samples)] == list(range(12))


def test_a_file_that_breaks_after_the_check_is_named_by_the_dataset(tmp_path):
    path = tmp_path / "later.png"
    path.write_bytes(encoded(picture()))
    samples, _ = check([sample("a", str(path))], progress=False)
    path.write_bytes(b"")
    with pytest.raises(tf.errors.OpError, match="later.png: image file is empty"):
        list(dataset(samples))


# Turned by EXIF.

def lying(kind="JPEG"):
    """An image that is stored lying, 30 x 20, and stands upright, 20 x 30."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encoded(picture(), kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_annotation_of_the_unturned_image_is_told_that_exif_turns_it(kind):
    with pytest.raises(InputError, match="image is 20 x 30 pixels .turned upright by its EXIF orientation 6., its "
                                         "annotation says 30 x 20") as error:
        check([sample("a", lying(kind), size=(20, 30))], progress=False)
    assert one_line(error) and "'a'" in str(error.value) and "repair it" in str(error.value)
    assert len(check([sample("a", lying(kind), size=(30, 20))], progress=False)[0]) == 1


def test_the_dataset_gives_the_upright_image():
    for kind in ("JPEG", "PNG"):
        element, = dataset([sample("a", lying(kind), size=(30, 20))]).as_numpy_iterator()
        np.testing.assert_array_equal(element["image"], decode(lying(kind), "x"))
        assert element["image"].shape == (30, 20, 3)


def test_a_label_image_of_the_unturned_image_is_bad():
    labels = LabelImage(encoded(picture()[..., 0], mode="L"))
    with pytest.raises(InputError, match="label image is 30 x 20 pixels, the image image 'a' 20 x 30") as error:
        check([sample("a", lying(), size=(30, 20))._replace(segmentation=labels)], progress=False)
    assert one_line(error)


# Label images.

def numbers(*rows, mode="L"):
    return encoded(np.array(rows, "uint8"), mode=mode)


def test_a_table_says_what_the_numbers_mean():
    file = numbers([0, 1, 7], [255, 7, 9])
    np.testing.assert_array_equal(label_image(LabelImage(file)), [[0, 1, 7], [255, 7, 9]])
    np.testing.assert_array_equal(label_image(LabelImage(file, {1: 5, 7: 2})), [[255, 5, 2], [255, 2, 255]])
    np.testing.assert_array_equal(label_image(LabelImage(file, {7: 2}, other=0)), [[0, 0, 2], [0, 2, 0]])
    with pytest.raises(InputError, match="unknown labels 0, 9. Known: 1, 7, 255; repair it") as error:
        label_image(LabelImage(file, {1: 1, 7: 2, 255: 255}, other=None))
    assert one_line(error) and "label image" in str(error.value)


def test_a_label_image_in_memory_is_called_by_its_sample_and_each_of_two_is_looked_at():
    right, wrong = LabelImage(encoded(picture()[..., 0], mode="L")), LabelImage(numbers([1, 1]))
    given = sample("a", encoded(picture()))
    for one, other in ((right, wrong), (wrong, right)):
        with pytest.raises(InputError, match="^image 'a': label image: label image is 2 x 1 pixels") as error:
            check([given._replace(segmentation=one, masks=other)], progress=False)
        assert one_line(error)
    with pytest.raises(InputError, match="^image 'a': label image: .*truncated"):
        check([given._replace(segmentation=LabelImage(right.source[:-60]))], progress=False)


def test_numbers_that_no_label_can_have_are_bad():
    colours = LabelImage(encoded(picture()))
    with pytest.raises(InputError, match="labels from .*, expected 0 to 254") as error:
        segmentation(sample("a", b"")._replace(segmentation=colours))
    assert one_line(error)


def test_masks_are_the_pixels_of_each_objects_number():
    given = sample("a", b"", (2, 3), [[0, 0, 1, 1], [1, 0, 3, 2]], [1, 1], [False, False])
    found = masks(given._replace(masks=LabelImage(numbers([1, 2, 2], [255, 2, 0]))))
    np.testing.assert_array_equal(found, [[[1, 0, 0], [0, 0, 0]], [[0, 1, 1], [0, 1, 0]]])
    assert masks(given).shape == (0, 2, 3) and masks(given._replace(masks=[])).shape == (0, 2, 3)


@pytest.mark.parametrize("source, found", [
    (b"", "empty"), (b"text", "no JPEG"), (encoded(picture(), "TIFF", "F"), "mode F"),
    (encoded(picture(), "JPEG", "CMYK"), "mode CMYK"), (encoded(picture(), "PNG", "L")[:-60], "truncated"),
    ("nowhere.png", "nowhere.png: image is missing")])
def test_a_label_image_that_cannot_be_read_is_found_by_the_check(source, found):
    for field in ("segmentation", "masks"):
        given = sample("a", encoded(picture()))._replace(**{field: LabelImage(source)})
        with pytest.raises(InputError, match=found) as error:
            check([given], progress=False)
        assert one_line(error) and "--on-bad-sample skip" in str(error.value)
        assert check([given, sample("b", encoded(picture()))], "skip", progress=False)[1] == [str(error.value)]


def test_label_images_and_masks_are_in_the_dataset():
    file, other = numbers([0, 1, 2], [255, 2, 2]), encoded(picture(2, 3))
    given = sample("a", other, (2, 3), [[0, 0, 1, 1], [1, 0, 3, 2]], [1, 2], [False, True])._replace(
        segmentation=LabelImage(file), masks=LabelImage(file), label=4, present=[1, -1, 0],
        keypoints=np.ones((2, 5, 3), "float32"))
    element, = dataset([given]).as_numpy_iterator()
    np.testing.assert_array_equal(element["segmentation"], [[0, 1, 2], [255, 2, 2]])
    np.testing.assert_array_equal(element["masks"], [[[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 1, 1]]])
    assert element["label"] == 4 and list(element["present"]) == [1, -1, 0] and element["keypoints"].shape == (2, 5, 3)


# Rows.

def test_a_reader_fills_objects_up_with_zeros_and_cuts_off_what_is_too_much():
    file = numbers([0, 1, 2], [3, 2, 2])
    boxes = [[0, 0, 1, 1], [1, 0, 3, 2], [0, 1, 1, 2]]
    given = [sample("a", b"1", (2, 3), boxes, [1, 2, 3], [False, True, True])._replace(masks=LabelImage(file)),
             sample("b", b"2", (2, 3), boxes[:1], [1], [True])._replace(masks=LabelImage(file)),
             sample("c", b"3", (2, 3), [], [], [])._replace(masks=LabelImage(file))]
    for rows in (1, 2, 5):
        read = reader(given, rows)
        for i, each in enumerate(given):
            found = {key: value.numpy() for key, value in read(tf.constant(i)).items()}
            count = min(len(each.labels), rows)
            np.testing.assert_array_equal(found["masks"], masks(each)[:rows])  # filled up where they are resized
            for key, values in (("boxes", each.boxes), ("labels", each.labels), ("ignored", each.ignored)):
                assert len(found[key]) == rows
                np.testing.assert_array_equal(found[key][:count], values[:count])
                assert not found[key][count:].any()
            assert found["image"] == each.source and found["image_id"] == each.image_id.encode()


# Words.

def test_few_values_are_as_many_as_one_can_read():
    assert few([]) == "" and few("abc") == "a, b, c" and few(range(20), 3) == "0, 1, 2, ..."


def test_a_generator_is_closed_when_the_first_problem_ends_it():
    closed = []

    def results():
        try:
            yield from [1, InputError("bad"), 2]
        finally:
            closed.append(True)

    with pytest.raises(InputError, match="bad"):
        sift(results(), "stop")
    assert closed == [True]


def test_names_that_are_no_utf8_pass_through_the_graph(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    try:
        with open(path, "wb") as file:
            file.write(encoded(picture()))
    except OSError:
        pytest.skip("this file system wants UTF-8")
    element, = dataset([sample("caf\udce9", path)]).as_numpy_iterator()
    assert element["image_id"] == b"caf\xe9" and element["image"].shape == (20, 30, 3)
