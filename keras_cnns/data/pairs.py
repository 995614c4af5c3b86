"""Images and label images side by side: two folders of files with equal names, or a list of pairs.

Label images are palette, grey or colour images that hold a number a pixel (`samples.LabelImage`); ours are 0 for
background, 1..K, 255 for what counts neither way. Reading is strict: a number that no one has said the meaning of is
an error that `check` finds.

ISBI: the EM segmentation challenge of 2012, membranes in slices of a fly's larva (I. Arganda-Carreras et al.,
Frontiers in Neuroanatomy 9:142, 2015), as U-Net was trained on it (arXiv:1505.04597), unpacked from its stacks to
`root/<split>/image` and `root/<split>/label`. Its labels are 255 in cells and 0 on membranes: here 1, cell, and 0.

CamVid: G. Brostow et al., Pattern Recognition Letters 30(2), 2009, in the eleven classes of SegNet
(arXiv:1511.00561): `root/<split>` and `root/<split>annot`, by `root/<split>.txt`. Its labels are 0..10 and 11 for
void: here 1..11 and 255. It has no background: 0 does not occur.
"""

import os

from keras_cnns.data import samples as sample_data
from keras_cnns.data.folder import SUFFIXES
from keras_cnns.data.samples import REMEDY, LabelImage, Sample, few
from keras_cnns.errors import InputError

ISBI_CLASSES = ("cell",)
ISBI_VALUES = {0: 0, 255: 1}
CAMVID_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
CAMVID_VALUES = {**{number: number + 1 for number in range(11)}, 11: 255}


def segmentation(images, labels, values=None, class_names=None, shuffle=False, seed=0, on_bad_sample="stop"):
    """Unbatched `tf.data.Dataset` of images and their `segmentation`, in order of their names.

    Elements as of `samples.dataset`. Every image and label image is decoded once before (`samples.check`), so bad
    ones are known at the call; those left out are told in one warning.

    Args:
      shuffle: another order, the same for the same seed and in every pass.
      The others as of `samples`.
    """
    found = samples(images, labels, values, class_names, on_bad_sample)
    return sample_data.checked_dataset(found, shuffle, seed, on_bad_sample)


def samples(images, labels, values=None, class_names=None, on_bad_sample="stop"):
    """Pairs the files of two folders whose names, but for the suffix, are equal; files are not opened.

    Args:
      images, labels: the folders. Files that are hidden or have none of `folder.SUFFIXES` are left out.
      values: what the numbers of the label images mean, {number: 0...K or 255}; of a colour R + 256 G + 65536 B.
      class_names: of 1..K; without values there may be no numbers but 0..K and 255.
        Without both, the numbers are taken as they stand.
      on_bad_sample: "stop" raises where a file has no partner, "skip" goes on without it.

    Returns:
      `(samples, skipped)`: a list of `Sample`, and one line on each that was skipped.

    Raises:
      InputError: one line.
    """
    values = _values(values, class_names)
    images, labels = _files(images), _files(labels)
    read = sample_data.attempt(_partners)
    stems = sorted({*images[1], *labels[1]})
    return sample_data.sift((read(stem, images, labels, values) for stem in stems), on_bad_sample)


def listed(path, values=None, class_names=None, on_bad_sample="stop"):
    """The pairs of a list: an image and a label image a line, parted by a tab or, if they have none, by blanks.

    Args:
      path: the list. Files are named relative to it; of a path that leads nowhere, as lists carry them from other
        machines, the last folder and the name are tried.
      The others, returns and raises as of `samples`. A pair that is there twice is read once. An image_id is the
        image's name without the suffix; if two images of the list are called alike, of all the path, as "train/0001".
    """
    path = os.path.abspath(os.path.expanduser(path))
    values = _values(values, class_names)
    read = sample_data.attempt(_pair)
    pairs = (read(path, where, line, values) for line, where in _lines(path).items())
    good, skipped = sample_data.sift(pairs, on_bad_sample)
    stems = {os.path.basename(sample.image_id) for sample in good}
    if len(stems) == len({sample.image_id for sample in good}):
        good = [sample._replace(image_id=os.path.basename(sample.image_id)) for sample in good]
    return good, skipped


