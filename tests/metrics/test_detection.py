import json
import math
import os
import pathlib

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from keras_cnns.errors import InputError
from keras_cnns.data import coco
from keras_cnns.metrics.detection import (
    COCO_NAMES, KEYPOINT_NAMES, agreement, coco_ap, coco_evaluation, confusion, proposal_recall, voc_ap)
from keras_cnns.training import detect

LEFT, RIGHT, FAR = [0, 0, 10, 10], [100, 0, 110, 10], [500, 500, 510, 510]


def objects(*rows):
    """Truth of one image from `(box, label, ignored)`."""
    boxes, labels, ignored = zip(*rows) if rows else ((), (), ())
    return {"boxes": np.array(boxes, "float32").reshape(-1, 4), "labels": np.array(labels, "int32"),
            "ignored": np.array(ignored, bool)}


def found(*rows):
    """Detections of one image from `(box, score, label)`."""
    boxes, scores, labels = zip(*rows) if rows else ((), (), ())
    return {"boxes": np.array(boxes, "float32").reshape(-1, 4), "scores": np.array(scores, "float32"),
            "labels": np.array(labels, "int32")}


def random_scene(seed, images=30, classes=3):
    """Whole-pixel objects and jittered, repeated, mislabelled detections with tied scores."""
    rng = np.random.default_rng(seed)
    truth, detections = [], []
    for _ in range(images):
        count = rng.integers(0, 6)
        corner, side = rng.integers(0, 200, (count, 2)), rng.integers(8, 120, (count, 2))
        boxes = np.concatenate([corner, corner + side], 1).astype("float32")
        labels = rng.integers(1, classes + 1, count).astype("int32")
        truth.append({"boxes": boxes, "labels": labels, "ignored": rng.random(count) < 0.25})
        again = rng.integers(0, count, rng.integers(0, 9)) if count else np.zeros(0, int)
        jittered = boxes[again] + rng.integers(-8, 9, (len(again), 4))
        jittered[:, 2:] = np.maximum(jittered[:, 2:], jittered[:, :2] + 1)
        other = rng.integers(1, classes + 2, len(again))
        changed = np.where(rng.random(len(again)) < 0.2, other, labels[again])
        detections.append({"boxes": jittered.astype("float32"), "labels": changed.astype("int32"),
                           "scores": rng.integers(1, 40, len(again)).astype("float32") / 40})
    return truth, detections


def kit_ap(truth, detections, label, minimum, form):
    """The development kit's rule for one class, a loop in whole pixels of 1-based inclusive boxes."""
    inclusive = np.array([1, 1, 0, 0])
    count, taken, lines = 0, {}, []
    for i, (true, detected) in enumerate(zip(truth, detections)):
        for j in range(len(true["labels"])):
            if true["labels"][j] == label:
                taken[i, j] = False
                count += not true["ignored"][j]
        for box, score, name in zip(detected["boxes"], detected["scores"], detected["labels"]):
            if name == label:
                lines.append((float(score), i, box.astype(float) + inclusive))
    true_positives, false_positives, recall, precision = 0, 0, [], []
    for _, i, box in sorted(lines, key=lambda line: -line[0]):
        best, best_j = -math.inf, None
        for j in range(len(truth[i]["labels"])):
            if truth[i]["labels"][j] != label:
                continue
            other = truth[i]["boxes"][j].astype(float) + inclusive
            width = min(box[2], other[2]) - max(box[0], other[0]) + 1
            height = min(box[3], other[3]) - max(box[1], other[1]) + 1
            if width > 0 and height > 0:
                union = ((box[2] - box[0] + 1) * (box[3] - box[1] + 1)
                         + (other[2] - other[0] + 1) * (other[3] - other[1] + 1) - width * height)
                if width * height / union > best:
                    best, best_j = width * height / union, j
        if best >= minimum:
            if not truth[i]["ignored"][best_j]:
                if not taken[i, best_j]:
                    true_positives += 1
                    taken[i, best_j] = True
                else:
                    false_positives += 1
        else:
            false_positives += 1
        recall.append(true_positives / count)
        total = true_positives + false_positives
        precision.append(true_positives / total if total else 0.0)
    if form == "11point":
        total = 0.0
        for k in range(11):
            point = k * 0.1 if k <= 5 else 1 - (10 - k) * 0.1
            total += max([p for r, p in zip(recall, precision) if r >= point], default=0.0)
        return total / 11
    recall, precision = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for k in range(len(precision) - 2, -1, -1):
        precision[k] = max(precision[k], precision[k + 1])
    return sum((recall[k] - recall[k - 1]) * precision[k] for k in range(1, len(recall)))


