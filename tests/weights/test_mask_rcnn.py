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
    graph, ious, differences = detector(network), [], []
    for want in answers:
        found = graph.predict_on_batch(want["pixels"][None])
        if not len(want["labels"]):
            assert not found["count"].any()
            continue
        pairs = test_detectors.assert_same(found, want)
        masks = found["masks"][0][pairs]
        differences.append(np.abs(masks - want["masks"][:, 0]).max())
        ious.append(mask_ious(masks, want["masks"][:, 0], want["boxes"], want["pixels"].shape))
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
        pairs = test_detectors.assert_same(found, want)
        joints = mask_ops.joints(found["heatmaps"][0][pairs], found["boxes"][0][pairs])
        apart.append(np.abs(joints[..., :2] - want["keypoints"][..., :2]).max(-1).ravel())
        np.testing.assert_allclose(joints[..., 2], want["keypoints_scores"], atol=1e-2)
    apart = np.concatenate(apart)
    print(f"{len(apart)} joints: {(apart < 0.1).mean():.4f} within a tenth of a pixel")
    assert (apart < 0.1).mean() > 0.99  # of two almost equally hot places either may win
