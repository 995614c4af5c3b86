"""Trains detectors of boxes and of masks until they find what they shall, and says what that took.

    python tools/train_detectors.py CASE [--epochs N] [--seed 0] [--images N] [--output runs/detectors]

Cases, whose photographs lie in the folder that KERAS_CNNS_DATA names:
  voc, coco                    drawn objects, written and read as VOC and as COCO, which has masks; measured on 100
                               unseen pictures
  voc_by_heart, coco_by_heart  photographs, measured on themselves
Each with `--model`: a row of Faster R-CNN or Mask R-CNN (of COCO). Stopped, it goes on where it was. Prints a row of a
table: command, seed, minutes, AP at IoU 0.5 of boxes and masks; writes history.json and curves.png to the run's folder.
"""

import argparse
import os
import pathlib
import shlex
import sys
import time

from keras_cnns import cli

cli.import_tensorflow()

from keras_cnns import pictures  # noqa: E402
from keras_cnns.data import coco, synthetic, voc  # noqa: E402
from keras_cnns.data import samples as data_samples  # noqa: E402
from keras_cnns.models import detector  # noqa: E402
from keras_cnns.training import detect, recipes, runs  # noqa: E402

UNSEEN = 100
EPOCHS = {"voc": 24, "coco": 24, "voc_by_heart": 100, "coco_by_heart": 150}
IMAGES = {"voc": 400, "coco": 400, "voc_by_heart": 40, "coco_by_heart": 40}


def drawn_voc(folder, count):
    root = folder / "VOCdevkit"
    if not root.exists():
        synthetic.write_voc(root, count, UNSEEN)
    return *(voc.samples(root, split=split)[0] for split in ("train", "val")), synthetic.CLASSES


def drawn_coco(folder, count):
    root = folder / "coco"
    drawn = synthetic.samples(count + UNSEEN, masks=True)
    for split, part in (("train2017", drawn[:count]), ("val2017", drawn[count:])):
        if not (root / "annotations" / f"instances_{split}.json").exists():
            coco.write(part, root, synthetic.CLASSES, split)
    return *(coco.samples(root, split, masks=True)[0] for split in ("train", "val")), synthetic.CLASSES


def real_voc(folder, count):
    found = voc.samples(pathlib.Path(os.environ["KERAS_CNNS_DATA"], "voc", "VOCdevkit"), 2012, "train")[0][:count]
    return found, found, voc.CLASSES


def real_coco(folder, count):
    root = pathlib.Path(os.environ["KERAS_CNNS_DATA"], "coco")
    found = [s for s in coco.samples(root, "train2017", masks=True)[0] if len(s.labels)][:count]
    return found, found, coco.class_names(root, "train2017")


DATA = {"voc": drawn_voc, "coco": drawn_coco, "voc_by_heart": real_voc, "coco_by_heart": real_coco}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=DATA)
    parser.add_argument("--model", default="faster_rcnn_resnet18")
    parser.add_argument("--epochs", type=int, help="of a drawn set 24, by heart 100 or 150")
    parser.add_argument("--images", type=int, help="to learn from; drawn 400, photographs 40")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input-size", type=int, nargs=2, help="height and width")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/detectors"))
    options = parser.parse_args()
    epochs, count = options.epochs or EPOCHS[options.case], options.images or IMAGES[options.case]
    folder = options.output / f"{options.case}_{options.model}_{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    train, unseen, names = DATA[options.case](options.output, count)
    recipe = recipes.lasting(recipes.recipe(options.model), epochs)
    if options.learning_rate:
        recipe = recipe._replace(learning_rate=options.learning_rate)
    shape = (*options.input_size, 3) if options.input_size else None
    begun = time.time()
    network, history = runs.train(options.model, train, names, folder / "run", recipe, shape, options.seed)
    minutes = (time.time() - begun) / 60
    reached = detect.evaluation(network, unseen, recipe.batch)()
    pictures.curves({key: [epoch[key] for epoch in history] for key in history[-1]},
                    f"{options.model}, {options.case}").save(folder / "curves.png")
    examples = unseen[:8]
    for sample, found in zip(examples, detect.detect(detector(network, score_threshold=0.5), examples, progress=False)):
        picture = pictures.draw(data_samples.pixels(sample), found["boxes"], found["labels"], names, found["scores"],
                                masks=detect.mask_pixels(found))
        picture.save(folder / f"{sample.image_id}.png")
    command = shlex.join(["python", *sys.argv])
    numbers = " | ".join(f"{name} {value:.4f}" for name, value in reached.items())
    print(f"| {command} | seed {options.seed} | {len(train)} images, {len(history)} epochs | {minutes:.1f} minutes | "
          f"{numbers} | loss {history[0]['loss']:.3f} to {history[-1]['loss']:.3f} |")


if __name__ == "__main__":
    main()
