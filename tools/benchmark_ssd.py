"""How long SSD300 takes to detect, beside torchvision's eager one; and whether its input keeps up with training.

    KERAS_CNNS_TORCHVISION=folder python tools/benchmark_ssd.py [--rounds 20] [--batch 1] [--threads 2]
    python tools/benchmark_ssd.py --input [MODEL ...] [--rounds 20] [--batch 8]

The folder is an environment with torchvision, which runs in a process of its own. Both networks have random weights, 90
classes and a bias that leaves few of the scores above the threshold, and get pixels of 300 x 300; a round measures one
and then the other, and what counts is the median of the rounds. Torchvision is measured with its maps in its own order
and with channels last, and the quicker one counts. A ratio above 1 says that ours is quicker.

With --input: single-shot detectors, SSD300 by default, are trained on drawn pictures by their own recipes, and it is
measured how long each step waits for its batch, what a batch takes that is made alone, and the targets in it on one
thread.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import time

from keras_cnns import cli

cli.import_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from keras_cnns import models  # noqa: E402
from keras_cnns.data import synthetic  # noqa: E402
from keras_cnns.models import create_model, detector  # noqa: E402
from keras_cnns.training import detect, recipes  # noqa: E402

BACKGROUND = 8.0  # added to the logit of background
PEER = """
import sys, time
import torch, torchvision
batch, threads, background = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(threads)
networks = []
for order in (torch.contiguous_format, torch.channels_last):
    torch.manual_seed(0)
    network = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=91).eval()
    for conv in network.head.classification_head.module_list:
        conv.bias.data[::91] += background
    network.transform.resize = lambda image, target=None: (image, target)
    networks.append(network.to(memory_format=order))
images = list(torch.rand(batch, 3, 300, 300))
for line in sys.stdin:
    with torch.inference_mode():
        before = time.perf_counter()
        networks[int(line)](images)
    print(time.perf_counter() - before, flush=True)
"""


def waiting(name, rounds, batch):
    """A line on how long a detector's training waits for its input."""
    samples, warm = synthetic.samples(64), 3
    network = create_model(name, num_classes=len(synthetic.CLASSES))
    recipe = recipes.recipe(name)._replace(batch=batch, epochs=1 + (rounds + warm) * batch // len(samples))
    detect.compiled(network, recipes.optimizer(recipe, 1), recipe, samples)

    def seconds(call):
        begun = time.perf_counter()
        result = call()
        return time.perf_counter() - begun, result

    times, batches = [], iter(detect.elements(network, samples, recipe, 0, 0))
    for _ in range(rounds + warm):
        waited, (image, targets) = seconds(lambda: next(batches))
        times.append((waited, seconds(lambda: network.train_on_batch(image, targets))[0]))
    waits, steps = (sum(part) for part in zip(*times[warm:]))
    alone = iter(detect.elements(network, samples, recipe, 0, 0))
    made = [seconds(lambda: next(alone))[0] for _ in range(rounds + warm)][warm:]
    encode = models.module_of(name).target_encoder(network)
    encoded = seconds(lambda: [encode(s.boxes, s.labels) for s in samples[:batch]])[0]
    each = 1000 / rounds
    return (f"{name}, batches of {batch}: a step {each * (waits + steps):.0f} ms, of which waiting for input "
            f"{each * waits:.2f} ms, {waits / (waits + steps):.2%}; a batch made alone {each * sum(made):.0f} ms, of "
            f"which targets {1000 * encoded:.1f} ms on one thread")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, help="default 1; with --input 8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--input", nargs="*", metavar="MODEL")
    options = parser.parse_args()
    if options.input is not None:
        for name in options.input or ["ssd300_vgg16"]:
            print(waiting(name, options.rounds, options.batch or 8), flush=True)
        return
    options.batch = options.batch or 1
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    network = create_model("ssd300_vgg16", num_classes=90)
    for layer in network.layers:
        if layer.name.endswith("_cls"):
            layer.bias.assign(np.tile([BACKGROUND, *[0.0] * 90], layer.filters // 91))
    graph = detector(network)
    traced = tf.function(lambda image: graph(image, training=False))
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, (options.batch, 300, 300, 3)).astype("float32"))

    activate = pathlib.Path(os.environ["KERAS_CNNS_TORCHVISION"], "bin", "activate-torchvision")
    activate = activate if activate.exists() else activate.with_name("activate")
    peer = subprocess.Popen(
        ["bash", "-c", '. "$0" && exec python -c "$@"', str(activate), PEER, str(options.batch), str(options.threads),
         str(BACKGROUND)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def theirs(which):
        print(which, file=peer.stdin, flush=True)
        return float(peer.stdout.readline())

    def ours():
        before = time.perf_counter()
        traced(image)["boxes"].numpy()
        return time.perf_counter() - before

    rounds = [(ours(), theirs(0), theirs(1)) for _ in range(options.rounds + 3)][3:]
    peer.stdin.close()
    peer.wait()
    medians = [1000 * statistics.median(times) for times in zip(*rounds)]
    print("milliseconds, median: ours {:.0f}, torchvision {:.0f}, with channels last {:.0f}".format(*medians))
    print(f"ratio {min(medians[1:]) / medians[0]:.2f}; of the least times "
          f"{min(min(r[1:]) for r in rounds) / min(r[0] for r in rounds):.2f}")


if __name__ == "__main__":
    main()
