"""Loading ResNet-50's weights from a file on disk, here and in keras.applications: seconds and memory.

    python tools/benchmark_weights.py [--rounds 5]

The file is one that keras.applications writes, of random weights, as large as the released one. Each load is a process
of its own, the two in turn; medians. Memory is the process's largest resident size (on Linux).
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

LOAD = """
import json, sys, time
import keras
import keras_cnns
from keras_cnns import weights
keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])  # whatever is set up once
start = time.perf_counter()
if sys.argv[1] == "ours":
    keras_cnns.create_model("resnet50", weights=sys.argv[2])
else:
    keras.applications.ResNet50(weights=sys.argv[2])
seconds = time.perf_counter() - start
largest = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, largest / 1024]))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    import keras

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "resnet50.h5")
        keras.applications.ResNet50(weights=None).save(file)
        found = {"ours": [], "keras.applications": []}
        for _ in range(rounds):
            for who, runs in found.items():
                done = subprocess.run([sys.executable, "-c", LOAD, who, file], check=True, capture_output=True,
                                      text=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
    for who, runs in found.items():
        seconds, memory = (statistics.median(column) for column in zip(*runs))
        print(f"{who}: {seconds:.2f} s, {memory:.0f} MB")


if __name__ == "__main__":
    main()
