"""Export for TensorFlow Lite: one file of built-in ops, tried before it is handed over."""

import itertools
import json
import os
import pathlib
import re
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

from keras_cnns.errors import InputError
from keras_cnns.export import answers, int8
from keras_cnns.models.detection import rcnn

BYTES = {None: 4, "float16": 2, "dynamic": 1, "int8": 1}  # a weight
TOLERANCE = {None: 1e-3, "float16": 0.1, "dynamic": 0.3, "int8": 0.5}  # of the difference of answers to the trial image
REPRESENTATIVE = 100  # images, of which the ranges of numbers are measured, are enough


def tflite(model, path, quantization=None, representative=None):
    """Writes a network as `.tflite`, with TFLite's built-in ops only.

    Signature serving_default: image, float32 `[1, H, W, C]`, RGB or grey, 0 to 255, of the network's size, and of a
    detector of proposals these, float32 `[1, R, 4]` in its pixels, rows of zeros filling them up; answers as
    `saved_model` names them, boxes in 0...1 of that input. The phone prepares its picture: for a detector it scales it
    into the top left corner of the input, proportions kept, as `data.images.letterbox` does (for an SSD to all of it,
    `stretched`); for a classifier it cuts and scales as `data.images.central`, for a segmenter as
    `data.segmented.canvas`, or in tiles as `data.segmented.tiled`, if it answers for the middle, for one of poses as
    `data.persons.whole` and `seen`.

    Args:
      model: as of `saved_model`: a classifier, a detector's inference graph, or another network of one image. One of a
        mixed dtype policy is written in float32, since TFLite has no built-in convolution in half precision.
      path: of the file, which appears complete or not at all.
      quantization: None (float32), "float16" (weights halved), "dynamic" (weights in 8 bits), or "int8": all numbers
        in 8 bits but those of ops that have no such form; of a detector only convolutions, fully connected layers and
        pooling, since 256 steps are too few for boxes; R-CNN is refused. What goes in and comes out stays as it is.
      representative: of "int8", images such as the network will see: arrays `[H, W, C]` of any size, RGB or grey, 0 to
        255, batches of them, or samples with one as "image", such as a `tf.data.Dataset` of a reader. The first 100
        are looked at.

    Returns:
      the path.

    Raises:
      InputError: no such network, an unknown quantization, images missing or of another shape, or the path cannot be
        written.
      RuntimeError: the conversion failed, or the file does not give what the model gives; nothing is written.
    """
    kind = answers.kind_of(model)
    if (twin := _in_float32(model)) is not model:
        kind = answers.kind_of(twin)
    if quantization not in BYTES:
        raise InputError(f"quantization={quantization!r}: choose from {', '.join(map(repr, BYTES))}.")
    if (quantization == "int8") != (representative is not None):
        raise InputError(f"quantization={quantization!r} with representative={representative!r:.40}: \"int8\" takes "
                         "images such as the network will see, the others none.")
    if quantization == "int8" and any(isinstance(layer, rcnn.OverRegions) for layer in kind.network.layers):
        raise InputError(f"{model.name}: R-CNN is asked region by region, in a part of the graph whose numbers TFLite "
                         "does not measure; take \"dynamic\" or \"float16\".")
    interpreter_of = _interpreter()
    canvases = _canvases(kind, representative) if representative is not None else None
    path = pathlib.Path(path)
    aside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.touch()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a file in a folder that can.") from None
    try:
        converted = _convert(kind, quantization, canvases)
        least = 0.9 * BYTES[quantization] * kind.network.count_params()
        if len(converted) < least:
            raise RuntimeError(f"the TFLite file has lost weights of {model.name}: {len(converted)} bytes, "
                               f"at least {least:.0f} were expected; it was not written.")
        aside.write_bytes(converted)
        trial = _blocks(kind.shape) if canvases is None else canvases[0]
        _try(kind, interpreter_of(str(aside)), TOLERANCE[quantization], trial[None])
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _in_float32(model):
    """A model of the same layers and weights, if the policy of any is mixed; else the model itself."""
    try:
        told = json.dumps(model.get_config())
    except NotImplementedError:  # a class of the user's that does not tell what it is made of
        return model
    plain = re.sub('"mixed_b?float16"', '"float32"', told)
    if plain == told:
        return model
    twin = type(model).from_config(json.loads(plain))
    with tempfile.TemporaryDirectory() as folder:  # by a file: what a layer derives from its weights comes along
        model.save_weights(f"{folder}/all.weights.h5")
        twin.load_weights(f"{folder}/all.weights.h5")
    return twin


