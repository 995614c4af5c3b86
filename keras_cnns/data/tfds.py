"""Any set of images of TensorFlow Datasets (tensorflow.org/datasets), read by what it says of its features.

`Image` is the image, `ClassLabel` its class, a `Sequence` with a `BBoxFeature` its objects, a second image of one
channel (or a `LabeledImage`) its segmentation. Boxes there are ymin, xmin, ymax, xmax in 0..1, labels from 0: ours are
pixels, to a thousandth (so that whole ones come back whole), and 1..K. Objects with `is_crowd`, `is_difficult` or
`is_group_of` are `ignored`. A box has the corners that the set gives it: its voc keeps the 1-based, inclusive ones.
What else is told of the objects is in `details`, flags by the names that COCO and VOC have for them (`FLAGS`), classes
of another kind, such as voc's pose, by their names, None where there is none.

`detection`, `classification` and `segmentation` stream from disk, however large the set; `samples` holds all encoded
images in memory. A set that is not on the disk yet is downloaded and prepared by TensorFlow Datasets, which takes as
long and as much room as it takes there; `data_dir` is where it lies, by default ~/tensorflow_datasets.
"""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_cnns.data import images
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, LabelImage, Sample, few
from keras_cnns.errors import InputError

IMAGE_IDS = ("image/filename", "image/file_name", "file_name", "filename", "image_id", "image/id", "id")
IGNORED = ("is_crowd", "is_difficult", "is_group_of")
FLAGS = {"is_crowd": "iscrowd", "is_difficult": "difficult", "is_truncated": "truncated", "is_occluded": "occluded"}
WINDOW = 1000  # encoded images among which shuffling chooses; the sets are shuffled once when they are prepared


def detection(name, split="train", data_dir=None, shuffle=False, seed=0, class_names=None):
    """Unbatched `tf.data.Dataset` of images and their objects, in the order of the prepared files.

    Elements as of `samples.dataset`. Images are not checked before; one that cannot be decoded stops the iteration
    with an error that names it: a stream cannot leave any out, as `samples` can.

    Args:
      name: such as "coco/2017", "voc/2012:5.0.0". split: such as "train", "validation[:10%]".
      data_dir: where the prepared sets lie.
      shuffle: another order, the same for the same seed and in every pass.
      class_names: labels 1..K in this order, all of the set's own among them; by default those of `class_names(name)`.

    Raises:
      InputError: the set is unknown, cannot be prepared, has no boxes, or a class that is not in class_names.
    """
    builder, plan = _prepared(name, data_dir)
    plan = _in_order(name, builder, _needed(name, plan, "objects"), class_names)
    return _stream(name, builder, plan, split, shuffle, seed)


def classification(name, split="train", data_dir=None, shuffle=False, seed=0, class_names=None):
    """As `detection`, but with `label`, 0..K-1, and without objects."""
    builder, plan = _prepared(name, data_dir)
    plan = _in_order(name, builder, _needed(name, plan, "label"), class_names)
    return _stream(name, builder, plan, split, shuffle, seed)


def segmentation(name, split="train", data_dir=None, values=None, shuffle=False, seed=0):
    """As `detection`, but with `segmentation` and without objects.

    Args:
      values: what the numbers of the set mean, {number: 0 background, 1..K or 255}; by default themselves. Those of
        oxford_iiit_pet are {1: 1, 2: 0, 3: 255}: animal, background, border.
    """
    builder, plan = _prepared(name, data_dir)
    return _stream(name, builder, _needed(name, plan, "mask"), split, shuffle, seed, values)


def samples(name, split="train", data_dir=None, on_bad_sample="stop", values=None, class_names=None):
    """All that a set tells of a split's images, whose encoded bytes are in memory: coco's train takes 18 GB.

    Args:
      on_bad_sample: "stop" raises at the first image with a bad annotation, "skip" goes on without.
      class_names: as of `detection`, for the objects, or where the set has none, for the images.
      The others as of `segmentation`.

    Returns:
      `(samples, skipped)`: a list of `Sample`, and one line on each that was skipped.

    Raises:
      InputError: one line.
    """
    builder, plan = _prepared(name, data_dir)
    plan = _in_order(name, builder, plan, class_names)
    examples = _numbered(name, _examples(name, builder, plan, split))
    read = sample_data.attempt(lambda i, example: _sample(name, split, i, example, plan, values))
    return sample_data.sift((read(i, example) for i, example in examples), on_bad_sample)


