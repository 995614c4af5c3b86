"""Trains segmenters on photographs until they know them, and says what that took.

    python tools/train_segmentation.py CASE [--model NAME] [--epochs N] [--seed 0] [--output runs/segmentation]

Cases, whose images lie in the folder that KERAS_CNNS_DATA names:
  isbi             membranes: every fifth slice is not learnt from and measured on, or, with --unseen, another folder's;
                   slices of one stack: neighbours are alike
  camvid_by_heart  streets: 20 images, as they are, measured on themselves, and on the 10 of val, of which so few can
                   teach little
  voc_by_heart     30 images of VOC's list of segmentation, likewise, and on the 34 of val
Each with `--model`, `deconvnet_16` with `--input-size` in multiples of 32, and `--backbone` and `--features` of `fcn`,
whose default answer of stride 8, enlarged bilinearly, cannot draw CamVid's poles, a few pixels wide. Stopped, it goes
on where it was. Prints a row of a table: command, seed, minutes, figures; writes history.json, curves and pictures of
the labels to the run's folder.

On ISBI a network sees tiles of its input's size, unscaled, turned and deformed, and is asked in tiles, `unet` by its
own margins, of each slice turned by quarters and mirrored (`training.segment.averaged`); on the others whole images,
scaled to its input. The sizes below are what two cores can do within the hour, not the papers'.
"""

import argparse
import os
import pathlib
import shlex
import sys
import time
from typing import NamedTuple

from keras_cnns import cli

cli.import_tensorflow()

import rich.progress  # noqa: E402

from keras_cnns import pictures  # noqa: E402
from keras_cnns.data import images, named, pairs  # noqa: E402
from keras_cnns.data import samples as data_samples  # noqa: E402
from keras_cnns.errors import InputError  # noqa: E402
from keras_cnns.metrics import segmentation as metrics  # noqa: E402
from keras_cnns.models import model_info  # noqa: E402
from keras_cnns.training import recipes, runs, segment  # noqa: E402


class Case(NamedTuple):
    data: str
    model: str
    size: tuple  # height, width of the input
    epochs: int
    view: str
    unseen: str | int  # a split, or every how manieth image of train


CASES = {
    "isbi": Case("isbi:{}/isbi", "unet_same", (256, 256), 60, "tile", 5),
    "camvid_by_heart": Case("camvid:{}/camvid", "fcn", (360, 480), 120, "letterboxed", "val"),
    "voc_by_heart": Case("voc:{}/voc/VOCdevkit:2012", "fcn", (320, 320), 120, "letterboxed", "val"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--model", help="default " + ", ".join(f"{name} {case.model}" for name, case in CASES.items()))
    parser.add_argument("--backbone", help="of fcn: any classifier")
    parser.add_argument("--features", nargs="+", help="its layers, finest first")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--unseen", metavar="DATA", help="measured on these, such as isbi:PATH, instead")
    parser.add_argument("--input-size", type=int, nargs=2, help="height and width")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--weights", help="a .keras file of the same network to begin with")
    parser.add_argument("--balance", type=float, help="c of ENet's weights of classes, 1.02 in its paper; default none")
    parser.add_argument("--dtype-policy", help="such as mixed_bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/segmentation"))
    options = parser.parse_args()
    case = CASES[options.case]
    name, data = options.model or case.model, case.data.format(os.environ["KERAS_CNNS_DATA"])
    learned, names, _ = named.segmentation(data, "train")
    if options.unseen or isinstance(case.unseen, str):
        unseen = named.segmentation(options.unseen or data, case.unseen if not options.unseen else "train", names)[0]
    else:
        unseen = learned[::case.unseen]
        learned = [sample for i, sample in enumerate(learned) if i % case.unseen]
    height, width = options.input_size or case.size
    shape = height, width, model_info(name).input_shape[2]
    recipe = recipes.lasting(recipes.recipe(name), options.epochs or case.epochs)
    given = {field: getattr(options, field) for field in ("learning_rate", "batch", "balance")}
    recipe = recipe._replace(view=case.view, **{key: value for key, value in given.items() if value})
    if case.view == "tile":
        recipe = recipe._replace(change="elastic_turned")
    folder = options.output / f"{options.case}_{name}_{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    asked = {key: getattr(options, key) for key in ("backbone", "features", "dtype_policy") if getattr(options, key)}
    begun, resumed = time.time(), any((folder / "run").rglob("checkpoint*"))
    network, history = runs.train(name, learned, names, folder / "run", recipe, shape, options.seed,
                                  options.weights, **asked)
    minutes = (time.time() - begun) / 60
    pictures.curves({"loss": [epoch["loss"] for epoch in history]}, f"{name}, {options.case}").save(
        folder / "curves.png")
    tile = max(height, width) if case.view == "tile" else None
    figures = []
    for title, samples in (("learned", learned), ("unseen", unseen)):
        if samples:
            figures.append(f"{title}: {len(samples)} images, "
                           + measured(network, samples, ["background", *names], tile, folder / title))
    command = shlex.join(["python", *sys.argv])
    print(f"| {command} | seed {options.seed} | {len(learned)} images, {len(history)} epochs | {minutes:.1f} minutes"
          f"{' since it went on' * resumed} | "
          f"{' | '.join(figures)} | loss {history[0]['loss']:.3f} to {history[-1]['loss']:.3f} |")


def measured(network, samples, names, tile, folder):
    """Figures in words; pictures of the labels of the first eight images go to the folder."""
    folder.mkdir(exist_ok=True)
    matrix, truths, cells = 0, [], []
    for i, sample in enumerate(rich.progress.track(samples, "Measuring", transient=True)):
        image, truth = images.decode(sample.source, sample.name), data_samples.segmentation(sample)
        found = segment.averaged(network, image, tile) if tile else segment.probabilities(network, image)
        labels = found.argmax(-1).astype("uint8")
        matrix = matrix + metrics.confusion(truth, labels, len(names))
        if i < 8:
            picture = pictures.labelled(image, labels, names)
            picture.save(folder / f"{sample.image_id.replace('/', '_')}.png")
        truths.append(truth)
        cells.append(found[..., 1])
    result = metrics.scores(matrix)
    told = f"pixel accuracy {result.pixel_accuracy:.4f}, mean IoU {result.mean_iou:.4f}"
    if len(names) == 2:
        told += f", IoU of membranes {result.iou[0]:.4f}"
    if tuple(names[1:]) == pairs.ISBI_CLASSES:
        try:
            told += "".join(f", {key} error {value:.4f}" for key, value in metrics.isbi_errors(truths, cells).items())
        except InputError as error:  # scikit-image is not there
            print(error, file=sys.stderr)
    return told


if __name__ == "__main__":
    main()
