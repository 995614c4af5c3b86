"""PASCAL VOC: VOCdevkit/VOC<year> with Annotations, ImageSets, JPEGImages, SegmentationClass and SegmentationObject.

M. Everingham et al.: The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88(2), 2010; files as the
development kits have them: an XML file an image, and label images as PNG files with a palette. In 2005 and 2006 it
was a text file, "PASCAL Annotation Version 1.00": PAScarRearTrunc in it is a car, its pose Rear, and truncated.

One's own data are read in the same layout, and in plainer ones: Annotations beside JPEGImages or images without
ImageSets, or XML files and images in one folder. Without lists there are no splits: "train", "all" and None are
then every annotation. Class names other than VOC's stand in a `labels.txt` (or labelme's `class_names.txt`), one a
line, in the VOC<year> folder or beside it.

The kit's boxes are 1-based with both edges inside the object, `[xmin, ymin, xmax, ymax]`; ours are
`[xmin - 1, ymin - 1, xmax, ymax]`, so width and height are the kit's. Difficult objects are `ignored`.

What else an annotation says is kept as it is, and `write` gives it back. Of an object, in `Sample.details`: pose, and
truncated, difficult, occluded as 0 or 1; where an object of the image has such, `parts`, a list an object of
`[name, x1, y1, x2, y2]` in our form of boxes, and `tags`, a dict an object of further tags and their text, such as
{"actions/jumping": "1"}. Of the image, in `Sample.about`: the text of every tag, such as {"folder": "VOC2007",
"source/database": "The VOC2007 Database", "segmented": "0"}. A tag that is there twice, has attributes or tags three
deep is kept as XML: {"attributes": "<attributes><attribute><name>..."}; unless they are 50 deep, which nobody wrote.
"""

import contextlib
import copy
import difflib
import json
import math
import os
import pathlib
import re
import tempfile
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import defusedxml
import defusedxml.ElementTree
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns.data import images
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, LabelImage, Sample
from keras_cnns.errors import InputError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
VOID = 255  # in label images: the border of objects, counted neither way

MEND = "repair it, or leave this sample out"
ROOT = ("give a VOCdevkit folder, its parent, a VOC20xx folder (Annotations, ImageSets/Main, JPEGImages), "
        "or a folder of XML files and images")
YEAR = re.compile(r"VOC\d{4}(_\d)?")  # VOC2005 came in two: VOC2005_1, VOC2005_2
ANNOTATIONS = ("Annotations", "annotations")
PICTURES = ("JPEGImages", "PNGImages", "images", "Images")
SUFFIX = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp", "GIF": ".gif", "WEBP": ".webp",
          "TIFF": ".tif", "PPM": ".ppm"}
SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", *(
    suffix for lower in (".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm") for suffix in (lower, lower.upper())))
NO_CLASS = ("_background_", "__ignore__")  # what labelme calls the labels 0 and -1
FLAGS = ("truncated", "difficult", "occluded")
OURS = "keras_cnns"  # the tag of what VOC has no tag for, as JSON
OBJECT = {"name", "pose", *FLAGS, "bndbox", "part", OURS}  # tags of an object that are read for themselves
WHOLE = re.compile(r"-?\d+", re.ASCII)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,4})?", re.ASCII | re.IGNORECASE)
OLD_BOX = re.compile(r'Bounding box for object \d+ "([^"\n]*)"[^:\n]*:[ \t]*'
                     r"\(([^,()\s]+),\s*([^,()\s]+)\)\s*-\s*\(([^,()\s]+),\s*([^,()\s]+)\)")
OLD_NAME = re.compile("(?:PAS)?(.*?)(Frontal|Rear|Left|Right|Side|Walking|Standing|Sitting)?(Trunc)?(Difficult)?", re.S)
TAG = r"[A-Za-z_][A-Za-z0-9_.-]*"
TAGS = re.compile(rf"{TAG}(/{TAG})?")
TEXT = re.compile("[\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")  # XML 1.0, section 2.2; \r would become \n


def detection(root, year=None, split="train", class_names=None, shuffle=False, seed=0, on_bad_sample="stop",
              masks=False):
    """Unbatched `tf.data.Dataset` of images and their objects, in the order of the split's list.

    Elements as of `samples.dataset`. Every image is decoded once before (`samples.check`), so bad ones are known at
    the call; those left out are told in one warning.

    Args:
      shuffle: another order, the same for the same seed and in every pass.
      The others as of `samples`.
    """
    found = samples(root, year, split, class_names, on_bad_sample, masks)
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def segmentation(root, year=None, split="train", class_names=None, shuffle=False, seed=0, on_bad_sample="stop",
                 masks=False):
    """As `detection`, with `segmentation` uint8 `[H, W]`; samples as of `segmentation_samples`."""
    found = segmentation_samples(root, year, split, class_names, on_bad_sample, masks)
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def classification(root, year=None, split="train", class_names=None, shuffle=False, seed=0, on_bad_sample="stop"):
    """As `detection`, with `present` int32 `[K]`; samples as of `classification_samples`."""
    found = classification_samples(root, year, split, class_names, on_bad_sample)
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def classification_by_lists(root, year=None, split="train", class_names=None, shuffle=False, seed=0,
                            on_bad_sample="stop"):
    """As `classification`, from the lists of the classes; samples as of `classification_samples_by_lists`."""
    found = classification_samples_by_lists(root, year, split, class_names, on_bad_sample)
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def samples(root, year=None, split="train", class_names=None, on_bad_sample="stop", masks=False):
    """Reads the annotations of a split; images are looked for, and opened only where no size is told (0 x 0).

    Args:
      root: the VOCdevkit folder, its parent, the VOC<year> folder, or one without lists.
      year: by default the newest there is.
      split: name of a list in ImageSets/Main, or else in ImageSets itself, or in another folder of it:
        "Segmentation/train". An id that is in it twice is read once, where it is first. "all", if no list is called
        so, or None: every annotation, sorted by name. In a folder without lists "train" is the same.
      class_names: labels 1..K in this order; by default those of `class_names(root)`. Numbers in label images are
        those of the data's own names, and become labels by name; where the data have no names in a file, and the
        given ones are not VOC's 20 in another order, they are labels as they are.
      on_bad_sample: "stop" raises at the first bad annotation, "skip" goes on without.
      masks: with those of SegmentationObject, where object i has the number i + 1. Only images that have such a
        file can be read so: those of "Segmentation/train" and the like. None: with them if all have.

    Returns:
      `(samples, skipped)`: a list of `Sample`, and one line on each that was skipped.

    Raises:
      InputError: one line.
    """
    home, names = _home_and_names(root, year, class_names)
    ids = _ids(home, "Main", split, names)
    masks = _have_masks(home, ids) if masks is None else masks
    read = sample_data.attempt(_sample)
    return sample_data.sift((read(home, image_id, names, masks) for image_id in ids), on_bad_sample)


