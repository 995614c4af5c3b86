import collections
import io
import json
import os
import pathlib
import random
import re
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns.data import samples as sample_data
from keras_cnns.data import voc
from keras_cnns.data.samples import LabelImage, Sample
from keras_cnns.errors import InputError
from tests.data.helpers import stopped as refused

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
    return refused(lambda: voc.detection(folder, split=split, **options), *expected)


def skips(folder, name, *expected):
    """The same sample, bad both ways: an error that names it, or one line while the others are read."""
    stopped(folder, *expected)
    samples, bad_annotations = voc.samples(folder, on_bad_sample="skip")
    samples, bad_images = sample_data.check(samples, "skip", progress=False)
    assert len(bad_annotations + bad_images) == 1
    for text in expected:
        assert text in (bad_annotations + bad_images)[0]
    assert ids(samples) == [each for each in "abc" if each != name]


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


def test_parts_of_a_person_are_no_objects_but_details(year):
    parts = (described("head", (1, 1, 5, 5), "") + described("hand", (2.5, 3, 60, 50), "")).replace("object>", "part>")
    write(year, "a", described("person", more=parts), described("dog"))
    sample = read(year)[0]
    np.testing.assert_array_equal(sample.boxes, [[10, 20, 30, 40]] * 2)
    assert sample.details["parts"] == [[["head", 0, 0, 5, 5], ["hand", 1.5, 2, 60, 50]], []]
    write(year, "a", described("person", more="<part><name>head</name></part>"))
    skips(year, "a", "object 1 (person), part 1", "<bndbox/xmin> is missing")


def test_further_tags_are_kept_as_text(year):
    actions = "<actions><jumping>1</jumping><other>0</other></actions><point><x>155</x></point><mood>good</mood>"
    write(year, "a", described("person", more=actions), described("dog"))
    assert read(year)[0].details["tags"] == [
        {"actions/jumping": "1", "actions/other": "0", "point/x": "155", "mood": "good"}, {}]


def test_what_is_told_of_the_image_is_kept_as_text(year):
    more = ("<folder>VOC2012</folder><source><database>The VOC2007 Database</database><flickrid>1</flickrid></source>"
            "<owner><name>?</name></owner><segmented>1</segmented>")
    write(year, "a", described(), size=SIZE + more)
    assert read(year)[0].about == {
        "filename": "", "size/depth": "3", "folder": "VOC2012", "source/database": "The VOC2007 Database",
        "source/flickrid": "1", "owner/name": "?", "segmented": "1"}


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


def plain(folder, pictures, annotations):
    """Moves the images and annotations of a year to other places; no lists are left."""
    shutil.rmtree(folder / "ImageSets")
    for old, new, in (("Annotations", annotations), ("JPEGImages", pictures)):
        aside = (folder / old).rename(folder / f"{old}.aside")
        (folder / new).mkdir(exist_ok=True)
        for path in aside.iterdir():
            path.rename(folder / new / path.name)
        aside.rmdir()
    return folder.rename(folder.parent.parent / "own")


@pytest.mark.parametrize("pictures, annotations", [
    (".", "."), ("JPEGImages", "Annotations"), ("images", "Annotations"), ("images", "annotations"),
    (".", "annotations")])
def test_plain_folders_are_read_whole(year, pictures, annotations):
    own = plain(year, pictures, annotations)
    (own / annotations / "._a.xml").write_bytes(b"\0")  # what a Mac leaves
    for split in ("train", "all", None):
        found = read(own, split)
        assert ids(found) == ["a", "b", "c", "d"]
        assert sample_data.check(found, progress=False) == (found, [])
    stopped(own, "no such split", "no lists", "'all'", "val.txt", split="val")
    (own / "ImageSets/Main").mkdir(parents=True)
    (own / "ImageSets/Main/val.txt").write_text("d\n")
    assert ids(read(own, "val")) == ["d"]
    stopped(own, "no such split", "Found: val", split="train")


def test_a_plain_folder_without_annotations_is_named(year):
    for path in (year / "Annotations").iterdir():
        path.unlink()
    shutil.rmtree(year / "ImageSets")
    stopped(year, "Annotations", "*.xml")


def test_with_lists_all_is_every_annotation_unless_a_list_is_called_so(year):
    assert ids(read(year, "all")) == ids(read(year, None)) == ["a", "b", "c", "d"]
    (year / "ImageSets/Main/all.txt").write_text("d\na\n")
    assert ids(read(year, "all")) == ["d", "a"]


def test_lists_of_other_tasks_are_named_with_their_folder(year):
    for name, lines in {"Segmentation/val": "b\n", "Action/jumping_train": "a  1  1\na  2 -1\nc  1 -1\n"}.items():
        (year / f"ImageSets/{name}.txt").parent.mkdir()
        (year / f"ImageSets/{name}.txt").write_text(lines)
    assert ids(read(year, "Segmentation/val")) == ["b"]
    assert ids(read(year, "Action/jumping_train")) == ["a", "c"]
    stopped(year, "train, val, Action/jumping_train, Segmentation/val", split="test")


def test_an_id_may_look_like_one_with_columns(year):
    for name in ("a 1", "a 1 2"):
        shutil.copy(year / "Annotations/a.xml", year / f"Annotations/{name}.xml")
        shutil.copy(year / "JPEGImages/a.jpg", year / f"JPEGImages/{name}.jpg")
    (year / "ImageSets/Main/train.txt").write_text("a 1\na 1 2\na 1 2 -1\na -1\n")
    assert ids(read(year)) == ["a 1", "a 1 2", "a"]


def test_names_that_are_no_utf8_are_read(year):
    name = os.fsdecode(b"caf\xe9")
    shutil.copy(year / "Annotations/a.xml", year / f"Annotations/{name}.xml")
    shutil.copy(year / "JPEGImages/a.jpg", year / f"JPEGImages/{name}.jpg")
    (year / "ImageSets/Main/train.txt").write_bytes(b"caf\xe9\n\xe2\x82\xac\n")
    shutil.copy(year / "Annotations/a.xml", year / "Annotations/\u20ac.xml")
    shutil.copy(year / "JPEGImages/a.jpg", year / "JPEGImages/\u20ac.jpg")
    assert ids(read(year)) == [name, "\u20ac"]
    assert ids(read(year, None)) == ["a", "b", "c", name, "d", "\u20ac"]
    elements = list(voc.detection(year).as_numpy_iterator())
    assert [element["image_id"] for element in elements] == [b"caf\xe9", "\u20ac".encode()]


