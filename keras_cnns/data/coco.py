"""COCO's files: annotations/instances_<split>.json beside the folder <split> of images, and its two kindred kinds.

T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context, arXiv:1405.0312; the format as cocodataset.org tells it
under "Data format". Panoptic annotation: A. Kirillov et al., Panoptic Segmentation, arXiv:1801.00868. One's own data
in this form are read as well: any one JSON file with its images beside it, in a folder of its split or in `images`,
and Roboflow's <split>/_annotations.coco.json.

COCO's boxes are `[x, y, width, height]`, 0-based; ours are `[x, y, x + width, y + height]`, added in float64 and then
rounded to float32. Crowds (`iscrowd`, or `is_crowd`) are `ignored`. Category ids, which may have gaps and may begin
at 0, become the labels 1..K in the order of the ids; `categories` leads back.

A `Sample.image_id` is the name of the image's file without folders and suffix, as VOC has it; where two images of the
set share that, it is the JSON's id as a string. The JSON's own id, which an evaluation by pycocotools wants, is
`about["id"]`, beside the other fields of the image (file_name, license, coco_url, ...). `details` holds what else is
told of the objects, under its own name: id, area, iscrowd, num_keypoints, whatever a tool has added; None where one
object lacks what another of its image has.

COCO has no place for labels of pixels beside objects. `write` puts them into labels/<split>/<image_id>.png, a PNG file
of one number a pixel, and `samples` finds them there: 0 is background, 1..K the classes, 255 ignored.

COCO's train2017 has two boxes without area, one each in the images 200365 and 550395: read it with
on_bad_sample="skip".
"""

import collections
import contextlib
import json
import os
import pathlib
import re
import reprlib
import shutil
import tempfile
from typing import NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns.data import images as image_data
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, LabelImage, Sample
from keras_cnns.errors import InputError

KINDS = {"instances": "instances", "keypoints": "person_keypoints", "panoptic": "panoptic"}  # what a file begins with
KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle")
KEYPOINT_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))  # left and right, 0-based

ROOT = ("give the folder that holds 'annotations' (instances_train2017.json, ...) beside the folders of images, "
        "or the JSON file itself")
ROBOFLOW = "_annotations.coco.json"
SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff")}  # others are the format's
# What of an annotation has a place of its own in a sample.
PLACED = {"image_id", "category_id", "bbox", "segmentation", "is_crowd"}


def detection(root, split="train", class_names=None, shuffle=False, seed=0, on_bad_sample="stop", masks=False):
    """Unbatched `tf.data.Dataset` of images and their objects, in the order of the file's images.

    Elements as of `samples.dataset`. Every image is decoded once before (`samples.check`), so bad ones are known at
    the call; those left out are told in one warning.

    Args:
      shuffle: another order, the same for the same seed and in every pass.
      The others as of `samples`.
    """
    found = samples(root, split, "instances", class_names, on_bad_sample, masks)
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def keypoints(root, split="train", shuffle=False, seed=0, on_bad_sample="stop"):
    """Unbatched `tf.data.Dataset` of images, objects and their joints, from person_keypoints_<split>.json.

    As `detection`, with `keypoints` float32 `[G, J, 3]` (x, y, 0 unlabelled, 1 hidden or 2 visible), the numbers of the
    file. What the joints are called tells `joints`; COCO's are `KEYPOINTS`.
    """
    found = samples(root, split, "keypoints", on_bad_sample=on_bad_sample)
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def panoptic(root, split="train", class_names=None, shuffle=False, seed=0, on_bad_sample="stop"):
    """Unbatched `tf.data.Dataset` of images whose every pixel is told, from panoptic_<split>.json and its PNG files.

    As `detection`, the objects being the segments, things and stuff (`details["isthing"]`), with `masks` and with
    `segmentation` uint8 `[H, W]`: the labels 1..K, 255 for pixels of no segment and of crowds.
    """
    found = samples(root, split, "panoptic", class_names, on_bad_sample=on_bad_sample)
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def segmentation(root, split="train", class_names=None, shuffle=False, seed=0, on_bad_sample="stop"):
    """Unbatched `tf.data.Dataset` of images and the labels of their pixels; as `panoptic`, without the objects."""
    good, skipped = samples(root, split, "panoptic", class_names, on_bad_sample=on_bad_sample)
    plain = Sample("", "")._asdict()
    kept = {key: plain[key] for key in ("boxes", "labels", "ignored", "masks", "details")}
    found = [sample._replace(**kept) for sample in good], skipped
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def samples(root, split="train", kind="instances", class_names=None, on_bad_sample="stop", masks=False):
    """Reads the annotations of a split; images are looked for, not opened.

    Args:
      root: the folder that holds `annotations`, or Roboflow's folder of splits; or a JSON file, whatever its name,
        and then `split` is not looked at.
      split: as in the file's name, "train2017"; "train" will do where there is only one year.
      kind: "instances", "keypoints" or "panoptic".
      class_names: labels 1..K in this order; by default those of `class_names(root, split, kind)`.
      on_bad_sample: "stop" raises at the first bad image or annotation, "skip" goes on without the image.
      masks: also read the instances' masks: polygons and run lengths of both kinds. An object without a mask is then
        an error, and so is a polygon of less than three points. Without this no segmentation is looked at, but where
        a box is missing and is made of it. None: with masks if every object has one, so that a file of boxes will
        do. Panoptic samples have masks in any case.

    Where labels/<split> beside `annotations` holds PNG files, as `write` makes them, the samples of instances and
    keypoints have `segmentation` too, and an image without its file is a bad one.

    Returns:
      `(samples, skipped)`: a list of `Sample`, and one line on each that was skipped. An annotation of an image that
      is not in the file counts as one skipped.

    Raises:
      InputError: one line. What is wrong with the file as a whole is raised in any case.
    """
    good, skipped, _ = read(root, split, kind, class_names, on_bad_sample, masks)
    return good, skipped


