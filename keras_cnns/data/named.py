"""Data by the names of the command line, such as `voc:PATH:YEAR`. `FORMS` lists them all."""

import contextlib
import glob
import os
from typing import NamedTuple

import numpy as np

from keras_cnns.data import coco, folder, mpii, pairs, persons, records, segmented, small, synthetic, tfds, voc
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError

SYNTHETIC = 400            # pictures, unless the name says how many
HELD_OUT = 1_000_000       # where the pictures of other splits than "train" begin
# Fields of a sample that would be lost.
NO_PLACE = {"voc": ("keypoints", "label"), "coco": ("label", "present"), "records": ()}
# Said of more numbers than anybody meant.
SMEARED = ", or, if the labels were ever saved as a JPEG, save them as a PNG from where they were drawn"


class Data(NamedTuple):
    """What a name stands for."""

    samples: list  # `data.samples.Sample`s
    class_names: list  # 1...K in order
    skipped: list  # one line on each sample left out


def read(name, split="train", class_names=None, on_bad_sample="stop"):
    """All that is annotated in a split; images are not opened (`data.samples.check` does).

    Args:
      name: of one of `FORMS`. split: "train", "val" and so on, as the data call it.
      class_names: 1...K in order; by default the data's own.
      on_bad_sample: at a broken annotation, "stop" or "skip".

    Returns:
      `Data`.

    Raises:
      InputError: an unknown kind of data, or what the reader finds wrong.
    """
    kind, _, rest = name.partition(":")
    for form, data in FORMS.items():
        if form.replace("[", ":").split(":")[0] == kind and (rest or form.startswith(f"{kind}[")):
            return data(rest, split, class_names, on_bad_sample)
    raise InputError(f"No data {name!r}. Accepted: {', '.join(FORMS)}.")


def detection(name, split="train", class_names=None, on_bad_sample="stop", progress=True):
    """As `read`, every image checked, for a detector: boxes, and the masks and joints that there are.

    Returns:
      `(samples, class_names, skipped)`.

    Raises:
      InputError: as of `read`, a broken image, or data without boxes.
    """
    found = read(name, split, class_names, on_bad_sample)
    if found.samples and not any(len(s.boxes) for s in found.samples):
        raise InputError(f"{name}, {split}: not one box in {len(found.samples)} images; name data with objects.")
    objects = [s._replace(segmentation=None) for s in found.samples]
    good, bad_images = data_samples.check(objects, on_bad_sample, progress)
    return good, found.class_names, found.skipped + bad_images


def classification(name, split="train", class_names=None, on_bad_sample="stop", progress=True):
    """As `read`, every image checked, for a classifier: each sample has a `label`, 0...K-1, or else `present`, `[K]`.

    Where an image has only objects (VOC, COCO), those not ignored are what is present.

    Returns:
      `(samples, class_names, skipped)`; classes without a name are called by their number.

    Raises:
      InputError: as of `read`, a broken image, data that tell nothing of the images' classes, or a label that no class
        has.
    """
    found = read(name, split, class_names, on_bad_sample)
    told = [s._replace(boxes=data_samples.NO_BOXES, labels=data_samples.NO_LABELS, ignored=data_samples.NO_FLAGS,
                       masks=None, segmentation=None, keypoints=None) for s in found.samples]
    if not all(s.label is not None or s.present is not None for s in told):
        if not any(len(s.labels) for s in found.samples):
            raise InputError(f"{name}, {split}: tells no class of its images; name data such as folder:PATH or "
                             "small:PATH.")
        told = [s._replace(present=data_samples.present(of, len(found.class_names)))
                for s, of in zip(told, found.samples)]
    names = found.class_names or [str(i) for i in range(max((s.label + 1 for s in told), default=0))]
    for s in told:
        if s.label is not None and not 0 <= s.label < len(names):
            raise InputError(f"{s.name}: class {s.label}, but there are {len(names)}, counted from 0; correct it")
    good, bad_images = data_samples.check(told, on_bad_sample, progress)
    return good, names, found.skipped + bad_images


