import collections
import copy
import io
import json
import os
import pathlib
import random
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from keras_cnns.data import coco, voc
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import LabelImage, Sample
from keras_cnns.errors import InputError
from tests.data.helpers import stopped

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 90, "name": "tooth brush"}]
TRIANGLE = [10.0, 10.0, 40.0, 10.0, 10.0, 40.0]


def described(number, image_id=1, category_id=3, bbox=(10, 20, 20, 20), **more):
    found = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), "area": 400.0,
             "iscrowd": 0, "segmentation": [TRIANGLE]}
    return {key: value for key, value in (found | more).items() if value is not ...}


def contents():
    """Images a, b, c of 60 x 50 pixels, ids 1 to 3; a has one object, b two, c none."""
    images = [{"id": number, "file_name": f"{name}.jpg", "width": 60, "height": 50, "license": 4}
              for number, name in enumerate("abc", start=1)]
    annotations = [described(11), described(12, 2, 90), described(13, 2, 7, iscrowd=1)]
    return {"images": images, "annotations": annotations, "categories": copy.deepcopy(CATEGORIES)}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "coco"
    for part in ("annotations", "train2017"):
        (folder / part).mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (60, 50), "green").save(folder / f"train2017/{name}.jpg")
    put(folder, contents())
    return folder


def put(folder, data, name="instances_train2017"):
    (folder / f"annotations/{name}.json").write_text(data if isinstance(data, str) else json.dumps(data))


def changed(folder, change, name="instances_train2017"):
    """Writes what is made of the contents."""
    data = contents()
    change(data)
    put(folder, data, name)
    return folder


def put_second(folder, **fields):
    """The second annotation with these fields; without those that are `...`."""
    def change(data):
        data["annotations"][1] = {
            key: value for key, value in (data["annotations"][1] | fields).items() if value is not ...}
    return changed(folder, change)


def read(folder, split="train", **options):
    found, skipped = coco.samples(folder, split, **options)
    assert skipped == []
    return found


def ids(samples):
    return [sample.image_id for sample in samples]


def skips(folder, name, *expected, **options):
    """The same sample, bad both ways: an error that names it, or one line while the others are read."""
    stopped(lambda: coco.samples(folder, **options), "instances_train2017.json", *expected, "on_bad_sample='skip'")
    samples, skipped = coco.samples(folder, on_bad_sample="skip", **options)
    assert len(skipped) == 1 and all(text in skipped[0] for text in expected)
    assert ids(samples) == [each for each in "abc" if each != name]


# What is read.

def test_boxes_of_a_corner_and_sides_become_boxes_of_two_corners(root):
    put_second(root, bbox=[0.1, 0.7, 20.25, 30.4])
    a, b, _ = read(root)
    np.testing.assert_array_equal(a.boxes, [[10, 20, 30, 40]])
    np.testing.assert_array_equal(b.boxes[0], np.array([0.1, 0.7, 0.1 + 20.25, 0.7 + 30.4]).astype("float32"))
    assert a.boxes.dtype == np.float32 and a.labels.dtype == np.int32 and a.size == (50, 60)


def test_category_ids_with_gaps_become_labels_in_the_order_of_ids(root):
    assert coco.categories(root) == {3: "dog", 7: "cat", 90: "tooth brush"}
    assert list(coco.categories(root)) == [3, 7, 90] and coco.class_names(root) == ["dog", "cat", "tooth brush"]
    assert [list(sample.labels) for sample in read(root)] == [[1], [3, 2], []]


def test_category_ids_may_begin_at_0(root):
    def change(data):
        data["categories"] = [{"id": 0, "name": "apple"}, {"id": 1, "name": "pear"}]
        for number, each in enumerate(data["annotations"]):
            each["category_id"] = number % 2

    assert [list(sample.labels) for sample in read(changed(root, change))] == [[1], [2, 1], []]


def test_a_category_of_a_repeated_name_counts_only_where_it_is_used(root):
    def change(data):  # as Roboflow has it, where the project is called as the class
        data["categories"] = [{"id": 0, "name": "ball", "supercategory": "none"}, {"id": 1, "name": "ball"},
                              {"id": 2, "name": "bat"}, {"id": 3, "name": "bat"}]
        for each in data["annotations"]:
            each["category_id"] = 1

    changed(root, change)
    assert coco.categories(root) == {1: "ball", 2: "bat"}  # of two that nobody uses the first
    assert [list(sample.labels) for sample in read(root)] == [[1], [1, 1], []]
    data = panoptic_contents(root)
    data["categories"].append({"id": 1, "name": "dog"})
    put(root, data, "panoptic_train2017")
    assert coco.categories(root, kind="panoptic") == {3: "dog", 7: "cat", 90: "tooth brush"}


def test_masks_are_read_by_themselves_only_if_every_object_has_one(root):
    assert read(root, masks=None)[0].masks is not None
    for nothing in (..., None, []):
        put_second(root, segmentation=nothing)
        assert [sample.masks for sample in read(root, masks=None)] == [None] * 3
    changed(root, lambda data: data["annotations"].clear())
    assert read(root, masks=None)[0].masks is None


def test_class_names_may_be_given(root):
    names = ["tooth brush", "bird", "cat", "dog"]
    assert [list(sample.labels) for sample in read(root, class_names=names)] == [[4], [1, 3], []]


def test_crowds_are_kept_as_ignored_ones_however_they_are_spelt(root):
    put_second(root, iscrowd=..., is_crowd=1)
    a, b, _ = read(root)
    assert list(a.ignored) == [False] and list(b.ignored) == [True, True]
    assert b.details["iscrowd"] == [1, 1] and "is_crowd" not in b.details


def test_details_are_what_else_the_objects_have_and_about_what_the_images_have(root):
    put_second(root, pose="Left", num=None, score={"a": [1, 2]})
    a, b, c = read(root)
    assert a.details == {"id": [11], "area": [400.0], "iscrowd": [0]}
    assert b.details == {"id": [12, 13], "area": [400.0, 400.0], "iscrowd": [0, 1], "pose": ["Left", None],
                         "num": [None, None], "score": [{"a": [1, 2]}, None]}
    assert c.details == {key: [] for key in b.details}  # without objects, of whatever there is
    assert a.about == {"id": 1, "file_name": "a.jpg", "license": 4}


def test_an_image_without_objects_is_legal(root):
    element = list(coco.detection(root, masks=True).as_numpy_iterator())[2]
    assert element["image_id"] == b"c" and element["boxes"].shape == (0, 4)
    assert element["masks"].shape == (0, 50, 60)
    changed(root, lambda data: data["annotations"].clear())
    assert [len(sample.boxes) for sample in read(root)] == [0, 0, 0]


def test_up_to_one_pixel_outside_is_clipped(root):
    put_second(root, bbox=[-1, -0.5, 62, 51])
    np.testing.assert_array_equal(read(root)[1].boxes[0], [0, 0, 60, 50])


def test_a_missing_box_is_made_of_the_mask(root):
    put_second(root, bbox=..., segmentation=[[10, 20, 40, 20, 40, 50, 10, 50]])
    np.testing.assert_array_equal(read(root)[1].boxes[0], [10, 20, 40, 50])
    put_second(root, bbox=None, segmentation=...)
    skips(root, "b", "annotation 12", "no bbox")
    put_second(root, bbox=..., segmentation={"size": [50, 60], "counts": [3000]})
    skips(root, "b", "annotation 12", "mask without a pixel")


def uncompressed(mask):
    """Lengths of the runs of 0 and 1, column by column, first of 0."""
    counts, value, run = [], 0, 0
    for pixel in mask.ravel("F"):
        if pixel != value:
            counts.append(run)
            value, run = pixel, 0
        run += 1
    return [int(count) for count in [*counts, run]]


def test_masks_of_all_three_kinds_are_pycocotools(root):
    mask = (np.random.default_rng(0).random((50, 60)) < 0.3).astype("uint8")
    compressed = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    two = [TRIANGLE, [50, 40, 59.5, 40, 59.5, 49, 50, 49]]
    for segmentation in ({"size": [50, 60], "counts": compressed},
                         {"size": [50, 60], "counts": uncompressed(mask), "comment": "none"}, two):
        put_second(root, segmentation=segmentation)
        b = read(root, masks=True)[1]
        reference = COCO(root / "annotations/instances_train2017.json")
        np.testing.assert_array_equal(
            sample_data.masks(b), [reference.annToMask(each) for each in reference.imgToAnns[2]])
        assert all(isinstance(each["counts"], bytes) and each["size"] == [50, 60] for each in b.masks)
    assert read(root)[1].masks is None


