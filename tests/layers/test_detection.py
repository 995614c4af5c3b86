import keras
import numpy as np
import pytest

from keras_cnns.layers.detection import (
    Anchors, AnchorTargets, DecodeDetections, PadToStride, Proposals, SampleRoIs)
from keras_cnns.ops import anchors as anchor_ops
from keras_cnns.ops import boxes as box_ops

IMAGE = np.zeros((1, 96, 128, 3), "float32")
RATIOS = (0.5, 1.0, 2.0)


def anchors_of(*levels, ratios=RATIOS):
    """Anchors of `IMAGE`, `[[A_l, 4], ...]`, of levels `(stride, sizes)`."""
    maps = [np.zeros((1, 96 // stride, 128 // stride, 1), "float32") for stride, _ in levels]
    references = [anchor_ops.about_origin(sizes, ratios) for _, sizes in levels]
    return [np.array(grid) for grid in Anchors(references, levels[-1][0])(IMAGE, maps)]


ANCHORS = anchors_of((16, (32, 64)))[0]


@pytest.mark.parametrize("height, width", [(96, 128), (95, 97), (1, 200)])
def test_images_are_padded_with_the_mean_to_whole_cells(height, width):
    image = np.random.default_rng(0).uniform(0, 255, (2, height, width, 3)).astype("float32")
    padded = np.array(PadToStride(32, (1.5, 2.5, 3.5))(image))
    assert padded.shape[1] == -(-height // 32) * 32 and padded.shape[2] == -(-width // 32) * 32
    np.testing.assert_array_equal(padded[:, :height, :width], image)
    for margin in (padded[:, height:], padded[:, :, width:]):
        assert (margin == [1.5, 2.5, 3.5]).all()


def test_anchors_stand_at_the_corners_of_cells():
    assert ANCHORS.shape == (6 * 8 * 6, 4)
    np.testing.assert_array_equal(ANCHORS[:6, :2] + ANCHORS[:6, 2:], 0)  # the first cell
    np.testing.assert_array_equal(ANCHORS[-6:, :2] + ANCHORS[-6:, 2:], [[2 * 112, 2 * 80]] * 6)  # the last
    np.testing.assert_array_equal(ANCHORS[:2], [[-23, -11, 23, 11], [-45, -23, 45, 23]])  # whole pixels


def test_steps_between_anchors_fill_the_padded_image():
    image = np.zeros((1, 770, 100, 3), "float32")  # padded to 800 x 128; P6 has 13 x 2 cells of 61 and 64 pixels
    grid = np.array(Anchors([[[0, 0, 1, 1]]], 32)(image, [np.zeros((1, 13, 2, 1), "float32")])[0])
    assert grid[:3, :2].tolist() == [[0, 0], [64, 0], [0, 61]] and len(grid) == 26


def truth(*rows):
    """`(x1, y1, x2, y2, label)` rows of one image -> boxes, labels."""
    rows = np.array(rows, "float32").reshape(1, -1, 5)
    return rows[..., :4], rows[..., 4].astype("int32")


def test_proposals_come_best_first_without_overlap_and_inside():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, len(ANCHORS))).astype("float32")
    offsets = (0.3 * rng.normal(size=(2, len(ANCHORS), 4))).astype("float32")
    rois = np.array(Proposals(top_n=20)(logits, offsets, [ANCHORS], IMAGE))
    assert rois.shape == (2, 20, 4)
    assert rois.min() >= 0 and rois[..., [0, 2]].max() <= 128 and rois[..., [1, 3]].max() <= 96
    best = np.array(box_ops.clip(box_ops.decode(offsets[0], ANCHORS), 96, 128))[logits[0].argmax()]
    np.testing.assert_allclose(rois[0, 0], best, atol=1e-3)
    for image in rois:
        real = image[(image[:, 2] > image[:, 0])]
        iou = np.array(box_ops.iou(real, real)) - np.eye(len(real))
        assert iou.max() <= 0.7 + 1e-4


def test_too_few_proposals_are_padded_with_zeros():
    logits = np.zeros((1, len(ANCHORS)), "float32")
    offsets = np.zeros((1, len(ANCHORS), 4), "float32")
    rois = np.array(Proposals(top_n=500)(logits, offsets, [ANCHORS], IMAGE))[0]
    empty = rois.sum(1) == 0
    assert 0 < empty.sum() < 500 and not empty[: (~empty).sum()].any()


def test_levels_of_a_pyramid_do_not_suppress_each_other():
    grids = anchors_of((8, (16,)), (16, (48,)), ratios=(1.0,))
    count = sum(map(len, grids))
    first = len(grids[0])
    goal = np.array([40, 40, 70, 70], "float32")  # one anchor of each level is moved to the same place
    logits, offsets = np.full((1, count), -9, "float32"), np.zeros((1, count, 4), "float32")
    for index, anchor in ((10, grids[0][10]), (first + 5, grids[1][5])):
        logits[0, index], offsets[0, index] = 5, np.array(box_ops.encode(goal, anchor))
    rois = np.array(Proposals(top_n=10, pre_nms=4)(logits, offsets, grids, IMAGE))[0]
    np.testing.assert_allclose(rois[:2], [goal, goal], atol=1e-3)


def test_anchor_targets_label_and_encode():
    boxes, labels = truth((30, 30, 62, 62, 3), (0, 0, 0, 0, 0))
    targets = np.array(AnchorTargets()([ANCHORS], boxes, labels))[0]
    iou = np.array(box_ops.iou(ANCHORS, boxes[0, :1]))[:, 0]
    assert set(np.unique(targets[:, 4])) <= {-1, 0, 1}
    assert targets[iou.argmax(), 4] == 1
    assert (targets[targets[:, 4] == 0, 4].size + targets[targets[:, 4] == 1, 4].size) <= 256
    back = np.array(box_ops.decode(targets[iou.argmax(), :4], ANCHORS[iou.argmax()]))
    np.testing.assert_allclose(back, boxes[0, 0], atol=1e-3)


def test_anchors_in_an_ignored_region_are_never_sampled():
    boxes, labels = truth((10, 10, 60, 60, 2), (64, 0, 128, 96, -1))
    inside = np.array(box_ops.ioa(ANCHORS, boxes[0, 1:]))[:, 0] >= 0.5
    layer, seen = AnchorTargets(), np.zeros(len(ANCHORS), bool)
    for _ in range(20):
        seen |= np.array(layer([ANCHORS], boxes, labels))[0, :, 4] >= 0
    best = np.array(box_ops.iou(ANCHORS, boxes[0, :1]))[:, 0]
    assert not seen[inside & (best < 0.3)].any()
    assert seen[~inside & (best < 0.3)].all()  # everything else has its chance


def test_regions_hold_a_quarter_objects_and_carry_their_targets():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (1, 80, 2))
    proposals = np.concatenate([corner, corner + rng.uniform(10, 60, (1, 80, 2))], -1).astype("float32")
    boxes, labels = truth((20, 20, 60, 60, 3), (50, 50, 90, 90, 1), (0, 0, 0, 0, 0))
    rois, targets, matched = (np.array(t) for t in SampleRoIs(32)(proposals, boxes, labels))
    label = targets[0, :, 4]
    assert rois.shape == (1, 32, 4) and 2 <= (label > 0).sum() <= 8
    for roi, target, number in zip(rois[0], targets[0], matched[0]):
        iou = np.array(box_ops.iou(roi[None], boxes[0, :2]))[0]
        assert (target[4] > 0) == (iou.max() >= 0.5)
        if target[4] > 0:
            assert number == iou.argmax() and target[4] == labels[0, number]
            back = np.array(box_ops.decode(target[:4], roi, (0.1, 0.1, 0.2, 0.2)))
            np.testing.assert_allclose(back, boxes[0, iou.argmax()], atol=1e-2)


def test_the_ground_truth_itself_is_among_the_regions():
    boxes, labels = truth((20, 20, 60, 60, 3))
    rois, targets, _ = (np.array(t) for t in SampleRoIs(8)(np.zeros((1, 10, 4), "float32"), boxes, labels))
    assert (targets[0, :, 4] == 3).sum() == 1
    np.testing.assert_array_equal(rois[0][targets[0, :, 4] == 3], boxes[0])
    assert (targets[0, :, 4] == -1).sum() == 7  # an image may run out; the rest does not count


def test_regions_on_a_difficult_object_do_not_count():
    proposals = np.array([[[50, 50, 90, 90], [52, 50, 92, 90], [0, 0, 30, 30]]], "float32")
    boxes, labels = truth((50, 50, 90, 90, -1))
    rois, targets, _ = (np.array(t) for t in SampleRoIs(4)(proposals, boxes, labels))
    counted = rois[0][targets[0, :, 4] >= 0]
    np.testing.assert_array_equal(counted, [[0, 0, 30, 30]])  # nor is the difficult box itself a region


@pytest.mark.parametrize("make", [
    lambda: PadToStride(32, (1, 2, 3)), lambda: Anchors([anchor_ops.about_origin((32,), RATIOS)] * 2, 32),
    lambda: Proposals(top_n=7), lambda: AnchorTargets(size=8), lambda: SampleRoIs(8),
    lambda: DecodeDetections(max_detections=3)])
def test_layers_survive_saving(make):
    layer = make()
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()


def test_decoding_by_hand():
    rois = np.array([[[10, 10, 50, 50], [60, 20, 90, 90], [0, 0, 0, 0]]], "float32")
    logits = np.array([[[0, 9, 0], [0, 0, 9], [0, 9, 9]]], "float32")
    offsets = np.zeros((1, 3, 2, 4), "float32")
    offsets[0, 0, 0, 0] = 1.0  # a tenth of its width to the right
    found = {k: np.array(v) for k, v in DecodeDetections()(logits, offsets, rois, IMAGE).items()}
    assert found["count"].tolist() == [2] and sorted(found["labels"][0, :2]) == [1, 2]
    first = found["boxes"][0, found["labels"][0, :2].argmin()]
    np.testing.assert_allclose(first, [14, 10, 54, 50], atol=1e-4)