def read(root, split="train", kind="instances", class_names=None, on_bad_sample="stop", masks=False):
    """As `samples`, and the names of the labels 1..K as a third result: to read a large file twice takes its time."""
    data = _read(root, split, kind)
    names = [each["name"] for each in data.categories.values()] if class_names is None else list(class_names)
    known = {name: label for label, name in enumerate(names, start=1)}
    labels = {number: known.get(each["name"]) for number, each in data.categories.items()}
    if (kind == "panoptic" or data.label_folder) and len(known) > 254:
        raise InputError(f"{data.path}: {len(known)} classes, at most 254 can be told in a segmentation; "
                         "name fewer with class_names=")
    joints = _joint_count(data) if kind == "keypoints" else None
    if masks is None:
        given = [each.get("segmentation") for found in data.objects.values() for _, each in found]
        masks = bool(given) and all(given)
    one = sample_data.attempt(_sample)

    def results():
        for number in range(len(data.images)):
            yield one(data, number, kind, labels, masks, joints)
        yield from data.strays

    return *sample_data.sift(results(), on_bad_sample), names


def class_names(root, split="train", kind="instances"):
    """Names of the labels 1..K: those of the categories, in the order of their ids."""
    return list(categories(root, split, kind).values())


def categories(root, split="train", kind="instances"):
    """The file's categories, id to name; the first has label 1, the second 2, ... Arguments as of `samples`."""
    return {number: each["name"] for number, each in _read(root, split, kind).categories.items()}


def joints(root, split="train"):
    """What the joints are called and which are joined in a skeleton: names, and pairs of their numbers, 0-based.

    Raises:
      InputError: the categories of person_keypoints_<split>.json do not tell, or tell different ones.
    """
    data = _read(root, split, "keypoints")
    told = [each for each in data.categories.values() if _joint_names(each)]
    if not told:
        raise InputError(f"{data.path}: no category tells its 'keypoints'; write their names there, in order")
    names = _joint_names(told[0])
    if any(_joint_names(each) != names for each in told):
        raise InputError(f"{data.path}: the categories have different keypoints; make them one file each")
    skeleton = told[0].get("skeleton") or []
    limits = range(1, len(names) + 1)
    if not isinstance(skeleton, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and all(type(joint) is int and joint in limits for joint in pair)
            for pair in skeleton):
        raise InputError(f"{data.path}: skeleton is {_shown(skeleton)}, expected pairs of 1 to {len(names)}; "
                         "correct it, or write []")
    return names, tuple((first - 1, second - 1) for first, second in skeleton)


def write(samples, root, class_names, split="train2017", joints=None, progress=True):
    """Writes samples as COCO has them: images to <root>/<split>, annotations/instances_<split>.json beside.

    Samples with keypoints are written to annotations/person_keypoints_<split>.json as well. `samples` reads them back
    as they were: the images' bytes, ids, order, boxes and keypoints to the bit, labels, masks (those of a label image
    as run lengths), `ignored` as iscrowd, and all lists of `details` and fields of `about`. These have the id, area
    and iscrowd, id and file_name of the file in addition: ids as they were, unless one is missing or there twice; an
    image's file is named by its image id. JSON has no tuples: they come back as lists. Objects without masks get an
    empty segmentation, which pycocotools takes for boxes only. A `segmentation` is written to
    <root>/labels/<split>/<image_id>.png, grey, of the numbers 0, 1..K, 255. `label` and `present` have no place in
    these files. Nothing depends on the date.

    Args:
      samples: of one set, all with keypoints or none, all with a segmentation or none; their images are copied, not
        decoded.
      root: made if need be; other splits in it stay.
      class_names: the labels 1..K, which become the category ids.
      split: name of the new folder and files.
      joints: `(names, pairs)` of the keypoints, as the function `joints` gives them.
      progress: show a bar on standard error, if that is a terminal.

    Returns:
      the path of the root.

    Raises:
      InputError: one line; then nothing is written. The split is there already; an image is unreadable or of another
        size than its sample says; an id cannot be a file's name, or is there twice; a box reaches over the image; what
        is in `details` or `about` cannot be written as JSON.
    """
    samples, names = list(samples), list(class_names)
    if not names or not all(isinstance(name, str) and name.strip() for name in names) or _repeated(names):
        raise InputError(f"class_names are {_shown(names)}, expected different names, at least one")
    if not _is_file_name(split) or split in ("annotations", "labels"):
        raise InputError(f"A split cannot be called {_shown(split)}; give a name that a folder can have: 'train2017'.")
    if not samples:
        raise InputError(f"No samples to write as {split}; give at least one.")
    counts = {None if sample.keypoints is None else sample.keypoints.shape[1] for sample in samples}
    if counts != {None} and joints:
        counts.add(len(joints[0]))
    if len(counts) > 1:
        raise InputError(f"Samples and joints of {' and '.join(map(str, counts))} keypoints; write them as one set "
                         "each")
    segmented = sum(sample.segmentation is not None for sample in samples)
    if segmented not in (0, len(samples)):
        raise InputError(f"{segmented} of {len(samples)} samples have a segmentation; write them as one set each")
    if segmented and len(names) > 254:
        raise InputError(f"{len(names)} classes, at most 254 can be told in a segmentation; leave it out")
    kinds = ["instances"] if counts == {None} else ["person_keypoints", "instances"]
    root = pathlib.Path(os.path.abspath(os.path.expanduser(root)))
    files = [f"annotations/{kind}_{split}.json" for kind in kinds]
    with _aside(root, [split, f"labels/{split}", *files]) as folder:
        records = _copy(samples, folder, split, len(names), progress)
        lines = {kind: [] for kind in kinds}
        numbers = iter(_kept([number for sample in samples
                              for number in sample.details.get("id", [None] * len(sample.labels))]))
        for sample, record in zip(samples, records):
            for annotation, its_joints in _annotations(sample, record, names):
                annotation["id"] = next(numbers)
                lines["instances"].append(_dumped(sample, annotation))
                if its_joints:
                    lines["person_keypoints"].append(_dumped(sample, annotation | its_joints))
        listed = [_dumped(sample, record) for sample, record in zip(samples, records)]
        for kind, file in zip(kinds, files):
            extra = {}
            if joints and kind == "person_keypoints":
                extra = {"keypoints": list(joints[0]), "skeleton": [[a + 1, b + 1] for a, b in joints[1]]}
            classes = [json.dumps({"supercategory": name, "id": number, "name": name} | extra)
                       for number, name in enumerate(names, start=1)]
            _write_json(folder / file, listed, lines[kind], classes)
    return root