def segmentation_samples(root, year=None, split="train", class_names=None, on_bad_sample="stop", masks=False):
    """Samples with `segmentation`, the label image in SegmentationClass: 0 background, 1..K, 255 ignored.

    Their objects are those of the XML, if there is one: an image without is not an error here. Label images are
    opened, since they are the annotation: one with a label above K other than 255 is a bad sample.

    Args:
      split: name of a list in ImageSets/Segmentation, or in another folder: "Main/train". "all", None, and "train"
        where there are no lists: every file of SegmentationClass.
      The others, result and errors as of `samples`.
    """
    home, names = _home_and_names(root, year, class_names)
    ids = _ids(home, "Segmentation", split, names)
    masks = _have_masks(home, ids) if masks is None else masks
    table = _table(home, names)
    read = sample_data.attempt(lambda image_id: _segmented(home, image_id, names, masks, table))
    return sample_data.sift(sample_data.in_parallel(read, ids, "Reading label images"), on_bad_sample)


def classification_samples(root, year=None, split="train", class_names=None, on_bad_sample="stop"):
    """Samples with `present`, by their objects: 1 if one of the class is not difficult, 0 if all are, -1 without one.

    Arguments, result and errors as of `samples`.
    """
    _, names = _home_and_names(root, year, class_names)
    good, skipped = samples(root, year, split, names, on_bad_sample)
    return [sample._replace(present=sample_data.present(sample, len(names))) for sample in good], skipped


def classification_samples_by_lists(root, year=None, split="train", class_names=None, on_bad_sample="stop"):
    """Samples with `present`, as ImageSets/Main/<class>_<split>.txt says; annotations are not read.

    Arguments, result and errors as of `samples`; and a list of a class that is missing or lacks an image is an error.
    """
    home, names = _home_and_names(root, year, class_names)
    ids = _ids(home, "Main", split, names)
    flags = np.array([_flags(home, split, name, ids) for name in names], "int32").T
    read = sample_data.attempt(
        lambda image_id, present: Sample(image_id, _image(home, image_id, ""), present=present))
    return sample_data.sift((read(*row) for row in zip(ids, flags)), on_bad_sample)


def class_names(root, year=None):
    """Names of the labels 1..K: those in `labels.txt` or `class_names.txt`, or else VOC's 20.

    It is looked for in the VOC<year> folder, in the folder that holds it, and beside VOCdevkit: by whichever
    of its three names a data set is called, its labels are the same. labelme's names of what is no class,
    `_background_` and `__ignore__`, are left out.
    """
    return _class_names(_home(root, year)) or list(CLASSES)


def unannotated(root, year=None):
    """Paths of the images that no annotation belongs to, sorted. They are in no error, since nothing asks for them."""
    home = _home(root, year)
    pictures = {name: os.path.splitext(name)[0] for name in _listed(home.pictures) if name.endswith(SUFFIXES)}
    annotated = set(_annotated(home))
    other_names = set()
    for stem in annotated - set(pictures.values()):  # such an annotation may name its image
        with contextlib.suppress(InputError):
            other_names.add(_filename(_parsed(home, stem)[1]))
    return [str(home.pictures / name) for name, stem in sorted(pictures.items())
            if stem not in annotated and name not in other_names]