def perfect(truth):
    return [found(*((box, 0.9, label) for box, label, ignored in zip(t["boxes"], t["labels"], t["ignored"])
                    if not ignored)) for t in truth]


def test_half_of_the_objects_found_without_error_is_one_half():
    result = voc_ap([objects((LEFT, 1, False), (RIGHT, 1, False))], [found((LEFT, 0.9, 1))])
    assert result.ap == {1: 0.5} and result.mean == 0.5
    np.testing.assert_array_equal(result.recall[1], [0.5])
    np.testing.assert_array_equal(result.precision[1], [1.0])


def test_eleven_points_of_half_the_objects_are_six():
    truth, detections = [objects((LEFT, 1, False), (RIGHT, 1, False))], [found((LEFT, 0.9, 1))]
    assert voc_ap(truth, detections, form="11point").mean == pytest.approx(6 / 11)  # recalls 0, 0.1, ... 0.5


def test_a_false_alarm_between_two_finds_lowers_only_what_follows():
    truth = [objects((LEFT, 1, False), (RIGHT, 1, False))]
    detections = [found((LEFT, 0.9, 1), (FAR, 0.8, 1), (RIGHT, 0.7, 1))]
    result = voc_ap(truth, detections)
    np.testing.assert_allclose(result.precision[1], [1, 1 / 2, 2 / 3])
    assert result.mean == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert voc_ap(truth, detections, form="11point").mean == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_difficult_objects_count_neither_way():
    truth = [objects((LEFT, 1, False), (RIGHT, 1, True))]
    assert voc_ap(truth, [found((LEFT, 0.5, 1))]).mean == 1.0
    result = voc_ap(truth, [found((RIGHT, 0.9, 1), (RIGHT, 0.8, 1), (LEFT, 0.5, 1))])
    assert result.mean == 1.0
    np.testing.assert_array_equal(result.precision[1], [0, 0, 1])


def test_a_second_detection_of_one_object_is_wrong():
    result = voc_ap([objects((LEFT, 1, False))], [found((LEFT, 0.5, 1), (LEFT, 0.9, 1), (LEFT, 0.7, 1))])
    np.testing.assert_allclose(result.precision[1], [1, 1 / 2, 1 / 3])


def test_a_detection_does_not_fall_back_on_its_second_best_object():
    near = [2, 0, 12, 10]
    truth = [objects((LEFT, 1, False), (near, 1, False))]
    result = voc_ap(truth, [found((LEFT, 0.9, 1), (LEFT, 0.8, 1))])  # the second overlaps `near` by 2/3
    np.testing.assert_array_equal(result.recall[1], [0.5, 0.5])


def test_an_overlap_of_exactly_the_threshold_is_enough():
    truth, half = [objects((LEFT, 1, False))], [found(([0, 0, 10, 5], 0.9, 1))]
    assert voc_ap(truth, half, iou=0.5).mean == 1.0
    assert voc_ap(truth, half, iou=0.51).mean == 0.0


def test_classes_without_a_countable_object_are_left_out_of_the_mean():
    truth = [objects((LEFT, 1, False), (RIGHT, 2, True))]
    result = voc_ap(truth, [found((LEFT, 0.9, 1), (RIGHT, 0.9, 2), (FAR, 0.9, 3))])
    assert result.ap == {1: 1.0} and result.mean == 1.0


def test_a_class_never_detected_has_average_precision_0():
    result = voc_ap([objects((LEFT, 1, False), (RIGHT, 2, False))], [found((LEFT, 0.9, 1))])
    assert result.ap == {1: 1.0, 2: 0.0} and result.mean == 0.5 and result.recall[2].shape == (0,)


def test_objects_are_matched_in_their_own_image_only():
    truth, detections = [objects((LEFT, 1, False)), objects()], [found(), found((LEFT, 0.9, 1))]
    assert voc_ap(truth, detections).mean == 0.0


def test_equal_scores_keep_the_order_of_the_images():
    truth = [objects((LEFT, 1, False)), objects()]
    assert voc_ap(truth, [found((LEFT, 0.5, 1)), found((LEFT, 0.5, 1))]).mean == 1.0
    assert voc_ap(truth[::-1], [found((LEFT, 0.5, 1)), found((LEFT, 0.5, 1))]).mean == 0.5