@given(st.integers(1, 12), st.integers(1, 300), st.sampled_from([0.01, 0.5, 0.99]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_compressed_run_lengths_are_understood(height, width, share, seed):
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype("uint8")
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    assert coco._runs(text) == uncompressed(mask)


def test_keypoints_are_the_numbers_of_the_file(root):
    joints = [[1.5, 2.25, 2], [0, 0, 0], [3, 4, 1]]

    def change(data):
        data["categories"][1] |= {"keypoints": ["head", "left", "right"], "skeleton": [[1, 2], [1, 3]]}
        data["annotations"][0] |= {"keypoints": sum(joints, []), "num_keypoints": 2}

    changed(root, change, "person_keypoints_train2017")
    a, b, c = read(root, kind="keypoints")
    np.testing.assert_array_equal(a.keypoints, [joints])
    np.testing.assert_array_equal(b.keypoints, np.zeros((2, 3, 3)))  # objects without
    assert a.keypoints.dtype == np.float32 and c.keypoints.shape == (0, 3, 3)
    assert a.details["num_keypoints"] == [2] and "keypoints" not in {**a.details, **c.details}
    assert coco.joints(root) == (("head", "left", "right"), ((0, 1), (0, 2)))
    elements = list(coco.keypoints(root).as_numpy_iterator())
    np.testing.assert_array_equal(elements[0]["keypoints"], [joints])


def test_cocos_joints_are_mirrored_by_their_names():
    assert len(coco.KEYPOINTS) == 17
    for left, right in coco.KEYPOINT_PAIRS:
        assert coco.KEYPOINTS[left].startswith("left_")
        assert coco.KEYPOINTS[right] == coco.KEYPOINTS[left].replace("left", "right")
    assert {0, *np.ravel(coco.KEYPOINT_PAIRS)} == set(range(17))


def test_the_order_is_that_of_the_file_and_shuffling_is_seeded(root):
    def change(data):
        data["images"] = [data["images"][i] for i in (2, 0, 1)]

    assert ids(read(changed(root, change))) == ["c", "a", "b"]

    def order(**options):
        return [each["image_id"] for each in coco.detection(root, **options).as_numpy_iterator()]

    assert order() == order() == [b"c", b"a", b"b"]
    assert order(shuffle=True, seed=1) == order(shuffle=True, seed=1)
    assert any(order(shuffle=True, seed=seed) != order() for seed in (0, 1, 2, 3))


def test_image_ids_are_the_files_names_or_if_two_have_one_the_jsons_ids(root):
    (root / "train2017/more").mkdir()
    shutil.copy(root / "train2017/a.jpg", root / "train2017/more/a.jpg")
    changed(root, lambda data: data["images"][1].update(file_name="more/b.jpg"))
    assert ids(read(root)) == ["a", "b", "c"]  # b.jpg, though not in the folder it is said to be in
    changed(root, lambda data: data["images"][1].update(file_name="more/a.jpg"))
    samples = read(root)
    assert ids(samples) == ["1", "2", "3"]
    assert pathlib.Path(samples[1].source) == root / "train2017/more/a.jpg"
    changed(root, lambda data: data["images"][1].update(file_name="more/b.jpg") or
            data["images"][2].update(file_name="other/b.jpg"))
    stopped(lambda: read(root), "image 2", "is missing")  # which of the two b.jpg would be is not known


def test_file_names_of_other_tools_are_found(root):
    for name in ("train2017/a.jpg", "C:\\pictures\\a.jpg", "/home/somebody/a.jpg", "../../upload/a.jpg", ".\\a.jpg",
                 str(root / "train2017/a.jpg")):
        changed(root, lambda data: data["images"][0].update(file_name=name))
        assert pathlib.Path(read(root)[0].source).resolve() == root / "train2017/a.jpg"
        assert read(root)[0].image_id == "a" and read(root)[0].about["file_name"] == name
    shutil.copy(root / "train2017/a.jpg", root.parent / "elsewhere.jpg")
    changed(root, lambda data: data["images"][0].update(file_name=str(root.parent / "elsewhere.jpg")))
    assert read(root)[0].source == str(root.parent / "elsewhere.jpg")
    changed(root, lambda data: data["images"][0].update(file_name="../../elsewhere.jpg"))
    skips(root, "a", "image 1", "elsewhere.jpg", "missing")  # a path that leads out is not followed


def test_a_name_that_is_no_utf_8_is_read(root):
    name = b"\xe9.jpg"
    try:
        shutil.copy(root / "train2017/a.jpg", os.path.join(os.fsencode(root / "train2017"), name))
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    changed(root, lambda data: data["images"][0].update(file_name=os.fsdecode(name)))
    assert [each["image_id"] for each in coco.detection(root).as_numpy_iterator()] == [b"\xe9", b"b", b"c"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_of_other_encodings_is_read(root, encoding):
    path = root / "annotations/instances_train2017.json"
    path.write_text(path.read_text(), encoding)
    assert ids(read(root)) == ["a", "b", "c"]


# Where it is read.

def test_a_split_needs_its_year_only_where_there_are_two(root, monkeypatch):
    assert ids(read(root, "train2017")) == ids(read(root, "train")) == ids(read(str(root))) == ["a", "b", "c"]
    monkeypatch.chdir(root)
    assert ids(read(".")) == ["a", "b", "c"]
    stopped(lambda: read(root, "val"), str(root), "'val'", "train2017")
    changed(root, lambda data: data["images"].pop(), "instances_train2014")
    changed(root, lambda data: None, "instances_train2017_small")
    stopped(lambda: read(root, "train"), "2 years", "train2014, train2017")
    assert len(read(root, "train2017")) == 3
    stopped(lambda: read(root, "train2014"), "instances_train2014.json", "image 1")  # no folder train2014


def test_a_json_file_is_read_wherever_its_images_are(root):
    path = root / "annotations/instances_train2017.json"
    expected = [sample.boxes.tolist() for sample in read(root)]
    places = [(path, root / "train2017"), (root / "x.json", root / "images"), (root / "x.json", root / "x"),
              (root / "train.json", root), (root / "labels/x.json", root / "images"),
              (path, root / "images/train2017")]
    now = root / "train2017"
    for place, folder in places:
        pictures = [each.read_bytes() for each in sorted(now.glob("*.jpg"))]
        for each in now.glob("*.jpg"):
            each.unlink()
        for name, picture in zip("abc", pictures):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.jpg").write_bytes(picture)
        now = folder
        place.parent.mkdir(exist_ok=True)
        if place != path:
            shutil.copy(path, place)
        assert [sample.boxes.tolist() for sample in read(place)] == expected
        assert read(place, "anything")[0].source == str(folder / "a.jpg")
        assert coco.class_names(place) == ["dog", "cat", "tooth brush"]


def test_roboflows_folders_are_read(root, tmp_path):
    for split in ("train", "valid"):
        shutil.copytree(root / "train2017", tmp_path / "robo" / split)
        shutil.copy(root / "annotations/instances_train2017.json", tmp_path / "robo" / split / "_annotations.coco.json")
    for split, folder in (("train", "train"), ("valid", "valid"), ("val", "valid")):
        assert read(tmp_path / "robo", split)[0].source == str(tmp_path / "robo" / folder / "a.jpg")
    assert len(read(tmp_path / "robo/train/_annotations.coco.json")) == 3
    stopped(lambda: read(tmp_path / "robo", "test"), "train, valid")
    stopped(lambda: read(tmp_path / "robo/valid"), "_annotations.coco.json", "JSON file itself")


def test_a_missing_folder_an_empty_one_and_one_with_other_files_are_named(root, tmp_path):
    stopped(lambda: read(tmp_path / "nowhere"), str(tmp_path / "nowhere"), "no such folder")
    (tmp_path / "empty").mkdir()
    stopped(lambda: read(tmp_path / "empty"), "instances_train.json", "none", "'annotations'")
    (root / "annotations/instances_train2017.json").rename(root / "annotations/captions_train2017.json")
    stopped(lambda: read(root), "captions_train2017.json")
    for kind in ("captions", ["dog", "cat"], None):
        stopped(lambda: read(root, kind=kind), f"{kind!r}", "instances, keypoints, panoptic")
    stopped(lambda: coco.detection(root, ["train"]), "train")


def test_a_folder_instead_of_a_file_and_a_circle_of_links_are_named(root):
    path = root / "annotations/instances_train2017.json"
    path.unlink()
    path.mkdir()
    stopped(lambda: read(root), str(path), "cannot be read")
    path.rmdir()
    path.symlink_to(path)
    stopped(lambda: read(root), str(path), "cannot be read")
    stopped(lambda: read(path), str(path), "no such folder or file")


# What is wrong with the whole file.

@pytest.mark.parametrize("text, found", [
    ("", "no JSON"), ("{", "no JSON"), ("<xml/>", "no JSON"), ("[" * 100000, "no JSON"), ("9" * 5000, "no JSON"),
    ("[]", "a list"), ("3", "a single value"), ("null", "null"), ("{}", "'images' is missing"),
    ('{"images": {}}', "'images' is a JSON object"), ('{"images": [], "annotations": null}', "'annotations' is a null"),
    ('{"images": [1], "annotations": []}', "'categories' is missing"),
    ('{"images": [], "annotations": [], "categories": []}', "'images' is empty")])
def test_a_file_that_is_no_coco_is_named(root, text, found):
    put(root, text)
    for choice in ("stop", "skip"):
        stopped(lambda: coco.samples(root, on_bad_sample=choice), "instances_train2017.json", found)


def test_a_file_in_no_encoding_is_named(root):
    (root / "annotations/instances_train2017.json").write_bytes(b'{"images": "\xff\xfe"}')
    stopped(lambda: read(root), "no JSON")


@pytest.mark.parametrize("categories, found", [
    ([], "empty"), ([3], "category 1 is 3"), ([{"id": 1}], "category 1"), ([{"id": "1", "name": "a"}], "'1'"),
    ([{"id": True, "name": "a"}], "True"), ([{"id": 1, "name": " "}], "' '"), ([{"id": 1, "name": ["a"]}], "['a']"),
    ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "id 1 is there twice"),
    ([{"id": 3, "name": "a"}, {"id": 5, "name": "b"}, {"id": 7, "name": "a"}], "'a' is there twice")])
def test_bad_categories_are_named(root, categories, found):
    changed(root, lambda data: data.update(categories=categories))
    stopped(lambda: coco.samples(root, on_bad_sample="skip"), "instances_train2017.json", found)


def test_files_of_another_kind_are_named(root):
    changed(root, lambda data: data.update(annotations=[{"image_id": 1, "id": 1, "caption": "a dog"}]))
    stopped(lambda: read(root), "captions, expected instances", "instances_train2017.json")
    changed(root, lambda data: data.update(annotations=[{"image_id": 1, "segments_info": []}]))
    stopped(lambda: read(root), "panoptic annotations, expected instances")
    path = root / "annotations/instances_train2017.json"
    put(root, contents())
    stopped(lambda: coco.samples(path, kind="panoptic"), "annotations of objects, expected panoptic")
    stopped(lambda: coco.samples(path, kind="keypoints"), "neither a category nor an object has keypoints")
    stopped(lambda: coco.joints(path), "no category tells its 'keypoints'")


def test_categories_of_different_joints_are_named(root):
    def change(data):
        data["categories"][0]["keypoints"] = ["a"]
        data["categories"][1]["keypoints"] = ["a", "b"]

    path = root / "annotations/instances_train2017.json"
    changed(root, change)
    stopped(lambda: coco.samples(path, kind="keypoints"), "1 and 2 keypoints")
    stopped(lambda: coco.joints(path), "different keypoints")
    changed(root, lambda data: data["categories"][0].update(keypoints=["a"], skeleton=[[1, 2]]))
    stopped(lambda: coco.joints(path), "skeleton is [[1, 2]]")


# What is wrong with one image.

@pytest.mark.parametrize("bbox, found", [
    ([1, 1, 0, 5], "no area"), ([1, 1, 5, -5], "no area"), ([60, 1, 1, 5], "no area"), ([1, 1, 1e-9, 5], "no area"),
    ([-1.5, 1, 5, 5], "outside the image of 60 x 50"), ([1, 1, 60.5, 5], "outside the image"),
    ([1, 45, 5, 7], "outside the image"), ([1e300, 1, 5, 5], "expected [x, y, width, height]"),
    ([1, 1, 5], "bbox is [1, 1, 5]"), ([1, 1, 5, "5"], "'5'"), ([1, 1, 5, None], "None"), ([1, 1, 5, True], "True"),
    ([float("nan"), 1, 5, 5], "nan"), ([1, 1, float("inf"), 5], "inf"), ([1, 1, 10**400, 5], "bbox is"),
    ({"x": 1}, "bbox is {'x': 1}"), ("1, 1, 5, 5", "bbox is"), (7, "bbox is 7"), ([[1], 1, 5, 5], "bbox is"),
    ([], "[]")])
def test_a_bad_box_is_named_with_its_file_and_annotation(root, bbox, found):
    put_second(root, bbox=bbox)
    skips(root, "b", "image 2 ('b.jpg'): annotation 12", found)


@pytest.mark.parametrize("segmentation, found", [
    (..., "None"), ([], "[]"), ("x", "'x'"), (5, "5"), ([5], "polygon is 5"), (TRIANGLE, "polygon is 10.0"),
    ([TRIANGLE, [1, 2, 3, 4]], "4 numbers"), ([TRIANGLE[:-1]], "5 numbers"), ([TRIANGLE + [1]], "7 numbers"),
    ([[]], "0 numbers"), ([[*TRIANGLE[:-1], "40"]], "polygon is"), ([[*TRIANGLE[:-1], None]], "polygon is"),
    ([[*TRIANGLE[:-1], 52]], "outside the image"), ([[*TRIANGLE[:-1], -2]], "outside the image"),
    ([[*TRIANGLE[:-1], float("nan")]], "polygon is"), ([[*TRIANGLE[:-1], 1e99]], "polygon is"),
    ({}, "size None"), ({"size": [60, 50], "counts": [3000]}, "size [60, 50], expected that of the image, [50, 60]"),
    ({"size": [50, 60], "counts": [2999]}, "do not add up to 50 * 60"),
    ({"size": [50, 60], "counts": [3001, -1]}, "are negative"),
    ({"size": [50, 60], "counts": [3000.0]}, "counts are"), ({"size": [50, 60], "counts": ["3000"]}, "counts are"),
    ({"size": [50, 60]}, "counts are None"), ({"size": [50, 60], "counts": [9 * 10**4299] * 3}, "do not add up"),
    ({"size": [50, 60], "counts": ""}, "no compressed run lengths"),
    ({"size": [50, 60], "counts": "12"}, "do not add up"),
    ({"size": [50, 60], "counts": "o"}, "no compressed run lengths"),
    ({"size": [50, 60], "counts": "\u00e9"}, "no compressed"),
    ({"size": [50, 60], "counts": "\ud800"}, "no compressed"),
    ({"size": [50, 60], "counts": "o" * 99 + "0"}, "no compressed")])
def test_a_bad_mask_is_named_but_only_where_masks_are_asked_for(root, segmentation, found):
    put_second(root, segmentation=segmentation)
    assert len(read(root)) == 3
    skips(root, "b", "image 2 ('b.jpg'): annotation 12", found, masks=True)


@pytest.mark.parametrize("fields, found", [
    ({"category_id": 4}, "category_id is 4, which is no category of this file. Known: 3, 7, 90"),
    ({"category_id": None}, "category_id is None"), ({"category_id": "3"}, "category_id is '3'"),
    ({"category_id": ...}, "category_id is None"), ({"category_id": [3]}, "category_id is [3]"),
    ({"category_id": 3.0}, "category_id is 3.0"),
    ({"iscrowd": 2}, "iscrowd is 2, expected 0 or 1"), ({"iscrowd": "0"}, "iscrowd is '0'"),
    ({"iscrowd": ..., "is_crowd": [1]}, "is_crowd is [1]"), ({"iscrowd": float("nan")}, "iscrowd is nan"),
    ({"area": -1}, "area is -1"), ({"area": "9"}, "area is '9'"), ({"area": float("nan")}, "area is nan"),
    ({"id": [1]}, "id is [1]"), ({"id": True}, "id is True"), ({"id": 1.5}, "id is 1.5")])
def test_a_bad_field_of_an_annotation_is_named(root, fields, found):
    put_second(root, **fields)
    skips(root, "b", "image 2 ('b.jpg'): annotation", found)


def test_annotations_may_lack_ids_but_not_share_them(root):
    put_second(root, id=...)
    assert read(root)[1].details["id"] == [None, 13]
    put_second(root, id=..., bbox=[])
    skips(root, "b", "annotation number 2: bbox is []")
    put_second(root, id=13)
    skips(root, "b", "annotation 13: another one has this id")


def test_a_category_that_is_not_in_class_names_is_named(root):
    skips(root, "b", "category 7, 'cat', is not in class_names", class_names=["dog", "tooth brush"])


@pytest.mark.parametrize("fields, found", [
    ({"width": 0}, "width 0"), ({"height": -5}, "height -5"), ({"width": 60.5}, "width 60.5"),
    ({"width": "60"}, "width '60'"), ({"width": None}, "width None"), ({"height": True}, "height True"),
    ({"height": float("nan")}, "height nan"), ({"height": float("inf")}, "height inf"), ({"width": [60]}, "width [60]"),
    ({"width": 2**30}, "above the limit"),
    ({"file_name": None}, "file_name is None"), ({"file_name": 5}, "file_name is 5"), ({"file_name": ""}, "''"),
    ({"file_name": ["a"]}, "['a']"), ({"file_name": "b\0.jpg"}, "no name of a file"),
    ({"file_name": "\ud800.jpg"}, "no name of a file"), ({"file_name": "no\nwhere.jpg"}, "missing"),
    ({"file_name": "."}, "missing"), ({"file_name": "/"}, "missing"), ({"file_name": "b" * 5000}, "missing"),
    ({"file_name": "d.jpg"}, "file_name 'd.jpg': image is missing")])
def test_a_bad_field_of_an_image_is_named(root, fields, found):
    changed(root, lambda data: data["images"][1].update(fields))
    skips(root, "b", "image 2", found)


def test_an_image_that_is_missing_is_named_with_the_folders_looked_at(root):
    (root / "train2017/b.jpg").unlink()
    skips(root, "b", "image 2", "'b.jpg'", "missing", str(root / "train2017"))


def test_an_image_of_another_size_or_corrupt_is_found_by_its_decoding(root):
    for change in (lambda path: Image.new("RGB", (50, 60)).save(path), lambda path: path.write_bytes(b"x")):
        change(root / "train2017/b.jpg")
        assert len(read(root)) == 3
        stopped(lambda: coco.detection(root), "b.jpg")
        with pytest.warns(UserWarning, match="1 of 3 samples left out"):
            assert len(list(coco.detection(root, on_bad_sample="skip"))) == 2


@pytest.mark.parametrize("record", [None, 3, [], "b.jpg"])
def test_an_image_that_is_no_object_is_named(root, record):
    def change(data):
        data["images"][1] = record
        del data["annotations"][1:]

    changed(root, change)
    skips(root, "b", "image number 2: is", "expected an object")


@pytest.mark.parametrize("number", [None, True, 1.5, [1], {}])
def test_an_image_without_an_id_is_named(root, number):
    def change(data):
        data["images"][1]["id"] = number
        del data["annotations"][1:]

    changed(root, change)
    skips(root, "b", "image number 2: id is")


def test_images_that_share_an_id_or_a_file_are_named(root):
    for key in ("id", "file_name"):
        changed(root, lambda data: data["images"][1].update({key: data["images"][0][key]}) or
                data["annotations"].clear())
        samples, skipped = coco.samples(root, on_bad_sample="skip")
        assert ids(samples) == ["c"] and len(skipped) == 2
        stopped(lambda: read(root), f"another image has this {key}")


@pytest.mark.parametrize("annotation, found", [
    (described(12, image_id=9), "annotation 12: image_id 9 is of no image of this file"),
    (described(12, image_id="2"), "image_id '2' is of no image"), (described(12, image_id=[2]), "is no id"),
    (described(12, image_id=...), "image_id None is no id"), (5, "annotation number 2, 5: image_id None"),
    (None, "number 2, None")])
def test_an_annotation_of_no_image_is_named(root, annotation, found):
    def change(data):
        data["annotations"][1] = annotation

    changed(root, change)
    stopped(lambda: read(root), found)
    samples, skipped = coco.samples(root, on_bad_sample="skip")
    assert ids(samples) == ["a", "b", "c"] and len(skipped) == 1 and found in skipped[0]


@pytest.mark.parametrize("numbers, found", [
    ([1, 2], "expected 2 times"), ("x", "'x'"), ([1, 2, 3, 1, 2, "2"], "keypoints are"), ({}, "{}"),
    ([1, 2, 3, 1, 2, 2], "visibility of a keypoint is 3"), ([1, 2, 2, 1, 2, 0.5], "visibility of a keypoint is 0.5"),
    ([1, 2, 2, float("nan"), 1, 0], "keypoints are"), ([1, 2, 2, 1e30, 1, 0], "keypoints are")])
def test_bad_keypoints_are_named(root, numbers, found):
    def change(data):
        data["categories"][0]["keypoints"] = ["head", "tail"]
        data["annotations"][1]["keypoints"] = numbers

    changed(root, change)
    skips(root / "annotations/instances_train2017.json", "b", "annotation 12", found, kind="keypoints")


def test_nothing_left_after_skipping_is_an_error_and_so_is_another_word(root):
    changed(root, lambda data: [each.update(width=0) for each in data["images"]])
    stopped(lambda: coco.samples(root, on_bad_sample="skip"), "Not one of 3 samples", "image 1")
    stopped(lambda: coco.samples(root, on_bad_sample="ignore"), "'stop', 'skip'")


JUNK = (None, True, -1, 0, 1.5, 10**400, -(2**63), float("nan"), float("inf"), "", "x", "\ud800\0\n", [], [[]], {},
        {"id": 1}, [None], [1, 2], {"size": [50, 60], "counts": "\u00ff"}, {"size": [1, 1], "counts": [-1, 2]},
        [[1, 2, 3, 4, 5, 6]], [[1e18] * 6], {"counts": [], "size": [50, 60]})


def mutated(data, draw):
    """The same with one to three of its values, anywhere, replaced, removed or doubled."""
    data = copy.deepcopy(data)
    for _ in range(draw.randint(1, 3)):
        place = data
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw.choice(keys)
            if isinstance(place[key], (dict, list)) and place[key] and draw.random() < 0.8:
                place = place[key]
                continue
            action = draw.random()
            if action < 0.7:
                place[key] = copy.deepcopy(draw.choice(JUNK))
            elif action < 0.85:
                del place[key]
            elif isinstance(place, list):
                place.append(copy.deepcopy(place[key]))
            break
    return data


def survives(root, data, kind, name):
    put(root, data, name)
    for choice in ("stop", "skip"):
        try:
            samples, _ = coco.samples(root, "train2017", kind, on_bad_sample=choice, masks=True)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        for sample in samples:
            height, width = sample.size
            x1, y1, x2, y2 = sample.boxes.T
            assert np.all((0 <= x1) & (x1 < x2) & (x2 <= width) & (0 <= y1) & (y1 < y2) & (y2 <= height))
            count = len(sample.labels)
            assert sample.boxes.shape == (count, 4) and sample.ignored.shape == (count,)
            assert all(len(values) == count for values in sample.details.values())
            assert np.all((1 <= sample.labels) & (sample.labels <= 254))
            if kind == "instances":
                assert sample_data.masks(sample).shape == (count, height, width)


def test_whatever_is_in_a_file_only_input_errors_come_out(root, cases=300):
    segments = panoptic_contents(root)
    with_joints = contents()
    with_joints["categories"][0]["keypoints"] = ["a", "b"]
    with_joints["annotations"][0]["keypoints"] = [1, 2, 2, 0, 0, 0]
    with_rle = contents()
    with_rle["annotations"][0]["segmentation"] = {"size": [50, 60], "counts": [100, 7, 2893]}
    with_rle["annotations"][1]["segmentation"] = {"size": [50, 60], "counts": "T3000oP20o"}
    draw = random.Random(0)
    for number in range(cases):
        kind, data = draw.choice([("instances", with_rle), ("instances", contents()), ("keypoints", with_joints),
                                  ("panoptic", segments)])
        survives(root, mutated(data, draw), kind, f"{coco.KINDS[kind]}_train2017")
    text = json.dumps(with_rle)
    for number in range(cases):
        start = draw.randrange(len(text))
        junk = draw.choice(["", "}", "]", "\0", "NaN", "\"", "é"])
        put(root, text[:start] + junk + text[start + draw.randint(0, 9):])
        try:
            coco.samples(root, on_bad_sample="skip", masks=True)
        except InputError as error:
            assert "\n" not in str(error)


# Panoptic annotation.

def panoptic_contents(root):
    """panoptic_train2017.json and its PNG files: void, a stuff segment, a dog, a crowd of cats; c has none."""
    folder = root / "annotations/panoptic_train2017"
    folder.mkdir(exist_ok=True)
    data = contents()
    data["annotations"] = []
    for image, name in zip(data["images"], "abc"):
        numbers = np.zeros((50, 60), "int64")
        segments = []
        for number, category, crowd, (x, y, w, h) in () if name == "c" else (
                (2_000_003, 90, 0, (0, 0, 60, 10)), (300, 3, 0, (10, 20, 20, 20)), (7, 7, 1, (40, 20, 20, 30))):
            numbers[y:y + h, x:x + w] = number
            segments.append({"id": number, "category_id": category, "iscrowd": crowd, "bbox": [x, y, w, h],
                             "area": w * h})
        picture = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype("uint8")
        Image.fromarray(picture).save(folder / f"{name}.png")
        data["annotations"].append({"image_id": image["id"], "file_name": f"{name}.png", "segments_info": segments})
    for number, category in enumerate(data["categories"]):
        category["isthing"] = int(category["id"] != 90)
    put(root, data, "panoptic_train2017")
    return data


def test_segments_are_objects_masks_and_labels_of_pixels(root):
    panoptic_contents(root)
    a, b, c = coco.panoptic(root).as_numpy_iterator()
    np.testing.assert_array_equal(a["boxes"], [[0, 0, 60, 10], [10, 20, 30, 40], [40, 20, 60, 50]])
    assert list(a["labels"]) == [3, 1, 2] and list(a["ignored"]) == [False, False, True]
    expected = np.full((50, 60), 255)
    expected[:10], expected[20:40, 10:30] = 3, 1
    np.testing.assert_array_equal(a["segmentation"], expected)
    for mask, (x1, y1, x2, y2) in zip(a["masks"], a["boxes"].astype(int), strict=True):
        assert mask.sum() == mask[y1:y2, x1:x2].sum() == (x2 - x1) * (y2 - y1)
    assert c["masks"].shape == (0, 50, 60) and np.all(c["segmentation"] == 255)
    sample = coco.samples(root, kind="panoptic")[0][0]
    assert sample.details == {"id": [2_000_003, 300, 7], "area": [600, 400, 600], "iscrowd": [0, 0, 1],
                              "isthing": [0, 1, 1]}


def test_the_segmentation_alone_has_no_objects(root):
    panoptic_contents(root)
    for whole, alone in zip(coco.panoptic(root).as_numpy_iterator(), coco.segmentation(root).as_numpy_iterator(),
                            strict=True):
        np.testing.assert_array_equal(whole["segmentation"], alone["segmentation"])
        assert alone["boxes"].shape == (0, 4) and "masks" not in alone


def test_the_png_files_may_be_beside_the_folder_of_the_annotations(root):
    panoptic_contents(root)
    expected = [each["segmentation"].tolist() for each in coco.panoptic(root).as_numpy_iterator()]
    (root / "annotations/panoptic_train2017").rename(root / "panoptic_train2017")
    assert [each["segmentation"].tolist() for each in coco.panoptic(root).as_numpy_iterator()] == expected


@pytest.mark.parametrize("change, found", [
    (lambda each: each.pop("segments_info"), "segments_info is None"),
    (lambda each: each.update(segments_info=[3]), "segments_info is [3]"),
    (lambda each: each["segments_info"][1].update(id=0), "ids of segments are [2000003, 0, 7]"),
    (lambda each: each["segments_info"][1].update(id="300"), "'300'"),
    (lambda each: each["segments_info"][1].update(id=2**24), "16777215"),
    (lambda each: each["segments_info"][1].update(id=7), "segment 7 is there twice"),
    (lambda each: each["segments_info"][1].update(bbox=[1, 1, 99, 1]), "segment 300: bbox [1, 1, 99, 1]"),
    (lambda each: each["segments_info"][1].update(category_id=4), "segment 300: category_id is 4"),
    (lambda each: each.update(file_name="nowhere.png"), "'nowhere.png' is missing"),
    (lambda each: each.update(file_name="../a.png"), "expected a PNG file"),
    (lambda each: each.update(file_name=None), "file_name of the segments is None"),
    (lambda each: each.update(image_id=3), "no panoptic annotation")])
def test_bad_panoptic_annotations_are_named(root, change, found):
    data = panoptic_contents(root)
    data["annotations"].reverse()  # c, b, a: the first one tells what kind of file it is
    change(data["annotations"][1])
    put(root, data, "panoptic_train2017")
    stopped(lambda: coco.samples(root, kind="panoptic"), "panoptic_train2017.json: image 2 ('b.jpg')", found)
    samples, skipped = coco.samples(root, kind="panoptic", on_bad_sample="skip")
    assert "b" not in ids(samples) and len(samples) + len(skipped) == 3


def test_a_segment_that_the_json_does_not_list_is_named(root):
    data = panoptic_contents(root)
    del data["annotations"][1]["segments_info"][1]
    put(root, data, "panoptic_train2017")
    stopped(lambda: coco.panoptic(root), "b.png", "300")


def test_more_classes_than_a_segmentation_can_tell_are_refused(root):
    data = panoptic_contents(root)
    data["categories"] += [{"id": 1000 + i, "name": f"class {i}"} for i in range(252)]
    put(root, data, "panoptic_train2017")
    stopped(lambda: coco.samples(root, kind="panoptic"), "255 classes, at most 254")


# Writing.

def source(sample):
    return sample.source if isinstance(sample.source, bytes) else pathlib.Path(sample.source).read_bytes()


def same(found, given):
    """Both lists of samples tell the same; what is found may tell more details, and more about the images."""
    assert ids(found) == ids(given)
    for a, b in zip(found, given):
        assert a.size == b.size and source(a) == source(b)
        assert all(a.details[key] == values for key, values in b.details.items())
        assert all(a.about[key] == value for key, value in b.about.items())
        assert (a.masks is None) == (b.masks is None) and (a.keypoints is None) == (b.keypoints is None)
        np.testing.assert_array_equal(sample_data.masks(a), sample_data.masks(b))
        for key in ("boxes", "labels", "ignored", "keypoints"):
            if getattr(b, key) is not None:
                np.testing.assert_array_equal(getattr(a, key), getattr(b, key))
                assert getattr(a, key).dtype == getattr(b, key).dtype


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


NAMES = ["dog", "cat", "tooth brush"]


def test_what_is_written_is_read_again_equal_in_everything(root, tmp_path):
    put_second(root, pose="Left", parts=[["head", 1, 2, 3, 4.5]])
    for options in ({}, {"masks": True}):
        given = read(root, **options)
        new = tmp_path / f"new {options}"
        assert coco.write(given, new, NAMES, progress=False) == new
        found = read(new, **options)
        same(found, given)
        for a, b in zip(found, given):
            assert (a.details, a.about, a.masks) == (b.details, b.about, b.masks)
        coco.write(found, tmp_path / f"again {options}", NAMES, progress=False)
        assert files(new) == files(tmp_path / f"again {options}")
        assert {path.name for path in new.iterdir()} == {"annotations", "train2017"}  # nothing hidden is left
        assert coco.class_names(new) == NAMES


def test_pycocotools_reads_what_is_written(root, tmp_path):
    given = read(root, masks=True)
    coco.write(given, tmp_path / "new", NAMES, "val2017", progress=False)
    reference = COCO(tmp_path / "new/annotations/instances_val2017.json")
    assert [each["name"] for each in reference.loadCats([1, 2, 3])] == NAMES
    for sample in given:
        found = reference.imgToAnns[sample.about["id"]]
        assert [each["category_id"] for each in found] == list(sample.labels)
        assert [each["iscrowd"] for each in found] == list(sample.ignored)
        for each, mask in zip(found, sample_data.masks(sample), strict=True):
            np.testing.assert_array_equal(reference.annToMask(each), mask)


def test_another_split_is_written_beside_but_nothing_is_written_over(root, tmp_path):
    given = read(root)
    before = files(root)
    stopped(lambda: coco.write(given, root, NAMES), "train2017", "is there already")
    assert files(root) == before
    coco.write(given, root, NAMES, "val2017", progress=False)
    assert {key: value for key, value in files(root).items() if key in before} == before
    assert ids(read(root, "val")) == ids(read(root, "train"))
    (tmp_path / "other/val2017").mkdir(parents=True)
    stopped(lambda: coco.write(given, tmp_path / "other", NAMES, "val2017"), "val2017", "is there already")


def test_samples_of_bytes_and_unknown_size_are_written(root, tmp_path):
    given = [Sample("x.y", (root / "train2017/a.jpg").read_bytes(), boxes=np.array([[0.1, 0, 60, 50]], "float32"),
                    labels=np.array([2], "int32"), ignored=np.array([False]))]
    coco.write(given, tmp_path / "new", NAMES, progress=False)
    found = read(tmp_path / "new")
    same(found, [given[0]._replace(size=(50, 60))])
    assert found[0].about == {"id": 1, "file_name": "x.y.jpg"}
    assert found[0].details == {"id": [1], "area": [pytest.approx(59.9 * 50)], "iscrowd": [0]}


def test_files_are_named_by_the_image_ids_and_keep_their_suffix(root, tmp_path):
    (root / "train2017/deep").mkdir()
    (root / "train2017/b.jpg").rename(root / "train2017/deep/b.JPEG")
    (root / "train2017/c.jpg").rename(root / "train2017/c.png")
    changed(root, lambda data: [each.update(file_name=name) for each, name in zip(
        data["images"], ("../somewhere/a.jpg", "deep/b.JPEG", "c.png"))])
    given = read(root)
    coco.write(given, tmp_path / "new", NAMES, progress=False)
    assert {path.name for path in (tmp_path / "new/train2017").iterdir()} == {"a.jpg", "b.JPEG", "c.jpg"}
    same(read(tmp_path / "new"), [sample._replace(about={"license": 4}) for sample in given])
    images = json.loads((tmp_path / "new/annotations/instances_train2017.json").read_text())["images"]
    assert [each["file_name"] for each in images] == ["a.jpg", "b.JPEG", "c.jpg"]  # c is a JPEG


def test_ids_that_are_there_twice_are_numbered_anew(root, tmp_path):
    given = read(root) + [sample._replace(image_id=sample.image_id * 2) for sample in read(root)]
    coco.write(given, tmp_path / "new", NAMES, progress=False)
    found = read(tmp_path / "new")
    assert [sample.about["id"] for sample in found] == [1, 2, 3, 4, 5, 6]
    assert [sample.details["id"] for sample in found] == [[1], [2, 3], [], [4], [5, 6], []]


def test_masks_of_a_label_image_are_written_as_run_lengths(root, tmp_path):
    panoptic_contents(root)
    given = coco.samples(root, kind="panoptic")[0]
    coco.write(given, tmp_path / "new", NAMES, progress=False)
    found = read(tmp_path / "new", masks=True)
    same(found, [sample._replace(details={}) for sample in given])
    assert found[0].details["area"] == [600, 400, 600] and found[0].details["isthing"] == [0, 1, 1]
    assert [sample.details["id"] for sample in found] == [[1, 2, 3], [4, 5, 6], []]  # segments were of an image only


def segmented(samples, seed=0):
    """The same with labels of pixels, 0 to 3 and 255."""
    draw = np.random.default_rng(seed)
    return [sample._replace(segmentation=LabelImage(encoded(draw.choice([0, 1, 2, 3, 255], sample.size))))
            for sample in samples]


def encoded(numbers):
    file = io.BytesIO()
    Image.fromarray(numbers.astype("uint8")).save(file, "PNG")
    return file.getvalue()


def test_labels_of_pixels_are_written_beside_and_found_again(root, tmp_path):
    given = segmented(read(root, masks=True))
    new = coco.write(given, tmp_path / "new", NAMES, progress=False)
    assert {path.name for path in new.iterdir()} == {"annotations", "labels", "train2017"}
    for options in ({"masks": True}, {"kind": "instances"}, {"root": new / "annotations/instances_train2017.json"}):
        found = read(**{"folder": options.pop("root", new)}, **options)
        for a, b in zip(found, given, strict=True):
            path = new / f"labels/train2017/{a.image_id}.png"
            assert a.segmentation.source == str(path) and Image.open(path).mode == "L"
            np.testing.assert_array_equal(np.array(Image.open(path)), sample_data.segmentation(b))
            np.testing.assert_array_equal(sample_data.segmentation(a), sample_data.segmentation(b))
    same(read(new, masks=True), given)
    element = next(coco.detection(new).as_numpy_iterator())
    np.testing.assert_array_equal(element["segmentation"], sample_data.segmentation(given[0]))
    coco.write(found, tmp_path / "again", NAMES, progress=False)
    assert files(tmp_path / "again/labels") == files(new / "labels")


def test_labels_of_pixels_follow_the_class_names_that_are_given(root, tmp_path):
    given = segmented(read(root))
    new = coco.write(given, tmp_path / "new", NAMES, progress=False)
    found = read(new, class_names=["tooth brush", "bird", "dog", "cat"])
    for a, b in zip(found, given, strict=True):
        table = np.full(256, 255)
        table[:4] = 0, 3, 4, 1
        np.testing.assert_array_equal(sample_data.segmentation(a), table[sample_data.segmentation(b)])


def test_a_label_image_that_is_missing_or_of_another_size_or_class_is_named(root, tmp_path):
    new = coco.write(segmented(read(root)), tmp_path / "new", NAMES, progress=False)
    path = new / "labels/train2017/b.png"
    for numbers, found in ((np.zeros((60, 50)), "50 x 60"), (np.full((50, 60), 4), "unknown labels 4")):
        path.write_bytes(encoded(numbers))
        stopped(lambda: coco.detection(new), str(path), found)
    path.unlink()
    skips(new, "b", "image 2 ('b.jpg')", str(path), "is missing")
    for each in path.parent.iterdir():
        each.rename(each.with_suffix(".txt"))  # as other tools have their boxes there
    assert [sample.segmentation for sample in read(new)] == [None] * 3


def test_a_segmentation_that_could_not_be_read_again_is_refused_and_nothing_is_left(root, tmp_path):
    given = read(root)
    whole = segmented(given)

    def refused(samples, *expected, names=NAMES):
        stopped(lambda: coco.write(samples, tmp_path / "deep/new", names, progress=False), *expected)
        assert [path.name for path in tmp_path.iterdir()] == ["coco"]

    refused([whole[0], *given[1:]], "1 of 3 samples have a segmentation")
    refused(whole, "255 classes, at most 254", names=[f"class {i}" for i in range(255)])
    for numbers, found in ((np.zeros((60, 50)), "50 x 60 pixels, the image 60 x 50"),
                           (np.full((50, 60), 4), "labels 4")):
        refused([whole[0]._replace(segmentation=LabelImage(encoded(numbers))), *whole[1:]], "a.jpg", found)
    refused([whole[0]._replace(segmentation=LabelImage(b"x")), *whole[1:]], "a.jpg: label image")
    (root / "labels/val2017").mkdir(parents=True)
    for samples in (given, whole):  # it would be taken for the set's
        stopped(lambda: coco.write(samples, root, NAMES, "val2017"), "labels/val2017", "is there already")


def test_areas_are_those_of_the_masks_or_else_of_the_boxes(root, tmp_path):
    for options, area in (({"masks": True}, int(sample_data.masks(read(root, masks=True)[0]).sum())), ({}, 400)):
        given = [sample._replace(details={}) for sample in read(root, **options)]
        coco.write(given, tmp_path / f"{options}", NAMES, progress=False)
        assert read(tmp_path / f"{options}")[0].details["area"] == [area]


def test_numpys_numbers_may_be_in_details(root, tmp_path):
    given = read(root)[:1]
    given[0] = given[0]._replace(details={"a": [np.float32(0.5)], "b": [np.arange(3)], "area": np.array([4.5])})
    coco.write(given, tmp_path / "new", NAMES, progress=False)
    details = read(tmp_path / "new")[0].details
    assert (details["a"], details["b"], details["area"]) == ([0.5], [[0, 1, 2]], [4.5])


def test_keypoints_are_written_with_and_without_names(root, tmp_path):
    points = np.array([[[0.1, 1 / 3, 2], [4, 5, 1], [0, 0, 0]]], "float32")
    given = [sample._replace(keypoints=np.repeat(points, len(sample.labels), 0)) for sample in read(root)]
    joints = ("head", "left", "right"), ((0, 1), (0, 2))
    for number, named in enumerate((None, joints)):
        new = coco.write(given, tmp_path / str(number), NAMES, joints=named, progress=False)
        same(read(new, kind="keypoints"), given)
        assert read(new, kind="keypoints")[1].details["num_keypoints"] == [2, 2]
        same(read(new), [sample._replace(keypoints=None) for sample in given])
        reference = COCO(new / "annotations/person_keypoints_train2017.json")
        np.testing.assert_array_equal(np.reshape(reference.anns[11]["keypoints"], (1, 3, 3)).astype("float32"), points)
    assert coco.joints(new) == joints
    stopped(lambda: coco.joints(tmp_path / "0"), "no category tells")
    mixed = [given[0], read(root)[1]]
    stopped(lambda: coco.write(mixed, tmp_path / "2", NAMES), "None", "3", "one set each")
    stopped(lambda: coco.write(given, tmp_path / "2", NAMES, joints=(("a", "b"), ())), "2 and 3")
    given[0].keypoints[0, 0, 2] = 7
    stopped(lambda: coco.write(given, tmp_path / "2", NAMES), "a.jpg: object 1", "visibility")
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize("change, found", [
    ({"image_id": "../x"}, "'../x' cannot be the name"), ({"image_id": ""}, "''"), ({"image_id": "a/b"}, "'a/b'"),
    ({"image_id": "a\\b"}, "cannot be the name"), ({"image_id": ".x"}, "'.x'"), ({"image_id": "a\nb"}, "cannot be"),
    ({"image_id": "a\0"}, "cannot be"), ({"image_id": "\ud800"}, "cannot be"), ({"image_id": 5}, "5 cannot be"),
    ({"image_id": "c"}, "'c' is there twice"), ({"image_id": "x" * 300}, "cannot be written"),
    ({"source": "nowhere.jpg"}, "nowhere.jpg: image is missing"), ({"source": b"x"}, "no JPEG"),
    ({"size": (60, 50)}, "60 x 50 pixels, its sample says 50 x 60"),
    ({"labels": np.array([0, 1])}, "object 1: label 0"), ({"labels": np.array([1, 4])}, "object 2: label 4"),
    ({"labels": np.array([1])}, "2 boxes and 1 labels"), ({"ignored": np.array([True])}, "1 ignored and 2 labels"),
    ({"details": {"pose": ["Left"]}}, "1 pose and 2 labels"), ({"masks": []}, "0 masks"),
    ({"boxes": np.array([[0, 0, 1, 1], [0, 0, 60.5, 1]])}, "object 2: box [0.0, 0.0, 60.5, 1.0] reaches over"),
    ({"boxes": np.array([[0, 0, 1, 1], [0, 0, 70, 1]])}, "outside the image"),
    ({"boxes": np.array([[0, 0, 1, 1], [5, 0, 5, 1]])}, "no area"),
    ({"boxes": np.array([[0, 0, 1, 1], [np.nan, 0, 5, 1]])}, "nan"),
    ({"masks": [{"size": [1, 1], "counts": b"1"}] * 2}, "object 1: run lengths of size [1, 1]"),
    ({"masks": [{"size": [50, 60], "counts": b"\xff"}] * 2}, "no compressed run lengths"),
    ({"details": {"bbox": [1, 2]}}, "cannot be called bbox"), ({"details": {"area": [-1, 2]}}, "area is -1"),
    ({"details": {"x": [float("nan"), 2]}}, "cannot be written as JSON"),
    ({"details": {"x": [b"1", 2]}}, "cannot be written as JSON"),
    ({"about": {"x": {1, 2}}}, "cannot be written as JSON"),
    ({"about": {"x": Sample}}, "cannot be written as JSON")])
def test_what_could_not_be_read_again_is_refused_and_nothing_is_left(root, tmp_path, change, found):
    given = read(root)
    given[1] = given[1]._replace(**change)
    stopped(lambda: coco.write(given, tmp_path / "deep/new", NAMES, progress=False), found)
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_bad_names_of_classes_and_splits_and_no_samples_are_refused(root, tmp_path):
    given = read(root)
    for names in ([], ["a", "a", "b"], ["a", "", "b"], [1, 2, 3], [["a"], "b", "c"]):
        stopped(lambda: coco.write(given, tmp_path / "new", names), "class_names")
    for split in ("", "a/b", "..", "annotations", "labels", None):
        stopped(lambda: coco.write(given, tmp_path / "new", NAMES, split), "split")
    stopped(lambda: coco.write([], tmp_path / "new", NAMES), "at least one")
    (tmp_path / "file").write_text("")
    stopped(lambda: coco.write(given, tmp_path / "file", NAMES), str(tmp_path / "file"), "cannot be written")
    stopped(lambda: coco.write(given, tmp_path / "file/new", NAMES), str(tmp_path / "file"), "cannot be written")
    assert {path.name for path in tmp_path.iterdir()} == {"coco", "file"}


def test_a_failure_at_the_last_step_leaves_nothing(root, tmp_path, monkeypatch):
    given, rename = read(root), os.rename

    def failing(source, target):
        if str(target).endswith(".json"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    stopped(lambda: coco.write(given, tmp_path / "new", NAMES, progress=False), "No space left")
    before = files(root)
    stopped(lambda: coco.write(given, root, NAMES, "val2017", progress=False), "No space left")
    assert not (tmp_path / "new").exists() and files(root) == before and not (root / "val2017").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2**53, 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=4)
free_names = st.text(min_size=1, max_size=6).filter(
    lambda name: name not in {"id", "area", "iscrowd", "is_crowd", "bbox", "segmentation", "image_id", "category_id",
                              "keypoints", "num_keypoints", "parts", "file_name", "height", "width"})
image_names = st.text(min_size=1, max_size=8).filter(coco._is_file_name)


@st.composite
def sets(draw):
    """Samples of one set: all with masks or none, all with keypoints or none."""
    with_masks, with_joints = draw(st.booleans()), draw(st.booleans())
    found = []
    for image_id in draw(st.lists(image_names, min_size=1, max_size=3, unique=True)):
        height, width, count = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.integers(0, 3))
        seed = np.random.default_rng(draw(st.integers(0, 999)))
        boxes = np.sort(seed.random((count, 2, 2), "float32"), 1) * np.float32([width, height])
        if draw(st.booleans()):
            boxes = np.stack([np.floor(boxes[:, 0]), np.ceil(boxes[:, 1] + 1e-3)], 1)
        boxes = np.clip(boxes.reshape(-1, 4), 0, np.float32([width, height] * 2))
        pixels = (seed.random((count, height, width)) < 0.4).astype("uint8")
        points = np.concatenate([seed.normal(20, 20, (count, 5, 2)), seed.integers(0, 3, (count, 5, 1))], -1)
        keys = draw(st.lists(free_names, max_size=2, unique=True))
        found.append(Sample(
            image_id, picture(height, width, draw(st.sampled_from(["PNG", "BMP", "JPEG"]))), (height, width), boxes,
            seed.integers(1, 4, count).astype("int32"), seed.random(count) < 0.5,
            {key: draw(st.lists(json_values, min_size=count, max_size=count)) for key in keys} if count else {},
            [coco_mask.encode(np.asfortranarray(mask)) for mask in pixels] if with_masks else None,
            points.astype("float32") if with_joints else None,
            about=draw(st.dictionaries(free_names, json_values, max_size=2))))
    return found


def picture(height, width, form):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, form)
    return file.getvalue()


