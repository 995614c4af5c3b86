"""What every reader of annotations hands on: images and their objects, checked, then decoded in `tf.data`."""

import concurrent.futures
import contextlib
import os
import pathlib
from typing import NamedTuple

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from keras_cnns.errors import InputError

REMEDY = "repair it, or leave such samples out with on_bad_sample='skip' (--on-bad-sample skip)"


class Sample(NamedTuple):
    """One image and what is in it, before decoding."""

    image_id: str
    source: str | bytes  # path of the image, or its encoded bytes
    size: tuple[int, int]  # height, width, pixels, as the annotation says; (0, 0) unknown
    boxes: np.ndarray  # [G, 4] float32 xyxy pixels, 0-based, right and bottom edge exclusive
    labels: np.ndarray  # [G] int32, 1..K
    ignored: np.ndarray  # [G] bool
    details: dict  # whatever else the format knows, lists with an entry an object: VOC's pose, truncated

    @property
    def name(self):
        """What errors call it: the image's path, or the id where there are only bytes."""
        return self.source if isinstance(self.source, str) else f"image {self.image_id!r}"


def decode(source, name, remedy="give a whole JPEG or PNG file"):
    """A JPEG, PNG, GIF (its first frame), BMP or WebP image as RGB, uint8 `[H, W, 3]`.

    Grey is repeated in the three channels, alpha is dropped, a palette is looked up.

    Args:
      source: path, or encoded bytes. name: what an error calls the image, and remedy: what it advises.

    Raises:
      InputError: one line, if the file is missing, empty, cut off or no such image.
    """
    if isinstance(source, bytes):
        contents = source
    else:
        try:
            contents = pathlib.Path(source).read_bytes()
        except FileNotFoundError:
            raise InputError(f"{name}: image is missing; {remedy}") from None
        except OSError as error:
            raise InputError(f"{name}: image cannot be read ({error.strerror}); {remedy}") from None
    if not contents:
        raise InputError(f"{name}: image file is empty (0 bytes); {remedy}")
    try:
        return tf.io.decode_image(contents, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        if "Unknown image file format" in error.message:
            raise InputError(f"{name}: no JPEG, PNG, GIF, BMP or WebP image; {remedy}") from None
        raise InputError(f"{name}: image is truncated or corrupt ({len(contents)} bytes); {remedy}") from None


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
    samples = list(samples)
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    console = rich.console.Console(stderr=True)
    bar = rich.progress.track(
        pool.map(attempt(_checked), samples), "Checking images", total=len(samples), transient=True,
        disable=not (progress and console.is_terminal), console=console)
    with contextlib.closing(bar) as results:
        try:
            return sift(results, on_bad_sample)
        finally:
            pool.shutdown(cancel_futures=True)  # stops at the first bad sample, not after all the others


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


def dataset(samples, order=None):
    """Unbatched `tf.data.Dataset` of dicts, decoded in parallel, in the order given.

    An element has `image` uint8 `[H, W, 3]`, `image_id` string, `boxes` float32 `[G, 4]`, `labels` int32
    `[G]`, `ignored` bool `[G]`. An image that cannot be decoded stops the iteration with an error that names
    it; `check` finds it before.

    Args:
      order: indices into `samples`, any number of times each; by default all, as they stand.
    """
    samples = list(samples)

    # Eager decoding lets go of Python's lock, so threads run it side by side, and errors are decode()'s own.
    def load(index):
        sample = samples[index]
        image = decode(sample.source, sample.name, REMEDY)
        return image, sample.image_id, sample.boxes, sample.labels, sample.ignored

    def element(index):
        types = tf.uint8, tf.string, tf.float32, tf.int32, tf.bool
        values = tf.numpy_function(load, [index], types)
        for value, shape in zip(values, ([None, None, 3], [], [None, 4], [None], [None])):
            value.set_shape(shape)
        return dict(zip(("image", "image_id", "boxes", "labels", "ignored"), values))

    order = np.asarray(range(len(samples)) if order is None else order, "int64")
    return tf.data.Dataset.from_tensor_slices(order).map(element, tf.data.AUTOTUNE, deterministic=True)


def _checked(sample):
    """The sample itself, if its image decodes to the annotated size."""
    height, width = decode(sample.source, sample.name, REMEDY).shape[:2]
    if sample.size not in ((0, 0), (height, width)):
        raise InputError(
            f"{sample.name}: image is {width} x {height} pixels, its annotation says "
            f"{sample.size[1]} x {sample.size[0]} (width x height), so the boxes would be wrong; {REMEDY}")
    return sample
