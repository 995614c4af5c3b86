"""The small sets in their own binary files: MNIST's idx, CIFAR-10 and CIFAR-100.

idx: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits (format at the foot of that page): two
zero bytes, 8 for unsigned bytes, the number of dimensions, each dimension as a big-endian int32, then the values; a
file of images and one of labels for each split, packed by gzip or not. The counts are those of the header, so parts
of the set and its kin (Fashion-MNIST, KMNIST, EMNIST) are read alike. EMNIST's files hold each image with rows and
columns exchanged, and so it is given: upright it is `images.transpose(0, 2, 1)`.

CIFAR: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; the binary version. A record is a
label (CIFAR-100: a coarse and a fine one) and 32 x 32 red, then green, then blue values. The Python version is not
read: it is made of pickles, and to open one is to run whatever program is in it.

`mnist`, `cifar10` and `cifar100` give whole arrays; `samples`, `classification` and `class_names` find out by
themselves which of them a folder holds.
"""

import fnmatch
import gzip
import math
import os
import zlib

import numpy as np
import tensorflow as tf

from keras_cnns.data import samples as sample_data
from keras_cnns.data.images import MAX_PIXELS
from keras_cnns.data.samples import Sample, few
from keras_cnns.errors import InputError

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_BYTES = 2**31  # of one file, unpacked; MNIST has 47 million, EMNIST 640 million
WHOLE = "take a whole copy of the file"


def classification(root, split="train", shuffle=False, seed=0):
    """Unbatched `tf.data.Dataset` of images and their `label`, 0..K-1, in the order of the file.

    Elements as of `samples.dataset`; grey images are repeated in the three channels.

    Args:
      shuffle: another order, the same for the same seed and in every pass. The others as of `samples`.
    """
    found, _ = samples(root, split)  # encoded here, so there is nothing to check
    order = np.random.default_rng(seed).permutation(len(found)) if shuffle else None
    return sample_data.dataset(found, order)


def samples(root, split="train", on_bad_sample="stop"):
    """The images of a split as PNG, which keeps every value.

    Args:
      root: folder of one set. split: "train", "test", or of idx files what their names begin with.
      on_bad_sample: as of the other readers; here a broken file is an error in either case.

    Returns:
      `(samples, [])`: a list of `Sample` whose image_id is like "train-00012".

    Raises:
      InputError: one line.
    """
    images, labels = _reader(root)(root, split)
    if images.ndim == 3:
        images = images[..., None]
    found = [Sample(f"{split}-{i:05d}", tf.io.encode_png(image).numpy(), image.shape[:2], label=int(label))
             for i, (image, label) in enumerate(zip(images, labels))]
    return sample_data.sift(found, on_bad_sample)


def class_names(root, split="train"):
    """Names of the labels 0..K-1: those in a `labels.txt` in the folder, or else CIFAR's own, or idx files' numbers.

    idx files name no classes: Fashion-MNIST's are `FASHION`.
    """
    reader = _reader(root)
    path = os.path.join(_absolute(root), "labels.txt")
    if os.path.isfile(path):
        return _names(path)
    if reader is mnist:
        return [str(label) for label in range(max(10, mnist(root, split)[1].max() + 1))]
    if reader is cifar100:
        return _names(os.path.join(_folder(root, "cifar-100-binary"), "fine_label_names.txt"), 100)
    path = os.path.join(_folder(root, "cifar-10-batches-bin"), "batches.meta.txt")
    return _names(path, 10) if os.path.isfile(path) else list(CIFAR10)


def mnist(root, split="train"):
    """A set of MNIST's family.

    Args:
      root: folder of the idx files.
      split: "train", "test" (the files t10k-...), or what else stands before "-images-idx3-ubyte".

    Returns:
      images uint8 `[N, 28, 28]` (or of the size that the file says), 0 to 255, and labels int32 `[N]`.

    Raises:
      InputError: a file is missing, cut off, longer than its header says, or no idx file; or the counts differ.
    """
    root = _absolute(root)
    images_path, labels_path = _idx_path(root, split, "images", 3), _idx_path(root, split, "labels", 1)
    images, labels = _idx(images_path, 3), _idx(labels_path, 1)
    if len(images) != len(labels):
        raise InputError(f"{images_path}: {len(images)} images, but {len(labels)} labels in {labels_path}; take both "
                         "files from the same set")
    return images, labels.astype("int32")


def cifar10(root, split="train"):
    """CIFAR-10's binary version: data_batch_1.bin to data_batch_5.bin are "train", test_batch.bin is "test".

    Args:
      root: the folder cifar-10-batches-bin, or the one that holds it.

    Returns:
      images uint8 `[N, 32, 32, 3]`, RGB, and labels int32 `[N]`, 0 to 9.

    Raises:
      InputError: a file is missing, no whole number of records, or has a label above 9.
    """
    folder = _folder(root, "cifar-10-batches-bin")
    files = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    parts = [_records(folder, file, (10,)) for file in _of_split(files, split)]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts))


def cifar100(root, split="train", level="fine"):
    """CIFAR-100's binary version: train.bin and test.bin.

    Args:
      root: the folder cifar-100-binary, or the one that holds it. level: "fine", 100 classes, or "coarse", 20.

    Returns, raises: as of `cifar10`.
    """
    levels = {"coarse": 0, "fine": 1}
    if level not in levels:
        raise InputError(f"No level {level!r} of labels. Known: 'fine', 'coarse'.")
    file = _of_split({"train": "train.bin", "test": "test.bin"}, split)
    return _records(_folder(root, "cifar-100-binary"), file, (20, 100), levels[level])


