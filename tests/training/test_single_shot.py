"""Single-shot detectors: targets are made in the pipeline, and stock `fit` does the rest."""

import keras
import numpy as np
import pytest

from keras_cnns.data import batches, synthetic
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector
from keras_cnns.models.detection import ssd
from keras_cnns.training import detect, recipes, runs


@pytest.fixture(scope="module")
def samples():
    return [sample for sample in synthetic.samples(14) if not sample.ignored.any()][:8]


def test_fit_is_given_images_and_the_targets_of_their_objects(samples):
    network = create_model("ssd300_mobilenet_v1", (96, 128, 3), 5)
    recipe = recipes.recipe("ssd300_mobilenet_v1")._replace(batch=4, epochs=2)
    found = list(detect.elements(network, samples, recipe, 0, 0))
    plain = list(batches.training(samples, (96, 128), 4, 2, 0, view=detect.views.ssd, colour=detect.augment.photometric,
                                  keep="center"))
    boxes = ssd.default_boxes(network)
    assert len(found) == 4
    for (image, targets), batch in zip(found, plain):
        np.testing.assert_array_equal(image, batch["image"])
        assert set(targets) == {"cls", "reg"} and targets["cls"].shape == (4, len(boxes), 5)
        for rows, *truth in zip(targets["reg"].numpy(), batch["boxes"].numpy(), batch["labels"].numpy()):
            np.testing.assert_array_equal(rows, ssd.encode_targets(*truth, boxes))
    rest = list(detect.elements(network, samples, recipe, 0, 3))
    np.testing.assert_array_equal(rest[0][1]["cls"], found[3][1]["cls"])


@pytest.mark.slow
def test_a_run_trains_evaluates_and_is_written(samples, tmp_path):
    recipe = recipes.recipe("ssd300_mobilenet_v1")._replace(batch=4, epochs=1)
    network, history = runs.train("ssd300_mobilenet_v1", samples[:4], synthetic.CLASSES, tmp_path / "run",
                                           recipe, (64, 64, 3), validation=samples[:2])
    assert {"loss", "cls_loss", "reg_loss", "AP50"} <= set(history[0]) and np.isfinite(history[0]["loss"])
    assert (tmp_path / "run" / "network.keras").exists()


def by_heart(name, samples, side, steps, rate):
    keras.utils.set_random_seed(1)
    network = create_model(name, (side, side, 3), 5)
    falling = keras.optimizers.schedules.CosineDecay(rate, steps)
    network.compile(keras.optimizers.Adam(falling, global_clipnorm=10.0), loss=ssd.losses())
    elements = batches.training(samples, (side, side), len(samples), steps, 0)
    network.fit(batches.with_targets(elements, ssd.target_encoder(network), network.output), shuffle=False, verbose=0)
    result = metrics.voc_ap(detect.truth(samples), detect.detect(detector(network), samples, progress=False))
    print(f"{name}: AP50 {result.mean:.3f} after {steps} steps")
    return result.mean


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart(samples):
    assert by_heart("ssd300_mobilenet_v1", samples, 160, 350, 2e-3) > 0.9
