"""How fast pictures come: decode + resize + augment + batch against a bare loop of decoding, and against keras-cv.

    python tools/benchmark_data.py FOLDER [--repeat 10] [--rounds 5]

FOLDER holds JPEG files, at any depth. Decoding alone is measured twice: as a loop over `tf.io.decode_jpeg` on threads,
and in tf.data, which is the faster. Every pipeline reads the same files, with a thread a core; rounds take turns, and
the median of their ratios is what counts. At the end, the memory of the process over 20 epochs. Needs the extra
"test" (keras-cv, psutil).
"""

import argparse
import concurrent.futures
import os
import pathlib
import statistics
import sys
import time

from keras_cnns import cli

cli.import_tensorflow()

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import tensorflow as tf  # noqa: E402

from keras_cnns.data import augment, batches, images, views  # noqa: E402
from keras_cnns.data.samples import Sample  # noqa: E402

BATCH = 16
AUTOTUNE = tf.data.AUTOTUNE


def read(folder):
    """Every JPEG below the folder as a sample of three made-up boxes, so that there is something to move."""
    paths = sorted(str(path) for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        sys.exit(f"{folder}: no JPEG files below it; name a folder that has some.")
    dice = np.random.default_rng(0)
    samples = []
    for path in paths:
        height, width = images.upright_size(path, path)
        corners = np.sort(dice.uniform(0, 1, (3, 2, 2)), axis=1) * (width, height)
        samples.append(Sample(path, path, (height, width), corners.reshape(3, 4).astype("float32"),
                              np.int32([1, 2, 3]), np.zeros(3, bool), label=0))
    return samples


def bare(samples, repeat):
    paths = tf.data.Dataset.from_tensor_slices([s.source for s in samples]).repeat(repeat)
    return paths.map(lambda path: tf.io.decode_jpeg(tf.io.read_file(path), channels=3), AUTOTUNE).prefetch(2)


def loop(samples, repeat):
    def decode(sample):
        return tf.io.decode_jpeg(tf.io.read_file(sample.source), channels=3)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(decode, samples * repeat)


def ours(size, view, colour=None):
    return lambda samples, repeat: batches.training(samples, size, BATCH, repeat, 0, view=view, colour=colour)


def keras_cvs(layers):
    """The pipeline of keras-cv's guides: decoded, batched raggedly, then through its layers."""
    def elements(samples, repeat):
        import keras_cv

        def load(path, boxes, classes):
            image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
            return {"images": tf.cast(image, tf.float32),
                    "bounding_boxes": {"boxes": boxes, "classes": tf.cast(classes, tf.float32)}}

        data = tf.data.Dataset.from_tensor_slices((
            [s.source for s in samples], np.stack([s.boxes for s in samples]), np.stack([s.labels for s in samples])))
        data = data.repeat(repeat).map(load, AUTOTUNE).ragged_batch(BATCH, drop_remainder=True)
        for layer in layers(keras_cv.layers):
            data = data.map(layer, AUTOTUNE)
        return data.prefetch(2)
    return elements


PIPELINES = {
    "detection, 300x300: jitter, crop, mirror": (
        ours((300, 300), views.jittered),
        keras_cvs(lambda layers: [
            layers.JitteredResize((300, 300), (0.8, 1.25), bounding_box_format="xyxy"),
            layers.RandomFlip("horizontal", bounding_box_format="xyxy")])),
    "detection, 300x300: SSD's expansion, patch, mirror": (ours((300, 300), views.ssd), None),
    "the same and SSD's colours": (ours((300, 300), views.ssd, augment.photometric), None),
    "classification, 224x224: random resized crop, mirror": (
        ours((224, 224), views.inception),
        keras_cvs(lambda layers: [
            layers.RandomCropAndResize((224, 224), (0.08, 1.0), (3 / 4, 4 / 3), bounding_box_format="xyxy"),
            layers.RandomFlip("horizontal", bounding_box_format="xyxy")])),
}


def rate(elements):
    """Images a second, those counted that came: the last batch of an epoch may be dropped."""
    start, count = time.perf_counter(), 0
    for element in elements:
        count += len(element.get("image", element.get("images"))) if isinstance(element, dict) else 1
    return count / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--repeat", type=int, default=10, help="epochs a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    samples = read(options.folder)
    print(f"{len(samples)} images, {os.cpu_count()} cores, TensorFlow {tf.__version__}; images a second, medians of "
          f"{options.rounds} rounds of {len(samples) * options.repeat}: decoding alone in a loop on threads and in "
          "tf.data, and all of it")
    for name, (mine, theirs) in PIPELINES.items():
        rates = []
        rate(mine(samples, 1))  # traced, and the files are in memory
        for _ in range(options.rounds):
            rates.append([rate(each(samples, options.repeat)) for each in (loop, bare, mine, theirs) if each])
        medians = [statistics.median(column) for column in zip(*rates)]
        shares = [statistics.median(row[2] / row[i] for row in rates) for i in range(2)]
        print(f"{name}: loop {medians[0]:.0f}, tf.data {medians[1]:.0f}, this {medians[2]:.0f} ({shares[0]:.0%} and "
              f"{shares[1]:.0%} of them)" + (f", keras-cv {medians[3]:.0f}" if theirs else ""), flush=True)
    process, memory, steps = psutil.Process(), [], batches.steps_per_epoch(samples, BATCH)
    for number, _ in enumerate(ours((300, 300), views.jittered)(samples, 20), 1):
        if number % steps == 0:
            memory.append(process.memory_info().rss / 2**20)
    print("MB after epochs 1, 5, 10, 15, 20:", ", ".join(f"{memory[i]:.0f}" for i in (0, 4, 9, 14, 19)))


if __name__ == "__main__":
    main()
