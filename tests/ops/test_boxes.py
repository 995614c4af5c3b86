import numpy as np
import pytest

from keras_cnns.ops import anchors, boxes


def some_boxes(rng, *shape):
    corner = rng.uniform(-50, 300, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 200, (*shape, 2))], -1).astype("float32")


def test_iou_of_boxes_one_can_see():
    a = np.array([[0, 0, 10, 10]], "float32")
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 0, 0]], "float32")
    np.testing.assert_allclose(boxes.iou(a, b), [[1, 1 / 3, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(boxes.ioa(a, b), [[1, 0.5, 0, 0]], rtol=1e-6)


def test_ioa_is_over_the_area_of_the_first():
    small, large = np.array([[2, 2, 4, 4]], "float32"), np.array([[0, 0, 10, 10]], "float32")
    assert float(boxes.ioa(small, large)[0, 0]) == 1
    assert float(boxes.ioa(large, small)[0, 0]) == pytest.approx(0.04)


def test_iou_is_symmetric_and_one_with_itself():
    a = some_boxes(np.random.default_rng(0), 2, 7)
    iou = np.array(boxes.iou(a, a))
    np.testing.assert_allclose(iou, iou.swapaxes(1, 2))
    np.testing.assert_allclose(iou[:, range(7), range(7)], 1, rtol=1e-6)


def test_two_boxes_without_area_do_not_divide_by_zero():
    nothing = np.zeros((1, 4), "float32")
    assert float(boxes.iou(nothing, nothing)[0, 0]) == 0
    assert float(boxes.ioa(nothing, nothing)[0, 0]) == 0


@pytest.mark.parametrize("variances", [(1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)])
def test_decode_inverts_encode(variances):
    rng = np.random.default_rng(1)
    a, b = some_boxes(rng, 3, 9), some_boxes(rng, 3, 9)
    np.testing.assert_allclose(boxes.decode(boxes.encode(b, a, variances), a, variances), b, atol=1e-2)


def test_encode_by_hand():
    anchor, box = np.array([[0, 0, 10, 20]], "float32"), np.array([[5, 0, 15, 40]], "float32")
    np.testing.assert_allclose(boxes.encode(box, anchor), [[0.5, 0.5, 0, np.log(2)]], atol=1e-6)


def test_padding_rows_encode_to_finite_numbers():
    assert np.isfinite(np.array(boxes.encode(np.zeros((1, 4), "float32"), np.zeros((1, 4), "float32")))).all()


def test_clip_leaves_nothing_of_a_box_outside():
    clipped = np.array(boxes.clip(np.array([[-5, -5, 5, 5], [30, 30, 40, 50]], "float32"), 10, 20))
    np.testing.assert_array_equal(clipped, [[0, 0, 5, 5], [20, 10, 20, 10]])


def test_anchors_are_centred_and_of_the_size_asked_for():
    grid = anchors.grid(2, 3, 16, sizes=(32, 64), ratios=(0.5, 1.0, 2.0))
    assert grid.shape == (2 * 3 * 6, 4)
    np.testing.assert_allclose(boxes.area(grid)[:6], [32**2] * 3 + [64**2] * 3, rtol=1e-5)
    np.testing.assert_allclose((grid[:6, :2] + grid[:6, 2:]) / 2, 8)  # the first cell
    np.testing.assert_allclose((grid[-6:, :2] + grid[-6:, 2:]) / 2, [[40, 24]] * 6, rtol=1e-6)  # the last
    height, width = (grid[:, 3] - grid[:, 1], grid[:, 2] - grid[:, 0])
    np.testing.assert_allclose((height / width)[:3], [0.5, 1, 2], rtol=1e-5)


def test_a_pyramid_has_a_grid_a_level_and_rounds_up():
    grids = anchors.pyramid((100, 64), ((16, (32,)), (32, (64,))), (1.0,))
    assert [len(g) for g in grids] == [7 * 4, 4 * 2]
