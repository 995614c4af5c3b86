import numpy as np
import pytest

from keras_cnns.errors import InputError
from keras_cnns.metrics import segmentation as metrics


def answers(seed=0, images=4, classes=5):
    """Truth and answer of images of several sizes, classes missing here and there, some of it ignored."""
    rng = np.random.default_rng(seed)
    for _ in range(images):
        shape = rng.integers(6, 12, 2)
        truth = rng.integers(0, classes - 1, shape)
        said = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes - 1, shape))
        truth[rng.random(shape) < 0.1] = 255
        yield truth.astype("uint8"), said.astype("uint8")


def test_the_four_numbers_equal_a_loop():
    """FCN, section 5, and VOC's protocol: what is void in the truth is not counted, in no image."""
    classes = 5
    right, there, told = np.zeros(classes), np.zeros(classes), np.zeros(classes)
    matrix = 0
    for truth, said in answers():
        for t, s in zip(truth.reshape(-1), said.reshape(-1)):
            if t != 255:
                there[t] += 1
                told[s] += 1
                right[t] += t == s
        matrix = matrix + metrics.confusion(truth, said, classes)
    iou = [right[i] / (there[i] + told[i] - right[i]) for i in range(classes - 1)]
    got = metrics.scores(matrix)
    assert matrix.sum() == there.sum() and (matrix.sum(0) == told).all()
    assert got.pixel_accuracy == pytest.approx(right.sum() / there.sum())
    assert got.mean_accuracy == pytest.approx(np.mean([right[i] / there[i] for i in range(classes - 1)]))
    assert got.mean_iou == pytest.approx(np.mean(iou))
    assert got.weighted_iou == pytest.approx(sum(there[i] * iou[i] for i in range(classes - 1)) / there.sum())
    np.testing.assert_allclose(got.iou, [*iou, np.nan])  # of the class that neither occurs nor was said
    np.testing.assert_array_equal(got.confusion, matrix)


def test_a_class_that_was_said_but_does_not_occur_counts_as_wrong():
    got = metrics.scores(metrics.confusion([[1, 1, 0, 0]], [[1, 1, 0, 2]], 3))
    np.testing.assert_allclose(got.iou, [0.5, 1, 0])
    assert got.mean_iou == 0.5 and np.isnan(got.accuracy[2]) and got.mean_accuracy == 0.75


def test_of_nothing_nothing_is_known():
    got = metrics.scores(metrics.confusion(np.full((2, 2), 255), np.zeros((2, 2)), 3))
    assert np.isnan(got[:4]).all() and np.isnan(got.iou).all()


def test_labels_of_other_sizes_or_classes_are_refused():
    with pytest.raises(InputError, match=r"\[2, 2\] and of \[2, 3\] pixels"):
        metrics.confusion(np.zeros((2, 2)), np.zeros((2, 3)), 3)
    with pytest.raises(InputError, match="The truth has the label 7; there are 3"):
        metrics.confusion([[7, 1]], [[1, 1]], 3)
    with pytest.raises(InputError, match="The answer has the label 255"):
        metrics.confusion([[0, 1]], [[255, 1]], 3)


def test_isbis_errors_are_those_of_the_best_threshold():
    pytest.importorskip("skimage")
    truth = np.ones((1, 40, 40), "uint8")
    truth[:, 19:21] = truth[..., 19:21] = 0  # four cells
    sure = np.where(truth == 1, 0.95, 0.05)
    assert metrics.isbi_errors(truth, sure) == pytest.approx({"pixel": 0, "rand": 0, "information": 0})
    unsure = np.where(truth == 1, 0.95, 0.55)  # at 0.5 all is one cell, at 0.6 it is right
    errors = metrics.isbi_errors(truth, unsure)
    assert errors == pytest.approx({"pixel": 1 - truth.mean(), "rand": 0, "information": 0})
    merged = sure.copy()
    merged[:, :19] = merged[:, 21:] = 0.95  # the upper two are one, and the lower two
    errors = metrics.isbi_errors(truth, merged)
    assert errors["information"] == pytest.approx(1.0)  # which of two cells of one size it is
    cells = truth.sum() / 4
    pairs = 2 * (2 * cells) * (2 * cells - 1)  # of pixels that were said to be together
    same = 4 * cells * (cells - 1)
    assert errors["rand"] == pytest.approx(1 - 2 * same / (same + pairs))
    two = np.concatenate([truth, truth])
    assert metrics.isbi_errors(two, np.concatenate([merged, merged])) == pytest.approx(errors)
    low = np.where(truth == 1, 0.45, 0.05)  # of this alone 0.1 to 0.4 are right, of `unsure` 0.6 to 0.9
    errors = metrics.isbi_errors(two, np.concatenate([low, unsure]))
    assert errors["rand"] > 0.3 and errors["information"] > 0.4  # one threshold is for both


def test_isbis_errors_name_what_they_need(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    with pytest.raises(InputError, match=r"keras_cnns\[segmentation\]"):
        metrics.isbi_errors(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)))