def test_images_without_annotation_are_found(year):
    assert voc.unannotated(year) == []
    for name in ("zebra.png", "e.jpg", ".hidden.jpg", "notes.txt"):
        (year / "JPEGImages" / name).write_bytes(b"")
    assert voc.unannotated(year) == [str(year / "JPEGImages" / name) for name in ("e.jpg", "zebra.png")]
    write(year, "f", filename="e.jpg")  # an annotation of another name
    (year / "Annotations/g.xml").write_text("no XML")
    assert voc.unannotated(year.parent, 2012) == [str(year / "JPEGImages/zebra.png")]


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


def test_labelmes_class_names_are_read_without_what_is_no_class(year):
    (year / "class_names.txt").write_text("__ignore__\n_background_\nperson\ndog\ncat\n")
    assert voc.class_names(year) == ["person", "dog", "cat"]
    (year / "labels.txt").write_text("cat\ndog\nperson\n")
    assert voc.class_names(year) == ["cat", "dog", "person"]


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


@pytest.mark.parametrize("split", ["", "tr\0ain", "..", 5, "x" * 300])
def test_a_split_that_can_be_none_is_refused(year, split):
    stopped(year, "no such split", split=split)


def test_a_list_in_utf16_is_named(year):
    (year / "ImageSets/Main/train.txt").write_text("a\nb\n", "utf-16")
    stopped(year, "train.txt", "save it as UTF-8")
    (year / "labels.txt").write_bytes(b"caf\xe9\n")
    stopped(year, "labels.txt", "save it as UTF-8")


@pytest.mark.parametrize("line", ["../a", "/etc/passwd", "x/../../a"])
def test_an_id_outside_of_the_folder_is_refused(year, line):
    (year / "ImageSets/Main/train.txt").write_text(line)
    stopped(year, "train.txt", repr(line), "no image id")


def test_a_list_that_cannot_be_read_is_named(year, monkeypatch):
    def fails(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "read_text", fails)
    stopped(year, "train.txt", "Permission denied")


def test_a_folder_that_cannot_be_read_is_named(year, monkeypatch):
    def fails(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", fails)
    stopped(year, "Annotations", "Permission denied")


@pytest.mark.parametrize("text", ["", "dog\ncat\ndog\n"])
def test_labels_txt_without_a_name_or_with_one_twice_is_refused(year, text):
    (year / "labels.txt").write_text(text)
    stopped(year, "labels.txt")


def test_a_missing_image_is_named(year):
    (year / "JPEGImages/b.jpg").unlink()
    skips(year, "b", "JPEGImages/b.jpg", "missing", "on_bad_sample='skip'")


def test_what_is_left_out_is_told_in_one_warning(year):
    (year / "JPEGImages/b.jpg").unlink()
    with pytest.warns(UserWarning, match="1 of 3 samples left out") as warned:
        assert len(list(voc.detection(year, on_bad_sample="skip"))) == 2
    assert warned[0].filename == __file__ and len(warned) == 1


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
    (year / "Annotations/b.txt").write_text("0 0.5 0.5 0.1 0.1")
    skips(year, "b", "Annotations/b.txt", "PASCAL Annotation Version 1.00", "there are 0")


def test_an_annotation_that_is_no_file_is_named(year):
    path = year / "Annotations/b.xml"
    path.unlink()
    path.mkdir()
    skips(year, "b", "Annotations/b.xml", "no file")
    path.rmdir()
    path.symlink_to(path)
    skips(year, "b", "Annotations/b.xml", "no file")
    path.unlink()
    os.mkfifo(path)  # to open it would wait for ever
    skips(year, "b", "Annotations/b.xml", "no file")


def test_an_annotation_that_cannot_be_read_is_named(year, monkeypatch):
    def fails(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "read_bytes", fails)
    refused(lambda: voc.samples(year), "Annotations/a.xml", "Permission denied", "on_bad_sample='skip'")


@pytest.mark.parametrize("prolog, text", [
    ("<!DOCTYPE lolz [<!ENTITY lol0 'lol'>" + "".join(
        f"<!ENTITY lol{i} '{f'&lol{i - 1};' * 10}'>" for i in range(1, 10)) + "]>", "&lol9;"),  # billion laughs
    (f"<!DOCTYPE blowup [<!ENTITY a '{'a' * 50_000}'>]>", "&a;" * 10_000),  # quadratic blowup
    ("<!DOCTYPE leak [<!ENTITY file SYSTEM 'file:///etc/passwd'>]>", "&file;"),
    ("<!DOCTYPE leak [<!ENTITY % file SYSTEM 'file:///etc/passwd'> %file;]>", ""),
    ("<!DOCTYPE annotation SYSTEM 'http://127.0.0.1:9/x.dtd'>", ""),
    ("<!DOCTYPE annotation>", "")])
def test_document_types_and_entities_are_refused_unread(year, prolog, text):
    path = year / "Annotations/b.xml"
    path.write_text(f"<?xml version='1.0'?>{prolog}{annotation(described('cat'), filename=text)}")
    skips(year, "b", "Annotations/b.xml", "document type or entities", "<!DOCTYPE")


def test_deep_and_long_annotations_are_read(year):
    deep = "<x>" * 100_000 + "</x>" * 100_000
    write(year, "a", described("dog", more=deep) + deep, *[described("cat")] * 2000)
    assert len(read(year)[0].labels) == 2001


def test_mutated_annotations_give_samples_or_one_line(year):
    whole = annotation(described("person", more=FLAGS.format(1) + "<part><name>head</name><bndbox><xmin>1</xmin>"
                                 "<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
                                 '<keras_cnns>{"ignored": true, "details": {"area": 5}}</keras_cnns>'),
                       size=SIZE + '<keras_cnns>{"about": {"id": 3}}</keras_cnns>').encode()
    chance, path, outcomes = random.Random(0), year / "Annotations/b.xml", collections.Counter()
    pieces = [b"<", b">", b"&", b"-", b"nan", b"1e999", b"\0", b"\xff", b"{", b"[", b'"', b"null", b"</object>",
              b"9" * 400]
    values = [match.span(1) for match in re.finditer(b">([^<]+)<", whole)]
    for number in range(500):
        contents = bytearray(whole)
        if number % 2:  # XML still
            start, end = chance.choice(values)
            contents[start:end] = chance.choice([b"1", b"-3", b"1e9", b"", b"nan", b"{}", b"0.5", b"cat", b"3" * 50])
        for _ in range(0 if number % 2 else chance.randint(1, 4)):
            start = chance.randrange(len(contents))
            contents[start:start + chance.choice((0, 1, 1, 5, 40))] = chance.choice(
                [*pieces, bytes([chance.randrange(256)]), contents[:chance.randrange(60)]])
        path.write_bytes(contents)
        try:
            voc.samples(year)
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error) and "b.xml" in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