def class_names(name, data_dir=None, task="detection"):
    """Names of the labels: 1..K of "detection" and "segmentation", 0..K-1 of "classification".

    Objects without classes, such as wider_face's, have one, called as they are all together. Of masks the name of
    0, the background, is left out.
    """
    part = {"detection": "objects", "classification": "label", "segmentation": "mask"}.get(task)
    if part is None:
        raise InputError(f"No task {task!r}. Known: 'detection', 'classification', 'segmentation'.")
    features = _builder(name, data_dir).info.features
    plan = _needed(name, _plan(name, features), part)
    if task != "segmentation":
        return _own_names(features, plan)
    if not getattr(features[plan.mask], "names", None):
        raise InputError(f"{name}: does not name the classes of its {plan.mask}; give them yourself")
    return list(features[plan.mask].names)[1:]


class _Plan(NamedTuple):
    """The features by which a set is read; None where it has none."""

    image: str
    image_id: str | None
    label: str | None  # class of the image
    mask: str | None
    objects: str | None
    inner: tuple = ()  # of objects, all that are plain values:
    box: str | None = None
    kind: str | None = None  # class of an object
    named: dict = {}  # of inner, further classes: their names
    units: tuple | None = None  # labels 0..K-1 for the set's own, of objects, or of images without; None: same


PARTS = {"label": "one class an image", "objects": "boxes", "mask": "one label image an image"}


def _needed(name, plan, part):
    """The plan with only this part of what images can have."""
    if getattr(plan, part) is None:
        found = few([words for key, words in PARTS.items() if getattr(plan, key)]) or "nothing but images"
        raise InputError(f"{name}: has {found} that can be read, not {PARTS[part]}; choose another set or task")
    return plan._replace(**{key: None for key in PARTS if key != part})


def _plan(name, features):
    import tensorflow_datasets

    kinds = tensorflow_datasets.features

    def of(kind, among):
        return [key for key, feature in among.items() if isinstance(feature, kind)]

    features = dict(sorted(features.items())) if isinstance(features, kinds.FeaturesDict) else {}
    pictures = of(kinds.Image, features)
    masks = [key for key in pictures if features[key].shape[-1] == 1]
    image = _one([key for key in pictures if key not in masks] or masks, "image")
    if image is None:
        what = f"the images {few(pictures)}" if pictures else "no image"
        raise InputError(f"{name}: has {what}, expected one; choose another set")
    if features[image].np_dtype != np.uint8:
        raise InputError(f"{name}: its {image} is of {np.dtype(features[image].np_dtype)}, expected uint8; choose "
                         "another set")
    plan = _Plan(
        image, next((key for key in IMAGE_IDS if key in features and features[key].shape == ()), None),
        label=_one(of(kinds.ClassLabel, features), "label"),
        mask=_one([key for key in masks if key != image], "segmentation_mask"),
        objects=None)
    lists = {key: dict(sorted(features[key].feature.items())) for key in of(kinds.Sequence, features)
             if isinstance(features[key].feature, kinds.FeaturesDict)}
    objects = _one([key for key, inner in lists.items() if of(kinds.BBoxFeature, inner)], "objects")
    inner = lists.get(objects, {})
    box = _one(of(kinds.BBoxFeature, inner), "bbox")
    if box is None:
        return plan
    if inner[box].bbox_format != kinds.BBoxFeature().bbox_format:
        raise InputError(f"{name}: its boxes are {inner[box].bbox_format}, expected ymin, xmin, ymax, xmax in 0..1; "
                         "choose another set")
    classes = of(kinds.ClassLabel, inner)
    kind = _one(classes, "label") or _one(classes, "type")
    if classes and not kind:  # several, none of which says that it is the class
        return plan
    return plan._replace(
        objects=objects, inner=tuple(of(kinds.Tensor, inner)), box=box, kind=kind,
        named={key: list(inner[key].names) for key in classes if key != kind})