def write(samples, root, class_names, year="2012", split="trainval", sublists=None, progress=True):
    """Writes samples in the genuine layout, so that reading it gives them back.

    Images are copied to the byte. Label images get VOC's palette. Boxes are written with all digits of their float32
    (down to 2**-52 pixels, since the kit's are greater by 1), and all that `Sample.details` and `Sample.about` hold:
    in VOC's tags what came from there, anything else as JSON in a tag `<keras_cnns>`, by which tuples become lists.
    So are masks that overlap, as run lengths, since in the one label image of all objects later ones lie over earlier.
    VOC has no place for keypoints and for the label of a whole image. Reading adds what VOC's form says of every image
    and object (folder, filename, segmented, pose, truncated, ...).

    The folder appears whole or not at all, under its name only when all is written.

    Args:
      samples: of any reader; their ids, which become file names, and labels 1..K. A size of (0, 0) is looked up.
      root: the VOCdevkit folder, which must not be there. `VOC<year>` is made in it, and `labels.txt` unless the
        classes are VOC's 20.
      class_names: of the labels 1..K.
      split: what the list of all samples is called; with ImageSets/Main/<class>_<split>.txt, 1, 0 or -1 as of
        `classification_samples` (unless the class's name cannot be a file's), or as `present` says where a sample has
        that; and with ImageSets/Segmentation/<split>.txt, if there are masks or segmentations.
      sublists: further lists of some of them, {split: image ids}.
      progress: show a bar on standard error, if that is a terminal.

    Returns:
      the path of the VOCdevkit folder.

    Raises:
      InputError: one line: the folder is there or cannot be written; an id is no file name, or there twice; a box is
        not inside its image, a label not in 1..K; an image cannot be read, or has another size.
    """
    root = pathlib.Path(os.path.abspath(os.path.expanduser(root)))
    samples, names = list(samples), list(class_names)
    lists = {split: [sample.image_id for sample in samples], **(sublists or {})}
    _check_plan(root, samples, names, year, lists)
    by_id = {sample.image_id: sample for sample in samples}
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".voc.", dir=root.parent) as aside:
            new = pathlib.Path(aside, root.name)
            home = new / f"VOC{year}"
            for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
                (home / folder).mkdir(parents=True)
            written = sample_data.in_parallel(
                lambda sample: _write_sample(home, sample, names), samples, "Writing images", progress)
            with contextlib.closing(written):
                for _ in written:
                    pass
            for name, ids in lists.items():
                _write_lists(home, name, [by_id[image_id] for image_id in ids], names)
            if names != list(CLASSES):
                _write_lines(new / "labels.txt", names)
            os.rename(new, root)
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror or error}); free the way, or name another "
                         "folder") from None
    return root


class _Home(NamedTuple):
    """Where a data set's files are."""

    path: pathlib.Path
    annotations: pathlib.Path
    pictures: pathlib.Path


def _home_and_names(root, year, class_names):
    home = _home(root, year)
    return home, list((_class_names(home) or CLASSES) if class_names is None else class_names)


def _home(root, year):
    path = _folder(root, year)

    def first(names):
        return next((path / name for name in names if os.path.isdir(path / name)), path)

    return _Home(path, first(ANNOTATIONS), first(PICTURES))


def _folder(root, year):
    """The folder with Annotations, JPEGImages and ImageSets, or as much of that as there is."""
    root = pathlib.Path(os.path.abspath(os.path.expanduser(root)))  # "." has no name, and "voc:~" no shell
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such folder; {ROOT}")
    marks = (*ANNOTATIONS, "ImageSets", "SegmentationClass")
    if any(os.path.isdir(root / mark) for mark in marks) and (year is None or root.name == f"VOC{year}"):
        return root
    devkit = root / "VOCdevkit" if os.path.isdir(root / "VOCdevkit") else root
    found = [devkit / name for name in _listed(devkit) if YEAR.fullmatch(name) and os.path.isdir(devkit / name)]
    if not found:
        if year is None and _stems(root, ".xml"):
            return root
        inside = ", ".join(_listed(devkit)[:5]) or "nothing"
        raise InputError(f"{devkit}: no VOC{year or '20xx'} folder in it, but {inside}; {ROOT}")
    if year is None:
        return found[-1]
    for folder in found:
        if folder.name == f"VOC{year}":
            return folder
    years = ", ".join(folder.name.removeprefix("VOC") for folder in found)
    raise InputError(f"{devkit}: no year {year}. Found: {years}; choose one of them, or leave the year out")


def _listed(folder):
    """Names in a folder, sorted, without hidden ones."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: folder cannot be read ({error.strerror}); {ROOT}") from None


def _stems(folder, suffix):
    """Names of a folder's files of a suffix, without it, sorted. There are none in a folder that is not there."""
    names = _listed(folder) if os.path.isdir(folder) else []
    return sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix))


def _annotated(home):
    """Image ids of all annotations, sorted. The texts of 2005 lie in folders: their ids are folder/name."""
    found = _stems(home.annotations, ".xml")
    if found or home.annotations == home.path:  # beside images, a text may be anything
        return found
    return sorted(_stems(home.annotations, ".txt") + [
        f"{folder}/{stem}" for folder in _listed(home.annotations) if os.path.isdir(home.annotations / folder)
        for stem in _stems(home.annotations / folder, ".txt")]) if os.path.isdir(home.annotations) else []


def _class_names(home):
    """Those in a file; None without one."""
    places = [home.path]
    if YEAR.fullmatch(home.path.name):
        places.append(home.path.parent)
        if home.path.parent.name == "VOCdevkit":
            places.append(home.path.parent.parent)
    for path in (place / name for place in places for name in ("labels.txt", "class_names.txt")):
        if os.path.isfile(path):
            names = [name for name in _lines(path) if name not in NO_CLASS]
            if not names or len(set(names)) < len(names):
                found = "a name twice" if names else "no name"
                raise InputError(f"{path}: {found} in it; write each class once, a name a line")
            if not all(TEXT.fullmatch(name) for name in names):
                raise InputError(f"{path}: a name in it is no text in UTF-8; save it as UTF-8")
            return names
    return None


def _table(home, names):
    """The labels that numbers in label images mean: {number: label}; None if numbers are labels."""
    own = _class_names(home) or list(CLASSES if set(CLASSES) <= set(names) else names)
    if names[:len(own)] == own:
        return None
    return {0: 0, VOID: VOID} | {i: names.index(name) + 1 for i, name in enumerate(own, start=1) if name in names}


