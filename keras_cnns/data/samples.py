"""What every reader of annotations hands on: images and what is in them, checked, then decoded in `tf.data`."""

import concurrent.futures
import contextlib
import os
import warnings
from typing import NamedTuple

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf
from pycocotools import mask as coco_mask

from keras_cnns.data import images
from keras_cnns.errors import InputError

REMEDY = "repair it, or leave such samples out with on_bad_sample='skip' (--on-bad-sample skip)"

NO_BOXES = np.zeros((0, 4), "float32")
NO_LABELS = np.zeros(0, "int32")
NO_FLAGS = np.zeros(0, bool)


class LabelImage(NamedTuple):
    """An image that holds a number a pixel, before decoding."""

    source: str | bytes  # path, or encoded bytes
    values: dict | None = None  # what a number of the file means; of a colour image R + 256 G + 65536 B; None: itself
    other: int | None = 255  # what all other numbers mean; None: there may be none, they are an error

    @property
    def name(self):
        return self.source if isinstance(self.source, str) else "label image"


class Sample(NamedTuple):
    """One image and what is in it, before decoding. What a data set does not tell of its images stays at its default.

    A row of boxes, labels, ignored, masks, keypoints and of each list in details is an object.
    """

    image_id: str
    source: str | bytes  # path of the image, or its encoded bytes
    size: tuple[int, int] = (0, 0)  # height, width, pixels, as the annotation says; (0, 0) unknown
    boxes: np.ndarray = NO_BOXES  # [G, 4] float32 xyxy pixels, 0-based, right and bottom edge exclusive
    labels: np.ndarray = NO_LABELS  # [G] int32, 1..K
    ignored: np.ndarray = NO_FLAGS  # [G] bool
    details: dict = {}  # what else the format knows of the objects, lists: VOC's pose and truncated, COCO's area
    masks: list | LabelImage | None = None  # [G] COCO's compressed RLE, {"size": [H, W], "counts": bytes}; or the
    # instances' label image, in which object i has the number i + 1
    keypoints: np.ndarray | None = None  # [G, J, 3] float32: x, y in pixels, 0-based; 0 unlabelled, 1 hidden, 2 visible
    segmentation: LabelImage | None = None  # 0 background, 1..K, 255 ignored
    label: int | None = None  # of the whole image, 0..K-1: the unit of a classifier
    present: np.ndarray | None = None  # [K] int: 1 in the image, 0 only such as are ignored, -1 not there (VOC's lists)
    about: dict = {}  # what else the format knows of the image: VOC's source, COCO's licence
    proposals: np.ndarray | None = None  # [R, 4] float32, as boxes: where objects may be, `data.proposals`

    @property
    def name(self):
        """What errors call it: the image's path, or the id where there are only bytes."""
        return self.source if isinstance(self.source, str) else f"image {self.image_id!r}"


def present(sample, classes):
    """What its objects say of an image: int32 `[K]`, 1 of a class there, 0 where all are ignored, -1 of others."""
    told = np.full(classes, -1, "int32")
    told[sample.labels[sample.ignored] - 1] = 0
    told[sample.labels[~sample.ignored] - 1] = 1
    return told


def check(samples, on_bad_sample="stop", progress=True):
    """Decodes every image once, and compares its size with the annotation's: another image's boxes are wrong.

    Args:
      on_bad_sample: "stop" raises the first problem in the order of the samples; "skip" goes on without them.
      progress: show a bar on standard error, if that is a terminal.

    Returns:
      `(good, skipped)`: the usable samples, and one line on each of the others.

    Raises:
      InputError: a bad sample, or with "skip" not one good sample.
    """
    return sift(in_parallel(attempt(_checked), list(samples), "Checking images", progress), on_bad_sample)


def in_parallel(function, items, title, progress=True):
    """Yields `function(item)` of each in order, made by a thread a core, under a bar on a terminal's standard error.

    What is not begun is not done when the generator is closed or an error leaves it.
    """
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    console = rich.console.Console(stderr=True)
    bar = rich.progress.track(
        pool.map(function, items), title, total=len(items), transient=True,
        disable=not (progress and console.is_terminal), console=console)
    with contextlib.closing(bar):
        try:
            yield from bar
        finally:
            pool.shutdown(cancel_futures=True)


def attempt(function):
    """The same function, which returns its InputError instead of raising it."""
    def attempted(*arguments):
        try:
            return function(*arguments)
        except InputError as error:
            return error
    return attempted


def sift(results, on_bad_sample):
    """Parts samples from errors, as `attempt` gives them; arguments, result and errors as of `check`."""
    if on_bad_sample not in ("stop", "skip"):
        raise InputError(f"No on_bad_sample {on_bad_sample!r}. Known: 'stop', 'skip'.")
    good, skipped = [], []
    with contextlib.closing(results) if hasattr(results, "close") else contextlib.nullcontext():
        for result in results:
            if not isinstance(result, InputError):
                good.append(result)
            elif on_bad_sample == "skip":
                skipped.append(str(result))
            else:
                raise result
    if skipped and not good:
        raise InputError(f"Not one of {len(skipped)} samples is usable; the first: {skipped[0]}")
    return good, skipped


