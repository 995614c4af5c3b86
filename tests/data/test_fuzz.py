"""Whatever is in a file, a reader gives samples or one line that names a file: no other error, no hang, no growth.

A case is made from its number alone: `run(place, number)` makes it again.
"""

import collections
import contextlib
import copy
import gzip
import json
import os
import pathlib
import random
import re
import signal
import traceback
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns.data import coco, folder, images, mpii, pairs, records, report, small, voc
from keras_cnns.data import samples as data_samples
from keras_cnns.data.samples import LabelImage, Sample
from keras_cnns.errors import InputError

SECONDS = 20  # a case
GROWTH = 150  # MB
NAMES = ["dog", "cat"]

NUMBERS = [
    "NaN", "inf", "-inf", "1e308", "-1e308", "1e999", "-1", "0", "-0.0", "", "1e-320", "9" * 400, "9" * 5000, "0x10",
    "1_000", "1,5", "\uff11\uff12", "\u00b2", "true", "None", "1e5", "1.5", "4294967296", "18446744073709551616", "1e",
    "--1"]
VALUES = [
    None, True, False, [], {}, "", "x", "x" * 5000, 0, -1, 1, 2, 1.5, -1e-300, 1e308, float("inf"), float("nan"), 2**31,
    2**63, 10**400, [[]], [[1.0] * 5], [None], {"counts": "", "size": [50, 60]}, {"size": [50, 60], "counts": [3000]},
    {"": {}}, "\ud800", "\0", "../a.png", "/dev/zero", "a.png", "a/../../b", "é\n", [1, 2, 3, 4], [0] * 48, "NaN",
    json.loads("[" * 60 + "]" * 60)]
TEXTS = [
    b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\n", b"\r", b"\t", b"\xff", b"\xed\xa0\x80", b"&lol;", b"&#0;",
    b"&#x110000;", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?xml version='1.0' encoding='utf-16'?>",
    b"<?xml version='1.0' encoding='idna'?>", b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
    b"<a>" * 3000, b"<a " * 50, b"[" * 3000, b'{"a":' * 3000, b'"', b"'", b",", b"\xe2\x80\xa8", b"../", b"/", b"\\",
    b"$HOME", b"~", b"%s", b"{}"]