@pytest.mark.parametrize("contents", [
    b"", b"{}", b"<annotation><size>", b"<?xml version='1.0' encoding='klingon'?><annotation/>",
    b"\xff\xfe\x00"])
def test_an_annotation_that_does_not_parse_is_named(year, contents):
    (year / "Annotations/b.xml").write_bytes(contents)
    skips(year, "b", "Annotations/b.xml", "no XML")


@pytest.mark.parametrize("size, found", [
    ("<size><width>60</width></size>", "60 x 0"),
    ("<size><width>wide</width><height>50</height></size>", "<size/width> is 'wide'"),
    ("<size><width>1e30</width><height>50</height></size>", "1e+30 x 50"),
    ("<size><width>1_0</width><height>50</height></size>", "<size/width> is '1_0'"),
    ("<size><width>60.5</width><height>50</height></size>", "60.5 x 50")])
def test_a_size_that_is_none_is_named(year, size, found):
    write(year, "b", described(), size=size)
    skips(year, "b", "Annotations/b.xml", found)


@pytest.mark.parametrize("box, found", [
    (("x", 1, 20, 20), "<bndbox/xmin> is 'x', expected a number"),
    (("nan", 1, 20, 20), "<bndbox/xmin> is 'nan'"),
    (("-inf", 1, 20, 20), "<bndbox/xmin> is '-inf'"),
    ((1, 1, "1e999", 20), "<bndbox/xmax> is '1e999'"),
    ((1, 1, "9" * 400, 20), "<bndbox/xmax> is '9999"),
    ((1, 1, 1e300, 20), "outside the image"),
    ((10, "1e-99999999", 20, 20), "<bndbox/ymin> is '1e-99999999'"),
    (("20.999999999999", 1, 20, 20), "no area"),  # none in float32
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


@pytest.mark.parametrize("given, meant", [
    ("Dog", "dog"), ("DOG", "dog"), ("tv monitor", "tvmonitor"), ("peron", "person")])
def test_a_class_that_is_nearly_known_is_answered_with_that(year, given, meant):
    write(year, "b", described(given))
    skips(year, "b", f"object 1 ({given}): unknown class, did you mean '{meant}'?")
    write(year, "b", described("x\n" * 100_000))
    assert len(stopped(year, "unknown class. Known")) < 1000


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"details": 3}', "[" * 100_000, "blurry", "9" * 10_000])
def test_our_own_tag_with_what_is_not_ours_is_named(year, text):
    write(year, "b", described("cat", more=f"<keras_cnns>{text}</keras_cnns>"))
    skips(year, "b", "Annotations/b.xml: object 1 (cat)", "<keras_cnns>")


def test_nothing_left_after_skipping_is_an_error(year):
    for name in "abc":
        (year / f"Annotations/{name}.xml").write_text("")
    stopped(year, "Not one of 3 samples", "a.xml", on_bad_sample="skip")


def test_another_word_than_stop_or_skip_is_refused(year):
    stopped(year, "'stop', 'skip'", on_bad_sample="ignore")


OLD = """# PASCAL Annotation Version 1.00

Image filename : "VOC2005_1/PNGImages/bikes/x.png"
Image size (X x Y x C) : 60 x 50 x 3
Database : "The VOC2005 Dataset 1 Database"
Objects with ground truth : 2 {{ "PAScarSide" "PASpersonRearTruncDifficult" }}

# Top left pixel co-ordinates : ({origin}, {origin})

# Details for object 1 ("PAScarSide")
Original label for object 1 "PAScarSide" : "carSide"
Bounding box for object 1 "PAScarSide" (Xmin, Ymin) - (Xmax, Ymax) : (11, 21) - (30, 40)
Bounding box for object 2 "PASpersonRearTruncDifficult" (Xmin, Ymin) - (Xmax, Ymax) : (1, 2) - (3, 4)
"""


@pytest.mark.parametrize("origin", [0, 1])
@pytest.mark.parametrize("folder", ["", "bikes/"])
def test_the_text_of_2005_is_read_as_xml_is(tmp_path, origin, folder):
    home = tmp_path / "VOCdevkit/VOC2005_1"
    for part in ("Annotations", "PNGImages"):
        (home / part / folder).mkdir(parents=True)
    (home / f"Annotations/{folder}x.txt").write_text(OLD.format(origin=origin))
    Image.new("RGB", (60, 50)).save(home / f"PNGImages/{folder}x.png")
    for root in (home, home.parent):
        sample, = read(root)
        assert sample.image_id == f"{folder}x" and sample.size == (50, 60)
        assert [voc.CLASSES[label - 1] for label in sample.labels] == ["car", "person"]
        np.testing.assert_array_equal(sample.boxes, np.array(
            [[10, 20, 30, 40], [0, 1, 3, 4]]) + (1 - origin))
        assert sample.ignored.tolist() == [False, True] and sample.details["truncated"] == [0, 1]
        assert sample.details["pose"] == ["Side", "Rear"]
    assert len(list(voc.detection(home))) == 1


def test_lists_may_lie_in_imagesets_itself(year):
    for name in ("train", "val", "dog_train"):
        (year / f"ImageSets/Main/{name}.txt").rename(year / f"ImageSets/{name}.txt")
    assert ids(read(year, "val")) == ["c", "d"] and ids(read(year)) == ["a", "b", "c"]
    assert "dog_train" not in stopped(year, "Found: train, val;", split="test")


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_size_that_is_not_told_is_the_images(year, size):
    write(year, "a", described(more="<difficult>Unspecified</difficult>"), size=size)
    sample = read(year)[0]
    assert sample.size == (50, 60) and not sample.ignored[0]


def test_of_two_images_of_an_id_the_one_that_is_named_is_read(year):
    Image.new("RGB", (60, 50)).save(year / "JPEGImages/a.png")
    assert read(year)[0].source.endswith("a.jpg")
    write(year, "a", described(), filename="a.png")
    assert read(year)[0].source.endswith("a.png")


def test_attributes_and_repeated_tags_are_kept_as_xml(year, tmp_path):
    more = ("<attributes>\n <attribute><name>mood</name><value>good &amp; bad</value></attribute>\n"
            "<attribute><name>age</name></attribute></attributes><x>1</x><x y='2' />")
    write(year, "a", described(more=more))
    given = read(year)[:1]
    assert given[0].details["tags"] == [{
        "attributes": "<attributes><attribute><name>mood</name><value>good &amp; bad</value></attribute>"
                      "<attribute><name>age</name></attribute></attributes>", "x": '<x>1</x><x y="2" />'}]
    found, = read(voc.write(given, tmp_path / "new", voc.CLASSES), "trainval")
    assert found.details == given[0].details
    text = (tmp_path / "new/VOC2012/Annotations/a.xml").read_text()
    assert '<x y="2" />' in text and "keras_cnns" not in text


def test_mutated_texts_of_2005_give_samples_or_one_line(year):
    (year / "Annotations/b.xml").unlink()
    whole, chance, outcomes = OLD.format(origin=0).encode(), random.Random(0), collections.Counter()
    pieces = [b"\"", b"(", b")", b":", b"", b"nan", b"1e999", b"\0", b"\xff", b"\r", b"-3", b"PAS", b"9" * 5000,
              b"<a>" * 500]
    for _ in range(500):
        contents = bytearray(whole)
        start = chance.randrange(len(contents))
        contents[start:start + chance.choice((0, 1, 1, 5, 40))] = chance.choice(pieces)
        (year / "Annotations/b.txt").write_bytes(contents)
        try:
            voc.samples(year)
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error) and "b.txt" in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


