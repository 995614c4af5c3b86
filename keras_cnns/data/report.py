"""What is in a data set, and what is odd about it."""

import hashlib
from typing import NamedTuple

import numpy as np

from keras_cnns.data import images
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError

SMALL, LONG = 32, 4  # an image with a side below so many pixels, or so much longer than the other, is odd
TINY = 4             # and so is an object with a side below this


class Report(NamedTuple):
    """Findings as lists of one line each; `counts` is a row a class."""

    counts: list  # (name, objects, of these ignored, images), and pixels where there is a segmentation
    sizes: str  # of the images: smallest, median, largest
    broken: list  # samples that cannot be used
    odd_sizes: list  # usable, but perhaps not what was meant
    tiny_objects: list
    duplicates: list  # images with the same bytes or the same pixels; objects with the same box and label
    unused: list  # classes of which there is nothing


def report(samples, class_names, skipped=(), progress=True):
    """Decodes every image and label image of a data set, and says what was found.

    Args:
      samples: `Sample`s, as a reader gives them with on_bad_sample="skip". class_names: 1...K.
      skipped: a line on each sample that the reader left out. progress: show a bar.

    Returns:
      `(good, Report)`: the samples whose images can be used, and the findings.
    """
    looked = list(data_samples.in_parallel(data_samples.attempt(_look), samples, "Reading images", progress))
    broken = [*skipped, *(str(found) for found in looked if isinstance(found, InputError))]
    good = [s for s, found in zip(samples, looked) if not isinstance(found, InputError)]
    looked = [found for found in looked if not isinstance(found, InputError)]
    counts = _counts(good, looked, class_names)
    return good, Report(
        counts, _sizes([found.size for found in looked]), broken,
        [f"{s.name}: {found.size[1]} x {found.size[0]} pixels" for s, found in zip(good, looked)
         if min(found.size) < SMALL or max(found.size) > LONG * min(found.size)],
        [line for s in good for line in _tiny(s)],
        [*_alike(good, [found.file for found in looked], [found.pixels for found in looked]),
         *(line for s in good for line in _repeated(s))],
        [row[0] for row in counts if not any(row[1:])])


class _Looked(NamedTuple):
    size: tuple  # height, width
    file: str  # digest of the bytes
    pixels: str  # of the decoded image
    labels: np.ndarray  # pixels of each label 0..255 in the segmentation


def _look(sample):
    pixels = data_samples.pixels(sample)
    contents = images.read(sample.source, sample.name)
    labels = np.zeros(256, int)
    if sample.segmentation:
        labels = np.bincount(data_samples.segmentation(sample).reshape(-1), minlength=256)
    return _Looked(pixels.shape[:2], hashlib.sha256(contents).hexdigest(),
                   hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(), labels)


def _counts(samples, looked, class_names):
    most = max([0, *(s.labels.max(initial=0) for s in samples), *(s.label + 1 for s in samples if s.label is not None)])
    names = list(class_names or [])
    names += [str(i) for i in range(len(names), most)]  # a list of files may give numbers without names
    table = np.zeros((4, len(names) + 1), int)
    objects, ignored, images, pixels = table  # by label
    for sample, found in zip(samples, looked):
        np.add.at(objects, sample.labels, 1)
        np.add.at(ignored, sample.labels[sample.ignored], 1)
        shown = np.flatnonzero(found.labels[:min(len(names) + 1, 255)])
        pixels[shown] += found.labels[shown]
        whole = [] if sample.label is None else [sample.label + 1]
        images[np.unique([*sample.labels, *shown, *whole]).astype(int)] += 1
    columns = table[:4 if any(s.segmentation for s in samples) else 3, 1:]
    return list(zip(names, *columns.tolist()))


def _sizes(sizes):
    if not sizes:
        return "no images"
    order = sorted(sizes, key=lambda size: size[0] * size[1])
    smallest, median, largest = (f"{w} x {h}" for h, w in (order[0], order[len(order) // 2], order[-1]))
    return f"smallest {smallest}, median {median}, largest {largest} pixels (width x height)"


def _tiny(sample):
    sides = (sample.boxes[:, 2:] - sample.boxes[:, :2]).min(1, initial=np.inf)
    return [f"{sample.name}: object {i + 1} is {sides[i]:g} pixels at its narrowest"
            for i in np.flatnonzero(sides < TINY)]


def _alike(samples, *digests):
    """One line on each image that is the same as one before it."""
    lines = {}
    for kind, column in zip(("bytes", "pixels"), digests):
        first = {}
        for sample, digest in zip(samples, column):
            if digest not in first:
                first[digest] = sample.name
            else:
                lines.setdefault(sample.name, f"{sample.name}: the same {kind} as {first[digest]}")
    return list(lines.values())


def _repeated(sample):
    seen, lines = {}, []
    for i, row in enumerate(zip(sample.labels.tolist(), map(tuple, sample.boxes.tolist())), 1):
        if row in seen:
            lines.append(f"{sample.name}: object {i} has the class and box of object {seen[row]}")
        seen.setdefault(row, i)
    return lines
