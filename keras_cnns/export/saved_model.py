"""Export for TensorFlow Serving: one folder a version, two doors to the same graph."""

import os
import pathlib
import shutil

import keras
import numpy as np
import tensorflow as tf

from keras_cnns import wire
from keras_cnns.errors import InputError
from keras_cnns.export import answers


def saved_model(model, directory, labels=None):
    """Writes `directory/<version>/`, the next free whole number, which appears complete or not at all.

    Signatures, both with a free batch size:
      serving_default  image: float32 `[B, H, W, C]`, RGB or grey as the network takes it, 0 to 255, of any size,
        B images of one size.
      jpeg             jpeg: `[B]` strings, each an encoded JPEG or PNG of any size; its pixels as they are stored: who
        has photographs that EXIF turns, sends them upright, as `keras-cnns query` does.
    Both bring the images to the network's size themselves. A detector of proposals takes these in both, as well:
      proposals        float32 `[B, R, 4]`, (x1, y1, x2, y2) in pixels of each image, R at most the network's number;
                       rows of zeros are none.

    A detector is shown them whole (`data.images.letterbox`; SSD: `stretched`) and answers, under the names of
    TensorFlow's object-detection exports, all float32:
      detection_boxes `[B, N, 4]`, (ymin, xmin, ymax, xmax) in 0...1 of each original image;
      detection_scores `[B, N]`, best first; detection_classes `[B, N]`, 1...K, 0 in the padding;
      num_detections `[B]`; where it finds them, detection_masks `[B, N, 28, 28]`, probabilities 0 to 1 over each box;
      or detection_keypoints `[B, N, J, 2]`, (y, x) in 0...1 of the image, and detection_keypoint_scores `[B, N, J]`,
      logits.

    A network of poses (`keras_cnns.detector(network)` of one) is shown the whole image, which one person shall fill, in
    the middle of its canvas (`data.persons.whole`), and answers, float32:
      keypoints `[B, J, 2]`, (y, x) in 0...1 of each original image; keypoint_scores `[B, J]`, heat, about 0 to 1.

    A classifier is shown the middle (`data.images.central`; an image of exactly the network's size goes in as it is)
    and answers, its auxiliary heads left away:
      probabilities `[B, K]`, float32, in the order of the classes ("logits" of a network without activation);
      classes `[B]`, int32, of each image the best, 0...K-1: one number, not K sorted ones, which could be taken
        for the names of the K probabilities beside them; and no strings, which TFLite has none of.

    A segmenter sees images as `data.segmented.whole` has it, letterboxed, or in tiles where its answer is for the
    middle of what it is shown, as U-Net's, and answers to serving_default, of the images' size:
      probabilities `[B, H, W, K]`, float32, 0 the background; labels `[B, H, W]`, int32, of each pixel the best;
    and to jpeg, each of its image's size:
      label_maps `[B]`, strings, PNG files of the labels as grey levels.

    Any other network of one image and one output answers `features`, float32, to serving_default only, which then
    takes images of the network's own size; so does a classifier of neither 1 nor 3 channels.

    `assets.extra/` holds a warm-up request for each signature, and `labels.txt` if `labels` are given.

    Args:
      model: a classifier, headless or not; or the inference graph of a detector, as `keras_cnns.detector` returns it.
      directory: of the model, e.g. "saved_models/faster_rcnn_resnet18".
      labels: class names in order: of a detector 1...K, of a classifier or segmenter 0...K-1.

    Returns:
      the path of the new version.

    Raises:
      InputError: no such network, labels of another number than a classifier's classes, or the directory cannot be
        written.
    """
    kind = answers.kind_of(model)
    if labels is not None and kind.classes not in (None, len(labels)):
        raise InputError(f"{model.name}: {len(labels)} labels for {kind.classes} classes; give one a class.")
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
        _archive(kind).write_out(str(aside), verbose=False)
        extra = aside / "assets.extra"
        extra.mkdir()
        _write_warm_up(extra / "tf_serving_warmup_requests", directory.name, kind)
        if labels is not None:
            (extra / "labels.txt").write_text("".join(f"{name}\n" for name in labels))
        os.rename(aside, directory / str(version))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return directory / str(version)


def _archive(kind):
    archive = keras.export.ExportArchive()
    archive.track(kind.network)
    if kind.prepare is None:
        archive.add_endpoint("serving_default", kind.answer, input_signature=[
            tf.TensorSpec([None, *kind.shape], tf.float32, name="image")])
        return archive

    def from_pixels(image, *proposals):
        return kind.whole(image) if kind.whole else kind.prepared_answer(*kind.prepare(image), *proposals)

    def decode(numbered):
        index, data = numbered
        known = tf.io.is_jpeg(data) | (tf.strings.substr(data, 0, 4) == b"\x89PNG")
        with tf.control_dependencies([tf.debugging.Assert(
                known, ["Image", index, "of the batch is neither a JPEG nor a PNG."])]):
            image = tf.io.decode_image(data, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        return kind.encoded(image) if kind.encoded else kind.prepare(image)

    def from_encoded(jpeg, *proposals):
        numbered = tf.range(tf.size(jpeg)), jpeg
        if kind.encoded:
            return tf.map_fn(decode, numbered, fn_output_signature={"label_maps": tf.TensorSpec([], tf.string)})
        return kind.prepared_answer(*tf.map_fn(decode, numbered, fn_output_signature=kind.prepared), *proposals)

    archive.add_endpoint("serving_default", from_pixels, input_signature=kind.specs(
        None, tf.TensorSpec([None, None, None, kind.shape[-1]], tf.float32, name="image")))
    archive.add_endpoint("jpeg", from_encoded, input_signature=kind.specs(
        None, tf.TensorSpec([None], tf.string, name="jpeg")))
    return archive


def _write_warm_up(path, name, kind):
    """A request for each signature, so that no user waits for the first."""
    grey = tf.fill(kind.shape, tf.constant(128, tf.uint8))
    requests = [("serving_default", "image", grey.numpy()[None].astype("float32"))]
    if kind.prepare is not None:
        requests.append(("jpeg", "jpeg", [tf.io.encode_jpeg(grey).numpy()]))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, key, value in requests:
            log = wire.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            request.inputs[key].CopyFrom(wire.to_tensor(value))
            if kind.regions:
                whole = np.float32([[[0, 0, kind.shape[1], kind.shape[0]]]])
                request.inputs["proposals"].CopyFrom(wire.to_tensor(whole))
            writer.write(log.SerializeToString())