def _ids(home, kind, split, names):
    """Image ids of a split. Further columns, as the lists of one class have them, are left out."""
    there = _stems(home.path / "SegmentationClass", ".png") if kind == "Segmentation" else _annotated(home)
    lists = _lists(home, kind, names)
    if split is None or (split == "all" and "all" not in lists) or (split == "train" and not lists):
        if not there:
            where, form = ("SegmentationClass", "*.png") if kind == "Segmentation" else (home.annotations, "*.xml")
            raise InputError(f"{home.path / where}: no annotation ({form}) in it; {ROOT}")
        return there
    path = _list(home, kind, split)
    if not os.path.isfile(path):
        if not lists:
            raise InputError(f"{path}: no such split, since there are no lists of images; take 'all', which is every "
                             "annotation, or write this list, an id a line")
        raise InputError(f"{path}: no such split. Found: {sample_data.few(lists)}; choose one of them, or 'all', or "
                         "write this list, an id a line")
    known, ids = set(there), {}
    for line in _lines(path):
        while line not in known and WHOLE.fullmatch(_columns(line)[1]):
            line = _columns(line)[0]
        if os.path.isabs(line) or ".." in line.split("/"):
            raise InputError(f"{path}: {_short(line)} is no image id; write names of annotations without .xml")
        ids[line] = None
    if not ids:
        raise InputError(f"{path}: the list is empty; write an image id a line, or choose another split")
    return list(ids)


def _list(home, kind, split):
    sets = home.path / "ImageSets"
    inner = sets / (f"{split}.txt" if "/" in str(split) else f"{kind}/{split}.txt")
    return inner if os.path.isfile(inner) or not os.path.isfile(sets / f"{split}.txt") else sets / f"{split}.txt"


def _lists(home, kind, names):
    """Names of the splits there are: those of a kind (Main, Segmentation) and of none, then others with a folder."""
    sets, classes = home.path / "ImageSets", {*names, *CLASSES}
    found = _stems(sets / kind, ".txt") + _stems(sets, ".txt")
    for folder in _listed(sets) if os.path.isdir(sets) else []:
        found += [f"{folder}/{stem}" for stem in _stems(sets / folder, ".txt") if folder != kind]
    # The lists of one class, car_train.txt, would drown the others.
    return [name for name in dict.fromkeys(found) if name.rpartition("/")[2].rpartition("_")[0] not in classes]


def _flags(home, split, name, ids):
    """1, 0 or -1 of each image, as the list of a class says."""
    path = _list(home, "Main", split)
    path = path.parent / f"{name}_{path.name}"
    if not os.path.isfile(path):
        raise InputError(f"{path}: the list of {name!r} is missing; write it, an id and 1, 0 or -1 a line, or read "
                         "the objects instead (voc.classification)")
    flags = {}
    for line in _lines(path):
        image_id, flag = _columns(line)
        if flag not in ("1", "0", "-1"):
            raise InputError(f"{path}: {_short(line)}, expected an image id and 1, 0 or -1; correct the line")
        flags[image_id] = int(flag)
    missing = [image_id for image_id in ids if image_id not in flags]
    if missing:
        raise InputError(f"{path}: {len(missing)} images of the split {split!r} are not in it, the first "
                         f"{missing[0]}; add them, with 1, 0 or -1")
    return [flags[image_id] for image_id in ids]


def _columns(line):
    """The last column of a line, and what is before."""
    before, *last = line.rsplit(None, 1)
    return before, "".join(last)


def _lines(path):
    """Lines with something on them, without blanks around it."""
    try:
        text = path.read_text("utf-8-sig", errors="surrogateescape")  # as Python has file names that are no UTF-8
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    if "\0" in text:
        raise InputError(f"{path}: is no text in UTF-8 (in UTF-16 perhaps); save it as UTF-8")
    return [line.strip() for line in text.split("\n") if line.strip()]


def _sample(home, image_id, names, masks):
    path, tree = _parsed(home, image_id)
    image = _image(home, image_id, _filename(tree))
    size = height, width = [_number(path, tree, f"size/{side}", default=0) for side in ("height", "width")]
    if size == [0, 0]:
        size = height, width = images.upright_size(image, image, REMEDY)
    if not all(1 <= side <= 2**24 and side % 1 == 0 for side in size):  # beyond that float32 has not every number
        raise InputError(f"{path}: <size> {width:g} x {height:g}, expected whole pixels, 1 or more; {REMEDY}")
    size = int(height), int(width)
    boxes, labels, ignored, extras, rows, runs = [], [], [], [], [], []
    for number, item in enumerate(tree.findall("object"), start=1):
        name = item.findtext("name", "").strip()
        where = f"{path}: object {number} ({' '.join(name.split())[:60] or 'no name'})"
        labels.append(_label(where, name, names))
        boxes.append(_box(where, item, width, height))
        rows.append({
            "pose": item.findtext("pose", "").strip() or "Unspecified",
            **{flag: _flag(where, item, flag) for flag in FLAGS},
            "parts": [_part(f"{where}, part {n}", part) for n, part in enumerate(item.findall("part"), start=1)],
            "tags": _leaves(item, OBJECT)})
        ours = _ours(where, item)
        ignored.append(bool(ours.get("ignored", rows[-1]["difficult"])))
        extras.append(_dict(where, ours.get("details", {})))
        if masks and "mask" in ours:
            runs.append(_mask(where, ours["mask"], size))
    details = {key: [row[key] for row in rows] for key in ("pose", *FLAGS)}
    for key in ("parts", "tags"):
        if any(row[key] for row in rows):
            details[key] = [row[key] for row in rows]
    for key in dict.fromkeys(key for extra in extras for key in extra):
        details[key] = [extra.get(key, row.get(key)) for extra, row in zip(extras, rows)]
    about = {key: text for key, text in _leaves(tree, {"object", OURS}).items()
             if key not in ("size/width", "size/height")}
    return Sample(
        image_id, image, size, np.array(boxes, "float32").reshape(-1, 4), np.array(labels, "int32"),
        np.array(ignored, bool), details, masks=runs if runs and len(runs) == len(labels) else
        LabelImage(_label_file(home, "SegmentationObject", image_id)) if masks else None,
        about={**about, **_dict(path, _ours(path, tree).get("about", {}))})


