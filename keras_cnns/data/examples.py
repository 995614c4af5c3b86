"""A sample to and from a `tf.train.Example` in the schema of the TensorFlow Model Garden.

Keys and units are those that the Garden's decoders and the Object Detection API read (official/vision/dataloaders,
official/vision/data, research/object_detection/dataset_tools): `image/encoded`, `image/object/bbox/xmin` as a share of
the width, `image/object/class/label` 1..K, `image/class/label` 0..K-1, `image/object/mask` a PNG of 0 and 1 an object,
`image/segmentation/class/encoded` a PNG of labels, and so on; of VOC `difficult`, `truncated` and `view` (the pose), of
COCO `is_crowd` and `area`, keypoints as `keypoint/x`, `y` and `visibility`. So the Garden trains on our files and we on
its.

What that schema cannot hold exactly stands beside it under `keras_cnns/...`, which others ignore: the pixels of boxes
and joints (`boxes`, `keypoints`), which objects are ignored (`ignored`), run lengths another encoder wrote (`rle`),
`image_id`, `present`, and `details` and `about` as JSON, whose tuples become lists. Where it is there, of the right
length, it counts: a tool that changes our files should take it out.

JPEG and PNG files are stored as they are. Other formats become PNG, and so does what EXIF turns: TensorFlow's
decoders ignore the turn, and the boxes would lie beside the objects.
"""

import hashlib
import io
import json
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns.data import images
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, LabelImage, Sample, few
from keras_cnns.errors import InputError

CROWD, DIFFICULT = "image/object/is_crowd", "image/object/difficult"
# Details of objects that the schema has room for: the reader's key, the schema's, and of what type.
ROOM = {"iscrowd": (CROWD, int), "difficult": (DIFFICULT, int), "truncated": ("image/object/truncated", int),
        "area": ("image/object/area", float), "pose": ("image/object/view", str)}
BOX = [f"image/object/bbox/{edge}" for edge in ("xmin", "ymin", "xmax", "ymax")]
JOINT = [f"image/object/keypoint/{part}" for part in ("x", "y", "visibility")]
NUMBER, NAME, MASK = "image/object/class/label", "image/object/class/text", "image/object/mask"
IMAGENET = "image/object/bbox/label"  # of the objects, where those of other schemas have NUMBER
SEGMENTATION = "image/segmentation/class/encoded"
KINDS = {
    **dict.fromkeys([*BOX, *JOINT[:2], "image/object/area", "keras_cnns/boxes", "keras_cnns/keypoints"], "float_list"),
    **dict.fromkeys([NUMBER, IMAGENET, CROWD, DIFFICULT, JOINT[2], "image/object/truncated", "image/height",
                     "image/width", "image/class/label", "keras_cnns/ignored", "keras_cnns/present"], "int64_list"),
    **dict.fromkeys(["image/encoded", "image/source_id", "image/filename", "image/class/text", "image/class/synset",
                     "image/object/view", NAME, MASK, SEGMENTATION, "keras_cnns/image_id", "keras_cnns/rle",
                     "keras_cnns/details", "keras_cnns/about"], "bytes_list")}


class Form(NamedTuple):
    """What the records of a set have in common."""

    names: tuple  # of the classes, in the order asked for
    ours: bool  # written by us and not changed since, as a manifest tells
    by_name: bool  # labels are looked up by the names beside them
    numbers: tuple  # what the records' labels 0 (background), 1, 2, ... are in that order
    masks: bool = False
    segmentation: bool = False
    joints: int | None = None
    label: bool = False
    present: bool = False

    @property
    def renumbered(self):
        return self.numbers != tuple(range(len(self.numbers)))


def fields(sample):
    """What a sample has of what `Form` tells, as a dict."""
    return {"masks": sample.masks is not None, "segmentation": sample.segmentation is not None,
            "joints": None if sample.keypoints is None else np.shape(sample.keypoints)[1],
            "label": sample.label is not None, "present": sample.present is not None}


