import math

import numpy as np
import pytest

from keras_cnns.data import coco, mpii
from keras_cnns.metrics import keypoints as metrics


def people(count, names, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([rng.uniform(0, 100, (count, len(names), 2)),
                            rng.integers(0, 3, (count, len(names), 1))], -1)
    return truth, truth + rng.normal(0, 12, truth.shape)


def by_loop(truth, found, names, ways, share, uncounted=()):
    right, looked_at = np.zeros(len(names)), np.zeros(len(names))
    for person, guess in zip(truth, found):
        at = dict(zip(names, person))
        sizes = [math.dist(at[a][:2], at[b][:2]) for a, b in ways if at[a][2] and at[b][2]]
        for j, (joint, said) in enumerate(zip(person, guess)):
            if sizes and joint[2]:
                looked_at[j] += 1
                right[j] += math.dist(joint[:2], said[:2]) <= share * max(sizes)
    kept = [name not in uncounted for name in names]
    return right[kept].sum() / looked_at[kept].sum(), right / looked_at, looked_at


@pytest.mark.parametrize("names", [mpii.KEYPOINTS, coco.KEYPOINTS])
def test_pck_equals_a_loop(names):
    truth, found = people(40, names)
    result = metrics.pck(truth, found, names)
    ways = [("left_hip", "right_shoulder"), ("right_hip", "left_shoulder")]
    mean, by_joint, counts = by_loop(truth, found, names, ways, 0.2)
    assert result.mean == pytest.approx(mean) and 0.2 < mean < 0.8
    np.testing.assert_allclose(result.by_joint, by_joint)
    np.testing.assert_array_equal(result.counts, counts)


def test_pckh_equals_a_loop_and_its_mean_leaves_pelvis_and_thorax_out():
    truth, found = people(40, mpii.KEYPOINTS)
    result = metrics.pckh(truth, found, mpii.KEYPOINTS)
    mean, by_joint, counts = by_loop(
        truth, found, mpii.KEYPOINTS, [("upper_neck", "head_top")], 0.5, ("pelvis", "thorax"))
    assert result.mean == pytest.approx(mean)
    np.testing.assert_allclose(result.by_joint, by_joint)
    np.testing.assert_array_equal(result.counts, counts)
    assert metrics.has_head(mpii.KEYPOINTS) and not metrics.has_head(coco.KEYPOINTS)


def test_what_is_true_is_right_and_nobody_is_no_number():
    truth, _ = people(3, mpii.KEYPOINTS)
    truth[..., 2] = 2
    assert metrics.pck(truth, truth, mpii.KEYPOINTS).mean == 1 == metrics.pckh(truth, truth, mpii.KEYPOINTS).mean
    truth[:, list(mpii.KEYPOINTS).index("head_top"), 2] = 0
    nobody = metrics.pckh(truth, truth, mpii.KEYPOINTS)
    assert math.isnan(nobody.mean) and np.isnan(nobody.by_joint).all() and not nobody.counts.any()
