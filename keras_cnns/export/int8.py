"""Conversion to 8 bits, in a process of its own: TFLite's calibrator has been known to end the process that runs it.

    python -m keras_cnns.export.int8 FOLDER whole|convolutions

The folder has `saved`, a SavedModel, and `given.npz`: images `[N, H, W, C]`, and what else each is given with. It gets
`int8.tflite`.
"""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import tensorflow as tf

# In 8 bits also where the rest stays as it is: arithmetic of boxes, of which 256 steps are too few for an image.
WORK = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD",
        "MEAN"}


def converted(folder, images, others, convolutions_only):
    """The file's bytes, of a SavedModel in `folder/saved`.

    Args:
      images: `[N, H, W, C]`, float32, of which ranges of numbers are measured. others: arrays by name that the
        SavedModel takes with each of them.
      convolutions_only: only the ops of `WORK` in 8 bits.

    Raises:
      RuntimeError: the conversion failed.
    """
    np.savez(folder / "given.npz", images=images, **others)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder), "convolutions" if convolutions_only else "whole"],
        env=environment, capture_output=True, text=True)
    if done.returncode < 0:
        raise RuntimeError(f"the conversion to 8 bits failed: signal {-done.returncode} ended its process.")
    if done.returncode:
        raise RuntimeError(f"the conversion to 8 bits failed: {done.stderr.strip().splitlines()[-1]}")
    return (folder / "int8.tflite").read_bytes()


def convert(folder, convolutions_only):
    with np.load(folder / "given.npz") as given:
        others = dict(given)
    images = others.pop("images")

    def representative():
        for image in images:
            yield {"image": image[None], **others}

    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"), signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    kept = sorted(ops_of(converter.convert()) - WORK) if convolutions_only else None
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    if not kept:
        return converter.convert()
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=representative,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=kept))
    return debugger.get_nondebug_quantized_model()


def ops_of(content):
    """Names of a file's ops."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        tf.lite.experimental.Analyzer.analyze(model_content=content)
    return set(re.findall(r"Op#\d+ (\w+)\(", text.getvalue()))


if __name__ == "__main__":
    place = pathlib.Path(sys.argv[1])
    (place / "int8.tflite").write_bytes(convert(place, sys.argv[2] == "convolutions"))
