"""The numbers do not depend on the backend: the same tests, and the same detections, under JAX and torch.

KERAS_CNNS_TORCH_PYTHON names a Python that has torch beside the rest; without it this one is taken if it has torch.
"""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cnns.models import create_model, detector

ROOT = pathlib.Path(__file__).parents[1]
TORCH = os.environ.get("KERAS_CNNS_TORCH_PYTHON", sys.executable)

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="starts from TensorFlow")


def run_under(backend, *arguments):
    """A Python of a backend with these arguments; it has passed."""
    python = TORCH if backend == "torch" else sys.executable
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu",
                   "PYTHONPATH": os.pathsep.join(sys.path if python == sys.executable else [str(ROOT)])}
    if backend == "torch" and subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
        pytest.skip("no torch: KERAS_CNNS_TORCH_PYTHON names a Python that has it")
    done = subprocess.run([python, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


PYTEST = "-m", "pytest", "-q", "-p", "no:cacheprovider"


def test_ops_and_losses_equal_their_loops_under_jax():
    run_under("jax", *PYTEST, "tests/ops", "tests/test_losses.py", "-k", "loop or hand or gradients")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_all_tests_of_ops_layers_and_losses_pass(backend):
    run_under(backend, *PYTEST, "tests/ops", "tests/layers", "tests/test_losses.py")


PROGRAM = """
import json, sys
import numpy as np
from keras_cnns.models import create_model, detector, module_of
network = create_model(sys.argv[1], (96, 96, 3), 3, weights=sys.argv[2])
shown = dict(np.load(sys.argv[3]))
graph = detector(network, score_threshold=0.01, max_detections=20)
found = graph.predict(shown if isinstance(graph.input, dict) else shown["image"], verbose=0)
network.compile("sgd", loss=module_of(network.name).losses(network.name))
loss = network.train_on_batch({**shown, "boxes": np.array([[[8, 8, 60, 60]]] * 2, "float32"),
                               "labels": np.array([[1], [2]], "int32")})
print(json.dumps([{key: np.array(value).tolist() for key, value in found.items()}, float(np.max(loss))]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn_resnet18", "fast_rcnn_resnet18", "rfcn_resnet18"])
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_detector_finds_the_same_and_trains(backend, name, tmp_path):
    keras.utils.set_random_seed(0)
    network = create_model(name, (96, 96, 3), 3)
    # Heads with some life in them, so that scores are not all alike.
    head = network.get_layer("position_sensitive" if name.startswith("rfcn") else "roi_head")
    head.set_weights([30 * w if w.shape[-1] in (4, 16, 36, 72) else w for w in head.get_weights()])
    network.save_weights(tmp_path / "n.weights.h5")
    rng = np.random.default_rng(0)
    shown = {"image": rng.uniform(0, 255, (2, 96, 96, 3)).astype("float32")}
    if "proposals" in network.input:
        corners = np.sort(rng.uniform(0, 96, (2, 1000, 2, 2)), 2)
        shown["proposals"] = np.concatenate([corners[:, :, 0], corners[:, :, 1]], -1).astype("float32")
    np.savez(tmp_path / "shown.npz", **shown)
    told = run_under(backend, "-c", PROGRAM, name, tmp_path / "n.weights.h5", tmp_path / "shown.npz")
    found, loss = json.loads(told.splitlines()[-1])
    graph = detector(network, score_threshold=0.01, max_detections=20)
    want = graph.predict(shown if isinstance(graph.input, dict) else shown["image"], verbose=0)
    assert np.isfinite(loss) and want["count"].min() > 0
    np.testing.assert_array_equal(found["labels"], want["labels"])
    np.testing.assert_allclose(found["scores"], want["scores"], atol=1e-3)
    np.testing.assert_allclose(found["boxes"], want["boxes"], atol=0.1)
