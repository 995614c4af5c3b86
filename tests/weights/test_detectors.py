"""A detector of torchvision, of random weights carried over, finds in photographs what it finds there."""

import os
import pathlib
import subprocess

import numpy as np
import pytest

from keras_cnns import create_model, detector, weights
from keras_cnns.ops import boxes as box_ops

TORCHVISION = os.environ.get("KERAS_CNNS_TORCHVISION")
IMAGES = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", "data"), "coco", "val2017")

pytestmark = pytest.mark.skipif(not (TORCHVISION and IMAGES.exists()),
                                reason="no KERAS_CNNS_TORCHVISION, or no COCO in KERAS_CNNS_DATA")


def run_torch(script, *arguments):
    """A script beside this file, in torchvision's environment."""
    activate = pathlib.Path(TORCHVISION, "bin", "activate-torchvision")
    activate = activate if activate.exists() else activate.with_name("activate")
    subprocess.run(["bash", "-c", '. "$0" && python "$@"', activate, pathlib.Path(__file__).with_name(script),
                    *map(str, arguments)], check=True)


def donated(theirs, out, side, count):
    """What torchvision finds in `count` images: its state dict, and a dict of arrays an image."""
    run_torch("torch_detectors.py", theirs, out, side, *sorted(IMAGES.glob("*.jpg"))[:count])
    with np.load(out) as file:
        arrays = dict(file)
    state = {key.removeprefix("state/"): value for key, value in arrays.items() if key.startswith("state/")}
    answers = [{key.split("/")[0]: value for key, value in arrays.items() if key.endswith(f"/{i}")}
               for i in range(count)]
    return state, answers


def assert_same(found, want):
    """The same labels in the same places; of near-equal scores either may come first."""
    n = len(want["labels"])
    assert int(found["count"][0]) == n
    if n == 0:
        return []
    boxes, labels, scores = (np.array(found[key])[0, :n] for key in ("boxes", "labels", "scores"))
    iou = np.array(box_ops.iou(want["boxes"], boxes)) * (want["labels"][:, None] == labels)
    pairs = iou.argmax(1)
    assert sorted(pairs) == list(range(n)), "a detection has none of its label where it is"
    assert iou.max(1).min() > 0.99
    np.testing.assert_allclose(scores[pairs], want["scores"], atol=1e-3)
    return pairs


@pytest.mark.parametrize("theirs, ours", [("fasterrcnn_resnet50_fpn", "faster_rcnn_resnet50_fpn")])
@pytest.mark.parametrize("side, count", [(200, 3), pytest.param(800, 20, marks=pytest.mark.slow)])
def test_torchvision(theirs, ours, side, count, tmp_path):
    state, answers = donated(theirs, tmp_path / "donor.npz", side, count)
    network = create_model(ours, (None, None, 3))
    report = weights.transfer(network, state)
    assert not report.left_out and not report.kept
    graph = detector(network)
    assert np.mean([len(want["labels"]) for want in answers]) > 10
    for want in answers:
        assert_same(graph(want["pixels"][None], training=False), want)
