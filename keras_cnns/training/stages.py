"""Detectors that are trained in stages: R-CNN (arXiv:1311.2524, section 2.3) and SPP-net (arXiv:1406.4729, section 4).

    1_proposals         selective search's, of samples that have none: as of `data.proposals`
    2_fine_tune         the CNN as a classifier of regions; of SPP-net its fully connected layers, of at most 64
                        regions an image (2_pyramids.npy); before, of SPP-net without weights, 2_convolutions: the whole
                        network as R-CNN's
    3_features          of each image what SVMs and regressions learn from: fc7 of all regions, pool5 of those near an
                        object, in half precision
    4_svms.npz          a linear SVM a class
    5_regressions.npz   a regression of boxes a class
    network.keras       all of them assembled

These are in the folder of the run, with labels.txt, settings.json and history.json as of `runs`. Started again with the
same words, training goes on where it was: within a stage, too. An epoch of fine-tuning has a batch an image; objects
are a quarter of each, drawn from all images, every second region is mirrored.
"""

import hashlib
import json
import os
import pathlib
import sys

import keras
import numpy as np
import rich.console
import rich.progress

from keras_cnns import models
from keras_cnns.data import images, kept, proposals, regions
from keras_cnns.errors import InputError
from keras_cnns.models.detection import rcnn, sppnet
from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import targets
from keras_cnns.training import callbacks, detect, distribute, recipes, runs, svm
from keras_cnns.weights import create_model

METHODS = (rcnn, sppnet)
OBJECT, NONE = 0.5, 0.3  # overlap from which a region is an object in fine-tuning, and below which an SVM's negative
SHARE = 0.25             # of objects in a batch: 32 of 128
OF_AN_IMAGE = 64         # regions that SPP-net is fine-tuned on
FEATURES = 64 * 2**30    # bytes on disk, at most
FEW = 128  # regions are filled up to a multiple of it: each other number would be compiled anew


def train(name, samples, class_names, folder, recipe=None, input_shape=None, seed=0, weights=None, validation=(),
          devices=None, features=FEATURES):
    """Trains an R-CNN or SPP-net, from where it was if the folder has its run.

    Args:
      recipe: of fine-tuning. samples: with proposals, or none has any. validation: likewise, to evaluate on at the end.
      features: bytes that 3_features may take; of images beyond, features are made anew whenever they are wanted.
        The others as of `runs.train`.

    Returns:
      `(network, history)`: the assembled network, and a dict of numbers an epoch and a stage, "stage" among them, that
      of SPP-net's 2_convolutions being 1.5.

    Raises:
      InputError, FloatingPointError: as of `runs.train`; `name` is no model of this kind; or no sample has an object.
    """
    module = models.module_of(name)
    if module not in METHODS:
        raise InputError(f"{name} is not trained in stages; give one of "
                         f"{', '.join(row for method in METHODS for row in method.VARIANTS)}.")
    if not samples:
        raise InputError("No samples to train on; name a data set or a split that has some.")
    recipe, folder, v = recipe or recipes.recipe(name), pathlib.Path(folder), module.VARIANTS[name]
    settings = json.loads(json.dumps({
        "model": name, "input_shape": input_shape, "seed": seed, "weights": weights and str(weights),
        "recipe": recipe._asdict(), "classes": list(class_names), "images": [s.image_id for s in samples],
        "proposals": _digest(samples)}))
    runs._refuse_another_run(folder, settings)
    strategy = distribute.strategy(devices)
    with distribute.scope(strategy):
        keras.utils.set_random_seed(seed)
        network = create_model(name, input_shape, len(class_names), weights)
    runs._claim(folder, class_names, settings)

    if all(np.all(sample.ignored) for sample in samples):  # before what takes hours
        raise InputError("Not one sample has an object that counts; name data that have some.")
    samples, validation = (_proposed(part, folder, v.proposals) for part in (samples, validation))
    known = [Known(sample, len(class_names)) for sample in samples]
    fine_tuning = _FineTuning(network, module, v, samples, known, recipe, seed, strategy)
    _say(2, "fine-tuning")
    history = []
    if module is sppnet and weights is None:
        history = [{**epoch, "stage": 1.5}
                   for epoch in fine_tuning.run(network, folder / "2_convolutions", fine_tuning.warped)]
    history += fine_tuning.of_regions(folder)

    _say(3, "features")
    cached = Features(folder / "3_features", module.features(network, v), v, samples, known, features)
    for i in _track(range(len(samples)), "Features"):
        cached[i]
    if cached.lacking:
        print(f"The features of {cached.lacking} images found no room: {features / 2**30:.1f} GiB are used up.")
    history.append({"stage": 3, "megabytes": cached.bytes / 1e6, "images_left_out": cached.lacking})
    svms = _svms(folder / "4_svms.npz", cached, v, class_names)
    regressions = _regressions(folder / "5_regressions.npz", cached, v, class_names)
    network = rcnn.assembled(network, svms, regressions)
    if validation:
        history.append({"stage": 5, **detect.evaluation(network, validation, 8)()})
    _write(folder / "network.keras", network.save)
    _write(folder / "history.json", lambda path: path.write_text(json.dumps(history, indent=1)))
    return network, history