def _interpreter():
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise ImportError('The TFLite file is tried before it is handed over, with ai-edge-litert: '
                          'pip install "keras_cnns[tflite]"') from None
    return Interpreter


def _canvases(kind, representative):
    """`[N, *kind.shape]` of images of any size."""
    images = []
    for item in itertools.islice(representative, REPRESENTATIVE):
        image = np.array(item["image"] if isinstance(item, dict) else item)
        for one in image if image.ndim == 4 else [image]:
            if one.ndim != 3 or one.shape[2] not in (1, 3, kind.shape[2]):
                raise InputError(f"representative: {one.shape}; give images [height, width, channels].")
            if one.shape != kind.shape and kind.prepare is None:
                raise InputError(f"representative: {one.shape}; give images of the network's size, {kind.shape}.")
            images.append(one if one.shape == kind.shape else kind.prepare(tf.constant(one))[0])
    if not images:
        raise InputError("representative: not one image; give some such as the network will see.")
    return np.stack(images[:REPRESENTATIVE]).astype("float32")


def _convert(kind, quantization, canvases):
    archive = keras.export.ExportArchive()
    archive.track(kind.network)
    archive.add_endpoint("serving_default", kind.answer, input_signature=kind.specs(
        1, tf.TensorSpec([1, *kind.shape], tf.float32, name="image")))
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        archive.write_out(str(folder / "saved"), verbose=False)
        if quantization == "int8":
            places = isinstance(kind.network.output, dict) and {"boxes", "keypoints"} & set(kind.network.output)
            return int8.converted(folder, canvases, _regions(kind), convolutions_only=bool(places))
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"), signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantization:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
    finally:
        shutil.rmtree(folder)


def _blocks(shape):
    """Coarse coloured noise."""
    height, width, channels = shape
    tile = -(-min(height, width) // 8)
    noise = np.random.default_rng(0).uniform(0, 255, (-(-height // tile), -(-width // tile), channels))
    return noise.astype("float32").repeat(tile, 0).repeat(tile, 1)[:height, :width]


def _regions(kind):
    """What a detector of proposals is given with an image: its whole and each quarter, at the beginning and at the end
    of the rows, those between being zeros."""
    if not kind.regions:
        return {}
    x, y = kind.shape[1] / 2, kind.shape[0] / 2
    some = [[0, 0, 2 * x, 2 * y], [0, 0, x, y], [x, 0, 2 * x, y], [0, y, x, 2 * y], [x, y, 2 * x, 2 * y]]
    rows = np.zeros((1, kind.regions, 4), "float32")
    rows[0, :len(some)] = some[:kind.regions]
    if kind.regions >= 2 * len(some):
        rows[0, -len(some):] = np.float32(some) * 0.9
    return {"proposals": rows}


def _try(kind, interpreter, tolerance, image):
    """Runs the file and the model on one image; converters have been known to lose the weights silently."""
    given = {"image": image, **_regions(kind)}
    want = {name: value.numpy() for name, value in kind.answer(*given.values()).items()}
    got = interpreter.get_signature_runner("serving_default")(**given)
    difference = kind.difference(want, got)
    if not difference <= tolerance:
        raise RuntimeError(f"the TFLite file differs from {kind.network.name} by {difference:.3g} in what it answers "
                           f"(at most {tolerance:g} is accepted); it was not written.")