def sound(sample, names):
    """The sample, its size known, if the schema can hold it and the reader will take it back.

    Raises:
      InputError: names the sample and what is wrong.
    """
    size = images.upright_size(sample.source, sample.name) if sample.size == (0, 0) else sample.size
    sample = sample._replace(size=tuple(map(int, size)))
    count = len(sample.labels)

    def refuse(text):
        raise InputError(f"{sample.name}: {text}; {REMEDY}")

    if not isinstance(sample.image_id, str) or not is_text(sample.image_id):
        refuse(f"image_id {sample.image_id!r} is no text")
    boxes = np.asarray(sample.boxes)
    if boxes.shape != (count, 4) or np.shape(sample.ignored) != (count,):
        refuse(f"boxes {list(boxes.shape)} and ignored {list(np.shape(sample.ignored))} of {count} labels")
    _look_at_boxes(boxes, sample.size, refuse)
    for label in sample.labels:
        if not 1 <= label <= len(names):
            refuse(f"label {label}, expected 1 to {len(names)}")
    if not (isinstance(sample.details, dict) and isinstance(sample.about, dict)):
        refuse("details or about is no dict")
    for key, values in sample.details.items():
        if not isinstance(values, (list, np.ndarray)) or len(values) != count:
            refuse(f"details[{key!r}] is no list of {count}, one an object")
    try:
        packed(sample.details), packed(sample.about)
    except (TypeError, ValueError, RecursionError) as error:
        refuse(f"details or about cannot be written as JSON ({error})")
    if sample.masks is not None and not isinstance(sample.masks, LabelImage):
        sizes = [list(mask["size"]) for mask in sample.masks]
        if sizes != [list(sample.size)] * count:
            refuse(f"masks of the sizes {few(sizes)}, expected {count} of {list(sample.size)}")
        try:
            sample_data.masks(sample)
        except ValueError as error:
            refuse(f"masks cannot be decoded ({error})")
    if sample.keypoints is not None:
        shape = np.shape(sample.keypoints)
        if len(shape) != 3 or shape[0] != count or shape[2] != 3:
            refuse(f"keypoints {list(shape)}, expected [{count}, J, 3]")
        if not np.isfinite(sample.keypoints).all() or not np.isin(sample.keypoints[..., 2], (0, 1, 2)).all():
            refuse("keypoints that are no numbers, or visibilities that are not 0, 1 or 2")
    if sample.label is not None and not 0 <= sample.label < len(names):
        refuse(f"the image's label is {sample.label}, expected 0 to {len(names) - 1}")
    if sample.present is not None and np.shape(sample.present) != (len(names),):
        refuse(f"present {list(np.shape(sample.present))}, expected one for each of {len(names)} classes")
    return sample


def example(sample, source_id, names):
    """A sound sample as a `tf.train.Example`; `source_id` is what the Garden calls it, a number."""
    contents, kind = _stored(sample)
    height, width = sample.size
    filename = os.path.basename(sample.source) if isinstance(sample.source, str) else sample.image_id
    features = {
        "image/encoded": _bytes(contents), "image/format": _bytes(kind), "image/height": _ints(height),
        "image/width": _ints(width), "image/source_id": _bytes(source_id), "image/filename": _bytes(filename),
        "image/key/sha256": _bytes(hashlib.sha256(contents).hexdigest()),
        "keras_cnns/image_id": _bytes(sample.image_id), "keras_cnns/about": _bytes(packed(sample.about))}
    features |= _objects(sample, names)
    if sample.masks is not None:
        masks = sample_data.masks(sample)
        features[MASK] = _bytes(*map(_png, masks))
        if not isinstance(sample.masks, LabelImage):
            given = [counts(mask) for mask in sample.masks]
            if given != [counts(_run_lengths(mask)) for mask in masks]:
                features["keras_cnns/rle"] = _bytes(*given)
    if sample.segmentation is not None:
        features[SEGMENTATION] = _bytes(_png(sample_data.segmentation(sample)))
        features["image/segmentation/class/format"] = _bytes("png")
    if sample.label is not None:
        features["image/class/label"] = _ints(sample.label)
        features["image/class/text"] = _bytes(names[sample.label])
    if sample.present is not None:
        features["keras_cnns/present"] = _ints(*sample.present)
    return tf.train.Example(features=tf.train.Features(feature=features))