def _mask(where, runs, size):
    """A mask of run lengths, by columns, which begin with the zeros."""
    pixels = size[0] * size[1]
    if (not isinstance(runs, list) or any(type(run) is not int or run < 0 for run in runs) or sum(runs) != pixels
            or pixels > images.MAX_PIXELS):
        raise InputError(f"{where}: mask {_short(runs)} in <{OURS}>, expected the lengths of runs, {pixels} pixels "
                         f"together; delete the tag, or {REMEDY}")
    return coco_mask.frPyObjects({"size": list(size), "counts": runs}, *size)


def _segmented(home, image_id, names, masks, table):
    """A sample with its label image, which is opened."""
    path = _label_file(home, "SegmentationClass", image_id)
    shape = _check_labels(images.labels(path, path, REMEDY), table or range(len(names) + 1), path).shape
    if os.path.lexists(_file(home, image_id)):
        sample = _sample(home, image_id, names, masks)
    else:
        sample = Sample(image_id, _image(home, image_id, ""), shape,
                        masks=LabelImage(_label_file(home, "SegmentationObject", image_id)) if masks else None)
    return sample._replace(segmentation=LabelImage(path, table))


def _check_labels(numbers, known, name):
    """The same numbers, if each can be the label of a pixel."""
    wrong = numbers[~np.isin(numbers, [*known, VOID])]
    if wrong.size:
        colours = ", or save it with a palette instead of colours" if wrong.max() > 255 else ""
        expected = (f"0 to {len(known) - 1} (there are {len(known) - 1} classes)" if isinstance(known, range) else
                    f"{sample_data.few(sorted(known))} (those of its classes that are in class_names)")
        raise InputError(f"{name}: label {wrong[0]}, expected {expected} and {VOID} for ignored; list all classes in "
                         f"labels.txt{colours}, or {REMEDY}")
    return numbers


def _have_masks(home, ids):
    """Whether there are masks of all images, and objects that they are of."""
    return all(os.path.isfile(home.path / "SegmentationObject" / f"{image_id}.png")
               and os.path.isfile(_file(home, image_id)) for image_id in ids)


def _label_file(home, folder, image_id):
    path = home.path / folder / f"{image_id}.png"
    if not os.path.isfile(path):
        raise InputError(f"{path}: label image is missing; take a split of images that have one, such as "
                         f"'Segmentation/train', or {REMEDY}")
    return str(path)


def _file(home, image_id):
    """Path of an annotation: text only where there is no XML."""
    path, text = (home.annotations / f"{image_id}{suffix}" for suffix in (".xml", ".txt"))
    return text if not os.path.lexists(path) and os.path.isfile(text) and home.annotations != home.path else path


def _parsed(home, image_id):
    """Path and tree of an annotation."""
    path = _file(home, image_id)
    if not os.path.isfile(path):
        raise InputError(f"{path}: annotation is {'no file' if os.path.lexists(path) else 'missing'}; {REMEDY}")
    try:
        if path.suffix == ".txt":
            return path, _from_text(path, path.read_bytes().decode("utf-8", "replace"))
        return path, defusedxml.ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: annotation cannot be read ({error.strerror}); {REMEDY}") from None
    except defusedxml.DefusedXmlException:
        raise InputError(f"{path}: annotation declares a document type or entities (<!DOCTYPE, <!ENTITY), as attacks "
                         f"do and VOC does not; delete the declaration, or {REMEDY}") from None
    except Exception as error:  # besides ParseError what a codec pleases to raise on the encoding it is asked for
        raise InputError(f"{path}: annotation is no XML ({' '.join(str(error).split())}); {REMEDY}") from None


def _from_text(path, text):
    """The tree that the text of 2005 and 2006 means."""
    def told(what):
        found = re.search(rf"(?m)^[# ]*{what}[^:\n]*:(.*)$", text)
        return found[1].strip().strip('"') if found else ""

    boxes, count = OLD_BOX.findall(text), told("Objects with ground truth").partition(" ")[0]
    if "PASCAL Annotation" not in text[:200] or count != str(len(boxes)):
        raise InputError(f"{path}: expected XML beside it, or PASCAL Annotation Version 1.00 in it, with a box of each "
                         f"of {_short(count)} objects (there are {len(boxes)}); {REMEDY}")
    top = ElementTree.Element("annotation")
    sides = zip(("size/width", "size/height", "size/depth"), re.findall(r"\d+", told("Image size")))
    _put(top, {"filename": told("Image filename"), "source/database": told("Database"), **dict(sides)})
    from_0 = told("Top left pixel co-ordinates") == "(0, 0)"  # as in INRIA's set of persons
    for given, *box in boxes:
        name, pose, truncated, difficult = OLD_NAME.fullmatch(given).groups()
        item = ElementTree.SubElement(top, "object")
        _put(item, {"name": name.lower(), "pose": pose or "", "truncated": int(bool(truncated)),
                    "difficult": int(bool(difficult))})
        for edge, number in zip(("xmin", "ymin", "xmax", "ymax"), box):
            _put(item, {f"bndbox/{edge}": float(number) + 1 if from_0 and NUMBER.fullmatch(number) else number})
    return top


