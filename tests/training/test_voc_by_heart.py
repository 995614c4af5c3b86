"""The real thing: 16 photographs of VOC2012, from random weights, learnt by heart."""

import os
import time

import pytest

from keras_cnns.data import voc
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import detector
from keras_cnns.training import detect, recipes, runs

DATA = os.environ.get("KERAS_CNNS_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="KERAS_CNNS_DATA names no folder with voc/VOCdevkit")
def test_sixteen_photographs_are_learnt_by_heart(tmp_path):
    samples, _ = voc.samples(f"{DATA}/voc/VOCdevkit", 2012, "train")
    samples = samples[:16]
    recipe = recipes.recipe("faster_rcnn_resnet18")._replace(epochs=100)
    before = time.time()
    network, history = runs.train("faster_rcnn_resnet18", samples, voc.CLASSES, tmp_path / "run", recipe)
    found = detect.detect(detector(network), samples, progress=False)
    result = metrics.voc_ap(detect.truth(samples), found)
    curve = [round(epoch["loss"], 3) for epoch in history[::10]]
    print(f"{time.time() - before:.0f} s; loss {curve}; AP50 {result.mean:.4f}")
    assert result.mean >= 0.90
