import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_cnns.data.images import decode
from keras_cnns.data.samples import Sample, check, dataset
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