def segmentation(name, split="train", class_names=None, on_bad_sample="stop", progress=True):
    """As `read`, every image and label image checked, for a segmenter: each sample has `segmentation`, 0 background,
    1..K, 255 ignored, and nothing else.

    VOC is read by its lists of segmentation. Where there are only objects' masks (COCO, synthetic), they are drawn:
    `data.segmented.drawn`.

    Returns:
      `(samples, class_names, skipped)`.

    Raises:
      InputError: as of `read`; a broken image or label image, one of another size, with a label above K, or saved as a
        JPEG; data that tell nothing of the pixels.
    """
    kind, _, rest = name.partition(":")
    found = read(f"voc-segmentation:{rest}" if kind == "voc" else name, split, class_names, on_bad_sample)
    known = len(found.class_names)

    def checked(sample):
        sample = sample if sample.segmentation else segmented.drawn(sample)
        sample, = segmented.alone([sample])
        data_samples.pixels(sample)
        numbers = data_samples.segmentation(sample)
        wrong = np.unique(numbers[(numbers > known) & (numbers != segmented.IGNORED)])
        if wrong.size:
            called = sample.segmentation.source if isinstance(sample.segmentation.source, str) else sample.name
            raise InputError(
                f"{called}: label {wrong[0]}, expected 0 to {known} (there are {known} classes) and 255 for ignored; "
                f"list all classes{SMEARED if wrong.size > 8 else ''}, or {data_samples.REMEDY}")
        return sample

    good, bad = data_samples.sift(data_samples.in_parallel(
        data_samples.attempt(checked), found.samples, "Checking images", progress), on_bad_sample)
    return good, found.class_names, found.skipped + bad


def keypoints(name, split="train", class_names=None, on_bad_sample="stop", progress=True):
    """As `read`, every image checked, for a network of poses: a sample for each person with a labelled joint, as of
    `persons.split`; the names are those of the joints.

    Returns:
      `(samples, names, skipped)`.

    Raises:
      InputError: as of `read`, a broken image, a joint far outside its image, data without joints, or joints other than
        `class_names`.
    """
    kind, _, rest = name.partition(":")
    found = read(f"coco-keypoints:{rest}" if kind == "coco" else name, split, None, on_bad_sample)
    if not any(s.keypoints is not None and s.keypoints[..., 2].any() for s in found.samples):
        raise InputError(f"{name}, {split}: not one labelled joint in {len(found.samples)} images; name data that have "
                         "some, such as mpii:PATH, coco:PATH or figures.")
    if kind in ("mpii", "figures"):
        names = list(mpii.KEYPOINTS)
    elif kind in ("coco", "coco-keypoints"):
        root, last = _split_off(rest, str.isidentifier)
        names = list(coco.joints(root, last or split)[0])
    else:
        raise InputError(f"{name}: does not tell what its joints are called; name mpii:PATH, coco:PATH or figures.")
    if class_names and list(class_names) != names:
        raise InputError(f"{name}: has the joints {data_samples.few(names)}; the network knows others: "
                         f"{data_samples.few(class_names)}. Name data of its joints.")
    with_joints = [s for s in found.samples if s.keypoints is not None and s.keypoints[..., 2].any()]
    good, bad_images = data_samples.check(
        [s._replace(masks=None, segmentation=None) for s in with_joints], on_bad_sample, progress)
    good, bad_joints = persons.split(good, names, on_bad_sample)
    return good, names, found.skipped + bad_images + bad_joints


def unannotated(name):
    """Paths of the images that no annotation belongs to; None of data other than `voc:PATH[:YEAR]`."""
    kind, _, rest = name.partition(":")
    return voc.unannotated(*_split_off(rest, str.isdigit)) if kind == "voc" else None


def write(samples, name, class_names, split, on_bad_sample="stop"):
    """Writes samples as the kind of data that a name says: voc:PATH[:YEAR], coco:PATH[:SPLIT] or records:PATH.

    Args:
      on_bad_sample: at an image that cannot be read, "stop" or "skip"; every image is decoded once.

    Returns:
      one line on each sample left out.

    Raises:
      InputError: another kind, samples that it cannot hold, or a place where it cannot be written.
    """
    kind, _, rest = name.partition(":")
    if kind not in NO_PLACE or not rest:
        raise InputError(f"Nothing is written as {name!r}. Accepted: voc:PATH[:YEAR], coco:PATH[:SPLIT], records:PATH.")
    for field in NO_PLACE[kind]:
        if any(getattr(sample, field) is not None for sample in samples):
            raise InputError(f"{name}: that form has no place for the samples' {field}; write them as records:PATH")
    if not class_names:
        raise InputError(f"{name}: the classes have no names, only numbers; list them beside the data in labels.txt")
    if kind == "records":
        return records.write(samples, rest, class_names, split, on_bad_sample=on_bad_sample)[1]
    root, last = _split_off(rest, str.isdigit if kind == "voc" else str.isidentifier)
    good, skipped = data_samples.check(samples, on_bad_sample)
    if kind == "voc":
        voc.write(good, root, class_names, last or "2012", split)
    else:
        coco.write(good, root, class_names, last or (split if split[-4:].isdigit() else f"{split}2017"))
    return skipped


