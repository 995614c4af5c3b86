"""Average precision of detections: PASCAL VOC's two forms and COCO's numbers, of boxes, masks and joints.

M. Everingham, L. Van Gool, C. Williams, J. Winn, A. Zisserman: The PASCAL Visual Object Classes (VOC)
Challenge, IJCV 88(2), 2010, section 4.2; rules as in the development kit (VOCevaldet.m, VOCap.m).
T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014, arXiv:1405.0312; by pycocotools.

The functions take two lists of equal length, an entry an image, of dicts of arrays:

- truth: `boxes` `[G, 4]`, `labels` `[G]` in 1..K, `ignored` `[G]` (VOC difficult, COCO crowd);
- detections: `boxes` `[N, 4]`, `scores` `[N]`, `labels` `[N]`.

Either may have `masks`, a list of COCO's compressed run lengths, {"size": [H, W], "counts": bytes}, and `keypoints`,
`[G, J, 3]`: x, y in pixels, and 0 where not labelled.

Boxes are `[x1, y1, x2, y2]` pixels with exclusive right and bottom edges, so a side is `x2 - x1`: the kit's
`xmax - xmin + 1` of inclusive pixels. Rows with label 0 are padding and count for nothing.
"""

import contextlib
import io
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from keras_cnns.errors import InputError

COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KEYPOINT_NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
KINDS = {"bbox": COCO_NAMES, "segm": COCO_NAMES, "keypoints": KEYPOINT_NAMES}

# The kit's 0:0.1:1, which MATLAB fills from both ends: its 0.3 is 3 * 0.1, just above 3 / 10; the others are
# the nearest to k / 10, so a recall of exactly 0.7 is enough for 0.7.
RECALL_POINTS = np.concatenate([np.arange(6) * 0.1, 1 - np.arange(4, -1, -1) * 0.1])


class VOCResult(NamedTuple):
    """Average precisions, 0 to 1, and the curves they come from, by label.

    Only classes with an object that counts are in it; `mean` is NaN where there is none.
    """

    mean: float
    ap: dict[int, float]
    precision: dict[int, np.ndarray]  # [N] after each detection of the class, by falling score
    recall: dict[int, np.ndarray]  # [N] likewise