@given(sets())
@settings(max_examples=40, deadline=None)
def test_any_samples_come_back_as_they_were_written(tmp_path_factory, given):
    new = tmp_path_factory.mktemp("any") / "new"
    given = [sample for sample in given if np.all(sample.boxes[:, :2] < sample.boxes[:, 2:])]
    if not given:
        return
    with_masks, with_joints = given[0].masks is not None, given[0].keypoints is not None
    joints = ("a", "b", "c", "d", "e"), ((0, 1),)
    coco.write(given, new, NAMES, joints=joints, progress=False)
    same(read(new, kind="keypoints" if with_joints else "instances", masks=with_masks), given)
    shutil.rmtree(new.parent)


# The real data.

DATA = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", ""))
real = pytest.mark.skipif(not os.environ.get("KERAS_CNNS_DATA"), reason="KERAS_CNNS_DATA is not set")
REAL = DATA / "coco"
SETS = [(REAL, "train2017"), (REAL, "val2017"), (DATA / "coco_dali/coco/instances.json", None),
        (DATA / "coco_dali/coco_pixelwise/instances.json", None)]


def reference(root, split, kind="instances"):
    return COCO(root if split is None else root / f"annotations/{kind}_{split}.json")


@real
@pytest.mark.parametrize("split, images, objects, crowds, persons, labelled, classes", [
    ("train", 80, 739, 8, 172, 86, 80), ("val", 20, 159, 2, 22, 12, 44)])
