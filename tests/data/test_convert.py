"""From one form to another, and back: nothing is lost that the form has a place for."""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns import cli
from keras_cnns.data import coco, named, records, synthetic, voc
from keras_cnns.data import samples as data_samples
from keras_cnns.data.samples import LabelImage

# What a form says of every object or image, so that a reader of it adds it.
DETAILS = {"voc": {"pose", "truncated", "difficult", "occluded"}, "coco": {"id", "area", "iscrowd", "num_keypoints"},
           "records": set()}
ABOUT = {"voc": {"folder", "filename", "segmented", "size/depth"}, "coco": {"id", "file_name"}, "records": set()}

DATA = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", ""))
real = pytest.mark.skipif(not os.environ.get("KERAS_CNNS_DATA"), reason="KERAS_CNNS_DATA is not set")


def contents(sample):
    return sample.source if isinstance(sample.source, bytes) else pathlib.Path(sample.source).read_bytes()


def plain(value):
    """Tuples as lists, as JSON has them."""
    return json.loads(json.dumps(value))


def same(found, given, *forms):
    """Samples that went through these forms: all as it was, and no more than what the forms say of everything."""
    assert [sample.image_id for sample in found] == [sample.image_id for sample in given]
    for one, other in zip(found, given, strict=True):
        assert one.size == other.size and contents(one) == contents(other)
        for field in ("boxes", "labels", "ignored", "keypoints"):
            a, b = getattr(one, field), getattr(other, field)
            assert (a is None) == (b is None)
            if b is not None:
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
        for mine, theirs, added in ((one.details, other.details, DETAILS), (one.about, other.about, ABOUT)):
            # An image without objects has no rows of details: there the names do not matter.
            if mine is one.about or len(other.labels):
                assert plain({key: mine[key] for key in theirs}) == plain(theirs)
                assert mine.keys() - theirs.keys() <= set().union(*(added[form] for form in forms))
        for field, pixels in (("masks", data_samples.masks), ("segmentation", data_samples.segmentation)):
            assert (getattr(one, field) is None) == (getattr(other, field) is None)
            if getattr(other, field) is not None:
                np.testing.assert_array_equal(pixels(one), pixels(other))


def to_voc(samples, folder, names):
    voc.write(samples, folder / "kit", names, split="all", progress=False)
    read = voc.segmentation_samples if samples[0].segmentation else voc.samples
    return read(folder / "kit", split="all", masks=samples[0].masks is not None)


def to_coco(samples, folder, names):
    coco.write(samples, folder / "set", names, "all", progress=False)
    kind = "instances" if samples[0].keypoints is None else "keypoints"
    return coco.samples(folder / "set", "all", kind, masks=samples[0].masks is not None)


def to_records(samples, folder, names):
    records.write(samples, folder / "shards", names, "all", shards=min(3, len(samples)), progress=False)
    return records.samples(folder / "shards", "all")


THROUGH = {"voc": to_voc, "coco": to_coco, "records": to_records}


def goes_through(samples, folder, names, *forms):
    """Writes and reads samples in one form after the other; they must come out of each as they went in."""
    found = samples
    for number, form in enumerate(forms, start=1):
        found, skipped = THROUGH[form](found, folder / str(number), names)
        assert skipped == []
        same(found, samples, *forms[:number])
    return found


def masked(samples, folder):
    """The same with masks, label images in which each object has a part of its box that no other has."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for sample in samples:
        numbers = np.zeros(sample.size, "uint8")
        for i, (x1, y1, x2, y2) in enumerate(sample.boxes.astype(int), start=1):
            numbers[y1:(y1 + y2) // 2, x1:x2] = i
        Image.fromarray(numbers).save(folder / f"{sample.image_id}.png")
        found.append(sample._replace(masks=LabelImage(str(folder / f"{sample.image_id}.png"))))
    return found


def segmented(samples, folder):
    """The same with a segmentation of random labels and void."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, sample in enumerate(samples):
        labels = np.random.default_rng(number).choice([0, 1, 2, 5, 255], sample.size).astype("uint8")
        Image.fromarray(labels).save(folder / f"{sample.image_id}.png")
        found.append(sample._replace(segmentation=LabelImage(str(folder / f"{sample.image_id}.png"))))
    return found


