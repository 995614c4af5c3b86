"""Mask R-CNN of torchvision, of random weights carried over, finds the same objects, masks and joints."""

import numpy as np
import pytest

from keras_cnns import create_model, detector, weights
from keras_cnns.ops import masks as mask_ops
from tests.weights import test_detectors

pytestmark = test_detectors.pytestmark


def mask_ious(ours, theirs, boxes, shape):
    """Of pasted masks, a number each; 1 where both are empty."""
    a, b = (mask_ops.paste(masks, boxes, *shape[:2]) for masks in (ours, theirs))
    together = (a | b).sum((1, 2))
    return np.where(together > 0, (a & b).sum((1, 2)) / np.maximum(together, 1), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("side, count", [(200, 3), (800, 20)])
def test_torchvision_finds_the_same_masks(side, count, tmp_path):
    state, answers = test_detectors.donated("maskrcnn_resnet50_fpn", tmp_path / "donor.npz", side, count)
    network = create_model("mask_rcnn_resnet50_fpn", (None, None, 3))
    report = weights.transfer(network, state)
    assert not report.left_out and not report.kept
    graph, ious, differences, same = detector(network), [], [], []
    for want in answers:
        found = graph.predict_on_batch(want["pixels"][None])
        same.append(test_detectors.same(found, want))
        masks, their_masks = found["masks"][0][same[-1][0]], want["masks"][:, 0]
        differences.append(np.abs(masks - their_masks).max(initial=0))
        ious.append(mask_ious(masks, their_masks, want["boxes"], want["pixels"].shape))
    ious = np.concatenate(ious)
    test_detectors.record("mask_rcnn_resnet50_fpn", side, answers, same,
                          f"; masks: least IoU {ious.min():.4f}, cells to {max(differences):.0e}")
    assert ious.min() > 0.99 and max(differences) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("side, count", [(200, 3)])
def test_torchvision_finds_the_same_joints(side, count, tmp_path):
    state, answers = test_detectors.donated("keypointrcnn_resnet50_fpn", tmp_path / "donor.npz", side, count)
    network = create_model("keypoint_rcnn_resnet50_fpn", (None, None, 3))
    report = weights.transfer(network, state)
    assert not report.left_out and not report.kept
    graph, apart, same = detector(network), [], []
    for want in answers:
        found = graph.predict_on_batch(want["pixels"][None])
        same.append(test_detectors.same(found, want))
        ours = same[-1][0]
        joints = mask_ops.joints(found["heatmaps"][0][ours], found["boxes"][0][ours])
        apart.append(np.abs(joints[..., :2] - want["keypoints"][..., :2]).max(-1).ravel())
        np.testing.assert_allclose(joints[..., 2], want["keypoints_scores"], atol=1e-2)
    apart = np.concatenate(apart)
    test_detectors.record("keypoint_rcnn_resnet50_fpn", side, answers, same,
                          f"; {(apart < 0.1).mean():.2%} of {len(apart)} joints within 0.1 pixel")
    assert (apart < 0.1).mean() > 0.99  # of two almost equally hot places either may win
