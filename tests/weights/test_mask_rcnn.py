"""Mask R-CNN of torchvision, of random weights carried over, finds the same objects, masks and joints."""

import numpy as np
import pytest

from keras_cnns import create_model, detector, weights
from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import masks as mask_ops
from tests.weights import test_detectors

pytestmark = test_detectors.pytestmark


def mask_ious(ours, theirs, boxes, shape):
    """Of pasted masks, a number each; 1 where both are empty."""
    a, b = (mask_ops.paste(masks, boxes, *shape[:2]) for masks in (ours, theirs))
    together = (a | b).sum((1, 2))
    return np.where(together > 0, (a & b).sum((1, 2)) / np.maximum(together, 1), 1.0)


def pairs_of(found, want):
    """Numbers of theirs and of ours that are the same detection: all, but for what rounding decides.

    Before NMS torchvision moves the boxes of class k by k times the image's longest side, where float32 tells 1/128
    pixel apart: of two whose overlap is 0.5 to the fourth digit it may keep one more than their overlap says.
    """
    n = len(want["labels"])
    assert int(found["count"][0]) == n
    boxes, labels, scores = (found[key][0, :n] for key in ("boxes", "labels", "scores"))
    np.testing.assert_array_equal(np.sort(labels), np.sort(want["labels"]))
    iou = np.array(box_ops.iou(want["boxes"], boxes)) * (want["labels"][:, None] == labels)
    among = np.array(box_ops.iou(want["boxes"], want["boxes"])) * (want["labels"][:, None] == want["labels"])
    on_the_edge = (np.abs(among - 0.5) < 1e-4).sum() // 2
    theirs = np.flatnonzero(iou.max(1, initial=0) > 0.99)
    ours = iou[theirs].argmax(1) if n else theirs
    assert len(theirs) >= n - on_the_edge and len(set(ours)) == len(ours)
    np.testing.assert_allclose(scores[ours], want["scores"][theirs], atol=1e-3)
    return theirs, ours


@pytest.mark.slow
@pytest.mark.parametrize("side, count", [(200, 3), (800, 20)])
def test_torchvision_finds_the_same_masks(side, count, tmp_path):
    state, answers = test_detectors.donated("maskrcnn_resnet50_fpn", tmp_path / "donor.npz", side, count)
    network = create_model("mask_rcnn_resnet50_fpn", (None, None, 3))
    report = weights.transfer(network, state)
    assert not report.left_out and not report.kept
    graph, ious, differences = detector(network), [], []
    for want in answers:
        found = graph.predict_on_batch(want["pixels"][None])
        theirs, ours = pairs_of(found, want)
        masks, their_masks = found["masks"][0][ours], want["masks"][theirs, 0]
        differences.append(np.abs(masks - their_masks).max(initial=0))
        ious.append(mask_ious(masks, their_masks, want["boxes"][theirs], want["pixels"].shape))
    ious = np.concatenate(ious)
    print(f"{len(ious)} masks: worst IoU {ious.min():.4f}, largest difference of a cell {max(differences):.1e}")
    assert ious.min() > 0.99 and max(differences) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("side, count", [(200, 3)])
def test_torchvision_finds_the_same_joints(side, count, tmp_path):
    state, answers = test_detectors.donated("keypointrcnn_resnet50_fpn", tmp_path / "donor.npz", side, count)
    network = create_model("keypoint_rcnn_resnet50_fpn", (None, None, 3))
    report = weights.transfer(network, state)
    assert not report.left_out and not report.kept
    graph, apart = detector(network), []
    for want in answers:
        found = graph.predict_on_batch(want["pixels"][None])
        theirs, ours = pairs_of(found, want)
        joints = mask_ops.joints(found["heatmaps"][0][ours], found["boxes"][0][ours])
        apart.append(np.abs(joints[..., :2] - want["keypoints"][theirs, :, :2]).max(-1).ravel())
        np.testing.assert_allclose(joints[..., 2], want["keypoints_scores"][theirs], atol=1e-2)
    apart = np.concatenate(apart)
    print(f"{len(apart)} joints: {(apart < 0.1).mean():.4f} within a tenth of a pixel")
    assert (apart < 0.1).mean() > 0.99  # of two almost equally hot places either may win
