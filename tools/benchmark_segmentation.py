"""How long a training step and an answer of our U-Net take, beside others' ways to write it.

    python tools/benchmark_segmentation.py [--form same] [--side 128] [--batch 2] [--rounds 10] [--threads 2]

Beside it are the same network of plain Keras layers by the book, and one as segmentation libraries write theirs: batch
norm, nearest-neighbour upsampling, and so other weights. All get the same images and labels, one channel, two classes,
Adam. A round measures all three in turn, what counts is the median of the rounds; a ratio above 1 says that ours is
quicker.
"""

import argparse
import statistics
import time

from keras_cnns import cli

cli.import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from keras_cnns.models import create_model  # noqa: E402


def by_the_book(shape, padding):
    """U-Net of plain layers: the paper's figure, told to Keras from left to right."""
    def block(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding=padding, activation="relu", kernel_initializer="he_normal")(x)
        return x

    inputs = keras.Input(shape)
    x, left = layers.Rescaling(1 / 127.5, -1.0)(inputs), []
    for i in range(5):
        x = block(layers.MaxPooling2D(2)(x) if i else x, 64 * 2**i)
        x = layers.Dropout(0.5)(x) if i > 2 else x
        left.append(x)
    for skip in reversed(left[:-1]):
        x = layers.Conv2DTranspose(skip.shape[-1], 2, 2, activation="relu")(x)
        crop = (skip.shape[1] - x.shape[1]) // 2
        x = block(layers.Concatenate()([layers.Cropping2D(crop)(skip) if crop else skip, x]), skip.shape[-1])
    return keras.Model(inputs, layers.Conv2D(2, 1, activation="softmax")(x))


def as_libraries(shape, padding):
    """Encoder and decoder blocks of convolution, batch norm and ReLU; nearest-neighbour upsampling."""
    def block(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding=padding, use_bias=False, kernel_initializer="he_uniform")(x)
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
        return x

    inputs = keras.Input(shape)
    x, left = layers.Rescaling(1 / 127.5, -1.0)(inputs), []
    for i in range(5):
        x = block(layers.MaxPooling2D(2)(x) if i else x, 64 * 2**i)
        left.append(x)
    for skip in reversed(left[:-1]):
        x = layers.UpSampling2D(2)(x)
        crop = (skip.shape[1] - x.shape[1]) // 2
        x = block(layers.Concatenate()([x, layers.Cropping2D(crop)(skip) if crop else skip]), skip.shape[-1])
    return keras.Model(inputs, layers.Conv2D(2, 3, padding="same", activation="softmax")(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", choices=("same", "valid"), default="same", help="of the convolutions; default same")
    parser.add_argument("--side", type=int, default=128, help="pixels; default 128; of valid 188 and every 16 more")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    shape = options.side, options.side, 1
    networks = {
        "ours": create_model("unet" if options.form == "valid" else "unet_same", shape),
        "by the book": by_the_book(shape, options.form),
        "as libraries": as_libraries(shape, options.form)}
    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(0, 255, (options.batch, *shape)), tf.float32)
    labels = tf.constant(rng.integers(0, 2, (options.batch, *networks["ours"].output_shape[1:3])))
    answers = {}
    for name, network in networks.items():
        assert network.output_shape == networks["ours"].output_shape
        network.compile("adam", "sparse_categorical_crossentropy")
        answers[name] = tf.function(lambda image, network=network: network(image, training=False))

    def seconds(work):
        before = time.perf_counter()
        work()
        return time.perf_counter() - before

    def step(name):
        return seconds(lambda: networks[name].train_on_batch(images, labels))

    def answer(name):
        return seconds(lambda: answers[name](images).numpy())

    for what, measure in (("training step", step), ("answer", answer)):
        rounds = [[measure(name) for name in networks] for _ in range(options.rounds + 2)][2:]  # two to warm up
        medians = [statistics.median(times) for times in zip(*rounds)]
        for name, median in zip(networks, medians):
            print(f"{what} of {options.batch}, {options.form}, {options.side} pixels: {name:12} "
                  f"{networks[name].count_params():,} parameters, {1000 * median:.0f} ms, "
                  f"ratio to ours {median / medians[0]:.2f}", flush=True)


if __name__ == "__main__":
    main()
