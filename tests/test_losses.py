import keras
import numpy as np

from keras_cnns.losses import (
    BoxLoss, ClassLoss, CompetitiveLoss, HardNegativeClassLoss, KeypointLoss, MaskLoss, ObjectnessLoss)


def rows(labels, offsets=0.0):
    targets = np.zeros((len(labels), len(labels[0]), 5), "float32")
    targets[..., 4], targets[..., :4] = labels, offsets
    return targets


def test_each_loss_is_one_number_an_image():
    targets = rows([[1, 0, -1], [2, 2, 0]])
    assert ObjectnessLoss(reduction=None)(targets, np.zeros((2, 3), "float32")).shape == (2,)
    assert ClassLoss(reduction=None)(targets, np.zeros((2, 3, 4), "float32")).shape == (2,)
    assert BoxLoss(reduction=None)(targets, np.zeros((2, 3, 4), "float32")).shape == (2,)


def test_objectness_by_hand():
    loss = ObjectnessLoss(reduction=None)(rows([[1, 0, -1, -1]]), np.array([[0, 0, 50, -50]], "float32"))
    np.testing.assert_allclose(loss, [np.log(2)], rtol=1e-6)  # ignored rows, sure as they are, count nothing


def test_class_loss_by_hand():
    logits = np.zeros((1, 3, 4), "float32")
    logits[0, 2] = 100, 0, 0, 0
    np.testing.assert_allclose(ClassLoss(reduction=None)(rows([[3, 0, -1]]), logits), [np.log(4)], rtol=1e-6)


def test_box_loss_is_a_square_then_a_line():
    offsets = np.zeros((1, 2, 4), "float32")
    offsets[0, 0, :2] = 0.5, 3.0
    loss = BoxLoss(reduction=None)(rows([[1, 0]]), offsets)
    np.testing.assert_allclose(loss, [(0.5 * 0.25 + 2.5) / 2])  # over both sampled rows
    loss = BoxLoss(beta=1 / 9, reduction=None)(rows([[1, 0]]), offsets)
    np.testing.assert_allclose(loss, [(0.5 - 1 / 18 + 3 - 1 / 18) / 2], rtol=1e-6)


def test_box_loss_takes_the_box_of_the_true_class():
    offsets = np.zeros((1, 3, 2, 4), "float32")
    offsets[0, 0, 1] = 7  # row 0 is of class 1, so class 2's box does not matter
    offsets[0, 1:] = 9    # background and ignored rows have no box
    assert float(BoxLoss(reduction=None)(rows([[1, 0, -1]]), offsets)[0]) == 0


def test_an_image_without_a_counted_row_has_no_loss():
    for loss, shape in ((ObjectnessLoss, (1, 2)), (ClassLoss, (1, 2, 3)), (BoxLoss, (1, 2, 4))):
        assert float(loss(reduction=None)(rows([[-1, -1]]), np.ones(shape, "float32"))[0]) == 0


def test_the_competitive_loss_equals_equation_9_by_hand():
    distances, classes, j = np.array([[1.0, 4.0, 9.0], [2.0, 0.5, 3.0]]), np.array([0, 2]), 0.3
    want = [y[d] + np.log(np.exp(-j) + np.exp(-y).sum()) for y, d in zip(distances, classes)]
    loss = CompetitiveLoss(j, reduction=None)
    np.testing.assert_allclose(loss(classes, -distances.astype("float32")), want, rtol=1e-5)
    np.testing.assert_allclose(loss(classes[:, None], -distances.astype("float32")), want, rtol=1e-5)


def test_losses_survive_saving():
    loss = keras.losses.deserialize(keras.losses.serialize(BoxLoss(beta=0.25)))
    assert loss.beta == 0.25


def hard_negatives_by_loop(targets, logits, ratio):
    out = []
    for image, scores in zip(targets, logits.astype("float64")):
        objects, background = [], []
        for row, score in zip(image, scores):
            loss = np.log(np.exp(score).sum()) - score[max(int(row[4]), 0)]
            if row[4] > 0:
                objects.append(loss)
            elif row[4] == 0:
                background.append(loss)
        hardest = sorted(background, reverse=True)[:ratio * len(objects)]
        out.append((sum(objects) + sum(hardest)) / len(objects) if objects else 0.0)
    return out


def test_mining_of_hard_negatives_equals_a_loop():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, (5, 40)) * (rng.uniform(size=(5, 40)) < 0.3)
    labels[1] = 0                        # no object
    labels[2] = 1                        # nothing else
    labels[3, 5:] = -1                   # fewer background rows than wanted
    labels[3, :5] = 2, 2, 0, 0, 3
    targets, logits = rows(labels), rng.normal(0, 3, (5, 40, 4)).astype("float32")
    for ratio in (3, 1):
        loss = HardNegativeClassLoss(ratio, reduction=None)(targets, logits)
        np.testing.assert_allclose(loss, hard_negatives_by_loop(targets, logits, ratio), rtol=1e-4)
    assert HardNegativeClassLoss.from_config(HardNegativeClassLoss(2).get_config()).ratio == 2


def test_box_loss_of_objects_alone_by_hand():
    offsets = np.zeros((1, 3, 4), "float32")
    offsets[0, 0, :2] = 0.5, 3.0
    loss = BoxLoss(of_objects=True, reduction=None)
    np.testing.assert_allclose(loss(rows([[1, 0, 2]]), offsets), [(0.5 * 0.25 + 2.5) / 2])
    assert float(loss(rows([[0, -1, 0]]), offsets)[0]) == 0


def mask_loss_by_loop(targets, logits):
    """Of each image the mean over objects of the mean over cells, numbers taken one by one."""
    found = []
    for image, rows_of in zip(logits, targets):
        losses = []
        for masks, row in zip(image, rows_of):
            label, cells = int(row[-1]), row[:-1].reshape(masks.shape[:2])
            if label > 0:
                x = masks[..., label].astype("float64")
                losses.append(np.mean(np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * cells))
        found.append(np.mean(losses) if losses else 0.0)
    return found


def test_the_mask_loss_equals_a_loop_and_looks_at_the_true_class_only():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 4, 5, 5, 3)).astype("float32")
    targets = np.concatenate([rng.uniform(size=(3, 4, 25)), [[[1], [2], [0], [-1]], [[2], [2], [1], [1]],
                                                             [[0], [-1], [0], [-1]]]], -1).astype("float32")
    loss = np.array(MaskLoss(reduction=None)(targets, logits))
    np.testing.assert_allclose(loss, mask_loss_by_loop(targets, logits), rtol=1e-5)
    assert loss[2] == 0
    others = logits.copy()
    others[..., 0], others[0, 0, ..., 2], others[0, 2:] = 9, -7, 5  # background, another class, rows that do not count
    np.testing.assert_allclose(MaskLoss(reduction=None)(targets, others)[0], loss[0], rtol=1e-6)


def test_the_keypoint_loss_equals_a_loop():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 3, 4, 4, 2)).astype("float32")
    targets = np.float32([[[3, -1], [15, 0], [-1, -1]], [[-1, -1]] * 3])
    want = [-np.log(np.exp(logits[0, i, p // 4, p % 4, j]) / np.exp(logits[0, i, ..., j]).sum())
            for i, j, p in ((0, 0, 3), (1, 0, 15), (1, 1, 0))]
    np.testing.assert_allclose(KeypointLoss(reduction=None)(targets, logits), [np.mean(want), 0], rtol=1e-5)
