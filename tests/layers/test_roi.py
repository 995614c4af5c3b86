import keras
import numpy as np
import pytest
from keras import ops

from keras_cnns.layers import RoIAlign, RoIPool
from tests.layers import helpers


def roi_pool_by_hand(features, rois, size, stride):
    batch, height, width, channels = features.shape
    out = np.zeros((batch, rois.shape[1], size, size, channels), "float32")

    def span(low, length, i, limit):
        start, end = low + i * length // size, low + -(-(i + 1) * length // size)
        return slice(min(max(start, 0), limit), min(max(end, 0), limit))

    for b in range(batch):
        for r, (x1, y1, x2, y2) in enumerate(np.floor(rois[b] / stride + 0.5).astype(int)):
            rows, columns = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
            for i in range(size):
                for j in range(size):
                    cells = features[b, span(y1, rows, i, height), span(x1, columns, j, width)]
                    if cells.size:
                        out[b, r, i, j] = cells.max((0, 1))
    return out


def some_rois(rng, batch, n, low, high):
    xy = rng.uniform(low, high, (batch, n, 2, 2))
    xy.sort(axis=2)
    return np.concatenate([xy[:, :, 0], xy[:, :, 1]], -1).astype("float32")


@pytest.mark.parametrize("height, width, size, stride", [
    (38, 50, 7, 16), (8, 8, 7, 16), (14, 14, 2, 32), (5, 9, 3, 8), (1, 1, 7, 16), (7, 1, 2, 16), (33, 2, 6, 16)])
def test_roi_pool_equals_the_loop(height, width, size, stride):
    rng = np.random.default_rng(height)
    features = rng.normal(size=(2, height, width, 3)).astype("float32")
    side = stride * max(height, width)
    rois = np.concatenate([some_rois(rng, 2, 30, 0, side),               # inside
                           some_rois(rng, 2, 30, -2 * side, 3 * side)], 1)  # partly or wholly outside, far too large
    np.testing.assert_array_equal(RoIPool(size, stride)(features, rois), roi_pool_by_hand(features, rois, size, stride))


def test_regions_outside_and_regions_without_area():
    features = np.arange(16, dtype="float32").reshape(1, 4, 4, 1) + 1
    rois = [[[-200, -200, -100, -100], [500, 0, 600, 60], [0, 0, 0, 0], [-1000, -1000, 1000, 1000]]]
    rois = np.array(rois, "float32")
    pooled = np.array(RoIPool(1, 16)(features, rois))[0, :, 0, 0, 0]
    assert pooled.tolist() == [0, 0, 1, 16]


def test_the_lecture_example_of_roi_pool():
    features = np.arange(1, 17, dtype="float32").reshape(1, 4, 4, 1)
    pooled = np.array(RoIPool(2, 1)(features, np.array([[[0, 0, 3, 3]]], "float32")))
    assert pooled[0, 0, :, :, 0].tolist() == [[6, 8], [14, 16]]


def test_overlapping_bins_share_a_row():
    features = np.array([1, 5, 2], "float32").reshape(1, 3, 1, 1)  # 3 cells in 2 bins: both hold the middle
    pooled = np.array(RoIPool(2, 1)(features, np.array([[[0, 0, 0, 2]]], "float32")))
    assert pooled[0, 0, :, 0, 0].tolist() == [5, 5]


def test_a_batch_equals_its_images_one_by_one():
    rng = np.random.default_rng(7)
    features, rois = rng.normal(size=(3, 9, 12, 4)).astype("float32"), some_rois(rng, 3, 8, -20, 200)
    together = np.array(RoIPool(7, 16)(features, rois))
    for b in range(3):
        np.testing.assert_array_equal(together[b:b + 1], RoIPool(7, 16)(features[b:b + 1], rois[b:b + 1]))


def gradients(layer, features, rois, upstream):
    """d sum(upstream * layer) / d features."""
    return helpers.gradient(lambda f: ops.sum(layer(f, rois) * ops.convert_to_tensor(upstream)), features)


def test_gradients_of_roi_pool_go_to_the_largest_cell():
    rng = np.random.default_rng(3)
    features = rng.permutation(2 * 6 * 9 * 2).reshape(2, 6, 9, 2).astype("float32")
    rois = some_rois(rng, 2, 5, -30, 170)
    layer = RoIPool(3, 16)
    upstream = rng.normal(size=(2, 5, 3, 3, 2)).astype("float32")
    pooled, want = roi_pool_by_hand(features, rois, 3, 16), np.zeros_like(features)
    for b, r, i, j, c in np.ndindex(pooled.shape):  # numbers differ, so each maximum is one cell; 0 may be an empty bin
        where = np.argwhere(features[b, :, :, c] == pooled[b, r, i, j, c])
        if pooled[b, r, i, j, c] != 0:
            want[b, where[0][0], where[0][1], c] += upstream[b, r, i, j, c]
    features_gradient = gradients(layer, features, rois, upstream)
    zero = features == 0
    np.testing.assert_allclose(features_gradient[~zero], want[~zero], atol=1e-5)


