"""torchvision's SSD300, of random weights, in ours: the same detections. As in test_carry.py, it comes from outside."""

import os
import pathlib

import numpy as np
import pytest

from keras_cnns import create_model, detector, weights
from keras_cnns.metrics import detection as metrics
from keras_cnns.models.detection import ssd
from tests.weights import donors

DATA = os.environ.get("KERAS_CNNS_DATA")


def donated(tmp_path, count):
    """What torch_ssd.py writes of the first images of COCO's sample."""
    donors.run_torch("torch_ssd.py", tmp_path / "found.npz",
                     *sorted(pathlib.Path(DATA, "coco", "val2017").glob("*.jpg"))[:count])
    return dict(np.load(tmp_path / "found.npz"))


@donors.needs_torchvision
@pytest.mark.skipif(not DATA, reason="no KERAS_CNNS_DATA")
@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_torchvisions_weights_give_torchvisions_detections(tmp_path, count):
    donor = donated(tmp_path, count)
    state = {key.removeprefix("state/"): value for key, value in donor.items() if key.startswith("state/")}
    network = create_model("ssd300_vgg16", num_classes=90)
    report = weights.transfer(network, state)
    assert set(report.carried) == set(state) and not (report.left_out or report.kept or report.notes)
    np.testing.assert_allclose(ssd.default_boxes(network), donor["default_boxes"], atol=1e-4)

    answer = detector(network).predict(donor["pixels"], batch_size=2, verbose=0)
    want, got = [], []
    for i, (height, width) in enumerate(donor["sizes"]):
        n, scale = answer["count"][i], np.array([width, height, width, height], "float32") / 300
        want.append({key: donor[f"found/{i}/{key}"] for key in ("boxes", "scores", "labels")})
        got.append({"boxes": answer["boxes"][i, :n] * scale, "scores": answer["scores"][i, :n],
                    "labels": answer["labels"][i, :n]})
    result = metrics.agreement(want, got)
    assert min(len(each["scores"]) for each in want) >= 5
    assert result.same and result.iou > 0.99 and result.score < 1e-3
    if count == 20:
        found = sum(len(each["scores"]) for each in want)
        donors.record("ssd300_vgg16", "torchvision", f"the same {found} detections in 20 images of COCO",
                      f"least IoU {result.iou:.5f}; scores to {result.score:.0e}", "300x300")