def _split_off(rest, is_last):
    """`PATH:LAST` in two, if the last part is such a one: on Windows a path has a colon of its own."""
    root, _, last = rest.rpartition(":")
    return (root, last) if root and is_last(last) and not os.path.exists(rest) else (rest, None)


def _voc(read):
    def data(rest, split, class_names, on_bad_sample):
        root, year = _split_off(rest, str.isdigit)
        names = list(class_names or voc.class_names(root, year))
        return _data(read(root, year, split, names, on_bad_sample, masks=None), names)
    return data


def _coco(kind):
    def data(rest, split, class_names, on_bad_sample):
        root, last = _split_off(rest, str.isidentifier)
        masks = None if kind == "instances" else False
        good, skipped, names = coco.read(root, last or split, kind, class_names, on_bad_sample, masks)
        return Data(good, names, skipped)
    return data


def _records(root, split, class_names, on_bad_sample):
    names = list(class_names or records.class_names(root, split))
    return _data(records.samples(root, split, names, on_bad_sample), names)


def _folder(root, split, class_names, on_bad_sample):
    # A split, unless it is the folder of a class of that name.
    inner = os.path.join(os.path.expanduser(root), split)
    parted = any(os.path.isfile(inner + suffix) for suffix in folder.LISTS) or glob.glob(f"{glob.escape(inner)}/*/")
    split = split if parted or split != "train" else None  # images that are not parted are to train on
    names = class_names or folder.class_names(root, split)
    return _data(folder.samples(root, split, class_names, on_bad_sample), names and list(names))


def _fixed(read, names_of):
    """Data whose classes nobody can choose."""
    def data(rest, split, class_names, on_bad_sample):
        names = list(names_of(rest, split))
        if class_names and list(class_names) != names:
            raise InputError(f"{rest or 'synthetic'}: has the classes {data_samples.few(names)}; the network knows "
                             f"others: {data_samples.few(class_names)}. Name data of its classes.")
        return _data(read(rest, split, on_bad_sample=on_bad_sample), names)
    return data


def _synthetic(rest, split, on_bad_sample):
    if rest and not rest.isdigit():
        raise InputError(f"No data 'synthetic:{rest}'. Accepted: synthetic or synthetic:N, a number of pictures.")
    return synthetic.samples(int(rest or SYNTHETIC), first=0 if split == "train" else HELD_OUT, masks=True), []


def _figures(rest, split, on_bad_sample):
    if rest and not rest.isdigit():
        raise InputError(f"No data 'figures:{rest}'. Accepted: figures or figures:N, a number of pictures.")
    return synthetic.figures(int(rest or SYNTHETIC), first=0 if split == "train" else HELD_OUT), []


def _tfds(rest, split, on_bad_sample):
    return tfds.samples(rest, split, on_bad_sample=on_bad_sample)


def _tfds_classes(name, split):
    for task in ("detection", "segmentation"):
        with contextlib.suppress(InputError):
            return tfds.class_names(name, task=task)
    return tfds.class_names(name, task="classification")


def _data(found, names):
    good, skipped = found
    return Data(good, names, skipped)


FORMS = {
    "voc:PATH[:YEAR]": _voc(voc.samples),
    "voc-segmentation:PATH[:YEAR]": _voc(voc.segmentation_samples),
    "coco:PATH[:SPLIT]": _coco("instances"),
    "coco-keypoints:PATH[:SPLIT]": _coco("keypoints"),
    "coco-panoptic:PATH[:SPLIT]": _coco("panoptic"),
    "records:PATH": _records,
    "folder:PATH": _folder,
    "small:PATH": _fixed(small.samples, small.class_names),  # MNIST's and CIFAR's files
    "isbi:PATH": _fixed(pairs.isbi_samples, lambda *_: pairs.ISBI_CLASSES),
    "camvid:PATH": _fixed(pairs.camvid_samples, lambda *_: pairs.CAMVID_CLASSES),
    "mpii:PATH": _fixed(mpii.samples, lambda *_: mpii.CLASSES),
    "tfds:NAME": _fixed(_tfds, _tfds_classes),
    "synthetic[:N]": _fixed(_synthetic, lambda *_: synthetic.CLASSES),
    "figures[:N]": _fixed(_figures, lambda *_: mpii.CLASSES),
}
