"""One cell of the grid of Huang et al., measured in a process of its own, `main`.

Speed/accuracy trade-offs for modern convolutional object detectors, CVPR 2017, arXiv:1611.10012. A cell is a detector
on a backbone, for images of a size, of a number of proposals; of chance weights, or of a run of training.
"""

import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import NamedTuple

SECONDS = 3.0  # that one of a cell's three forms is tried for, at least
ROUNDS = 5     # and at least so often
PROCESS = pathlib.Path("/proc/self")  # of Linux


class Cell(NamedTuple):
    detector: str         # the file of its paper, such as "ssd"
    backbone: str         # a classifier of the zoo
    size: int             # of the square image, pixels a side
    proposals: int | None = None  # of detectors that have any
    run: str | None = None        # folder of the trained network; else its weights are chance's
    made: float | None = None     # when that was, seconds as of `time.time`

    @property
    def name(self):
        parts = (self.detector, self.backbone, self.size, self.proposals, self.run)
        return " ".join(str(part) for part in parts if part is not None)


def measure(cell, picture, classes, threads, samples=None):
    """What is known of a cell: a dict of numbers.

    parameters; multiply_adds, of one image; keras_ms, saved_model_ms and tflite_ms, the median time of one image;
    memory_mib, the most that the process held at once while Keras detected, beyond what it held before there was a
    network; and AP50, VOC's area form at IoU 0.5, of `samples` where they are given.

    Args:
      picture: uint8 `[H, W, 3]`, that is detected on. classes: how many, of chance weights.
      threads: of the CPU.
    """
    import tensorflow as tf

    from keras_cnns import export, models
    from keras_cnns.data import images
    from keras_cnns.metrics import detection as metrics
    from keras_cnns.models import info
    from keras_cnns.training import detect

    before = memory("VmRSS")
    network = build(cell, classes)
    detector = models.detector(network, **({} if cell.proposals is None else {"proposals": cell.proposals}))
    fit = images.stretched if models.stretched(detector) else images.letterbox
    image = fit(tf.constant(picture), detector.input_shape[1:3])[0][None]
    found = {"parameters": info.parameters(network)[1], "multiply_adds": info.cost(detector)[0]}
    traced = tf.function(lambda image: detector(image, training=False))
    traced(image)
    reset_peak()
    found["keras_ms"] = milliseconds(lambda: traced(image)["count"].numpy())
    found["memory_mib"] = (memory("VmHWM") - before) / 1024 if PROCESS.exists() else None
    if samples:
        truth, answers = detect.truth(samples), detect.detect(detector, samples, batch=1, progress=False)
        found["AP50"] = metrics.voc_ap(truth, answers).mean
    with tempfile.TemporaryDirectory() as folder:
        served = tf.saved_model.load(str(export.saved_model(detector, pathlib.Path(folder, "saved"))))
        serve = served.signatures["serving_default"]
        found["saved_model_ms"] = milliseconds(lambda: serve(image=image)["num_detections"].numpy())
        try:
            path = export.tflite(detector, pathlib.Path(folder, "cell.tflite"))
            found["tflite_ms"] = tflite_milliseconds(path, image.numpy(), threads)
        except Exception as error:  # the converter's are of no class in common; the other numbers stand
            found["tflite_error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def build(cell, classes):
    """The network of a cell."""
    import keras

    from keras_cnns import models

    if cell.run:
        return keras.saving.load_model(pathlib.Path(cell.run, "network.keras"), compile=False)
    keras.utils.set_random_seed(0)
    return models.create_model(cell.detector, (cell.size, cell.size, 3), classes, backbone=cell.backbone)


def tflite_milliseconds(path, image, threads):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=threads).get_signature_runner("serving_default")
    return milliseconds(lambda: runner(image=image))


def milliseconds(call):
    """The median time of a call, the first apart."""
    call()
    times = []
    while len(times) < ROUNDS or sum(times) < SECONDS:
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def reset_peak():
    """What the process held at most counts from now on."""
    if PROCESS.exists():
        (PROCESS / "clear_refs").write_text("5")


def memory(field):
    """VmRSS, what the process holds, or VmHWM, the most it held: KiB; None where the system does not tell."""
    if not PROCESS.exists():
        return None
    lines = (PROCESS / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main():
    """Measures the cell that the process's argument tells of, JSON, and prints its numbers, JSON, as the last line."""
    asked = json.loads(sys.argv[1])
    from keras_cnns import cli

    cli.import_tensorflow()
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(asked["threads"])  # before anything is run

    from keras_cnns.data import named

    cell, samples = Cell(**asked["cell"]), None
    if cell.run:
        samples = named.detection(asked["data"], asked["split"], asked["classes"], asked["on_bad_sample"])[0]
        samples = samples[:asked["limit"]]
    print(json.dumps(measure(cell, np.load(asked["picture"]), len(asked["classes"]), asked["threads"], samples)))