def test_the_real_sample_has_as_many_as_its_description_says(
        split, images, objects, crowds, persons, labelled, classes):
    samples = read(REAL, split)
    assert len(samples) == images and sum(len(sample.labels) for sample in samples) == objects
    assert sum(int(sample.ignored.sum()) for sample in samples) == crowds
    assert len({int(label) for sample in samples for label in sample.labels}) == classes
    samples = read(REAL, split, kind="keypoints")
    assert len(samples) == images and sum(len(sample.labels) for sample in samples) == persons
    assert sum(int((sample.keypoints[..., 2] > 0).any(-1).sum()) for sample in samples) == labelled
    assert coco.joints(REAL, split)[0] == coco.KEYPOINTS and len(coco.joints(REAL, split)[1]) == 19
    assert len(coco.class_names(REAL, split)) == 80 and coco.class_names(REAL, split)[0] == "person"


@real
@pytest.mark.parametrize("root, split, counts", [
    (REAL, "train", "person 172, book 50, chair 47, cup 33, car 33, bottle 22, dining table 21, toaster 1, apple 1"),
    (REAL, "val", "donut 27, person 22, broccoli 14, boat 9, orange 9, bottle 9, bird 5, toaster 1, sink 1"),
    (SETS[2][0], "", "Apple 6, Kite 5, Laptop 4, Dog 4, Clock 3, Banan 3, Cat 3, Tie 2, Bottle 2, Pizza 2, Bag 1, "
     "Horse 1, Cow 1, Motorcycle 1, Bicycle 1, Car 1"),
    (SETS[3][0], "", "Table 4, Laptop 3, Pizza 1")])
