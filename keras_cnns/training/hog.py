"""Detection before deep learning: histograms of oriented gradients and linear SVMs over windows.

Dalal, Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005: 9 orientations, cells of 8x8 pixels,
blocks of 2x2 cells, clipped L2 norm (scikit-image's `hog`); a linear SVM a class, one pass of hard negatives (`svm`).
A window slides over an image pyramid by a cell at a time.

Not as in the paper: one window for all classes, 64x64 pixels, an object filling its middle 48x48, since classes differ
in shape where people do not; SVMs as R-CNN's.

A run is a folder, as of `runs`: settings.json, labels.txt, checkpoint.npz while it learns, and hog.npz when it is done.
"""

import json
import os
import pathlib
from typing import NamedTuple

import numpy as np
import rich.console
import rich.progress
from PIL import Image

from keras_cnns.data import kept
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError
from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import nms as nms_ops
from keras_cnns.ops import windows as window_ops
from keras_cnns.training import runs, svm

CELL = 8          # pixels
WINDOW = 64       # pixels a side
MARGIN = 8        # of a window around its object, pixels
SCALES = tuple(2.0 * 0.8**i for i in range(12))  # of the pyramid: objects of 24 to about 280 pixels
BLOCKS = WINDOW // CELL - 1  # to a side of a window
NEGATIVE_IOU = 0.3  # with an object of the class, below which a window is none


class Hog(NamedTuple):
    """A linear SVM a class on the HOG of a window: margins are `features @ weights + biases`."""

    weights: np.ndarray  # [F, K]
    biases: np.ndarray   # [K]


def blocks(image):
    """HOG of an image, uint8 `[H, W, 3]` `-> [H // 8 - 1, W // 8 - 1, 36]`, float32."""
    try:
        from skimage.feature import hog
    except ImportError:
        raise InputError('HOG is made by scikit-image: pip install "keras_cnns[regions]".') from None
    found = hog(image, 9, (CELL, CELL), (2, 2), "L2-Hys", feature_vector=False, channel_axis=-1)
    return found.reshape(*found.shape[:2], -1).astype("float32")


def pyramid(image):
    """All windows of an image, at all scales: features `[N, F]` and the objects they are meant for, `[N, 4]`."""
    size, features, boxes = image.shape[:2], [np.zeros((0, BLOCKS**2 * 36), "float32")], []
    for height, width in window_ops.resized(size, SCALES):
        if min(height, width) >= WINDOW:
            view = np.lib.stride_tricks.sliding_window_view(
                blocks(resized(image, height, width)), (BLOCKS, BLOCKS), (0, 1))
            features.append(np.moveaxis(view, 2, -1).reshape(-1, BLOCKS**2 * 36))
    boxes = window_ops.boxes(size, (WINDOW, WINDOW), CELL, SCALES)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * (1 - 2 * MARGIN / WINDOW)
    return np.concatenate(features), np.concatenate([middle - half, middle + half], -1)


def resized(image, height, width, box=None):
    """An image, or a part of it, of another size, smoothed where it becomes smaller: uint8 `[height, width, 3]`."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box))


def of_box(image, box):
    """A window's features, whose object is a box stretched to a square; what lies beside the image repeats its edge."""
    wider = (box[2:] - box[:2]) * MARGIN / (WINDOW - 2 * MARGIN)
    beside = int(np.ceil(wider.max()))
    image = np.pad(image, ((beside, beside), (beside, beside), (0, 0)), "edge")
    window = np.concatenate([box[:2] - wider, box[2:] + wider]) + beside
    return blocks(resized(image, WINDOW, WINDOW, window.tolist())).reshape(1, -1)


