"""Trains detectors of boxes and of masks until they find what they shall, and says what that took.

    python tools/train_detectors.py CASE [--epochs N] [--seed 0] [--images N] [--output runs/detectors]

Cases, whose photographs lie in the folder that KERAS_CNNS_DATA names:
  voc, coco                    drawn objects, written and read as VOC and as COCO, which has masks; measured on 100
                               unseen pictures
  voc_by_heart, coco_by_heart  photographs, shown as they are, measured on themselves, and on the others there are, of
                               which so few can teach little; of COCO such in which no object has a side of less than
                               16 pixels, a cell of a map of stride 8 at half the size
  voc_singles                  drawn pictures of one object, for a localizer; measured on 100 unseen ones
Each with `--model`: a detector's row, Mask R-CNN's with COCO alone, or hog, the baseline of linear SVMs. R-CNN, SPP-net
and Fast R-CNN are given selective search's regions, made before the minutes are counted. Stopped, it goes on where it
was. Prints a row of a table: command, seed, minutes, AP at IoU 0.5 of boxes and masks, and of voc_singles the share of
pictures whose class and box are right; writes history.json and curves.png to the run's folder.
"""

import argparse
import itertools
import os
import pathlib
import shlex
import sys
import time

from keras_cnns import cli

cli.import_tensorflow()

from keras_cnns import pictures  # noqa: E402
from keras_cnns.data import coco, proposals, synthetic, voc  # noqa: E402
from keras_cnns.data import samples as data_samples  # noqa: E402
from keras_cnns.metrics import detection as metrics  # noqa: E402
from keras_cnns.models import detector, module_of  # noqa: E402
from keras_cnns.models.detection import yolo  # noqa: E402
from keras_cnns.ops import boxes  # noqa: E402
from keras_cnns.training import detect, hog, recipes, runs, stages  # noqa: E402

UNSEEN = 100
EPOCHS_IN_STAGES = {"voc": 3, "coco": 3, "voc_singles": 3, "voc_by_heart": 20, "coco_by_heart": 20}
EPOCHS = {"voc": 24, "coco": 24, "voc_singles": 60, "voc_by_heart": 100, "coco_by_heart": 150}
IMAGES = {"voc": 400, "coco": 400, "voc_singles": 2000, "voc_by_heart": 40, "coco_by_heart": 40}


def drawn_voc(folder, count):
    root = folder / f"VOCdevkit{count}"
    if not root.exists():
        synthetic.write_voc(root, count, UNSEEN)
    return *(voc.samples(root, split=split)[0] for split in ("train", "val")), synthetic.CLASSES


def drawn_coco(folder, count):
    root = folder / f"coco{count}"
    drawn = synthetic.samples(count + UNSEEN, masks=True)
    for split, part in (("train2017", drawn[:count]), ("val2017", drawn[count:])):
        if not (root / "annotations" / f"instances_{split}.json").exists():
            coco.write(part, root, synthetic.CLASSES, split)
    return *(coco.samples(root, split, masks=True)[0] for split in ("train", "val")), synthetic.CLASSES


def drawn_singles(folder, count):
    drawn = (sample for first in itertools.count(step=100) for sample in synthetic.samples(100, first=first))
    single = (s for s in drawn if len(s.labels) == 1 and not s.ignored.any())
    found = list(itertools.islice(single, count + UNSEEN))
    return found[UNSEEN:], found[:UNSEEN], synthetic.CLASSES


def real_voc(folder, count):
    found = voc.samples(pathlib.Path(os.environ["KERAS_CNNS_DATA"], "voc", "VOCdevkit"), 2012, "trainval")[0]
    return found[:count], found[:count], voc.CLASSES, found[count:]


def real_coco(folder, count):
    root = pathlib.Path(os.environ["KERAS_CNNS_DATA"], "coco")
    wide = [s for s in coco.samples(root, "train2017", masks=True)[0] if not s.ignored.all()
            and (s.boxes[:, 2:] - s.boxes[:, :2])[~s.ignored].min() >= 16]
    return wide[:count], wide[:count], coco.class_names(root, "train2017"), wide[count:]


DATA = {"voc": drawn_voc, "coco": drawn_coco, "voc_singles": drawn_singles, "voc_by_heart": real_voc,
        "coco_by_heart": real_coco}


def with_regions(name, samples, cache):
    """The samples with proposals, if the model looks at any."""
    most = getattr(module_of(name).VARIANTS[name], "proposals", None)
    return proposals.with_proposals(samples, cache=cache, limit=most) if isinstance(most, int) else samples