def test_the_real_objects_are_of_the_classes_described(root, split, counts):
    names = coco.class_names(root, split)
    found = collections.Counter(names[label - 1] for sample in read(root, split) for label in sample.labels)
    for each in counts.split(", "):
        name, _, count = each.rpartition(" ")
        assert found[name] == int(count), name


@real
@pytest.mark.parametrize("root, split", SETS)
def test_every_real_box_label_and_mask_is_pycocotools_own(root, split):
    expected = reference(root, split)
    by_label = list(coco.categories(root, split))
    assert by_label == sorted(expected.getCatIds())
    samples, skipped = coco.samples(root, split, masks=True, on_bad_sample="skip")
    # Two polygons of four numbers, of which pycocotools makes no mask either.
    assert len(skipped) == (2 if root == SETS[2][0] else 0) and all("of 4 numbers" in line for line in skipped)
    assert len(samples) + len(skipped) == len(expected.imgs)
    for sample in samples:
        record, annotations = expected.imgs[sample.about["id"]], expected.imgToAnns[sample.about["id"]]
        assert sample.image_id == pathlib.Path(record["file_name"]).stem
        boxes = np.array([each["bbox"] for each in annotations], "float64").reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_array_equal(sample.boxes, boxes.astype("float32"))
        assert [by_label[label - 1] for label in sample.labels] == [each["category_id"] for each in annotations]
        for key in ("id", "area"):
            assert sample.details[key] == [each[key] for each in annotations]
        crowds = [each.get("iscrowd", each.get("is_crowd")) for each in annotations]
        assert sample.details["iscrowd"] == list(sample.ignored) == crowds
        for mask, each in zip(sample_data.masks(sample), annotations, strict=True):
            np.testing.assert_array_equal(mask, expected.annToMask(each))