# Drawn objects.

ROUND = ("coco", "records", "voc", "records", "coco", "voc")


def test_boxes_go_through_all_forms_and_back(tmp_path):
    goes_through(synthetic.samples(6), tmp_path, synthetic.CLASSES, *ROUND)


def test_masks_go_through_all_forms_and_back(tmp_path):
    given = masked(synthetic.samples(5), tmp_path / "masks")
    goes_through(given, tmp_path, synthetic.CLASSES, *ROUND)


def test_overlapping_masks_go_through_the_forms_that_have_a_place_for_them(tmp_path):
    given = synthetic.samples(3)
    runs = [[coco_mask.encode(np.ones(sample.size, "uint8", "F"))] * len(sample.labels) for sample in given]
    given = [sample._replace(masks=masks) for sample, masks in zip(given, runs)]
    found = goes_through(given, tmp_path, synthetic.CLASSES, "coco", "records", "coco", "records")
    assert [sample.masks for sample in found] == runs


def test_a_segmentation_goes_through_all_forms_and_back(tmp_path):
    given = segmented(synthetic.samples(4), tmp_path / "labels")
    goes_through(given, tmp_path, synthetic.CLASSES, *ROUND)
    given = masked(given, tmp_path / "masks")
    goes_through(given, tmp_path / "both", synthetic.CLASSES, "voc", "coco", "records", "voc")


def test_keypoints_go_through_coco_and_records(tmp_path):
    def joints(sample):
        found = np.random.default_rng(7).uniform(0, 100, (len(sample.labels), 5, 3)).astype("float32")
        found[..., 2] = np.arange(5) % 3
        found[found[..., 2] == 0] = 0
        return found

    given = [sample._replace(keypoints=joints(sample)) for sample in synthetic.samples(4)]
    goes_through(given, tmp_path, synthetic.CLASSES, "records", "coco", "records", "coco")


def test_whatever_is_told_of_objects_and_images_goes_along(tmp_path):
    given = []
    for sample in synthetic.samples(4):
        count = len(sample.labels)
        details = {**sample.details, "note": ["schräg \U0001f600 <&>"] * count, "area": [12.25] * count,
                   "score": [None] * count, "list": [[1, [2.5, "x"]]] * count, "pose": ["Left"] * count,
                   "parts": [[("head", 1.0, 2.0, 3.5, 4.0)]] * count, "tags": [{"actions/jumping": "1"}] * count}
        about = {**sample.about, "license": 4, "when": "2013-11-14 17:02:52", "more": {"a": [1, None]}, "folder": "x"}
        given.append(sample._replace(details=details, about=about))
    goes_through(given, tmp_path, synthetic.CLASSES, *ROUND)


def test_images_without_objects_and_with_ids_of_any_kind_go_along(tmp_path):
    ids = ["000007", "7", "ä ö", "a.b.c", "2007_000027", "x" * 100]
    given = [sample._replace(image_id=image_id) for sample, image_id in zip(synthetic.samples(6), ids)]
    empty = dict(boxes=given[2].boxes[:0], labels=given[2].labels[:0], ignored=given[2].ignored[:0], details={})
    given[2], given[4] = given[2]._replace(**empty), given[4]._replace(**empty)
    goes_through(given, tmp_path, synthetic.CLASSES, *ROUND)


def test_images_of_other_formats_go_along_to_the_byte(tmp_path):
    given = []
    for kind, sample in zip(("PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"), synthetic.samples(6)):
        path = tmp_path / f"{sample.image_id}.{kind.lower()}"
        Image.fromarray(data_samples.pixels(sample)).save(path, kind)
        given.append(sample._replace(source=str(path)))
    goes_through(given, tmp_path, synthetic.CLASSES, "coco", "voc", "coco")
    found, _ = THROUGH["records"](given, tmp_path, synthetic.CLASSES)  # all but JPEG and PNG become PNG
    for one, other in zip(found, given, strict=True):
        np.testing.assert_array_equal(data_samples.pixels(one), data_samples.pixels(other))
        np.testing.assert_array_equal(one.boxes, other.boxes)


