"""Export for TensorFlow Lite: one file of built-in ops, tried before it is handed over."""

import os
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

from keras_cnns.errors import InputError
from keras_cnns.export import answers

BYTES = {None: 4, "float16": 2, "dynamic": 1}  # a weight
TOLERANCE = {None: 1e-3, "float16": 0.1, "dynamic": 0.3}  # of the difference of answers to the trial image


def tflite(model, path, quantization=None):
    """Writes a network as `.tflite`, with TFLite's built-in ops only.

    Signature serving_default: image, float32 `[1, H, W, C]`, RGB or grey, 0 to 255, of the network's size; answers as
    `saved_model` names them, boxes in 0...1 of that input. The phone prepares its picture: for a detector it scales it
    into the top left corner of the input, proportions kept, as `data.images.letterbox` does (for an SSD to all of it,
    `stretched`); for a classifier it cuts and scales as `data.images.central`.

    Args:
      model: as of `saved_model`: a classifier, a detector's inference graph, or another network of one image.
      path: of the file, which appears complete or not at all.
      quantization: None (float32), "float16" (weights halved), or "dynamic" (weights in 8 bits).

    Returns:
      the path.

    Raises:
      InputError: no such network, an unknown quantization, or the path cannot be written.
      RuntimeError: the file does not give what the model gives; nothing is written.
    """
    kind = answers.kind_of(model)
    if quantization not in BYTES:
        raise InputError(f"quantization={quantization!r}: choose from {', '.join(map(repr, BYTES))}.")
    interpreter_of = _interpreter()
    path = pathlib.Path(path)
    aside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.touch()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a file in a folder that can.") from None
    try:
        converted = _convert(kind, quantization)
        least = 0.9 * BYTES[quantization] * kind.network.count_params()
        if len(converted) < least:
            raise RuntimeError(f"the TFLite file has lost weights of {model.name}: {len(converted)} bytes, "
                               f"at least {least:.0f} were expected; it was not written.")
        aside.write_bytes(converted)
        _try(kind, interpreter_of(str(aside)), TOLERANCE[quantization])
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _interpreter():
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise ImportError('The TFLite file is tried before it is handed over, with ai-edge-litert: '
                          'pip install "keras_cnns[tflite]"') from None
    return Interpreter


def _convert(kind, quantization):
    archive = keras.export.ExportArchive()
    archive.track(kind.network)
    archive.add_endpoint("serving_default", kind.answer, input_signature=[
        tf.TensorSpec([1, *kind.shape], tf.float32, name="image")])
    folder = tempfile.mkdtemp()
    try:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantization:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
    finally:
        shutil.rmtree(folder)


def _try(kind, interpreter, tolerance):
    """Runs the file and the model on one image; converters have been known to lose the weights silently."""
    height, width, channels = kind.shape
    tile = -(-min(height, width) // 8)
    noise = np.random.default_rng(0).uniform(0, 255, (1, -(-height // tile), -(-width // tile), channels))
    image = noise.astype("float32").repeat(tile, 1).repeat(tile, 2)[:, :height, :width]
    want = {name: value.numpy() for name, value in kind.answer(image).items()}
    got = interpreter.get_signature_runner("serving_default")(image=image)
    difference = kind.difference(want, got)
    if not difference <= tolerance:
        raise RuntimeError(f"the TFLite file differs from {kind.network.name} by {difference:.3g} in what it answers "
                           f"(at most {tolerance:g} is accepted); it was not written.")
