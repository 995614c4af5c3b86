import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_cnns.data import samples as sample_data
from keras_cnns.data import voc
from keras_cnns.errors import InputError

OBJECT = """<object><name>{name}</name>{more}
<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>
"""
SIZE = "<size><width>60</width><height>50</height><depth>3</depth></size>"
FLAGS = "<pose>Left</pose><truncated>1</truncated><difficult>{}</difficult>"


def described(name="dog", box=(11, 21, 30, 40), more=FLAGS.format(0)):
    return OBJECT.format(name=name, box=box, more=more)


def annotation(*objects, filename="", size=SIZE):
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


@pytest.fixture
def year(tmp_path):
    """VOCdevkit/VOC2012: images 60 pixels wide, 50 high; train a, b, c and val c, d; d has no objects."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    contents = {"a": [described()], "b": [described("cat"), described("person")],
                "c": [described("dog", (1, 1, 60, 50), FLAGS.format(1))], "d": []}
    for name, objects in contents.items():
        write(folder, name, *objects)
        Image.new("RGB", (60, 50), "green").save(folder / "JPEGImages" / f"{name}.jpg")
    (folder / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    (folder / "ImageSets/Main/val.txt").write_text("c\nd\n")
    (folder / "ImageSets/Main/dog_train.txt").write_text("a  1\nb -1\nc  0\n")
    return folder


def read(folder, split="train", **options):
    found, skipped = voc.samples(folder, split=split, **options)
    assert skipped == []
    return found


def ids(samples):
    return [sample.image_id for sample in samples]


def write(folder, name, *objects, **options):
    (folder / "Annotations" / f"{name}.xml").write_text(annotation(*objects, **options))


def stopped(folder, *expected, split="train", **options):
    """The one line that ends the reading; it holds each of the expected texts."""
    with pytest.raises(InputError) as error:
        list(voc.detection(folder, split=split, **options))
    message = str(error.value)
    assert "\n" not in message
    for text in expected:
        assert text in message
    return message


def skips(folder, name, *expected):
    """The same sample, bad both ways: an error that names it, or one line while the others are read."""
    stopped(folder, *expected)
    samples, bad_annotations = voc.samples(folder, on_bad_sample="skip")
    samples, bad_images = sample_data.check(samples, "skip", progress=False)
    assert len(bad_annotations + bad_images) == 1
    for text in expected:
        assert text in (bad_annotations + bad_images)[0]
    assert ids(samples) == [each for each in "abc" if each != name]
    with pytest.warns(UserWarning, match="1 of 3 samples left out"):
        assert len(list(voc.detection(folder, on_bad_sample="skip"))) == 2


def test_the_kits_classes_are_twenty_in_alphabetical_order():
    assert len(voc.CLASSES) == 20 and list(voc.CLASSES) == sorted(voc.CLASSES)


def test_inclusive_1_based_boxes_become_0_based_with_exclusive_edges(year):
    a, _, c = read(year)
    np.testing.assert_array_equal(a.boxes, [[10, 20, 30, 40]])
    np.testing.assert_array_equal(c.boxes, [[0, 0, 60, 50]])  # the whole image
    assert a.boxes.dtype == np.float32 and a.labels.dtype == np.int32 and a.size == (50, 60)
    assert list(a.labels) == [voc.CLASSES.index("dog") + 1]


def test_difficult_objects_are_kept_as_ignored_ones(year):
    a, b, c = read(year)
    assert (list(a.ignored), list(b.ignored), list(c.ignored)) == ([False], [False, False], [True])
    assert c.details["difficult"] == [1] and c.details["truncated"] == [1] and c.details["pose"] == ["Left"]


def test_missing_flags_are_0_and_a_missing_pose_is_unspecified(year):
    write(year, "a", described(more=""), described(more="<difficult></difficult><occluded>1</occluded>"))
    details = read(year)[0].details
    assert details == {
        "pose": ["Unspecified"] * 2, "truncated": [0, 0], "difficult": [0, 0], "occluded": [0, 1]}


def test_parts_of_a_person_are_no_objects(year):
    part = described("head", (1, 1, 5, 5)).replace("object>", "part>")
    write(year, "a", described("person", more=part))
    np.testing.assert_array_equal(read(year)[0].boxes, [[10, 20, 30, 40]])


def test_numbers_of_annotation_tools_need_not_be_whole(year):
    write(year, "a", described(box=("11.5", "21", "45.7", "40.25")))
    np.testing.assert_allclose(read(year)[0].boxes, [[10.5, 20, 45.7, 40.25]])


def test_up_to_one_pixel_outside_is_clipped(year):
    write(year, "a", described(box=(0, 0, 61, 51)), described(box=(11, 21, 60.5, 50)))
    np.testing.assert_array_equal(read(year)[0].boxes, [[0, 0, 60, 50], [10, 20, 60, 50]])


def test_one_pixel_is_a_legal_box(year):
    write(year, "a", described(box=(60, 50, 60, 50)))
    np.testing.assert_array_equal(read(year)[0].boxes, [[59, 49, 60, 50]])


def test_an_image_without_objects_is_legal(year):
    element = list(voc.detection(year, split="val").as_numpy_iterator())[1]
    assert element["image_id"] == b"d" and element["image"].shape == (50, 60, 3)
    assert element["boxes"].shape == (0, 4) and element["labels"].shape == (0,)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA"])
def test_grey_alpha_and_palette_images_become_rgb(year, mode):
    (year / "JPEGImages/a.jpg").unlink()
    Image.new("RGB", (60, 50), (255, 0, 0)).convert(mode).save(year / "JPEGImages/a.png")
    image = next(voc.detection(year).as_numpy_iterator())["image"]
    grey = (76, 76, 76) if mode in ("L", "LA") else (255, 0, 0)
    np.testing.assert_array_equal(image, np.broadcast_to(np.array(grey, "uint8"), (50, 60, 3)))


def test_the_root_has_three_names(year, monkeypatch):
    expected = [sample.source for sample in read(year)]
    for root in (year, year.parent, year.parent.parent, str(year)):
        assert [sample.source for sample in read(root)] == expected
    monkeypatch.chdir(year)
    assert [sample.source for sample in read(".")] == expected


def test_without_a_year_the_newest_is_read(year):
    shutil.copytree(year, year.parent / "VOC2007")
    (year.parent / "VOC2007/ImageSets/Main/train.txt").write_text("b\n")
    assert ids(read(year.parent)) == ["a", "b", "c"]
    assert ids(read(year.parent, year=2007)) == ids(read(year.parent.parent, year="2007")) == ["b"]
    stopped(year.parent, "no year 2011", "2007, 2012", year=2011)


def test_a_folder_of_ones_own_name_is_read(year):
    own = year.rename(year.parent / "own")
    assert ids(read(own)) == ["a", "b", "c"]


def test_the_order_is_that_of_the_list(year):
    (year / "ImageSets/Main/train.txt").write_text("c\na\n\nb\nc\n")
    assert ids(read(year)) == ["c", "a", "b"]  # the second c is the first one again
    for _ in range(3):
        assert [each["image_id"] for each in voc.detection(year).as_numpy_iterator()] == [b"c", b"a", b"b"]


def test_lists_of_one_class_are_read_as_lists_of_images(year):
    assert ids(read(year, "dog_train")) == ["a", "b", "c"]


def test_shuffling_is_seeded(year):
    names = [f"{i:02}" for i in range(10)]
    for name in names:
        shutil.copy(year / "Annotations/a.xml", year / f"Annotations/{name}.xml")
        shutil.copy(year / "JPEGImages/a.jpg", year / f"JPEGImages/{name}.jpg")
    (year / "ImageSets/Main/train.txt").write_text("\n".join(names))

    def order(seed):
        return [each["image_id"].decode() for each in
                voc.detection(year, shuffle=True, seed=seed).as_numpy_iterator()]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == names != order(1)


def test_labels_txt_names_the_classes_by_whichever_name_the_root_is_called(year):
    for place in (year, year.parent, year.parent.parent):
        (place / "labels.txt").write_text("person\ndog\n\ncat \n")
        for root in (year, year.parent, year.parent.parent):
            assert voc.class_names(root) == ["person", "dog", "cat"]
            assert [list(sample.labels) for sample in read(root)] == [[2], [3, 1], [2]]
        (place / "labels.txt").unlink()
    assert voc.class_names(year) == list(voc.CLASSES)


def test_class_names_may_be_given(year):
    samples = read(year, class_names=["cat", "dog", "person"])
    assert [list(sample.labels) for sample in samples] == [[2], [1, 3], [2]]


def test_the_image_is_the_one_of_the_id_or_else_the_file_that_is_named(year):
    Image.new("RGB", (60, 50)).save(year / "JPEGImages/other.png")
    write(year, "a", described(), filename="other.png")  # a name from before the set was renamed
    assert pathlib.Path(read(year)[0].source).name == "a.jpg"
    (year / "JPEGImages/a.jpg").unlink()
    for filename in ("other.png", "C:\\pictures\\other.png", "/pictures/other.png"):
        write(year, "a", described(), filename=filename)
        assert pathlib.Path(read(year)[0].source).name == "other.png"
    for suffix in (".jpeg", ".png", ".JPG"):
        (year / "JPEGImages/b.jpg").rename(year / f"JPEGImages/b{suffix}")
        assert pathlib.Path(read(year)[1].source).name == f"b{suffix}"
        (year / f"JPEGImages/b{suffix}").rename(year / "JPEGImages/b.jpg")


def test_a_missing_folder_is_named(tmp_path):
    stopped(tmp_path / "nowhere", str(tmp_path / "nowhere"), "no such folder", "VOCdevkit")


def test_an_empty_folder_is_named(tmp_path):
    stopped(tmp_path, str(tmp_path), "nothing", "VOCdevkit")
    (tmp_path / "VOCdevkit").mkdir()
    stopped(tmp_path, str(tmp_path / "VOCdevkit"), "nothing")


def test_a_folder_with_other_things_is_named_with_them(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    stopped(tmp_path, str(tmp_path), "holiday.jpg", "VOCdevkit")


def test_a_missing_split_is_named_with_those_there_are(year):
    message = stopped(year, "test.txt", "train, val", split="test")
    assert "dog_train" not in message


def test_an_empty_split_is_named(year):
    (year / "ImageSets/Main/train.txt").write_text("\n  \n")
    stopped(year, "train.txt", "empty")


@pytest.mark.parametrize("text", ["", "dog\ncat\ndog\n"])
def test_labels_txt_without_a_name_or_with_one_twice_is_refused(year, text):
    (year / "labels.txt").write_text(text)
    stopped(year, "labels.txt")


def test_a_missing_image_is_named(year):
    (year / "JPEGImages/b.jpg").unlink()
    skips(year, "b", "JPEGImages/b.jpg", "missing", "on_bad_sample='skip'")


def test_a_truncated_image_is_named(year):
    path = year / "JPEGImages/b.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    skips(year, "b", "JPEGImages/b.jpg", "truncated or corrupt", "on_bad_sample='skip'")


def test_an_empty_image_and_a_text_are_named(year):
    path = year / "JPEGImages/b.jpg"
    for contents, found in ((b"", "empty"), (b"a text", "no JPEG")):
        path.write_bytes(contents)
        skips(year, "b", "JPEGImages/b.jpg", found)


def test_an_image_of_another_size_than_annotated_is_named(year):
    Image.new("RGB", (50, 60)).save(year / "JPEGImages/b.jpg")
    skips(year, "b", "JPEGImages/b.jpg", "50 x 60", "60 x 50")


def test_a_missing_annotation_is_named(year):
    (year / "Annotations/b.xml").unlink()
    skips(year, "b", "Annotations/b.xml", "missing", "on_bad_sample='skip'")


@pytest.mark.parametrize("contents", [
    b"", b"{}", b"<annotation><size>", b"<?xml version='1.0' encoding='klingon'?><annotation/>",
    b"\xff\xfe\x00"])
def test_an_annotation_that_does_not_parse_is_named(year, contents):
    (year / "Annotations/b.xml").write_bytes(contents)
    skips(year, "b", "Annotations/b.xml", "no XML")


@pytest.mark.parametrize("size, found", [
    ("", "<size/width> is missing"),
    ("<size><width>60</width></size>", "<size/height> is missing"),
    ("<size><width>wide</width><height>50</height></size>", "<size/width> is 'wide'"),
    ("<size><width>0</width><height>0</height></size>", "0 x 0"),
    ("<size><width>60.5</width><height>50</height></size>", "60.5 x 50")])
def test_a_size_that_is_none_is_named(year, size, found):
    write(year, "b", described(), size=size)
    skips(year, "b", "Annotations/b.xml", found)


@pytest.mark.parametrize("box, found", [
    (("x", 1, 20, 20), "<bndbox/xmin> is 'x', expected a number"),
    (("nan", 1, 20, 20), "<bndbox/xmin> is 'nan'"),
    (("", 1, 20, 20), "<bndbox/xmin> is missing or empty"),
    ((30, 10, 20, 40), "no area"),
    ((21, 10, 20, 40), "no area"),
    ((10, 40, 20, 30), "no area"),
    ((-1, 1, 20, 20), "outside the image of 60 x 50"),
    ((1, 1, 62, 20), "outside the image of 60 x 50"),
    ((1, 1, 20, 51.5), "outside the image of 60 x 50"),
    ((100, 100, 120, 120), "outside the image of 60 x 50"),
    ((61, 1, 61, 20), "no area")])  # nothing is left after clipping
def test_a_bad_box_is_named_with_its_file_and_object(year, box, found):
    write(year, "b", described("cat"), described("dog", box))
    skips(year, "b", "Annotations/b.xml: object 2 (dog)", found)


def test_an_object_without_a_box_or_a_name_is_named(year):
    write(year, "b", "<object><name>cat</name></object>")
    skips(year, "b", "Annotations/b.xml: object 1 (cat)", "<bndbox/xmin> is missing")
    write(year, "b", described(name=""))
    skips(year, "b", "Annotations/b.xml: object 1 (no name)", "unknown class")


def test_a_flag_that_is_no_number_is_named(year):
    write(year, "b", described(more="<difficult>perhaps</difficult>"))
    skips(year, "b", "Annotations/b.xml: object 1 (dog)", "<difficult> is 'perhaps'")


def test_an_unknown_class_is_named_with_the_known_ones(year):
    write(year, "b", described("unicorn"))
    skips(year, "b", "Annotations/b.xml: object 1 (unicorn)", "aeroplane, bicycle", "class_names=",
          "labels.txt")


def test_nothing_left_after_skipping_is_an_error(year):
    for name in "abc":
        (year / f"Annotations/{name}.xml").write_text("")
    stopped(year, "Not one of 3 samples", "a.xml", on_bad_sample="skip")


def test_another_word_than_stop_or_skip_is_refused(year):
    stopped(year, "'stop', 'skip'", on_bad_sample="ignore")


REAL = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", "")) / "voc" / "VOCdevkit"
real = pytest.mark.skipif(not os.environ.get("KERAS_CNNS_DATA"), reason="KERAS_CNNS_DATA is not set")


@real
def test_voc2012_has_70_images_and_181_objects_of_which_22_difficult():
    samples, skipped = voc.samples(REAL, 2012, "trainval", on_bad_sample="skip")
    assert (len(samples), skipped) == (70, [])
    assert sum(len(sample.boxes) for sample in samples) == 181
    assert sum(int(sample.ignored.sum()) for sample in samples) == 22
    persons = voc.CLASSES.index("person") + 1
    assert sum(int(np.sum(sample.labels == persons)) for sample in samples) == 58
    parts = read(REAL, "train", year=2012) + read(REAL, "val", year=2012)
    assert sorted(ids(parts)) == sorted(ids(samples))


@real
def test_every_real_image_decodes_to_its_annotated_size_with_its_boxes_inside():
    for year in (2007, 2012):
        samples = read(REAL, "trainval", year=year)
        assert sample_data.check(samples, progress=False) == (samples, [])
        for element in voc.detection(REAL, year, "trainval").as_numpy_iterator():
            height, width, _ = element["image"].shape
            x1, y1, x2, y2 = element["boxes"].T
            assert np.all((0 <= x1) & (x1 < x2) & (x2 <= width) & (0 <= y1) & (y1 < y2) & (y2 <= height))
            assert np.all((1 <= element["labels"]) & (element["labels"] <= 20))


@real
def test_voc2007_has_the_four_images_and_boxes_of_its_annotations():
    samples = {sample.image_id: sample for sample in read(REAL, "trainval", year=2007)}
    assert sorted(samples) == ["000005", "000007", "000009", "000012"]
    car = samples["000007"]  # <xmin>141 <ymin>50 <xmax>500 <ymax>330, truncated, of 500 x 333
    np.testing.assert_array_equal(car.boxes, [[140, 49, 500, 330]])
    assert list(car.labels) == [7] and car.size == (333, 500) and car.details["truncated"] == [1]
    assert list(samples["000005"].ignored) == [False, False, True, False, True]


@real
def test_one_real_annotation_of_voc2012_by_hand():
    person = next(sample for sample in read(REAL, year=2012) if sample.image_id == "2007_000027")
    # <xmin>174 <ymin>101 <xmax>349 <ymax>351
    np.testing.assert_array_equal(person.boxes, [[173, 100, 349, 351]])
    assert list(person.labels) == [15] and person.size == (500, 486)