def _leaves(element, without):
    """Text of each tag in an element and of those in them: {"filename": "a.jpg", "source/database": "mine"}.

    A tag that is there twice, has attributes or is deeper is there as XML.
    """
    groups, found = {}, {}
    for child in element:
        if child.tag not in without:
            groups.setdefault(child.tag, []).append(child)
    for tag, group in groups.items():
        inner = list(group[0])
        leaves = {f"{tag}/{leaf.tag}": leaf for leaf in inner} if inner else {tag: group[0]}
        mixed = inner and "".join([group[0].text or "", *(leaf.tail or "" for leaf in inner)]).strip()
        texts = {key: (leaf.text or "").strip() for key, leaf in leaves.items()}
        if (len(group) == 1 and len(leaves) == max(len(inner), 1) and not mixed and not group[0].attrib
                and all(TAGS.fullmatch(key) and not texts[key].startswith("<") and not len(leaf) and not leaf.attrib
                        for key, leaf in leaves.items())):
            found.update(texts)
        elif all(child.find("/".join("*" * 50)) is None for child in group):
            found[tag] = "".join(_xml(child) for child in group)
    return found


def _xml(element):
    """An element as text, without the blanks between tags."""
    element = copy.deepcopy(element)
    for each in element.iter():
        each.tail = (each.tail if (each.tail or "").strip() else None) if each is not element else None
        if len(each) and not (each.text or "").strip():
            each.text = None
    return ElementTree.tostring(element, "unicode")


def _ours(where, element):
    """What `write` put into a tag of its own: `ignored` and `details` of an object, `about` of an image."""
    text = element.findtext(OURS, "").strip()
    try:
        return _dict(where, json.loads(text)) if text else {}
    except (ValueError, RecursionError):  # an InputError is a ValueError
        raise InputError(f"{where}: <{OURS}> is {_short(text)}, expected what voc.write wrote; delete the tag, or "
                         f"{REMEDY}") from None


def _dict(where, value):
    if not isinstance(value, dict):
        raise InputError(f"{where}: {_short(value)} in <{OURS}>, expected names and values; delete the tag, or "
                         f"{REMEDY}")
    return value


def _label(where, name, names):
    if name in names:
        return names.index(name) + 1
    folded = {known.casefold(): known for known in names}
    meant = difflib.get_close_matches(name[:60].casefold(), folded, 1)
    hint = f", did you mean {folded[meant[0]]!r}?" if meant else "."
    raise InputError(f"{where}: unknown class{hint} Known: {sample_data.few(names, 30)}; correct the name, "
                     f"pass class_names=, or list the classes in labels.txt")


def _filename(tree):
    return tree.findtext("filename", "").strip().replace("\\", "/").rpartition("/")[2]  # some tools write a whole path


def _image(home, image_id, filename):
    """Path of the image: the one named by the id, as in the kit, or else the file the annotation names."""
    inner, stem = os.path.split(image_id)
    named = [os.path.join(inner, filename)] * (os.path.splitext(filename)[0] == stem)  # which of a.jpg and a.png
    for name in filter(None, [*named, *(image_id + suffix for suffix in SUFFIXES), filename]):
        path = home.pictures / name
        if os.path.isfile(path):
            return str(path)
    raise InputError(f"{home.pictures / image_id}.jpg: image is missing (nor is there another of "
                     f"{', '.join(SUFFIXES[:3])}); {REMEDY}")


def _box(where, item, width, height):
    """`[x1, y1, x2, y2]`, 0-based. Up to one pixel outside the image is a tool's rounding, and clipped."""
    x1, y1, x2, y2 = _edges(where, item)
    given = f"box xmin={x1 + 1:g} ymin={y1 + 1:g} xmax={x2:g} ymax={y2:g}"
    if min(x1, y1) < -1 or x2 > width + 1 or y2 > height + 1:
        raise InputError(f"{where}: {given} is outside the image of {width:g} x {height:g} pixels; {REMEDY}")
    inside = ((x1, width), (y1, height), (x2, width), (y2, height))
    x1, y1, x2, y2 = (np.float32(min(max(edge, 0), limit)) for edge, limit in inside)
    if x2 <= x1 or y2 <= y1:
        raise InputError(f"{where}: {given} has no area; {REMEDY}")
    return x1, y1, x2, y2


def _part(where, item):
    """A head, hand or foot: `[name, x1, y1, x2, y2]`."""
    return [item.findtext("name", "").strip(), *_edges(where, item)]


def _edges(where, item):
    return [_number(where, item, f"bndbox/{edge}", base=base)
            for edge, base in (("xmin", 1), ("ymin", 1), ("xmax", 0), ("ymax", 0))]


def _flag(where, item, tag):
    unknown = item.findtext(tag, "").strip().lower() == "unspecified"
    return 0 if unknown else int(_number(where, item, tag, default=0) != 0)


def _number(where, element, tag, default=None, base=0):
    """The number in a tag, less `base`; `default`, if there is one, for a tag that is missing or empty."""
    text = element.findtext(tag, "").strip()
    if not text and default is not None:
        return default
    if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        found = _short(text) if text else "missing or empty"
        raise InputError(f"{where}: <{tag}> is {found}, expected a number; {REMEDY}")
    return float(text) - base


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _check_plan(root, samples, names, year, lists):
    """Whether there is anything against writing that can be known before."""
    if os.path.lexists(root):
        raise InputError(f"{root}: is there already, and is not written over; remove it, or name another folder")
    if not YEAR.fullmatch(f"VOC{year}"):
        raise InputError(f"No year {year!r}; give four digits, such as 2012.")
    if not samples:
        raise InputError(f"{root}: no samples to write; give one or more")
    for name in names:
        if not (isinstance(name, str) and name and _fits(name) and not set(name) & set("\n\t")) or name in NO_CLASS:
            raise InputError(f"{_short(name)} cannot be the name of a class; give a text of one line without blanks "
                             "around it")
    if not names or len(set(names)) < len(names):
        raise InputError(f"{'A class name is there twice' if names else 'No class names'}; give each class its name")
    for name in lists:
        if not _is_file_name(name):
            raise InputError(f"{_short(name)} cannot be the name of a split, since it cannot be a file's; "
                             "give one such as 'train'")
    seen = set()
    for sample in samples:
        if not _is_file_name(sample.image_id):
            raise InputError(f"{sample.name}: {_short(sample.image_id)} cannot be an image's id in VOC, since it "
                             "cannot be a file's name; give it another image_id")
        if sample.image_id in seen:
            raise InputError(f"{sample.name}: the image id {sample.image_id!r} is there twice; give each its own")
        seen.add(sample.image_id)
    for name, ids in lists.items():
        for image_id in ids:
            if image_id not in seen:
                raise InputError(f"{_short(image_id)} is in the list {name!r}, but not among the samples; give ids of "
                                 "samples")


