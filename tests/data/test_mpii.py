import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_cnns.data import mpii
from keras_cnns.data import samples as sample_data
from keras_cnns.errors import InputError
from tests.data.helpers import DATA, real, stopped


def person(image="a.jpg", **changes):
    """Joint j at (11 + j, 21 + j) of Matlab, the last two not marked."""
    joints = [[11.0 + j, 21.0 + j] for j in range(14)] + [[-1.0, -1.0], [0.0, 0.0]]
    return {"image": image, "joints": joints, "joints_vis": [1] * 14 + [0, 0], "center": [31.0, 26.0], "scale": 0.1,
            **changes}


@pytest.fixture
def root(tmp_path):
    """Images 60 pixels wide, 50 high; a with two persons, whose entries are apart, and b with one."""
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (60, 50), "green").save(tmp_path / "images" / name)
    write(tmp_path, [person(), person("b.jpg"), person(center=[1.0, 50.0])])
    return tmp_path


def write(root, entries, name="train.json"):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(entries if isinstance(entries, str) else json.dumps(entries))


def read(root, split="train", **options):
    found, skipped = mpii.samples(root, split, **options)
    assert skipped == []
    return found


def test_joints_are_counted_from_0_and_those_not_marked_are_0(root):
    joints = read(root)[1].keypoints
    assert joints.shape == (1, 16, 3) and joints.dtype == np.float32
    np.testing.assert_array_equal(joints[0, :14], [(10 + j, 20 + j, 2) for j in range(14)])
    np.testing.assert_array_equal(joints[0, 14:], 0)


def test_persons_of_one_image_are_one_sample(root):
    a, b = read(root)
    assert (a.image_id, b.image_id) == ("a", "b") and a.keypoints.shape == (2, 16, 3)
    assert a.size == (50, 60) and list(a.labels) == [1, 1] and not a.ignored.any()
    assert mpii.class_names() == ["person"]


def test_boxes_are_squares_around_the_centre_inside_the_image(root):
    a, b = read(root)
    np.testing.assert_allclose(a.boxes, [[20, 15, 40, 35], [0, 39, 10, 50]], atol=1e-5)  # half a side: 0.1 * 200 / 2
    np.testing.assert_allclose(b.boxes, [[20, 15, 40, 35]], atol=1e-5)


def test_centre_and_scale_are_kept_as_they_stand(root):
    assert read(root)[0].details == {"center": [[31.0, 26.0], [1.0, 50.0]], "scale": [0.1, 0.1]}


def test_elements_hold_the_joints(root):
    elements = list(mpii.keypoints(root).as_numpy_iterator())
    assert elements[0]["keypoints"].shape == (2, 16, 3) and elements[1]["image"].shape == (50, 60, 3)
    for number in range(9):
        Image.new("RGB", (60, 50)).save(root / f"images/{number}.png")
    write(root, [person(f"{number}.png") for number in range(9)])
    one, other = ([e["image_id"] for e in mpii.keypoints(root, shuffle=True, seed=seed).as_numpy_iterator()]
                  for seed in range(2))
    assert sorted(one) == sorted(other) and one != other != sorted(one) != one


def test_the_pairs_are_right_and_left_of_the_same_joint():
    assert len(mpii.KEYPOINTS) == len(set(mpii.KEYPOINTS)) == 16
    for right, left in mpii.KEYPOINT_PAIRS:
        assert mpii.KEYPOINTS[right].replace("right", "left") == mpii.KEYPOINTS[left] != mpii.KEYPOINTS[right]
    middle = set(range(16)) - {joint for pair in mpii.KEYPOINT_PAIRS for joint in pair}
    assert [mpii.KEYPOINTS[joint] for joint in sorted(middle)] == ["pelvis", "thorax", "upper_neck", "head_top"]


@pytest.mark.parametrize("name, split", [
    ("annot/valid.json", "val"), ("annot/valid.json", "valid"), ("annotations/mpii_val.json", "val"),
    ("mpii_test.json", "test"), ("trainval.json", "trainval")])