def test_roi_pool_in_half_precision_keeps_the_pixels_exact():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(1, 60, 100, 2)).astype("float16").astype("float32")
    rois = some_rois(rng, 1, 50, 0, 1600)
    pooled = RoIPool(7, 16, dtype="mixed_float16")(features.astype("float16"), rois)
    np.testing.assert_array_equal(np.array(pooled, "float32"), roi_pool_by_hand(features, rois, 7, 16))


@pytest.mark.parametrize("make", [lambda: RoIPool(3, 16), lambda: RoIAlign(3, 16), lambda: RoIAlign(3, (8, 16))])
def test_the_size_of_features_need_not_be_known_before(make):
    layer, rng = make(), np.random.default_rng(5)
    many = isinstance(layer.stride, tuple)
    inputs = [keras.Input((None, None, 2)) for _ in range(2 if many else 1)]
    rois = keras.Input((None, 4))
    network = keras.Model([*inputs, rois], layer(inputs if many else inputs[0], rois))
    for height, width in ((6, 9), (20, 13)):
        maps = [rng.normal(size=(2, height // k, width // k, 2)).astype("float32") for k in range(1, len(inputs) + 1)]
        regions = some_rois(rng, 2, 9, -30, 300)
        want = layer(maps if many else maps[0], regions)
        np.testing.assert_allclose(network([*maps, regions]), want, atol=1e-6)


def roi_align_by_hand(feature, roi, size, stride, samples, aligned):
    height, width, channels = feature.shape
    out = np.zeros((size, size, channels))
    x1, y1, x2, y2 = np.array(roi, float) / stride - (0.5 if aligned else 0)
    w, h = x2 - x1, y2 - y1
    if not aligned:
        w, h = max(w, 1), max(h, 1)

    def at(y, x):
        if y < -1 or y > height or x < -1 or x > width:
            return np.zeros(channels)
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        y0, x0 = int(y), int(x)
        y1, x1, fy, fx = min(y0 + 1, height - 1), min(x0 + 1, width - 1), y - y0, x - x0
        return ((1 - fy) * ((1 - fx) * feature[y0, x0] + fx * feature[y0, x1])
                + fy * ((1 - fx) * feature[y1, x0] + fx * feature[y1, x1]))

    for i, j in np.ndindex(size, size):
        for k, m in np.ndindex(samples, samples):
            out[i, j] += at(y1 + (i + (k + 0.5) / samples) * h / size, x1 + (j + (m + 0.5) / samples) * w / size)
    return out / samples**2


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [1, 2])
def test_roi_align_equals_the_loop(aligned, samples):
    rng = np.random.default_rng(0)
    features, rois = rng.normal(size=(2, 9, 13, 3)).astype("float32"), some_rois(rng, 2, 12, -40, 260)
    pooled = np.array(RoIAlign(5, 16, samples, aligned)(features, rois))
    for b in range(2):
        for r in range(12):
            want = roi_align_by_hand(features[b], rois[b, r], 5, 16, samples, aligned)
            np.testing.assert_allclose(pooled[b, r], want, atol=2e-5)


def test_regions_of_a_pyramid_are_read_from_the_level_of_their_size():
    rng = np.random.default_rng(1)
    strides = (4, 8, 16, 32)
    maps = [rng.normal(size=(2, 256 // s, 320 // s, 3)).astype("float32") for s in strides]
    sides = np.array([20, 111, 113, 220, 230, 440, 450, 900])  # eq. 1: the borders are 112, 224, 448
    rois = np.stack([np.array([4, 4, 4 + s, 4 + s], "float32") for s in sides])[None].repeat(2, 0)
    pooled = np.array(RoIAlign(7, strides, aligned=False)(maps, rois))
    for r, level in enumerate([0, 0, 1, 1, 2, 2, 3, 3]):
        for b in range(2):
            want = roi_align_by_hand(maps[level][b], rois[b, r], 7, strides[level], 2, False)
            np.testing.assert_allclose(pooled[b, r], want, atol=2e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFLite is made from TensorFlow")
def test_as_tflite_a_map_of_six_cells_is_pooled_alike():
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    rng = np.random.default_rng(0)
    features, rois = rng.normal(size=(1, 6, 6, 2)).astype("float32"), some_rois(rng, 1, 9, -40, 140)
    pool = RoIPool(3, 16)
    function = tf.function(lambda features, rois: pool(features, rois)).get_concrete_function(
        tf.TensorSpec(features.shape, name="features"), tf.TensorSpec(rois.shape, name="rois"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    lite = Interpreter(model_content=converter.convert())
    lite.allocate_tensors()
    for detail in lite.get_input_details():
        lite.set_tensor(detail["index"], rois if detail["shape"][-1] == 4 else features)
    lite.invoke()
    answer = lite.get_tensor(lite.get_output_details()[0]["index"])
    np.testing.assert_array_equal(answer, roi_pool_by_hand(features, rois, 3, 16))
