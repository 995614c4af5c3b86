"""A detector of torchvision, of random weights carried over, finds in photographs what it finds there."""

import os
import pathlib

import numpy as np
import pytest

from keras_cnns import create_model, detector, weights
from keras_cnns.ops import boxes as box_ops
from tests.weights import donors

IMAGES = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", "data"), "coco", "val2017")

pytestmark = [donors.needs_torchvision, pytest.mark.skipif(not IMAGES.exists(), reason="no COCO in KERAS_CNNS_DATA")]


def donated(theirs, out, side, count):
    """What torchvision finds in `count` images: its state dict, and a dict of arrays an image."""
    donors.run_torch("torch_detectors.py", theirs, out, side, *sorted(IMAGES.glob("*.jpg"))[:count])
    with np.load(out) as file:
        arrays = dict(file)
    state = {key.removeprefix("state/"): value for key, value in arrays.items() if key.startswith("state/")}
    answers = [{key.split("/")[0]: value for key, value in arrays.items() if key.endswith(f"/{i}")}
               for i in range(count)]
    return state, answers


def same(found, want):
    """Asserts that the same labels are in the same places; of near-equal scores either may come first.

    Returns:
      which of ours is each of theirs; the least IoU; the largest difference of a score.
    """
    n = len(want["labels"])
    assert int(found["count"][0]) == n
    if n == 0:
        return np.zeros(0, int), 1.0, 0.0
    boxes, labels, scores = (np.array(found[key])[0, :n] for key in ("boxes", "labels", "scores"))
    iou = np.array(box_ops.iou(want["boxes"], boxes)) * (want["labels"][:, None] == labels)
    ours = iou.argmax(1)
    assert sorted(ours) == list(range(n)), "a detection has none of its label where it is"
    difference = np.abs(scores[ours] - want["scores"]).max()
    assert iou.max(1).min() > 0.99 and difference < 1e-3
    return ours, iou.max(1).min(), difference


def record(name, side, answers, found, more=""):
    """Of what `same` gives of each image."""
    count = sum(len(want["labels"]) for want in answers)
    _, ious, differences = zip(*found)
    donors.record(name, "torchvision", f"the same {count} detections in {len(answers)} images of COCO",
                  f"least IoU {min(ious):.5f}; scores to {max(differences):.0e}{more}", f"shorter side {side}")


@pytest.mark.parametrize("theirs, ours", [("fasterrcnn_resnet50_fpn", "faster_rcnn_resnet50_fpn")])
@pytest.mark.parametrize("side, count", [(200, 3), pytest.param(800, 20, marks=pytest.mark.slow)])
def test_torchvision(theirs, ours, side, count, tmp_path):
    state, answers = donated(theirs, tmp_path / "donor.npz", side, count)
    network = create_model(ours, (None, None, 3))
    report = weights.transfer(network, state)
    assert not report.left_out and not report.kept
    graph = detector(network)
    assert np.mean([len(want["labels"]) for want in answers]) > 10
    record(ours, side, answers, [same(graph(want["pixels"][None], training=False), want) for want in answers])
