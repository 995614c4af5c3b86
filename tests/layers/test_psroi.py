"""Position-sensitive RoI pooling against a loop over its bins, and against torchvision's."""

import keras
import numpy as np
import pytest

from keras_cnns.layers import PSRoIPool
from tests.layers.test_roi import gradients, some_rois
from tests.weights import donors


def by_loop(features, rois, size, stride):
    """Answers and, of a number each of them, what each cell of the features gives."""
    batch, height, width, channels = features.shape
    out = np.zeros((batch, rois.shape[1], size, size, channels // size**2))
    cells = []

    def span(low, length, i, limit):
        start, end = low + i * length // size, low - (-(i + 1) * length // size)
        return slice(min(max(start, 0), limit), min(max(end, 0), limit))

    for b, r in np.ndindex(out.shape[:2]):
        x1, y1, x2, y2 = np.floor(rois[b, r] / stride + 0.5).astype(int)
        for i, j, d in np.ndindex(out.shape[2:]):
            where = (b, span(y1, max(y2 - y1, 1), i, height - 1), span(x1, max(x2 - x1, 1), j, width - 1),
                     (d * size + i) * size + j)
            if features[where].size:
                out[b, r, i, j, d] = features[where].mean(dtype="float64")
                cells.append(((b, r, i, j, d), where, features[where].size))
    return out, cells


@pytest.mark.parametrize("height, width, size, stride", [(38, 50, 7, 16), (6, 9, 3, 8), (1, 1, 2, 16), (33, 2, 4, 16)])
def test_answers_and_gradients_equal_the_loop(height, width, size, stride):
    rng = np.random.default_rng(height)
    features = rng.normal(3, 1, size=(2, height, width, 2 * size**2)).astype("float32")
    side = stride * max(height, width)
    rois = np.concatenate([some_rois(rng, 2, 10, 0, side), some_rois(rng, 2, 10, -side, 2 * side)], 1)
    layer, (want, cells) = PSRoIPool(size, stride), by_loop(features, rois, size, stride)
    np.testing.assert_allclose(layer(features, rois), want, atol=2e-6)
    upstream, gradient = rng.normal(size=want.shape).astype("float32"), np.zeros_like(features)
    for number, where, count in cells:
        gradient[where] += upstream[number] / count
    np.testing.assert_allclose(gradients(layer, features, rois, upstream), gradient, atol=1e-5)


def test_small_numbers_beside_large_ones_keep_their_digits_as_the_loop():
    """Sums from the map's corner on would drown them."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 60, 100, 4)).astype("float32")
    features[:, :40] += 1000
    rois = some_rois(rng, 1, 30, 0, 1600)
    rois[..., 1::2] = np.sort(rng.uniform(700, 900, (1, 30, 2)), -1)
    np.testing.assert_allclose(PSRoIPool(2, 16)(features, rois), by_loop(features, rois, 2, 16)[0], atol=2e-4)


def test_with_a_margin_the_last_row_and_column_count_as_by_hand():
    features = np.arange(1, 17, dtype="float32").reshape(1, 4, 4, 1)
    rois = np.array([[[0, 0, 64, 64], [48, 48, 64, 64], [500, 0, 600, 60]]], "float32")
    plain = np.array(PSRoIPool(1, 16)(features, rois)).reshape(-1)
    wide = np.array(PSRoIPool(1, 16)(np.pad(features, ((0, 0), (0, 1), (0, 1), (0, 0))), rois)).reshape(-1)
    assert plain.tolist() == [6, 0, 0] and wide.tolist() == [8.5, 16, 0]


def test_a_network_of_any_size_and_half_precision():
    layer, rng = PSRoIPool(2, 16), np.random.default_rng(1)
    features, rois = keras.Input((None, None, 8)), keras.Input((None, 4))
    network = keras.Model([features, rois], layer(features, rois))
    assert network.output_shape == (None, None, 2, 2, 2)
    for height, width in ((6, 9), (20, 13)):
        x, regions = rng.normal(size=(2, height, width, 8)).astype("float32"), some_rois(rng, 2, 9, 0, 200)
        np.testing.assert_allclose(network([x, regions]), by_loop(x, regions, 2, 16)[0], atol=1e-5)
    half = PSRoIPool(2, 16, dtype="mixed_float16")(x.astype("float16"), regions)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(np.array(half, "float32"), by_loop(x.astype("float16"), regions, 2, 16)[0], atol=2e-3)


@donors.needs_torchvision
def test_answers_and_gradients_equal_torchvisions(tmp_path):
    rng = np.random.default_rng(2)
    features = rng.normal(1, 1, size=(1, 38, 50, 49 * 3)).astype("float32")
    rois = np.concatenate([some_rois(rng, 1, 100, 0, 790), some_rois(rng, 1, 40, -100, 1000)], 1)
    sides = np.maximum(np.floor(rois / 16 + 0.5)[0, :, 2:] - np.floor(rois / 16 + 0.5)[0, :, :2], 1)
    # From 57 cells on a product in float32 misses the edge of a bin, and theirs ends a cell behind it (as of RoIPool).
    near = (sides < 57).all(1)
    # Their gradient, unlike their answer, counts the last row and column.
    inside = (rois[0, :, 2:] < (49 * 16 - 8, 37 * 16 - 8)).all(1)
    assert near.sum() > 100 and inside.sum() > 40
    upstream = rng.normal(size=(1, 140, 7, 7, 3)).astype("float32") * (near & inside)[:, None, None, None]
    np.savez(tmp_path / "given.npz", features=features, rois=rois[0], upstream=upstream[0])
    donors.run_torch("torch_psroi.py", tmp_path / "given.npz", tmp_path / "theirs.npz")
    want, layer = np.load(tmp_path / "theirs.npz"), PSRoIPool(7, 16)
    np.testing.assert_allclose(np.array(layer(features, rois))[0][near], want["pooled"][near], atol=1e-5)
    np.testing.assert_allclose(gradients(layer, features, rois, upstream), want["gradient"], atol=1e-5)
