import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_cnns.errors import InputError
from keras_cnns.training import distribute

# Four steps on the same pictures, on the devices named, in a process of its own: logical devices must be made
# before TensorFlow starts. Plain descent, since Adam makes a whole step of the last digit of a gradient near 0.
PROGRAM = """
import json, sys
import numpy as np
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_cnns.data import synthetic
from keras_cnns.training import recipes, runs
folder, model, *devices = sys.argv[1:]
recipe = recipes.recipe(model)._replace(optimizer="sgd", learning_rate=0.001, batch=4, epochs=4)
samples = synthetic.samples(6, masks="mask" in model)
network, history = runs.train(
    model, samples[:4], synthetic.CLASSES, folder, recipe, (64, 64, 3), devices=devices, validation=samples[4:])
np.savez(folder + "/weights.npz", *network.get_weights())
"""


def run(program, folder, *arguments):
    """Losses of each step, one step an epoch, and the weights after the last."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program, str(folder), *arguments],
                          capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    history = json.loads((folder / "history.json").read_text())
    return [[step[key] for key in sorted(step)] for step in history], list(np.load(folder / "weights.npz").values())


@pytest.mark.parametrize("model", [
    "faster_rcnn_resnet18", pytest.param("mask_rcnn_resnet18", marks=pytest.mark.slow),
    pytest.param("rfcn_resnet18", marks=pytest.mark.slow)])  # whose hardest regions are chosen image by image
def test_two_replicas_give_the_losses_and_weights_of_one(model, tmp_path):
    losses_of_one, weights_of_one = run(PROGRAM, tmp_path / "one", model, "CPU:0")
    losses_of_two, weights_of_two = run(PROGRAM, tmp_path / "two", model, "CPU:0", "CPU:1")
    assert len(losses_of_one) == 4  # the first at rate 0, then three that move the weights
    np.testing.assert_allclose(losses_of_two, losses_of_one, rtol=1e-4)
    for one, two in zip(weights_of_one, weights_of_two, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-4 * max(np.abs(one).max(), 1e-3))


def test_an_unknown_device_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="No device TPU:7. This machine has .*CPU:0"):
        distribute.strategy(["TPU:7"])


def test_the_device_named_is_the_device_used():
    strategy = distribute.strategy(["CPU:0"])
    assert strategy.num_replicas_in_sync == 1 and "CPU:0" in strategy.extended.worker_devices[0]


@pytest.mark.skipif(any(d.device_type == "GPU" for d in tf.config.list_logical_devices()), reason="has a GPU")
def test_without_a_gpu_no_strategy_is_needed():
    assert distribute.strategy() is None


CLASSIFIER = """
import sys
import numpy as np
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_cnns.data.samples import Sample
from keras_cnns.training import recipes, runs
samples = [Sample(str(i), tf.io.encode_png(np.random.default_rng(i).integers(0, 256, (32, 32, 1), "uint8")).numpy(),
                  (32, 32), label=i % 2) for i in range(4)]
recipe = recipes.recipe("resnet20_cifar")._replace(
    learning_rate=0.01, weight_decay=0.5, batch=4, epochs=3, view="plain")
network, history = runs.train("lenet5_dense", samples, ["a", "b"], sys.argv[1], recipe, devices=sys.argv[2:],
                              validation=samples)
np.savez(sys.argv[1] + "/weights.npz", *network.get_weights())
"""


@pytest.mark.slow
def test_a_classifiers_decay_is_counted_once_on_two_replicas(tmp_path):
    losses_of_one, weights_of_one = run(CLASSIFIER, tmp_path / "one", "CPU:0")
    losses_of_two, weights_of_two = run(CLASSIFIER, tmp_path / "two", "CPU:0", "CPU:1")
    np.testing.assert_allclose(losses_of_two, losses_of_one, rtol=1e-4)
    for one, two in zip(weights_of_one, weights_of_two, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-5)


STAGES = """
import sys
import numpy as np
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_cnns.data import synthetic
from keras_cnns.training import recipes, stages
folder, model, *devices = sys.argv[1:]
samples = [s._replace(proposals=np.concatenate([s.boxes + 2, [[0, 0, 40, 40], [5, 90, 60, 150]]]).astype("float32"))
           for s in synthetic.samples(4)]
recipe = recipes.recipe(model)._replace(batch=8, epochs=2)
network, history = stages.train(model, samples, synthetic.CLASSES, folder, recipe, devices=devices)
np.savez(folder + "/weights.npz", *network.get_weights())
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["rcnn_resnet20", "sppnet_detector_resnet20"])
def test_stages_are_trained_on_two_devices(model, tmp_path):
    """Not with one device's numbers: batch norm sees a half on each."""
    losses_of_one, weights_of_one = run(STAGES, tmp_path / "one", model, "CPU:0")
    losses_of_two, weights_of_two = run(STAGES, tmp_path / "two", model, "CPU:0", "CPU:1")
    epochs = 2 if model.startswith("rcnn") else 4  # SPP-net's convolutions before
    assert len(losses_of_one) == len(losses_of_two) == epochs + 1  # and the features
    assert np.isfinite([losses_of_one[:epochs], losses_of_two[:epochs]]).all()
    assert all(np.isfinite(two).all() and one.shape == two.shape
               for one, two in zip(weights_of_one, weights_of_two, strict=True))
