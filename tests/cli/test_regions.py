"""`--proposals`: who takes them, and how many."""

import argparse

import numpy as np
import pytest

from keras_cnns.cli import regions
from keras_cnns.data import synthetic
from keras_cnns.errors import InputError


def options(*words):
    parser = argparse.ArgumentParser()
    regions.arguments(parser)
    return parser.parse_args(words)


def test_samples_get_as_many_proposals_as_the_network_takes(tmp_path):
    samples = synthetic.samples(2)
    np.savez(tmp_path / "boxes.npz", **{s.image_id: s.boxes[:1] + np.arange(1500)[:, None] / 100 for s in samples})
    given = options("--proposals", str(tmp_path / "boxes.npz"))
    found = regions.proposed(given, "fast_rcnn_resnet18", samples)
    assert [len(s.proposals) for s in found] == [1000, 1000]
    assert regions.proposed(options(), "fast_rcnn_resnet18", samples) is samples
    with pytest.raises(InputError, match="rfcn_resnet18 finds its regions itself"):
        regions.proposed(given, "rfcn_resnet18", samples)