def few(values, most=12):
    """Comma-separated, as many as one can read."""
    return ", ".join([str(value) for value in list(values)[:most]] + ["..."] * (len(values) > most))


def masks(sample):
    """The masks of a sample's objects, uint8 `[G, H, W]`, 1 inside.

    Raises:
      InputError: the instances' image cannot be read.
    """
    if isinstance(sample.masks, LabelImage):
        number = np.arange(1, len(sample.labels) + 1)[:, None, None]
        return (label_image(sample.masks, _called(sample.masks, sample)) == number).astype("uint8")
    if not sample.masks:
        return np.zeros((0, *sample.size), "uint8")
    return np.ascontiguousarray(np.moveaxis(coco_mask.decode(list(sample.masks)), -1, 0))


def label_image(image, name=None):
    """The numbers of a `LabelImage`, by its table: `[H, W]`.

    Args:
      name: what errors call it; by default its path.

    Raises:
      InputError: it cannot be read, or `other` is None and there are numbers that the table does not have.
    """
    name = name or image.name
    numbers = images.labels(image.source, name, REMEDY)
    if image.values is None:
        return numbers
    if numbers.dtype == np.uint8:  # quicker than to sort every pixel
        found = np.flatnonzero(np.bincount(numbers.reshape(-1), minlength=256))
        where = np.searchsorted(found, np.arange(256))[numbers]
    else:
        found, where = np.unique(numbers, return_inverse=True)
    unknown = [number for number in found.tolist() if number not in image.values]
    if unknown and image.other is None:
        raise InputError(f"{name}: unknown labels {few(unknown)}. Known: {few(image.values)}; {REMEDY}")
    return np.array([image.values.get(int(number), image.other) for number in found])[where].reshape(numbers.shape)


def segmentation(sample):
    """A sample's labels of pixels, uint8 `[H, W]`: 0 background, 1..K, 255 ignored.

    Raises:
      InputError: the label image cannot be read, or has labels that no class can have.
    """
    name = _called(sample.segmentation, sample)
    numbers = label_image(sample.segmentation, name)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() <= 255:
        raise InputError(f"{name}: labels from {numbers.min()} to {numbers.max()}, expected 0 to 254 and 255 for "
                         f"ignored; {REMEDY}")
    return numbers.astype("uint8")


def _called(image, sample):
    """What errors call a label image of a sample: its path, or whose it is where there are only bytes."""
    return image.source if isinstance(image.source, str) else f"{sample.name}: {image.name}"


def reader(samples, rows=None, regions=None):
    """A function of an index (int64 `[]`, in a graph) to the sample's element, as of `dataset`, but with `image` still
    encoded and a `name` by which errors call it: what `views.render` takes.

    Args:
      rows: as many rows of objects as every element shall have; more are left out, fewer filled up with zeros (masks
        are not: that is done when they are resized).
      regions: as many proposals as every element shall have, where samples have any, the rest filled up with zeros; by
        default as many as any sample has.

    Raises:
      InputError: some have what others have not; or one has more proposals.
    """
    samples = list(samples)
    for field in ("masks", "keypoints", "segmentation", "label", "present", "proposals"):
        told = [getattr(sample, field) is not None for sample in samples]
        if len(set(told)) > 1:
            name = samples[told.index(False)].name
            raise InputError(f"{name}: has no {field}, which others have; give it {field}, or leave it out.")
    first = samples[0] if samples else Sample("", b"")
    starts = np.cumsum([0, *(len(s.labels) for s in samples)])

    def column(values, dtype):
        return tf.constant(np.asarray(values, dtype) if samples else np.zeros(0, dtype))

    def table(field, shape, dtype):
        return tf.constant(np.concatenate([*(getattr(s, field) for s in samples), np.zeros((1, *shape), dtype)]), dtype)

    starts = tf.constant(starts, tf.int32)
    in_file = tf.constant([isinstance(s.source, str) for s in samples], bool)
    sources, names, ids = (tf.constant([getattr(s, field) if isinstance(getattr(s, field), bytes)
                                        else os.fsencode(getattr(s, field)) for s in samples], tf.string)
                           for field in ("source", "name", "image_id"))
    objects = {"boxes": table("boxes", (4,), "float32"), "labels": table("labels", (), "int32"),
               "ignored": table("ignored", (), "bool")}
    if first.keypoints is not None:
        objects["keypoints"] = table("keypoints", first.keypoints.shape[1:], "float32")
    whole = {}
    if first.label is not None:
        whole["label"] = column([s.label for s in samples], "int32")
    if first.present is not None:
        whole["present"] = column([s.present for s in samples], "int32")
    if first.proposals is not None:
        counts = [len(s.proposals) for s in samples]
        regions = regions or max(counts)
        if max(counts) > regions:
            raise InputError(f"{samples[np.argmax(counts)].name}: has {max(counts)} proposals, more than the {regions} "
                             "that the network takes; give it the best of them, or build it for more.")

    def proposals(i):
        found = samples[i].proposals
        return np.pad(np.asarray(found, "float32").reshape(-1, 4), ((0, regions - len(found)), (0, 0)))

    def element(i):
        source, start, end = tf.gather(sources, i), tf.gather(starts, i), tf.gather(starts, i + 1)
        image = tf.cond(tf.gather(in_file, i), lambda: tf.io.read_file(source), lambda: source)
        row = start + tf.range(end - start if rows is None else rows)
        row = tf.where(row < end, row, starts[-1])  # the row of zeros after all others
        found = {"image": image, "name": tf.gather(names, i), "image_id": tf.gather(ids, i),
                 **{key: tf.gather(values, row) for key, values in objects.items()},
                 **{key: tf.gather(values, i) for key, values in whole.items()}}
        if first.masks is not None:
            found["masks"] = tf.ensure_shape(
                tf.numpy_function(lambda i: masks(samples[i])[:rows], [i], tf.uint8), [None, None, None])
        if first.proposals is not None:
            found["proposals"] = tf.ensure_shape(tf.numpy_function(proposals, [i], tf.float32), [regions, 4])
        if first.segmentation is not None:
            found["segmentation"] = tf.ensure_shape(
                tf.numpy_function(lambda i: segmentation(samples[i]), [i], tf.uint8), [None, None])
        return found

    return element