# Label images and lists of classes.

@pytest.fixture
def segmented(year):
    """The same year with label images of a and b: a dog, and a cat left of a person with a border between."""
    (year / "ImageSets/Segmentation").mkdir()
    (year / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    classes, objects = np.zeros((2, 2, 50, 60), "uint8")
    classes[0, 10:20], objects[0, 10:20] = 12, 1
    classes[1, :, :20], classes[1, :, 20:], classes[1, :, 20] = 8, 15, 255
    objects[1, :, :20], objects[1, :, 20:], objects[1, :, 20] = 1, 2, 255
    for folder, pictures in (("SegmentationClass", classes), ("SegmentationObject", objects)):
        (year / folder).mkdir()
        for name, picture in zip("ab", pictures):
            palette(picture).save(year / folder / f"{name}.png")
    return year


def palette(numbers):
    image = Image.fromarray(numbers)
    image.putpalette(list(range(256)) * 3)
    return image


def segmentations(folder, split="train", **options):
    found, skipped = voc.segmentation_samples(folder, split=split, **options)
    assert skipped == []
    return found


def test_segmentation_has_labels_objects_and_void(segmented):
    a, b = voc.segmentation(segmented).as_numpy_iterator()
    assert a["image_id"] == b"a" and a["segmentation"].shape == (50, 60) and a["segmentation"].dtype == "uint8"
    assert list(np.unique(a["segmentation"])) == [0, 12] and list(np.unique(b["segmentation"])) == [8, 15, 255]
    np.testing.assert_array_equal(a["boxes"], [[10, 20, 30, 40]])
    assert list(b["labels"]) == [8, 15] and "masks" not in a


def test_masks_are_the_numbered_objects(segmented):
    for a, b in (voc.segmentation(segmented, masks=True).as_numpy_iterator(),
                 voc.detection(segmented, split="Segmentation/train", masks=True).as_numpy_iterator()):
        assert a["masks"].shape == (1, 50, 60) and a["masks"].sum() == 600
        assert b["masks"].shape == (2, 50, 60) and list(b["masks"].sum((1, 2))) == [20 * 50, 39 * 50]


def test_an_object_without_a_pixel_and_a_number_without_an_object_have_no_mask(segmented):
    write(segmented, "a", described(), described())
    write(segmented, "b")
    a, b = segmentations(segmented, masks=True)
    assert [mask.sum() for mask in sample_data.masks(a)] == [600, 0] and len(sample_data.masks(b)) == 0


def test_images_without_masks_are_named_with_what_to_read_instead(segmented):
    refused(lambda: voc.samples(segmented, masks=True), "SegmentationObject/c.png", "'Segmentation/train'")
    found, skipped = voc.samples(segmented, masks=True, on_bad_sample="skip")
    assert ids(found) == ["a", "b"] and len(skipped) == 1


def test_a_segmented_image_needs_no_annotation(segmented):
    (segmented / "Annotations/a.xml").unlink()
    a, b = segmentations(segmented)
    assert a.size == (50, 60) and len(a.labels) == 0 and len(b.labels) == 2
    shutil.rmtree(segmented / "Annotations")
    assert [sample.size for sample in segmentations(segmented)] == [(50, 60)] * 2
    assert sample_data.check(segmentations(segmented), progress=False)[1] == []
    shutil.rmtree(segmented / "ImageSets")
    for split in ("train", "all", None):
        assert ids(segmentations(segmented, split)) == ["a", "b"]
    refused(lambda: voc.segmentation_samples(segmented, split="val"), "no such split", "no lists")


@pytest.mark.parametrize("label", [21, 254])
def test_a_label_without_a_class_is_named(segmented, label):
    palette(np.full((50, 60), label, "uint8")).save(segmented / "SegmentationClass/a.png")
    refused(lambda: voc.segmentation_samples(segmented), "SegmentationClass/a.png", f"label {label}", "20 classes",
            "labels.txt", "on_bad_sample='skip'")
    found, skipped = voc.segmentation_samples(segmented, on_bad_sample="skip")
    assert ids(found) == ["b"] and len(skipped) == 1
    assert len(segmentations(segmented, class_names=[*voc.CLASSES, *map(str, range(20, label))])) == 2


def test_classes_in_another_order_renumber_label_images(segmented):
    names = ["person", *(name for name in voc.CLASSES if name != "person")]
    a, b = voc.segmentation(segmented, class_names=names).as_numpy_iterator()
    assert set(np.unique(a["segmentation"])) == {0, 13} and set(np.unique(b["segmentation"])) == {1, 9, 255}
    assert list(a["labels"]) == [13] and list(b["labels"]) == [9, 1]
    (segmented / "labels.txt").write_text("\n".join(voc.CLASSES))
    refused(lambda: voc.segmentation(segmented, class_names=["cat", "person"]),
            "a.png: label 12", "expected 0, 8, 15, 255")


def test_an_image_of_another_size_than_the_samples_is_not_written(tmp_path):
    refused(lambda: voc.write([drawn(source=picture(size=(50, 60)))], tmp_path / "new", ["dog"]), "50 x 60", "60 x 50")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", ["3", "[1, 2]", "[-1, 3001]", "[3000.0]", "[true]", '"3000"'])
def test_a_bad_mask_in_our_tag_is_named(segmented, mask):
    write(segmented, "a", described(more=f'<keras_cnns>{{"mask": {mask}}}</keras_cnns>'))
    refused(lambda: voc.segmentation_samples(segmented, masks=True), "a.xml: object 1 (dog)", "mask")


def test_a_label_image_in_colours_is_named(segmented):
    Image.new("RGB", (60, 50), (128, 0, 128)).save(segmented / "SegmentationClass/a.png")
    refused(lambda: voc.segmentation_samples(segmented), "a.png", "palette instead of colours")


def test_bad_label_images_are_named(segmented):
    path = segmented / "SegmentationClass/a.png"
    palette(np.zeros((40, 60), "uint8")).save(path)
    refused(lambda: voc.segmentation(segmented), "a.png", "60 x 40", "60 x 50")
    whole = path.read_bytes()
    for contents, found in ((b"", "empty"), (b"text", "no JPEG"), (whole[:60], "truncated")):
        path.write_bytes(contents)
        refused(lambda: voc.segmentation_samples(segmented), "SegmentationClass/a.png", found)
    path.unlink()
    refused(lambda: voc.segmentation_samples(segmented), "SegmentationClass/a.png", "missing")


def test_presence_is_told_by_the_objects(year):
    write(year, "a", described("dog"), described("dog", more=FLAGS.format(1)), described("cat", more=FLAGS.format(1)))
    a, b, c = voc.classification(year).as_numpy_iterator()
    dog, cat, person = (voc.CLASSES.index(name) for name in ("dog", "cat", "person"))
    assert a["present"].shape == (20,) and a["present"].dtype == "int32"
    assert a["present"][[dog, cat, person]].tolist() == [1, 0, -1] and (a["present"] == -1).sum() == 18
    assert b["present"][[dog, cat, person]].tolist() == [-1, 1, 1]
    assert c["present"][dog] == 0


def lists(year, **texts):
    for name in voc.CLASSES:
        (year / f"ImageSets/Main/{name}_train.txt").write_text(texts.get(name, "a -1\nb -1\nc -1\n"))


def test_presence_is_told_by_the_lists(year):
    lists(year, dog="c  1\nb  0\na -1\nz 1\n")
    shutil.rmtree(year / "Annotations")  # which are not asked
    elements = list(voc.classification_by_lists(year).as_numpy_iterator())
    assert [element["image_id"] for element in elements] == [b"a", b"b", b"c"]
    assert [element["present"].tolist() for element in elements] == [
        [flag if name == "dog" else -1 for name in voc.CLASSES] for flag in (-1, 0, 1)]


@pytest.mark.parametrize("text, found", [
    ("a 1\nb 2\nc 1\n", "'b 2'"), ("a 1\nb\n", "'b'"), ("a 1\nb 1\n", "1 images of the split 'train'")])
def test_a_bad_list_of_a_class_is_named(year, text, found):
    lists(year, dog=text)
    refused(lambda: voc.classification_by_lists(year), "dog_train.txt", found)


def test_a_missing_list_of_a_class_is_named(year):
    lists(year)
    (year / "ImageSets/Main/cow_train.txt").unlink()
    refused(lambda: voc.classification_by_lists(year), "cow_train.txt", "missing", "voc.classification")
    refused(lambda: voc.classification_by_lists(year, class_names=["tv/monitor"]), "tv/monitor_train.txt", "missing")


# Writing.

def picture(kind="JPEG", size=(60, 50), **options):
    file = io.BytesIO()
    Image.new("RGB", size, "green").save(file, kind, **options)
    return file.getvalue()


def drawn(image_id="a", source=None, size=(50, 60), boxes=((1, 2, 11, 12),), labels=(1,), ignored=None, **options):
    return Sample(image_id, source or picture(), size, np.array(boxes, "float32").reshape(-1, 4),
                  np.array(labels, "int32"), np.array([False] * len(labels) if ignored is None else ignored, bool),
                  **options)


def contents(source):
    return source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()


def same(found, given):
    """A read sample is the written one; it may say more in details and about."""
    assert found.image_id == given.image_id and found.size == given.size
    assert contents(found.source) == contents(given.source)
    for field in ("boxes", "labels", "ignored"):
        a, b = getattr(found, field), getattr(given, field)
        assert a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if len(given.labels):
        assert plain_values({key: found.details[key] for key in given.details}) == plain_values(given.details)
    assert plain_values({key: found.about[key] for key in given.about}) == plain_values(given.about)


def plain_values(value):
    return json.loads(json.dumps(value, default=lambda each: each.tolist()))


def round_trip(tmp_path, samples, names=voc.CLASSES, split="trainval", **options):
    root = voc.write(samples, tmp_path / "VOCdevkit", names)
    assert voc.class_names(root) == list(names)
    found = read(root, split, **options)
    for one, other in zip(found, samples, strict=True):
        same(one, other)
    return found


def test_a_written_annotation_reads_as_an_other_reader_would(tmp_path):
    details = {"pose": ["Left"], "truncated": [1], "difficult": [0], "occluded": [1],
               "parts": [[("head", 0, 1.5, 5, 6)]], "tags": [{"actions/jumping": "1", "actions/other": "0"}]}
    voc.write([drawn("x", boxes=[(0.5, 2, 60, 50)], labels=[12], details=details,
                     about={"source/database": "mine & <yours>", "note": "é"})], tmp_path / "new", voc.CLASSES)
    tree = ElementTree.parse(tmp_path / "new/VOC2012/Annotations/x.xml").getroot()
    assert [child.tag for child in tree] == ["folder", "filename", "source", "size", "segmented", "note", "object"]
    assert tree.findtext("source/database") == "mine & <yours>" and tree.findtext("note") == "é"
    assert [tree.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["60", "50", "3"]
    item = tree.find("object")
    assert [(child.tag, child.text) for child in item if len(child) == 0] == [
        ("name", "dog"), ("pose", "Left"), ("truncated", "1"), ("occluded", "1"), ("difficult", "0")]
    assert [each.text for each in item.find("bndbox")] == ["1.5", "3", "60", "50"]
    assert [each.text for each in item.find("part/bndbox")] == ["1", "2.5", "5", "6"]
    assert [(each.tag, each.text) for each in item.find("actions")] == [("jumping", "1"), ("other", "0")]


def test_lists_are_written_as_the_kit_has_them(tmp_path):
    samples = [drawn("b", boxes=[(0, 0, 5, 5)] * 2, labels=[1, 2], ignored=[True, False]), drawn("a"), drawn("c")]
    root = voc.write(samples, tmp_path / "new", ["dog", "tv/monitor"], 2007, "all", {"train": ["c", "b"], "val": []})
    lists = {path.name: path.read_text() for path in (root / "VOC2007/ImageSets/Main").iterdir()}
    assert lists == {"all.txt": "b\na\nc\n", "train.txt": "c\nb\n", "val.txt": "",
                     "dog_all.txt": "b  0\na  1\nc  1\n", "dog_train.txt": "c  1\nb  0\n", "dog_val.txt": ""}
    assert (root / "labels.txt").read_text() == "dog\ntv/monitor\n"
    assert ids(read(root, "train")) == ["c", "b"] and ids(read(root, "all", year=2007)) == ["b", "a", "c"]


def test_lists_of_presence_are_given_back(tmp_path):
    names = ["dog", "cat", "cow"]
    samples = [Sample(name, picture(), present=np.array(present, "int32"))
               for name, present in (("b", (1, 0, -1)), ("a", (-1, -1, 1)))]
    root = voc.write(samples, tmp_path / "new", names, split="train")
    found, _ = voc.classification_samples_by_lists(root)
    assert ids(found) == ["b", "a"] and [s.present.tolist() for s in found] == [[1, 0, -1], [-1, -1, 1]]


@pytest.mark.parametrize("kind, suffix", [("JPEG", ".jpg"), ("PNG", ".png"), ("BMP", ".bmp"), ("GIF", ".gif"),
                                          ("WEBP", ".webp"), ("TIFF", ".tif"), ("PPM", ".ppm")])
def test_images_are_copied_to_the_byte_whatever_their_format(tmp_path, kind, suffix):
    found, = round_trip(tmp_path, [drawn(source=picture(kind))])
    assert pathlib.Path(found.source).name == f"a{suffix}"
    assert sample_data.check([found], progress=False) == ([found], [])


@pytest.mark.parametrize("name, expected", [
    ("x.JPEG", "a.JPEG"), ("x.png", "a.png"), ("x.dat", "a.jpg"), ("x", "a.jpg")])
def test_the_suffix_of_an_image_stays_if_it_is_one_of_images(tmp_path, name, expected):
    (tmp_path / name).write_bytes(picture())
    found, = round_trip(tmp_path, [drawn(source=str(tmp_path / name))])
    assert pathlib.Path(found.source).name == expected


def test_an_unknown_size_is_looked_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    samples = [drawn("a", size=(0, 0)), drawn("b", picture(exif=exif), (0, 0))]
    found = read(voc.write(samples, tmp_path / "new", ["dog"]), "trainval")
    assert [sample.size for sample in found] == [(50, 60), (60, 50)]
    assert sample_data.check(found, progress=False) == (found, [])


def test_masks_and_segmentations_are_given_back_with_vocs_palette(segmented, tmp_path):
    given = segmentations(segmented, masks=True)
    root = voc.write([*given, drawn("c")], tmp_path / "new", voc.CLASSES, split="train")
    assert (root / "VOC2012/ImageSets/Segmentation/train.txt").read_text() == "a\nb\n"
    for one, other in zip(segmentations(root, masks=True), given, strict=True):
        same(one, other)
        np.testing.assert_array_equal(sample_data.masks(one), sample_data.masks(other))
        for field in ("masks", "segmentation"):
            image, old = (Image.open(getattr(sample, field).source) for sample in (one, other))
            np.testing.assert_array_equal(np.array(image), np.array(old))
            assert image.mode == "P"
            assert image.getpalette()[:12] + image.getpalette()[-3:] == [
                0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 224, 224, 192]


def test_masks_of_run_lengths_become_numbers_later_objects_over_earlier(tmp_path):
    masks = np.zeros((2, 50, 60), "uint8")
    masks[0, 10:30], masks[1, 20:40] = 1, 1
    runs = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    sample = drawn(boxes=[(0, 10, 60, 30), (0, 20, 60, 40)], labels=[1, 1], masks=runs)
    found, = round_trip(tmp_path, [sample], split="Segmentation/trainval", masks=True)
    np.testing.assert_array_equal(sample_data.masks(found), masks)
    drawn_over = np.array(Image.open(tmp_path / "VOCdevkit/VOC2012/SegmentationObject/a.png"))
    np.testing.assert_array_equal(drawn_over, np.maximum(masks[0], 2 * masks[1]))
    refused(lambda: voc.write([sample._replace(masks=runs[:1])], tmp_path / "x", ["dog"]), "masks", "2 objects")
    small = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks[:, :40]]
    refused(lambda: voc.write([sample._replace(masks=small)], tmp_path / "x", ["dog"]), "masks", "60 x 50")
    many = drawn(boxes=[(0, 10, 60, 30)] * 255, labels=[1] * 255, masks=runs[:1] * 255)
    many = many._replace(masks=runs[:1] * 254 + runs[1:])
    found, = read(voc.write([many], tmp_path / "many", ["dog"]), "trainval", masks=True)
    np.testing.assert_array_equal(sample_data.masks(found), sample_data.masks(many))


def test_a_label_without_a_class_is_not_written(segmented, tmp_path):
    given = drawn(segmentation=LabelImage(str(segmented / "SegmentationClass/b.png")))
    refused(lambda: voc.write([given], tmp_path / "new", ["dog", "cat"]), "b.png: label 8, expected 0 to 2")


text = st.text(st.characters(exclude_categories=()), max_size=8)
tag = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,4}(/[A-Za-z_][A-Za-z0-9_.-]{0,4})?", fullmatch=True)
key = st.one_of(text, tag, st.sampled_from([
    "folder", "filename", "source", "source/database", "size", "size/width", "object", "object/x", "keras_cnns",
    "segmented", "folder/x", "name", "part"]))