def features(record, where):
    """Function of one of `KINDS`' keys to its values in a serialized example, a list, empty where there are none.

    Raises:
      InputError: begins with `where`; the record is no example, or the values are of another kind (when looked up).
    """
    try:
        found = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        raise InputError(f"{where}: cannot be read as a tf.train.Example; {REMEDY}") from None

    def values(key):
        if key not in found or not (kind := found[key].WhichOneof("kind")):
            return []
        if kind != KINDS[key]:
            raise InputError(f"{where}: {key} is a {kind}, expected {KINDS[key]}; {REMEDY}")
        return list(getattr(found[key], kind).value)

    return values


def sample(form, where, record):
    """The `Sample` of a serialized example, its image as bytes, masks as run lengths, the label image as PNG.

    Raises:
      InputError: begins with `where`, says what is wrong.
    """
    found, lengths = _looked_at(form, where, record)
    if form.masks:
        found = found._replace(masks=_masks(found.masks, lengths, where))
    if form.segmentation:
        table = {0: 0, 255: 255, **dict(enumerate(form.numbers))} if form.renumbered else None
        found = found._replace(segmentation=LabelImage(found.segmentation, table, 255 if table is None else None))
    return found


def reader(form, rows=None):
    """Function of (path, number, record) to an element, in a graph, as of `samples.reader`.

    Records of ours that a manifest vouches for are parsed by TensorFlow as they stand. Others go through the checks
    of `sample`, in Python.
    """
    @tf.autograph.experimental.do_not_convert
    def read(item):
        path, number, record = item
        where = tf.strings.join([path, ": record ", tf.strings.as_string(number + 1)])
        element = _parsed(form, record) if form.ours else _checked(form, where, record)
        element["name"] = tf.strings.join([where, " (", element["image_id"], ")"])
        size = element.pop("size")
        if form.masks:
            pngs = element["masks"] if rows is None else element["masks"][:rows]
            element["masks"] = _decoded_masks(pngs, size)
        if form.segmentation:
            element["segmentation"] = tf.io.decode_png(element["segmentation"], channels=1)[..., 0]
        if form.renumbered:
            element = _renumbered(form, element)
        return element if rows is None else _with_rows(element, rows)

    return read


def packed(value):
    """JSON; arrays and tuples become lists. TypeError or ValueError of what it cannot keep."""
    def plain(value):
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise TypeError("a key that is no string")
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

    return json.dumps(plain(value), separators=(",", ":")).encode()


def counts(mask):
    """Run lengths as bytes; some tools keep them as text."""
    return mask["counts"].encode() if isinstance(mask["counts"], str) else mask["counts"]