def _own_names(features, plan):
    """The set's own names for the classes of its objects, or of its images where there are none."""
    if plan.objects:
        return list(features[plan.objects].feature[plan.kind].names) if plan.kind else [plan.objects]
    return list(features[plan.label].names) if plan.label else []


def _in_order(name, builder, plan, names):
    """The plan by which labels are counted in the order of these names."""
    if names is None:
        return plan
    names, own = list(names), _own_names(builder.info.features, plan)
    unknown = [each for each in own if each not in names]
    if unknown:
        raise InputError(f"{name}: has the classes {few(unknown)}, which are not in class_names ({few(names)}); give "
                         "all names of the set, or choose another set")
    return plan._replace(units=tuple(names.index(each) for each in own))


def _one(keys, usual):
    """The usual one of several, the only one, or None."""
    return usual if usual in keys else keys[0] if len(keys) == 1 else None


def _builder(name, data_dir):
    try:
        import tensorflow_datasets
    except ImportError:
        raise InputError(f"{name}: TensorFlow Datasets is not installed; pip install 'keras-cnns[tfds]'") from None
    try:
        return tensorflow_datasets.builder(name, data_dir=data_dir)
    except Exception as error:  # it raises what it pleases, down to AssertionError
        raise InputError(f"{name}: no such set of TensorFlow Datasets ({_first_line(error)}); its catalogue is at "
                         "tensorflow.org/datasets/catalog") from None


def _prepared(name, data_dir):
    builder = _builder(name, data_dir)
    plan = _plan(name, builder.info.features)
    try:
        builder.download_and_prepare()  # does nothing where it is done
    except ImportError as error:
        raise InputError(f"{name}: cannot be prepared ({_first_line(error)}); pip install {error.name}") from None
    except Exception as error:
        raise InputError(f"{name}: cannot be prepared ({_first_line(error)}); run `tfds build {name}` where there is a "
                         f"network, and name the folder it makes with data_dir=") from None
    return builder, plan


def _examples(name, builder, plan, split):
    """The set's own dataset, of no more than the plan says, images still encoded."""
    import tensorflow_datasets

    keys = {key: True for key in (plan.image, plan.image_id, plan.label, plan.mask) if key}
    if plan.objects:
        keys[plan.objects] = {key: True for key in plan.inner}
    encoded = {key: tensorflow_datasets.decode.SkipDecoding() for key in (plan.image, plan.mask) if key}
    try:
        if not isinstance(split, str):  # None would give all splits, each for itself
            raise TypeError("expected its name")
        return builder.as_dataset(
            split=split, shuffle_files=False,
            decoders=tensorflow_datasets.decode.PartialDecoding(keys, decoders=encoded))
    except Exception as error:
        known = few(builder.info.splits) or "none"
        raise InputError(f"{name}: no split {split!r} ({_first_line(error)}). Known: {known}; choose one, or a part "
                         "of one as train[:10%]") from None


def _numbered(name, examples):
    try:
        yield from enumerate(examples)
    except tf.errors.OpError as error:
        raise InputError(f"{name}: its prepared files cannot be read ({_first_line(error)}); prepare the set "
                         "anew") from None


def _stream(name, builder, plan, split, shuffle, seed, values=None):
    def element(i, example):
        image_id = _image_id(plan, split, i, example)
        found = sample_data.decoded({
            "image": example[plan.image], "name": tf.strings.join([f"{name}: image ", image_id]), "image_id": image_id})
        found |= _annotations(example, plan, tf.shape(found["image"])[:2])
        tf.debugging.assert_positive(found["labels"], f"{name}: an object without a class")
        tf.debugging.assert_non_negative(found.get("label", 0), f"{name}: an image without a class")
        if plan.mask:
            def numbers(encoded):
                return sample_data.segmentation(Sample("", b"", segmentation=LabelImage(encoded, values)))

            found["segmentation"] = tf.ensure_shape(
                tf.numpy_function(numbers, [example[plan.mask]], tf.uint8), [None, None])
        return found

    examples = _examples(name, builder, plan, split).enumerate()
    if shuffle:
        examples = examples.shuffle(WINDOW, seed, reshuffle_each_iteration=False)
    return examples.map(element, tf.data.AUTOTUNE, deterministic=True)