value = st.recursive(st.one_of(text, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)),
                     lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
                     max_leaves=4)
number = st.integers(-(2**20), 2**20).map(lambda whole: whole / 64)


@st.composite
def edges(draw, limit):
    """Two float32 numbers from 0 to a limit, the first below the second."""
    inside = st.one_of(st.floats(2**-20, limit, width=32), st.integers(0, limit).map(float))
    low, high = sorted(draw(st.lists(inside, min_size=2, max_size=2, unique=True)))
    return low, high


@st.composite
def awkward(draw):
    count = draw(st.integers(0, 3))
    boxes = [[x1, y1, x2, y2] for (x1, x2), (y1, y2) in (
        (draw(edges(60)), draw(edges(50))) for _ in range(count))]

    def rows(strategy):
        return draw(st.lists(strategy, min_size=count, max_size=count))

    part = st.tuples(st.from_regex("[a-z]{0,4}", fullmatch=True), number, number, number, number)
    rows_of = {"pose": st.one_of(st.sampled_from(["Left", "Unspecified"]), value),
               "truncated": st.one_of(st.integers(-1, 2), value), "difficult": st.one_of(st.integers(0, 1), value),
               "occluded": st.booleans(), "parts": st.lists(part, max_size=2),
               "tags": st.dictionaries(key, text, max_size=2), "area": value, "note": text}
    details = {name: rows(rows_of[name]) for name in draw(st.sets(st.sampled_from(sorted(rows_of))))}
    if not any(details.get("parts", [])):
        details.pop("parts", None)  # only empty lists: then they are not there
    if not any(details.get("tags", [])):
        details.pop("tags", None)
    return drawn(boxes=boxes, labels=rows(st.integers(1, 2)), ignored=rows(st.booleans()), details=details,
                 about=draw(st.dictionaries(key, value, max_size=4)))


