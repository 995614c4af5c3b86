"""What a network answers to other programs, by its kind: detector, poses, segmenter, classifier, or features."""

from typing import Callable, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_cnns import models
from keras_cnns.data import images, persons, segmented
from keras_cnns.errors import InputError
from keras_cnns.ops import masks

POINT = tf.TensorSpec([2])


class Kind(NamedTuple):
    """How one kind of network is asked and answers; its canvas has the network's size."""

    network: keras.Model  # canvas `[B, *shape]` -> what the answer is made of
    answer: Callable  # canvas `[B, *shape]` -> the answer, a dict
    difference: Callable  # of two answers, arrays: by how much the second misses the first
    prepare: Callable = None  # image of any size, `[..., H, W, C]` -> canvas and what else is known, a tuple
    prepared: tuple = ()  # the specs of that, of one image
    prepared_answer: Callable = None  # of that, of a batch -> the answer
    classes: int = None  # of a classifier, of a segmenter's pixels, or joints
    whole: Callable = None  # images of any size, `[B, H, W, C]` -> the answer at their size, nothing being prepared
    regions: int = None  # of a detector of proposals: at most so many, `[B, R, 4]`, which go wherever the image goes
    encoded: Callable = None  # an image of any size, `[H, W, 3]` -> encoded answers, strings: as many have many sizes

    @property
    def shape(self):
        """Of the canvas: `(height, width, channels)`."""
        return tuple(self.network.inputs[0].shape[1:])

    def specs(self, batch, image):
        """What a signature takes of which an image, a spec, is the first: it, and of a detector of proposals these."""
        count = [None] if batch is None else [self.regions]
        return [image] + ([] if self.regions is None else [tf.TensorSpec([batch, *count, 4], name="proposals")])


def kind_of(model):
    """The `Kind` of a model.

    Raises:
      InputError: it is of none, or its input has no fixed size.
    """
    regions = [each.name for each in model.inputs] == ["image", "proposals"]
    if (len(model.inputs) != 1 and not regions) or len(model.inputs[0].shape) != 4:
        raise InputError(f"{model.name}: networks of one image can be exported, this has the inputs "
                         f"{', '.join(each.name for each in model.inputs)}; of a detector give the graph that "
                         "keras_cnns.detector(network) returns.")
    if None in model.inputs[0].shape[1:]:
        raise InputError(f"{model.name}: an exported network needs an input of fixed size, this has "
                         f"{model.inputs[0].shape[1:]}; build it with an input_shape such as (224, 224, 3).")
    output = model.output
    if isinstance(output, dict) and {"boxes", "scores", "labels", "count"} <= set(output):
        return _detector(model)
    if isinstance(output, dict) and set(output) == {"keypoints"}:
        return _poses(model)
    if isinstance(output, dict) and isinstance(output.get("predictions"), keras.KerasTensor):
        model = keras.Model(model.input, output["predictions"], name=model.name)
    if not isinstance(model.output, keras.KerasTensor):
        raise InputError(f"{model.name}: detectors, classifiers and networks of one output can be exported, this is "
                         "none; of a detector give the graph that keras_cnns.detector(network) returns.")
    if model.output_names == ["predictions"]:
        return _classifier(model) if len(model.output.shape) == 2 else _segmenter(model)
    return _features(model)


def _detector(model):
    height, width, _ = shape = model.inputs[0].shape[1:]
    regions = model.input["proposals"].shape[1] if isinstance(model.input, dict) else None
    fit = images.stretched if models.stretched(model) else images.letterbox

    def prepare(image):
        """The canvas, its scale, and the image's sides: height, width."""
        sides = tf.cast(tf.shape(image)[-3:-1], tf.float32)
        canvas, scale = fit(images.of_channels(tf.cast(image, tf.float32), 3), shape[:2])
        return images.of_channels(canvas, shape[-1]), scale, sides

    def seen(canvas, proposals):
        """What the model says of a canvas, and proposals in its pixels, filled up with rows of zeros."""
        if regions is None:
            return model(canvas, training=False)
        count = tf.shape(proposals)[1]
        with tf.control_dependencies([tf.debugging.Assert(
                count <= regions, ["proposals:", count, "are more than the", regions, "that the network takes."])]):
            proposals = tf.pad(proposals, [[0, 0], [0, regions - count], [0, 0]])
        proposals = tf.ensure_shape(proposals, [None, regions, 4])
        return model({"image": canvas, "proposals": proposals}, training=False)

    def answer(canvas, scale, sides, proposals=None):
        """Boxes from the canvas to the image: scale `[..., 2]` as `fit` gives it, sides (height, width)."""
        factor = tf.concat([scale, scale], -1)[..., None, :]
        found = seen(canvas, None if proposals is None else proposals * factor)
        limit = tf.concat([sides, sides], -1)[..., None, ::-1]  # x before y
        whole = found["boxes"] / factor
        boxes = tf.minimum(whole, limit)
        found = with_joints(found, whole) | {"boxes": boxes}
        if "masks" in found:
            found["masks"] = masks.cut(found["masks"], whole, boxes)
        # What lies in the margin beside the image is none of it: such rows go to the end and are emptied.
        real = tf.reduce_min(boxes[..., 2:] - boxes[..., :2], -1) >= 1.0  # pixel
        order = tf.argsort(tf.cast(~real, tf.int32), axis=-1, stable=True)
        real = tf.gather(real, order, batch_dims=1)
        kept = {key: tf.gather(found[key], order, batch_dims=1) for key in found if key != "count"}
        kept = {key: tf.where(real[(..., *[None] * (value.shape.rank - 2))], value, tf.zeros_like(value))
                for key, value in kept.items()}
        kept["count"] = tf.reduce_sum(tf.cast(real, tf.int32), -1)
        return detections(kept, sides[..., :1], sides[..., 1:])

    def difference(want, got):  # of scores, best to worst: boxes of equal ones may change places
        return np.abs(np.sort(got["detection_scores"]) - np.sort(want["detection_scores"])).max()

    def canvas_answer(canvas, proposals=None):
        found = model(canvas if regions is None else {"image": canvas, "proposals": proposals}, training=False)
        return detections(with_joints(found, found["boxes"]), float(height), float(width))

    return Kind(model, canvas_answer, difference, prepare, (tf.TensorSpec(shape), POINT, POINT), answer,
                regions=regions)


