"""The main job from end to end: what `tools/demo` runs."""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import time

STARTED = time.time() - float(os.environ.get("KERAS_CNNS_DEMO_SECONDS", 0))

from keras_cnns import cli  # noqa: E402

cli.import_tensorflow()  # without its notes

import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.table  # noqa: E402
import tensorflow as tf  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

import keras_cnns  # noqa: E402
from keras_cnns import export, pictures  # noqa: E402
from keras_cnns.data import images, named, synthetic  # noqa: E402
from keras_cnns.errors import InputError  # noqa: E402
from keras_cnns.metrics import detection as metrics  # noqa: E402
from keras_cnns.serving import Client  # noqa: E402
from keras_cnns.training import detect, recipes, runs  # noqa: E402

MODEL = "faster_rcnn_resnet18"
COMPARED = 20  # images


def main():
    parser = argparse.ArgumentParser("tools/demo", description=__doc__)
    parser.add_argument("--voc", metavar="PATH", help="a VOCdevkit folder; by default pictures are drawn")
    parser.add_argument("--output", metavar="FOLDER",
                        help="of everything but the SavedModel; default runs/demo, or runs/demo-voc with --voc")
    parser.add_argument("--epochs", type=int, help="default: 6 of the drawn pictures, the recipe's of one's own")
    parser.add_argument("--on-bad-sample", choices=("stop", "skip"), default="stop")
    options = parser.parse_args()
    folder = pathlib.Path(options.output or ("runs/demo-voc" if options.voc else "runs/demo"))

    if options.voc:
        name, size = f"voc:{pathlib.Path(os.environ.get('KERAS_CNNS_CALLED_FROM', '.'), options.voc)}", None
    else:
        name, size = f"voc:{folder / 'VOCdevkit'}", (160, 160, 3)
        options.epochs = options.epochs or 6
        if not (folder / "VOCdevkit").exists():
            say("Drawing a data set in VOC's layout")
            synthetic.write_voc(folder / "VOCdevkit", train=800, val=100)
    train, class_names, skipped = named.detection(name, "train", on_bad_sample=options.on_bad_sample)
    unseen, _, more = named.detection(name, "val", class_names, options.on_bad_sample)
    for line in skipped + more:
        print("skipped", line)

    say(f"Training {MODEL} on {len(train)} images of {name}")
    recipe = recipes.recipe(MODEL)
    recipe = recipe._replace(epochs=options.epochs or recipe.epochs)
    before = time.time()
    network, history = runs.train(MODEL, train, class_names, folder / "run", recipe, size)
    trained = time.time() - before

    say(f"Evaluating on {len(unseen)} unseen images")
    detector = keras_cnns.detector(network)
    found = detect.detect(detector, unseen, progress=False)
    area = metrics.voc_ap(detect.truth(unseen), found)
    eleven = metrics.voc_ap(detect.truth(unseen), found, form="11point")
    coco = metrics.coco_ap(detect.truth(unseen), found)

    say("Exporting, serving, converting")
    version = export.saved_model(detector, f"saved_models/{MODEL}", class_names)
    lite = export.tflite(detector, folder / f"{MODEL}.tflite")
    asked = unseen[:COMPARED]
    answers, milliseconds = compare(detector, version, lite, asked)

    picture = folder / "detections.png"
    draw(unseen[:8], found[:8], class_names).save(picture)
    agreements = {door: metrics.agreement(answers["Keras"], answer) for door, answer in answers.items()}
    report(area, eleven, coco, history, trained, agreements, milliseconds, len(asked))
    print(f"\nSavedModel  {version}\nTFLite      {lite} ({lite.stat().st_size / 1e6:.1f} MB)\n"
          f"pictures    {picture}\nrun         {folder / 'run'}")
    return 0 if all(a.same and a.iou > 0.99 and a.score < 1e-4 for a in agreements.values()) else 1


def say(text):
    print(f"[{time.time() - STARTED:4.0f} s] {text}", flush=True)


