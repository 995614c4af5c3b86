"""MPII Human Pose in its JSON form: a list of persons, each with its image, 16 joints, centre and scale.

M. Andriluka et al., 2D Human Pose Estimation: New Benchmark and State of the Art Analysis, CVPR 2014. The JSON
files are those of HRNet (arXiv:1902.09212; `annot/train.json`, `valid.json`) and of MMPose
(`annotations/mpii_train.json`): `[{"image", "joints" [16][2], "joints_vis" [16], "center" [2], "scale"}, ...]`;
the images lie in `images`.

Numbers in the file are Matlab's, counted from 1: ours are one less. A joint that is not marked (`joints_vis` 0, its
place -1) is (0, 0, 0); the others are visible, 2, because the form does not tell which of them are hidden. MPII has
no boxes: a person's is the square around the centre with sides of scale * 200 pixels, clipped to the image.
"""

import json
import math
import os

import numpy as np

from keras_cnns.data import images
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, Sample, few
from keras_cnns.errors import InputError

CLASSES = ("person",)
KEYPOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
    "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
    "left_wrist")
KEYPOINT_PAIRS = ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))  # right and left
UNIT = 200  # pixels at scale 1, about the height of a person
PLACES = ("annot/{}.json", "annotations/mpii_{}.json", "mpii_{}.json", "{}.json")


def keypoints(root, split="train", shuffle=False, seed=0, on_bad_sample="stop"):
    """Unbatched `tf.data.Dataset` of images and the `keypoints` and `boxes` of their persons, in order of the file.

    Elements as of `samples.dataset`. Every image is decoded once before (`samples.check`), so bad ones are known at
    the call; those left out are told in one warning.

    Args:
      shuffle: another order, the same for the same seed and in every pass.
      The others as of `samples`.
    """
    return sample_data.checked_dataset(samples(root, split, on_bad_sample), shuffle, seed, on_bad_sample)


def samples(root, split="train", on_bad_sample="stop"):
    """Reads the annotations of a split, and of the images their headers, for the size.

    Args:
      root: the folder that holds `images` and the JSON files, or a JSON file.
      split: of a folder, the file of one of `PLACES`; "val" is HRNet's "valid".
      on_bad_sample: "stop" raises at the first image with a bad annotation, "skip" goes on without.

    Returns:
      `(samples, skipped)`: a list of `Sample`, one for each image with all its persons, and one line on each that
      was skipped. `details` has each person's "center" and "scale" as the file has them; an image_id is the image's
      name in the file, without the suffix.

    Raises:
      InputError: one line.
    """
    path = _path(root, split)
    folder = _images(path)
    read = sample_data.attempt(lambda item: _sample(path, folder, *item))
    items = _by_image(path).items()
    return sample_data.sift(sample_data.in_parallel(read, items, "Reading sizes", progress=False), on_bad_sample)


def class_names(root=None):
    """`["person"]`, whichever the files."""
    return list(CLASSES)


def _path(root, split):
    root = os.path.abspath(os.path.expanduser(root))
    if os.path.isfile(root):
        return root
    splits = [split] + ["valid"] * (split == "val")
    for name in (place.format(split) for place in PLACES for split in splits):
        if os.path.isfile(os.path.join(root, name)):
            return os.path.join(root, name)
    known = []
    for folder in (os.path.join(root, "annot"), os.path.join(root, "annotations"), root):
        if os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK):
            known += sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    raise InputError(f"{root}: no JSON file of the split {split!r} ({', '.join(PLACES).format(*4 * [split])}). Found: "
                     f"{few(known) or 'none'}; choose one of them, or give the file itself")


def _images(path):
    """The folder of images that belongs to a JSON file."""
    here = os.path.dirname(path)
    for folder in (os.path.join(here, "images"), os.path.join(os.path.dirname(here), "images")):
        if os.path.isdir(folder):
            return folder
    raise InputError(f"{os.path.join(here, 'images')}: no such folder; put MPII's images there")


