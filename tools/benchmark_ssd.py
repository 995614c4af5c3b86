"""How long SSD300 takes to detect, beside torchvision's eager one.

    KERAS_CNNS_TORCHVISION=folder python tools/benchmark_ssd.py [--rounds 20] [--batch 1] [--threads 2]

The folder is an environment with torchvision, which runs in a process of its own. Both networks have random weights, 90
classes and a bias that leaves few of the scores above the threshold, and get pixels of 300 x 300; a round measures one
and then the other, and what counts is the median of the rounds. Torchvision is measured with its maps in its own order
and with channels last, and the quicker one counts. A ratio above 1 says that ours is quicker.
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

from keras_cnns.models import create_model, detector  # noqa: E402

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    network = create_model("ssd300_vgg16", num_classes=90)
    for layer in network.layers:
        if layer.name.endswith("_cls"):
            layer.bias.assign(np.tile([BACKGROUND, *[0.0] * 90], layer.filters // 91))
    graph = detector(network)
    detect = tf.function(lambda image: graph(image, training=False))
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
        detect(image)["boxes"].numpy()
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
