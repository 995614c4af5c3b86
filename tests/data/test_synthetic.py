import numpy as np
import pytest

from keras_cnns.data import images, mpii, samples, synthetic, voc
from keras_cnns.errors import InputError


def test_a_picture_of_a_seed_is_always_the_same():
    first, again = synthetic.samples(3), synthetic.samples(1, first=2)
    assert first[2].source == again[0].source
    np.testing.assert_array_equal(first[2].boxes, again[0].boxes)
    assert first[0].source != synthetic.samples(1, seed=1)[0].source


def test_boxes_are_whole_pixels_inside_with_area_and_labels_of_a_class():
    for sample in synthetic.samples(30):
        height, width = sample.size
        assert (sample.boxes == sample.boxes.round()).all()
        assert (sample.boxes[:, :2] >= 0).all() and (sample.boxes[:, 2:] <= (width, height)).all()
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
        assert ((sample.labels >= 1) & (sample.labels <= len(synthetic.CLASSES))).all()


def test_pictures_differ_in_size_and_hold_hard_cases():
    drawn = synthetic.samples(60)
    assert len({s.size for s in drawn}) > 50
    assert any(s.ignored.any() for s in drawn)
    assert any(any(s.details["truncated"]) for s in drawn) and any(any(s.details["occluded"]) for s in drawn)
    assert {int(label) for s in drawn for label in s.labels} == set(range(1, len(synthetic.CLASSES) + 1))


def test_boxes_are_tight_around_what_can_be_seen():
    """Objects stand out from the ground, so something changes at each edge of a box."""
    sample = next(s for s in synthetic.samples(40) if len(s.labels) == 1 and not any(s.details["truncated"]))
    image = images.decode(sample.source, "picture").astype(int)
    x1, y1, x2, y2 = sample.boxes[0].astype(int)
    inside = image[(y1 + y2) // 2, (x1 + x2) // 2]
    assert np.abs(inside - image[max(y1 - 3, 0), max(x1 - 3, 0)]).max() > 30


def test_the_voc_folder_reads_back_exactly(tmp_path):
    root = synthetic.write_voc(tmp_path / "VOCdevkit", train=6, val=3)
    drawn = synthetic.samples(9)
    assert voc.class_names(root) == list(synthetic.CLASSES)
    for split, want in (("train", drawn[:6]), ("val", drawn[6:]), ("trainval", drawn)):
        read, skipped = voc.samples(root, split=split)
        assert not skipped and [s.image_id for s in read] == [s.image_id for s in want]
        for a, b in zip(read, want):
            assert a.size == b.size
            np.testing.assert_array_equal(a.boxes, b.boxes)
            np.testing.assert_array_equal(a.labels, b.labels)
            np.testing.assert_array_equal(a.ignored, b.ignored)
            assert a.details["truncated"] == b.details["truncated"]


def test_lists_of_a_class_say_who_is_there(tmp_path):
    root = synthetic.write_voc(tmp_path / "VOCdevkit", train=20, val=0)
    for label, name in enumerate(synthetic.CLASSES, 1):
        lines = (root / "VOC2012/ImageSets/Main" / f"{name}_train.txt").read_text().splitlines()
        for line, sample in zip(lines, synthetic.samples(20), strict=True):
            image_id, sign = line.split()
            here = sample.labels == label
            assert image_id == sample.image_id
            assert int(sign) == (1 if (here & ~sample.ignored).any() else 0 if here.any() else -1)


def test_a_folder_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "VOCdevkit").mkdir()
    (tmp_path / "VOCdevkit" / "mine").write_text("")
    with pytest.raises(InputError, match="there already"):
        synthetic.write_voc(tmp_path / "VOCdevkit", train=1, val=1)
    assert (tmp_path / "VOCdevkit" / "mine").exists()


def test_the_dataset_has_the_form_of_every_reader():
    element = next(iter(synthetic.detection(2)))
    assert set(element) == {"image", "image_id", "boxes", "labels", "ignored"}
    assert element["image"].dtype == "uint8" and element["boxes"].shape[1] == 4


def test_masks_fill_their_boxes_and_do_not_cover_one_another():
    for sample, plain in zip(synthetic.samples(20, masks=True), synthetic.samples(20)):
        assert plain.masks is None and plain.source == sample.source
        masks = samples.masks(sample)
        assert masks.shape == (len(sample.labels), *sample.size) and masks.sum(0).max(initial=0) <= 1
        for mask, box in zip(masks, sample.boxes):
            y, x = np.nonzero(mask)
            np.testing.assert_array_equal(box, [x.min(), y.min(), x.max() + 1, y.max() + 1])


def test_a_mask_is_where_the_object_is():
    """Of an object alone in its picture the colours inside and outside are apart."""
    sample = next(s for s in synthetic.samples(40, masks=True)
                  if len(s.labels) == 1 and not any(s.details["truncated"]))
    image, (mask,) = images.decode(sample.source, "picture").astype(float), samples.masks(sample)
    x1, y1, x2, y2 = sample.boxes[0].astype(int)
    around = (slice(max(y1 - 4, 0), y2 + 4), slice(max(x1 - 4, 0), x2 + 4))
    inside, outside = (image[around][mask[around] == value].mean(0) for value in (1, 0))
    assert np.abs(inside - outside).max() > 30


def test_figures_are_drawn_where_their_joints_are():
    """A figure stands out from the ground, so a joint's colour is not that beside its box."""
    for sample in synthetic.figures(12):
        image, joints = samples.pixels(sample).astype(float), sample.keypoints[0]
        assert joints.shape == (16, 3) and set(joints[:, 2]) <= {0, 2} and joints[:, 2].sum() > 20
        x1, y1, x2, y2 = sample.boxes[0]
        seen = joints[joints[:, 2] > 0]
        assert ((seen[:, :2] >= (x1 - 1, y1 - 1)) & (seen[:, :2] <= (x2 + 1, y2 + 1))).all()
        by_name = dict(zip(mpii.KEYPOINTS, joints))
        hips = [by_name[f"{side}_hip"] for side in ("right", "left")]
        if all(hip[2] for hip in hips):  # they face us, and lean by 20 degrees at most
            assert hips[0][0] < hips[1][0]
        pelvis, ground = by_name["pelvis"], image[[0, -1]].mean((0, 1))
        if pelvis[2]:
            assert np.abs(image[int(pelvis[1]), int(pelvis[0])] - ground).max() > 20


def test_a_figure_of_a_seed_is_always_the_same():
    first, again = synthetic.figures(3), synthetic.figures(1, first=2)
    assert first[2].source == again[0].source and len({sample.source for sample in first}) == 3
    np.testing.assert_array_equal(first[2].keypoints, again[0].keypoints)
    assert first[0].source != synthetic.figures(1, seed=1)[0].source