BYTES = [b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"]
KEYS = ["id", "iscrowd", "is_crowd", "keypoints", "bbox", "caption", "segments_info", "", "é"]
PIECES = {0: rb"-?\d+(\.\d+)?", 1: rb"</?\w+>", 2: rb"<(\w+)>.*?</\1>", 3: rb"[^\n]*\n", 4: rb"\w+", 5: rb"\w+"}


class Target(NamedTuple):
    """A file of a sound data set, and what reads it."""

    root: pathlib.Path
    path: pathlib.Path
    contents: bytes
    kind: str  # "binary", "text", "xml" or "json"
    read: object  # function of on_bad_sample to (samples, skipped)


# Sound data sets, small ones.

def picture(seed=0, height=50, width=60):
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype("uint8")
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return str(path)


def objects(root):
    """Samples with boxes, masks and joints."""
    numbers = np.zeros((50, 60), "uint8")
    numbers[5:20, 5:20], numbers[25:45, 30:50] = 1, 2
    masks = LabelImage(save(root / "given/masks.png", Image.fromarray(numbers)))
    boxes = np.array([[5, 5, 20, 20], [30, 25, 50.5, 45]], "float32")
    joints = np.tile(np.array([[[10, 12, 2], [30, 40, 1], [0, 0, 0]]], "float32"), (2, 1, 1))
    return [Sample(name, save(root / f"given/{name}.png", picture(i)), (50, 60), boxes, np.array([1, 2], "int32"),
                   np.array([False, i == 1]), {"note": ["x", "y"]}, masks, joints)
            for i, name in enumerate("abc")]


def checked(function):
    """Reads, then decodes."""
    def read(on_bad_sample):
        good, skipped = function(on_bad_sample)
        good, more = data_samples.check(good, on_bad_sample, progress=False)
        return good, skipped + more
    return read


def voc_targets(root):
    given = [sample._replace(keypoints=None, segmentation=sample.masks) for sample in objects(root)]
    parts, tags = [[("head", 1.0, 2.0, 3.0, 4.0)], []], [{"actions/jumping": "1"}, {}]
    given[0] = given[0]._replace(details={"pose": ["Left", "Right"], "parts": parts, "tags": tags})
    kit = voc.write(given, root / "kit", NAMES, progress=False, split="train")
    home = kit / "VOC2012"

    def objects_of(on_bad_sample):
        return voc.samples(kit, on_bad_sample=on_bad_sample, masks=True)

    def pixels_of(on_bad_sample):
        return voc.segmentation_samples(kit, on_bad_sample=on_bad_sample)

    def lists_of(on_bad_sample):
        return voc.classification_samples_by_lists(kit, on_bad_sample=on_bad_sample)

    def plain(on_bad_sample):
        voc.unannotated(kit)
        return voc.samples(kit, on_bad_sample=on_bad_sample)

    return [*[(home / "Annotations/a.xml", "xml", read) for read in (checked(objects_of), plain, pixels_of)],
            (home / "ImageSets/Main/train.txt", "text", plain),
            (home / "ImageSets/Main/dog_train.txt", "text", lists_of),
            (home / "ImageSets/Segmentation/train.txt", "text", pixels_of),
            (kit / "labels.txt", "text", checked(pixels_of)),
            (home / "SegmentationClass/b.png", "binary", checked(pixels_of)),
            (home / "SegmentationObject/b.png", "binary", checked(objects_of)),
            (home / "JPEGImages/b.png", "binary", checked(objects_of))]


def coco_targets(root):
    given = [sample._replace(segmentation=sample.masks) for sample in objects(root)]
    coco.write(given, root / "set", NAMES, "train2017", (["nose", "ear", "toe"], [[0, 1]]), progress=False)
    folder = root / "set/annotations"
    instances = json.loads((folder / "instances_train2017.json").read_text())
    triangle = [5.0, 5.0, 20.0, 5.0, 5.0, 20.0]
    runs = coco_mask.decode(instances["annotations"][1]["segmentation"]).ravel("F")
    changes = np.flatnonzero(np.diff(runs)) + 1
    instances["annotations"][0]["segmentation"] = [triangle, triangle]
    instances["annotations"][1]["segmentation"] = {
        "size": [50, 60], "counts": np.diff([0, *changes, runs.size]).tolist()}
    (folder / "instances_train2017.json").write_text(json.dumps(instances))
    numbers = np.zeros((50, 60, 3), "uint8")
    numbers[:, 30:] = (1, 2, 0)
    save(folder / "panoptic_train2017/a.png", Image.fromarray(numbers))
    segments = [{"id": 513, "category_id": 1, "bbox": [30, 0, 30, 50], "area": 1500, "iscrowd": 0}]
    (folder / "panoptic_train2017.json").write_text(json.dumps({
        "images": [{"id": "a", "file_name": "a.png", "height": 50, "width": 60}],
        "annotations": [{"image_id": "a", "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "dog", "isthing": 1}, {"id": 5, "name": "cat", "isthing": 0}]}))

    def reader(kind, masks):
        def read(on_bad_sample):
            found = coco.samples(root / "set", "train", kind, on_bad_sample=on_bad_sample, masks=masks)
            for sample in found[0]:
                if isinstance(sample.masks, list):
                    data_samples.masks(sample)  # what was taken can be decoded
            return found
        return read

    def joints(on_bad_sample):
        coco.joints(root / "set")
        return reader("keypoints", False)(on_bad_sample)

    instances, keypoints = folder / "instances_train2017.json", folder / "person_keypoints_train2017.json"
    return [*[(instances, "json", reader("instances", masks)) for masks in (True, True, None, False)],
            *[(keypoints, "json", read) for read in (joints, reader("keypoints", False))],
            (folder / "panoptic_train2017.json", "json", checked(reader("panoptic", False))),
            (folder / "panoptic_train2017/a.png", "binary", checked(reader("panoptic", False))),
            *[(root / place / "train2017/a.png", "binary", checked(reader("instances", False)))
              for place in ("set", "set/labels")]]


def list_targets(root):
    made = []
    for name, text in {"labels.tsv": "file\tclass_index\tname\na.png\t3\tcat\nb.png\t0\tdog\n",
                       "labels.csv": 'file,class\na.png,cat\n"b.png",dog\n',
                       "train.tsv": "a.png\tcat\nb.png\tdog\n"}.items():
        place = root / name
        for image in "ab":
            save(place / f"{image}.png", picture())
        (place / name).write_text(text)
        split = "train" if name == "train.tsv" else None

        def read(on_bad_sample, place=place, split=split):
            folder.class_names(place, split)
            return folder.samples(place, split, on_bad_sample=on_bad_sample)

        made.append((place / name, "text", read))
    save(root / "classes/cat/a.png", picture())
    (root / "classes/labels.txt").write_text("cat\ndog\n")
    made.append((root / "classes/labels.txt", "text", lambda on_bad_sample: folder.samples(
        root / "classes", on_bad_sample=on_bad_sample)))
    save(root / "camvid/train/a.png", picture())
    save(root / "camvid/trainannot/a.png", Image.fromarray(np.full((50, 60), 3, "uint8")))
    (root / "camvid/train.txt").write_text("train/a.png trainannot/a.png\ntrain/a.png\ttrainannot/a.png\n")
    made += [(root / f"camvid/{name}", kind, checked(lambda on_bad_sample: pairs.camvid_samples(
        root / "camvid", on_bad_sample=on_bad_sample))) for name, kind in (
            ("train.txt", "text"), ("trainannot/a.png", "binary"))]
    return made


def mpii_targets(root):
    save(root / "mpii/images/a.jpg", picture())
    entry = {"image": "a.jpg", "joints": [[5 + i, 6.5 + i] for i in range(16)], "joints_vis": [1] * 15 + [0],
             "center": [30, 25], "scale": 0.1}
    (root / "mpii/train.json").write_text(json.dumps([entry, entry]))

    def read(on_bad_sample):
        return mpii.samples(root / "mpii", on_bad_sample=on_bad_sample)

    return [(root / "mpii/train.json", "json", read), (root / "mpii/images/a.jpg", "binary", read)]


def small_targets(root):
    numbers = np.random.default_rng(0)

    def idx(*shape):
        values = numbers.integers(0, 10, shape).astype("uint8")
        return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes() + values.tobytes()

    made = {}
    for name, pack in (("plain", bytes), ("packed", gzip.compress)):
        made[f"{name}/train-images-idx3-ubyte" + ".gz" * (name == "packed")] = pack(idx(5, 4, 4)), "binary"
        made[f"{name}/train-labels-idx1-ubyte" + ".gz" * (name == "packed")] = pack(idx(5)), "binary"
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)]:
        made[f"cifar10/{name}"] = bytes([3]) + bytes(numbers.integers(0, 256, 3072).astype("uint8")), "binary"
    made["cifar10/batches.meta.txt"] = "\n".join(small.CIFAR10).encode(), "text"
    made["cifar100/train.bin"] = bytes([3, 77]) + bytes(numbers.integers(0, 256, 3072).astype("uint8")), "binary"
    made["cifar100/fine_label_names.txt"] = "\n".join(f"class {i}" for i in range(100)).encode(), "text"
    found = []
    for name, (contents, kind) in made.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(contents)

        def read(on_bad_sample, place=(root / name).parent):
            small.class_names(place)
            return small.samples(place, on_bad_sample=on_bad_sample)

        if not re.search("batch_[2-5]", name):
            found.append((root / name, kind, read))
    return found


def image_targets(root):
    exif = Image.Exif()
    exif[images.ORIENTATION], exif[0x010F] = 6, "a camera"
    made = {"a.jpg": (picture(), {}), "b.jpg": (picture(), {"exif": exif, "progressive": True}),
            "c.jpg": (picture().convert("CMYK"), {}), "a.png": (picture(), {}), "b.png": (picture(), {"exif": exif}),
            "c.png": (picture().quantize(8), {"transparency": 2}),
            "d.png": (Image.fromarray(np.asarray(picture())[..., 0].astype("uint16") * 200), {}),
            "a.gif": (picture(), {"save_all": True, "append_images": [picture(1)]}), "a.bmp": (picture(), {}),
            "b.bmp": (picture().quantize(8), {}), "a.webp": (picture(), {"lossless": True}),
            "b.webp": (picture(), {"exif": exif}),
            "a.tif": (picture(), {"exif": exif}), "b.tif": (picture(), {"compression": "tiff_lzw"}),
            "c.tif": (picture(), {"compression": "jpeg"}), "a.ppm": (picture(), {}),
            "b.pgm": (picture().convert("L"), {})}
    found = []
    for name, (image, options) in made.items():
        place = root / name.replace(".", "_")
        save(place / f"cat/{name}", image, **options)

        def read(on_bad_sample, place=place):
            good, _ = folder.samples(place, on_bad_sample=on_bad_sample)
            for sample in good:
                with contextlib.suppress(InputError):
                    images.upright_size(sample.source, sample.name)
            return report.report(good, ["cat"], progress=False)[0], []

        found += [(place / f"cat/{name}", "binary", read), (place / f"cat/{name}", "binary", checked(
            lambda on_bad_sample, place=place: folder.samples(place, on_bad_sample=on_bad_sample)))]
    numbers = (np.arange(3000) % 5).reshape(50, 60).astype("uint8")
    palette = Image.fromarray(numbers)
    palette.putpalette(bytes(range(96)))
    made = {"a.png": palette, "b.png": Image.fromarray(numbers), "c.png": Image.fromarray(numbers).convert("LA"),
            "d.png": Image.fromarray(numbers > 2),
            "e.png": Image.fromarray(np.dstack([numbers, 0 * numbers, 0 * numbers])),
            "f.png": Image.fromarray(numbers.astype("uint16")), "a.tif": palette, "b.tif": Image.fromarray(numbers),
            "c.tif": Image.fromarray(numbers.astype("int32")), "a.gif": palette, "a.bmp": palette}
    for name, image in made.items():
        place = root / f"labels_{name.replace('.', '_')}"
        save(place / "images/x.png", picture())
        path = pathlib.Path(save(place / f"labels/x{name[1:]}", image))
        for values in (None, {i: i % 4 for i in range(5)}):
            def read(on_bad_sample, place=place, values=values):
                return pairs.samples(place / "images", place / "labels", values, on_bad_sample=on_bad_sample)

            found.append((path, "binary", checked(read)))
    return found


def record_targets(root):
    given = [sample._replace(segmentation=sample.masks, label=1, present=np.array([1, 0])) for sample in objects(root)]
    found = []
    for name in ("ours", "theirs"):
        records.write(given, root / name, NAMES, shards=2, progress=False)
        shard = root / name / "train-00000-of-00002.tfrecord"
        if name == "theirs":
            (root / name / "train.manifest.json").unlink()

        def read(on_bad_sample, place=root / name):
            return records.samples(place, on_bad_sample=on_bad_sample)

        found.append((shard, "records", read))
        found.append((shard, "binary", read))
    found.append((root / "ours/train.manifest.json", "json", found[0][2]))
    return found


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """Targets by group, and how often each is taken."""
    groups = {}
    for make, weight in ((voc_targets, 8), (coco_targets, 8), (list_targets, 4), (mpii_targets, 2), (small_targets, 4),
                         (image_targets, 12), (record_targets, 4)):
        root = tmp_path_factory.mktemp(make.__name__)
        found = [Target(root, path, path.read_bytes(), kind, read) for path, kind, read in make(root)]
        for target in found:
            good, skipped = target.read("stop")
            assert good and not skipped  # sound before it is changed
        groups[make.__name__] = found, weight
    return groups


# Changes.

def changed(rng, target, others):
    """Other contents for a target's file."""
    contents = target.contents
    if target.kind == "json" and rng.random() < 0.7:
        contents = changed_structure(rng, contents)
        if rng.random() < 0.8:
            return contents
    if target.kind == "records":
        return changed_records(rng, target)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        if target.kind == "binary" or rng.random() < 0.3:
            contents = changed_bytes(rng, contents, others)
        else:
            contents = changed_text(rng, contents)
    return contents


def changed_bytes(rng, contents, others):
    contents = bytearray(contents)
    length = len(contents)
    # The beginning matters most.
    at = int(length * rng.random() ** rng.choice([1, 4]))
    end = min(at + rng.choice([1, 2, 4, 16, 256, length]), length)
    change = rng.randrange(9)
    if change == 0 and at < length:
        contents[at] ^= 1 << rng.randrange(8)
    elif change == 1 and at < length:
        contents[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    elif change == 2:
        del contents[at:end]
    elif change == 3:
        contents[at:at] = rng.randbytes(rng.choice([1, 2, 4, 100]))
    elif change == 4:
        contents[at:at] = contents[at:end]
    elif change == 5:
        del contents[at:]
    elif change == 6:
        contents[at:end] = bytes(end - at)
    elif change == 7:
        other = rng.choice(others).contents
        contents[at:] = other[int(len(other) * rng.random()):]
    else:
        contents[at:end] = rng.choice(BYTES)
    return bytes(contents)


def changed_text(rng, contents):
    change = rng.randrange(8)
    places = [match.span() for match in re.finditer(PIECES.get(change, rb"(?=.)|$"), contents)]
    if not places:
        return contents
    (start, end), (other, last) = sorted(rng.choices(places, k=2))
    if change == 0:
        new = rng.choice(NUMBERS).encode()
    elif change in (1, 2, 3, 4):
        new = rng.choice([b"", contents[start:end] * 2, contents[other:last], contents[start:end].swapcase()])
    elif change == 5:
        new = rng.choice(TEXTS)
    elif change == 6:
        return contents[:start] + rng.choice(TEXTS) + contents[start:]
    else:
        return contents.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-32", "utf-8-sig", "utf-16-be"]))
    return contents[:start] + new + contents[end:]


def changed_structure(rng, contents):
    """JSON in which nodes are replaced, deleted, doubled or moved."""
    data = json.loads(contents)
    for _ in range(rng.choice([1, 1, 2, 5])):
        nodes = []

        def walk(value):
            if isinstance(value, (dict, list)):
                for key, each in value.items() if isinstance(value, dict) else enumerate(value):
                    nodes.append((value, key))
                    walk(each)

        walk(data)
        if not nodes or rng.random() < 0.01:
            return json.dumps(rng.choice(VALUES)).encode()
        # As likely at the top, where there are few, as below.
        parent, key = rng.choice(nodes if rng.random() < 0.7 else nodes[:30])
        change = rng.randrange(5)
        if change == 0:
            del parent[key]
        elif change == 1:
            other_parent, other_key = rng.choice(nodes)
            parent[key] = copy.deepcopy(other_parent[other_key])
        elif change == 2 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif change == 2:
            parent[rng.choice(KEYS)] = copy.deepcopy(rng.choice(VALUES))
        else:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(data).encode()


def changed_records(rng, target):
    """A file of records, sound as a file, in one of which a feature is changed."""
    contents, found, at = target.contents, [], 0
    while at < len(contents):
        length = int.from_bytes(contents[at:at + 8], "little")
        found.append(tf.train.Example.FromString(contents[at + 12:at + 12 + length]))
        at += length + 16
    feature = rng.choice(found).features.feature
    for _ in range(rng.choice([1, 1, 2, 4])):
        name = rng.choice(sorted(feature))
        kind = feature[name].WhichOneof("kind")
        values = getattr(feature[name], kind).value if kind else []
        change = rng.randrange(6)
        if change == 0:
            del feature[name]
        elif change == 1:
            feature[name].CopyFrom(feature[rng.choice(sorted(feature))])
        elif change == 2 and len(values):
            values.append(values[0])
        elif change == 3 and len(values):
            del values[rng.randrange(len(values)):]
        elif len(values):
            at = rng.randrange(len(values))
            if kind == "bytes_list":
                values[at] = changed_bytes(rng, values[at], [target]) if values[at] else b"x"
            elif kind == "int64_list":
                values[at] = rng.choice([0, -1, 1, 2, 3, 255, 2**31, 2**62, -2**63])
            else:
                values[at] = rng.choice([0.0, -1.0, 0.5, 1.0, 2.0, 1e30, float("nan"), float("inf"), 1e-40])
    aside = target.path.with_name(".aside")
    with tf.io.TFRecordWriter(str(aside)) as writer:
        for example in found:
            writer.write(example.SerializeToString())
    contents = aside.read_bytes()
    aside.unlink()
    return contents


# Cases.

class Hang(BaseException):
    """Not an Exception, so that nobody takes it for a broken file."""


@contextlib.contextmanager
def limit(seconds):
    def ring(*arguments):
        raise Hang(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_line(line, target):
    assert line.strip() and len(line.splitlines()) == 1, f"not one line: {line!r}"
    assert str(target.root) in line, f"no file named: {line!r}"
    assert len(line) < 5000, f"{len(line)} characters"


def run(targets, number):
    """Makes a case and reads it: what came out in a word, and what is wrong with that or None."""
    rng = random.Random(number)
    groups = list(targets.values())
    group, _ = rng.choices(groups, [weight for _, weight in groups])[0]
    target = rng.choice(group)
    target.path.write_bytes(changed(rng, target, group))
    try:
        with limit(SECONDS):
            good, skipped = target.read(rng.choice(["stop", "stop", "skip"]))
        assert isinstance(good, list) and all(isinstance(sample, Sample) for sample in good)
        for line in skipped:
            check_line(line, target)
        return "some left out" if skipped else "read", None
    except InputError as error:
        try:
            check_line(str(error), target)
        except AssertionError as problem:
            return "wrong", f"case {number}, {target.path}: {problem}"
        return "refused", None
    except (Exception, Hang):
        return "wrong", f"case {number}, {target.path}:\n{''.join(traceback.format_exc().splitlines(True)[-6:])}"
    finally:
        target.path.write_bytes(target.contents)


def memory():
    """MB that the process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def run_all(targets, numbers):
    outcomes, wrong = collections.Counter(), []
    for number in numbers:
        outcome, problem = run(targets, number)
        outcomes[outcome] += 1
        wrong += [problem] * (problem is not None)
    assert not wrong, "\n".join([f"{len(wrong)} of {len(numbers)}", *wrong[:20]])
    assert min(outcomes["read"], outcomes["refused"], outcomes["some left out"]) > len(numbers) / 100
    return outcomes


@pytest.mark.filterwarnings("ignore")
def test_five_hundred_changed_files_are_read_or_refused_in_one_line(targets):
    run_all(targets, range(500))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
def test_ten_thousand_changed_files_are_read_or_refused_and_leave_nothing_behind(targets):
    outcomes = run_all(targets, range(1000))
    before = memory()
    outcomes += run_all(targets, range(1000, 10_000))
    print(dict(outcomes), f"{before:.0f} MB after 1,000 cases, {memory():.0f} MB after all")
    assert memory() - before < GROWTH