def utf8(text):
    """As the names of files, whose bytes need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def is_text(text):
    """Whether it can be written: no half of a pair of surrogates."""
    try:
        return utf8(text) is not None
    except UnicodeEncodeError:
        return False


# Writing.

def _objects(sample, names):
    """The features of the objects; x is a share of the width, and y of the height."""
    height, width = sample.size
    boxes = np.asarray(sample.boxes, "float32")
    shares = np.clip(boxes / np.array([width, height, width, height], "float64"), 0, 1)
    found = {
        **{key: _floats(shares[:, i]) for i, key in enumerate(BOX)},
        NUMBER: _ints(*sample.labels), NAME: _bytes(*(names[label - 1] for label in sample.labels)),
        "keras_cnns/boxes": _floats(boxes.ravel()), "keras_cnns/ignored": _ints(*sample.ignored),
        "keras_cnns/details": _bytes(packed(sample.details))}
    for key, (feature, kind) in ROOM.items():
        values = sample.details.get(key)
        if values is not None and all(_fits(kind, value) for value in values):
            found[feature] = {int: _ints, float: lambda *values: _floats(values), str: _bytes}[kind](*values)
    if CROWD not in found:  # what is a crowd nobody said: whatever is ignored, but for what is difficult
        found[CROWD] = _ints(*(sample.ignored & (DIFFICULT not in found)))
    if sample.keypoints is not None:
        joints = np.asarray(sample.keypoints, "float32")
        found |= {
            JOINT[0]: _floats(joints[..., 0].ravel() / width), JOINT[1]: _floats(joints[..., 1].ravel() / height),
            JOINT[2]: _ints(*joints[..., 2].ravel()),
            "image/object/keypoint/num": _ints(*(joints[..., 2] > 0).sum(1)),
            "keras_cnns/keypoints": _floats(joints.ravel())}
    return found


def _fits(kind, value):
    if kind is str:
        return isinstance(value, str) and is_text(value)
    if kind is int:
        return isinstance(value, (int, np.integer)) and -2**63 <= value < 2**63
    return isinstance(value, (int, float, np.number)) and abs(value) < 3e38


def _stored(sample):
    """The bytes of the image and the name of their format."""
    contents = images.read(sample.source, sample.name, REMEDY)
    kind = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg"}.get(images.header(contents, sample.name, REMEDY).format)
    if kind and images.orientation(contents) == 1:
        return contents, kind
    return _png(images.decode(contents, sample.name, REMEDY)), "png"


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def _run_lengths(mask):
    return coco_mask.encode(np.asfortranarray(mask))


def _bytes(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(
        value=[value if isinstance(value, bytes) else utf8(value) for value in values]))


def _ints(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value) for value in values]))


def _floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


# Reading, with checks.

def _looked_at(form, where, record):
    """A `Sample` whose masks are PNGs and whose segmentation is one; and the run lengths beside the masks, or []."""
    def refuse(text):
        raise InputError(f"{where}: {text}; {REMEDY}")

    values = features(record, where)

    def one(key, default=b""):
        found = values(key)
        if len(found) > 1:
            refuse(f"{len(found)} of {key}, expected one")
        return found[0] if found else default

    image = one("image/encoded") or refuse("no image/encoded")
    size = images.upright_size(image, where, REMEDY)
    turn = images.orientation(image)
    for key, side in zip(("image/height", "image/width"), size[::-1] if turn >= 5 else size, strict=True):
        if one(key, 0) > 0 and one(key) != side:
            refuse(f"{key} is {one(key)}, but the image has {side}")
    boxes, labels = _boxes(values, size, refuse), _labels(form, values, refuse)
    count = len(boxes)
    if len(labels) != count:
        refuse(f"{len(labels)} of {NUMBER}, but {count} of {BOX[0]}")
    if turn != 1 and (count or values(SEGMENTATION)):
        refuse(f"the image has the EXIF orientation {turn}, which TensorFlow's decoders ignore, so it is not known "
               "whether the boxes are those of the upright image")
    details, ignored = _details(values, one, count, refuse)
    masks = values(MASK) if form.masks else []
    if form.masks and len(masks) != count:
        refuse(f"{len(masks)} of {MASK}, but {count} of {BOX[0]}")
    for png in masks:
        _look_at_png(png, size, MASK, where)
    segmentation = None
    if form.segmentation:
        segmentation = one(SEGMENTATION) or refuse(f"no {SEGMENTATION}")
        _look_at_png(segmentation, size, SEGMENTATION, where)
    own = values("keras_cnns/image_id")
    return Sample(
        os.fsdecode(own[0] if own else one("image/source_id") or one("image/filename")), image, size, boxes, labels,
        ignored, details, masks if form.masks else None,
        None if form.joints is None else _keypoints(values, size, count, form.joints, refuse), segmentation,
        _label(form, values, one, refuse) if form.label else None,
        _present(form, values, refuse) if form.present else None, _unpacked(one("keras_cnns/about"), refuse),
    ), values("keras_cnns/rle")


@np.errstate(all="ignore")
def _boxes(values, size, refuse):
    """Boxes in pixels, float32 `[G, 4]`."""
    edges = [values(key) for key in BOX]
    count = len(edges[0])
    for key, edge in zip(BOX, edges, strict=True):
        if len(edge) != count:
            refuse(f"{len(edge)} of {key}, but {count} of {BOX[0]}")
    if _is_imagenet(values) and not values(IMAGENET):
        return sample_data.NO_BOXES
    own = values("keras_cnns/boxes")
    if len(own) == 4 * count:
        boxes = np.float32(own).reshape(-1, 4)
    else:
        limits = np.array([*size[::-1]] * 2)
        boxes = np.array(edges).T * limits
        near = (boxes >= -1) & (boxes <= limits + 1)
        boxes = np.where(near, np.clip(boxes, 0, limits), boxes).astype("float32")
    _look_at_boxes(boxes, size, refuse)
    return boxes


def _look_at_boxes(boxes, size, refuse):
    """Boxes lie in the image, by up to a pixel, and have an area in it."""
    limits = np.array([*size[::-1]] * 2)
    inside = ((boxes >= -1) & (boxes <= limits + 1)).all(1)
    for i in np.flatnonzero(~(inside & (np.minimum(boxes, limits)[:, 2:] > np.maximum(boxes, 0)[:, :2]).all(1))):
        refuse(f"object {i + 1}: box {boxes[i].tolist()} is not in the image of {limits[0]} x {limits[1]} pixels"
               if not inside[i] else
               f"object {i + 1}: box {boxes[i].tolist()} has no area in the image of {limits[0]} x {limits[1]} pixels")


def _is_imagenet(values):
    """Whether these are the features of ImageNet's shards, whose objects have no labels but the image's."""
    return bool(values("image/class/synset") or values(IMAGENET)) and not values(NUMBER) and not values(NAME)


def _labels(form, values, refuse):
    """Labels 1..K, int32 `[G]`, by name or by number."""
    names, numbers = values(NAME), values(NUMBER)
    if form.by_name and names:
        return np.array([_number(form, name, refuse) for name in names], "int32")
    if _is_imagenet(values):  # where an object's number is the image's
        numbers = [number + 1 for number in values(IMAGENET)]
    for number in numbers:
        if not 1 <= number < len(form.numbers):
            refuse(f"label {number}, expected 1 to {len(form.numbers) - 1}")
    return np.array([form.numbers[number] for number in numbers], "int32")


def _label(form, values, one, refuse):
    """The whole image's, 0..K-1."""
    if form.by_name and one("image/class/text"):
        return _number(form, one("image/class/text"), refuse) - 1
    label, most = one("image/class/label", -1), len(form.numbers) - 2
    if not 0 <= label <= most:
        refuse(f"image/class/label is {label} or missing, expected 0 to {most}")
    return form.numbers[label + 1] - 1


