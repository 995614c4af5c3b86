"""The regions of R-CNN and SPP-net against loops."""

import keras
import numpy as np
import pytest

from keras_cnns.layers import RoIPyramidPool, RoIWarp, SpatialPyramidPool

VALUE = (10.0, 20.0, 30.0)


def resized(image, height, width):
    """Bilinear, the middle of a pixel being half a pixel from its edge, one number after another."""
    out = np.zeros((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            y = np.clip((i + 0.5) * image.shape[0] / height - 0.5, 0, image.shape[0] - 1)
            x = np.clip((j + 0.5) * image.shape[1] / width - 0.5, 0, image.shape[1] - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            upper = image[top, left] + (x - left) * (image[top, right] - image[top, left])
            lower = image[below, left] + (x - left) * (image[below, right] - image[below, left])
            out[i, j] = upper + (y - top) * (lower - upper)
    return out


def warped(image, roi, size, context):
    """A region with its context, as the paper says it."""
    def edges(low, high):
        half = (high - low) / 2 * size / (size - 2 * context)
        return [int(np.floor((low + high) / 2 + sign * half + 0.5)) for sign in (-1, 1)]

    spans = []
    for low, high, side in ((roi[1], roi[3], image.shape[0]), (roi[0], roi[2], image.shape[1])):
        low, high = edges(low, high)
        scale, shown = size / max(high - low, 1), (max(low, 0), min(high, side))
        spans.append((shown, [round((edge - low) * scale) for edge in shown]))
    (rows, into_rows), (columns, into_columns) = spans
    out = np.broadcast_to(np.float32(VALUE), (size, size, 3)).copy()
    out[slice(*into_rows), slice(*into_columns)] = resized(
        image[slice(*rows), slice(*columns)], into_rows[1] - into_rows[0], into_columns[1] - into_columns[0])
    return out


@pytest.mark.parametrize("size, context", [(32, 2), (20, 0), (40, 10)])
def test_warping_equals_the_loop(size, context):
    rng = np.random.default_rng(size)
    images = rng.uniform(0, 255, (2, 30, 41, 3)).astype("float32")
    rois = np.float32([[[3, 4, 20, 26], [0, 0, 41, 30], [30, 20, 41, 30], [5.4, 6.6, 9.7, 28.2]],
                       [[0, 0, 6, 6], [10, 10, 13, 29], [-4, 2, 20, 20], [38, 1, 41, 3]]])
    got = np.array(RoIWarp(size, context, VALUE)(images, rois))
    want = [[warped(image, roi, size, context) for roi in of_image] for image, of_image in zip(images, rois)]
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_a_region_of_the_results_size_with_its_context_is_copied_by_hand():
    image = np.random.default_rng(0).uniform(0, 255, (1, 50, 60, 3)).astype("float32")
    got = RoIWarp(24, 4, VALUE)(image, np.float32([[[10, 8, 26, 24]]]))  # 16 pixels and 4 on every side
    np.testing.assert_allclose(got[0, 0], image[0, 4:28, 6:30], atol=1e-4)


def test_padding_and_regions_outside_are_finite():
    image = np.full((1, 9, 9, 3), 7.0, "float32")
    got = np.array(RoIWarp(8, 1, VALUE)(image, np.float32([[[0, 0, 0, 0], [-50, -50, -20, -20], [90, 90, 99, 99]]])))
    assert np.isfinite(got).all()


def pyramid(features, roi, bins, stride, center):
    """Appendix A of SPP-net: cells with their centre in the region; the bins of each level, one after another."""
    spans = []
    for low, high, side in ((roi[1], roi[3], features.shape[0]), (roi[0], roi[2], features.shape[1])):
        cells = [i for i in range(-20, 99) if low < i * stride + center < high]
        middle = int(np.floor((low - center) / stride)) + 1, int(np.ceil((high - center) / stride)) - 1
        first, last = (cells[0], cells[-1]) if cells else [sum(middle) // 2] * 2
        spans.append([min(max(end, 0), side - 1) for end in (first, last)])
    (top, bottom), (left, right) = spans
    part = features[top:bottom + 1, left:right + 1]
    out = []
    for n in bins:
        for i in range(n):
            for j in range(n):
                rows, columns = (slice(k * side // n, -(-(k + 1) * side // n))
                                 for k, side in zip((i, j), part.shape[:2]))
                out.append(part[rows, columns].max((0, 1)))
    return np.concatenate(out)


@pytest.mark.parametrize("bins, stride, center", [((6, 3, 2, 1), 16, 0.0), ((6, 3, 2, 1), 16, 20.5), ((2, 1), 8, 0.0),
                                                  ((4, 3), 4, 0.0)])
def test_pooling_of_regions_to_a_pyramid_equals_the_loop(bins, stride, center):
    rng = np.random.default_rng(stride)
    features = rng.normal(size=(2, 14, 19, 3)).astype("float32")
    corners = np.sort(rng.uniform(-30, stride * 21, (2, 25, 2, 2)), axis=2).astype("float32")
    rois = np.concatenate([corners[:, :, 0], corners[:, :, 1]], -1)
    rois[:, 0, 2:] = rois[:, 0, :2] + 3  # thinner than a cell
    got = RoIPyramidPool(bins, stride, center)(features, rois)
    want = [[pyramid(f, roi, bins, stride, center) for roi in of_image] for f, of_image in zip(features, rois)]
    np.testing.assert_array_equal(got, want)


def test_the_pyramid_of_the_whole_map_is_the_classifiers_by_hand():
    features = np.random.default_rng(0).normal(size=(1, 13, 17, 4)).astype("float32")
    whole = np.float32([[[-1, -1, 17 * 16, 13 * 16]]])
    np.testing.assert_array_equal(RoIPyramidPool()(features, whole)[:, 0], SpatialPyramidPool()(features))


@pytest.mark.parametrize("layer, shape", [(RoIWarp(8, 1), (20, 20, 3)), (RoIPyramidPool((2, 1), 4, 1.5), (5, 5, 2))])
def test_layers_of_regions_live_through_a_file(layer, shape, tmp_path):
    inputs = [keras.Input(shape), keras.Input((None, 4))]
    network = keras.Model(inputs, layer(*inputs))
    network.save(tmp_path / "n.keras")
    rng = np.random.default_rng(0)
    x = [rng.uniform(0, 9, (1, *shape)).astype("float32"), np.float32([[[1, 2, 15, 18], [0, 0, 5, 5]]])]
    again = keras.saving.load_model(tmp_path / "n.keras")
    np.testing.assert_array_equal(again(x), network(x))
    assert network.output_shape[1:] == np.shape(network(x))[1:] or network.output_shape[1] is None
