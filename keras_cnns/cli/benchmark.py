"""Measure detectors on this machine: time, multiply-adds, memory and accuracy."""

import csv
import fnmatch
import inspect
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from keras_cnns.cli import common
from keras_cnns.cli.grid import Cell
from keras_cnns.errors import InputError

DETECTORS = ("faster_rcnn", "rfcn", "ssd")
BACKBONES = ("vgg16", "mobilenet_v1", "inception_v2", "inception_v3", "resnet101", "inception_resnet_v2")
SIZES = (300, 600)
PROPOSALS = (10, 50, 300)
NUMBERS = {  # of a cell: heading, the same in brief, and digits behind the point
    "keras_ms": ("Keras, ms", "Keras\nms", 0), "saved_model_ms": ("SavedModel, ms", "Saved\nms", 0),
    "tflite_ms": ("TFLite, ms", "TFLite\nms", 0), "multiply_adds": ("multiply-adds, 1e9", "m.-adds\n1e9", 2),
    "parameters": ("parameters, 1e6", "param.\n1e6", 2), "memory_mib": ("memory, MiB", "memory\nMiB", 0),
    "AP50": ("AP@0.5", "AP\n@0.5", 4)}
UNITS = {"multiply_adds": 1e9, "parameters": 1e6}
# What arXiv:1611.10012, section 4.1, finds: of cells that differ in this only, these take less than those behind.
ORDERS = (
    ("SSD takes less than Faster R-CNN", "detector", ("ssd", "faster_rcnn")),
    ("R-FCN takes less than Faster R-CNN", "detector", ("rfcn", "faster_rcnn")),
    ("the backbones' order is MobileNet, Inception v2, ResNet-101, Inception-ResNet v2", "backbone",
     ("mobilenet_v1", "inception_v2", "resnet101", "inception_resnet_v2")),
    ("smaller images take less", "size", None),
    ("fewer proposals of Faster R-CNN take less", "proposals", None))  # and of R-FCN hardly


def arguments(parser):
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    text = "Detectors by backbones, sizes of images and numbers of proposals, as Huang et al.; stopped, it goes on."
    sub = actions.add_parser("grid", help=text, description=text)
    sub.set_defaults(run=grid)
    common.data_arguments(sub, "val")
    sub.add_argument("--detectors", nargs="+", default=DETECTORS, metavar="NAME", help="default faster_rcnn rfcn ssd")
    sub.add_argument("--backbones", nargs="+", default=BACKBONES, metavar="NAME",
                     help="classifiers of the zoo; default those of the paper")
    sub.add_argument("--sizes", nargs="+", type=common.positive, default=SIZES, metavar="PIXELS",
                     help="sides of the image; default 300 600")
    sub.add_argument("--proposals", nargs="+", type=common.positive, default=PROPOSALS, metavar="N",
                     help="of the detectors that make any; default 10 50 300")
    sub.add_argument("--cells", nargs="+", metavar="PATTERN",
                     help="only those of the grid whose names match, such as 'ssd *' 'faster_rcnn resnet101 300 *'")
    sub.add_argument("--runs", nargs="+", default=(), metavar="FOLDER",
                     help="of trained detectors, which are measured besides, with their AP on the data")
    sub.add_argument("--threads", type=common.positive, default=os.cpu_count(), help="of the CPU; default all")
    sub.add_argument("--output", default="runs/grid", metavar="FOLDER", help="default %(default)s")


def grid(options):
    import numpy as np
    import rich.console
    import rich.progress

    from keras_cnns.data import samples as data_samples

    samples, classes, _ = common.read(options, "detection")
    if not samples:
        raise InputError(f"{options.data}, {options.split}: no images; name data that have some.")
    cells = [*asked_cells(options), *(cell for run in options.runs for cell in cells_of_run(run, options, classes))]
    if not cells:
        raise InputError("No cells; take wider --cells, or name more detectors, backbones, sizes or --runs.")
    folder = pathlib.Path(options.output)
    file = folder / "cells.jsonl"
    about = {key: getattr(options, key) for key in ("data", "split", "limit", "threads")}
    known = read_cells(file, about)
    with tempfile.TemporaryDirectory() as aside, rich.progress.Progress(
            *rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn(),
            console=rich.console.Console(stderr=True)) as progress:
        picture = pathlib.Path(aside, "picture.npy")
        np.save(picture, data_samples.pixels(samples[0]))
        task = progress.add_task("", total=len(cells))
        for cell in cells:
            progress.update(task, description=cell.name)
            if "error" in known.get(cell, {"error"}):
                known[cell] = measured(cell, options, classes, picture)
                write_cell(file, cell, known[cell], about)
            progress.advance(task)
    report({cell: known[cell] for cell in cells}, folder, options.threads)
    if failed := [cell for cell in cells if "error" in known[cell]]:
        raise RuntimeError(f"{len(failed)} of {len(cells)} cells failed, such as {failed[0].name}: "
                           f"{known[failed[0]]['error']}")


