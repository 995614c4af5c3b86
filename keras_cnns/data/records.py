"""TFRecord shards: data sets that are read in long stretches, not by file. What is in a record says `examples`.

Samples are dealt to the shards like cards: shard s of N holds the samples s, s + N, s + 2N, ..., so the shards read in
turn give the order they came in, and neighbours of a sorted set are far apart. `<split>.manifest.json` beside the
shards tells class names, numbers and checksums. It vouches for the records: streams of them are not checked again.

Files of the TensorFlow Model Garden and of other tools are read as well, without a manifest. What they hold is taken
from their first 100 records. Their labels go by the class names that stand in the records; where those of split "train"
are there, they are the names of the other splits too, and a record with another name stops the reading. ImageNet's
shards (`image/class/synset`) count from 1, and two of their classes are called crane: with
class_names=("background", *names) they go by number.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import struct
import threading
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_cnns.data import batches, examples
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, LabelImage, few
from keras_cnns.errors import InputError

VERSION = 2
SHARD = 150e6          # bytes of images a shard, about
MOST_SHARDS = 512      # all of them are open at once when they are read in turn
BLOCK = 1024           # records that are shuffled among one another
OPEN = 64              # stretches of files that are read by turns when shuffled,
STRETCHES = 16         # and no fewer than these, of however few files
PEEKED = 100           # records by which files without a manifest are known
ROWS = 100             # objects an image in batches, where no manifest tells the largest number


def write(samples, directory, class_names, split="train", shards=None, on_bad_sample="stop", progress=True):
    """Writes `<directory>/<split>-00000-of-000NN.tfrecord` and so on, and `<split>.manifest.json`.

    First every sample is checked and its image decoded (`samples.check`), then the shards are written, as many at a
    time as there are cores, each aside and then renamed. A call that was ended by force is taken up by the same call:
    shards that are whole, by their checksum, stay.

    Args:
      samples: `Sample`s, all with the same kinds of ground truth. Boxes lie in the image, by up to a pixel.
      class_names: of the labels 1..K, and 0..K-1 of whole images.
      shards: how many, up to 512; by default files of about 150 MB.
      on_bad_sample: "stop" or "skip". progress: show bars.

    Returns:
      `(paths, skipped)`: of the shards, and one line on each sample left out.

    Raises:
      InputError: a bad sample, nothing to write, a full disk, or other samples in this place.
    """
    directory, names = _folder(directory, split), _names(class_names)
    good, unreadable = sample_data.check(samples, on_bad_sample, progress)
    sound = sample_data.attempt(examples.sound)
    good, unsound = sample_data.sift([sound(sample, names) for sample in good], on_bad_sample)
    if not good:
        raise InputError(f"{directory}: no samples to write as {split!r}; give at least one")
    old = _manifest(directory, split)
    count = shards or (old["shards"] if old and old["files"] else _shards(good))
    if not 1 <= count <= min(len(good), MOST_SHARDS):
        raise InputError(f"{count} shards of {len(good)} samples; give 1 to {min(len(good), MOST_SHARDS)}")
    fields, ids = _fields(good), _source_ids(good)
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

    The latter are those of split "train" where it is there, in the order of their numbers, which may have gaps, as
    COCO's have; all records are read for it.

    Raises:
      InputError: there are none, or they contradict one another.
    """
    found = _find(directory, split)
    return found.manifest["class_names"] if found.manifest else _names_in_records(_naming(found, directory, split))


def count(directory, split="train"):
    """The number of records; errors as of `samples`."""
    return int(_find(directory, split).counts.sum())


