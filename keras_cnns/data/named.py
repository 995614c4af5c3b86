"""Data by the names of the command line: `voc:PATH[:YEAR]`, `synthetic[:N]`."""

from keras_cnns.data import samples as data_samples
from keras_cnns.data import synthetic, voc
from keras_cnns.errors import InputError

SYNTHETIC = 400            # pictures, unless the name says how many
HELD_OUT = 1_000_000       # where the pictures of other splits than "train" begin


def detection(name, split, class_names=None, on_bad_sample="stop", progress=True):
    """Samples of a split, every image checked.

    Args:
      name: "voc:PATH", "voc:PATH:YEAR", "synthetic" or "synthetic:N".
      class_names: 1...K in order; by default the data's own.
      on_bad_sample: "stop" or "skip". progress: show a bar.

    Returns:
      `(samples, class_names, skipped)`; skipped holds one line on each sample left out.

    Raises:
      InputError: an unknown kind of data, or what the reader finds wrong.
    """
    kind, _, rest = name.partition(":")
    if kind == "voc" and rest:
        root, _, year = rest.rpartition(":")
        if not (root and year.isdigit()):
            root, year = rest, None
        class_names = class_names or voc.class_names(root, year)
        samples, bad_annotations = voc.samples(root, year, split, class_names, on_bad_sample)
        samples, bad_images = data_samples.check(samples, on_bad_sample, progress)
        return samples, list(class_names), bad_annotations + bad_images
    if kind == "synthetic" and (rest.isdigit() or not rest):
        if class_names and tuple(class_names) != synthetic.CLASSES:
            raise InputError(f"{name} has the classes {', '.join(synthetic.CLASSES)}; the network knows others: "
                             f"{', '.join(class_names)}. Name data of its classes.")
        first = 0 if split == "train" else HELD_OUT
        return synthetic.samples(int(rest or SYNTHETIC), first=first), list(synthetic.CLASSES), []
    raise InputError(f"No data {name!r}. Accepted: voc:PATH, voc:PATH:YEAR, synthetic, synthetic:N.")