def _sample(name, split, i, example, plan, values):
    image_id = os.fsdecode(_image_id(plan, split, i, example).numpy())
    where = f"{name}: image {image_id!r}"
    contents = example[plan.image].numpy()
    size = images.upright_size(contents, where, REMEDY)
    found = {key: value.numpy() for key, value in _annotations(example, plan, size).items()}
    x1, y1, x2, y2 = found["boxes"].T
    for number in np.flatnonzero((x2 <= x1) | (y2 <= y1)):
        raise InputError(f"{where}: object {number + 1}: box {found['boxes'][number].tolist()} has no area; {REMEDY}")
    for number in np.flatnonzero(found["labels"] < 1):
        raise InputError(f"{where}: object {number + 1} has no class; {REMEDY}")
    if found.get("label", 0) < 0:
        raise InputError(f"{where}: has no class; {REMEDY}, or choose another split")
    return Sample(
        image_id, contents, size, found["boxes"], found["labels"], found["ignored"],
        {FLAGS.get(key, key): _detail(key, example[plan.objects][key], plan)
         for key in plan.inner if key not in (plan.box, plan.kind)},
        segmentation=LabelImage(example[plan.mask].numpy(), values) if plan.mask else None,
        label=int(found["label"]) if plan.label else None)


def _image_id(plan, split, i, example):
    if not plan.image_id:
        return tf.strings.join([f"{split}-", tf.strings.as_string(i, width=5, fill="0")])
    image_id = example[plan.image_id]
    return image_id if image_id.dtype == tf.string else tf.strings.as_string(image_id)


def _annotations(example, plan, size):
    """Boxes, labels, ignored, and label where there is one, of an image of a size `(height, width)`."""
    found = {"boxes": tf.zeros([0, 4]), "labels": tf.zeros([0], tf.int32), "ignored": tf.zeros([0], tf.bool)}
    if plan.objects:
        objects = example[plan.objects]
        height, width = tf.unstack(tf.cast(size, tf.float64))
        y1, x1, y2, x2 = tf.unstack(tf.cast(objects[plan.box], tf.float64), axis=-1)
        boxes = tf.stack([x1 * width, y1 * height, x2 * width, y2 * height], -1)
        found["boxes"] = tf.cast(tf.round(1000 * boxes) / 1000, tf.float32)
        kinds = objects[plan.kind] if plan.kind else tf.zeros_like(x1)
        found["labels"] = _units(plan, tf.cast(kinds, tf.int32)) + 1
        flags = [tf.cast(objects[key], tf.int32) > 0 for key in IGNORED if key in plan.inner]
        found["ignored"] = tf.reduce_any(tf.stack([tf.zeros_like(x1, tf.bool), *flags]), 0)
    if plan.label:
        label = tf.cast(example[plan.label], tf.int32)
        found["label"] = label if plan.objects else _units(plan, label)
    return found


def _units(plan, numbers):
    """Labels 0..K-1 for the set's own numbers; -1, no class, stays."""
    return numbers if plan.units is None else tf.gather(tf.constant([-1, *plan.units]), numbers + 1)


def _detail(key, values, plan):
    values = values.numpy().tolist()
    if key in plan.named:
        return [plan.named[key][value] if value >= 0 else None for value in values]
    if key in FLAGS:
        return [int(value) if isinstance(value, bool) else value for value in values]
    return [os.fsdecode(value) if isinstance(value, bytes) else value for value in values]


def _first_line(error):
    line = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    return line if len(line) <= 200 else f"{line[:197]}..."
