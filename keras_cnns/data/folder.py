"""Images and the one class each belongs to: a folder a class, or a list of files.

Folders: `root/<class>/**/image`, or, in splits, `root/<split>/<class>/**/image`, as ILSVRC2012 is unpacked and
`keras.utils.image_dataset_from_directory` reads them. An image has one of `SUFFIXES`, in small letters or capitals;
other files, hidden files and hidden folders are left out. Links are followed, each folder once.

Lists: `root/labels.tsv`, `root/<split>.tsv`, `root/<split>/labels.tsv`, or the file itself for `root`; columns are
parted by tabs, in a `.csv` by commas. Two columns, `file<TAB>class`; or any, named by a first line: `file`, and
`class_index` or `class` (other words for these: `FILE`, `INDEX`, `NAME`). A class that is a whole number is the
index itself, 0..., and may leave gaps: it is the unit of the network. File names are relative to the list.

An image_id is a file's path in the folder of classes ("cat/1.png"), or its name as the list has it: with the suffix,
as the same name may stand in every class.

Class names stand in a `labels.txt` in root or in the split's folder, one a line; if there is none, they are the
sorted names of the folders, or in the list, of the split "train" where there is one: so the labels of all splits agree.
"""

import contextlib
import csv
import io
import os
import pathlib
from typing import NamedTuple

from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import REMEDY, Sample, few
from keras_cnns.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LISTS = (".tsv", ".csv", ".txt")
FILE = ("file", "filename", "file_name", "image", "image_name", "img", "path", "image_id", "id")
INDEX = ("class_index", "class_id", "index")
NAME = ("class", "class_name", "label", "name")
SPLITS = ("train", "training", "trainval", "val", "valid", "validation", "test", "testing")


def classification(root, split=None, class_names=None, shuffle=False, seed=0, on_bad_sample="stop"):
    """Unbatched `tf.data.Dataset` of images and their `label`, by class and name, or in the order of the list.

    Elements as of `samples.dataset`. Every image is decoded once before (`samples.check`), so bad ones are known at
    the call; those left out are told in one warning.

    Args:
      shuffle: another order, the same for the same seed and in every pass.
      The others as of `samples`.
    """
    return sample_data.checked_dataset(samples(root, split, class_names, on_bad_sample), shuffle, seed, on_bad_sample)


def samples(root, split=None, class_names=None, on_bad_sample="stop"):
    """Finds the images of a split and their classes; images are looked for, not opened.

    Args:
      root: the folder, or a list.
      split: name of its folder or list; None for images that are not parted.
      class_names: labels 0..K-1 in this order; by default those of `class_names(root, split)`.
      on_bad_sample: "stop" raises where a list's image is missing, "skip" goes on without.

    Returns:
      `(samples, skipped)`: a list of `Sample`, and one line on each that was skipped.

    Raises:
      InputError: one line.
    """
    place = _place(root, split)
    names = _class_names(root, split) if class_names is None else list(class_names)
    if os.path.isfile(place):
        read = sample_data.attempt(_listed)
        return sample_data.sift((read(place, row, names) for row in _once(_rows(place))), on_bad_sample)
    return sample_data.sift(_in_folders(place, names), on_bad_sample)


def class_names(root, split=None):
    """Names of the labels 0..K-1; None where a list gives indices and does not name each from 0 to the largest."""
    return _class_names(root, split)


def _place(root, split):
    """Path of the list, or of the folder that holds the classes' folders."""
    root = os.path.abspath(os.path.expanduser(root))
    if os.path.isfile(root):
        if split is not None:
            raise InputError(f"{root}: a list has no split {split!r}; name its folder, or leave the split out")
        if not root.lower().endswith(LISTS):
            raise InputError(f"{root}: no list of files and classes; give one of {', '.join(LISTS)}, or a folder")
        return root
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such folder; give one that holds a folder of images for each class")
    place = os.path.join(root, str(split or ""))
    for stem in [os.path.join(place, "labels")] + [place] * (split is not None):
        for suffix in (".tsv", ".csv"):
            if os.path.isfile(stem + suffix):
                return stem + suffix
    if split is not None:
        if not os.path.isdir(place):
            raise InputError(f"{place}: no such split. Found in {root}: {few(_visible(root)) or 'nothing'}; choose "
                             "one of them, or leave the split out if these are classes")
        return place
    folders = _folders(root)
    if folders and all(name.lower() in SPLITS for name in folders):
        raise InputError(f"{root}: holds splits, not classes: {', '.join(folders)}; choose one of them as the split")
    return root