def _number(form, name, refuse):
    name = os.fsdecode(name)
    if name not in form.names:
        refuse(f"unknown class {name!r}, known: {few(form.names)}")
    return form.names.index(name) + 1


def _present(form, values, refuse):
    found = values("keras_cnns/present")
    if len(found) != len(form.numbers) - 1:
        refuse(f"{len(found)} of keras_cnns/present, but {len(form.numbers) - 1} classes")
    present = np.full(len(form.names), -1)
    present[np.array(form.numbers[1:]) - 1] = found
    return present


def _details(values, one, count, refuse):
    """Details of the objects, and which are ignored: bool `[G]`."""
    theirs = {}
    for key, (feature, kind) in ROOM.items():
        found = values(feature)
        if len(found) not in (0, count):
            refuse(f"{len(found)} of {feature}, but {count} of {BOX[0]}")
        if found:
            theirs[key] = [os.fsdecode(value) for value in found] if kind is str else found
    ignored = values("keras_cnns/ignored")
    if len(ignored) != count:
        ignored = np.any([theirs.get(key, [0] * count) for key in ("iscrowd", "difficult")], 0)
    if one("keras_cnns/details"):
        own = _unpacked(one("keras_cnns/details"), refuse)
        theirs = {key: found for key, found in own.items() if isinstance(found, list) and len(found) == count}
    return theirs, np.array(ignored, bool)