class Known:
    """What is known of an image's regions: its objects' own boxes, then the proposals.

    Attributes, NumPy: boxes `[R, 4]`; truth `[R]`, of an object's own box its class, else 0; label `[R]`, to fine-tune
    on, and -1 of regions that do not count; overlap `[R]`, with the object nearest to it, and matched `[R, 4]`, that
    one's box; negative `[R, K]`, of which classes it is none.
    """

    def __init__(self, sample, classes):
        ignored = np.asarray(sample.ignored, bool)
        own, labels = np.float32(sample.boxes)[~ignored], np.asarray(sample.labels)[~ignored]
        self.boxes = np.concatenate([own, np.float32(sample.proposals).reshape(-1, 4)])
        self.truth = np.concatenate([labels, np.zeros(len(self.boxes) - len(own), int)])
        overlap = np.array(box_ops.iou(self.boxes, own)).reshape(len(self.boxes), len(own))
        others = np.float32(sample.boxes)[ignored]
        near = (np.array(box_ops.ioa(self.boxes, others)) >= targets.IGNORED_IOA).any(1)
        near |= (np.array(box_ops.iou(self.boxes, others)) >= NONE).any(1)
        best = overlap.argmax(1) if len(own) else np.zeros(len(self.boxes), int)
        self.overlap = overlap.max(1, initial=0.0)
        self.matched = own[best] if len(own) else self.boxes
        self.label = np.where(near, -1, 0)
        self.label = np.where(self.overlap >= OBJECT, labels[best] if len(own) else 0, self.label)
        of_class = np.stack([(overlap * (labels == k + 1)).max(1, initial=0.0) for k in range(classes)], 1)
        self.negative = (of_class < NONE) & ~near[:, None]


def _proposed(samples, folder, limit):
    """The samples with proposals, made where there are none, at most as many as the network takes."""
    samples = list(samples)
    if samples and all(sample.proposals is None for sample in samples):
        _say(1, "proposals, selective search")
        samples = proposals.with_proposals(samples, cache=folder / "1_proposals", limit=limit)
    for sample in samples:
        if sample.proposals is None:
            raise InputError(f"{sample.name}: has no proposals, which others have; make them of all, or of none.")
        if len(sample.proposals) > limit:
            raise InputError(f"{sample.name}: has {len(sample.proposals)} proposals, more than the {limit} that the "
                             "network takes; give it the best of them.")
    return samples


def _digest(samples):
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(b"none" if sample.proposals is None else np.float32(sample.proposals).tobytes())
    return digest.hexdigest()