# Reading: the file.

class _Data(NamedTuple):
    """A JSON file, its parts looked at as far as they concern all images."""

    path: pathlib.Path
    images: list
    image_ids: list  # as samples have them, None where the name of a file is none
    shared: dict  # "id", "file_name", "object": those that are there more than once
    objects: dict  # an image's id: its annotations, with their places in the file
    keys: list  # all fields that objects have
    categories: dict  # by id, in order
    folders: list  # where images may be
    label_folder: str | None  # where the label images are
    flat: bool  # no two images have the same name in different folders
    strays: list  # an error for each annotation of no image


def _read(root, split, kind):
    path = _annotation_file(root, split, kind)
    contents = _json(path)
    images, annotations = _lists(path, contents, kind)
    ids = _field(images, "id", _is_id)
    files = _field(images, "file_name", lambda name: isinstance(name, str) and name)
    objects, strays, keys = {each: [] for each in ids if each is not None}, [], {}
    for number, annotation in enumerate(annotations, start=1):
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if _is_id(image_id) and image_id in objects:
            objects[image_id].append((number, annotation))
            keys.update({} if kind == "panoptic" else annotation)
        else:
            problem = "of no image of this file" if _is_id(image_id) else "no id"
            called = f"{_called(number, annotation)}: image_id {_shown(image_id)}"
            strays.append(InputError(f"{path}: {called} is {problem}; {REMEDY}"))
    shared = {"id": _repeated(ids), "file_name": _repeated(files), "object": _repeated(
        each["id"] for found in objects.values() for _, each in found if _is_id(each.get("id")))}
    stems = {_stem(file) for file in set(files) - {None}}
    flat = len(stems) == len(set(files) - {None})
    image_ids = [None if file is None else _stem(file) if flat else str(number) for file, number in zip(files, ids)]
    found = _categories(path, contents["categories"], annotations)
    return _Data(path, images, image_ids, shared, objects, list(keys), found, _folders(path),
                 None if kind == "panoptic" else _label_folder(path), flat, strays)


def _field(records, key, is_good):
    """What a field holds; None where it is none."""
    values = [each.get(key) if isinstance(each, dict) else None for each in records]
    return [value if is_good(value) else None for value in values]