@real
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_every_real_keypoint_is_that_of_the_json(split):
    expected = reference(REAL, split, "person_keypoints")
    for sample in read(REAL, split, kind="keypoints"):
        annotations = expected.imgToAnns[sample.about["id"]]
        points = np.array([each["keypoints"] for each in annotations], "float32").reshape(-1, 17, 3)
        np.testing.assert_array_equal(sample.keypoints, points)
        assert sample.details.get("num_keypoints") == [each["num_keypoints"] for each in annotations]


@real
@pytest.mark.parametrize("root, split", SETS)
def test_every_real_image_decodes_to_its_annotated_size(root, split):
    samples = read(root, split)
    assert len(samples) == {80: 80, 20: 20, 30: 30, 4: 4}[len(reference(root, split).imgs)]
    assert sample_data.check(samples, progress=False) == (samples, [])


@real
def test_pictures_with_alpha_are_read():
    samples = [sample for sample in read(SETS[2][0]) if sample.source.endswith(".png")]
    assert len(samples) == 2
    for element in sample_data.dataset(samples).as_numpy_iterator():
        assert element["image"].shape[2] == 3


@real
def test_the_real_sample_can_be_trained_on_with_masks_and_with_keypoints():
    elements = list(coco.detection(REAL, "val", masks=True).take(3).as_numpy_iterator())
    for element in elements:
        assert element["masks"].shape == (len(element["labels"]), *element["image"].shape[:2])
    element = next(coco.keypoints(REAL, "val").as_numpy_iterator())
    assert element["keypoints"].shape == (len(element["labels"]), 17, 3)