def _by_image(path):
    """`{image: [(number, entry), ...]}`; entries without an image stand alone, under their numbers."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            entries = json.load(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allow reading it") from None
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, numbers of thousands of digits
        raise InputError(f"{path}: no JSON ({' '.join(str(error).split())}); take a whole copy of the file") from None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: {_brief(entries)} where a list of persons is expected; give MPII's JSON form, "
                         '[{"image": ..., "joints": ...}, ...]')
    found = {}
    for number, entry in enumerate(entries, start=1):
        image = entry.get("image") if isinstance(entry, dict) else None
        found.setdefault(image if isinstance(image, str) and image else number, []).append((number, entry))
    return found


def _sample(path, folder, image, entries):
    """The sample of an image and all persons in it."""
    where = f"{path}: entry {entries[0][0]}"
    if not isinstance(image, str):
        raise InputError(f'{where}: {_brief(entries[0][1])}, expected {{"image": ...}} with a file name; {REMEDY}')
    source = os.path.join(folder, image)
    if not os.path.isfile(source):
        raise InputError(f"{source!r}: image is missing ({where}); {REMEDY}")
    size = images.upright_size(source, source, REMEDY)
    persons = [_person(f"{path}: entry {number} ({image!r})", entry, size) for number, entry in entries]
    joints, boxes, centers, scales = zip(*persons)
    return Sample(
        os.path.splitext(image)[0], source, size, np.array(boxes, "float32"), np.ones(len(persons), "int32"),
        np.zeros(len(persons), bool), {"center": list(centers), "scale": list(scales)},
        keypoints=np.array(joints, "float32"))


def _person(where, entry, size):
    """Joints `[16][3]`, box `[4]`, and centre and scale as they stand."""
    height, width = size
    center, scale = _numbers(where, entry, "center", 2), _number(where, "scale", entry.get("scale"))
    if scale <= 0:
        raise InputError(f"{where}: scale is {scale:g}, expected more than 0; {REMEDY}")
    x, y, half = center[0] - 1, center[1] - 1, scale * UNIT / 2
    box = max(x - half, 0), max(y - half, 0), min(x + half, width), min(y + half, height)
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise InputError(f"{where}: the square around center {center[0]:g}, {center[1]:g} of scale {scale:g} has not "
                         f"a pixel in the image of {width} x {height}; {REMEDY}")
    return _joints(where, entry, width, height), box, entry["center"], entry["scale"]


def _joints(where, entry, width, height):
    if "joints" not in entry and "joints_vis" not in entry:  # the test split
        return [(0, 0, 0)] * len(KEYPOINTS)
    marked = _numbers(where, entry, "joints_vis", len(KEYPOINTS))
    places = entry.get("joints")
    if not isinstance(places, list) or len(places) != len(KEYPOINTS):
        raise InputError(f"{where}: joints is {_brief(places)}, expected a list of {len(KEYPOINTS)}; {REMEDY}")
    joints = []
    for name, mark, place in zip(KEYPOINTS, marked, places):
        x, y = _numbers(where, {name: place}, name, 2)
        if mark not in (0, 1):
            raise InputError(f"{where}: joints_vis of {name} is {mark:g}, expected 0 or 1; {REMEDY}")
        # Joints may lie a little outside, but not as far as another image's, or another unit's.
        if mark and not (-width < x < 2 * width and -height < y < 2 * height):
            raise InputError(f"{where}: {name} at {x:g}, {y:g} is far outside the image of {width} x {height} pixels; "
                             f"{REMEDY}")
        joints.append((x - 1, y - 1, 2) if mark else (0, 0, 0))
    return joints


def _numbers(where, entry, key, count):
    values = entry.get(key)
    if not isinstance(values, list) or len(values) != count:
        raise InputError(f"{where}: {key} is {_brief(values)}, expected a list of {count} numbers; {REMEDY}")
    return [_number(where, key, value) for value in values]


def _number(where, key, value):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise InputError(f"{where}: {key} has {_brief(value)}, expected a number; {REMEDY}")


def _brief(value):
    """What a JSON value is, in a few characters."""
    if value is None:
        return "missing or null"
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