def _annotation_file(root, split, kind):
    """Path of the JSON file of a split."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"No kind {kind!r}. Known: {', '.join(KINDS)}.")
    root, split = pathlib.Path(os.path.abspath(os.path.expanduser(root))), str(split)
    if os.path.isfile(root):
        return root
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such folder or file; {ROOT}")
    folder = root / "annotations"
    inside = _listed(folder) if os.path.isdir(folder) else []
    beside = _listed(root)
    found = {match[1]: folder / match[0] for match in map(re.compile(rf"{KINDS[kind]}_(.+)\.json", re.S).fullmatch,
                                                          inside) if match}
    if not found and kind != "panoptic":
        found = {name: root / name / ROBOFLOW for name in beside if os.path.isfile(root / name / ROBOFLOW)}
    if split in found:
        return found[split]
    years = [name for name in found if re.fullmatch(re.escape(split) + r"\d{4}", name)]
    if len(years) == 1:
        return found[years[0]]
    if split == "val" and not years and "valid" in found:  # Roboflow's word
        return found["valid"]
    if found:
        problem = f"is of {len(years)} years" if years else "is not there"
        raise InputError(f"{root}: split {split!r} of {kind} {problem}. Found: {', '.join(found)}; name one of them")
    files = [name for name in inside + beside if name.endswith(".json")][:8]
    raise InputError(f"{root}: no file annotations/{KINDS[kind]}_{split}.json. JSON files: "
                     f"{', '.join(files) or 'none'}; {ROOT}")


def _listed(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: folder cannot be read ({error.strerror}); {ROOT}") from None


def _folders(path):
    """Where the images of a JSON file may be, the genuine place first."""
    own = _split(path)
    here, above = path.parent, path.parent.parent
    places = (above / own, above / "images" / own, here / own, here / "images" / own, here, here / "images",
              above / "images", above)
    return list(dict.fromkeys(place for place in places if os.path.isdir(place)))


def _split(path):
    """The split that the name of a JSON file tells."""
    return re.sub(rf"^({'|'.join(KINDS.values())})_", "", path.stem)


def _label_folder(path):
    """The folder of label images that belongs to a JSON file, if it is there and holds such."""
    folder = path.parent.parent / "labels" / _split(path)
    is_one = os.path.isdir(folder) and any(name.endswith(".png") for name in _listed(folder))
    return str(folder) if is_one else None


def _json(path):
    try:
        contents = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: annotations cannot be read ({error.strerror}); {ROOT}") from None
    except (ValueError, RecursionError) as error:  # the first: also of encodings, and of numbers with 5000 digits
        raise InputError(f"{path}: annotations are no JSON ({error}); fetch or write the file again") from None
    if not isinstance(contents, dict):
        raise InputError(f"{path}: a {_type(contents)}, expected an object with 'images', 'annotations' and "
                         f"'categories' (detections are no annotations); {ROOT}")
    return contents


def _lists(path, contents, kind):
    """The images and annotations of a file of this kind."""
    annotations = contents.get("annotations")
    first = next((each for each in annotations if isinstance(each, dict)), {}) if isinstance(annotations, list) else {}
    is_captions, is_panoptic = "caption" in first and "bbox" not in first, "segments_info" in first
    if is_captions or is_panoptic != (kind == "panoptic") and annotations:
        found = "captions" if is_captions else "panoptic annotations" if is_panoptic else "annotations of objects"
        raise InputError(f"{path}: {found}, expected {kind}; give a file such as {KINDS[kind]}_train2017.json, "
                         "or read it as what it is")
    for key in ("images", "annotations", "categories"):
        if not isinstance(contents.get(key), list):
            found = f"is a {_type(contents[key])}, expected a list" if key in contents else "is missing"
            raise InputError(f"{path}: {key!r} {found}; give a file with 'images', 'annotations' and 'categories'")
    if not contents["images"]:
        raise InputError(f"{path}: 'images' is empty; list at least one image, or choose another file")
    return contents["images"], annotations


def _categories(path, listed, annotations):
    """Categories by id, in order. Of several with one name, those that no annotation uses do not count: Roboflow adds
    one with the name of the project."""
    found = {}
    for number, each in enumerate(listed, start=1):
        identity, name = (each.get("id"), each.get("name")) if isinstance(each, dict) else (None, None)
        if type(identity) is not int or not isinstance(name, str) or not name.strip():
            raise InputError(f"{path}: category {number} is {_shown(each)}, expected an 'id', a whole number, and a "
                             "'name'; correct it")
        if identity in found:
            raise InputError(f"{path}: category id {identity} is there twice; give each category an id of its own")
        found[identity] = each
    if not found:
        raise InputError(f"{path}: category list is empty; name each class once")
    used, by_name = _used(annotations), {}
    for identity, each in sorted(found.items(), key=lambda item: (item[0] not in used, item[0])):
        if by_name.setdefault(each["name"], identity) != identity and identity in used:
            raise InputError(f"{path}: category name {_shown(each['name'])} is there twice; name each class once")
    return {identity: found[identity] for identity in sorted(by_name.values())}


def _used(annotations):
    """The category ids that annotations, or their segments, have."""
    segments = _field(annotations, "segments_info", lambda value: isinstance(value, list))
    return {number for each, inner in zip(annotations, segments)
            for number in _field(inner or [each], "category_id", lambda value: type(value) is int)}


def _called(place, annotation):
    """What to call an annotation, or a segment, which has no place in the file."""
    word = "segment" if place is None else "annotation"
    if not isinstance(annotation, dict):
        return f"{word} number {place}, {_shown(annotation)}"
    return f"{word} {_shown(annotation['id'])}" if "id" in annotation else f"{word} number {place}"


def _joint_names(category):
    names = category.get("keypoints")
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _joint_count(data):
    """How many joints the objects of a file have."""
    counts = {len(_joint_names(each)) for each in data.categories.values()} - {0}
    if len(counts) > 1:
        raise InputError(f"{data.path}: categories of {' and '.join(map(str, sorted(counts)))} keypoints; make them "
                         "one file each")
    if counts:
        return counts.pop()
    lists = (each.get("keypoints") for found in data.objects.values() for _, each in found)
    first = next((each for each in lists if isinstance(each, list) and each and len(each) % 3 == 0), None)
    if first is None and data.objects and any(data.objects.values()):
        raise InputError(f"{data.path}: neither a category nor an object has keypoints; read it as instances")
    return len(first) // 3 if first else len(KEYPOINTS)


# Reading: an image.

def _sample(data, number, kind, labels, masks, joints):
    record = data.images[number]
    called = f"image number {number + 1}"
    try:
        if not isinstance(record, dict):
            raise InputError(f"is {_shown(record)}, expected an object")
        if _is_id(record.get("id")):
            called = f"image {_shown(record['id'])}"
        height, width = _image_size(data, record)
        path = _image(data, record["file_name"])
        called += f" ({_shown(record['file_name'])})"
        found = data.objects[record["id"]]
        about = {key: value for key, value in record.items() if key not in ("height", "width")}
        sample = Sample(data.image_ids[number], path, (height, width), about=about)
        if kind == "panoptic":
            return _with_segments(data, sample, found, labels)
        for place, each in found:
            if _is_id(each.get("id")) and each["id"] in data.shared["object"]:
                raise InputError(f"{_called(place, each)}: another one has this id")
        sample = _with_objects(data, sample, found, labels)
        if data.label_folder:
            sample = sample._replace(segmentation=_labels_of_pixels(data, sample.image_id, labels))
        if masks:
            sample = sample._replace(masks=_each(found, lambda each: _object_mask(each, height, width)))
        if kind == "keypoints":
            rows = _each(found, lambda each: _joints(each.get("keypoints"), joints))
            details = {key: values for key, values in sample.details.items() if key != "keypoints"}
            sample = sample._replace(keypoints=np.array(rows, "float32").reshape(-1, joints, 3), details=details)
        return sample
    except InputError as error:
        raise InputError(f"{data.path}: {called}: {error}; {REMEDY}") from None


def _image_size(data, record):
    """Height and width, of a record whose id and file name are good."""
    for key, expected in (("id", "a whole number or a string"), ("file_name", "a name")):
        value = record.get(key)
        if not (_is_id(value) if key == "id" else isinstance(value, str) and value):
            raise InputError(f"{key} is {_shown(value)}, expected {expected}" if key in record else f"no {key}")
        if value in data.shared[key]:
            raise InputError(f"another image has this {key}, {_shown(value)}")
    size = [record.get(key) for key in ("height", "width")]
    if not (_are_numbers(size) and all(side >= 1 and side % 1 == 0 for side in size)):
        raise InputError(f"height {_shown(size[0])} and width {_shown(size[1])}, expected whole pixels, 1 or more")
    if size[0] * size[1] > image_data.MAX_PIXELS:
        raise InputError(f"{size[1]} x {size[0]} is above the limit of {image_data.MAX_PIXELS:,} pixels")
    return int(size[0]), int(size[1])


def _image(data, name):
    """Path of an image. Where names are unique, folders that are not there do not matter: tools write whole paths.

    A name that leads out of its folder by ".." is looked for by its last part only.
    """
    if not _can_be_path(name):
        raise InputError(f"file_name is {_shown(name)}, which is no name of a file")
    slashes = name.replace("\\", "/")
    last = slashes.rpartition("/")[2]
    tries = [] if ".." in slashes.split("/") else [name, slashes]
    for each in dict.fromkeys([*tries, *[last] * data.flat]):
        for folder in data.folders:
            path = os.path.join(folder, each)
            if os.path.isfile(path):
                return path
    places = ", ".join(str(folder) for folder in data.folders)
    raise InputError(f"file_name {_shown(name)}: image is missing (looked for in {places})")


def _with_objects(data, sample, found, labels):
    """The sample with boxes, labels, flags and details of its annotations, `(place in the file, annotation)` each."""
    height, width = sample.size
    numbers = _each(found, lambda each: _label(data, each.get("category_id"), labels))
    ignored = _each(found, _is_crowd)
    boxes = np.array(_each(found, lambda each: _object_box(each, height, width)), "float32").reshape(-1, 4)
    _each(found, _check_rest)
    keys = dict.fromkeys(key for _, each in found for key in each) if found else data.keys
    details = {key: [each.get(key) for _, each in found] for key in keys if key not in PLACED}
    details["iscrowd"] = [int(flag) for flag in ignored]
    return sample._replace(
        boxes=boxes, labels=np.array(numbers, "int32"), ignored=np.array(ignored, bool), details=details)


def _labels_of_pixels(data, image_id, labels):
    """The label image that `write` made; in it the categories have the numbers 1..K in the order of their ids."""
    path = os.path.join(data.label_folder, f"{image_id}.png")
    if not (_is_file_name(image_id) and os.path.isfile(path)):
        raise InputError(f"label image {path} is missing")
    meaning = {i: label for i, label in enumerate(labels.values(), start=1) if label}
    return LabelImage(path, meaning | {0: 0, 255: 255}, None)


def _each(found, function):
    """The function of each annotation; its errors told with what the annotation is called."""
    results = []
    for place, each in found:
        try:
            results.append(function(each))
        except InputError as error:
            raise InputError(f"{_called(place, each)}: {error}") from None
    return results


def _label(data, number, labels):
    if type(number) is not int or number not in labels:
        raise InputError(f"category_id is {_shown(number)}, which is no category of this file. Known: "
                         f"{sample_data.few(labels)}")
    if labels[number] is None:
        raise InputError(f"category {number}, {_shown(data.categories[number]['name'])}, is not in class_names; "
                         "correct the name, or pass class_names= with it")
    return labels[number]


def _is_crowd(annotation):
    key = "is_crowd" if "is_crowd" in annotation and "iscrowd" not in annotation else "iscrowd"
    flag = annotation.get(key)
    if flag is None:
        return False
    if not isinstance(flag, (bool, int, float)) or flag not in (0, 1):
        raise InputError(f"{key} is {_shown(flag)}, expected 0 or 1")
    return bool(flag)


def _check_rest(annotation):
    if not (annotation.get("id") is None or _is_id(annotation["id"])):
        raise InputError(f"id is {_shown(annotation['id'])}, expected a whole number or a string")
    area = annotation.get("area")
    if not (area is None or _are_numbers([area]) and area >= 0):
        raise InputError(f"area is {_shown(area)}, expected a number, 0 or more")


def _object_box(annotation, height, width):
    """`[x1, y1, x2, y2]` of an annotation's box, or where it has none of its mask."""
    if annotation.get("bbox") is not None:
        return _box(annotation["bbox"], height, width)
    if annotation.get("segmentation") is None:
        raise InputError("no bbox")
    box = coco_mask.toBbox(_object_mask(annotation, height, width)).tolist()
    if box[2] <= 0 or box[3] <= 0:
        raise InputError("no bbox, and a mask without a pixel")
    return _box(box, height, width)