def localized(samples, answers):
    """The share of images of one object whose best detection is right: its class, and its box by an IoU of 0.5."""
    right = 0
    for sample, found in zip(samples, answers):
        if len(found["labels"]) and found["labels"][0] == sample.labels[0]:
            right += float(boxes.iou(found["boxes"][:1], sample.boxes[:1])[0, 0]) >= 0.5
    return right / len(samples)


def baseline(options, folder, train, unseen, names):
    """HOG and linear SVMs, which have no epochs."""
    begun, resumed = time.time(), (folder / "run").exists()
    model = hog.train(train, names, folder / "run")
    minutes = (time.time() - begun) / 60
    reached = metrics.voc_ap(detect.truth(unseen), hog.detect(model, unseen)).mean
    command = shlex.join(["python", *sys.argv])
    print(f"| {command} | no chance | {len(train)} images | {minutes:.1f} minutes{' since it went on' * resumed} | "
          f"AP50 {reached:.4f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=DATA)
    parser.add_argument("--model", default="faster_rcnn_resnet18")
    parser.add_argument("--backbone", help="of the models that stand on any classifier")
    parser.add_argument("--features", nargs="+", help="its layers")
    parser.add_argument("--epochs", type=int, help="default the case's, fewer in stages")
    parser.add_argument("--images", type=int, help="to learn from; drawn 400, photographs 40")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input-size", type=int, nargs=2, help="height and width")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--view", help="of data.views, such as jittered")
    parser.add_argument("--dtype-policy", help="such as mixed_bfloat16")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/detectors"))
    options = parser.parse_args()
    in_stages = options.model != "hog" and module_of(options.model) in stages.METHODS
    asked = {key: getattr(options, key) for key in ("backbone", "features", "dtype_policy") if getattr(options, key)}
    if asked and (in_stages or options.model == "hog"):
        parser.error(f"{options.model} takes no {', '.join(asked)}")
    usual = (EPOCHS_IN_STAGES if in_stages else EPOCHS)[options.case]
    epochs, count = options.epochs or usual, options.images or IMAGES[options.case]
    folder = options.output / f"{options.case}_{options.model}_{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    train, unseen, names, *others = DATA[options.case](options.output, count)
    if options.model == "hog":
        baseline(options, folder, train, unseen, names)
        return
    train, unseen, *others = (with_regions(options.model, part, options.output / "proposals")
                              for part in (train, unseen, *others))
    recipe = recipes.lasting(recipes.recipe(options.model), epochs)
    if options.case.endswith("by_heart"):
        stretched = getattr(module_of(options.model), "STRETCHED", False)
        recipe = recipe._replace(view="plain" if stretched else "letterboxed", colour=None)
    given = {field: getattr(options, field) for field in ("batch", "learning_rate", "view")}
    recipe = recipe._replace(**{field: value for field, value in given.items() if value})
    shape = (*options.input_size, 3) if options.input_size else None
    begun, resumed = time.time(), any((folder / "run").rglob("checkpoint*"))
    network, history = (stages if in_stages else runs).train(options.model, train, names, folder / "run", recipe, shape,
                                                             options.seed, **asked)
    minutes = (time.time() - begun) / 60
    history = [epoch for epoch in history if "loss" in epoch and epoch.get("stage", 2) == 2]  # not what is beside it
    reached = detect.evaluation(network, unseen, min(recipe.batch, 8))()
    if others and others[0]:
        reached["AP50 of the others"] = detect.evaluation(network, others[0], min(recipe.batch, 8))()["AP50"]
    if module_of(options.model) is yolo:
        missing, objects = yolo.lost(((s.boxes, s.labels * ~s.ignored, s.size) for s in train),
                                     network.output["grid"].shape[1:3])
        print(f"{missing} of {objects} objects learnt from have no cell of their own", file=sys.stderr)
    if options.case == "voc_singles":
        reached["localized"] = localized(unseen, detect.detect(detector(network), unseen, progress=False))
    pictures.curves({key: [epoch[key] for epoch in history] for key in history[-1] if key != "stage"},
                    f"{options.model}, {options.case}").save(folder / "curves.png")
    examples = unseen[:8]
    for sample, found in zip(examples, detect.detect(detector(network, score_threshold=0.5), examples, progress=False)):
        picture = pictures.draw(data_samples.pixels(sample), found["boxes"], found["labels"], names, found["scores"],
                                masks=detect.mask_pixels(found))
        picture.save(folder / f"{sample.image_id}.png")
    command = shlex.join(["python", *sys.argv])
    numbers = " | ".join(f"{name} {value:.4f}" for name, value in reached.items())
    print(f"| {command} | seed {options.seed} | {len(train)} images, {len(history)} epochs | {minutes:.1f} minutes"
          f"{' since it went on' * resumed} | "
          f"{numbers} | loss {history[0]['loss']:.3f} to {history[-1]['loss']:.3f} |")


if __name__ == "__main__":
    main()
