"""PASCAL VOC's folders: VOCdevkit/VOC<year> with JPEGImages, Annotations and ImageSets/Main.

M. Everingham et al.: The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88(2), 2010; files as the
development kits of 2007 to 2012 have them. One's own data in this layout are read as well: their class names
stand in a `labels.txt`, one a line, in the VOC<year> folder or beside it.

The kit's boxes are 1-based with both edges inside the object, `[xmin, ymin, xmax, ymax]`; ours are
`[xmin - 1, ymin - 1, xmax, ymax]`, so width and height are the kit's. Difficult objects are `ignored`.
`<part>`s of persons are not read.
"""

import math
import os
import pathlib
import re
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np

from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, Sample
from keras_cnns.errors import InputError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")

ROOT = "give a VOCdevkit folder, its parent, or a VOC20xx folder (Annotations, ImageSets/Main, JPEGImages)"
YEAR = re.compile(r"VOC\d{4}")
SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


def detection(root, year=None, split="train", class_names=None, shuffle=False, seed=0, on_bad_sample="stop"):
    """Unbatched `tf.data.Dataset` of images and their objects, in the order of the split's list.

    Elements as of `samples.dataset`. Every image is decoded once before (`samples.check`), so bad ones are known at
    the call; those left out are told in one warning.

    Args:
      shuffle: another order, the same for the same seed and in every pass.
      The others as of `samples`.
    """
    good, bad_annotations = samples(root, year, split, class_names, on_bad_sample)
    good, bad_images = sample_data.check(good, on_bad_sample)
    skipped = bad_annotations + bad_images
    if skipped:
        count = f"{len(skipped)} of {len(skipped) + len(good)} samples left out:"
        warnings.warn("\n".join([count, *skipped]), stacklevel=2)
    order = np.random.default_rng(seed).permutation(len(good)) if shuffle else None
    return sample_data.dataset(good, order)


def samples(root, year=None, split="train", class_names=None, on_bad_sample="stop"):
    """Reads the annotations of a split; images are looked for, not opened.

    Args:
      root: the VOCdevkit folder, its parent, or the VOC<year> folder.
      year: by default the newest there is.
      split: name of a list in ImageSets/Main. An id that is in it twice is read once, where it is first.
      class_names: labels 1..K in this order; by default those of `class_names(root)`.
      on_bad_sample: "stop" raises at the first bad annotation, "skip" goes on without.

    Returns:
      `(samples, skipped)`: a list of `Sample`, and one line on each that was skipped.

    Raises:
      InputError: one line.
    """
    folder = _folder(root, year)
    names = list(_class_names(folder) if class_names is None else class_names)
    ids = _ids(folder, split)
    read = sample_data.attempt(_sample)
    return sample_data.sift((read(folder, image_id, names) for image_id in ids), on_bad_sample)


def class_names(root, year=None):
    """Names of the labels 1..K: those in `labels.txt`, or else VOC's 20.

    It is looked for in the VOC<year> folder, in the folder that holds it, and beside VOCdevkit: by whichever
    of its three names a data set is called, its labels are the same.
    """
    return _class_names(_folder(root, year))


def _folder(root, year):
    """The folder with Annotations, JPEGImages and ImageSets."""
    root = pathlib.Path(os.path.abspath(os.path.expanduser(root)))  # "." has no name, and "voc:~" no shell
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {ROOT}")
    if (root / "Annotations").is_dir() and (year is None or root.name == f"VOC{year}"):
        return root
    devkit = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    found = sorted(path for path in devkit.iterdir() if YEAR.fullmatch(path.name) and path.is_dir())
    if not found:
        inside = ", ".join(sorted(path.name for path in devkit.iterdir())[:5]) or "nothing"
        raise InputError(f"{devkit}: no VOC{year or '20xx'} folder in it, but {inside}; {ROOT}")
    if year is None:
        return found[-1]
    for folder in found:
        if folder.name == f"VOC{year}":
            return folder
    years = ", ".join(folder.name.removeprefix("VOC") for folder in found)
    raise InputError(f"{devkit}: no year {year}. Found: {years}; choose one of them, or leave the year out")


def _class_names(folder):
    places = [folder]
    if YEAR.fullmatch(folder.name):
        places.append(folder.parent)
        if folder.parent.name == "VOCdevkit":
            places.append(folder.parent.parent)
    for path in (place / "labels.txt" for place in places):
        if path.is_file():
            names = _lines(path)
            if not names or len(set(names)) < len(names):
                found = "a name twice" if names else "no name"
                raise InputError(f"{path}: {found} in it; write each class once, a name a line")
            return names
    return list(CLASSES)


