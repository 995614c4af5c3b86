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


def test_whole_numbers_and_doubles_are_boxes_too_as_by_hand():
    a, b = np.array([[0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10]])
    np.testing.assert_allclose(boxes.iou(a, b.astype("float32")), [[1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(boxes.decode(boxes.encode(b, a), a), b, rtol=1e-5)


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


def test_reference_boxes_are_of_the_size_asked_for():
    found = anchors.about_origin((32, 64), (0.5, 1.0, 2.0))
    np.testing.assert_allclose(boxes.area(found), [32**2, 64**2] * 3, rtol=0.03)  # whole pixels
    np.testing.assert_array_equal(found[:, :2], -found[:, 2:])
    height, width = (found[:, 3] - found[:, 1], found[:, 2] - found[:, 0])
    np.testing.assert_allclose(height / width, [0.5, 0.5, 1, 1, 2, 2], rtol=0.05)


def test_a_grid_has_the_reference_boxes_at_each_cell():
    reference = np.array([[-4, -2, 4, 2], [0, 0, 6, 6]], "float32")
    found = np.array(anchors.grid(reference, (2, 3), (16, 8)))
    want = [box + np.array([x, y, x, y]) for y in (0, 16) for x in (0, 8, 16) for box in reference]
    np.testing.assert_array_equal(found, want)
