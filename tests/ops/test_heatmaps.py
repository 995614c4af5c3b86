import math

import numpy as np
import pytest

from keras_cnns.ops import heatmaps


def people(rng, height, width, stride, joints=3, batch=2):
    places = rng.uniform(0, 1, (batch, joints, 2)) * (width * stride, height * stride)
    return np.concatenate([places, np.ones((batch, joints, 1))], -1).astype("float32")


def test_gaussians_equal_a_loop():
    keypoints = people(np.random.default_rng(0), 6, 9, 4)
    keypoints[0, 1, :2] = -30, 70  # beside the map
    found = np.array(heatmaps.encode(keypoints, 6, 9, 4, 1.5))
    assert found.shape == (2, 6, 9, 3)
    for b, i, j, k in np.ndindex(found.shape):
        x, y, _ = keypoints[b, k]
        distance = math.hypot(j + 0.5 - x / 4, i + 0.5 - y / 4)
        assert found[b, i, j, k] == pytest.approx(math.exp(-0.5 * (distance / 1.5) ** 2), abs=1e-6)
    assert found[0, ..., 1].max() < 1e-6


def decoded_by_loop(maps, stride):
    height, width, joints = maps.shape
    rows = []
    for k in range(joints):
        i, j = np.unravel_index(maps[..., k].argmax(), (height, width))
        x, y = j + 0.5, i + 0.5
        if 0 < j < width - 1:
            x += 0.25 * np.sign(maps[i, j + 1, k] - maps[i, j - 1, k])
        if 0 < i < height - 1:
            y += 0.25 * np.sign(maps[i + 1, j, k] - maps[i - 1, j, k])
        rows.append((x * stride, y * stride, maps[i, j, k]))
    return rows


def test_decoding_equals_a_loop():
    maps = np.random.default_rng(0).normal(size=(5, 4, 7, 6)).astype("float32")
    maps[0] = 0.5  # all alike: the first cell
    maps[1] = np.round(maps[1])  # ties, and neighbours as hot as one another
    want = [decoded_by_loop(each, 4) for each in maps]
    np.testing.assert_allclose(heatmaps.decode(maps, 4), want, rtol=1e-6)


def test_a_joint_comes_back_within_a_quarter_of_a_cell():
    """But for the border, where there is but one neighbour: there within half a cell."""
    keypoints = people(np.random.default_rng(0), 16, 12, 4, joints=300)
    error = np.abs(np.array(heatmaps.decode(heatmaps.encode(keypoints, 16, 12, 4), 4)) - keypoints)[..., :2]
    inside = ((keypoints[..., :2] >= 4) & (keypoints[..., :2] < (44, 60))).all(-1)
    assert inside.sum() > 300 and error[inside].max() <= 1 + 1e-4
    assert error.max() <= 2 + 1e-4 and error[inside].max() > 0.9


def test_the_mirror_average_equals_a_loop():
    rng = np.random.default_rng(0)
    maps, mirrored = rng.normal(size=(2, 2, 3, 5, 4)).astype("float32")
    found = np.array(heatmaps.mirror_average(maps, mirrored, ((0, 2),)))
    other = {0: 2, 2: 0}
    for b, i, j, k in np.ndindex(found.shape):
        want = (maps[b, i, j, k] + mirrored[b, i, 4 - j, other.get(k, k)]) / 2
        assert found[b, i, j, k] == pytest.approx(want, abs=1e-6)
