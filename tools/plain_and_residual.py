"""What shortcuts are for: plain and residual nets of 20 and 56 layers on CIFAR, as curves (He et al., Fig. 6).

    python tools/plain_and_residual.py DATA [--epochs 30] [--output runs/plain_and_residual]

DATA is as of `keras-cnns train`, such as folder:PATH with a folder `train`. The four are trained alike, with the recipe
of the paper but for what suits some thousand images: batches of 64, a rate of 0.01, which falls to a tenth after two
thirds of the epochs. Stopped, it goes on where it was. Writes curves.png: the training error of each, in percent.
"""

import argparse
import pathlib

from keras_cnns import cli

cli.import_tensorflow()

from keras_cnns import pictures  # noqa: E402
from keras_cnns.data import named  # noqa: E402
from keras_cnns.training import recipes, runs  # noqa: E402

NAMES = ("plain20_cifar", "resnet20_cifar", "plain56_cifar", "resnet56_cifar")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--output", type=pathlib.Path, default="runs/plain_and_residual")
    options = parser.parse_args()
    samples, class_names, _ = named.classification(options.data, "train")
    errors = {}
    for name in NAMES:
        recipe = recipes.recipe(name)._replace(
            epochs=options.epochs, batch=64, learning_rate=0.01, drops=(options.epochs * 2 // 3,))
        _, history = runs.train(name, samples, class_names, options.output / name, recipe)
        errors[name] = [100 * (1 - epoch["accuracy"]) for epoch in history]
        print(f"{name}: {errors[name][-1]:.1f} % error on the images it learns from, loss {history[-1]['loss']:.3f}")
    pictures.curves(errors, "training error, %").save(options.output / "curves.png")
    print(options.output / "curves.png")


if __name__ == "__main__":
    main()