def voc_ap(truth, detections, iou=0.5, form="area"):
    """VOC's average precision of each class over all images, and the mean over classes.

    By falling score, each detection takes the object of its class that it overlaps most. It is right if their
    intersection over union is at least `iou` and no earlier detection took that object; it counts neither way
    if the object is `ignored`; otherwise it is wrong. Recall is of objects not ignored.

    Args:
      form: "area", under the precision made monotone (VOC 2010 and later), or "11point", the mean precision
        at recalls 0, 0.1, ... 1 (VOC 2007).

    Returns:
      A `VOCResult`.
    """
    if form not in ("area", "11point"):
        raise InputError(f"No form {form!r} of VOC's AP. Known: 'area' (2010 and later), '11point' (2007).")
    ap, precisions, recalls = {}, {}, {}
    labels, ignored = _column(truth, "labels", int), _column(truth, "ignored", bool)
    scores, detected = _column(detections, "scores", float), _column(detections, "labels", int)
    overlap, taken = _best_objects(truth, detections)
    for label in np.unique(labels[~ignored & (labels > 0)]):
        rows = np.flatnonzero(detected == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        hit = overlap[rows] >= iou
        countable = hit.copy()
        countable[hit] = ~ignored[taken[rows[hit]]]
        candidates = np.flatnonzero(countable)
        _, first = np.unique(taken[rows[candidates]], return_index=True)
        right = np.zeros(len(rows), bool)
        right[candidates[first]] = True
        wrong = ~hit | (countable & ~right)

        right, wrong = np.cumsum(right), np.cumsum(wrong)
        recall = right / np.sum((labels == label) & ~ignored)
        precision = right / np.maximum(right + wrong, 1)  # 0 before anything counted
        area = _area if form == "area" else _eleven_points
        ap[int(label)] = area(recall, precision)
        precisions[int(label)], recalls[int(label)] = precision, recall
    mean = float(np.mean(list(ap.values()))) if ap else float("nan")
    return VOCResult(mean, ap, precisions, recalls)


class COCOResult(NamedTuple):
    """COCO's numbers by name, and two of them by label; -1 where no object counts."""

    numbers: dict[str, float]
    ap: dict[int, float]    # mean over IoU 0.5 to 0.95
    ap50: dict[int, float]  # at IoU 0.5


def coco_ap(truth, detections, kind="bbox"):
    """COCO's numbers by name ("AP", "AP50", ... "ARl"); as of `coco_evaluation`."""
    return coco_evaluation(truth, detections, kind).numbers


def coco_evaluation(truth, detections, kind="bbox"):
    """What pycocotools says of detections, to the bit.

    Ignored objects become crowds, which may be detected any number of times and need not be. An image of
    `truth` may have `area` `[G]`, square pixels (COCO: of the masks), by which objects are small, medium or
    large; without it the area of the mask decides for "segm", of the box for the others. A number is -1 where no object
    counts for it.

    Args:
      kind: "bbox"; "segm", of `masks`; or "keypoints", of COCO's 17, whose names are `KEYPOINT_NAMES`.

    Returns:
      A `COCOResult`.

    Raises:
      InputError: another kind, or an image without what it needs.
    """
    if kind not in KINDS:
        raise InputError(f"No kind {kind!r} of COCO's AP. Known: {', '.join(KINDS)}.")
    needed = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}[kind]
    for number, both in enumerate(zip(truth, detections, strict=True)):
        if not all(needed in each for each in both):
            raise InputError(f"Image {number} has no {needed}, of which {kind!r} is; give it to truth and detections.")
    images, objects, found = [], [], []
    for number, (true, detected) in enumerate(zip(truth, detections, strict=True)):
        images.append({"id": number, "height": 0, "width": 0})  # run lengths have sides of their own
        for row in _annotations(true, kind):
            crowd = int(true["ignored"][row.pop("row")])
            objects.append(row | {"id": len(objects) + 1, "image_id": number, "iscrowd": crowd})
        for row in _annotations(detected, kind):
            score = float(detected["scores"][row.pop("row")])
            found.append(row | {"id": len(found) + 1, "image_id": number, "iscrowd": 0, "score": score})
    categories = [{"id": label} for label in sorted({row["category_id"] for row in objects + found})]

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        sides = (_indexed(images, categories, rows) for rows in (objects, found))
        evaluation = COCOeval(*sides, iouType=kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = dict(zip(KINDS[kind], map(float, evaluation.stats), strict=True))
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # of each IoU, recall and class; all sizes, all detections
    by_class = [{category["id"]: _known_mean(precision[ious, :, k]) for k, category in enumerate(categories)}
                for ious in (slice(None), 0)]
    return COCOResult(numbers, *by_class)


def proposal_recall(truth, proposals, ious=(0.5, 0.75), limit=None):
    """The share of objects, ignored ones apart, of which a proposal has at least that IoU: `[len(ious)]`; NaN of none.

    Args:
      proposals: a list of `[N, 4]`, best first. limit: of the proposals of an image only the first count.
    """
    best = [np.zeros(0)]
    for true, boxes in zip(truth, proposals, strict=True):
        real = (np.asarray(true["labels"]) > 0) & ~np.asarray(true["ignored"], bool)
        overlap = _overlap(np.asarray(true["boxes"]).reshape(-1, 4)[real], np.asarray(boxes).reshape(-1, 4)[:limit])
        best.append(overlap.max(1, initial=-1.0))
    best = np.concatenate(best)
    return np.array([np.mean(best >= iou) if len(best) else np.nan for iou in ious])


def confusion(truth, detections, classes, iou=0.5, score=0.5):
    """What objects were taken for: `[classes + 1, classes + 1]`, whole numbers; rows are true, columns what was said.

    Row 0 are detections of no object, column 0 objects without a detection. By falling score, each detection of more
    than `score` takes the object of any class that it overlaps most, of those by at least `iou` and not yet taken. One
    that finds only ignored ones counts for nothing.
    """
    matrix = np.zeros((classes + 1, classes + 1), int)
    for true, detected in zip(truth, detections, strict=True):
        labels, said = np.asarray(true["labels"], int), np.asarray(detected["labels"], int)
        free = (labels > 0) & ~np.asarray(true["ignored"], bool)
        ignored = (labels > 0) & ~free
        overlap = _overlap(detected["boxes"], true["boxes"])
        scores = np.asarray(detected["scores"], float)
        for i in np.argsort(-scores, kind="stable"):
            if scores[i] <= score or said[i] < 1:
                continue
            close = overlap[i] >= iou
            if (close & free).any():
                j = np.where(free, overlap[i], -2.0).argmax()
                matrix[labels[j], said[i]] += 1
                free[j] = False
            elif not (close & ignored).any():
                matrix[0, said[i]] += 1
        np.add.at(matrix[:, 0], labels[free], 1)
    return matrix


class Agreement(NamedTuple):
    """How far two programs' detections of the same images are apart."""

    same: bool     # as many on every image, each with a partner of its label
    iou: float     # of the worst pair; 0 if not the same
    score: float   # largest difference of a pair's scores; 1 if not the same
    count: int     # detections compared


def agreement(expected, found):
    """Pairs the detections of two programs by label and overlap; the surest choose first.

    Both are lists of dicts as above; the boxes of an image need only be in the same units.
    """
    iou, score, count = 1.0, 0.0, 0
    for a, b in zip(expected, found, strict=True):
        if sorted(a["labels"]) != sorted(b["labels"]):
            return Agreement(False, 0.0, 1.0, count)
        of_one_label = np.asarray(a["labels"])[:, None] == np.asarray(b["labels"])
        equal = np.isclose(np.asarray(a["boxes"])[:, None], b["boxes"], rtol=1e-5, atol=1e-6).all(-1)
        overlap = np.where(equal, 1.0, np.maximum(_overlap(a["boxes"], b["boxes"]), 0.0))  # equal without area, too
        overlap = np.where(of_one_label, overlap, -1.0)
        for i in np.argsort(-np.asarray(a["scores"]), kind="stable"):
            j = overlap[i].argmax()
            iou = min(iou, float(overlap[i, j]))
            score = max(score, abs(float(a["scores"][i]) - float(b["scores"][j])))
            overlap[:, j], count = -2.0, count + 1
    return Agreement(True, iou, score, count)


def _column(images, key, dtype):
    """One key of all images, end to end: `[rows of all images]`."""
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(image[key], dtype) for image in images)])