def samples(directory, split="train", class_names=None, on_bad_sample="stop"):
    """All samples, in the order they were written, their images as bytes: the whole set is in memory.

    Files of other tools are read in turn as well (of up to 512 files), since the Garden's deal records as ours do.
    Masks come as run lengths, label images as PNG, in whatever form they were given.

    Args:
      directory: the folder with `<split>-00000-of-000NN.tfrecord`, `<split>.record-00000-of-000NN`,
        `<split>.tfrecord` or the like.
      class_names: labels 1..K in this order, all that the manifest has among them; or by which records without a
        manifest are read, by number if they have no names.
      on_bad_sample: "stop" or "skip" (a sample; a file that is cut off or damaged stops in any case).

    Returns:
      `(samples, skipped)`: a list of `Sample`, and one line on each that was skipped.

    Raises:
      InputError: one line.
    """
    found = _open(directory, split, class_names)
    one = sample_data.attempt(lambda item: examples.sample(found.form, _where(*item[:2]), item[2]))

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

    Records that no manifest vouches for are checked as they are decoded: a bad one ends the stream with an error that
    names file and record, unless only the pixels of its image, masks or segmentation are bad. A file cut off in its
    midst is an `InputError` of this call, one that is damaged a `tf.errors.DataLossError` when it is read: `verify`
    says which.
    """
    found = _open(directory, split, class_names)
    read = examples.reader(found.form)
    items = _items(found, epochs, seed, shuffle, worker, workers, first, share)
    return items.map(lambda item, place: (read(item), place), tf.data.AUTOTUNE, deterministic=True)


def dataset(directory, split="train", shuffle=False, seed=0, class_names=None):
    """Unbatched `tf.data.Dataset` of the dicts of `samples.dataset`; arguments and errors as of `elements`."""
    stream = elements(directory, split, seed=seed, shuffle=shuffle, class_names=class_names)
    return stream.map(lambda element, _: sample_data.decoded(element), tf.data.AUTOTUNE, deterministic=True)


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
    return batches.batched(items, examples.reader(found.form, rows), image_size, batch, seed, **options)


# Writing.


def _fields(samples):
    """What the samples have, the same for all, since batches need it so."""
    fields = examples.fields(samples[0])
    for sample in samples:
        if (other := examples.fields(sample)) != fields:
            raise InputError(f"{sample.name}: has {other}, the first sample {fields}; write them to two splits")
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
        return None if source is None else [examples.counts(mask).hex() for mask in source]

    digest = hashlib.sha256(json.dumps(settings).encode())
    for sample, source_id in part:
        made = {field: made_of(getattr(sample, field)) for field in ("source", "masks", "segmentation")}
        digest.update(examples.packed([source_id, sample._replace(**made)]))
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
    """Writes a shard; what the manifest says of it."""
    with _aside(path) as aside, tf.io.TFRecordWriter(os.fsencode(aside)) as writer:
        for sample, source_id in part:
            writer.write(examples.example(sample, source_id, names).SerializeToString(deterministic=True))
    return {"records": len(part), "bytes": _stat(path).st_size, "sha256": _checksum(path)}


def _write_manifest(directory, split, manifest):
    with _aside(_manifest_path(directory, split)) as aside:
        os.makedirs(directory, exist_ok=True)
        with open(aside, "w", encoding="ascii") as file:
            json.dump(manifest, file, indent=1, sort_keys=True)


@contextlib.contextmanager
def _aside(path):
    """A path to write to, which takes the given one's place once all is written."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}")
    try:
        yield aside
        os.replace(aside, path)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"{path}: cannot be written ({_reason(error)}); make room, or choose another folder") from None
    finally:
        with contextlib.suppress(OSError):
            os.remove(aside)


def _reason(error):
    """What an error of Python or TensorFlow says, in a line."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    return " ".join(text.split("\n\t [[")[0].split())[:200]


# Files.


class _Set(NamedTuple):
    """The files of a split."""

    paths: list
    counts: np.ndarray  # records in each
    manifest: dict | None
    form: examples.Form | None = None


def _folder(directory, split):
    if not isinstance(split, str) or not re.fullmatch(r"[^/\\\0\n.][^/\\\0\n]*", split):
        raise InputError(f"split {split!r}: give a name without slashes that begins with no dot, such as 'train'")
    return os.path.abspath(os.path.expanduser(directory))


def _names(class_names):
    names = list(class_names or [])
    if not names or len(set(names)) < len(names) or not all(
            isinstance(name, str) and name.strip() and examples.is_text(name) for name in names):
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
    """Paths of another tool's files, in order; an error if a shard is missing."""
    splits = _splits(directory)
    if split not in splits:
        raise InputError(f"{directory}: no records of a split {split!r}. Found: {few(sorted(splits)) or 'none'}; "
                         f"choose one of them, or name the files {split}-00000-of-000NN.tfrecord")
    found = splits[split]
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


def _splits(directory):
    """Paths of all files that are named as records are, by split, by set (there should be one), by shard."""
    number = r"-(\d{1,9})-of-(\d{1,9})"
    pattern = re.compile(rf"([^.].*?)((?:\.(?:tfrecords?|record))?)(?:{number})?((?:\.(?:tfrecords?|record))?)")
    found = {}
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise InputError(f"{directory}: cannot be read ({_reason(error)}); make it readable") from None
    for match in filter(None, map(pattern.fullmatch, names)):
        split, before, shard, total, after = match.groups()
        if before or total or after:
            shards = found.setdefault(split, {}).setdefault((before, total, after), {})
            shards[int(shard or 0)] = os.path.join(directory, match[0])
    return found


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
        for record in tf.data.TFRecordDataset(_encoded([path])).as_numpy_iterator():
            count += 1
            tf.train.Example.FromString(record)
    except tf.errors.OpError as error:
        raise InputError(f"{path}: damaged after record {count} ({_reason(error)}); bring it anew") from None
    except DecodeError:
        raise InputError(f"{path}: record {count} is no tf.train.Example; write it again") from None
    return count


