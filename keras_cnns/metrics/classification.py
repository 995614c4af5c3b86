"""How often a classifier is right: top-k accuracy, the confusion matrix, average precision of several labels.

N images, K classes. Scores are probabilities or logits, `[N, K]`; labels `[N]` are 0...K-1. Among equal scores the
first class counts as the higher, and a score that is no number as lower than every other.
"""

from typing import NamedTuple

import numpy as np

from keras_cnns.metrics import detection


class Accuracy(NamedTuple):
    """What `accuracy` gives; shares are 0 to 1, and NaN where there is no image."""

    top1: float
    top5: float            # of fewer than five classes, all
    counts: np.ndarray     # [K] images of each class
    confusion: np.ndarray  # [K, K] images: rows are the true class, columns what was said

    @property
    def by_class(self):
        """The share of each class's images that is right, `[K]`: the recall, NaN of a class without images."""
        return np.divide(np.diag(self.confusion), self.counts, out=np.full(len(self.counts), np.nan),
                         where=self.counts > 0)


def accuracy(scores, labels):
    """`Accuracy` of scores `[N, K]` for labels `[N]`."""
    labels, classes = np.asarray(labels, int), np.shape(scores)[1]
    rank = ranks(scores, labels)
    table = confusion(labels, best(scores, 1)[:, 0], classes)
    top1, top5 = (float(np.mean(rank < min(k, classes))) if len(rank) else float("nan") for k in (1, 5))
    return Accuracy(top1, top5, table.sum(1), table)


def best(scores, k):
    """The k classes of the highest scores, the highest first: int `[N, min(k, K)]`."""
    return np.argsort(-_numbers(scores), 1, kind="stable")[:, :k]


def ranks(scores, labels):
    """How many classes score higher than the true one: int `[N]`, 0 where it is the first; K if it has no number."""
    scores, labels = np.asarray(scores, float), np.asarray(labels, int)[:, None]
    true = np.take_along_axis(scores, labels, 1)
    scores = _numbers(scores)
    before = (scores > true) | ((scores == true) & (np.arange(scores.shape[1]) < labels))
    return np.where(np.isnan(true[:, 0]), scores.shape[1], before.sum(1))


def confusion(labels, said, classes):
    """How often each class was taken for each other: int `[K, K]`, rows the true class, columns what was said."""
    labels, said = np.asarray(labels, int), np.asarray(said, int)
    return np.bincount(labels * classes + said, minlength=classes**2).reshape(classes, classes)


def average_precision(scores, present, form="area"):
    """VOC's average precision of the images' classes, of which an image may have several (VOC challenge, section 4.1).

    A class in an image is an object as large as the image, so that the rules of `detection.voc_ap` apply.

    Args:
      scores: `[N, K]`. present: `[N, K]`, 1 there, 0 to be ignored, -1 not there. form: as of `detection.voc_ap`.

    Returns:
      `detection.VOCResult`, whose labels are 1...K.
    """
    whole = np.array([0.0, 0.0, 1.0, 1.0])
    truth, found = [], []
    for image, told in zip(_numbers(scores), np.asarray(present), strict=True):
        there = np.flatnonzero(told >= 0)
        truth.append({"boxes": np.tile(whole, (len(there), 1)), "labels": there + 1, "ignored": told[there] == 0})
        found.append({"boxes": np.tile(whole, (len(image), 1)), "labels": np.arange(len(image)) + 1, "scores": image})
    return detection.voc_ap(truth, found, form=form)


def _numbers(scores):
    scores = np.asarray(scores, float)
    return np.where(np.isnan(scores), -np.inf, scores)
