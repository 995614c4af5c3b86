"""Export for TensorFlow Serving: one folder a version, two doors to the same graph."""

import os
import pathlib
import shutil

import keras
import tensorflow as tf

from keras_cnns import wire
from keras_cnns.data import images
from keras_cnns.errors import InputError


def saved_model(model, directory, labels=None):
    """Writes `directory/<version>/`, the next free whole number, which appears complete or not at all.

    Signatures, both with a free batch size:
      serving_default  image: float32 `[B, H, W, 3]`, RGB 0 to 255, of any size, B images of one size.
      jpeg             jpeg: `[B]` strings, each an encoded JPEG or PNG of any size.
    Both scale the images to the network's size themselves and answer, under the names of TensorFlow's
    object-detection exports, all float32:
      detection_boxes `[B, N, 4]`, (ymin, xmin, ymax, xmax) in 0...1 of each original image;
      detection_scores `[B, N]`, best first; detection_classes `[B, N]`, 1...K, 0 in the padding;
      num_detections `[B]`.

    `assets.extra/` holds a warm-up request for each signature, and `labels.txt` if `labels` are given.

    Args:
      model: the inference graph of a detector, as `keras_cnns.detector` returns it.
      directory: of the model, e.g. "saved_models/faster_rcnn_resnet18".
      labels: class names, 1...K in order.

    Returns:
      the path of the new version.

    Raises:
      InputError: not a detector's graph, or the directory cannot be written.
    """
    require_detector(model)
    directory = pathlib.Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        version = 1 + max((int(p.name) for p in directory.iterdir() if p.name.isdigit()), default=0)
        aside = directory / f".{version}.writing"  # not a number: no server looks at it
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror}); name a folder that can.") from None
    try:
        _archive(model).write_out(str(aside), verbose=False)
        extra = aside / "assets.extra"
        extra.mkdir()
        _write_warm_up(extra / "tf_serving_warmup_requests", directory.name, model.input_shape[1:3])
        if labels is not None:
            (extra / "labels.txt").write_text("".join(f"{name}\n" for name in labels))
        os.rename(aside, directory / str(version))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return directory / str(version)


def require_detector(model):
    """InputError unless the model's outputs are a detector's."""
    outputs = model.output if isinstance(model.output, dict) else {}
    if not {"boxes", "scores", "labels", "count"} <= set(outputs):
        raise InputError(f"{model.name}: only detectors can be exported; give the graph that "
                         "keras_cnns.detector(network) returns.")


def served(found, height, width):
    """A detector's answer, boxes in pixels, under the served names, boxes in 0...1 of `height` and `width`."""
    x1, y1, x2, y2 = tf.unstack(found["boxes"], axis=-1)
    boxes = tf.stack([y1 / height, x1 / width, y2 / height, x2 / width], -1)
    return {"detection_boxes": tf.minimum(boxes, 1.0),
            "detection_scores": found["scores"],
            "detection_classes": tf.cast(found["labels"], tf.float32),
            "num_detections": tf.cast(found["count"], tf.float32)}


def _archive(model):
    size = model.input_shape[1:3]

    def answer(canvas, scale, sides):
        """Boxes from the canvas to the image: scale `[..., 2]` as `letterbox` gives it, sides (height, width)."""
        found = model(canvas, training=False)
        factor = tf.concat([scale, scale], -1)[..., None, :]
        limit = tf.concat([sides, sides], -1)[..., None, ::-1]  # x before y
        boxes = tf.minimum(found["boxes"] / factor, limit)
        # What lies in the margin beside the image is none of it: such rows go to the end and are emptied.
        real = tf.reduce_min(boxes[..., 2:] - boxes[..., :2], -1) >= 1.0  # pixel
        order = tf.argsort(tf.cast(~real, tf.int32), axis=-1, stable=True)
        real = tf.gather(real, order, batch_dims=1)
        kept = {"boxes": boxes, "scores": found["scores"], "labels": found["labels"]}
        kept = {key: tf.gather(value, order, batch_dims=1) for key, value in kept.items()}
        kept = {key: tf.where(real[..., None] if key == "boxes" else real, value, tf.zeros_like(value))
                for key, value in kept.items()}
        kept["count"] = tf.reduce_sum(tf.cast(real, tf.int32), -1)
        return served(kept, sides[..., :1], sides[..., 1:])

    def from_pixels(image):
        canvas, scale = images.letterbox(image, size)
        return answer(canvas, scale, tf.cast(tf.shape(image)[1:3], tf.float32))

    def decode(numbered):
        index, data = numbered
        known = tf.io.is_jpeg(data) | (tf.strings.substr(data, 0, 4) == b"\x89PNG")
        with tf.control_dependencies([tf.debugging.Assert(
                known, ["Image", index, "of the batch is neither a JPEG nor a PNG."])]):
            image = tf.io.decode_image(data, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        return *images.letterbox(image, size), tf.cast(tf.shape(image)[:2], tf.float32)

    def from_encoded(jpeg):
        canvas, scale, sides = tf.map_fn(decode, (tf.range(tf.size(jpeg)), jpeg), fn_output_signature=(
            tf.TensorSpec([*size, 3]), tf.TensorSpec([2]), tf.TensorSpec([2])))
        return answer(canvas, scale, sides)

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", from_pixels, input_signature=[
        tf.TensorSpec([None, None, None, 3], tf.float32, name="image")])
    archive.add_endpoint("jpeg", from_encoded, input_signature=[tf.TensorSpec([None], tf.string, name="jpeg")])
    return archive


def _write_warm_up(path, name, size):
    """A request for each signature, so that no user waits for the first."""
    grey = tf.fill([*size, 3], tf.constant(128, tf.uint8))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, key, value in (("serving_default", "image", grey.numpy()[None].astype("float32")),
                                      ("jpeg", "jpeg", [tf.io.encode_jpeg(grey).numpy()])):
            log = wire.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            request.inputs[key].CopyFrom(wire.to_tensor(value))
            writer.write(log.SerializeToString())