@real
@pytest.mark.parametrize("root, split", SETS[1:])
def test_the_real_sets_are_written_and_read_again_equal(root, split, tmp_path):
    given, _ = coco.samples(root, split, masks=True, on_bad_sample="skip")
    names = coco.class_names(root, split)
    new = coco.write(given, tmp_path / "new", names, "some", progress=False)
    found = read(new, "some", masks=True)
    same(found, given)
    for a, b in zip(found, given):
        assert (a.masks, a.about, a.details) == (b.masks, b.about, b.details)
    expected = COCO(new / "annotations/instances_some.json")
    for sample in given:
        for mask, each in zip(sample_data.masks(sample), expected.imgToAnns[sample.about["id"]], strict=True):
            np.testing.assert_array_equal(mask, expected.annToMask(each))


@real
def test_the_real_keypoints_are_written_and_read_again_equal(tmp_path):
    given = read(REAL, "val", kind="keypoints")
    new = coco.write(given, tmp_path, ["person"], "val2017", coco.joints(REAL, "val"), progress=False)
    found = read(new, "val", kind="keypoints")
    same(found, given)
    assert coco.joints(new, "val2017") == coco.joints(REAL, "val")
    assert [sample.details for sample in found] == [sample.details for sample in given]


@real
def test_voc_goes_to_coco_and_back_without_loss(tmp_path):
    given, _ = voc.samples(DATA / "voc/VOCdevkit", 2012, "trainval")
    new = coco.write(given, tmp_path, voc.CLASSES, "trainval2012", progress=False)
    found = read(new, "trainval2012")
    same(found, given)
    assert coco.class_names(new, "trainval2012") == list(voc.CLASSES)
    assert sum(int(sample.ignored.sum()) for sample in found) == 22