def compare(detector, version, lite, asked):
    """Every door's detections of the same encoded images, boxes in 0...1 of the image, and milliseconds an image."""
    size = detector.input_shape[1:3]
    encoded = [s.source if isinstance(s.source, bytes) else pathlib.Path(s.source).read_bytes() for s in asked]
    decoded = [images.decode(data, s.name) for data, s in zip(encoded, asked)]
    sides = [image.shape[1::-1] for image in decoded]  # width, height
    canvases = [images.letterbox(image, size) for image in decoded]
    loaded = tf.saved_model.load(str(version)).signatures["jpeg"]
    runner = Interpreter(str(lite), num_threads=2).get_signature_runner("serving_default")

    def by_keras(i):
        answer = detector.predict_on_batch(canvases[i][0][None])
        boxes = answer["boxes"][0] / np.tile(extent(i), 2)
        return rows(i, boxes, answer["scores"][0], answer["labels"][0], answer["count"][0])

    def by_lite(i):
        answer = runner(image=canvases[i][0][None].numpy())
        return served(i, answer, np.array(size)[::-1] / extent(i))

    def by_signature(i):
        return served(i, {key: value.numpy() for key, value in loaded(jpeg=tf.constant([encoded[i]])).items()})

    def served(i, answer, stretch=(1, 1)):
        boxes = answer["detection_boxes"][0][:, [1, 0, 3, 2]] * np.tile(stretch, 2)
        return rows(i, boxes, answer["detection_scores"][0], answer["detection_classes"][0],
                    answer["num_detections"][0])

    def extent(i):  # of the image within the canvas, (x, y)
        return canvases[i][1].numpy() * sides[i]

    def rows(i, boxes, scores, labels, count):
        """What lies within the image."""
        boxes = np.minimum(boxes[:int(count)], 1.0)
        real = ((boxes[:, 2:] - boxes[:, :2]) * sides[i]).min(1, initial=np.inf) >= 1
        return {"boxes": boxes[real], "scores": scores[:int(count)][real],
                "labels": labels[:int(count)][real].astype(int)}

    with serve(version.parent.parent) as client:
        doors = {"Keras": by_keras, "SavedModel": by_signature,
                 "served": lambda i: served(i, client.predict(MODEL, encoded[i])), "TFLite": by_lite}
        answers, milliseconds = {}, {}
        for door, ask in doors.items():
            ask(0)  # the first call compiles
            before = time.perf_counter()
            answers[door] = [ask(i) for i in range(len(asked))]
            milliseconds[door] = 1000 * (time.perf_counter() - before) / len(asked)
    return answers, milliseconds


class serve:
    """`keras-cnns serve` as a process of its own, as a context; gives a client."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "keras_cnns.cli", "serve", str(self.folder), "--port", "0"],
            stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()  # "Serving ... on HOST:PORT; ..."
        if " on " not in line:
            raise RuntimeError(f"the server did not start: {line}")
        self.client = Client(line.split(" on ")[1].split(";")[0])
        return self.client

    def __exit__(self, *_):
        self.client.close()
        self.process.terminate()
        self.process.wait()


def draw(shown, found, class_names):
    """Ground truth beside what was found, two images a row."""
    def truth(sample, answer):
        return pictures.draw(images.decode(sample.source, sample.name), sample.boxes, sample.labels, class_names,
                             ignored=sample.ignored)

    def detections(sample, answer):
        sure = answer["scores"] > 0.5
        return pictures.draw(images.decode(sample.source, sample.name), answer["boxes"][sure],
                             answer["labels"][sure], class_names, answer["scores"][sure])

    pairs = [(truth(s, f), detections(s, f)) for s, f in zip(shown, found)]
    lines = [a + b for a, b in zip(pairs[::2], pairs[1::2])]
    return pictures.sheet(lines, ("ground truth", "detections") * 2)


def report(area, eleven, coco, history, trained, agreements, milliseconds, asked):
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    console = rich.console.Console()
    table = rich.table.Table(title="Measured", show_header=False)
    for name, value in (
            ("AP@0.5, unseen images, VOC 2010+ (area)", f"{area.mean:.3f}"),
            ("AP@0.5, VOC 2007 (11 points)", f"{eleven.mean:.3f}"),
            ("AP, COCO (IoU 0.5 to 0.95)", f"{coco['AP']:.3f}"),
            ("loss, first and last epoch", f"{history[0]['loss']:.3f}, {history[-1]['loss']:.3f}"),
            ("training", f"{trained:.0f} s"),
            ("all, installation included", f"{time.time() - STARTED:.0f} s"),
            ("memory at the most", f"{peak:.1f} GiB")):
        table.add_row(name, value)
    console.print(table)
    table = rich.table.Table(title=f"The same {asked} images through every door")
    for name in ("door", "labels and count", "lowest IoU", "largest score difference", "ms an image"):
        table.add_column(name, justify="left" if name == "door" else "right")
    for door, a in agreements.items():
        table.add_row(door, "equal" if a.same else "DIFFERENT", f"{a.iou:.5f}", f"{a.score:.1e}",
                      f"{milliseconds[door]:.0f}")
    console.print(table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (InputError, OSError) as error:
        print(f"tools/demo: {error}", file=sys.stderr)
        sys.exit(2)
