"""LeNet-5 on real digits: 6,400 to learn from, 1,600 to be asked about."""

import os

import pytest

from keras_cnns.data import named
from keras_cnns.training import classify, recipes, runs

DATA = os.environ.get("KERAS_CNNS_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="KERAS_CNNS_DATA names no folder with mnist")
@pytest.mark.parametrize("name, least", [("lenet5", 0.975), ("lenet5_dense", 0.98)])
def test_lenet_reads_digits(name, least, tmp_path):
    samples, class_names, _ = named.classification(f"small:{DATA}/mnist", "test")
    assert len(samples) == 8000
    recipe = recipes.recipe(name)
    network, history = runs.train(name, samples[:6400], class_names, tmp_path / "run", recipe)
    result = classify.evaluate(network, samples[6400:], batch=200, progress=False)
    print(f"{name}: top-1 {result.top1:.4f}; loss {[round(epoch['loss'], 3) for epoch in history]}")
    assert result.top1 >= least