def _ids(folder, split):
    """Image ids of a split. A second column, as the lists of one class have it, is left out."""
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        # The lists of one class, car_train.txt, would drown the others.
        stems = sorted(file.stem for file in path.parent.glob("*.txt"))
        known = ", ".join(stem for stem in stems if stem.rpartition("_")[0] not in CLASSES) or "none"
        raise InputError(
            f"{path}: no such split. Found: {known}; choose one of them, or write this list, an id a line")
    ids = dict.fromkeys(re.sub(r"\s+(-1|0|1)$", "", line) for line in _lines(path))
    if not ids:
        raise InputError(f"{path}: the list is empty; write an image id a line, or choose another split")
    return list(ids)


def _lines(path):
    """Lines with something on them, without blanks around it."""
    lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _sample(folder, image_id, names):
    path = folder / "Annotations" / f"{image_id}.xml"
    try:
        tree = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise InputError(f"{path}: annotation is missing; {REMEDY}") from None
    except OSError as error:
        raise InputError(f"{path}: annotation cannot be read ({error.strerror}); {REMEDY}") from None
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: unknown encodings
        raise InputError(f"{path}: annotation is no XML ({error}); {REMEDY}") from None

    width, height = (_number(path, tree, f"size/{side}") for side in ("width", "height"))
    if width < 1 or height < 1 or width % 1 or height % 1:
        raise InputError(f"{path}: <size> {width:g} x {height:g}, expected whole pixels, 1 or more; {REMEDY}")
    boxes, labels = [], []
    details = {"pose": [], "truncated": [], "difficult": [], "occluded": []}
    for number, item in enumerate(tree.findall("object"), start=1):
        name = item.findtext("name", "").strip()
        where = f"{path}: object {number} ({name or 'no name'})"
        if name not in names:
            raise InputError(f"{where}: unknown class. Known: {', '.join(names)}; correct the name, "
                             f"pass class_names=, or list the classes in labels.txt")
        labels.append(names.index(name) + 1)
        boxes.append(_box(where, item, width, height))
        details["pose"].append(item.findtext("pose", "").strip() or "Unspecified")
        for flag in ("truncated", "difficult", "occluded"):
            details[flag].append(int(_number(where, item, flag, default=0) != 0))
    return Sample(
        image_id, _image(folder, image_id, tree.findtext("filename", "")), (int(height), int(width)),
        np.array(boxes, "float32").reshape(-1, 4), np.array(labels, "int32"),
        np.array(details["difficult"], bool), details)


def _image(folder, image_id, filename):
    """Path of the image: the one named by the id, as in the kit, or else the file the annotation names."""
    filename = filename.strip().replace("\\", "/").rpartition("/")[2]  # some tools write a whole path
    for name in filter(None, [*(image_id + suffix for suffix in SUFFIXES), filename]):
        path = folder / "JPEGImages" / name
        if path.is_file():
            return str(path)
    raise InputError(f"{folder / 'JPEGImages' / image_id}.jpg: image is missing (nor is there another of "
                     f"{', '.join(SUFFIXES[:3])}); {REMEDY}")


def _box(where, item, width, height):
    """`[x1, y1, x2, y2]`, 0-based. Up to one pixel outside the image is a tool's rounding, and clipped."""
    edges = [_number(where, item, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
    given = f"box xmin={edges[0]:g} ymin={edges[1]:g} xmax={edges[2]:g} ymax={edges[3]:g}"
    x1, y1, x2, y2 = edges[0] - 1, edges[1] - 1, edges[2], edges[3]
    if min(x1, y1) < -1 or x2 > width + 1 or y2 > height + 1:
        raise InputError(f"{where}: {given} is outside the image of {width:g} x {height:g} pixels; {REMEDY}")
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if x2 <= x1 or y2 <= y1:
        raise InputError(f"{where}: {given} has no area; {REMEDY}")
    return x1, y1, x2, y2


def _number(where, element, tag, default=None):
    """The number in a tag; `default`, if there is one, for a tag that is missing or empty."""
    text = element.findtext(tag, "").strip()
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        found = repr(text) if text else "missing or empty"
        raise InputError(f"{where}: <{tag}> is {found}, expected a number; {REMEDY}")
    return value
