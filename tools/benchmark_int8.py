"""What a trained segmenter loses as a TFLite file, in float32 and in 8 bits: mean IoU, milliseconds, bytes.

    python tools/benchmark_int8.py RUN DATA [--split val] [--seen train] [--tiles] [--limit 50]

RUN is a folder that was trained into, with an input of a fixed size; DATA is such as camvid:PATH. The ranges of the
numbers are measured on the first 20 images of --seen that are not asked for. All are asked for the same images; with
--tiles in tiles of the network's size.
"""

import argparse
import pathlib
import tempfile
import time

from keras_cnns import cli

cli.import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from keras_cnns import export  # noqa: E402
from keras_cnns.data import images, named, segmented  # noqa: E402
from keras_cnns.data import samples as data_samples  # noqa: E402
from keras_cnns.metrics import segmentation as metrics  # noqa: E402
from keras_cnns.training import segment, tiles  # noqa: E402


class Lite:
    """A TFLite file, asked as the network is that it was made of."""

    def __init__(self, path, network):
        interpreter = Interpreter(str(path), num_threads=2)
        self.run = interpreter.get_signature_runner("serving_default")
        self.input_shape, self.compute_output_shape = network.input_shape, network.compute_output_shape
        self.name, self.bytes = path.stem, path.stat().st_size

    def predict_on_batch(self, batch):
        return np.concatenate([self.run(image=image[None])["probabilities"] for image in np.asarray(batch, "float32")])


def measured(asked, size, samples, classes, in_tiles):
    """Scores, and milliseconds an image, reading it and counting left out."""
    matrix, seconds = 0, 0.0
    for sample in samples:
        image, truth = images.decode(sample.source, sample.name), data_samples.segmentation(sample)
        begun = time.perf_counter()
        if in_tiles:
            labels = np.zeros(image.shape[:2], "uint8")
            tiles.label(asked, image, labels, progress=False)
        else:
            whole = segmented.whole(asked.predict_on_batch, image[None], asked.input_shape[1:], size)
            labels = np.asarray(whole)[0].argmax(-1).astype("uint8")
        seconds += time.perf_counter() - begun
        matrix = matrix + metrics.confusion(truth, labels, classes)
    return metrics.scores(matrix), 1000 * seconds / len(samples)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--seen", default="train", help="the split whose images tell the ranges of numbers")
    parser.add_argument("--tiles", action="store_true")
    parser.add_argument("--limit", type=int, default=50, help="images, the last ones")
    options = parser.parse_args()
    network = segment.answering(keras.saving.load_model(options.run / "network.keras", compile=False))
    samples, names, _ = named.segmentation(options.data, options.split)
    samples = samples[-options.limit:]
    asked_for = {sample.source for sample in samples}
    seen = [s for s in named.segmentation(options.data, options.seen, names)[0] if s.source not in asked_for][:20]
    *_, classes = network.output_shape
    shape = network.input_shape[1:]
    with tempfile.TemporaryDirectory() as folder:
        shown = [images.decode(sample.source, sample.name) for sample in seen]
        shown = [tiles.window(image, 0, 0, shape) for image in shown] if options.tiles else shown
        asked = {"Keras": network}
        for name, quantization in (("TFLite float32", None), ("TFLite int8", "int8")):
            path = pathlib.Path(folder, f"{name}.tflite")
            export.tflite(network, path, quantization, shown if quantization else None)
            asked[name] = Lite(path, network)
        for name, each in asked.items():
            scores, milliseconds = measured(each, network.output_shape[1:3], samples, classes, options.tiles)
            size = f", {each.bytes / 1e6:.1f} MB" if isinstance(each, Lite) else ""
            print(f"{name}: {len(samples)} images, mean IoU {scores.mean_iou:.4f}, pixel accuracy "
                  f"{scores.pixel_accuracy:.4f}, {milliseconds:.0f} ms an image{size}", flush=True)


if __name__ == "__main__":
    main()