# The real thing.

@real
@pytest.mark.parametrize("year", [2007, 2012])
def test_real_voc_goes_through_all_forms_and_back(tmp_path, year):
    given, _ = voc.samples(DATA / "voc/VOCdevkit", year, "trainval")
    goes_through(given, tmp_path, voc.CLASSES, "coco", "records", "voc")


@real
def test_real_voc_with_masks_goes_through_all_forms_and_back(tmp_path):
    given, _ = voc.samples(DATA / "voc/VOCdevkit", 2012, "val")
    given = masked(given, tmp_path / "masks")
    goes_through(given, tmp_path, voc.CLASSES, "coco", "records", "voc")


@real
def test_real_segmentations_go_through_all_forms_and_back(tmp_path):
    given, _ = voc.segmentation_samples(DATA / "voc/VOCdevkit", 2012, "val")
    goes_through(given, tmp_path, voc.CLASSES, "coco", "records", "voc")


@real
def test_labelmes_objects_without_annotations_go_through_records(tmp_path):
    given, _ = voc.segmentation_samples(DATA / "voc_labelme", split="all")
    goes_through(given, tmp_path, voc.class_names(DATA / "voc_labelme"), "records", "voc")


@real
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.slow), "val"])
def test_real_coco_goes_through_records_and_back(tmp_path, split):
    given, _ = coco.samples(DATA / "coco", split, masks=True)
    found = goes_through(given, tmp_path, coco.class_names(DATA / "coco", split), "records", "coco")
    assert [sample.masks for sample in found] == [sample.masks for sample in given]
    mine, theirs = (json.loads(path.read_text()) for path in (
        tmp_path / "2/set/annotations/instances_all.json", DATA / f"coco/annotations/instances_{split}2017.json"))
    assert [each["id"] for each in mine["images"]] == [each["id"] for each in theirs["images"]]
    assert {each["id"] for each in mine["annotations"]} == {each["id"] for each in theirs["annotations"]}


@real
def test_real_keypoints_go_through_records_and_back(tmp_path):
    given, _ = coco.samples(DATA / "coco", "val", "keypoints")
    goes_through(given, tmp_path, ["person"], "records", "coco")


@real
def test_real_coco_goes_to_voc_and_back_but_for_what_masks_overlap(tmp_path):
    given, _ = coco.samples(DATA / "coco", "val")
    goes_through(given, tmp_path, coco.class_names(DATA / "coco", "val"), "voc", "coco", "records")


# By the command.

def test_the_command_converts_from_form_to_form(tmp_path, capsys):
    given = masked(synthetic.samples(5), tmp_path / "masks")
    names = [f"voc:{tmp_path / 'a'}:2011", f"coco:{tmp_path / 'b'}", f"records:{tmp_path / 'c'}",
             f"voc:{tmp_path / 'd'}"]
    named.write(given, names[0], synthetic.CLASSES, "val")
    for source, target in zip(names, names[1:]):
        assert cli.main(["data", "convert", source, target, "--split", "val"]) == 0
        assert f"{target}: 5 images written." in capsys.readouterr().out
        found = named.read(target, "val")
        same(found.samples, given, "voc", "coco", "records")
        assert found.class_names == list(synthetic.CLASSES) and found.skipped == []


@real
def test_the_command_converts_real_voc(tmp_path):
    names = [f"voc:{DATA / 'voc/VOCdevkit'}:2012", f"coco:{tmp_path / 'b'}", f"records:{tmp_path / 'c'}",
             f"voc:{tmp_path / 'd'}"]
    given = named.read(names[0], "val")
    for source, target in zip(names, names[1:]):
        assert cli.main(["data", "convert", source, target, "--split", "val"]) == 0
        found = named.read(target, "val")
        same(found.samples, given.samples, "voc", "coco", "records")
        assert found.class_names == given.class_names
