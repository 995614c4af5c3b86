"""How right the joints of single persons are: the percentage of correct keypoints, in two measures of a person.

PCK: within a share of the torso, Sapp and Taskar, MODEC, CVPR 2013 (FLIC). PCKh: of the head, Andriluka et al., 2D
Human Pose Estimation, CVPR 2014 (MPII). COCO's OKS AP is `metrics.detection.coco_evaluation` of the kind "keypoints".

Joints are `[P, J, 3]`, a row a person: x, y, and for what is true 0 where it is not labelled. Names are those of the J
joints, as MPII's and COCO's files have them.
"""

from typing import NamedTuple

import numpy as np

UNCOUNTED = ("pelvis", "thorax")  # by MPII's protocol, in the mean


class Correct(NamedTuple):
    """Shares of right joints, 0 to 1; NaN where none counts."""

    mean: float  # over all joints that count
    by_joint: np.ndarray  # [J]
    counts: np.ndarray  # [J] whole numbers: how many were looked at


def pck(truth, found, names, share=0.2):
    """Joints no further from the true ones than a share of the torso, from a hip to the other shoulder.

    The longer of the two ways, where both are labelled; a person without either counts for nothing.
    """
    ways = [_distance(truth, names, f"{one}_hip", f"{other}_shoulder")
            for one, other in (("left", "right"), ("right", "left"))]
    return _correct(truth, found, share * np.fmax(*ways))


def pckh(truth, found, names, share=0.5):
    """Joints no further from the true ones than a share of the head, from the upper neck to its top.

    Pelvis and thorax are not in the mean. MPII's own program takes 0.6 of the diagonal of a box of the head, which the
    JSON form lacks. A person whose head is not labelled counts for nothing.
    """
    head = _distance(truth, names, "upper_neck", "head_top")
    counted = np.array([name not in UNCOUNTED for name in names])
    return _correct(truth, found, share * head, counted)


def has_head(names):
    """Whether there is a head to measure, as COCO's joints have none."""
    return {"upper_neck", "head_top"} <= set(names)


def has_torso(names):
    """Whether there is a torso to measure, as hands have none."""
    return {f"{side}_{part}" for side in ("left", "right") for part in ("hip", "shoulder")} <= set(names)


def _distance(truth, names, one, other):
    """`[P]`, NaN where one of the two is not labelled."""
    a, b = (np.asarray(truth, float)[:, list(names).index(name)] for name in (one, other))
    return np.where((a[:, 2] > 0) & (b[:, 2] > 0), np.hypot(*(a - b)[:, :2].T), np.nan)


def _correct(truth, found, limits, counted=True):
    truth, found = np.asarray(truth, float), np.asarray(found, float)
    looked_at = (truth[..., 2] > 0) & ~np.isnan(limits)[:, None]
    right = looked_at & (np.hypot(*np.moveaxis(truth[..., :2] - found[..., :2], -1, 0)) <= limits[:, None])
    rights, counts = right.sum(0), looked_at.sum(0)
    with np.errstate(invalid="ignore"):
        return Correct(np.divide(np.sum(rights * counted), np.sum(counts * counted)), rights / counts, counts)