@real
def test_the_segmentation_of_voc_goes_to_coco_and_back_without_loss(tmp_path):
    given, _ = voc.segmentation_samples(DATA / "voc/VOCdevkit", 2012, "val")
    new = coco.write(given, tmp_path / "coco", voc.CLASSES, "val2012", progress=False)
    kit = voc.write(read(new, "val2012"), tmp_path / "kit", voc.CLASSES, split="val", progress=False)
    back, _ = voc.segmentation_samples(kit, split="val")
    assert len(given) == 34
    same(back, given)
    for a, b, c in zip(back, given, read(new, "val2012"), strict=True):
        np.testing.assert_array_equal(sample_data.segmentation(a), sample_data.segmentation(b))
        np.testing.assert_array_equal(sample_data.segmentation(c), sample_data.segmentation(b))


@real
def test_a_panoptic_set_made_of_the_real_instances_tells_the_same_pixels(tmp_path):
    given = read(REAL, "val", masks=True)[:6]
    (tmp_path / "annotations/panoptic_val2017").mkdir(parents=True)
    shutil.copytree(REAL / "val2017", tmp_path / "val2017")
    data = json.loads((REAL / "annotations/instances_val2017.json").read_text())
    by_label, data["annotations"], expected = list(coco.categories(REAL, "val")), [], {}
    data["images"] = data["images"][:6]
    for sample in given:
        numbers = np.zeros(sample.size, "int64")
        labels = np.full(sample.size, 255)
        segments = []
        for mask, label, crowd, box, number in zip(sample_data.masks(sample), sample.labels, sample.ignored,
                                                   sample.boxes, sample.details["id"]):
            free = (mask == 1) & (numbers == 0)
            number %= 2**24
            numbers[free], labels[free] = number, 255 if crowd else label
            x1, y1, x2, y2 = box.tolist()
            segments.append({"id": number, "category_id": by_label[label - 1], "iscrowd": int(crowd),
                             "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(free.sum())})
        picture = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype("uint8")
        Image.fromarray(picture).save(tmp_path / f"annotations/panoptic_val2017/{sample.image_id}.png")
        data["annotations"].append({"image_id": sample.about["id"], "file_name": f"{sample.image_id}.png",
                                    "segments_info": segments})
        expected[sample.image_id.encode()] = labels, numbers, [each["id"] for each in segments]
    put(tmp_path, data, "panoptic_val2017")
    for element in coco.panoptic(tmp_path, "val").as_numpy_iterator():
        labels, numbers, order = expected[element["image_id"]]
        np.testing.assert_array_equal(element["segmentation"], labels)
        for mask, number in zip(element["masks"], order, strict=True):
            np.testing.assert_array_equal(mask, numbers == number)