def asked_cells(options):
    """The cells of the grid that the options name.

    Raises:
      InputError: a detector that is not of the grid, or a backbone whose maps are not known.
    """
    from keras_cnns import models
    from keras_cnns.models.detection import backbones

    cells = []
    for backbone in options.backbones:
        backbones.default_features(backbone)
    for name in options.detectors:
        if name not in DETECTORS:
            raise InputError(f"--detectors {name}: not of the grid. Known: {', '.join(DETECTORS)}.")
        counts = options.proposals if has_proposals(models.module_of(name)) else (None,)
        cells += [Cell(name, *rest) for rest in itertools.product(options.backbones, options.sizes, counts)]
    patterns = options.cells or ["*"]
    return [cell for cell in cells if any(fnmatch.fnmatchcase(cell.name, pattern) for pattern in patterns)]


def has_proposals(module):
    return "proposals" in inspect.signature(module.detector).parameters


def cells_of_run(folder, options, classes):
    """A cell for each number of proposals of a trained detector.

    Raises:
      InputError: no finished run of a detector of boxes, or of other classes than the data's.
    """
    from keras_cnns import models

    try:
        settings = json.loads(pathlib.Path(folder, "settings.json").read_text())
        name, learnt, shape = (settings[key] for key in ("model", "classes", "input_shape"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--runs {folder}: no folder of a run ({error}).") from None
    module = models.module_of(name)
    detector = module.__name__.split(".")[-1]
    if detector not in DETECTORS or not pathlib.Path(folder, "network.keras").is_file():
        raise InputError(f"--runs {folder}: give the folder of a finished run of {', '.join(DETECTORS)}.")
    if learnt != list(classes):
        raise InputError(f"--runs {folder}: its classes are {', '.join(learnt)}; {options.data} has "
                         f"{', '.join(classes)}.")
    row = module.VARIANTS[name]
    side, width, _ = shape or models.model_info(name).input_shape
    if side != width:
        raise InputError(f"--runs {folder}: was trained on images of {side}x{width}; a grid's are squares.")
    row = getattr(row, "base", row)  # R-FCN's stands on another's
    backbone = (settings.get("options") or {}).get("backbone", row.backbone)
    made = pathlib.Path(folder, "network.keras").stat().st_mtime
    return [Cell(detector, backbone, side, count, str(folder), made)
            for count in (options.proposals if has_proposals(module) else (None,))]


def read_cells(file, about):
    """What has been measured under the same circumstances: dicts by cell, the last of each."""
    if not file.exists():
        return {}
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return {Cell(**line["cell"]): line["numbers"] for line in lines if line["about"] == about}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: is not of this command ({error}); name another --output.") from None


def write_cell(file, cell, numbers, about):
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as lines:
            lines.write(json.dumps({"cell": cell._asdict(), "about": about, "numbers": numbers}) + "\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); name another --output.") from None


def measured(cell, options, classes, picture):
    """A cell's numbers, of a process of its own, so that it has the memory to itself; or its error."""
    asked = {"cell": cell._asdict(), "picture": str(picture), "classes": list(classes), "data": options.data,
             "split": options.split, "on_bad_sample": options.on_bad_sample, "limit": options.limit,
             "threads": options.threads}
    program = "from keras_cnns.cli import grid; grid.main()"
    done = subprocess.run([sys.executable, "-c", program, json.dumps(asked)], capture_output=True, text=True)
    if done.returncode < 0:
        return {"error": f"signal {-done.returncode} ended it, such as 9 for want of memory"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def report(cells, folder, threads):
    """Prints the table and what it says of the paper's orders; writes grid.csv, .md, .png and .html to the folder, and
    grid_ap.png where any is known."""
    from keras_cnns import pictures

    numbers = [key for key in NUMBERS if any(found.get(key) is not None for found in cells.values())]
    title = f"Detectors, one image at a time, {threads} threads"
    rows = [[cell.detector, cell.backbone, cell.size, cell.proposals or "", cell.run or "",
             *(number(found, key) for key in numbers)] for cell, found in cells.items()]
    heads = ["detector", "backbone", "size", "proposals", "run", *(NUMBERS[key][0] for key in numbers)]
    table = common.table(title, ("cell", "left"), *((NUMBERS[key][1], "right") for key in numbers))
    for i, column in enumerate(table.columns):
        column.no_wrap = i > 0  # rather names than numbers take two lines
    for cell, found in cells.items():
        table.add_row(cell.name + ": failed" * ("error" in found), *(number(found, key) for key in numbers))
    common.show(table)
    lines = compared(cells) + [f"No TFLite file of {cell.name}: {found['tflite_error']}"
                               for cell, found in cells.items() if "tflite_error" in found]
    print(*lines, sep="\n")
    with (folder / "grid.csv").open("w", newline="") as file:
        csv.writer(file).writerows([heads, *rows])
    text = [f"| {' | '.join(map(str, row))} |" for row in (heads, ["---"] * len(heads), *rows)]
    (folder / "grid.md").write_text("\n".join([f"# {title}", "", *text, "", *(f"- {line}" for line in lines), ""]))
    across, plots = "keras_ms", []
    for up, name in (("multiply_adds", "grid.png"), ("AP50", "grid_ap.png")):
        points = [(value(found, across), value(found, up), cell.backbone, cell.detector)
                  for cell, found in cells.items() if found.get(across) is not None and found.get(up) is not None]
        if points:
            common.save(pictures.scatter(points, NUMBERS[up][0], NUMBERS[across][0]), folder / name)
            plots.append(name)
    told = [cell._asdict() | {key: value(found, key) for key in numbers} for cell, found in cells.items()]
    page = pathlib.Path(__file__).with_name("grid.html").read_text()
    facts = {"cells": told, "names": {key: NUMBERS[key][0] for key in numbers}, "across": across, "up": "multiply_adds"}
    (folder / "grid.html").write_text(page.replace("FACTS", json.dumps(facts).replace("<", "\\u003c"), 1))
    print(f"{folder}: {', '.join(['cells.jsonl', 'grid.csv', 'grid.md', 'grid.html', *plots])}.")


def value(found, key):
    return None if found.get(key) is None else found[key] / UNITS.get(key, 1)


def number(found, key):
    return "" if found.get(key) is None else f"{value(found, key):.{NUMBERS[key][2]}f}"


def compared(cells):
    """Lines that say where multiply-adds and time stand in the paper's order, and where not."""
    lines = []
    for text, axis, order in ORDERS:
        for key, called in (("multiply_adds", "Multiply-adds"), ("keras_ms", "Keras' time")):
            pairs = list(pairs_of(cells, axis, order, key))
            if pairs:
                wrong = [f"{one.name} / {other.name}" for one, other in pairs if cells[one][key] >= cells[other][key]]
                lines.append(f"{called}: {text}, in {len(pairs) - len(wrong)} of {len(pairs)} pairs"
                             f"{'; not ' * bool(wrong)}{', '.join(wrong)}.")
    for one, other in pairs_of(cells, "proposals", None, "keras_ms", "rfcn"):
        lines.append(f"Keras' time: R-FCN's proposals hardly count; {one.name} takes "
                     f"{cells[one]['keras_ms'] / cells[other]['keras_ms']:.2f} of {other.name}.")
    known = [(found["multiply_adds"], found["keras_ms"]) for found in cells.values() if "keras_ms" in found]
    if len(known) > 2:
        lines.append(f"Rank correlation of multiply-adds and Keras' time: {rank_correlation(*zip(*known)):.2f}.")
    lines.append("The paper's times are a GPU's, of images that keep their proportions; these are this machine's. Of "
                 "chance weights all classes have about the same score: how many there are decides how many boxes NMS "
                 "is given.")
    return lines


def pairs_of(cells, axis, order, key, of_proposals="faster_rcnn"):
    """Pairs of cells that differ in `axis` only, the first being the one that the paper finds quicker; in proposals
    those of one detector. One that makes none has as many as any."""
    def place(cell):
        at = getattr(cell, axis)
        return at if order is None else order.index(at)

    def alike(one, other):
        if axis == "detector" and None in (one.proposals, other.proposals):
            one, other = one._replace(proposals=None), other._replace(proposals=None)
        return one._replace(**{axis: None}) == other._replace(**{axis: None})

    known = [cell for cell, found in cells.items() if key in found and getattr(cell, axis) is not None and not cell.run
             and (order is None or getattr(cell, axis) in order)
             and (axis != "proposals" or cell.detector == of_proposals)]
    for one, other in itertools.permutations(known, 2):
        if place(one) < place(other) and alike(one, other):
            yield one, other


def rank_correlation(first, second):
    """Spearman's, of numbers in any units: -1 to 1."""
    import numpy as np

    ranks = [[(np.array(numbers) < each).sum() + (np.array(numbers) == each).sum() / 2 for each in numbers]
             for numbers in (first, second)]
    return float(np.corrcoef(ranks)[0, 1]) if all(np.ptp(each) for each in ranks) else 0.0
