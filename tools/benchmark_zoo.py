"""How long networks take to be built, compiled and trained, beside the same of keras.applications.

    python tools/benchmark_zoo.py [--networks vgg16 ...] [--rounds 5] [--batch 8] [--size 128]

Both are built with random weights and 1000 classes and trained with the same optimizer on the same pixels, which their
graphs are given as they are, 0 to 255: before theirs stands its own `preprocess_input`. A round measures both, the one
that was second before now first, since what comes first in a process pays for what TensorFlow does only once; the round
before the first does not count. What counts is the median of the rounds. "compile" is the first step of training, in
which TensorFlow traces it. A ratio below 1 says that ours is quicker.
"""

import argparse
import gc
import statistics
import time

from keras_cnns import cli

cli.import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.table  # noqa: E402

from keras_cnns.models import create_model  # noqa: E402

PEERS = {  # the network and the module of its preprocessing
    "vgg16": (keras.applications.VGG16, keras.applications.vgg16),
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet),
    "inception_v3": (keras.applications.InceptionV3, keras.applications.inception_v3),
    "inception_resnet_v2": (keras.applications.InceptionResNetV2, keras.applications.inception_resnet_v2),
    "densenet121": (keras.applications.DenseNet121, keras.applications.densenet),
    "mobilenet_v1": (keras.applications.MobileNet, keras.applications.mobilenet),
}
STEPS = 5


def theirs_of(name, shape):
    """The peer of a network of ours, pixels in."""
    peer, module = PEERS[name]
    image = keras.Input(shape)
    return peer(weights=None, input_tensor=module.preprocess_input(image), classes=1000)


def seconds(build, batch, size):
    """(to build, to compile, of a step) of a network in training."""
    start = time.perf_counter()
    network = build()
    built = time.perf_counter()
    network.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)).astype("float32")
    y = np.arange(batch)
    network.train_on_batch(x, y)
    compiled = time.perf_counter()
    steps = []
    for _ in range(STEPS):
        before = time.perf_counter()
        network.train_on_batch(x, y)
        steps.append(time.perf_counter() - before)
    return built - start, compiled - built, min(steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=PEERS, default=PEERS, metavar="NAME", help="default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    options = parser.parse_args()
    table = rich.table.Table(
        title=f"keras_cnns : keras.applications, batch {options.batch}, {options.size} pixels a side")
    for column in ("network", "build, s", "ratio", "compile, s", "ratio", "step, ms", "ratio"):
        table.add_column(column, justify="left" if column == "network" else "right")
    shape = (options.size, options.size, 3)
    for name in options.networks:
        builds = (lambda: create_model(name, shape)), (lambda: theirs_of(name, shape))
        rounds = []
        for number in range(options.rounds + 1):
            pair = [None, None]
            for i in (0, 1) if number % 2 else (1, 0):
                keras.utils.clear_session()
                gc.collect()
                pair[i] = seconds(builds[i], options.batch, options.size)
            if number:
                rounds.append(pair)
                print(name, *(f"{ours:.3f}:{theirs:.3f}" for ours, theirs in zip(*pair)), flush=True)
        ours, theirs = ([statistics.median(values) for values in zip(*(pair[i] for pair in rounds))] for i in (0, 1))
        cells = []
        for mine, other, unit in zip(ours, theirs, (1, 1, 1000)):
            cells += [f"{mine * unit:.3g} : {other * unit:.3g}", f"{mine / other:.2f}"]
        table.add_row(name, *cells)
    rich.console.Console().print(table)


if __name__ == "__main__":
    main()
