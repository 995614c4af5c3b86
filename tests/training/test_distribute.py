import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_cnns.errors import InputError
from keras_cnns.training import distribute

# Three steps on the same eight pictures, on the devices named, in a process of its own: logical devices must be
# made before TensorFlow starts.
PROGRAM = """
import json, sys
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_cnns.data import synthetic
from keras_cnns.training import recipes, runs
recipe = recipes.recipe("faster_rcnn_resnet18")._replace(batch=4, epochs=3)
network, history = runs.train_detector(
    "faster_rcnn_resnet18", synthetic.samples(4), synthetic.CLASSES, sys.argv[1], recipe, (64, 64, 3),
    devices=sys.argv[2:])
sums = [[float(tf.reduce_sum(w)), float(tf.reduce_sum(tf.abs(w)))] for w in network.weights if "seed" not in w.path]
print(json.dumps([history, sums]))
"""


def run(folder, *devices):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder), *devices],
                          capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    history, sums = json.loads(done.stdout.splitlines()[-1])
    return [[step[key] for key in sorted(step)] for step in history], np.array(sums)


def test_two_replicas_give_the_losses_and_weights_of_one(tmp_path):
    losses_of_one, weights_of_one = run(tmp_path / "one", "CPU:0")
    losses_of_two, weights_of_two = run(tmp_path / "two", "CPU:0", "CPU:1")
    assert len(losses_of_one) == 3  # one step an epoch
    np.testing.assert_allclose(losses_of_two, losses_of_one, rtol=1e-3)
    np.testing.assert_allclose(weights_of_two[:, 1], weights_of_one[:, 1], rtol=1e-4)


def test_an_unknown_device_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="No device TPU:7. This machine has .*CPU:0"):
        distribute.strategy(["TPU:7"])


def test_one_device_needs_no_strategy():
    assert distribute.strategy(["CPU:0"]) is None