class _Windows:
    """The images as `svm.mined` takes them: features, truth and of which classes a window is none."""

    def __init__(self, samples, classes):
        self.samples, self.classes = samples, classes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        sample = self.samples[i]
        image = data_samples.pixels(sample)
        features, boxes = pyramid(image)
        negative = np.ones((len(boxes), self.classes), bool)
        if len(sample.boxes):
            overlap = np.array(box_ops.iou(boxes, sample.boxes)) >= NEGATIVE_IOU
            for k in range(self.classes):
                negative[:, k] = ~overlap[:, sample.labels == k + 1].any(1)
        objects = np.flatnonzero(~sample.ignored)
        own, width = [features[:0]], image.shape[1]
        for x1, y1, x2, y2 in sample.boxes[objects]:
            own += [of_box(image, np.array([x1, y1, x2, y2])),
                    of_box(image[:, ::-1], np.array([width - x2, y1, width - x1, y2]))]
        truth = np.concatenate([np.repeat(sample.labels[objects], 2), np.zeros(len(boxes), "int32")])
        others = np.repeat(sample.labels[objects], 2)[:, None] != np.arange(self.classes) + 1
        return np.concatenate([*own, features]), truth, np.concatenate([others, negative])


def train(samples, class_names, folder, progress=True):
    """Trains the SVMs, or goes on where a run of the same words stopped.

    Args:
      samples: `data.samples.Sample`s, checked. class_names: 1...K in order. folder: of the run; made if missing.

    Returns:
      a `Hog`; of a class without examples all scores are 0.

    Raises:
      InputError: no samples, a folder of another run or one that cannot be written, no scikit-image or scikit-learn.
    """
    if not samples:
        raise InputError("No samples to train on; name a data set or a split that has some.")
    folder = pathlib.Path(folder)
    settings = json.loads(json.dumps({
        "model": "hog", "classes": list(class_names), "images": [s.image_id for s in samples]}))
    runs._refuse_another_run(folder, settings)
    runs._claim(folder, class_names, settings)
    if not (folder / "hog.npz").exists():
        checkpoint = folder / "checkpoint.npz"
        state = kept.arrays(checkpoint, svm.STATE)
        found = svm.mined(_Windows(samples, len(class_names)), len(class_names), state,
                          lambda state: _write(checkpoint, state), progress)
        _write(folder / "hog.npz", Hog(*found)._asdict())
        checkpoint.unlink(missing_ok=True)
    return load(folder)


def load(folder):
    """The `Hog` of a finished run.

    Raises:
      InputError: there is none.
    """
    path = pathlib.Path(folder) / "hog.npz"
    found = kept.arrays(path, Hog._fields)
    if found is None:
        raise InputError(f"{path}: is not there, or damaged; give the folder of a finished run.")
    return Hog(**found)


def _write(path, arrays):
    aside = path.with_name(f".{path.name}.writing.npz")
    np.savez(aside, **arrays)
    os.replace(aside, path)


def detect(hog, samples, score_threshold=0.1, iou_threshold=0.3, max_detections=100, candidates=1000, progress=True):
    """What the SVMs find in each sample, as `training.detect.detect` answers; scores are sigmoids of margins.

    Args:
      candidates: windows of an image, of the highest score of any class, that enter NMS.
      The others as of a detector.
    """
    found = []
    for sample in rich.progress.track(samples, "Detecting", transient=True, disable=not progress,
                                      console=rich.console.Console(stderr=True)):
        image = data_samples.pixels(sample)
        features, boxes = pyramid(image)
        height, width = image.shape[:2]
        scores = 0.5 + 0.5 * np.tanh((features @ hog.weights + hog.biases) / 2)
        best = np.argsort(-scores.max(1), kind="stable")[:candidates]
        boxes = np.clip(boxes[best], 0, np.array([width, height, width, height]))
        each = np.repeat(boxes[None, :, None], scores.shape[1], 2)
        answer = nms_ops.class_nms(each.astype("float32"), scores[best][None].astype("float32"), max_detections,
                                   iou_threshold, score_threshold)
        n = int(answer["count"][0])
        found.append({key: np.array(answer[key])[0, :n] for key in ("boxes", "scores", "labels")})
    return found
