"""RoIPool and RoIAlign beside torchvision's compiled CPU kernels: a map of 38x50 cells of 512 channels, 300 regions.

    KERAS_CNNS_TORCHVISION=<its environment> python tools/benchmark_roi.py [--rounds 15]

Both get the same arrays and two threads; a round measures one and then the other, and what counts is the median of the
rounds. A ratio above 1 says that ours is quicker. Ours is measured op by op, as TensorFlow runs a graph, and compiled
by XLA (`jit_compile=True`), which makes one loop of the ops, as torchvision's kernels are by hand.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HEIGHT, WIDTH, CHANNELS, REGIONS, STRIDE = 38, 50, 512, 300, 16
PEER = """
import sys, time
import numpy as np, torch, torchvision
torch.set_num_threads(2)
arrays = np.load(sys.argv[1])
features = torch.tensor(arrays["features"]).permute(0, 3, 1, 2).contiguous().requires_grad_()
rois = torch.tensor(np.concatenate([np.zeros((len(arrays["rois"][0]), 1), "float32"), arrays["rois"][0]], 1))
cases = {
    "RoIPool": lambda: torchvision.ops.roi_pool(features, rois, 7, 1 / 16),
    "RoIAlign": lambda: torchvision.ops.roi_align(features, rois, 7, 1 / 16, 2, True)}
def backward(case):
    features.grad = None
    case().sum().backward()
for line in sys.stdin:
    name, way = line.split()
    start = time.perf_counter()
    if way == "forward":
        with torch.inference_mode():
            cases[name]()
    else:
        backward(cases[name])
    print(time.perf_counter() - start, flush=True)
"""


class Peer:
    """A process of torchvision's environment; asked, a line at a time, it does something and says how long it took."""

    def __init__(self, program, *arguments):
        activate = pathlib.Path(os.environ["KERAS_CNNS_TORCHVISION"], "bin", "activate-torchvision")
        activate = activate if activate.exists() else activate.with_name("activate")
        self.process = subprocess.Popen(
            ["bash", "-c", '. "$0" && exec python -c "$@"', activate, program, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})

    def seconds(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def rounds(count, ours, peer, *words):
    """Medians in ms of ours, a function, and of the peer's, after one round that does not count."""
    pairs = []
    for _ in range(count + 1):
        start = time.perf_counter()
        ours()
        pairs.append((time.perf_counter() - start, peer.seconds(*words)))
    return [1000 * statistics.median(times) for times in zip(*pairs[1:])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    import tensorflow as tf

    from keras_cnns.layers import RoIAlign, RoIPool

    tf.config.threading.set_intra_op_parallelism_threads(2)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, HEIGHT, WIDTH, CHANNELS)).astype("float32")
    center = rng.uniform((0, 0), (WIDTH * STRIDE, HEIGHT * STRIDE), (1, REGIONS, 2))
    half = np.exp(rng.uniform(np.log(16), np.log(512), (1, REGIONS, 2))) / 2
    limit = (WIDTH * STRIDE, HEIGHT * STRIDE)
    rois = np.concatenate([np.maximum(center - half, 0), np.minimum(center + half, limit)], -1).astype("float32")
    x, r = tf.constant(features), tf.constant(rois)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/inputs.npz", features=features, rois=rois)
        peer = Peer(PEER, f"{folder}/inputs.npz")
        for layer in (RoIPool(7, STRIDE), RoIAlign(7, STRIDE, samples=2, aligned=True)):
            name = type(layer).__name__

            def backward(x, r, layer=layer):
                return tf.gradients(tf.reduce_sum(layer(x, r)), x)[0]

            for way, function in (("forward", layer), ("backward", backward)):
                for compiled in (False, True):
                    run = tf.function(function, jit_compile=compiled)
                    mine, theirs = rounds(options.rounds, lambda: np.array(run(x, r)), peer, name, way)
                    print(f"{name} {way}{', XLA' * compiled}: {mine:.1f} ms, torchvision's {theirs:.1f} ms, ratio "
                          f"{theirs / mine:.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
