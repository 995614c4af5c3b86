"""What several commands share: arguments, tables, and how they come to their data and networks."""

import argparse
import pathlib
import sys

from keras_cnns.errors import InputError


def data_arguments(parser, split, name="--data"):
    """Where the data are: `name`, --split, --limit and --on-bad-sample."""
    required = {"required": True} if name.startswith("-") else {}
    parser.add_argument(name, metavar="DATA", **required,
                        help="such as voc:PATH[:YEAR], coco:PATH[:SPLIT], folder:PATH, small:PATH, camvid:PATH, "
                             "isbi:PATH, mpii:PATH, synthetic[:N], figures[:N]")
    parser.add_argument("--split", default=split, help=f"default {split}")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N, of all that were checked")
    parser.add_argument("--on-bad-sample", choices=("stop", "skip"), default="stop",
                        help="at a broken image or annotation; default stop")


def network_arguments(parser):
    """Which network: NETWORK and --weights."""
    parser.add_argument("network", metavar="NETWORK",
                        help="folder of a run, .keras file, or, with --weights, a model")
    parser.add_argument("--weights", metavar="WEIGHTS", help="a release, such as imagenet, or a file of weights")


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def table(title, *columns):
    import rich.table

    table = rich.table.Table(title=title)
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=not table.columns)
    return table


def show(table):
    import rich.console

    rich.console.Console(markup=False, emoji=False).print(table)  # of names as they are


def save(picture, path):
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error}); name a .png file elsewhere.") from None


def check_targets(folder, sources):
    """Raises InputError where pictures of images, named as they are, would be written over one of them, or of two into
    one file."""
    folder, sources = pathlib.Path(folder), [pathlib.Path(source) for source in sources]
    if len({source.stem for source in sources}) < len(sources):
        raise InputError("Two images have one name, and so would their pictures; ask for them into two folders.")
    targets = {(folder / f"{source.stem}{end}").resolve() for source in sources
               for end in (".png", "_labels.png", "_labels.npy")}
    if taken := [source for source in sources if source.resolve() in targets]:
        raise InputError(f"{taken[0]}: a picture of this name would be written over it; name another folder "
                         "(--output).")


def save_labels(image, labels, names, path):
    """Pictures of a segmenter's labels, uint8 `[H, W]`: over the image, and beside it a PNG file of palette indices.

    Prints what share of the pixels each class has.
    """
    import numpy as np
    from PIL import Image

    from keras_cnns import pictures

    save(pictures.labelled(image, labels, names), path)
    numbers = Image.fromarray(labels)
    numbers.putpalette([part for label in range(256) for part in (pictures.colour(label) if label else (0, 0, 0))])
    save(numbers, path.with_name(f"{path.stem}_labels.png"))
    print(f"{path}: the labels in {path.stem}_labels.png (class, share of the pixels)")
    for label, count in enumerate(np.bincount(labels.reshape(-1))):
        if count:
            print("", names[label] if names and label < len(names) else label, f"{count / labels.size:.4f}", sep="\t")


def read(options, task, split=None, class_names=None):
    """Samples and class names of `--data` for a task; says what was skipped."""
    from keras_cnns.data import named

    read = {"detection": named.detection, "classification": named.classification,
            "keypoints": named.keypoints, "segmentation": named.segmentation}[task]
    samples, names, skipped = read(options.data, split or options.split, class_names, options.on_bad_sample)
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    if skipped:
        print(f"{len(skipped)} samples skipped, {len(samples)} used.", file=sys.stderr)
    return samples[:options.limit], names, skipped


def network(options, fixed=False):
    """The network of a run's folder or a .keras file, or one with released weights; class names or None; its task.

    Args:
      fixed: a released one shall have an input of fixed size, also where its authors' images keep their proportions.
    """
    import keras

    from keras_cnns import models, weights

    if options.weights:
        row = release(options)
        shape = (None, None, 3) if row and row.free and not fixed else None
        network = weights.create_model(options.network, shape, weights=options.weights)
        return network, row and weights.class_names(row), models.module_of(options.network).TASK
    path = pathlib.Path(options.network)
    path = path / "network.keras" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of a finished run, or a .keras file.")
    try:
        network = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: cannot be loaded ({error}).") from error
    labels = path.with_name("labels.txt")
    names = labels.read_text().splitlines() if labels.is_file() else None
    return network, names, models.module_of(network.name).TASK


def with_background(names, classes):
    """The names of a segmenter's classes 0...K, of those that a run or a release has, or None."""
    return names if names is None or len(names) == classes else ["background", *names]


def sliding(classifier, names, size, score_threshold):
    """A classifier as a detector in images of `(height, width)`, and the names of its objects or None.

    Its class of the name "background", if there is one, stands for no object.
    """
    from keras_cnns.models.detection import sliding_window

    background = names.index("background") if names and "background" in names else None
    graph = sliding_window.detector(classifier, size, background=background, score_threshold=score_threshold)
    return graph, names and [name for name in names if name != "background"]


def release(options):
    """The row of `--weights`, or None."""
    from keras_cnns.weights import releases

    rows = releases.RELEASES.get(options.network, ()) if options.weights else ()
    return next((row for row in rows if row.name == options.weights), None)
