
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_cnns.data import pairs
from keras_cnns.data import samples as sample_data
from keras_cnns.errors import InputError
from tests.data.helpers import DATA, real, stopped


def put(path, numbers, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(numbers, "uint8"))
    if mode == "P":
        picture.putpalette([*range(256)] * 3)
    picture.save(path)


@pytest.fixture
def folders(tmp_path):
    """Three pairs, image jpg and label png, with the numbers 0, 1, 2 and 255."""
    for name in "abc":
        put(tmp_path / f"image/{name}.jpg", np.zeros((2, 3, 3)))
        put(tmp_path / f"label/{name}.png", [[0, 1, 2], [255, 0, 0]])
    return tmp_path / "image", tmp_path / "label"


def read(folders, *arguments, **options):
    found, skipped = pairs.samples(*folders, *arguments, **options)
    assert skipped == []
    return found


def ids(samples):
    return [sample.image_id for sample in samples]


def skips(folders, *expected, **options):
    """One bad pair, both ways: an error that names it, or one line while the others are read."""
    stopped(lambda: pairs.segmentation(*folders, **options), *expected)
    with pytest.warns(UserWarning, match="1 of [34] samples left out") as warned:
        elements = list(pairs.segmentation(*folders, on_bad_sample="skip", **options))
    assert len(elements) >= 2 and warned[0].filename == __file__
    for text in expected:
        assert text in str(warned[0].message)


def test_files_of_equal_names_are_pairs_in_order_of_their_names(folders):
    found = read(folders)
    assert ids(found) == ["a", "b", "c"] and found[0].source == str(folders[0] / "a.jpg")
    assert found[0].segmentation.source == str(folders[1] / "a.png")
    for element in pairs.segmentation(*folders).as_numpy_iterator():
        np.testing.assert_array_equal(element["segmentation"], [[0, 1, 2], [255, 0, 0]])
        assert element["segmentation"].dtype == np.uint8 and element["image"].shape == (2, 3, 3)


def test_numbers_mean_what_the_values_say(folders):
    found = read(folders, {0: 2, 1: 255, 2: 0, 255: 1})
    np.testing.assert_array_equal(sample_data.segmentation(found[0]), [[2, 255, 0], [1, 2, 2]])


def test_palette_and_colour_labels_are_read_by_their_numbers(folders):
    put(folders[1] / "a.png", [[0, 1, 2], [255, 0, 0]], "P")
    np.testing.assert_array_equal(sample_data.segmentation(read(folders)[0]), [[0, 1, 2], [255, 0, 0]])
    red, blue, black = (128, 0, 0), (0, 0, 128), (0, 0, 0)
    put(folders[1] / "a.png", [[red, blue, black]] * 2)
    found = read(folders, {128: 1, 128 * 65536: 2, 0: 0})
    np.testing.assert_array_equal(sample_data.segmentation(found[0]), [[1, 2, 0]] * 2)


def test_a_number_of_no_meaning_is_an_error_that_names_it(folders):
    put(folders[1] / "b.png", [[0, 1, 7], [9, 0, 0]])
    skips(folders, "label/b.png: unknown labels 7, 9. Known: 0, 1, 2, 255", class_names=["cat", "dog"])
    skips(folders, "label/b.png: unknown labels 7, 9. Known: 0, 1, 2, 255", values={0: 0, 1: 1, 2: 2, 255: 255})
    assert len(list(pairs.segmentation(*folders))) == 3  # no one has said what may be


def test_a_missing_partner_is_named_on_either_side(folders):
    (folders[1] / "b.png").unlink()
    skips(folders, f"{folders[0]}/b.jpg: has no partner b.* in {folders[1]}")
    put(folders[1] / "b.png", [[0, 1, 2], [255, 0, 0]])
    put(folders[1] / "d.png", [[0, 1, 2], [255, 0, 0]])
    skips(folders, f"{folders[1]}/d.png: has no partner d.* in {folders[0]}")


def test_two_files_of_one_name_are_not_chosen_between(folders):
    put(folders[0] / "b.png", np.zeros((2, 3, 3)))
    skips(folders, "image/b.jpg: has a twin b.png")


def test_a_label_image_of_another_size_is_named(folders):
    put(folders[1] / "c.png", [[0, 1]])
    skips(folders, "label/c.png: label image is 2 x 1 pixels, the image")