def decoded(element):
    """The same element with its image decoded to uint8 `[H, W, 3]`, and without `name`."""
    image = images.opened(element["image"], element["name"])
    pixels = images.cut(image, tf.concat([[0, 0], image.size[::-1]], 0))
    return {key: value for key, value in element.items() if key != "name"} | {"image": pixels}


def checked_dataset(found, shuffle, seed, on_bad_sample):
    """What a reader's functions for `tf.data` give: `dataset` of the good samples, whose images were all decoded once.

    Args:
      found: `(samples, skipped)` of the reader. Those left out, there and here, are told in one warning.
      shuffle: another order, the same for the same seed and in every pass.
    """
    good, skipped = found
    good, bad_images = check(good, on_bad_sample)
    skipped = skipped + bad_images
    if skipped:
        count = f"{len(skipped)} of {len(skipped) + len(good)} samples left out:"
        warnings.warn("\n".join([count, *skipped]), stacklevel=3)
    return dataset(good, np.random.default_rng(seed).permutation(len(good)) if shuffle else None)


def dataset(samples, order=None, regions=None):
    """Unbatched `tf.data.Dataset` of dicts, decoded in parallel, in the order given.

    An element has `image` uint8 `[H, W, 3]`, `image_id` string, `boxes` float32 `[G, 4]`, `labels` int32
    `[G]`, `ignored` bool `[G]`; and, where the samples have them, `masks` uint8 `[G, H, W]`, `keypoints` float32
    `[G, J, 3]`, `segmentation` uint8 `[H, W]`, `label` int32 `[]`, `present` int32 `[K]`, `proposals` float32 `[R, 4]`.
    An image that cannot be decoded stops the iteration with an error, which names it unless it is a JPEG broken in its
    midst; `check` finds it before.

    Args:
      order: indices into `samples`, any number of times each; by default all, as they stand.
      regions: as of `reader`.
    """
    read = reader(samples, regions=regions)
    order = np.asarray(range(len(samples)) if order is None else order, "int64")
    return tf.data.Dataset.from_tensor_slices(order).map(
        lambda i: decoded(read(i)), tf.data.AUTOTUNE, deterministic=True)


def pixels(sample):
    """A sample's image, uint8 `[H, W, 3]`, after a comparison of its size with the annotation's and its label images'.

    Raises:
      InputError: it cannot be read, or the sizes differ, so that boxes and labels would be wrong.
    """
    image = images.decode(sample.source, sample.name, REMEDY)
    height, width = image.shape[:2]
    if sample.size not in ((0, 0), (height, width)):
        turn = images.orientation(sample.source)
        by_exif = f" (turned upright by its EXIF orientation {turn})" if turn != 1 else ""
        raise InputError(
            f"{sample.name}: image is {width} x {height} pixels{by_exif}, its annotation says "
            f"{sample.size[1]} x {sample.size[0]} (width x height), so the boxes would be wrong; {REMEDY}")
    pictures = []
    if sample.segmentation:
        pictures.append((sample.segmentation, segmentation(sample)))
    if isinstance(sample.masks, LabelImage):
        pictures.append((sample.masks, label_image(sample.masks, _called(sample.masks, sample))))
    for label, numbers in pictures:
        if numbers.shape != (height, width):
            raise InputError(f"{_called(label, sample)}: label image is {numbers.shape[1]} x {numbers.shape[0]} "
                             f"pixels, the image {sample.name} {width} x {height}; {REMEDY}")
    return image


def _checked(sample):
    pixels(sample)
    return sample