def _class_names(root, split):
    place = _place(root, split)
    root = os.path.abspath(os.path.expanduser(root))
    folder = os.path.dirname(root) if os.path.isfile(root) else root
    for path in (os.path.join(folder, str(split or ""), "labels.txt"), os.path.join(folder, "labels.txt")):
        if os.path.isfile(path) and path != place:
            return _named(path)
    if split is not None:
        with contextlib.suppress(InputError):  # without a split "train" each stands alone
            place = _place(root, "train")
    return _names_of_list(place) if os.path.isfile(place) else _classes(place)


def _named(path):
    names = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        found = "a name twice" if names else "no name"
        raise InputError(f"{path}: {found} in it; write each class once, a name a line")
    return names


# Folders.

def _in_folders(place, names):
    """The samples of a folder of classes."""
    labels = {name: label for label, name in enumerate(names)}
    found = []
    for name in _classes(place):
        folder = os.path.join(place, name)
        if name not in labels:
            raise InputError(f"{folder}: unknown class {name!r}. Known: {few(names)}; rename the folder, or give all "
                             "names with class_names= or in labels.txt")
        images = _images(folder)
        if not images:
            raise InputError(f"{folder}: no image in this class ({', '.join(SUFFIXES)}); put some in, or take the "
                             "folder away")
        for path in images:
            image_id = os.path.relpath(path, place).replace(os.sep, "/")
            found.append(Sample(image_id, path, label=labels[name]))
    return found


def _classes(place):
    folders = _folders(place)
    if not folders:
        raise InputError(f"{place}: no folder of a class in it, but {few(_visible(place)) or 'nothing'}; put the "
                         "images of each class into a folder of its name, or write a labels.tsv (file, tab, class)")
    return folders


def _folders(place):
    return [name for name in _visible(place) if os.path.isdir(os.path.join(place, name))]


def _images(folder):
    """Sorted paths of all images in a folder and those below it."""
    # A link to where one has been, or to a folder around this one, leads in a circle.
    seen = set()
    for start in (os.path.realpath(folder), os.path.realpath(os.path.dirname(folder))):
        seen |= {start, *map(str, pathlib.PurePath(start).parents)}
    found, ahead = [], [folder]
    while ahead:
        here = ahead.pop()
        for name in _visible(here):
            path = os.path.join(here, name)
            if os.path.isdir(path):
                real = os.path.realpath(path)
                if real not in seen:
                    seen.add(real)
                    ahead.append(path)
            # A broken link is an image that is missing; a pipe or device is none, and reading it might never end.
            elif name.lower().endswith(SUFFIXES) and (os.path.isfile(path) or os.path.islink(path)):
                found.append(path)
    return sorted(found)


