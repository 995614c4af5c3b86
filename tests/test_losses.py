import keras
import numpy as np

from keras_cnns.losses import BoxLoss, ClassLoss, CompetitiveLoss, ObjectnessLoss


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