def _box(bbox, height, width):
    """`[x1, y1, x2, y2]`. Up to one pixel outside the image is a tool's rounding, and clipped."""
    if not (isinstance(bbox, list) and len(bbox) == 4 and _are_numbers(bbox)):
        raise InputError(f"bbox is {_shown(bbox)}, expected [x, y, width, height], numbers")
    x, y, w, h = bbox
    if w <= 0 or h <= 0:
        raise InputError(f"bbox {bbox} has no area")
    if min(x, y) < -1 or x + w > width + 1 or y + h > height + 1:
        raise InputError(f"bbox {bbox} (x, y, width, height) is outside the image of {width} x {height} pixels")
    x1, y1, x2, y2 = np.array([max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)], "float32")
    if x2 <= x1 or y2 <= y1:
        raise InputError(f"bbox {bbox} has no area in the image of {width} x {height} pixels")
    return x1, y1, x2, y2


def _joints(numbers, count):
    """`[J][3]`: x, y, visibility, all 0 for an object without."""
    if numbers is None:
        return [[0.0] * 3] * count
    if not (isinstance(numbers, list) and len(numbers) == 3 * count and _are_numbers(numbers)
            and max(map(abs, numbers), default=0) < 2**31):
        raise InputError(f"keypoints are {_shown(numbers)}, expected {count} times x, y, visibility, numbers")
    strange = set(numbers[2::3]) - {0, 1, 2}
    if strange:
        raise InputError(f"visibility of a keypoint is {strange.pop()}, expected 0, 1 or 2")
    return [numbers[i:i + 3] for i in range(0, len(numbers), 3)]