def test_files_are_found_where_hrnet_and_mmpose_have_them(root, name, split):
    write(root, [person("b.jpg")], name)
    assert [sample.image_id for sample in read(root, split)] == ["b"]
    assert [sample.image_id for sample in read(root / name)] == ["b"]


def test_the_test_split_has_no_joints(root):
    entry = person()
    del entry["joints"], entry["joints_vis"]
    write(root, [entry])
    np.testing.assert_array_equal(read(root)[0].keypoints, np.zeros((1, 16, 3)))


def test_a_split_that_is_not_there_is_named_with_those_that_are(root):
    write(root, [person()], "annot/valid.json")
    stopped(lambda: read(root, "test"), "no JSON file of the split 'test' (annot/test.json", "valid.json, train.json")
    stopped(lambda: read(root / "gone"), "gone: no JSON file", "Found: none")


def test_missing_images_are_named_whether_one_or_all(root):
    (root / "images/b.jpg").unlink()
    skips(root, [person(), person("b.jpg"), person()], "images/b.jpg", "entry 2", "image is missing")
    (root / "images").rename(root / "pictures")
    stopped(lambda: read(root), f"{root}/images: no such folder")


def skips(root, entries, *expected):
    """One bad image, both ways: an error that names it, or one line while the others are read."""
    write(root, entries)
    stopped(lambda: read(root), *expected, "on_bad_sample='skip'")
    found, skipped = mpii.samples(root, on_bad_sample="skip")
    assert len(skipped) == 1 and all(text in skipped[0] for text in expected)
    assert "a" in [sample.image_id for sample in found]


@pytest.mark.parametrize("changes, expected", [
    ({"scale": None}, "scale has missing or null, expected a number"),
    ({"scale": 0}, "scale is 0, expected more than 0"),
    ({"scale": -1.5}, "scale is -1.5"),
    ({"scale": "1"}, "scale has '1'"),
    ({"scale": True}, "scale has True"),
    ({"scale": float("nan")}, "scale has nan"),
    ({"scale": float("inf")}, "scale has inf"),
    ({"scale": 10**400}, "scale has 1000"),
    ({"scale": 1e-9}, "has not a pixel in the image of 60 x 50"),
    ({"center": [500.0, 20.0]}, "the square around center 500, 20 of scale 0.1 has not a pixel"),
    ({"center": [1e308, -1e308]}, "has not a pixel"),
    ({"center": {"x": 1, "y": 2}}, "center is a dict of 2, expected a list of 2 numbers"),
    ({"center": [1.0]}, "center is a list of 1"),
    ({"joints": None}, "joints is missing or null, expected a list of 16"),
    ({"joints": [[1, 2]] * 15}, "joints is a list of 15"),
    ({"joints": [[1, 2, 3]] * 16}, "right_ankle is a list of 3"),
    ({"joints": [[1, "2"]] * 16}, "right_ankle has '2'"),
    ({"joints": [[1, 2]] * 15 + [7]}, "left_wrist is 7"),
    ({"joints": [[1, 2]] * 9 + [[121, 2]] + [[1, 2]] * 6}, "head_top at 121, 2 is far outside the image of 60 x 50"),
    ({"joints_vis": [1] * 15}, "joints_vis is a list of 15"),
    ({"joints_vis": [1] * 15 + [2]}, "joints_vis of left_wrist is 2"),
    ({"joints_vis": [None] * 16}, "joints_vis has missing or null")])
def test_a_bad_value_is_named_with_its_entry(root, changes, expected):
    skips(root, [person(), person("b.jpg", **changes)], "train.json: entry 2 ('b.jpg')", expected)


@pytest.mark.parametrize("entry, expected", [
    (None, "entry 2: missing or null"), ([1], "entry 2: a list of 1"), ("b.jpg", "entry 2: 'b.jpg'"),
    (person(None), "entry 2: a dict of 5"), (person(["b.jpg"]), "entry 2: a dict of 5"), (person(""), "entry 2"),
    (person("x\ud800\0\n.jpg"), "image is missing")])