@contextlib.contextmanager
def _naming_the_file(found):
    """TensorFlow's errors do not say in which of the files they arose."""
    try:
        yield
    except tf.errors.OpError as error:
        for shard in range(len(found.paths)):
            _counted(found, shard)
        raise InputError(f"{found.paths[0]}, or a file beside it: cannot be read ({_reason(error)}); bring them "
                         "anew") from None


def _open(directory, split, class_names):
    """The files with what is known of their records."""
    found = _find(directory, split)
    names = None if class_names is None else _names(class_names)
    if found.manifest:
        own = found.manifest["class_names"]
        names = names or own
        if lacking := [name for name in own if name not in names]:
            raise InputError(f"class names {few(names)}: the records have {few(lacking)} too; give all of {few(own)}")
        numbers = (0, *(names.index(name) + 1 for name in own))
        return found._replace(form=examples.Form(tuple(names), True, False, numbers, **found.manifest["fields"]))
    fields, by_number = _peek(found)
    by_name = not (names and by_number)
    names = names or _names_in_records(_naming(found, directory, split))
    return found._replace(form=examples.Form(tuple(names), False, by_name, tuple(range(len(names) + 1)), **fields))


def _naming(found, directory, split):
    """The files whose records tell the class names: those of split "train" where they are there."""
    return _find(directory, "train") if split != "train" and "train" in _splits(_folder(directory, split)) else found


def _where(path, number):
    return f"{os.fsdecode(path)}: record {number + 1}"


def _names_in_records(found):
    """Class names by number, as the records have them."""
    if found.manifest:
        return found.manifest["class_names"]
    both = {}, {}  # numbers by name, of objects and of images
    with _naming_the_file(found):
        for path, number, record in _in_turn(found).as_numpy_iterator():
            where = _where(path, number)
            values = examples.features(record, where)
            for numbers, kind in zip(both, ("image/object/class", "image/class"), strict=True):
                texts, labels = values(f"{kind}/text"), values(f"{kind}/label")
                if len(texts) != len(labels):
                    raise InputError(f"{where}: {len(labels)} of {kind}/label, {len(texts)} names of {kind}/text; "
                                     "give class_names=")
                for name, label in zip(map(os.fsdecode, texts), labels, strict=True):
                    if numbers.setdefault(name, label) != label:
                        raise InputError(f"{where}: class {name!r} has the number {label}, before it was "
                                         f"{numbers[name]}; give class_names=")
    numbers = both[0] or both[1]
    if len(set(numbers.values())) < len(numbers):
        raise InputError(f"{found.paths[0]}: two names for one number among {few(numbers)}; give class_names=")
    if not numbers:
        raise InputError(f"{found.paths[0]}: no class names in the records, and no manifest; give class_names=")
    return sorted(numbers, key=numbers.get)


def _peek(found):
    """What the first records have, as of `examples.fields`, and whether they are ImageNet's."""
    fields = {"masks": False, "segmentation": False, "joints": None, "label": False, "present": False}
    by_number = False
    with _naming_the_file(found):
        for path, number, record in _in_turn(found).take(PEEKED).as_numpy_iterator():
            with contextlib.suppress(InputError):  # `examples.sample` says so
                values = examples.features(record, _where(path, number))
                fields["masks"] |= bool(values(examples.MASK))
                fields["segmentation"] |= bool(values(examples.SEGMENTATION))
                fields["label"] |= bool(values("image/class/label"))
                by_number |= bool(values("image/class/synset"))
                objects, joints = len(values(examples.BOX[0])), len(values(examples.JOINT[0]))
                if objects and joints and fields["joints"] is None:
                    fields["joints"] = joints // objects
    return fields, by_number


# Streams.


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
    def blocks(number):
        rows = tf.numpy_function(
            lambda number: _plan(found.counts, seed, int(number), worker, share), [number], tf.int64)
        records = _stretches(paths, tf.data.Dataset.from_tensor_slices(tf.ensure_shape(rows, [None, 4])), OPEN)
        chance = tf.random.fold_in(tf.constant([seed, worker], tf.int64), number)
        return records.batch(BLOCK).enumerate().map(
            lambda block, items: _shuffled(items, tf.random.fold_in(chance, block)))

    done, rest = divmod(first, share)
    numbers = tf.data.Dataset.range(done, max(epochs, done))
    if shuffle:  # a block is read while the one before is used, be it the last of an epoch
        items = numbers.flat_map(blocks).prefetch(1).unbatch()
    else:
        items = numbers.flat_map(lambda _: in_turn.repeat().take(share * workers).shard(workers, worker))
    items = items.skip(rest)
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