@hypothesis.settings(max_examples=80, deadline=None)
@hypothesis.given(st.lists(awkward(), min_size=1, max_size=3), st.data())
def test_awkward_samples_come_back_as_they_were(samples, data):
    name = st.one_of(st.from_regex(r"[^\s/\\.\x00-\x1f\x7f\ufeff]{1,5}( 1)?", fullmatch=True),
                     st.sampled_from(["a", "a 1", "a.xml", "\u00e9"])).filter(encodes)
    names = data.draw(st.lists(name, min_size=len(samples), max_size=len(samples), unique=True))
    samples = [sample._replace(image_id=name) for sample, name in zip(samples, names)]
    with tempfile.TemporaryDirectory() as folder:
        round_trip(pathlib.Path(folder), samples, ["dog", "big cat"])


def encodes(name):
    try:
        return bool(os.fsencode(name)) and name == name.strip()
    except UnicodeEncodeError:
        return False


@pytest.mark.parametrize("image_id", [
    "", ".", "..", "a/b", "/a", "a\\b", "a\0", "a\n", " a", "a ", ".a", "\ufeffa", "\ud800", 5, None])
def test_an_id_that_cannot_be_a_files_name_is_refused(tmp_path, image_id):
    refused(lambda: voc.write([drawn(), drawn(image_id)], tmp_path / "new", ["dog"]), "image_id")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change, found", [
    (dict(boxes=[(1, 2, 61, 12)]), "not inside the image of 60 x 50"),
    (dict(boxes=[(-0.5, 2, 11, 12)]), "not inside"),
    (dict(boxes=[(1, 2, 1, 12)]), "no area"),
    (dict(boxes=[(1, np.nan, 2, 12)]), "nan"),
    (dict(labels=[0]), "label 0, expected 1 to 1"),
    (dict(labels=[2]), "label 2, expected 1 to 1"),
    (dict(details={"area": [1, 2]}), "'area' is no list of 1 values"),
    (dict(details={"area": 5}), "'area' is no list of 1 values"),
    (dict(details={"area": [{1, 2}]}), "JSON"),
    (dict(details={"area": [b"runs"]}), "JSON"),
    (dict(about={"when": object()}), "JSON"),
    (dict(details={"parts": [[("head", 1, 2, 3)]]}), "part ('head', 1, 2, 3)"),
    (dict(details={"parts": [[("head", 1, 2, 3, np.nan)]]}), "part"),
    (dict(details={"parts": [["head"]]}), "part 'head'"),
    (dict(details={"parts": [5]}), "part 5"),
    (dict(source=b""), "empty"),
    (dict(source=b"a text"), "no JPEG"),
    (dict(source="nowhere.jpg"), "nowhere.jpg: image is missing")])
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path, change, found):
    bad = drawn("bad")._replace(**{key: np.array(value, {"boxes": "float32", "labels": "int32"}[key])
                                   if key in ("boxes", "labels") else value for key, value in change.items()})
    refused(lambda: voc.write([drawn(), bad], tmp_path / "new", ["dog"]), found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change, found", [
    (dict(samples=[]), "no samples"),
    (dict(samples=[drawn(), drawn()]), "'a' is there twice"),
    (dict(class_names=[]), "No class names"),
    (dict(class_names=["dog", "dog"]), "twice"),
    (dict(class_names=["_background_"]), "'_background_' cannot be the name of a class"),
    (dict(class_names=["big\ndog"]), "cannot be the name"),
    (dict(class_names=[""]), "'' cannot be the name"),
    (dict(class_names=[5]), "5 cannot be the name"),
    (dict(year="12"), "No year '12'"),
    (dict(year="../2012"), "No year"),
    (dict(split="../train"), "'../train' cannot be the name of a split"),
    (dict(split=None), "None cannot be the name of a split"),
    (dict(sublists={"train": ["b"]}), "'b' is in the list 'train'")])