def _is_file_name(name):
    """Whether it can be a file's name, and a line of a list."""
    if not isinstance(name, str) or not name or name != name.strip() or name.startswith((".", "\ufeff")):
        return False
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return not re.search(r"[\x00-\x1f\x7f/\\]", name)


def _fits(text):
    """Whether a text comes back from XML as it is."""
    return isinstance(text, str) and text == text.strip() and bool(TEXT.fullmatch(text))


def _write_sample(home, sample, names):
    contents = images.read(sample.source, sample.name, MEND)
    header = images.header(contents, sample.name, MEND)
    suffix = os.path.splitext(sample.source)[1] if isinstance(sample.source, str) else ""
    filename = sample.image_id + (suffix if suffix in SUFFIXES else SUFFIX[header.format])
    size = images.upright_size(contents, sample.name, MEND)
    if tuple(sample.size) not in ((0, 0), size):
        raise InputError(f"{sample.name}: image is {size[1]} x {size[0]} pixels, its sample says {sample.size[1]} x "
                         f"{sample.size[0]} (width x height), so the boxes would be wrong; {MEND}")
    numbers, runs = (None, None) if sample.masks is None else _numbered(sample, size)
    tree = _annotation(sample, names, size, home.name, filename, len(header.getbands()), runs)
    (home / "JPEGImages" / filename).write_bytes(contents)
    (home / "Annotations" / f"{sample.image_id}.xml").write_bytes(ElementTree.tostring(tree, "utf-8"))
    if sample.segmentation:
        labels = _check_labels(sample_data.segmentation(sample), range(len(names) + 1), sample.segmentation.name)
        _write_labels(home / "SegmentationClass" / f"{sample.image_id}.png", labels)
    if numbers is not None:
        _write_labels(home / "SegmentationObject" / f"{sample.image_id}.png", numbers)


def _numbered(sample, size):
    """Which object a pixel belongs to, uint8 `[H, W]`: its number from 1 on, 0 none, 255 void; and the run lengths of
    each object's mask, None if these numbers tell them.
    """
    if isinstance(sample.masks, LabelImage):
        numbers = sample_data.label_image(sample.masks)
        numbers = np.where((0 <= numbers) & (numbers <= VOID), numbers, 0).astype("uint8")
        return numbers, None if len(sample.labels) < VOID else [_runs(mask) for mask in sample_data.masks(sample)]
    if len(sample.masks) != len(sample.labels) or any(tuple(mask["size"]) != size for mask in sample.masks):
        raise InputError(f"{sample.name}: its masks are not one for each of {len(sample.labels)} objects, all of "
                         f"{size[1]} x {size[0]} pixels; {MEND}")
    numbers, masks = np.zeros(size, "uint8"), sample_data.masks(sample._replace(size=size))
    for number, mask in enumerate(masks[:VOID - 1], start=1):
        numbers[mask > 0] = number
    told = len(masks) < VOID and all(np.array_equal(numbers == i, mask > 0) for i, mask in enumerate(masks, start=1))
    return numbers, None if told else [_runs(mask) for mask in masks]


def _runs(mask):
    """Lengths of the runs of equal pixels by columns, the first of zeros."""
    changes = np.flatnonzero(np.diff(mask.T.ravel() > 0, prepend=False))
    return np.diff(changes, prepend=0, append=mask.size).tolist()


def _write_labels(path, numbers):
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(numbers)
    image.putpalette(_palette())
    image.save(path)


def _palette():
    """The development kit's: bits 0, 3, 6 of a number are the upper bits of its red, 1, 4, 7 of green, 2, 5 of blue."""
    return [sum((number >> (3 * i + channel) & 1) << (7 - i) for i in range(3))
            for number in range(256) for channel in range(3)]


def _write_lists(home, split, members, names):
    _write_lines(home / "ImageSets" / "Main" / f"{split}.txt", [sample.image_id for sample in members])
    present = [sample_data.present(s, len(names)) if s.present is None else s.present for s in members]
    for k, name in enumerate(names):
        if _is_file_name(name):
            _write_lines(home / "ImageSets" / "Main" / f"{name}_{split}.txt",
                         [f"{sample.image_id} {flags[k]:2d}" for sample, flags in zip(members, present)])
    segmented = [s.image_id for s in members if s.segmentation or s.masks is not None]
    if segmented:
        (home / "ImageSets" / "Segmentation").mkdir(exist_ok=True)
        _write_lines(home / "ImageSets" / "Segmentation" / f"{split}.txt", segmented)


def _write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8", "surrogateescape")


