"""Seconds a training epoch with stochastic depth and without, on synthetic 32x32 images.

    python tools/benchmark_stochastic_depth.py [--steps 10] [--batch 128] [--model resnet110_stochastic_depth_cifar]
"""

import argparse
import time

import keras
import numpy as np

from keras_cnns.models.classification import stochastic_depth


def seconds(name, survival, steps, batch, epochs=3):
    """The mean of `epochs` epochs after the one that compiles: which blocks are left out is chance."""
    keras.utils.set_random_seed(0)
    network = stochastic_depth.build(name, survival=survival)
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (steps * batch, 32, 32, 3)).astype("float32")
    labels = rng.integers(0, 10, steps * batch)
    times = []
    for _ in range(1 + epochs):
        start = time.perf_counter()
        network.fit(images, labels, batch_size=batch, verbose=0)
        times.append(time.perf_counter() - start)
    return sum(times[1:]) / epochs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--model", default="resnet110_stochastic_depth_cifar", choices=stochastic_depth.VARIANTS)
    options = parser.parse_args()
    dropped, constant = (seconds(options.model, p, options.steps, options.batch) for p in (0.5, 1.0))
    print(f"{options.model}, {options.steps} steps of {options.batch}: stochastic depth {dropped:.2f} s an epoch, "
          f"constant depth {constant:.2f} s, ratio {dropped / constant:.2f}")


if __name__ == "__main__":
    main()