# Reading: masks.

def _object_mask(annotation, height, width):
    """COCO's compressed run lengths, `{"size": [height, width], "counts": bytes}`, of an annotation's segmentation."""
    given = annotation.get("segmentation")
    if isinstance(given, dict):
        return _run_length_mask(given, height, width)
    if not isinstance(given, list) or not given:
        raise InputError(f"segmentation is {_shown(given)}, expected polygons or run lengths; read it without masks")
    for polygon in given:
        _check_polygon(polygon, height, width)
    return coco_mask.merge(coco_mask.frPyObjects(given, height, width))


def _check_polygon(polygon, height, width):
    """Up to one pixel outside the image, as with boxes; pycocotools clips it."""
    if not (isinstance(polygon, list) and _are_numbers(polygon)):
        raise InputError(f"polygon is {_shown(polygon)}, expected [x1, y1, x2, y2, ...], numbers")
    if len(polygon) < 6 or len(polygon) % 2:
        raise InputError(f"polygon of {len(polygon)} numbers, expected x and y of three points or more; "
                         "read it without masks")
    x, y = polygon[::2], polygon[1::2]
    if min(*x, *y) < -1 or max(x) > width + 1 or max(y) > height + 1:
        raise InputError(f"polygon from x={min(x)} y={min(y)} to x={max(x)} y={max(y)} is outside the image of "
                         f"{width} x {height} pixels")


def _run_length_mask(given, height, width):
    size, counts = given.get("size"), given.get("counts")
    if size != [height, width]:
        raise InputError(f"run lengths of size {_shown(size)}, expected that of the image, [{height}, {width}]")
    if isinstance(counts, str):
        runs = _runs(counts)
    elif isinstance(counts, list) and set(map(type, counts)) <= {int}:
        runs = counts
    else:
        raise InputError(f"counts are {_shown(counts)}, expected whole numbers or a string")
    # pycocotools writes where such numbers tell it to: they must be right.
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise InputError(f"counts are {_shown(counts)}, which do not add up to {height} * {width} pixels, or are "
                         "negative")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts.encode("ascii")}
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def _runs(text):
    """The run lengths in a string, a list.

    A number is written in groups of five bits, the lowest first, a character each: 48 + the bits + 32 if there are
    more, the last one's highest bit is the sign. From the fourth on it is the difference to the last but one
    (pycocotools' rleToString).
    """
    runs, value, bits = [], 0, 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or bits > 30:
            raise InputError(f"counts are {_shown(text)}, which are no compressed run lengths")
        value |= (code & 31) << bits
        bits += 5
        if code < 32:
            value -= (code & 16) << bits - 4
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = bits = 0
    if bits or not runs:
        raise InputError(f"counts are {_shown(text)}, which are no compressed run lengths")
    return runs