def test_a_broken_image_or_label_image_is_named(folders):
    (folders[1] / "c.png").write_bytes((folders[1] / "c.png").read_bytes()[:50])
    skips(folders, "label/c.png: image is truncated")
    put(folders[1] / "c.png", [[0, 1, 2], [255, 0, 0]])
    (folders[0] / "c.jpg").write_bytes(b"")
    skips(folders, "image/c.jpg: image file is empty")


def test_hidden_files_and_other_files_are_left_out(folders):
    for name in (".DS_Store", "Thumbs.db", ".a.jpg", "list.txt"):
        (folders[0] / name).write_text("?")
    assert ids(read(folders)) == ["a", "b", "c"]


def test_shuffling_is_by_the_seed_and_the_same_in_every_pass(folders):
    for number in range(10):
        put(folders[0] / f"{number}.png", np.zeros((2, 3, 3)))
        put(folders[1] / f"{number}.png", np.zeros((2, 3)))

    def names(dataset):
        return [element["image_id"].decode() for element in dataset.as_numpy_iterator()]

    shuffled = pairs.segmentation(*folders, shuffle=True)
    first, other = names(shuffled), names(pairs.segmentation(*folders, shuffle=True, seed=1))
    assert names(shuffled) == first != other and sorted(first) == sorted(other) == ids(read(folders)) != first


def test_a_folder_that_is_missing_or_has_no_image_is_named(folders, tmp_path):
    stopped(lambda: pairs.samples(folders[0], tmp_path / "gone"), "gone: folder cannot be read (No such file")
    stopped(lambda: pairs.samples(tmp_path, folders[1]), "no image in it", "but image, label")


def test_another_word_than_stop_or_skip_is_refused(folders):
    stopped(lambda: read(folders, on_bad_sample="ignore"), "'stop', 'skip'")


# Lists.

def test_a_list_has_two_columns_parted_by_a_tab_or_blanks(folders, tmp_path):
    (tmp_path / "all.txt").write_text("image/b.jpg label/b.png\n\nimage/a.jpg\tlabel/a.png\nimage/b.jpg label/b.png\n")
    found, skipped = pairs.listed(tmp_path / "all.txt", class_names=["cat", "dog"])
    assert skipped == [] and ids(found) == ["b", "a"]
    assert sample_data.check(found, progress=False) == (found, [])
    (folders[0] / "a.jpg").rename(folders[0] / "a 1.jpg")
    (tmp_path / "all.txt").write_text("image/a 1.jpg\tlabel/a.png\n")
    assert pairs.listed(tmp_path / "all.txt")[0][0].source == f"{folders[0]}/a 1.jpg"


def test_paths_of_another_machine_are_found_by_their_last_folder(folders, tmp_path):
    (tmp_path / "all.txt").write_text("/SegNet/x/image/b.jpg /SegNet/x/label/b.png\nC:\\x\\image\\c.jpg label/c.png\n")
    found, _ = pairs.listed(tmp_path / "all.txt")
    assert ids(found) == ["b", "c"]


def test_images_of_a_list_that_are_called_alike_have_their_path_as_id(folders, tmp_path):
    put(tmp_path / "more/a.jpg", np.zeros((2, 3, 3)))
    (tmp_path / "all.txt").write_text("image/a.jpg label/a.png\nmore/a.jpg label/a.png\nimage/b.jpg label/b.png\n")
    assert ids(pairs.listed(tmp_path / "all.txt")[0]) == ["image/a", "more/a", "image/b"]


@pytest.mark.parametrize("line, expected", [
    ("image/a.jpg", "line 2: 1 columns, expected an image and a label image"),
    ("image/a.jpg label/a.png x", "line 2: 3 columns"),
    ("image/d.jpg label/a.png", "image/d.jpg: image is missing"),
    ("image/a.jpg label/d.png", "label/d.png: image is missing"),
    ("image/a.jpg \0", "image is missing")])
def test_a_bad_line_is_named_or_left_out(folders, tmp_path, line, expected):
    (tmp_path / "all.txt").write_text(f"image/b.jpg label/b.png\n{line}\n")
    stopped(lambda: pairs.listed(tmp_path / "all.txt"), "all.txt: line 2", expected)
    found, skipped = pairs.listed(tmp_path / "all.txt", on_bad_sample="skip")
    assert len(found) == len(skipped) == 1 and expected in skipped[0]