def test_an_entry_without_an_image_is_named(root, entry, expected):
    skips(root, [person(), entry], expected)


@pytest.mark.parametrize("text, expected", [
    ("", "no JSON (Expecting value"), ("{", "no JSON"), ("[1", "no JSON"), ("[" * 100_000, "no JSON"),
    ("9" * 5000, "no JSON"), ("[]", "a list of 0 where a list of persons"), ("{}", "a dict of 0"),
    ('{"annotations": []}', "a dict of 1 where a list of persons"), ("7", "7 where"),
    ("null", "missing or null where")])
def test_a_file_that_is_no_list_of_persons_is_named(root, text, expected):
    write(root, text)
    stopped(lambda: read(root), "train.json", expected)


def test_a_file_that_is_no_utf_8_is_named(root):
    (root / "train.json").write_bytes(b'["\xff"]')
    stopped(lambda: read(root), "train.json: no JSON", "0xff")


def test_a_broken_image_is_named_or_left_out(root):
    (root / "images/b.jpg").write_bytes(b"no image")
    skips(root, [person(), person("b.jpg")], "images/b.jpg: no JPEG")
    Image.new("RGB", (60, 50), "green").save(root / "images/b.jpg")
    whole = (root / "images/b.jpg").read_bytes()
    (root / "images/b.jpg").write_bytes(whole[:-30])  # its header is whole
    stopped(lambda: mpii.keypoints(root), "images/b.jpg: image is truncated")
    with pytest.warns(UserWarning, match="1 of 2 samples left out"):
        assert len(list(mpii.keypoints(root, on_bad_sample="skip"))) == 1


def test_another_word_than_stop_or_skip_is_refused(root):
    stopped(lambda: read(root, on_bad_sample="ignore"), "'stop', 'skip'")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("a.jpg"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["image", "center", "x"]), inner),
    max_leaves=4)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused_in_one_line(root, data):
    entries = copy.deepcopy([person(), person("b.jpg")])
    for _ in range(data.draw(st.integers(1, 3))):
        place = entries
        while isinstance(place, (list, dict)) and place:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], (list, dict)) or data.draw(st.booleans()):
                place[key] = data.draw(VALUES)
                break
            place = place[key]
    write(root, entries)
    try:
        for sample in read(root):
            assert np.isfinite(sample.boxes).all() and np.isfinite(sample.keypoints).all()
            assert np.all(sample.boxes[:, 2:] > sample.boxes[:, :2])
    except InputError as error:
        assert len(str(error).split("\n")) == 1


@real
def test_the_three_real_persons_are_those_of_the_file():
    samples = read(DATA / "mpii/mpii_annotations.json")
    entries = json.loads((DATA / "mpii/mpii_annotations.json").read_text())
    assert len(samples) == len(entries) == 3 and sample_data.check(samples, progress=False) == (samples, [])
    for sample, entry in zip(samples, entries):
        assert sample.source.endswith(entry["image"]) and sample.size == Image.open(sample.source).size[::-1]
        marked = np.array(entry["joints_vis"], bool)
        np.testing.assert_allclose(sample.keypoints[0, marked, :2], np.array(entry["joints"])[marked] - 1, rtol=1e-6)
        np.testing.assert_array_equal(sample.keypoints[0, :, 2], 2 * marked)
        np.testing.assert_array_equal(sample.keypoints[0, ~marked], 0)
        box, points = sample.boxes[0], sample.keypoints[0, marked, :2]
        assert np.all((box[:2] <= points) & (points <= box[2:]))  # a head and shoulders person fills most of its square
        assert sample.details == {"center": [entry["center"]], "scale": [entry["scale"]]}
    assert [int((sample.keypoints[0, :, 2] > 0).sum()) for sample in samples] == [16, 14, 14]
    assert read(DATA / "mpii", "annotations")[0].image_id == samples[0].image_id