def test_padding_rows_change_nothing():
    truth, detections = random_scene(3, images=6)
    padding = {"boxes": np.zeros((2, 4), "float32"), "labels": np.zeros(2, "int32"),
               "ignored": np.zeros(2, bool), "scores": np.zeros(2, "float32")}
    padded = [[{key: np.concatenate([image[key], padding[key]]) for key in image} for image in side]
              for side in (truth, detections)]
    assert voc_ap(*padded).ap == voc_ap(truth, detections).ap
    assert coco_ap(*padded) == coco_ap(truth, detections)


@pytest.mark.parametrize("form", ["area", "11point"])
@pytest.mark.parametrize("iou", [0.5, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_voc_equals_the_kits_loop(seed, iou, form):
    truth, detections = random_scene(seed)
    result = voc_ap(truth, detections, iou, form)
    assert sorted(result.ap) == [1, 2, 3]
    assert 0.05 < result.mean < 0.95
    for label, ap in result.ap.items():
        assert ap == pytest.approx(kit_ap(truth, detections, label, iou, form), abs=1e-12)


def test_eleven_points_at_recalls_of_whole_tenths_are_the_kits():
    boxes = [[20 * k, 0, 20 * k + 10, 10] for k in range(10)]
    truth = [objects(*((box, 1, False) for box in boxes))]
    for right in range(11):
        detections = [found(*((box, 0.9, 1) for box in boxes[:right]))]
        points = right + 1 - (right == 3) if right else 0  # MATLAB's fourth of 0:0.1:1 is above 3 / 10
        assert voc_ap(truth, detections, form="11point").mean == pytest.approx(points / 11)


def test_no_images_no_objects_no_detections():
    assert math.isnan(voc_ap([], []).mean)
    assert math.isnan(voc_ap([objects()], [found((LEFT, 0.9, 1))]).mean)
    assert voc_ap([objects((LEFT, 1, False))], [found()]).mean == 0.0


def test_an_unknown_form_and_lists_of_different_length_are_refused():
    with pytest.raises(InputError, match="'area'.*'11point'"):
        voc_ap([], [], form="12point")
    with pytest.raises(ValueError):
        voc_ap([objects()], [])
    with pytest.raises(ValueError):
        coco_ap([objects()], [])


def coco_by_hand(truth, detections, folder, areas=None):
    """The twelve numbers as a user of pycocotools gets them, from two JSON files."""
    annotations, results = [], []
    for i, (true, detected) in enumerate(zip(truth, detections)):
        for j in range(len(true["labels"])):
            x1, y1, x2, y2 = (float(edge) for edge in true["boxes"][j])
            area = (x2 - x1) * (y2 - y1) if areas is None else float(areas[i][j])
            annotations.append({"id": len(annotations) + 1, "image_id": i, "bbox": [x1, y1, x2 - x1, y2 - y1],
                                "category_id": int(true["labels"][j]), "area": area,
                                "iscrowd": int(true["ignored"][j])})
        for j in range(len(detected["labels"])):
            x1, y1, x2, y2 = (float(edge) for edge in detected["boxes"][j])
            results.append({"image_id": i, "bbox": [x1, y1, x2 - x1, y2 - y1],
                            "score": float(detected["scores"][j]), "category_id": int(detected["labels"][j])})
    categories = sorted({row["category_id"] for row in annotations + results})
    (folder / "truth.json").write_text(json.dumps({
        "images": [{"id": i} for i in range(len(truth))], "annotations": annotations,
        "categories": [{"id": category, "name": str(category)} for category in categories]}))
    (folder / "results.json").write_text(json.dumps(results))
    coco = COCO(folder / "truth.json")
    evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(COCO_NAMES, evaluation.stats.tolist()))


@pytest.mark.parametrize("seed", range(3))
def test_coco_equals_pycocotools_by_hand_to_the_last_bit(seed, tmp_path):
    truth, detections = random_scene(seed, images=30)
    rng = np.random.default_rng(seed)
    for image in truth + detections:
        image["boxes"] += rng.random(image["boxes"].shape, "float32") * 0.3  # not only whole pixels
    expected = coco_by_hand(truth, detections, tmp_path)
    assert coco_ap(truth, detections) == expected
    assert -1 < min(expected.values()) and 0.05 < expected["AP"] < 0.95


def test_coco_takes_the_area_of_the_mask_where_it_is_given(tmp_path):
    truth, detections = random_scene(5, images=12)
    areas = [np.full(len(image["labels"]), 500.0) for image in truth]  # all small
    with_area = [image | {"area": area} for image, area in zip(truth, areas)]
    result = coco_ap(with_area, detections)
    assert result == coco_by_hand(truth, detections, tmp_path, areas)
    assert result["APm"] == result["APl"] == -1 and result != coco_ap(truth, detections)


def test_coco_prints_nothing(capsys):
    coco_ap(*random_scene(0, images=2))
    assert capsys.readouterr().out == ""


def test_coco_ignores_crowds_and_what_is_found_in_them():
    truth = [objects((LEFT, 1, False), ([100, 100, 200, 200], 1, True))]
    inside = [100, 100, 140, 140]  # little of the crowd, but all of itself
    several = [found((inside, 0.9, 1), (inside, 0.8, 1), (LEFT, 0.7, 1))]
    assert coco_ap(truth, several)["AP"] == pytest.approx(1)
    assert coco_ap(truth, [found((FAR, 0.9, 1), (LEFT, 0.7, 1))])["AP"] == pytest.approx(0.5)


def test_coco_without_detections_is_0_and_without_objects_minus_1():
    truth = [objects((LEFT, 1, False)), objects()]
    result = coco_ap(truth, [found(), found()])
    assert tuple(result) == COCO_NAMES
    assert result["AP"] == result["AR100"] == 0 and result["APl"] == -1
    assert set(coco_ap([objects()], [found((LEFT, 0.9, 1))]).values()) == {-1}
    assert set(coco_ap([objects()], [found()]).values()) == {-1}
    assert set(coco_ap([], []).values()) == {-1}


def test_perfect_detections_give_1():
    truth, _ = random_scene(1)
    for form in ("area", "11point"):
        assert voc_ap(truth, perfect(truth), form=form).mean == 1.0
    result = coco_ap(truth, perfect(truth))
    assert result["AP"] == pytest.approx(1) and result["AP75"] == pytest.approx(1) and result["AR100"] == 1.0


def some(*rows):
    """`(x1, y1, x2, y2, label, score)` rows of one image."""
    rows = np.array(rows, float).reshape(-1, 6)
    return {"boxes": rows[:, :4], "labels": rows[:, 4].astype(int), "scores": rows[:, 5]}


def test_agreement_pairs_by_label_and_overlap_whatever_the_order():
    a = some((0, 0, 10, 10, 1, 0.9), (0, 0, 10, 10, 2, 0.8), (50, 50, 60, 60, 1, 0.7))
    b = some((50, 50, 60, 60, 1, 0.71), (0, 0, 10, 9, 1, 0.9), (0, 0, 10, 10, 2, 0.8))
    result = agreement([a, some()], [b, some()])
    assert result.same and result.count == 3
    assert result.iou == pytest.approx(0.9) and result.score == pytest.approx(0.01)


def test_agreement_is_none_where_a_label_or_a_count_differs():
    one, other = some((0, 0, 10, 10, 1, 0.9)), some((0, 0, 10, 10, 2, 0.9))
    assert not agreement([one], [other]).same
    assert not agreement([one], [some()]).same
    assert agreement([one], [other])[1:3] == (0.0, 1.0)


def test_equal_boxes_without_area_agree():
    edge = some((10, 0, 10, 10, 1, 0.9))
    assert agreement([edge], [edge]) == (True, 1.0, 0.0, 1)


COCO_FOLDER = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", "data"), "coco")
needs_coco = pytest.mark.skipif(not COCO_FOLDER.exists(), reason="no COCO in KERAS_CNNS_DATA")


def by_hand(annotations, results, kind, tmp_path):
    """pycocotools as its own demonstration calls it, from files."""
    (tmp_path / "results.json").write_text(json.dumps(results))
    truth = COCO(annotations)
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"][..., 0, -1]
    return list(evaluation.stats), [precision[:, :, k].mean() for k in range(precision.shape[2])]


def jittered(sample, rng):
    """Detections of a sample's objects, moved, repeated and mislabelled, some of them crowds'."""
    masks = coco_mask.decode(sample.masks) if sample.masks else np.zeros((*sample.size, len(sample.labels)), "uint8")
    found = {"boxes": [], "labels": [], "scores": [], "masks": [], "keypoints": []}
    for i in rng.integers(0, len(sample.labels), 2 * len(sample.labels)):
        shift = rng.integers(-4, 5, 2)
        mask = np.roll(masks[..., i], shift, (0, 1))
        found["boxes"].append(sample.boxes[i].astype(float) + np.tile(shift[::-1], 2))
        found["labels"].append(sample.labels[i] if rng.random() < 0.8 else rng.integers(1, 5))
        found["scores"].append(np.float32(rng.random()))
        found["masks"].append(coco_mask.encode(np.asfortranarray(mask, "uint8")))
        if sample.keypoints is not None:
            found["keypoints"].append(sample.keypoints[i] + rng.normal(0, 3, (17, 3)) * (1, 1, 0))
    return {key: np.array(value) if key not in ("masks",) else value for key, value in found.items()}


@needs_coco
@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
def test_coco_numbers_of_photographs_equal_pycocotools_called_by_hand(kind, tmp_path):
    files = {"bbox": "instances", "segm": "instances", "keypoints": "person_keypoints"}
    path = COCO_FOLDER / "annotations" / f"{files[kind]}_val2017.json"
    read = "keypoints" if kind == "keypoints" else "instances"
    found, _ = coco.samples(COCO_FOLDER, "val2017", read, masks=kind != "keypoints")
    ids = list(coco.categories(COCO_FOLDER, "val2017", read))
    found = [sample for sample in found if len(sample.labels)]
    assert kind == "keypoints" or any(sample.ignored.any() for sample in found)
    rng, detections, results = np.random.default_rng(0), [], []
    for sample in found:
        told = jittered(sample, rng)
        if kind == "keypoints":
            told["labels"][:] = 1
        for i, label in enumerate(told["labels"]):
            x1, y1, x2, y2 = told["boxes"][i].tolist()
            of_kind = {"bbox": {"bbox": [x1, y1, x2 - x1, y2 - y1]}, "keypoints": {
                "keypoints": np.ravel(told["keypoints"][i]).tolist()} if len(told["keypoints"]) else {}, "segm": {
                "segmentation": told["masks"][i] | {"counts": told["masks"][i]["counts"].decode()}}}[kind]
            results.append({"image_id": sample.about["id"], "category_id": ids[label - 1],
                            "score": float(told["scores"][i]), **of_kind})
        detections.append(told)
    want, by_class = by_hand(path, results, kind, tmp_path)
    result = coco_evaluation(detect.truth(found), detections, kind)
    names = KEYPOINT_NAMES if kind == "keypoints" else COCO_NAMES
    assert result.numbers == dict(zip(names, want)) and 0.05 < result.numbers["AP"] < 1
    there = [label for label, ap in result.ap.items() if ap > -1]
    assert [result.ap[label] for label in there] == [by_class[label - 1] for label in there]


def square(low, high, size=50):
    mask = np.zeros((size, size), "uint8")
    mask[low:high, low:high] = 1
    return coco_mask.encode(np.asfortranarray(mask))


def test_masks_decide_where_boxes_agree():
    truth = [objects(([0, 0, 20, 20], 1, False)) | {"masks": [square(0, 20)]}]
    detections = [found(([0, 0, 20, 20], 0.9, 1)) | {"masks": [square(0, 15)]}]
    boxes, masks = (coco_evaluation(truth, detections, kind) for kind in ("bbox", "segm"))
    assert boxes.numbers["AP"] == pytest.approx(1)
    assert masks.numbers["AP"] == pytest.approx(0.2)  # right at IoU 0.5 and 0.55: 225 / 400
    assert masks.ap == {1: masks.numbers["AP"]} and masks.ap50 == pytest.approx({1: 1.0})


def test_what_a_kind_needs_is_named():
    truth, detections = [objects((LEFT, 1, False))], [found((LEFT, 0.9, 1))]
    with pytest.raises(InputError, match="Image 0 has no masks"):
        coco_ap(truth, detections, "segm")
    with pytest.raises(InputError, match="bbox, segm, keypoints"):
        coco_ap(truth, detections, "masks")


def test_recall_of_proposals_by_hand():
    truth = [objects((LEFT, 1, False), (RIGHT, 2, False), (FAR, 1, True)), objects()]
    proposals = [[[0, 0, 10, 8], [0, 0, 10, 10], RIGHT], np.zeros((0, 4))]
    np.testing.assert_array_equal(proposal_recall(truth, proposals, (0.5, 0.75, 0.9)), [1, 1, 1])
    np.testing.assert_array_equal(proposal_recall(truth, proposals, (0.5, 0.75, 0.9), limit=1), [0.5, 0.5, 0])
    assert np.isnan(proposal_recall([objects()], [np.zeros((0, 4))])).all()


def test_a_detectors_confusion_by_hand():
    truth = [objects((LEFT, 1, False), (RIGHT, 2, False), (FAR, 2, True))]
    detections = [found((LEFT, 0.9, 1), (LEFT, 0.8, 2), (RIGHT, 0.7, 1), (FAR, 0.9, 1), ([50, 50, 60, 60], 0.6, 2),
                        (RIGHT, 0.4, 2))]
    np.testing.assert_array_equal(confusion(truth, detections, 2), [[0, 0, 2], [0, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(confusion(truth, [found()], 2), [[0, 0, 0], [1, 0, 0], [1, 0, 0]])
