import keras
import numpy as np

from keras_cnns.layers.masks import KeypointTargets, MaskTargets


def rows(labels):
    targets = np.zeros((1, len(labels), 5), "float32")
    targets[0, :, 4] = labels
    return targets


BOXES = np.float32([[[10, 10, 30, 30], [40, 12, 60, 20]]])
IMAGE = np.zeros((1, 64, 80, 3), "float32")


def crops():
    """The first object is its box's left half, the second is nowhere."""
    found = np.zeros((1, 2, 32, 32), "uint8")
    found[0, 0, 1:21, 1:11] = 1  # a pixel of margin
    return found


def test_a_region_learns_its_objects_mask_by_hand():
    rois = np.float32([[[10, 10, 30, 30], [20, 10, 30, 30], [0, 0, 10, 10]]])
    found = np.array(MaskTargets(4)(rois, np.zeros((1, 3), "int32"), rows([2, 1, 0]), BOXES, crops(), IMAGE))
    masks = found[0, :, :-1].reshape(3, 4, 4)
    np.testing.assert_allclose(masks[0, 1], [1, 1, 0, 0], atol=0.11)  # torchvision's half pixel to the left
    assert masks[1, :, 1:].max() == 0 and masks[2].max() < 0.11
    np.testing.assert_array_equal(found[0, :, -1], [2, 1, 0])


def test_an_empty_mask_teaches_nothing_and_ignored_regions_stay_ignored():
    rois = np.repeat(BOXES[:, 1:], 3, 1)
    found = np.array(MaskTargets(4)(rois, np.int32([[1, 1, 0]]), rows([3, -1, -1]), BOXES, crops(), IMAGE))
    np.testing.assert_array_equal(found[0, :, -1] > 0, False)
    assert np.isfinite(found).all()


def test_joints_fall_into_cells_by_hand():
    joints = np.float32([[[[10, 10, 2], [29.9, 19.9, 1], [30, 30, 2], [20, 20, 0], [31, 20, 2]]]])
    rois = np.float32([[[10, 10, 30, 30], [10, 10, 30, 30]]])
    found = np.array(KeypointTargets(10)(rois, np.zeros((1, 2), "int32"), rows([1, 0]), joints))
    np.testing.assert_array_equal(found[0], [[0, 49, 99, -1, -1], [-1] * 5])


def test_a_region_without_area_has_no_number_that_is_none():
    rois, boxes = np.zeros((1, 2, 4), "float32"), np.zeros((1, 1, 4), "float32")
    matched = np.zeros((1, 2), "int32")
    assert np.isfinite(MaskTargets(4)(rois, matched, rows([-1, 0]), boxes, crops()[:, :1], IMAGE)).all()
    joints = np.ones((1, 1, 3, 3), "float32")
    np.testing.assert_array_equal(KeypointTargets(4)(rois, matched, rows([-1, 0]), joints), -np.ones((1, 2, 3)))


def test_the_layers_survive_saving():
    for layer in (MaskTargets(28), KeypointTargets(56)):
        again = keras.layers.deserialize(keras.layers.serialize(layer))
        assert again.size == layer.size and again.compute_dtype == "float32"