@np.errstate(all="ignore")
def _keypoints(values, size, count, joints, refuse):
    """Keypoints, float32 `[G, J, 3]`. What is not labelled lies at 0."""
    own = values("keras_cnns/keypoints")
    if len(own) == 3 * count * joints:
        points = np.float32(own).reshape(-1, 3)
    else:
        x, y, visible = map(values, JOINT)
        visible = visible or [2] * count * joints
        for key, found in zip(JOINT, (x, y, visible), strict=True):
            if len(found) != count * joints:
                refuse(f"{len(found)} of {key}, but {count} objects of {joints} joints")
        points = np.stack([np.array(x) * size[1], np.array(y) * size[0], visible], 1).astype("float32")
        points[(points[:, 2] == 0) | ~np.isfinite(points).all(1)] = 0
    for visible in points[:, 2]:
        if visible not in (0, 1, 2):
            refuse(f"visibility {visible:g} of a joint, expected 0, 1 or 2")
    return points.reshape(count, joints, 3)


def _look_at_png(contents, size, key, where):
    """This is a grey PNG of the image's size; only its header is read."""
    if not contents.startswith(b"\x89PNG\r\n\x1a\n"):
        raise InputError(f"{where}: {key} is no PNG; {REMEDY}")
    header = images.header(contents, f"{where}: {key}", REMEDY)
    if header.size != size[::-1]:
        raise InputError(f"{where}: {key} is {header.width} x {header.height} pixels, the image {size[1]} x {size[0]}; "
                         f"{REMEDY}")
    if header.mode not in ("L", "1"):
        raise InputError(f"{where}: {key} is a PNG of the mode {header.mode}, expected grey of 8 bits; {REMEDY}")


def _masks(pngs, lengths, where):
    """Run lengths: those given, or of the masks."""
    try:
        masks = [(tf.io.decode_png(png, channels=1).numpy()[..., 0] > 0).astype("uint8") for png in pngs]
        own = [_run_lengths(mask) for mask in masks]
        if masks and len(lengths) == len(masks):
            own = [{"size": mask["size"], "counts": each} for mask, each in zip(own, lengths, strict=True)]
            coco_mask.decode(own)
        return own
    except tf.errors.OpError:
        raise InputError(f"{where}: {MASK} is truncated or corrupt; {REMEDY}") from None
    except ValueError as error:
        raise InputError(f"{where}: keras_cnns/rle cannot be decoded ({error}); {REMEDY}") from None


def _unpacked(text, refuse):
    """The dict that `packed` wrote; an empty one of nothing."""
    try:
        value = json.loads(text or b"{}")
    except (ValueError, RecursionError) as error:
        refuse(f"keras_cnns/details or about is no JSON ({error})")
    return value if isinstance(value, dict) else refuse("keras_cnns/details or about is no dict")


# Reading, in a graph.