class _FineTuning:
    """Training as a classifier of regions, drawn from those of all images."""

    def __init__(self, network, module, v, samples, known, recipe, seed, strategy):
        self.network, self.module, self.v, self.samples = network, module, v, samples
        self.recipe, self.seed, self.strategy, self.steps = recipe, seed, strategy, len(samples)
        label = np.concatenate([k.label for k in known])
        overlap = np.concatenate([k.overlap for k in known])
        self.image = np.repeat(np.arange(len(known)), [len(k.label) for k in known])
        self.boxes, self.label = np.concatenate([k.boxes for k in known]), label
        self.objects = np.flatnonzero(label > 0)
        self.background = np.flatnonzero((label == 0) & (overlap >= v.background))

    def rows(self, step, objects, background):
        """Which regions a step learns from, `[batch]`, and whether they are mirrored."""
        dice, batch = np.random.default_rng([self.seed, step]), self.recipe.batch
        first = max(round(SHARE * batch), 1) if len(background) else batch
        rows = np.concatenate([dice.choice(objects, first), dice.choice(background, batch - first)
                               if len(background) else objects[:0]])
        return rows, dice.random(batch) < 0.5

    def warped(self, first_step, steps):
        """Batches of warped regions, of SPP-net without context."""
        size, context = (self.v.window, 0) if self.module is sppnet else (self.network.input_shape[1], self.v.context)

        def chosen(step):
            rows, mirrored = self.rows(step, self.objects, self.background)
            return self.image[rows], self.boxes[rows], mirrored, self.label[rows]

        return regions.warped(self.samples, chosen, size, context, rcnn.mean_of(self.network), self.recipe.batch,
                              first_step, steps)

    def of_regions(self, folder):
        """Fine-tuning, of SPP-net of what is behind the pyramid; its history."""
        if self.module is rcnn:
            return self.run(self.network, folder / "2_fine_tune", self.warped)
        below = self.network.layers[:self.network.layers.index(self.network.get_layer("spp"))]
        for layer in below:
            layer.trainable = False
        pyramids, labels = self.pyramids(folder / "2_pyramids.npy")
        objects, background = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)

        def pooled(first_step, steps):
            for step in range(first_step, steps):
                rows, _ = self.rows(step, objects, background)
                yield np.float32(pyramids[rows]), {"cls": labels[rows]}

        return self.run(self.module.of_region(self.network), folder / "2_fine_tune", pooled)

    def pyramids(self, path):
        """The pyramids of some regions of each image `[N, P]`, half precision, a quarter of objects where there are as
        many, and their labels `[N]`. They are on disk, of VGG-16 and VOC07 16 GB.
        """
        rows = []
        for i in range(len(self.samples)):
            dice = np.random.default_rng([self.seed, i, 1])
            own = [dice.permutation(part[self.image[part] == i]) for part in (self.objects, self.background)]
            first = own[0][:round(SHARE * OF_AN_IMAGE)]
            rows.append(np.concatenate([first, own[1][:OF_AN_IMAGE - len(first)]]))
        labels = self.label[np.concatenate(rows)]
        given = rcnn.inputs(self.v, None)
        graph = keras.Model(given, sppnet.pyramids(self.network, self.v, given))
        row = np.dtype([("pyramid", "<f2", (graph.output.shape[-1],)), ("label", "<i4")])
        found = kept.rows(path, row)
        if found is None or not np.array_equal(found["label"], labels):
            _write(path, lambda aside: self._pool(aside, row, graph, rows))
            found = kept.rows(path, row)
        return found["pyramid"], labels

    def _pool(self, path, row, graph, rows):
        header = {"descr": np.lib.format.dtype_to_descr(row), "fortran_order": False, "shape": (sum(map(len, rows)),)}
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for i in _track(range(len(rows)), "Pyramids"):
                part = np.zeros(len(rows[i]), row)
                part["pyramid"] = _answer(graph, self.samples[i], self.boxes[rows[i]], self.v)
                part["label"] = self.label[rows[i]]
                file.write(part.tobytes())

    def run(self, trained, folder, elements):
        """Trains a network, the whole one or a part of it, from the last checkpoint in its folder; its history."""
        network, recipe = self.network, self.recipe
        with distribute.scope(self.strategy):
            network.compile(recipes.optimizer(recipe, self.steps))
            recipes.decay_in_gradient(network, recipe)
            trained.compile(network.optimizer, loss=self.module.losses(network.name), metrics={"cls": "accuracy"})
            network.optimizer.build(network.trainable_variables)
            history = callbacks.resume(network, folder / "checkpoint")
        done = len(history)
        if done < recipe.epochs:
            checkpoint = callbacks.Checkpoint(folder / "checkpoint", history, network)
            trained.fit(elements(done * self.steps, recipe.epochs * self.steps), epochs=recipe.epochs,
                        initial_epoch=done, steps_per_epoch=self.steps, shuffle=False,
                        verbose=1 if sys.stdout.isatty() else 2,
                        callbacks=[checkpoint, keras.callbacks.TerminateOnNaN()])
            history = checkpoint.history
        return [{"stage": 2, **epoch} for epoch in history]


