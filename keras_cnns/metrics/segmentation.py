"""How right labels of pixels are: the four numbers of FCN, IoU by class, and the errors of ISBI's challenge.

Labels are `[H, W]` whole numbers: 0 background, 1...K, 255 ignored, which the truth has and no answer. All but ISBI's
are made of one confusion matrix of all images' pixels, as in VOC's kit (VOCevalseg), where a pixel that is void in the
truth is not counted, and in FCN's. What has no pixel is NaN, and left out of a mean.
"""

from typing import NamedTuple

import numpy as np

from keras_cnns.errors import InputError

IGNORED = 255


class Scores(NamedTuple):
    """What `scores` gives; shares are 0 to 1. FCN, arXiv:1411.4038, section 5; `[K+1]` with the background."""

    pixel_accuracy: float      # sum of n_ii, divided by the sum of t_i
    mean_accuracy: float       # of n_ii / t_i over the classes that occur
    mean_iou: float            # of the classes' below
    weighted_iou: float        # of the classes' below, each weighted by its share of the pixels
    accuracy: np.ndarray       # of each class's pixels the share that is right; NaN of a class that does not occur
    iou: np.ndarray            # intersection over union; NaN of a class that neither occurs nor was said
    confusion: np.ndarray      # pixels: rows are the true class, columns what was said


def confusion(truth, said, classes):
    """Pixels by their true class and what was said: int64 `[classes, classes]` of labels `[H, W]` each.

    Raises:
      InputError: of different sizes, or labels that are no class.
    """
    truth, said = np.asarray(truth), np.asarray(said)
    if truth.shape != said.shape:
        raise InputError(f"Labels of {list(truth.shape)} and of {list(said.shape)} pixels; give those of one image.")
    counted = truth != IGNORED
    truth, said = truth[counted].astype("int64"), said[counted].astype("int64")
    for name, labels in (("The truth", truth), ("The answer", said)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise InputError(f"{name} has the label {wrong}; there are {classes}, counted from 0.")
    return np.bincount(truth * classes + said, minlength=classes**2).reshape(classes, classes)


def scores(matrix):
    """`Scores` of a confusion matrix, summed over images."""
    matrix = np.asarray(matrix, float)
    right, there, told = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    accuracy, iou = _shares(right, there), _shares(right, there + told - right)
    share = there / max(there.sum(), 1)
    return Scores(float(right.sum() / there.sum()) if there.sum() else float("nan"), _mean(accuracy), _mean(iou),
                  float(np.nansum(share * iou)) if there.sum() else float("nan"), accuracy, iou,
                  matrix.astype("int64"))


def _shares(part, whole):
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _mean(values):
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def isbi_errors(truth, probability, thresholds=tuple(i / 10 for i in range(1, 10))):
    """Errors of ISBI's challenge of 2012 for slices (Frontiers in Neuroanatomy 9:142, 2015), 0 best.

    Cells are what is connected in a slice (by four neighbours) above a threshold of the probability. The threshold that
    is best for all slices together counts, as there. "rand", 1 minus the Rand F-score, and "information", the variation
    of information in bits, are scikit-image's, the truth's membranes left out; its final ranking thinned the answers'
    borders before, which is not done here. The challenge's warping error is in no Python library, and not here.

    Args:
      truth: `[N, H, W]`, 1 in cells, 0 on membranes. probability: `[N, H, W]`, of a pixel to be in a cell.

    Returns:
      a dict: "pixel", the share of wrong pixels at 0.5; "rand"; "information".

    Raises:
      InputError: scikit-image is not installed, or the sizes differ.
    """
    try:
        from skimage import measure
        from skimage import metrics as skimage_metrics
    except ImportError:
        raise InputError('The errors are computed by scikit-image: pip install "keras_cnns[segmentation]"') from None
    truth, probability = np.asarray(truth), np.asarray(probability)
    if truth.ndim != 3 or truth.shape != probability.shape:
        raise InputError(f"Labels of {list(truth.shape)} and an answer of {list(probability.shape)} pixels; give those "
                         "of the same slices, [N, H, W].")
    cells = measure.label(_below_each_other(truth == 1), connectivity=1)
    found = [measure.label(_below_each_other(probability > threshold), connectivity=1) for threshold in thresholds]
    return {"pixel": float(np.mean((probability > 0.5) != (truth == 1))),
            "rand": min(float(skimage_metrics.adapted_rand_error(cells, each)[0]) for each in found),
            "information": min(float(sum(skimage_metrics.variation_of_information(cells, each, ignore_labels=(0,))))
                               for each in found)}


def _below_each_other(slices):
    """`[N, H, W]` as one picture in which nothing is connected between slices, nor counted there."""
    return np.pad(slices, ((0, 0), (0, 1), (0, 0))).reshape(-1, slices.shape[2])