def _annotation(sample, names, size, folder, filename, depth, runs):
    """The XML of a sample. What has no tag in VOC stands in one of ours, as JSON."""
    top = ElementTree.Element("annotation")
    segmented = sample.segmentation or sample.masks is not None
    tags = {"folder": folder, "filename": filename, "size/width": str(size[1]), "size/height": str(size[0]),
            "size/depth": str(depth), "segmented": str(int(bool(segmented)))}
    told = _tags(sample.about, {"object", OURS, "size/width", "size/height"})
    branches = {tag.partition("/")[0] for tag in told if "/" in tag}
    tags = {tag: text for tag, text in {**tags, **told}.items() if _fits(text) and tag not in branches}
    order = ("folder", "filename", "source", "owner", "size", "segmented")  # as in the kits
    rank = {tag: order.index(tag.partition("/")[0]) if tag.partition("/")[0] in order else len(order) for tag in tags}
    _put(top, {tag: tags[tag] for tag in sorted(tags, key=rank.get)})
    for i in range(len(sample.labels)):
        top.append(_object(sample, i, names, size, runs))
    _put_ours(top, sample, {"about": {key: value for key, value in sample.about.items() if key not in told}})
    ElementTree.indent(top, "\t")
    top.tail = "\n"
    return top


def _object(sample, i, names, size, runs):
    where = f"{sample.name}: object {i + 1}"
    label, box = sample.labels[i], sample.boxes[i]
    if not 1 <= label <= len(names):
        raise InputError(f"{where} has the label {label}, expected 1 to {len(names)}; give a name to every class")
    x1, y1, x2, y2 = np.float64(box) + 1  # as they are read again
    if not (1 <= x1 < x2 <= size[1] + 1 and 1 <= y1 < y2 <= size[0] + 1):
        raise InputError(f"{where} has the box {box.tolist()}, which has no area or is not inside the image of "
                         f"{size[1]} x {size[0]} pixels; {MEND}")
    details = {key: _row(sample, key, i) for key in sample.details}
    tags = {"name": names[label - 1], "pose": "Unspecified", "truncated": 0, "occluded": 0,
            "difficult": int(sample.ignored[i])}
    if _fits(details.get("pose")) and details["pose"]:
        tags["pose"] = details.pop("pose")
    for flag in FLAGS:
        if isinstance(details.get(flag), (int, np.integer, np.bool_)) and details[flag] in (0, 1):
            tags[flag] = int(details.pop(flag))
    if not tags["occluded"]:  # as in the kits, of which the first did not have it
        del tags["occluded"]
    item = ElementTree.Element("object")
    _put(item, tags)
    _put_box(item, where, box)
    parts = details.pop("parts", None) or []
    for part in parts if isinstance(parts, (list, tuple)) else [parts]:
        _put_part(item, where, part)
    further = details.get("tags")
    if isinstance(further, dict) and len(_tags(further, OBJECT)) == len(further):
        _put(item, details.pop("tags"))
    ours = {"details": details, **({"mask": runs[i]} if runs else {})}
    if bool(sample.ignored[i]) != bool(tags["difficult"]):
        ours["ignored"] = bool(sample.ignored[i])
    _put_ours(item, sample, ours)
    return item


def _row(sample, key, i):
    values = sample.details[key]
    if not isinstance(values, (list, tuple, np.ndarray)) or len(values) != len(sample.labels):
        raise InputError(f"{sample.name}: details {_short(key)} is no list of {len(sample.labels)} values, one an "
                         f"object; {MEND}")
    return values[i]


def _tags(values, without):
    """Those of a dict that can stand in tags: by names of one or two tags, with texts that come back as they are."""
    def comes_back(key, text):
        if not (isinstance(key, str) and TAGS.fullmatch(key) and _fits(text)) or key in without:
            return False
        element = ElementTree.Element("x")
        _put(element, {key: text})
        return _leaves(element, without) == {key: text}

    found = {key: text for key, text in values.items() if comes_back(key, text)}
    branches = {"size", *(key.partition("/")[0] for key in found if "/" in key)}
    return {key: text for key, text in found.items() if key not in branches}


def _put(element, tags):
    for tag, text in tags.items():
        branch, _, leaf = tag.rpartition("/")
        parent = element.find(branch) if branch else element
        if parent is None:
            parent = ElementTree.SubElement(element, branch)
        inner = _from_xml(str(text)) if not branch else []
        if inner and all(each.tag == leaf for each in inner):
            parent.extend(inner)
        else:
            ElementTree.SubElement(parent, leaf).text = str(text)


def _from_xml(text):
    """The elements in a text that is XML; none in another."""
    with contextlib.suppress(Exception):
        return list(defusedxml.ElementTree.fromstring(f"<x>{text}</x>", forbid_dtd=True)) if text[:1] == "<" else []
    return []


def _put_box(element, where, box):
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box, (1, 1, 0, 0))
    _put(element, {f"bndbox/{edge}": _text(number, base) for edge, number, base in edges})


def _put_part(element, where, part):
    try:
        name, *box = part
        if len(box) != 4 or not _fits(name) or not np.isfinite(box).all():
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(f"{where} has the part {_short(part)}, expected [name, x1, y1, x2, y2]; {MEND}") from None
    item = ElementTree.SubElement(element, "part")
    _put(item, {"name": name})
    _put_box(item, where, box)


def _text(number, base):
    """A number plus `base`, in all its digits."""
    value = float(number) + base
    return str(int(value)) if value.is_integer() else repr(value)


def _put_ours(element, sample, values):
    values = {key: value for key, value in values.items() if value != {}}
    if not values:
        return
    try:
        text = json.dumps(values, default=lambda array: array.tolist())
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{sample.name}: details or about cannot be written as JSON ({error}); take out what is no "
                         "text, number, list or dict") from None
    ElementTree.SubElement(element, OURS).text = text