FILES = {
    mnist: ("*-images[-.]idx3-ubyte", "*-images[-.]idx3-ubyte.gz"),
    cifar10: ("data_batch_1.bin", "test_batch.bin", "cifar-10-batches-bin"),
    cifar100: ("train.bin", "test.bin", "cifar-100-binary")}
PICKLES = ("data_batch_1", "test_batch", "cifar-10-batches-py", "cifar-100-python")


def _reader(root):
    """The one of the three functions that reads this folder."""
    root = _absolute(root)
    inside = _visible(root)
    found = [reader for reader, patterns in FILES.items() if any(fnmatch.filter(inside, p) for p in patterns)]
    if not found and (set(PICKLES) & set(inside) or {"train", "test", "meta"} <= set(inside)):
        raise _pickled(root)
    if len(found) != 1:
        what = " and ".join(reader.__name__ for reader in found) or "neither MNIST's nor CIFAR's files"
        raise InputError(f"{root}: {what} in it ({few(inside) or 'nothing'}); give the folder of one set")
    return found[0]


def _absolute(root):
    root = os.path.abspath(os.path.expanduser(root))
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such folder; give one with the files of MNIST or CIFAR")
    return root


def _visible(folder):
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: folder cannot be read ({error.strerror}); allow reading it") from None


# idx.

def _idx_path(root, split, kind, dimensions):
    """The file of images or labels of a split."""
    begins = [str(split)] + ["t10k"] * (split == "test")
    for name in (f"{begin}-{kind}{mark}idx{dimensions}-ubyte{packed}"
                 for begin in begins for mark in "-." for packed in ("", ".gz")):
        if os.path.isfile(os.path.join(root, name)):
            return os.path.join(root, name)
    known = sorted({name.partition(f"-{kind}")[0] for name in _visible(root) if f"-{kind}" in name})
    path = os.path.join(root, f"{begins[-1]}-{kind}-idx{dimensions}-ubyte")
    raise InputError(f"{path}: no such file, nor with .gz. Found {kind} of: {few(known) or 'nothing'}; choose one of "
                     "them as the split, or add the file")


def _idx(path, dimensions):
    """The values of an idx file, uint8."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if packed else file as unpacked:
                shape = _shape(path, unpacked.read(4 + 4 * dimensions), dimensions)
                length = math.prod(shape)
                # Never more than the header says, however much a packed file would come to.
                values = unpacked.read(length + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); {WHOLE}") from None
    if len(values) != length:
        found = "more" if len(values) > length else f"{len(values)}"
        raise InputError(f"{path}: {found} bytes after the header, which says {' x '.join(map(str, shape))}; {WHOLE}")
    return np.frombuffer(values, "uint8").reshape(shape).copy()


def _shape(path, header, dimensions):
    kind = bytes([0, 0, 8, dimensions])
    if header[:4] != kind or len(header) < 4 + 4 * dimensions:
        raise InputError(f"{path}: no idx file of bytes in {dimensions} dimensions (it begins with "
                         f"{header[:4].hex() or 'nothing'}, expected {kind.hex()}); {WHOLE}")
    shape = [int.from_bytes(header[i:i + 4], "big") for i in range(4, len(header), 4)]
    if not 0 < math.prod(shape) <= MAX_BYTES or math.prod(shape[1:]) > MAX_PIXELS:
        raise InputError(f"{path}: the header says {' x '.join(map(str, shape))}, expected 1 to {MAX_BYTES:,} bytes; "
                         f"{WHOLE}")
    return shape


# CIFAR.

def _folder(root, inner):
    root = _absolute(root)
    return os.path.join(root, inner) if os.path.isdir(os.path.join(root, inner)) else root


def _of_split(files, split):
    if split not in files:
        raise InputError(f"No split {split!r} of CIFAR. Known: 'train', 'test'.")
    return files[split]


def _records(folder, file, classes, column=-1):
    """Images and labels of a file whose records begin with a label byte for each of `classes`."""
    path = os.path.join(folder, file)
    if not os.path.isfile(path):
        if os.path.isfile(path.removesuffix(".bin")):
            raise _pickled(path.removesuffix(".bin"))
        raise InputError(f"{path}: no such file; give the folder of CIFAR's binary version, with all its files")
    length = len(classes) + 3072
    try:
        size = os.path.getsize(path)
        if not 0 < size <= MAX_BYTES or size % length:
            raise InputError(f"{path}: {size} bytes, expected a multiple of {length}, the length of an image with its "
                             f"label; {WHOLE}")
        with open(path, "rb") as stream:
            records = np.frombuffer(stream.read(size), "uint8").reshape(-1, length)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allow reading it") from None
    labels = records[:, :len(classes)]
    bad = np.argwhere(labels >= classes)
    if len(bad):
        record, which = bad[0]
        raise InputError(f"{path}: record {record + 1} has the label {labels[record, which]}, expected 0 to "
                         f"{classes[which] - 1}; {WHOLE}")
    images = records[:, len(classes):].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels[:, column].astype("int32")


def _pickled(path):
    return InputError(f"{path}: CIFAR's Python version, made of pickles, which is not read because opening a pickle "
                      "can run any program; take the binary version (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)")


def _names(path, count=None):
    """One name a line; as many as there must be."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            names = [line.strip() for line in file if line.strip()]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); add the file as the archive has it") from None
    if not names or (count and len(names) != count) or len(set(names)) < len(names):
        raise InputError(f"{path}: {len(set(names))} different names, expected {count or 'one or more, none twice'}; "
                         "write each class once, a name a line")
    return names