def _parsed(form, record):
    """An element, its masks and segmentation still PNGs, and `size`: of a record that `example` wrote."""
    def one(dtype, *shape):
        return tf.io.FixedLenFeature(shape, dtype)

    def each(dtype, *shape):
        return tf.io.FixedLenSequenceFeature(shape, dtype, allow_missing=True)

    spec = {
        "image": ("image/encoded", one(tf.string)), "image_id": ("keras_cnns/image_id", one(tf.string)),
        "boxes": ("keras_cnns/boxes", each(tf.float32, 4)), "labels": (NUMBER, each(tf.int64)),
        "ignored": ("keras_cnns/ignored", each(tf.int64)), "height": ("image/height", one(tf.int64)),
        "width": ("image/width", one(tf.int64))}
    if form.masks:
        spec["masks"] = MASK, each(tf.string)
    if form.joints is not None:
        spec["keypoints"] = "keras_cnns/keypoints", each(tf.float32)
    if form.segmentation:
        spec["segmentation"] = SEGMENTATION, one(tf.string)
    if form.label:
        spec["label"] = "image/class/label", one(tf.int64)
    if form.present:
        spec["present"] = "keras_cnns/present", one(tf.int64, len(form.numbers) - 1)
    found = tf.io.parse_single_example(record, dict(spec.values()))
    element = {key: found[feature] for key, (feature, _) in spec.items()}
    element["size"] = tf.stack([element.pop("height"), element.pop("width")])
    element["ignored"] = element["ignored"] > 0
    if form.joints is not None:
        element["keypoints"] = tf.reshape(element["keypoints"], [tf.size(element["labels"]), form.joints, 3])
    for key in element.keys() & {"labels", "label", "present"}:
        element[key] = tf.cast(element[key], tf.int32)
    return element


def _checked(form, where, record):
    """The same of any record, labels in the order asked for."""
    kinds = {"image": ("O", []), "image_id": ("O", []), "size": ("int64", [2]), "boxes": ("float32", [None, 4]),
             "labels": ("int32", [None]), "ignored": ("bool", [None])}
    if form.masks:
        kinds["masks"] = "O", [None]
    if form.joints is not None:
        kinds["keypoints"] = "float32", [None, form.joints, 3]
    if form.segmentation:
        kinds["segmentation"] = "O", []
    if form.label:
        kinds["label"] = "int32", []

    def look(where, record):
        found, _ = _looked_at(form, os.fsdecode(where), record)
        found = found._replace(image_id=utf8(found.image_id))
        # As objects: numpy's own kind of string loses the zeros at its end.
        return [np.array(getattr(found, {"image": "source"}.get(key, key)), kind) for key, (kind, _) in kinds.items()]

    types = [tf.string if kind == "O" else tf.as_dtype(kind) for kind, _ in kinds.values()]
    found = tf.numpy_function(look, [where, record], types)
    return {key: tf.ensure_shape(value, shape) for (key, (_, shape)), value in zip(kinds.items(), found, strict=True)}


def _renumbered(form, element):
    """The element with the labels in the order asked for, of a record of ours."""
    numbers = tf.constant(form.numbers, tf.int32)
    element = element | {"labels": tf.gather(numbers, element["labels"])}
    if form.label:
        element["label"] = tf.gather(numbers, element["label"] + 1) - 1
    if form.present:
        places = {number: i for i, number in enumerate(form.numbers[1:])}
        order = [places.get(number, len(places)) for number in range(1, len(form.names) + 1)]
        element["present"] = tf.gather(tf.concat([element["present"], [-1]], 0), order)
    if form.segmentation:
        table = np.full(256, 255, "uint8")
        table[:len(form.numbers)] = form.numbers[:256]
        element["segmentation"] = tf.gather(tf.constant(table), tf.cast(element["segmentation"], tf.int32))
    return element


def _with_rows(element, rows):
    """The element with so many rows of objects: more are left out, fewer filled up with zeros."""
    for key in element.keys() & {"boxes", "labels", "ignored", "masks", "keypoints"}:
        kept = element[key][:rows]
        padded = tf.pad(kept, [[0, rows - tf.shape(kept)[0]]] + [[0, 0]] * (len(kept.shape) - 1))
        element[key] = tf.ensure_shape(padded, [rows, *kept.shape[1:]])
    return element


def _decoded_masks(pngs, size):
    """`[G, H, W]` uint8, 0 and 1."""
    def one(png):
        return tf.cast(tf.io.decode_png(png, channels=1)[..., 0] > 0, tf.uint8)

    masks = tf.cond(tf.size(pngs) > 0, lambda: tf.map_fn(one, pngs, fn_output_signature=tf.uint8),
                    lambda: tf.zeros(tf.concat([[0], size], 0), tf.uint8))
    return tf.ensure_shape(masks, [None, None, None])