def test_a_list_that_is_missing_or_empty_is_named(tmp_path):
    stopped(lambda: pairs.listed(tmp_path / "all.txt"), "all.txt: the list cannot be read")
    stopped(lambda: pairs.listed(tmp_path), "the list cannot be read (Is a directory)")
    (tmp_path / "all.txt").write_text("\n")
    stopped(lambda: pairs.listed(tmp_path / "all.txt"), "all.txt: the list is empty")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.one_of(st.binary(max_size=60), st.text("image/lab.jpgn \t\n", max_size=60).map(str.encode)))
def test_any_bytes_in_a_list_are_read_or_refused_in_one_line(folders, contents):
    path = folders[0] / "all.txt"
    path.write_bytes(contents)
    try:
        pairs.listed(path)
    except InputError as error:
        assert len(str(error).split("\n")) == 1


# ISBI and CamVid.

def test_isbis_cells_are_1_and_its_membranes_background(tmp_path):
    put(tmp_path / "train/image/0.png", np.zeros((2, 2)))
    put(tmp_path / "train/label/0.png", [[0, 255], [255, 0]])
    found, _ = pairs.isbi_samples(tmp_path)
    np.testing.assert_array_equal(sample_data.segmentation(found[0]), [[0, 1], [1, 0]])
    put(tmp_path / "train/label/0.png", [[0, 254], [255, 0]])
    stopped(lambda: pairs.isbi(tmp_path), "label/0.png: unknown labels 254. Known: 0, 255")


def test_camvids_classes_are_1_to_11_and_void_counts_neither_way(tmp_path):
    put(tmp_path / "val/0.png", np.zeros((3, 4, 3)))
    put(tmp_path / "valannot/0.png", np.arange(12).reshape(3, 4))
    (tmp_path / "val.txt").write_text("/SegNet/CamVid/val/0.png /SegNet/CamVid/valannot/0.png\n")
    found, _ = pairs.camvid_samples(tmp_path, "val")
    assert sample_data.segmentation(found[0]).ravel().tolist() == [*range(1, 12), 255]
    assert len(pairs.CAMVID_CLASSES) == 11 and pairs.CAMVID_CLASSES[8] == "car"
    put(tmp_path / "valannot/0.png", np.arange(12).reshape(3, 4) + 1)
    stopped(lambda: pairs.camvid(tmp_path, "val"), "valannot/0.png: unknown labels 12")


@real
def test_the_20_real_slices_of_isbi_have_the_cells_of_their_files():
    elements = list(pairs.isbi(DATA / "isbi").as_numpy_iterator())
    assert len(elements) == 20
    for element in elements:
        pixels = np.array(Image.open(DATA / f"isbi/train/label/{element['image_id'].decode()}.png"))
        np.testing.assert_array_equal(element["segmentation"], pixels // 255)
        assert element["image"].shape == (512, 512, 3)
    assert 0.7 < np.mean([element["segmentation"].mean() for element in elements]) < 0.85  # membranes are thin


@real
def test_the_labels_of_isbi_lie_higher_than_its_dark_membranes():
    # By part of a pixel, which counts: moved by a pixel each way, the thin membranes meet themselves in 0.765 only.
    same = either = 0
    for element in pairs.isbi(DATA / "isbi").as_numpy_iterator():
        dark, membranes = 255.0 - element["image"][1:-1, :, 0], element["segmentation"] == 0
        assert np.mean(dark[membranes[:-2]]) > np.mean(dark[membranes[2:]]) + 1
        same += np.sum(membranes[1:, 1:] & membranes[:-1, :-1])
        either += np.sum(membranes[1:, 1:] | membranes[:-1, :-1])
    assert same / either == pytest.approx(0.765, abs=0.001)


@real
@pytest.mark.parametrize("split, count", [("train", 20), ("val", 10)])
def test_the_real_frames_of_camvid_have_the_classes_of_their_files(split, count):
    elements = list(pairs.camvid(DATA / "camvid", split).as_numpy_iterator())
    assert len(elements) == count
    for element in elements:
        name = element["image_id"].decode()
        pixels = np.array(Image.open(DATA / f"camvid/{split}annot/{name}.png"))
        np.testing.assert_array_equal(element["segmentation"], np.where(pixels == 11, 255, pixels + 1))
        assert element["image"].shape == (360, 480, 3)
    upper, lower = elements[0]["segmentation"][:90], elements[0]["segmentation"][-90:]
    sky, road = (pairs.CAMVID_CLASSES.index(name) + 1 for name in ("sky", "road"))
    assert np.sum(upper == sky) > np.sum(lower == sky) and np.sum(lower == road) > np.sum(upper == road)