def _best_objects(truth, detections):
    """For each detection of all images its highest overlap with an object of its class, and that one's row.

    Overlap -1, row -1 where it meets no object. Of equal overlaps the first counts, as in the kit.
    """
    overlaps, rows, offset = [np.zeros(0)], [np.zeros(0, int)], 0
    for true, detected in zip(truth, detections, strict=True):
        labels, found = np.asarray(true["labels"], int), np.asarray(detected["labels"], int)
        best, row = np.full(len(found), -1.0), np.full(len(found), -1)
        if len(labels):
            overlap = _overlap(detected["boxes"], true["boxes"])
            overlap[found[:, None] != labels] = -1.0
            best, row = np.max(overlap, axis=1), np.argmax(overlap, axis=1) + offset
        overlaps.append(best)
        rows.append(row)
        offset += len(labels)
    return np.concatenate(overlaps), np.concatenate(rows)


def _overlap(a, b):
    """Intersection over union, `[M, 4], [N, 4] -> [M, N]`, -1 for boxes apart; in float64, like the kit's."""
    a, b = (np.asarray(boxes, float).reshape(-1, 4) for boxes in (a, b))
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    intersection = np.prod(sides, axis=-1)
    area_a, area_b = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b))
    union = area_a[:, None] + area_b - intersection
    meet = np.all(sides > 0, axis=-1)
    return np.where(meet, intersection / np.where(meet, union, 1.0), -1.0)


def _area(recall, precision):
    """Area under the precision made monotone from the right."""
    recall = np.concatenate([[0.0], recall, [1.0]])
    precision = np.concatenate([[0.0], precision, [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))


def _eleven_points(recall, precision):
    """Mean over eleven recalls of the best precision at that recall or more."""
    return float(np.mean([np.max(precision[recall >= point], initial=0.0) for point in RECALL_POINTS]))


def _corner_and_size(boxes):
    """`[x1, y1, x2, y2] -> [x, y, width, height]`, float64, since JSON would carry no less."""
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _annotations(image, kind):
    """COCO's JSON of the real objects of an image, and their rows; rows of padding are left out."""
    boxes, given = _corner_and_size(image["boxes"]), image.get("area")
    for i in np.flatnonzero(np.asarray(image["labels"], int) > 0):
        box, area = boxes[i], boxes[i, 2] * boxes[i, 3]
        row = {"row": i, "category_id": int(image["labels"][i])}
        if kind == "segm":
            row["segmentation"] = image["masks"][i]
            area = coco_mask.area(image["masks"][i])
        elif kind == "keypoints":
            x, y, visible = joints = np.asarray(image["keypoints"][i], float).T
            row |= {"keypoints": joints.T.reshape(-1).tolist(), "num_keypoints": int((visible > 0).sum())}
            if "scores" in image:  # of a detection the joints alone are looked at
                box = np.array([x.min(), y.min(), np.ptp(x), np.ptp(y)])
                area = np.ptp(x) * np.ptp(y)
        yield row | {"bbox": box.tolist(), "area": float(area if given is None else given[i])}


def _known_mean(values):
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


def _indexed(images, categories, annotations):
    """A COCO object from memory; its `loadRes` would refuse an empty list of detections."""
    coco = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco
