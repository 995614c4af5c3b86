"""TFRecord shards in the schema of the TensorFlow Model Garden: data sets that are read in long stretches, not by file.

A record is a `tf.train.Example`. Its keys and units are those that the Garden's decoders and the Object Detection API
read (official/vision/dataloaders, official/vision/data, research/object_detection/dataset_tools): `image/encoded`,
`image/object/bbox/xmin` as a share of the width, `image/object/class/label` 1..K, `image/class/label` 0..K-1,
`image/object/mask` a PNG of 0 and 1 an object, `image/segmentation/class/encoded` a PNG of labels, and so on; of VOC
`difficult`, `truncated` and `view` (the pose), of COCO `is_crowd` and `area`, keypoints as `keypoint/x`, `y` and
`visibility`. So the Garden trains on our files and we on its.

What that schema cannot hold exactly stands beside it under `keras_cnns/...`, which others ignore: the pixels of boxes
and joints (`boxes`, `keypoints`), objects ignored that are neither crowd nor difficult (`ignored`), run lengths another
encoder wrote (`rle`), ids that are no numbers (`image_id`), `present`, and `details` and `about` as JSON. They count
only where they agree with the schema's own values, so a file that another tool has changed is not read stale.

JPEG and PNG files are stored as they are. Other formats become PNG, and so does what EXIF turns: TensorFlow's
decoders ignore the turn, and the boxes would lie beside the objects.

Samples are dealt to the shards like cards: shard s of N holds the samples s, s + N, s + 2N, ..., so the shards read in
turn give the order they came in, and neighbours of a sorted set are far apart. `<split>.manifest.json` beside the
shards tells class names, numbers and checksums.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import re
import struct
import threading
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns.data import batches, images
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, LabelImage, Sample, few
from keras_cnns.errors import InputError

VERSION = 1
SHARD = 150e6          # bytes of images a shard, about
MOST_SHARDS = 512      # all of them are open at once when they are read in turn
BLOCK = 1024           # records that are shuffled among one another
OPEN = 64              # stretches of files that are read by turns when shuffled,
STRETCHES = 16         # and no fewer than these, of however few files
PEEKED = 100           # records by which files without a manifest are known
ROWS = 100             # objects an image in batches, where no manifest tells the largest number
ROUNDING = 1e-6        # of a side: by so much what we and the schema say of a box may differ

CROWD, DIFFICULT = "image/object/is_crowd", "image/object/difficult"
# Details of objects that the schema has room for: the reader's key, the schema's, and of what type.
ROOM = {"iscrowd": (CROWD, int), "difficult": (DIFFICULT, int), "truncated": ("image/object/truncated", int),
        "area": ("image/object/area", float), "pose": ("image/object/view", str)}
BOX = [f"image/object/bbox/{edge}" for edge in ("xmin", "ymin", "xmax", "ymax")]
LISTS = {
    **dict.fromkeys([*BOX, "image/object/area", "image/object/keypoint/x", "image/object/keypoint/y",
                     "keras_cnns/boxes", "keras_cnns/keypoints"], tf.float32),
    **dict.fromkeys(["image/object/class/label", CROWD, DIFFICULT, "image/object/truncated",
                     "image/object/keypoint/visibility", "keras_cnns/ignored", "keras_cnns/present"], tf.int64),
    **dict.fromkeys(["image/object/class/text", "image/class/text", "image/object/view", "image/object/mask",
                     "keras_cnns/image_id", "keras_cnns/rle"], tf.string)}
ONE = {
    **dict.fromkeys(["image/encoded", "image/source_id", "image/filename", "image/segmentation/class/encoded",
                     "keras_cnns/details", "keras_cnns/about"], ""),
    **dict.fromkeys(["image/height", "image/width", "image/class/label"], -1)}
FEATURES = {
    **{key: tf.io.RaggedFeature(dtype) for key, dtype in LISTS.items()},
    **{key: tf.io.FixedLenFeature([], tf.string if value == "" else tf.int64, value) for key, value in ONE.items()}}


def write(samples, directory, class_names, split="train", shards=None, on_bad_sample="stop", progress=True):
    """Writes `<directory>/<split>-00000-of-000NN.tfrecord` and so on, and `<split>.manifest.json`.

    First every sample is checked and its image decoded (`samples.check`), then the shards are written, as many at a
    time as there are cores, each aside and then renamed. A call that was ended by force is taken up by the same call:
    shards that are whole, by their checksum, stay.

    Args:
      samples: `Sample`s, all with the same kinds of ground truth. Boxes lie in the image, by up to a pixel.
      class_names: of the labels 1..K, and 0..K-1 of whole images.
      shards: how many; by default files of about 150 MB.
      on_bad_sample: "stop" or "skip". progress: show bars.

    Returns:
      `(paths, skipped)`: of the shards, and one line on each sample left out.

    Raises:
      InputError: a bad sample, nothing to write, a full disk, or other samples in this place.
    """
    directory, names = _folder(directory, split), _names(class_names)
    good, unreadable = sample_data.check(samples, on_bad_sample, progress)
    good, unsound = sample_data.sift([sample_data.attempt(_sound)(sample, names) for sample in good], on_bad_sample)
    if not good:
        raise InputError(f"{directory}: no samples to write as {split!r}; give at least one")
    old = _manifest(directory, split)
    count = shards or (old["shards"] if old and old["files"] else _shards(good))
    if not 1 <= count <= min(len(good), 99_999):
        raise InputError(f"{count} shards of {len(good)} samples; give 1 to {min(len(good), 99_999)}")
    fields = _fields(good)
    ids = _source_ids(good)
    manifest = {
        "version": VERSION, "class_names": names, "shards": count, "samples": len(good), "fields": fields,
        "most_objects": batches.most_objects(good), "files": {}}
    paths = _paths(directory, split, count)
    parts = [list(zip(good, ids, strict=True))[shard::count] for shard in range(count)]
    prints = [_fingerprint([VERSION, names, count, fields], part) for part in parts]
    _keep_what_is_whole(manifest, old, paths, prints)
    if not old and any(map(os.path.lexists, paths)):
        raise InputError(f"{paths[0]}: there are records already, without a manifest; choose another folder or split")
    lock = threading.Lock()

    def write_one(shard):
        told = _write_shard(paths[shard], parts[shard], names)
        with lock:
            manifest["files"][os.path.basename(paths[shard])] = {**told, "samples": prints[shard]}
            _write_manifest(directory, split, manifest)

    _write_manifest(directory, split, manifest)
    missing = [shard for shard, path in enumerate(paths) if os.path.basename(path) not in manifest["files"]]
    for _ in sample_data.in_parallel(write_one, missing, "Writing shards", progress):
        pass
    return paths, unreadable + unsound


def verify(directory, split="train", progress=True):
    """Reads every shard once, and compares it with the manifest's checksum; without a manifest, with its own.

    Returns:
      the number of records.

    Raises:
      InputError: names the first file that is missing, cut off or changed.
    """
    found = _find(directory, split)
    check = _verified if found.manifest else _counted
    return sum(sample_data.in_parallel(functools.partial(check, found), range(len(found.paths)), "Reading", progress))


def class_names(directory, split="train"):
    """Names of the labels 1..K, those of the manifest; without one, those that stand beside the labels in the records.

    The latter are in the order of their numbers, which may have gaps, as COCO's have; all records are read for it.

    Raises:
      InputError: there are none, or they contradict one another.
    """
    found = _find(directory, split)
    return found.manifest["class_names"] if found.manifest else _names_in_records(found)


def count(directory, split="train"):
    """The number of records; errors as of `samples`."""
    return int(_find(directory, split).counts.sum())


def samples(directory, split="train", class_names=None, on_bad_sample="stop"):
    """All samples, in the order they were written, their images as bytes: the whole set is in memory.

    Files of other tools are read in turn as well, since the Garden's deal records as ours do. What they hold is taken
    from their first 100 records. Masks come as run lengths, label images as PNG, in whatever form they were given.

    Args:
      directory: the folder with `<split>-00000-of-000NN.tfrecord`, `<split>.record-00000-of-000NN`,
        `<split>.tfrecord` or the like.
      class_names: labels 1..K in this order, where the records are to be read by name or have no names.
      on_bad_sample: "stop" or "skip" (a sample; a file that is cut off or damaged stops in any case).

    Returns:
      `(samples, skipped)`: a list of `Sample`, and one line on each that was skipped.

    Raises:
      InputError: one line.
    """
    found = _open(directory, split, class_names)
    one = sample_data.attempt(functools.partial(_sample, found.form))

    def results():
        with _naming_the_file(found):
            records = _in_turn(found).as_numpy_iterator()
            while some := list(itertools.islice(records, BLOCK)):
                yield from sample_data.in_parallel(one, some, "Reading records", progress=False)

    return sample_data.sift(results(), on_bad_sample)


def elements(directory, split="train", epochs=1, seed=0, shuffle=True, worker=0, workers=1, first=0, share=None,
             class_names=None):
    """A stream of (element as of `samples.reader`; its place in the run, int64 `[]`), images still encoded.

    Shuffled, an epoch is the files in a new order, each begun at a new place; `workers` equal parts of that belong to
    the workers, w the w-th. A worker reads 16 to 64 stretches of its part by turns, 1024 records at a time are
    shuffled (held in memory, up to three times), and all that follows from `seed` alone, on any number of threads and
    whatever `tf.random.set_seed` says. Otherwise an epoch is the order as written, of which worker w has the w-th
    record and then every `workers`-th (and reads them all).

    Args:
      seed: whole number, 0 or more.
      first: elements of the run left out at its beginning, which are read over but not decoded.
      share: elements of a worker and epoch, the same for all; by default `count // workers`, fewer than `workers`
        records being left out, others in each epoch. A smaller share leaves out more, a larger begins the epoch again.
      class_names: as of `samples`.

    Records are checked as they are decoded: a bad one ends the stream with an error that names file and record. A file
    cut off in its midst is an `InputError` of this call, one that is damaged a `tf.errors.DataLossError` when it is
    read: `verify` says which.
    """
    found = _open(directory, split, class_names)
    read = _reader(found.form)
    items = _items(found, epochs, seed, shuffle, worker, workers, first, share)
    return items.map(lambda item, place: (read(item), place), tf.data.AUTOTUNE, deterministic=True)


def training(directory, split, image_size, batch, epochs, seed, first_step=0, rows=None, worker=0, workers=1,
             remainder="drop", class_names=None, **options):
    """The training input of a network from shards, from any step on, as `batches.training` gives it of samples.

    An epoch has `batches.steps_per_epoch(range(count(directory, split)), batch, workers, remainder)` steps, for every
    worker.

    Args:
      rows: objects an image, padded or cut to so many; by default as many as any image of the manifest has, or 100.
      options: view, colour, pairs, keep, as of `batches.training`.
      The others as of `batches.training` and `elements`.
    """
    found = _open(directory, split, class_names)
    steps = batches.steps_per_epoch(range(found.counts.sum()), batch, workers, remainder)
    items = _items(found, epochs, seed, True, worker, workers, first_step * batch, steps * batch)
    rows = rows or (found.manifest["most_objects"] if found.manifest else ROWS)
    return batches.batched(items, _reader(found.form, rows), image_size, batch, seed, **options)


# Writing.

def _sound(sample, names):
    """The sample, its size known, if the schema can hold it and our reader will take it back."""
    size = images.upright_size(sample.source, sample.name) if sample.size == (0, 0) else sample.size
    sample = sample._replace(size=tuple(map(int, size)))
    count = len(sample.labels)

    def refuse(text):
        raise InputError(f"{sample.name}: {text}; {REMEDY}")

    if not isinstance(sample.image_id, str) or not _is_text(sample.image_id):
        refuse(f"image_id {sample.image_id!r} is no text")
    boxes = np.asarray(sample.boxes)
    if boxes.shape != (count, 4) or np.shape(sample.ignored) != (count,):
        refuse(f"boxes {list(boxes.shape)} and ignored {list(np.shape(sample.ignored))} of {count} labels")
    limits = np.array([*sample.size[::-1]] * 2)
    inside = ((boxes >= -1) & (boxes <= limits + 1)).all(1)
    for i in np.flatnonzero(~(inside & (np.minimum(boxes, limits)[:, 2:] > np.maximum(boxes, 0)[:, :2]).all(1))):
        refuse(f"object {i + 1}: box {boxes[i].tolist()} is not in the image of {limits[0]} x {limits[1]} pixels")
    for label in sample.labels:
        if not 1 <= label <= len(names):
            refuse(f"label {label}, expected 1 to {len(names)}")
    if not (isinstance(sample.details, dict) and isinstance(sample.about, dict)):
        refuse("details or about is no dict")
    for key, values in sample.details.items():
        if not isinstance(values, (list, np.ndarray)) or len(values) != count:
            refuse(f"details[{key!r}] is no list of {count}, one an object")
    try:
        _packed(sample.details), _packed(sample.about)
    except (TypeError, ValueError, RecursionError) as error:
        refuse(f"details or about cannot be written as JSON ({error})")
    if sample.masks is not None and not isinstance(sample.masks, LabelImage):
        sizes = [list(mask["size"]) for mask in sample.masks]
        if sizes != [list(sample.size)] * count:
            refuse(f"masks of the sizes {few(sizes)}, expected {count} of {list(sample.size)}")
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


def _fields(samples):
    """What the samples have, the same for all, since batches need it so."""
    def of(sample):
        return {"masks": sample.masks is not None, "segmentation": sample.segmentation is not None,
                "joints": None if sample.keypoints is None else np.shape(sample.keypoints)[1],
                "label": sample.label is not None, "present": sample.present is not None}

    fields = of(samples[0])
    for sample in samples:
        if of(sample) != fields:
            raise InputError(f"{sample.name}: has {of(sample)}, the first sample {fields}; write them to two splits")
    return fields


def _source_ids(samples):
    """What the Garden calls the images: it makes a number of 24 bits of it, and COCO's evaluation looks it up.

    The data set's own numbers if it has such, else ids that are numbers, else the places in the set.
    """
    for ids in ([str(sample.about.get("id")) for sample in samples], [sample.image_id for sample in samples]):
        if all(re.fullmatch("[0-9]{1,18}", each) for each in ids):
            if len(set(map(int, ids))) == len(ids) and max(map(int, ids)) < 2**24:
                return ids
    return list(map(str, range(len(samples))))


def _shards(samples):
    """As many that a file has about 150 MB of images."""
    total = sum(len(s.source) if isinstance(s.source, bytes) else _stat(s.source).st_size for s in samples)
    return min(max(round(total / SHARD), 1), MOST_SHARDS, len(samples))


def _stat(path):
    try:
        return os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); {REMEDY}") from None


def _fingerprint(settings, part):
    """A checksum of what a shard is made of; of a file its name, size and time."""
    def made_of(source):
        if isinstance(source, bytes):
            return hashlib.sha256(source).hexdigest()
        if isinstance(source, LabelImage):
            return [made_of(source.source), sorted((source.values or {}).items()), source.values is None, source.other]
        if isinstance(source, str):
            told = _stat(source)
            return [os.path.basename(source), told.st_size, told.st_mtime_ns]
        return None if source is None else [made_of(mask["counts"]) for mask in source]

    digest = hashlib.sha256(json.dumps(settings).encode())
    for sample, source_id in part:
        arrays = [np.asarray(values).tolist() for values in (
            sample.boxes, sample.labels, sample.ignored, sample.keypoints, sample.present, sample.label)]
        digest.update(json.dumps([
            sample.image_id, source_id, sample.size, made_of(sample.source), made_of(sample.masks),
            made_of(sample.segmentation), arrays]).encode())
        digest.update(_packed(sample.details) + _packed(sample.about))
    return digest.hexdigest()


def _keep_what_is_whole(manifest, old, paths, prints):
    """Takes the finished shards over into the new manifest: those whose file still has its checksum."""
    for path, fingerprint in zip(paths, prints, strict=True):
        told = old and old["files"].get(os.path.basename(path))
        if told and told["samples"] == fingerprint and _checksum(path) == told["sha256"]:
            manifest["files"][os.path.basename(path)] = told
        elif told and told["samples"] != fingerprint:
            raise InputError(f"{path}: holds other samples, or was written with other settings; choose another folder "
                             "or split, or remove the shards and the manifest")
    if old and old["shards"] != len(paths) and old["files"]:
        raise InputError(f"{paths[0]}: there is a set of {old['shards']} shards, not {len(paths)}; choose another "
                         "folder or split, or remove the shards and the manifest")


def _checksum(path):
    """SHA-256 of a file; None where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _write_shard(path, part, names):
    """Writes a shard aside, then renames it; what the manifest says of it."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}")
    try:
        with tf.io.TFRecordWriter(aside) as writer:
            for sample, source_id in part:
                writer.write(_example(sample, source_id, names).SerializeToString(deterministic=True))
        told = {"records": len(part), "bytes": os.path.getsize(aside), "sha256": _checksum(aside)}
        os.replace(aside, path)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"{path}: cannot be written ({_reason(error)}); make room, or choose another folder") from None
    finally:
        with contextlib.suppress(OSError):
            os.remove(aside)
    return told


def _write_manifest(directory, split, manifest):
    path = _manifest_path(directory, split)
    aside = os.path.join(directory, f".{os.path.basename(path)}")
    try:
        os.makedirs(directory, exist_ok=True)
        with open(aside, "w", encoding="ascii") as file:
            json.dump(manifest, file, indent=1, sort_keys=True)
        os.replace(aside, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({_reason(error)}); make room, or choose another folder") from None


def _example(sample, source_id, names):
    contents, kind = _stored(sample)
    height, width = sample.size
    filename = os.path.basename(sample.source) if isinstance(sample.source, str) else sample.image_id
    features = {
        "image/encoded": _bytes(contents), "image/format": _bytes(kind), "image/height": _ints(height),
        "image/width": _ints(width), "image/source_id": _bytes(source_id), "image/filename": _bytes(filename),
        "image/key/sha256": _bytes(hashlib.sha256(contents).hexdigest()),
        "keras_cnns/about": _bytes(_packed(sample.about))}
    if source_id != sample.image_id:
        features["keras_cnns/image_id"] = _bytes(source_id, sample.image_id)
    features |= _objects(sample, names)
    if sample.masks is not None:
        try:
            masks = sample_data.masks(sample)
        except ValueError as error:
            raise InputError(f"{sample.name}: masks cannot be decoded ({error}); {REMEDY}") from None
        features["image/object/mask"] = _bytes(*map(_png, masks))
        if not isinstance(sample.masks, LabelImage):
            given = [_counts(mask) for mask in sample.masks]
            if given != [_counts(_run_lengths(mask)) for mask in masks]:
                features["keras_cnns/rle"] = _bytes(*given)
    if sample.segmentation is not None:
        features["image/segmentation/class/encoded"] = _bytes(_png(sample_data.segmentation(sample)))
        features["image/segmentation/class/format"] = _bytes("png")
    if sample.label is not None:
        features["image/class/label"] = _ints(sample.label)
        features["image/class/text"] = _bytes(names[sample.label])
    if sample.present is not None:
        features["keras_cnns/present"] = _ints(*sample.present)
    return tf.train.Example(features=tf.train.Features(feature=features))


def _objects(sample, names):
    """The features of the objects; x is a share of the width, and y of the height."""
    height, width = sample.size
    boxes = np.asarray(sample.boxes, "float32")
    shares = np.clip(boxes / np.array([width, height, width, height], "float64"), 0, 1)
    lists = _schema_lists(sample.details, sample.ignored)
    features = {
        **{key: _floats(shares[:, i]) for i, key in enumerate(BOX)},
        "image/object/class/label": _ints(*sample.labels),
        "image/object/class/text": _bytes(*(names[label - 1] for label in sample.labels)),
        **{key: {int: _ints, float: lambda *values: _floats(values), str: _bytes}[kind](*lists[key])
           for key, kind in ROOM.values() if key in lists},
        "keras_cnns/boxes": _floats(boxes.ravel()), "keras_cnns/details": _bytes(_packed(sample.details))}
    crowd = np.array(lists[CROWD], bool)
    difficult = np.array(lists.get(DIFFICULT, np.zeros_like(crowd)), bool)
    if (sample.ignored != crowd | difficult).any():
        features["keras_cnns/ignored"] = _ints(*(sample.ignored + 2 * crowd + 4 * difficult))
    if sample.keypoints is not None:
        joints = np.asarray(sample.keypoints, "float32")
        features |= {
            "image/object/keypoint/x": _floats(joints[..., 0].ravel() / width),
            "image/object/keypoint/y": _floats(joints[..., 1].ravel() / height),
            "image/object/keypoint/visibility": _ints(*joints[..., 2].ravel().astype(int)),
            "image/object/keypoint/num": _ints(*(joints[..., 2] > 0).sum(1)),
            "keras_cnns/keypoints": _floats(joints.ravel())}
    return features


def _schema_lists(details, ignored):
    """What of the details the schema has room for, by its keys. What is a crowd nobody said: whatever is ignored, but
    for what is difficult.
    """
    lists = {}
    for key, (feature, kind) in ROOM.items():
        values = details.get(key)
        if values is not None and all(map(functools.partial(_fits, kind), values)):
            lists[feature] = [_utf8(value) if kind is str else kind(value) for value in values]
    if CROWD not in lists:
        lists[CROWD] = [0] * len(ignored) if DIFFICULT in lists else [int(flag) for flag in ignored]
    return lists


def _fits(kind, value):
    if kind is str:
        return isinstance(value, str) and _is_text(value)
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


def _counts(mask):
    return mask["counts"].encode() if isinstance(mask["counts"], str) else mask["counts"]


def _bytes(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(
        value=[value if isinstance(value, bytes) else _utf8(value) for value in values]))


def _ints(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value) for value in values]))


def _floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _utf8(text):
    """As the names of files, whose bytes need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _is_text(text):
    """Whether it can be written: no half of a pair of surrogates."""
    with contextlib.suppress(UnicodeEncodeError):
        return _utf8(text) is not None
    return False


def _packed(value):
    """JSON that keeps tuples, as {"()": [...]}; arrays become lists. TypeError or ValueError of what it cannot keep."""
    def plain(value):
        if isinstance(value, (np.ndarray, np.generic)):
            value = value.tolist()
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise TypeError("a key that is no string")
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, tuple):
            return {"()": [plain(each) for each in value]}
        return [plain(each) for each in value] if isinstance(value, list) else value

    return json.dumps(plain(value), separators=(",", ":")).encode()


def _unpacked(text, where):
    """The dict that `_packed` wrote; an empty one of nothing."""
    def tuples(found):
        return tuple(found["()"]) if found.keys() == {"()"} and isinstance(found["()"], list) else found

    try:
        value = json.loads(text or b"{}", object_hook=tuples)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: keras_cnns/details or about is no JSON ({_reason(error)}); {REMEDY}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: keras_cnns/details or about is no dict; {REMEDY}")
    return value


def _reason(error):
    """What an error of Python or TensorFlow says, without the places in the code where it was raised."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    text = text.split("\nTraceback")[0].split("\n\t [[")[0].strip()
    return " ".join(text.split("\n")[-1].split()).removeprefix("InputError: ")[:200]


# Files.

class _Form(NamedTuple):
    """What the records of a set have in common."""

    names: tuple  # of the classes
    by_name: bool  # labels are looked up by the names beside them
    ours: bool  # so images are upright
    masks: bool = False
    segmentation: bool = False
    joints: int | None = None
    label: bool = False
    present: bool = False


class _Set(NamedTuple):
    """The files of a split."""

    paths: list
    counts: np.ndarray  # records in each
    manifest: dict | None
    form: _Form | None = None


def _folder(directory, split):
    if not isinstance(split, str) or not re.fullmatch(r"[^/\\\0\n.][^/\\\0\n]*", split):
        raise InputError(f"split {split!r}: give a name without slashes that begins with no dot, such as 'train'")
    return os.path.abspath(os.path.expanduser(directory))


def _names(class_names):
    names = list(class_names or [])
    if not names or len(set(names)) < len(names) or not all(
            isinstance(name, str) and name.strip() and _is_text(name) for name in names):
        raise InputError(f"class names {few(names) or 'none'}: give each class a name of its own")
    return names


def _paths(directory, split, count):
    return [os.path.join(directory, f"{split}-{shard:05d}-of-{count:05d}.tfrecord") for shard in range(count)]


def _manifest_path(directory, split):
    return os.path.join(directory, f"{split}.manifest.json")


def _manifest(directory, split):
    """The manifest, None where there is none."""
    path = _manifest_path(directory, split)
    try:
        with open(path, "rb") as file:
            manifest = json.loads(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); make it readable") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({_reason(error)}); write the records again") from None
    if not _is_manifest(manifest):
        raise InputError(f"{path}: is no manifest of version {VERSION}; write the records again, or move it away to "
                         "read them as another tool's")
    return manifest


def _is_manifest(found):
    def whole(value, least):
        return type(value) is int and least <= value < 2**53

    def is_file(told):
        return (isinstance(told, dict) and whole(told.get("records"), 1) and whole(told.get("bytes"), 1)
                and isinstance(told.get("sha256"), str) and isinstance(told.get("samples"), str))

    if not isinstance(found, dict) or found.get("version") != VERSION:
        return False
    names, fields, files = (found.get(key) for key in ("class_names", "fields", "files"))
    return (isinstance(names, list) and len(names) > 0 and all(isinstance(name, str) for name in names)
            and whole(found.get("shards"), 1) and found["shards"] < 100_000
            and whole(found.get("samples"), found["shards"])
            and whole(found.get("most_objects"), 1) and isinstance(files, dict) and all(map(is_file, files.values()))
            and isinstance(fields, dict) and fields.keys() == {"masks", "segmentation", "joints", "label", "present"}
            and (fields["joints"] is None or whole(fields["joints"], 0))
            and all(type(fields[key]) is bool for key in fields.keys() - {"joints"}))


def _find(directory, split):
    """The files, all there and whole as far as their sizes tell."""
    directory = _folder(directory, split)
    if not os.path.isdir(directory):
        raise InputError(f"{directory}: no such folder; give one with {split}-00000-of-000NN.tfrecord and so on")
    manifest = _manifest(directory, split)
    paths = _paths(directory, split, manifest["shards"]) if manifest else _search(directory, split)
    if not manifest:
        counts = np.array([_hops(path) for path in paths])
        if not counts.sum():
            raise InputError(f"{paths[0]}: no record in it" + " nor in the others" * (len(paths) > 1)
                             + "; write at least one")
        kept = counts.nonzero()[0]
        return _Set([paths[i] for i in kept], counts[kept], None)
    counts = []
    for path in paths:
        told = manifest["files"].get(os.path.basename(path))
        if not told:
            raise InputError(f"{path}: not written yet ({len(manifest['files'])} of {len(paths)} shards are); call "
                             "write again with the same samples")
        _check_size(path, told["bytes"])
        counts.append(told["records"])
    return _Set(paths, np.array(counts), manifest)


def _check_size(path, expected):
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise InputError(f"{path}: a shard is missing ({_reason(error)}); write it again") from None
    if size != expected:
        raise InputError(f"{path}: has {size} bytes, its manifest says {expected}; write it again")


def _search(directory, split):
    """Paths of another tool's files, a shard missing or not."""
    number = r"-(\d{1,9})-of-(\d{1,9})"
    pattern = re.compile(rf"(.+?)((?:\.(?:tfrecords?|record))?)(?:{number})?((?:\.(?:tfrecords?|record))?)")
    found, others = {}, set()
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise InputError(f"{directory}: cannot be read ({_reason(error)}); make it readable") from None
    for name in names:
        match = pattern.fullmatch(name)
        if not match or not any(match.groups()[1:]):
            continue
        stem, before, shard, total, after = match.groups()
        if stem == split:
            found.setdefault((before, total, after), {})[int(shard or 0)] = os.path.join(directory, name)
        elif not name.startswith("."):
            others.add(stem)
    if not found:
        raise InputError(f"{directory}: no records of a split {split!r}. Found: {few(sorted(others)) or 'none'}; "
                         f"choose one of them, or name the files {split}-00000-of-000NN.tfrecord")
    if len(found) > 1:
        several = few([os.path.basename(min(shards.values())) for shards in found.values()])
        raise InputError(f"{directory}: several sets of the split {split!r}: {several}; keep each in a folder of its "
                         "own")
    ((_, total, _), shards), = found.items()
    missing = next((i for i in range(int(total or 1)) if i not in shards), None)
    if missing is not None:
        raise InputError(f"{directory}: {len(shards)} of {total} shards of {split!r} are there, {missing:05d} is "
                         "missing; bring all of them")
    return [shards[i] for i in sorted(shards)]


def _hops(path):
    """The number of records of a file, by hopping over them; see the format at the class tf.io.TFRecordWriter."""
    count = at = 0
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while at < size:
                file.seek(at)
                head = file.read(8)
                at += 16 + struct.unpack("<Q", head)[0] if len(head) == 8 else 16
                count += 1
                if at > size:
                    raise InputError(f"{path}: record {count} is cut off, or this is no TFRecord file; bring it anew")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); make it readable") from None
    return count


def _verified(found, shard):
    told = found.manifest["files"][os.path.basename(found.paths[shard])]
    if _checksum(found.paths[shard]) != told["sha256"]:
        raise InputError(f"{found.paths[shard]}: differs from its manifest's checksum; write it again")
    return told["records"]


def _counted(found, shard):
    """The number of records of a file, each read and its checksum compared."""
    path, count = found.paths[shard], 0
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            count += 1
            tf.train.Example.FromString(record)
    except tf.errors.OpError as error:
        raise InputError(f"{path}: damaged after record {count} ({_reason(error)}); bring it anew") from None
    except Exception:  # protobuf's DecodeError, whose place differs by version
        raise InputError(f"{path}: record {count} is no tf.train.Example; write it again") from None
    return count


@contextlib.contextmanager
def _naming_the_file(found):
    """TensorFlow's errors do not say in which of the files they arose."""
    try:
        yield
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # the latter: a message that shows the record
        for shard in range(len(found.paths)):
            _counted(found, shard)
        raise InputError(f"{found.paths[0]}: its records, or those of the files beside it, are of another kind "
                         f"({_reason(error)}); write them again") from None


def _open(directory, split, class_names):
    """The files with what is known of their records."""
    found = _find(directory, split)
    if found.manifest:
        names = found.manifest["class_names"] if class_names is None else _names(class_names)
        by_name = names != found.manifest["class_names"]
        return found._replace(form=_Form(tuple(names), by_name, True, **found.manifest["fields"]))
    names = _names_in_records(found) if class_names is None else _names(class_names)
    return found._replace(form=_Form(tuple(names), True, False, **_peek(found)))


def _names_in_records(found):
    """Class names by number, as the records have them."""
    keys = ("image/object/class/text", "image/object/class/label"), ("image/class/text", "image/class/label")
    spec = {key: tf.io.RaggedFeature(tf.int64 if "label" in key else tf.string) for pair in keys for key in pair}
    both = {}, {}  # numbers by name, of objects and of images

    def parse(path, number, record):
        return path, number, tf.io.parse_single_example(record, spec)

    with _naming_the_file(found):
        for path, number, record in _in_turn(found).map(parse).as_numpy_iterator():
            where = f"{os.fsdecode(path)}: record {number + 1}"
            for numbers, (text, label) in zip(both, keys, strict=True):
                if len(record[text]) != len(record[label]):
                    raise InputError(f"{where}: {len(record[label])} of {label}, {len(record[text])} names of {text}; "
                                     "give class_names=")
                for name, each in zip(record[text], record[label], strict=True):
                    name = os.fsdecode(name)
                    if numbers.setdefault(name, each) != each:
                        raise InputError(f"{where}: class {name!r} has the number {each}, before it was "
                                         f"{numbers[name]}; give class_names=")
    numbers = both[0] or both[1]
    if len(set(numbers.values())) < len(numbers):
        raise InputError(f"{found.paths[0]}: two names for one number among {few(numbers)}; give class_names=")
    if not numbers:
        raise InputError(f"{found.paths[0]}: no class names in the records, and no manifest; give class_names=")
    return sorted(numbers, key=numbers.get)


def _peek(found):
    """What the first records have; of a label the Garden's classifiers, of a mask its detectors know."""
    fields = {"masks": False, "segmentation": False, "joints": None, "label": False, "present": False}
    with _naming_the_file(found):
        peeked = [record for _, _, record in _in_turn(found).take(PEEKED).as_numpy_iterator()]
    for record in peeked:
        try:
            feature = tf.train.Example.FromString(record).features.feature
        except Exception:
            continue  # `_sample` says so
        fields["masks"] |= len(feature["image/object/mask"].bytes_list.value) > 0
        fields["segmentation"] |= len(feature["image/segmentation/class/encoded"].bytes_list.value) > 0
        fields["label"] |= len(feature["image/class/label"].int64_list.value) > 0
        objects = len(feature[BOX[0]].float_list.value)
        joints = len(feature["image/object/keypoint/x"].float_list.value)
        if objects and joints and fields["joints"] is None:
            fields["joints"] = joints // objects
    return fields


# Reading.

def _in_turn(found):
    """(path, number in the file, record), a record of each file at a time: the order they were written in."""
    whole = np.stack([np.arange(len(found.paths)), 0 * found.counts, found.counts, 0 * found.counts], 1)
    return _stretches(_encoded(found.paths), tf.data.Dataset.from_tensor_slices(whole), min(len(whole), MOST_SHARDS))


def _encoded(paths):
    return tf.constant([os.fsencode(path) for path in paths])


def _stretches(paths, rows, at_once):
    """Records of stretches of files, read by turns. A row is file, where it begins, records to the end and after it."""
    def part(path, start, count):
        numbers = tf.data.Dataset.range(start, start + count)
        return tf.data.Dataset.zip(numbers, tf.data.TFRecordDataset(path).skip(start).take(count)).map(
            lambda number, record: (path, number, record))

    @tf.autograph.experimental.do_not_convert
    def stretch(row):
        path = tf.gather(paths, row[0])
        return part(path, row[1], row[2]).concatenate(part(path, tf.zeros_like(row[3]), row[3]))

    return rows.interleave(stretch, at_once, 1, tf.data.AUTOTUNE, deterministic=True)


def _items(found, epochs, seed, shuffle, worker, workers, first, share):
    """((path, number, record), place in the run): what `elements` are made of."""
    if not 0 <= worker < workers or first < 0 or seed < 0:
        raise InputError(f"worker {worker} of {workers}, first {first}, seed {seed}: expected 0 <= worker < workers, "
                         "and neither of the others below 0")
    share = share or max(int(found.counts.sum()) // workers, 1)
    paths, in_turn = _encoded(found.paths), _in_turn(found)

    @tf.autograph.experimental.do_not_convert
    def epoch(number):
        if not shuffle:
            return in_turn.repeat().take(share * workers).shard(workers, worker)
        rows = tf.numpy_function(
            lambda number: _plan(found.counts, seed, int(number), worker, share), [number], tf.int64)
        records = _stretches(paths, tf.data.Dataset.from_tensor_slices(tf.ensure_shape(rows, [None, 4])), OPEN)
        chance = tf.random.fold_in(tf.constant([seed, worker], tf.int64), number)
        return records.batch(BLOCK).enumerate().map(
            lambda block, items: _shuffled(items, tf.random.fold_in(chance, block))).prefetch(1).unbatch()

    done, rest = divmod(first, share)
    items = tf.data.Dataset.range(done, max(epochs, done)).flat_map(epoch).skip(rest)
    return tf.data.Dataset.zip(items, tf.data.Dataset.range(
        first * workers + worker, max(epochs * share, first) * workers + worker, workers))


def _plan(counts, seed, number, worker, share):
    """The stretches a worker reads in an epoch: rows of file, start, records to the end, records from the beginning.

    The epoch is the files in an order by chance, each turned so that it begins at a place by chance; the worker's part
    is `share` records of that, from the `worker * share`-th on, and after the last comes the first again.
    """
    dice = np.random.default_rng([seed, number])
    files = dice.permutation(len(counts))
    turns = dice.integers(counts[files])
    ends = np.cumsum(counts[files])
    at, left, pieces = worker * share % ends[-1], share, []
    while left:
        i = np.searchsorted(ends, at, "right")
        count = min(left, ends[i] - at)
        pieces.append((i, counts[files[i]] - (ends[i] - at), count))
        at, left = (at + count) % ends[-1], left - count
    rows = []
    for i, offset, count in pieces:
        cuts = np.linspace(0, count, min(-(-STRETCHES // len(pieces)), count) + 1).astype(int)
        for start, end in zip(cuts[:-1], cuts[1:], strict=True):
            length = counts[files[i]]
            begin = (turns[i] + offset + start) % length
            to_end = min(end - start, length - begin)
            rows.append((files[i], begin, to_end, end - start - to_end))
    return np.array(rows, "int64")


def _shuffled(items, chance):
    order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(items[0])[0]), chance)
    return tuple(tf.gather(column, order) for column in items)


def _reader(form, rows=None):
    """Function of (path, number, record) to an element, in a graph, as of `samples.reader`."""
    def refuse(where, problem):
        raise InputError(f"{os.fsdecode(where)}: {os.fsdecode(problem)}; write it again, or read the others by samples("
                         "on_bad_sample='skip')")

    @tf.autograph.experimental.do_not_convert
    def read(item):
        path, number, record = item
        element, more = _parser(form)(record)
        where = tf.strings.join([path, ": record ", tf.strings.as_string(number + 1)])
        # What is wrong is found before the image is handed on.
        image = tf.cond(more["problem"] == "", lambda: element["image"],
                        lambda: tf.ensure_shape(tf.numpy_function(refuse, [where, more["problem"]], tf.string), []))
        element |= {"image": image, "name": tf.strings.join([where, " (", element["image_id"], ")"])}
        with tf.control_dependencies([image]):
            if form.masks:
                element["masks"] = _decoded_masks(more["image/object/mask"], more["size"])
            if form.segmentation:
                labels = tf.io.decode_png(more["image/segmentation/class/encoded"], channels=1)
                element["segmentation"] = labels[..., 0]
        return element if rows is None else _with_rows(element, rows)

    return read


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
                    lambda: tf.zeros([0, size[0], size[1]], tf.uint8))
    return tf.ensure_shape(masks, [None, None, None])


@functools.lru_cache(8)
def _parser(form):
    """`_read` as a graph, made once."""
    return tf.function(functools.partial(_read, form), [tf.TensorSpec([], tf.string)], autograph=False)


def _read(form, record):
    """An element without name, masks and segmentation; and more: `problem` (what is wrong, empty if nothing is), `size`
    (height and width), `agrees` (`keras_cnns/boxes` are those of the schema), and the record's own features.
    """
    features = tf.io.parse_single_example(record, FEATURES)
    faults = []

    def fault(wrong, *text):
        faults.append((wrong, text))

    image = features["image/encoded"]
    fault(tf.strings.length(image) == 0, "no image/encoded")
    height, width = size = tf.unstack(tf.cond(tf.strings.length(image) > 0, lambda: _size(image), lambda: [1, 1]))
    for key, side in (("image/height", height), ("image/width", width)):
        told = features[key]
        fault((told > 0) & (told != tf.cast(side, tf.int64)), key, " is ", told, ", but the image has ", side)
    count = tf.size(features[BOX[0]])
    for key in BOX[1:]:
        fault(tf.size(features[key]) != count, tf.size(features[key]), " of ", key, ", but ", count, " of ", BOX[0])
    for key in ("image/object/class/text", "image/object/mask", *(key for key, _ in ROOM.values())):
        number = tf.size(features[key])
        fault((number != count) & (number != 0), number, " of ", key, ", but ", count, " of ", BOX[0])
    if form.masks:
        fault((tf.size(features["image/object/mask"]) == 0) & (count > 0), "no image/object/mask of ", count, " boxes")
        _fault_of_pngs(fault, features["image/object/mask"], size, "image/object/mask")

    labels = _labels(form, features, count, fault)
    boxes, agrees = _boxes(features, size, count, fault)
    crowd, difficult = (_fit(features[key], count) for key in (CROWD, DIFFICULT))
    crowd, difficult = tf.cast(crowd != 0, tf.int64), tf.cast(difficult != 0, tf.int64)
    # Ours count while what they were written beside stands.
    flags = _fit(features["keras_cnns/ignored"], count)
    ours = (tf.size(features["keras_cnns/ignored"]) == count) & (flags // 2 == crowd + 2 * difficult)
    element = {"image": image, "image_id": _image_id(features), "boxes": boxes, "labels": labels,
               "ignored": tf.where(ours, flags % 2, crowd | difficult) > 0}
    if form.joints is not None:
        element["keypoints"] = _keypoints(features, size, count, form.joints, fault)
    if form.segmentation:
        png = features["image/segmentation/class/encoded"]
        fault(tf.strings.length(png) == 0, "no image/segmentation/class/encoded")
        _fault_of_pngs(fault, png[None], size, "image/segmentation/class/encoded")
    if form.label:
        element["label"] = _label(form, features, fault)
    if form.present:
        present = features["keras_cnns/present"]
        fault(tf.size(present) != len(form.names), tf.size(present), " of keras_cnns/present, but ",
              len(form.names), " classes")
        element["present"] = tf.ensure_shape(tf.cast(_fit(present, len(form.names)), tf.int32), [len(form.names)])
    if not form.ours:
        turn = tf.cond(tf.strings.length(image) > 0, lambda: _turn(image), lambda: tf.constant(1, tf.int64))
        placed = (count > 0) | (tf.strings.length(features["image/segmentation/class/encoded"]) > 0)
        fault((turn != 1) & placed, "the image has the EXIF orientation ", turn, ", which TensorFlow's decoders "
              "ignore, so it is not known whether the boxes are those of the upright image")
        size = tf.where(turn >= 5, size[::-1], size)
    wrong = tf.stack([wrong for wrong, _ in faults])
    problem = tf.cond(tf.reduce_any(wrong), lambda: tf.stack([_text(*text) for _, text in faults])[tf.argmax(wrong)],
                      lambda: tf.constant(""))
    return element, {**features, "problem": problem, "size": tf.stack(size), "agrees": agrees}


def _text(*parts):
    parts = map(tf.convert_to_tensor, parts)
    return tf.strings.join([part if part.dtype == tf.string else
                            tf.strings.as_string(part, shortest=part.dtype.is_floating) for part in parts])


def _fit(values, count):
    """Values cut or padded to so many, so that wrong numbers of them are reported and not fallen over."""
    values = values[:count]
    return tf.concat([values, tf.zeros([count - tf.size(values)], values.dtype)], 0)


def _size(image):
    """Height and width of an encoded image, int32, from its header."""
    def otherwise():
        size = tf.numpy_function(
            lambda contents: np.array(images.upright_size(contents, "image"), "int32"), [image], tf.int32)
        return tf.unstack(tf.ensure_shape(size, [2]))

    return tf.case([
        (tf.strings.substr(image, 0, 3) == b"\xff\xd8\xff", lambda: tf.unstack(tf.io.extract_jpeg_shape(image)[:2])),
        (_is_png(image), lambda: tf.unstack(_png_size(image[None])[0]))], otherwise)


def _is_png(images):
    """Whether these begin as a PNG with a header does."""
    return (tf.strings.substr(images, 0, 8) == b"\x89PNG\r\n\x1a\n") & (tf.strings.length(images) > 24)


def _png_size(images):
    """Height and width of encoded PNGs `[N]`: `[N, 2]` int32."""
    sides = tf.io.decode_raw(tf.strings.substr(images, 16, 8), tf.int32, little_endian=False)
    return tf.reshape(sides, [-1, 2])[:, ::-1]


def _fault_of_pngs(fault, pngs, size, key):
    """These are PNG images of the same size as the image."""
    good = tf.reduce_all(_is_png(pngs))
    sizes = tf.cond(good, lambda: _png_size(pngs), lambda: tf.zeros([tf.size(pngs), 2], tf.int32))
    other = tf.reduce_any(sizes != tf.stack(size), -1)
    first = tf.pad(sizes, [[0, 1], [0, 0]])[tf.argmax(tf.pad(other, [[0, 1]]))]
    fault(~good, key, " is no PNG")
    fault(tf.reduce_any(other), key, " is ", first[1], " x ", first[0], " pixels, the image ", size[1], " x ", size[0])


def _turn(image):
    """EXIF's orientation, int64; a plain JPEG is not looked into."""
    def look():
        found = tf.numpy_function(lambda image: np.int64(images.orientation(image)), [image], tf.int64)
        return tf.ensure_shape(found, [])

    plain = (tf.strings.substr(image, 0, 3) == b"\xff\xd8\xff") & (tf.size(tf.strings.split(image, "Exif")) == 1)
    return tf.cond(plain, lambda: tf.constant(1, tf.int64), look)


def _labels(form, features, count, fault):
    """Labels 1..K, int32 `[G]`, by name or by number."""
    numbers, texts = features["image/object/class/label"], features["image/object/class/text"]
    if form.by_name:
        index, unknown = _by_name(form, _fit(texts, count))
        named = (tf.size(texts) == count) & (count > 0)
        fault(named & (unknown != ""), "unknown class ", unknown, ", known: ", few(form.names))
    else:
        index, named = tf.zeros([count], tf.int64), tf.constant(False)
    fault(~named & (tf.size(numbers) != count), tf.size(numbers), " of image/object/class/label, but ", count, " of ",
          BOX[0])
    labels = tf.where(named, index + 1, _fit(numbers, count))
    first, wrong = _first(labels, (labels < 1) | (labels > len(form.names)))
    fault(wrong & ~(named & (tf.size(texts) != count)), "label ", first, ", expected 1 to ", len(form.names))
    return tf.cast(labels, tf.int32)


def _label(form, features, fault):
    """The whole image's, 0..K-1, int32."""
    label, text = features["image/class/label"], features["image/class/text"]
    if form.by_name:
        index, unknown = _by_name(form, _fit(text, 1))
        named = tf.size(text) == 1
        fault(named & (unknown != ""), "unknown class ", unknown, ", known: ", few(form.names))
        label = tf.where(named, index[0], label)
    fault((label < 0) | (label >= len(form.names)), "image/class/label is ", label, " or missing, expected 0 to ",
          len(form.names) - 1)
    return tf.cast(label, tf.int32)


def _by_name(form, texts):
    """Indices of class names, `[G]` int64, and the first name that is unknown, or nothing."""
    same = texts[:, None] == tf.constant([_utf8(name) for name in form.names])
    unknown, any_unknown = _first(texts, ~tf.reduce_any(same, 1))
    return tf.argmax(same, 1), tf.where(any_unknown, tf.strings.join(["'", unknown, "'"]), "")


def _first(values, wrong):
    """The first value that is wrong, and whether one is."""
    return tf.concat([values, tf.zeros([1], values.dtype)], 0)[tf.argmax(tf.pad(wrong, [[0, 1]]))], tf.reduce_any(wrong)


def _boxes(features, size, count, fault):
    """Boxes in pixels, float32 `[G, 4]`: ours where they agree with the schema's, and whether they do."""
    limits = tf.cast(tf.stack([size[1], size[0]] * 2), tf.float32)
    given = tf.stack([_fit(features[key], count) for key in BOX], 1) * limits
    given = tf.where((given >= -1) & (given <= limits + 1), tf.clip_by_value(given, 0.0, limits), given)
    own = features["keras_cnns/boxes"]
    agrees = tf.size(own) == 4 * count
    own = tf.reshape(_fit(own, 4 * count), [count, 4])
    agrees &= tf.reduce_all(tf.abs(tf.clip_by_value(own, 0.0, limits) - given) <= ROUNDING * limits)
    boxes = tf.where(agrees, own, given)
    inside = tf.reduce_all((boxes >= -1) & (boxes <= limits + 1) & tf.math.is_finite(boxes), 1)
    area = tf.reduce_all(boxes[:, 2:] > boxes[:, :2], 1)
    shown = tf.strings.reduce_join(tf.strings.as_string(boxes, shortest=True), 1, separator=", ")
    for good, text in ((inside, " is not in the image of "), (area, " has no area, in an image of ")):
        box, wrong = _first(shown, ~good)
        fault(wrong, "box (", box, ")", text, size[1], " x ", size[0], " pixels")
    return tf.ensure_shape(boxes, [None, 4]), agrees


def _keypoints(features, size, count, joints, fault):
    """Keypoints, float32 `[G, J, 3]`: ours where they agree with the schema's. What is not labelled lies at 0."""
    x, y, visible = (features[f"image/object/keypoint/{part}"] for part in ("x", "y", "visibility"))
    total = count * joints
    for key, values in (("x", x), ("y", y), ("visibility", visible)):
        fault((tf.size(values) != total) & ((key != "visibility") | (tf.size(values) != 0)), tf.size(values),
              " of image/object/keypoint/", key, ", but ", count, " objects of ", joints, " joints")
    sides = tf.cast(tf.stack([size[1], size[0]]), tf.float32)
    given = tf.stack([_fit(x, total), _fit(y, total)], 1) * sides
    known = tf.reduce_all(tf.math.is_finite(given), 1)
    visible = tf.where(tf.size(visible) > 0, tf.cast(_fit(visible, total), tf.float32), 2.0)
    visible = tf.where(known, visible, 0.0)
    strange, wrong = _first(visible, (visible != 0) & (visible != 1) & (visible != 2))
    fault(wrong, "visibility ", strange, " of a joint, expected 0, 1 or 2")
    own = tf.reshape(_fit(features["keras_cnns/keypoints"], 3 * total), [total, 3])
    agrees = (tf.size(features["keras_cnns/keypoints"]) == 3 * total) & tf.reduce_all(own[:, 2] == visible) & (
        tf.reduce_all(tf.abs(own[:, :2] - given) <= ROUNDING * (sides + tf.abs(given))))
    given = tf.where(visible[:, None] > 0, given, 0.0)
    points = tf.where(agrees, own, tf.concat([given, visible[:, None]], 1))
    return tf.ensure_shape(tf.reshape(points, [count, joints, 3]), [None, joints, 3])


def _image_id(features):
    """Ours where the schema's is the one it was written beside; of files without an id the name."""
    source, own = features["image/source_id"], features["keras_cnns/image_id"]
    mine = tf.concat([own, ["", ""]], 0)
    other = tf.where(source == "", features["image/filename"], source)
    return tf.where((tf.size(own) == 2) & (mine[0] == source), mine[1], other)


def _sample(form, item):
    """A `Sample` of (path, number, record)."""
    path, number, record = item
    where = f"{os.fsdecode(path)}: record {number + 1}"
    try:
        element, more = tf.nest.map_structure(lambda tensor: tensor.numpy(), _parser(form)(record))
        pngs = more["image/object/mask"] if form.masks and more["problem"] == b"" else []
        masks = [(tf.io.decode_png(png, channels=1).numpy()[..., 0] > 0).astype("uint8") for png in pngs]
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: cannot be read as a tf.train.Example of an image ({_reason(error)}); "
                         f"{REMEDY}") from None
    if more["problem"]:
        raise InputError(f"{where}: {' '.join(os.fsdecode(more['problem']).split())}; {REMEDY}")
    segmentation = more["image/segmentation/class/encoded"]
    return Sample(
        os.fsdecode(element["image_id"]), element["image"], tuple(more["size"].tolist()), element["boxes"],
        element["labels"], element["ignored"], _details(where, element, more),
        _masks(masks, more["keras_cnns/rle"]) if form.masks else None, element.get("keypoints"),
        LabelImage(segmentation) if form.segmentation else None,
        int(element["label"]) if form.label else None, element.get("present"),
        _unpacked(more["keras_cnns/about"], where))


def _details(where, element, more):
    """Details of the objects: ours, but the schema's where that says something else."""
    theirs = {key: more[feature].tolist() for key, (feature, _) in ROOM.items()}
    details, beside = {}, dict.fromkeys(ROOM, [])
    if more["agrees"] and more["keras_cnns/details"]:
        details = {key: values for key, values in _unpacked(more["keras_cnns/details"], where).items()
                   if isinstance(values, list) and len(values) == len(element["labels"])}
        lists = _schema_lists(details, element["ignored"])
        beside = {key: np.float32(lists.get(feature, [])).tolist() if kind is float else lists.get(feature, [])
                  for key, (feature, kind) in ROOM.items()}
    for key, values in theirs.items():
        if values != beside[key]:
            details.pop(key, None)
            if values:
                details[key] = [os.fsdecode(value) if isinstance(value, bytes) else value for value in values]
    return details


def _masks(masks, counts):
    """Run lengths: those given, if they are of the same masks, as another encoder may have written them."""
    lengths = [_run_lengths(mask) for mask in masks]
    given = [{"size": mask["size"], "counts": each} for mask, each in zip(lengths, counts)]
    if len(counts) == len(masks) and len(counts):
        with contextlib.suppress(ValueError):
            if all((coco_mask.decode(each) == mask).all() for each, mask in zip(given, masks, strict=True)):
                return given
    return lengths