def with_joints(found, boxes):
    """A detector's answer with keypoints `[B, N, J, 3]` (x, y, a logit) for heat maps: the hottest cell's middle."""
    if "heatmaps" not in found:
        return dict(found)
    size, joints = found["heatmaps"].shape[3:]
    hot = tf.reshape(found["heatmaps"], (-1, found["heatmaps"].shape[1], size * size, joints))
    best = tf.argmax(hot, 2, tf.int32)
    cell = tf.cast(tf.stack([best % size, best // size], -1), tf.float32) + 0.5
    place = boxes[..., None, :2] + cell * ((boxes[..., 2:] - boxes[..., :2]) / size)[..., None, :]
    found = {key: value for key, value in found.items() if key != "heatmaps"}
    return found | {"keypoints": tf.concat([place, tf.reduce_max(hot, 2)[..., None]], -1)}


def detections(found, height, width):
    """A detector's answer, boxes in pixels, under the served names, boxes in 0...1 of `height` and `width`."""
    x1, y1, x2, y2 = tf.unstack(found["boxes"], axis=-1)
    boxes = tf.stack([y1 / height, x1 / width, y2 / height, x2 / width], -1)
    answer = {"detection_boxes": tf.minimum(boxes, 1.0),
              "detection_scores": found["scores"],
              "detection_classes": tf.cast(found["labels"], tf.float32),
              "num_detections": tf.cast(found["count"], tf.float32)}
    if "masks" in found:
        answer["detection_masks"] = found["masks"]
    if "keypoints" in found:
        x, y, score = tf.unstack(found["keypoints"], axis=-1)
        sides = tf.convert_to_tensor(height)[..., None], tf.convert_to_tensor(width)[..., None]
        answer["detection_keypoints"] = tf.stack([y / sides[0], x / sides[1]], -1)
        answer["detection_keypoint_scores"] = score
    return answer


def _poses(model):
    """Of one person, who fills most of the image: all of it is shown, in the middle of the canvas."""
    size, joints = model.input_shape[1:3], model.output["keypoints"].shape[1]

    def prepare(image):
        """The canvas, its frame in the image, and the image's sides: height, width."""
        sides = tf.shape(image)[-3:-1]
        frame = persons.whole(sides, size)
        return persons.seen(image, frame, size), frame, tf.cast(sides, tf.float32)

    def answer(canvas, frame, sides):
        found = model(canvas, training=False)["keypoints"]
        x, y = tf.unstack(persons.in_image(found, frame, size) / sides[..., None, ::-1], axis=-1)
        return {"keypoints": tf.stack([y, x], -1), "keypoint_scores": found[..., 2]}

    def canvas_answer(canvas):
        x, y, heat = tf.unstack(model(canvas, training=False)["keypoints"], axis=-1)
        return {"keypoints": tf.stack([y / size[0], x / size[1]], -1), "keypoint_scores": heat}

    # Not of places, which of two cells alike may be either's.
    return Kind(model, canvas_answer, _relative("keypoint_scores"), prepare,
                (tf.TensorSpec(model.input_shape[1:]), tf.TensorSpec([3]), POINT), answer, joints)


def _classifier(model):
    shape = model.input_shape[1:]
    logits = model.get_layer("predictions").activation is keras.activations.linear
    name = "logits" if logits else "probabilities"

    def answer(canvas):
        values = model(canvas, training=False)
        return {name: values, "classes": tf.argmax(values, -1, tf.int32)}

    kind = Kind(model, answer, _relative(name), classes=model.output_shape[-1])
    if shape[-1] not in (1, 3):  # neither grey nor RGB: no JPEG shows it
        return kind
    return kind._replace(prepare=lambda image: (images.central(image, shape),), prepared=(tf.TensorSpec(shape),),
                         prepared_answer=answer)


def _segmenter(model):
    shape, size = model.input_shape[1:], model.output_shape[1:3]
    name = "logits" if model.get_layer("predictions").activation is keras.activations.linear else "probabilities"

    def answer(canvas):
        return told(model(canvas, training=False))

    def whole(image):
        return told(segmented.whole(lambda canvas: model(canvas, training=False), image, shape, size))

    def told(values):
        return {name: values, "labels": tf.argmax(values, -1, tf.int32)}

    def encoded(image):
        return {"label_maps": tf.io.encode_png(tf.cast(whole(image[None])["labels"][0, ..., None], tf.uint8))}

    kind = Kind(model, answer, _relative(name), classes=model.output_shape[-1])
    if shape[-1] not in (1, 3):
        return kind

    def prepare(image):
        return (segmented.canvas(image, shape)[0] if size == shape[:2] else segmented.middle(image, shape),)

    return kind._replace(prepare=prepare, whole=whole, encoded=encoded)


def _features(model):
    return Kind(model, lambda canvas: {"features": tf.cast(model(canvas, training=False), tf.float32)},
                _relative("features"))


def _relative(name):
    """The largest difference of an output, as a share of its largest number."""
    return lambda want, got: np.abs(got[name] - want[name]).max() / max(np.abs(want[name]).max(), 1e-12)