def _visible(folder):
    """Sorted names of what is in a folder and not hidden."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: folder cannot be read ({error.strerror}); allow reading it, or take it "
                         "away") from None


# Lists.

class _Row(NamedTuple):
    where: str  # file and line, for errors
    file: str
    index: int | None
    name: str | None
    about: dict  # the columns but for the file


def _listed(place, row, names):
    path = os.path.join(os.path.dirname(place), row.file)
    label = row.index
    if label is None:
        names = names or []  # there are none where the list of "train" has indices
        if row.name not in names:
            raise InputError(f"{row.where}: unknown class {row.name!r}. Known: {few(names)}; correct it, or give all "
                             "names with class_names= or in labels.txt")
        label = names.index(row.name)
    elif names is not None and label >= len(names):
        raise InputError(f"{row.where}: class {label}, but there are {len(names)} classes, counted from 0; correct "
                         "it, or give all names with class_names= or in labels.txt")
    if not os.path.isfile(path):
        raise InputError(f"{path}: image is missing ({row.where}); {REMEDY}")
    return Sample(row.file, path, label=label, about=row.about)


def _once(rows):
    """Without the lines that say again what another said."""
    first = {}
    for row in rows:
        known = first.setdefault(row.file, row)
        if (known.index, known.name) != (row.index, row.name):
            raise InputError(f"{row.where}: {row.file!r} has another class in {known.where.rpartition(': ')[2]}; "
                             "leave one of them")
    return first.values()


def _names_of_list(path):
    rows = _rows(path)
    if rows[0].index is None:
        return sorted({row.name for row in rows})
    names = {row.index: row.name for row in rows}
    for row in rows:
        if names[row.index] != row.name:
            raise InputError(f"{row.where}: class {row.index} is called {row.name!r} here and {names[row.index]!r} "
                             "elsewhere; correct one of them")
    known = [names.get(index) for index in range(len(names))]
    return None if None in known else known


def _rows(path):
    """The lines of a list, at least one."""
    table = _table(path)
    head = [cell.lower() for cell in table[0][1]] if table else []
    if set(head) & set(FILE):
        table = table[1:]
    else:
        head = ["file", "class"]
        _check_first(path, table)
    file, index, name = (next((head.index(word) for word in words if word in head), None)
                         for words in (FILE, INDEX, NAME))
    if index is None and name is None:
        raise InputError(f"{path}: no column of classes among {few(head)}; call one of them class or class_index")
    if not table:
        raise InputError(f"{path}: the list is empty; write a file and its class a line")
    for where, cells in table:
        if len(cells) != len(head):
            raise InputError(f"{where}: {len(cells)} columns, expected {len(head)} ({', '.join(head)}); columns are "
                             f"parted by {'commas' if path.lower().endswith('.csv') else 'tabs'}, correct the line")
        for column in (file, name if index is None else index):
            if not cells[column]:
                raise InputError(f"{where}: nothing in column {head[column]}; fill it in, or take the line away")
    if index is None and all(_whole(cells[name]) for _, cells in table):
        index, name = name, None
    rows = []
    for where, cells in table:
        if index is not None and not _whole(cells[index]):
            raise InputError(f"{where}: class index is {cells[index]!r}, expected a whole number, 0 or more; "
                             "correct it")
        rows.append(_Row(where, cells[file], None if index is None else int(cells[index]),
                         None if name is None else cells[name],
                         {word: cell for word, cell in zip(head, cells) if word != head[file]}))
    return rows


def _check_first(path, table):
    """A first line may be one of names that no one knows: it is no sample, nor is its second word a class."""
    where, (file, *others) = table[0] if table else ("", [""])
    if file and others and not file.lower().endswith(SUFFIXES):
        if not os.path.isfile(os.path.join(os.path.dirname(path), file)):
            raise InputError(f"{where}: no column is called file ({few([file, *others])}), and {file!r} is no image; "
                             "call the column of the images file and that of the classes class, or mend the name")


def _table(path):
    """`(where, cells)` of each line with something on it."""
    text = _text(path)
    if path.lower().endswith(".csv"):
        reader = csv.reader(io.StringIO(text, newline=""))
        try:
            lines = [(reader.line_num, cells) for cells in reader]
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num}: no CSV ({error}); correct it") from None
    else:
        lines = [(number, line.split("\t")) for number, line in enumerate(io.StringIO(text, newline=None), start=1)]
    table = [(f"{path}: line {number}", [cell.strip() for cell in cells]) for number, cells in lines]
    for where, cells in table:
        if any(len(cell.splitlines()) > 1 for cell in cells):
            raise InputError(f"{where}: a line break within a cell; close the quotation mark, or take the break out")
    return [(where, cells) for where, cells in table if any(cells)]


def _text(path):
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allow reading it") from None


def _whole(text):
    """Whether it is a number an int32 can hold."""
    return text.isascii() and text.isdigit() and len(text) <= 9