def test_a_call_that_cannot_be_is_refused(tmp_path, change, found):
    call = dict(samples=[drawn()], root=tmp_path / "new", class_names=["dog"]) | change
    refused(lambda: voc.write(**call), found)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(tmp_path):
    for make in (lambda path: path.mkdir(), lambda path: path.write_text(""), lambda path: path.symlink_to("nowhere")):
        path = tmp_path / "there"
        make(path)
        refused(lambda: voc.write([drawn()], path, ["dog"]), str(path), "there already")
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    refused(lambda: voc.write([drawn()], tmp_path / "file/new", ["dog"]), "file/new: cannot be written")
    refused(lambda: voc.write([drawn("x" * 300)], tmp_path / "new", ["dog"]), "new: cannot be written", "too long")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    refused(lambda: voc.write([drawn()], tmp_path / "new", ["dog"]), "new: cannot be written", "No space left")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_is_seen_of_a_folder_until_it_is_whole(tmp_path, monkeypatch):
    def seen(old, new):
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
        assert (pathlib.Path(old) / "VOC2012/ImageSets/Main/trainval.txt").read_text() == "a\n"
        os.replace(old, new)

    monkeypatch.setattr(os, "rename", seen)
    assert len(read(voc.write([drawn()], tmp_path / "new", ["dog"]), "trainval")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


# The real thing.

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


def boxes_by_hand(path):
    """Another reading of an annotation: names and boxes, 0-based with exclusive edges."""
    found = []
    for item in ElementTree.parse(path).getroot().iter("object"):
        x1, y1, x2, y2 = (int(item.find("bndbox").find(edge).text) for edge in ("xmin", "ymin", "xmax", "ymax"))
        found.append((item.find("name").text, [x1 - 1, y1 - 1, x2, y2], item.find("difficult").text == "1"))
    return found


@real
@pytest.mark.parametrize("year", [2007, 2012])
def test_every_real_object_equals_that_of_another_reading(year):
    for sample in read(REAL, "trainval", year=year):
        expected = boxes_by_hand(REAL / f"VOC{year}/Annotations/{sample.image_id}.xml")
        assert [voc.CLASSES[label - 1] for label in sample.labels] == [name for name, _, _ in expected]
        assert sample.boxes.tolist() == [box for _, box, _ in expected]
        assert sample.ignored.tolist() == [difficult for _, _, difficult in expected]


@real
def test_real_objects_of_each_class_are_as_many_as_are_told():
    told = dict(zip(voc.CLASSES, (12, 12, 3, 8, 10, 3, 7, 2, 8, 9, 5, 6, 5, 3, 58, 5, 9, 6, 3, 7)))
    counts = collections.Counter(
        voc.CLASSES[label - 1] for sample in read(REAL, "trainval", year=2012) for label in sample.labels)
    assert counts == told


@real
def test_real_segmentations_equal_the_palette_images_and_have_the_classes_of_their_annotations():
    for split, count in (("train", 30), ("val", 34), ("trainval", 64)):
        assert len(segmentations(REAL, split, year=2012)) == count
    for element in voc.segmentation(REAL, 2012, "trainval").as_numpy_iterator():
        path = REAL / f"VOC2012/SegmentationClass/{element['image_id'].decode()}.png"
        np.testing.assert_array_equal(element["segmentation"], np.array(Image.open(path)))
        assert set(np.unique(element["segmentation"])) - {0, 255} == set(element["labels"])


@real
def test_real_lists_of_classes_say_what_the_objects_say():
    by_objects, _ = voc.classification_samples(REAL, 2012, "trainval")
    by_lists, _ = voc.classification_samples_by_lists(REAL, 2012, "trainval")
    np.testing.assert_array_equal([s.present for s in by_objects], [s.present for s in by_lists])
    assert ids(by_objects) == ids(by_lists) and [s.source for s in by_objects] == [s.source for s in by_lists]


@real
def test_labelmes_folder_is_read_as_segmentation():
    folder = REAL.parent.parent / "voc_labelme"
    names = voc.class_names(folder)
    assert len(names) == 20 and (names[0], names[-1]) == ("aeroplane", "tv/monitor")
    elements = list(voc.segmentation(folder).as_numpy_iterator())
    assert [element["image_id"] for element in elements] == [b"2011_000003", b"2011_000006", b"2011_000025"]
    for element in elements:
        path = folder / f"SegmentationClass/{element['image_id'].decode()}.png"
        np.testing.assert_array_equal(element["segmentation"], np.array(Image.open(path)))
    found = {names[label - 1] for element in elements for label in set(np.unique(element["segmentation"])) - {0, 255}}
    assert found == {"person", "bottle", "chair", "sofa", "bus", "car"}
    assert len(voc.unannotated(folder)) == 3 and voc.unannotated(REAL) == voc.unannotated(REAL, 2007) == []


@real
@pytest.mark.parametrize("year", [2007, 2012])
def test_real_annotations_and_images_are_written_to_the_byte(tmp_path, year):
    given = read(REAL, "trainval", year=year)
    root = voc.write(given, tmp_path / "VOCdevkit", voc.CLASSES, year)
    for one, other in zip(read(root, "trainval"), given, strict=True):
        same(one, other)
        assert one.details == other.details and one.about == other.about
    for folder in ("Annotations", "JPEGImages"):
        for path in (root / f"VOC{year}/{folder}").iterdir():
            assert path.read_bytes() == (REAL / f"VOC{year}/{folder}/{path.name}").read_bytes()
    assert voc.class_names(root) == list(voc.CLASSES) and not (root / "labels.txt").exists()


@real
def test_real_segmentations_are_written_pixel_by_pixel_and_the_lists_as_they_were(tmp_path):
    given = segmentations(REAL, "trainval", year=2012)
    sublists = {split: ids(segmentations(REAL, split, year=2012)) for split in ("train", "val")}
    root = voc.write(given, tmp_path / "VOCdevkit", voc.CLASSES, sublists=sublists)
    for split in ("train", "val", "trainval"):
        path = f"VOC2012/ImageSets/Segmentation/{split}.txt"
        assert (root / path).read_text() == (REAL / path).read_text()
    for one, other in zip(segmentations(root, "trainval"), given, strict=True):
        one, other = (Image.open(sample.segmentation.source) for sample in (one, other))
        np.testing.assert_array_equal(np.array(one), np.array(other))
        assert one.getpalette() == other.getpalette()


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