class Features:
    """What SVMs and regressions learn from, a sequence of an image each, kept on disk as long as there is room.

    An item is a dict: fc7 `[R, F]` and pool5 `[N, P]` float32, pairs `[N]`, the regions' numbers whose pool5 that is.
    A file that is damaged, or of another image, is made anew.
    """

    def __init__(self, folder, graph, v, samples, known, limit):
        self.folder, self.graph, self.v, self.samples, self.known = folder, graph, v, samples, known
        folder.mkdir(parents=True, exist_ok=True)
        self.limit, self.lacking = limit, 0
        for left in folder.glob(".writing.*"):  # by a run that was killed
            left.unlink()
        self.bytes = sum(file.stat().st_size for file in folder.glob("*.npz"))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        path, known = self.folder / f"{i:07d}.npz", self.known[i]
        key = hashlib.sha256(self.samples[i].image_id.encode() + known.boxes.tobytes()).hexdigest()
        found = kept.arrays(path, ("fc7", "pool5", "pairs", "key"))
        if not found or str(found["key"]) != key:
            pairs = np.flatnonzero(known.overlap > self.v.pairs)
            answer = _answer(self.graph, self.samples[i], known.boxes, self.v)
            found = {"fc7": np.float16(answer["fc7"]), "pool5": np.float16(answer["pool5"][pairs]), "pairs": pairs}
            before = path.stat().st_size if path.exists() else 0
            size = sum(array.nbytes for array in found.values()) + 2**10
            if self.bytes - before + size <= self.limit:
                _save(path, key=key, **found)
                self.bytes += path.stat().st_size - before
            else:
                path.unlink(missing_ok=True)
                self.bytes -= before
                self.lacking += 1
        return {"fc7": np.float32(found["fc7"]), "pool5": np.float32(found["pool5"]), "pairs": found["pairs"]}


def _answer(graph, sample, boxes, v):
    """What a graph from an image and proposals answers of some regions `[R, 4]` of a sample, NumPy."""
    canvas, scale = images.letterbox(images.decode(sample.source, sample.name), v.canvas)
    shown = np.zeros((1, max(-(-len(boxes) // FEW) * FEW, FEW), 4), "float32")
    shown[0, :len(boxes)] = boxes * np.tile(scale, 2)
    answer = graph.predict_on_batch({"image": np.array(canvas)[None], "proposals": shown})
    return keras.tree.map_structure(lambda x: x[0, :len(boxes)], answer)


class _OfImages:
    """Features as `svm.mined` takes them."""

    def __init__(self, features):
        self.features = features

    def __len__(self):
        return len(self.features)

    def __getitem__(self, i):
        known = self.features.known[i]
        return self.features[i]["fc7"], known.truth, known.negative


def _svms(path, features, v, class_names):
    """Weights `[F, K]` and biases `[K]`."""
    _say(4, "SVMs")
    aside = path.with_name("4_svms_so_far.npz")
    found = kept.arrays(path, ("weights", "biases"))
    if not found:
        state = kept.arrays(aside, svm.STATE)
        weights, biases = svm.mined(_OfImages(features), len(class_names), state, lambda state: _save(aside, **state),
                                    cost=v.cost)
        found = {"weights": weights, "biases": biases}
        _save(path, **found)
        aside.unlink(missing_ok=True)
    for k in np.flatnonzero(~np.isfinite(found["biases"])):
        print(f"{class_names[k]}: has no object that counts; its score will be 0.")
    return found["weights"], np.maximum(found["biases"], rcnn.NEVER)


def _regressions(path, features, v, class_names):
    """Weights `[P, K, 4]` and biases `[K, 4]`."""
    _say(5, "regressions of boxes")
    found = kept.arrays(path, ("weights", "biases"))
    if not found:
        solved = [svm.ridge(_pairs(features, label), v.ridge)
                  for label in _track(range(1, len(class_names) + 1), "Regressions")]
        weights, biases = (np.stack(parts, axis) for parts, axis in zip(zip(*solved), (1, 0)))
        found = {"weights": weights, "biases": biases}
        _save(path, **found)
    return found["weights"], found["biases"]


def _pairs(features, label):
    """Of a class: `(pool5 [n, P], offsets [n, 4])` an image; of those without such regions nothing is read."""
    for i, known in enumerate(features.known):
        pairs = np.flatnonzero(known.overlap > features.v.pairs)
        own = known.label[pairs] == label
        if own.any() or i == 0:
            rows = pairs[own]
            yield features[i]["pool5"][own], np.array(box_ops.encode(known.matched[rows], known.boxes[rows]))


def _say(number, what):
    print(f"Stage {number} of 5: {what}", flush=True)


def _track(items, title):
    console = rich.console.Console(stderr=True)
    return rich.progress.track(items, title, transient=True, disable=not console.is_terminal, console=console)


def _write(path, write):
    """`write(path)`, whole or not at all."""
    aside = path.with_name(f".writing.{path.name}")
    write(aside)
    os.replace(aside, path)


def _save(path, **arrays):
    _write(path, lambda aside: np.savez(aside, **arrays))