# Reading: panoptic annotation.

def _with_segments(data, sample, found, labels):
    """The sample with its segments as objects, and their label image."""
    if len(found) != 1:
        raise InputError(f"{len(found) or 'no'} panoptic annotations, expected one")
    _, annotation = found[0]
    name, segments = annotation.get("file_name"), annotation.get("segments_info")
    if not (isinstance(segments, list) and all(isinstance(each, dict) for each in segments)):
        raise InputError(f"segments_info is {_shown(segments)}, expected a list of objects")
    numbers = [each.get("id") for each in segments]
    if not all(type(number) is int and 0 < number < 2**24 for number in numbers):
        raise InputError(f"ids of segments are {_shown(numbers)}, expected whole numbers, 1 to {2**24 - 1}")
    if len(set(numbers)) < len(numbers):
        raise InputError(f"segment {min(_repeated(numbers))} is there twice")
    segments = [(None, each) for each in segments]
    sample = _with_objects(data, sample, segments, labels)
    if segments:
        kinds = [data.categories[each["category_id"]].get("isthing") for _, each in segments]
        sample = sample._replace(details=sample.details | {"isthing": kinds})
    path = _label_file(data.path, name)
    meaning = {number: 255 if crowd else int(label)
               for number, label, crowd in zip(numbers, sample.labels, sample.ignored)}
    place = {number: i for i, number in enumerate(numbers, start=1)}
    return sample._replace(segmentation=LabelImage(path, {0: 255} | meaning, None),
                           masks=LabelImage(path, {0: 0} | place, None))


def _label_file(path, name):
    if not (isinstance(name, str) and name and _can_be_path(name) and ".." not in re.split(r"[/\\]", name)):
        raise InputError(f"file_name of the segments is {_shown(name)}, expected a PNG file")
    for folder in (path.parent / path.stem, path.parent.parent / path.stem, path.parent):
        if os.path.isfile(folder / name):
            return str(folder / name)
    raise InputError(f"segments' file {_shown(name)} is missing (looked for in {path.parent / path.stem} and beside)")


# What is good, and how to show what is not.

def _is_id(value):
    return type(value) is int or type(value) is str


def _are_numbers(values):
    """True if these are all numbers that one can calculate with: no bool, not infinite, not NaN, not huge."""
    return set(map(type, values)) <= {int, float} and all(-(2**53) < value < 2**53 for value in values)


def _repeated(values):
    """Those that are there more than once, but None."""
    return {value for value, count in collections.Counter(values).items() if count > 1} - {None}


def _stem(name):
    """A file's name without folders, of either kind, and without its suffix."""
    return pathlib.PurePosixPath(name.replace("\\", "/").rpartition("/")[2]).stem


def _can_be_path(name):
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _is_file_name(name):
    """True of a string that can be a file's name everywhere, and is not hidden."""
    return (isinstance(name, str) and bool(name) and not name.startswith(".") and _can_be_path(name)
            and not any(character in '/\\' or character < " " for character in name))


def _shown(value):
    """A value in an error's one line: short, whatever it is."""
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = 80
    shortened.maxdict = shortened.maxlist = 4
    shortened.maxlevel = 3
    return shortened.repr(value)


def _type(value):
    return {dict: "JSON object", list: "list", str: "string", type(None): "null"}.get(type(value), "single value")


# Writing.

@contextlib.contextmanager
def _aside(root, places):
    """A hidden folder in the root; what is then in it at these places gets to the root's, all of it or nothing."""
    for path in (root / place for place in places):
        if os.path.lexists(path):
            raise InputError(f"{path}: is there already; give another root or split, or remove it")
    above = {(root / place).parent for place in places}
    new = sorted((each for each in {*above, root, *root.parents} if not os.path.exists(each)), reverse=True)
    folder, moved = None, []
    try:
        for each in above:
            each.mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=".new.", dir=root))
        yield folder
        for place in (each for each in places if (folder / each).exists()):
            os.rename(folder / place, root / place)
            moved.append(root / place)
        moved = []
    except OSError as error:
        raise InputError(f"{error.filename or root}: cannot be written ({error.strerror}); "
                         "give another root") from None
    finally:
        for path in [folder, *moved] if folder else []:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for each in new:  # those that are empty
            with contextlib.suppress(OSError):
                each.rmdir()


def _copy(samples, folder, split, classes, progress):
    """Copies the images, writes their label images, and returns the fields of each."""
    for sample in samples:
        if not _is_file_name(sample.image_id):
            raise InputError(f"Image id {_shown(sample.image_id)} cannot be the name of a file; give it another.")
    twice = _repeated(sample.image_id for sample in samples)
    if twice:
        raise InputError(f"Image id {_shown(min(twice))} is there twice; give each image its own.")
    rows = list(zip(samples, _kept([sample.about.get("id") for sample in samples])))
    copied = sample_data.in_parallel(
        lambda row: _copied(*row, folder, split, classes), rows, "Writing images", progress)
    with contextlib.closing(copied):
        return list(copied)


