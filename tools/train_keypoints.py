"""Trains a network of poses until it finds joints, and says what that took.

    python tools/train_keypoints.py CASE [--epochs N] [--seed 0] [--images N] [--output runs/keypoints]

Cases, of which the photographs lie in the folder that KERAS_CNNS_DATA names:
  figures        drawn figures; measured on 100 unseen ones
  coco_by_heart  persons of COCO's photographs, upright, mirrored every second time, ten times an epoch; measured on
                 themselves
Each with `--model` and `--input-size`. Stopped, it goes on where it was. Prints a row of a table: command, seed,
minutes, and PCK@0.2, PCKh@0.5 and OKS AP where the joints tell them, with the mirror images; writes history.json,
curves.png and a sheet of skeletons, skeletons.png, to the run's folder.
"""

import argparse
import os
import pathlib
import shlex
import sys
import time

from keras_cnns import cli

cli.import_tensorflow()

from PIL import Image  # noqa: E402

from keras_cnns import pictures  # noqa: E402
from keras_cnns.data import named, persons  # noqa: E402
from keras_cnns.data import samples as data_samples  # noqa: E402
from keras_cnns.models import detector  # noqa: E402
from keras_cnns.training import keypoints, recipes, runs  # noqa: E402

UNSEEN = 100
EPOCHS = {"figures": 16, "coco_by_heart": 50}
IMAGES = {"figures": 800, "coco_by_heart": 40}


def figures(count):
    learnt, names, _ = named.keypoints(f"figures:{count}")
    return learnt, named.keypoints(f"figures:{UNSEEN}", "val")[0], names


def real_coco(count):
    found, names, _ = named.keypoints(f"coco:{os.environ['KERAS_CNNS_DATA']}/coco")
    return 10 * found[:count], found[:count], names


DATA = {"figures": figures, "coco_by_heart": real_coco}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=DATA)
    parser.add_argument("--model", default="hourglass2_64")
    parser.add_argument("--epochs", type=int, help=f"by default {EPOCHS}")
    parser.add_argument("--images", type=int, help=f"persons to learn from, by default {IMAGES}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input-size", type=int, nargs=2, default=(128, 128), help="height and width, default 128")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--dtype-policy", help="such as mixed_bfloat16")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/keypoints"))
    options = parser.parse_args()
    folder = options.output / f"{options.case}_{options.model}_{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    count = options.images or IMAGES[options.case]
    train, unseen, names = DATA[options.case](count)
    recipe = recipes.lasting(recipes.recipe(options.model), options.epochs or EPOCHS[options.case])
    if options.case == "coco_by_heart":
        recipe = recipe._replace(view="plain")
    given = {"learning_rate": options.learning_rate, "batch": options.batch}
    recipe = recipe._replace(**{key: value for key, value in given.items() if value})
    policy = {"dtype_policy": options.dtype_policy} if options.dtype_policy else {}
    begun, resumed = time.time(), any((folder / "run").rglob("checkpoint*"))
    network, history = runs.train(options.model, train, names, folder / "run", recipe, (*options.input_size, 3),
                                  options.seed, validation=unseen, **policy)
    minutes = (time.time() - begun) / 60
    graph = detector(network, pairs=persons.pairs(names))
    result = keypoints.evaluate(graph, unseen)
    pictures.curves({key: [epoch[key] for epoch in history] for key in history[-1] if key.startswith("PCK")},
                    f"{options.model}, {options.case}").save(folder / "curves.png")
    drawn = [pictures.skeleton(Image.fromarray(data_samples.pixels(sample)), joints[None], names)
             for sample, joints in zip(unseen[:16], keypoints.predict(graph, unseen[:16], progress=False))]
    pictures.sheet([drawn[:8], drawn[8:]] if drawn[8:] else [drawn]).save(folder / "skeletons.png")
    reached = {"PCK@0.2": result.pck.mean} | ({"PCKh@0.5": result.pckh.mean} if result.pckh else {}) | (
        {"OKS AP": result.oks["AP"]} if result.oks else {})
    command = shlex.join(["python", *sys.argv])
    print(f"| {command} | seed {options.seed} | {count} persons, {len(history)} epochs | {minutes:.1f} minutes"
          f"{' since it went on' * resumed} | "
          f"{' | '.join(f'{name} {value:.4f}' for name, value in reached.items())} | "
          f"loss {history[0]['loss']:.4f} to {history[-1]['loss']:.4f} |")


if __name__ == "__main__":
    main()
