import numpy as np

from keras_cnns.ops import boxes, default_boxes


def test_the_boxes_of_a_map_of_two_cells_by_hand():
    sides = default_boxes.sides(0.2, 0.8, (2,))
    np.testing.assert_allclose(sides, [[0.2, 0.2], [0.4, 0.4], [0.2 * 2**0.5, 0.2 / 2**0.5],
                                       [0.2 / 2**0.5, 0.2 * 2**0.5]])
    found = default_boxes.pyramid([((1, 2), (50, 40), sides[:2])], (50, 100))
    np.testing.assert_allclose(found, [[10, 20, 30, 30], [0, 15, 40, 35], [50, 20, 70, 30], [40, 15, 80, 35]], 1e-6)


def test_boxes_are_cut_to_the_image_about_their_centres():
    np.testing.assert_allclose(default_boxes.sides(0.8, 1.0, (4,), clip=True)[2:], [[1, 0.4], [0.4, 1]])
    assert default_boxes.sides(0.8, 1.0, (4,)).max() == 1.6


def test_overlap_and_offsets_equal_those_of_the_boxes_room():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 200, (40, 2))
    some = np.concatenate([corner, corner + rng.uniform(0, 120, (40, 2))], -1).astype("float32")
    some[3, 2:] = some[3, :2]  # one without area
    iou, share = default_boxes.overlap(some[:30], some[20:])
    np.testing.assert_allclose(iou, boxes.iou(some[:30], some[20:]), atol=1e-6)
    np.testing.assert_allclose(share, boxes.ioa(some[:30], some[20:]), atol=1e-6)
    variances = (0.1, 0.1, 0.2, 0.2)
    np.testing.assert_allclose(default_boxes.encode(some[:20], some[20:], variances),
                               boxes.encode(some[:20], some[20:], variances), rtol=1e-4, atol=1e-4)