def _copied(sample, number, folder, split, classes):
    contents = image_data.read(sample.source, sample.name)
    height, width = image_data.upright_size(contents, sample.name)
    if tuple(sample.size) not in ((0, 0), (height, width)):
        raise InputError(f"{sample.name}: image is {width} x {height} pixels, its sample says {sample.size[1]} x "
                         f"{sample.size[0]} (width x height); correct the sample")
    made = image_data.header(contents, sample.name).format
    known = SUFFIXES.get(made, (f".{made.lower()}",))
    suffix = os.path.splitext(sample.source)[1] if isinstance(sample.source, str) else ""
    name = sample.image_id + (suffix if suffix.lower() in known else known[0])
    _made(folder / split / name).write_bytes(contents)
    if sample.segmentation is not None:
        numbers = sample_data.segmentation(sample)
        unknown = set(np.unique(numbers).tolist()) - {*range(classes + 1), 255}
        if unknown or numbers.shape != (height, width):
            problem = f"labels {sample_data.few(sorted(unknown))}, but {classes} class names" if unknown else (
                f"{numbers.shape[1]} x {numbers.shape[0]} pixels, the image {width} x {height}")
            raise InputError(f"{sample.name}: its segmentation has {problem}; correct the sample")
        Image.fromarray(numbers).save(_made(folder / "labels" / split / f"{sample.image_id}.png"))
    taken = {"id": number, "file_name": name, "height": height, "width": width}
    return taken | {key: value for key, value in sample.about.items() if key not in taken}


def _kept(numbers):
    """The ids that are there, if each is one and no other is it; or else 1, 2, 3, ..."""
    good = all(map(_is_id, numbers)) and len(set(numbers)) == len(numbers)
    return numbers if good else list(range(1, len(numbers) + 1))


def _annotations(sample, record, names):
    """An annotation of each object, not yet numbered, and what is told of its joints."""
    count, height, width = len(sample.labels), record["height"], record["width"]
    parts = {"boxes": sample.boxes, "ignored": sample.ignored, **sample.details}
    if sample.keypoints is not None:
        parts["keypoints"] = sample.keypoints
    masks = _written_masks(sample)
    if masks is not None:
        parts["masks"] = masks
    for key, rows in parts.items():
        if len(rows) != count:
            raise InputError(f"{sample.name}: {len(rows)} {key} and {count} labels; give one of each an object")
    taken = (PLACED | {"keypoints"}) & set(sample.details)
    if taken:
        raise InputError(f"{sample.name}: details cannot be called {', '.join(sorted(taken))}, as COCO's own fields")
    for i in range(count):
        try:
            yield (_annotation(sample, i, masks and masks[i], record["id"], height, width, names),
                   {} if sample.keypoints is None else _written_joints(sample, i))
        except InputError as error:
            raise InputError(f"{sample.name}: object {i + 1}: {error}; correct the sample") from None


def _annotation(sample, i, mask, image_id, height, width, names):
    """An annotation, looked at with the reader's eyes."""
    label = int(sample.labels[i])
    if not 1 <= label <= len(names):
        raise InputError(f"label {label}, but {len(names)} class names")
    x1, y1, x2, y2 = box = np.asarray(sample.boxes[i], "float32").tolist()
    bbox = [x1, y1, x2 - x1, y2 - y1]
    if not np.array_equal(_box(bbox, height, width), box):
        raise InputError(f"box {box} reaches over the image of {width} x {height} pixels")
    if mask:
        _run_length_mask(mask, height, width)
    details = {key: values[i] for key, values in sample.details.items()}
    area = details.get("area")
    if isinstance(area, np.generic):
        area = area.item()
    if area is None:
        area = int(coco_mask.area(mask)) if mask else bbox[2] * bbox[3]
    annotation = {"segmentation": mask or [], "area": area, "iscrowd": int(sample.ignored[i]), "image_id": image_id,
                  "bbox": [_short(number) for number in bbox], "category_id": label, "id": None}
    _check_rest(annotation)
    return annotation | {key: value for key, value in details.items() if key not in annotation}


def _written_masks(sample):
    """Run lengths with their counts as strings, as JSON has them."""
    masks = sample.masks
    if masks is None:
        return None
    if isinstance(masks, LabelImage):
        masks = [coco_mask.encode(np.asfortranarray(mask)) for mask in sample_data.masks(sample)]
    return [{"size": [int(side) for side in mask["size"]],
             "counts": mask["counts"].decode("latin-1") if isinstance(mask["counts"], bytes) else mask["counts"]}
            for mask in masks]


def _written_joints(sample, i):
    numbers = np.asarray(sample.keypoints[i], "float32").ravel().tolist()
    seen = sum(joint[2] > 0 for joint in _joints(numbers, len(numbers) // 3))
    told = {} if "num_keypoints" in sample.details else {"num_keypoints": seen}
    return {"keypoints": [_short(number) for number in numbers]} | told


def _short(number):
    return int(number) if number == int(number) else number


def _dumped(sample, record):
    """JSON of an image's or an object's fields."""
    try:
        return json.dumps(record, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{sample.name}: details or about cannot be written as JSON ({error}); keep to numbers, "
                         "strings, lists and dicts of them") from None


def _plain(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


def _write_json(path, images, annotations, categories):
    """Lists of JSON texts, an entry a line."""
    parts = ['"info": {"description": "written by keras_cnns"}', '"licenses": []']
    for key, lines in (("images", images), ("annotations", annotations), ("categories", categories)):
        parts.append(f'"{key}": [\n' + ",\n".join(lines) + "\n]")
    _made(path).write_text("{" + ",\n".join(parts) + "}\n")


def _made(path):
    """The same path, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