def isbi(root, split="train", shuffle=False, seed=0, on_bad_sample="stop"):
    """ISBI's slices as of `segmentation`; class_names are `ISBI_CLASSES`."""
    return sample_data.checked_dataset(isbi_samples(root, split, on_bad_sample), shuffle, seed, on_bad_sample)


def isbi_samples(root, split="train", on_bad_sample="stop"):
    """ISBI's slices as of `samples`."""
    folder = os.path.join(root, split)
    return samples(os.path.join(folder, "image"), os.path.join(folder, "label"), ISBI_VALUES,
                   on_bad_sample=on_bad_sample)


def camvid(root, split="train", shuffle=False, seed=0, on_bad_sample="stop"):
    """CamVid's frames as of `segmentation`, in the order of the list; class_names are `CAMVID_CLASSES`."""
    return sample_data.checked_dataset(camvid_samples(root, split, on_bad_sample), shuffle, seed, on_bad_sample)


def camvid_samples(root, split="train", on_bad_sample="stop"):
    """CamVid's frames as of `samples`: those of the list `root/<split>.txt`."""
    return listed(os.path.join(root, f"{split}.txt"), CAMVID_VALUES, on_bad_sample=on_bad_sample)


def _values(values, class_names):
    if values is None and class_names is not None:
        return {number: number for number in (*range(len(class_names) + 1), 255)}
    return values


def _files(folder):
    """The folder, and the names of its images by their stems."""
    folder = os.path.abspath(os.path.expanduser(folder))
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: folder cannot be read ({error.strerror}); give one of images and one of label "
                         "images, with equal names") from None
    found = {}
    for name in names:
        if name.lower().endswith(SUFFIXES) and not name.startswith("."):
            found.setdefault(os.path.splitext(name)[0], []).append(name)
    if not found:
        raise InputError(f"{folder}: no image in it ({', '.join(SUFFIXES)}), but {few(names) or 'nothing'}; give one "
                         "folder of images and one of label images, with equal names")
    return folder, found


def _partners(stem, images, labels, values):
    """The sample of the files of one stem."""
    paths = []
    for (folder, found), (other, partners) in ((images, labels), (labels, images)):
        files = found.get(stem, [])
        if not files:
            raise InputError(f"{os.path.join(other, partners[stem][0])}: has no partner {stem}.* in {folder}; {REMEDY}")
        if len(files) > 1:
            raise InputError(f"{os.path.join(folder, files[0])}: has a twin {files[1]}, so it is not clear which one "
                             f"counts; {REMEDY}")
        paths.append(os.path.join(folder, files[0]))
    return Sample(stem, paths[0], segmentation=LabelImage(paths[1], values, other=None))


def _lines(path):
    """Where the lines with something on them are, by what they say."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise InputError(f"{path}: the list cannot be read ({error.strerror}); write one, an image and a label image "
                         "a line") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if line:
            found.setdefault(line, f"{path}: line {number}")
    if not found:
        raise InputError(f"{path}: the list is empty; write an image and a label image a line")
    return found


def _pair(path, where, line, values):
    names = [name.strip() for name in line.split("\t")] if "\t" in line else line.split()
    if len(names) != 2:
        raise InputError(f"{where}: {len(names)} columns, expected an image and a label image, parted by a tab; "
                         f"{REMEDY}")
    image, label = (_found(path, where, name) for name in names)
    image_id = os.path.splitext(os.path.relpath(image, os.path.dirname(path)))[0].replace(os.sep, "/")
    return Sample(image_id, image, segmentation=LabelImage(label, values, other=None))


def _found(path, where, name):
    folder = os.path.dirname(path)
    for place in (os.path.join(folder, name), os.path.join(folder, *name.replace("\\", "/").split("/")[-2:])):
        if os.path.isfile(place):
            return place
    raise InputError(f"{os.path.join(folder, name)}: image is missing ({where}); {REMEDY}")
