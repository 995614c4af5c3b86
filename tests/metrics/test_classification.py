import math

import numpy as np
import pytest

from keras_cnns.metrics import classification as metrics


def ranked(row):
    """Classes by falling score, the first of equals first, no numbers last."""
    return sorted(range(len(row)), key=lambda k: (math.isnan(row[k]), -row[k] if not math.isnan(row[k]) else 0, k))


@pytest.mark.parametrize("images, classes", [(60, 12), (40, 3), (9, 1)])
def test_numbers_equal_plain_loops(images, classes):
    dice = np.random.default_rng(classes)
    scores = dice.integers(0, 6, (images, classes)) / 4  # many are equal
    scores[dice.random(scores.shape) < 0.05] = np.nan
    labels = dice.integers(0, classes, images)
    result = metrics.accuracy(scores, labels)
    table, right = np.zeros((classes, classes), int), {1: 0, 5: 0}
    for row, label in zip(scores, labels):
        order = ranked(row)
        table[label, order[0]] += 1
        for k in right:
            right[k] += label in order[:k] and not math.isnan(row[label])
    np.testing.assert_array_equal(result.confusion, table)
    np.testing.assert_array_equal(result.counts, np.bincount(labels, minlength=classes))
    assert (result.top1, result.top5) == pytest.approx((right[1] / images, right[5] / images))
    np.testing.assert_array_equal(metrics.best(scores, 3), [ranked(row)[:3] for row in scores])


def test_a_class_without_images_has_no_share():
    result = metrics.accuracy([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], [0, 0])
    np.testing.assert_array_equal(result.by_class, [0.5, np.nan, np.nan])
    assert result.top1 == 0.5 and result.top5 == 1.0
    assert math.isnan(metrics.accuracy(np.zeros((0, 3)), []).top1)


def test_a_network_that_went_wrong_is_never_right():
    result = metrics.accuracy(np.full((4, 6), np.nan), [0, 1, 2, 3])
    assert result.top1 == result.top5 == 0.0 and result.confusion.sum() == 4


def test_average_precision_equals_a_plain_loop():
    dice = np.random.default_rng(0)
    scores, present = dice.random((50, 4)), dice.choice([-1, 0, 1], (50, 4), p=[0.6, 0.1, 0.3])
    result = metrics.average_precision(scores, present)
    for k in range(4):
        order = [i for i in np.argsort(-scores[:, k]) if present[i, k] != 0]  # those to be ignored count neither way
        right, points = 0, []
        for n, i in enumerate(order, 1):
            right += present[i, k] == 1
            points.append((right / np.sum(present[:, k] == 1), right / n))
        area, before = 0.0, 0.0
        for j, (recall, _) in enumerate(points):
            area += (recall - before) * max(precision for _, precision in points[j:])
            before = recall
        assert result.ap[k + 1] == pytest.approx(area)
    assert result.mean == pytest.approx(np.mean(list(result.ap.values())))


def test_a_class_that_is_nowhere_does_not_count():
    result = metrics.average_precision([[0.9, 0.5], [0.1, 0.5]], [[1, -1], [-1, 0]])
    assert result.ap == {1: 1.0} and result.mean == 1.0
