import keras
import numpy as np
import pytest

from keras_cnns.losses import (
    BoxLoss, ClassLoss, CompetitiveLoss, DiceLoss, HardNegativeClassLoss, HeatmapLoss, KeypointLoss, MaskLoss,
    ObjectnessLoss, PixelEntropy, YOLOLoss)


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


def pixels_of_two_images():
    """Labels `[2, 3, 5]` of 4 classes, some ignored, and logits."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (2, 3, 5))
    labels[0, 0, :3] = labels[1, 2, 4] = 255
    return labels.astype("uint8"), rng.normal(0, 2, (2, 3, 5, 4)).astype("float32")


@pytest.mark.parametrize("class_weights, of_pixels", [
    (None, False), ((1.0, 3.0, 0.5, 0.0), False), (None, True), ((1.0, 3.0, 0.5, 0.0), True)])
def test_the_pixels_entropy_equals_a_loop(class_weights, of_pixels):
    labels, logits = pixels_of_two_images()
    weights = np.random.default_rng(1).uniform(0, 9, labels.shape) if of_pixels else np.ones(labels.shape)
    expected = []
    for image in range(2):
        total = weight = 0.0
        for y in range(3):
            for x in range(5):
                label = labels[image, y, x]
                if label != 255:
                    w = weights[image, y, x] * (class_weights[label] if class_weights else 1.0)
                    share = np.exp(logits[image, y, x]) / np.exp(logits[image, y, x]).sum()
                    total, weight = total - w * np.log(share[label]), weight + w
        expected.append(total / weight)
    target = np.stack([labels, weights], -1).astype("float32") if of_pixels else labels
    loss = PixelEntropy(class_weights, reduction=None)(target, logits)
    assert loss.shape == (2,)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_dice_loss_equals_a_loop():
    labels, logits = pixels_of_two_images()
    labels[1][labels[1] == 2] = 255  # a class that the image does not have
    expected = []
    for image in range(2):
        dice = []
        for k in set(labels[image].reshape(-1).tolist()) - {255}:
            common = squares = 0.0
            for y in range(3):
                for x in range(5):
                    if labels[image, y, x] != 255:
                        p = np.exp(logits[image, y, x, k]) / np.exp(logits[image, y, x]).sum()
                        g = float(labels[image, y, x] == k)
                        common, squares = common + p * g, squares + p * p + g * g
            dice.append(2 * common / squares)
        expected.append(1 - np.mean(dice))
    np.testing.assert_allclose(DiceLoss(reduction=None)(labels, logits), expected, rtol=1e-5)
    certain = 50.0 * np.eye(4, dtype="float32")[np.where(labels == 255, 3, labels)]
    np.testing.assert_allclose(DiceLoss(reduction=None)(labels, certain), 0.0, atol=1e-6)


def test_an_image_of_ignored_pixels_has_no_loss():
    labels, logits = np.full((1, 3, 5), 255), np.ones((1, 3, 5, 4), "float32")
    assert float(PixelEntropy(reduction=None)(labels, logits)[0]) == 0
    assert float(DiceLoss(reduction=None)(labels, logits)[0]) == 0


def test_the_heatmap_loss_equals_a_loop_over_labelled_joints():
    rng = np.random.default_rng(0)
    maps = rng.uniform(0, 1, (3, 4, 5, 2)).astype("float32")
    joints = np.concatenate([rng.uniform(0, 16, (3, 2, 2)), [[[2], [1]], [[0], [2]], [[0], [0]]]], -1).astype("float32")
    joints[0, 0, :2] = -90, 5  # labelled, but out of sight: an empty map is wanted
    expected = []
    for b in range(3):
        errors = [np.mean([(maps[b, i, j, k] - np.exp(-0.5 * ((j + 0.5 - joints[b, k, 0] / 4) ** 2
                                                              + (i + 0.5 - joints[b, k, 1] / 4) ** 2))) ** 2
                           for i in range(4) for j in range(5)]) for k in range(2) if joints[b, k, 2] > 0]
        expected.append(np.mean(errors) if errors else 0.0)
    loss = HeatmapLoss(4, reduction=None)
    np.testing.assert_allclose(loss(joints, maps), expected, rtol=1e-5)
    np.testing.assert_allclose(HeatmapLoss.from_config(loss.get_config())(joints, maps), expected, rtol=1e-5)


def yolo_by_loop(targets, grid, boxes, coordinates=5.0, no_object=0.5):
    """Eq. 3 and the authors' rule of who is responsible, a cell at a time."""
    def corners(x, y, w, h, i, j):
        x, y = (x + j) / columns, (y + i) / rows
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2

    def iou(a, b):
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        common = max(width, 0) * max(height, 0)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
        return common / union if union else 0.0

    total, (rows, columns) = 0.0, targets.shape[:2]
    fallen_back = 0
    for i in range(rows):
        for j in range(columns):
            x, y, w, h, label = targets[i, j]
            if label < 0:
                continue
            own = grid[i, j, :5 * boxes].reshape(boxes, 5)
            responsible = None
            if label > 0:
                overlaps = [iou(corners(x, y, w, h, i, j), corners(a, b, c * c, d * d, i, j)) for a, b, c, d, _ in own]
                distances = [((x - a) / columns)**2 + ((y - b) / rows)**2 + (w - c * c)**2 + (h - d * d)**2
                             for a, b, c, d, _ in own]
                fallen_back += not any(overlaps)
                responsible = int(np.argmax(overlaps) if any(overlaps) else np.argmin(distances))
                a, b, c, d, confidence = own[responsible]
                total += coordinates * ((x - a)**2 + (y - b)**2 + (w**0.5 - c)**2 + (h**0.5 - d)**2)
                total += (overlaps[responsible] - confidence)**2
                for k, score in enumerate(grid[i, j, 5 * boxes:], 1):
                    total += (float(k == label) - score)**2
            total += no_object * sum(own[b][4]**2 for b in range(boxes) if b != responsible)
    return total, fallen_back


@pytest.mark.parametrize("boxes", [2, 3])
def test_yolos_loss_equals_a_loop(boxes):
    rng = np.random.default_rng(boxes)
    grid = rng.uniform(-0.3, 1.2, (4, 3, 4, 5 * boxes + 3)).astype("float32")
    grid[1, ..., [2, 3]] = 0  # without area: nothing overlaps the object, if the others are far
    grid[1, ..., 5:5 * boxes:5] = 30
    targets = np.float32(np.concatenate([rng.uniform(0, 1, (4, 3, 4, 4)), rng.integers(-1, 4, (4, 3, 4, 1))], -1))
    targets[3, ..., 4] = -1
    found = YOLOLoss.from_config(YOLOLoss(boxes, reduction=None).get_config())(targets, grid)
    want, fallen_back = zip(*(yolo_by_loop(np.float64(t), np.float64(g), boxes) for t, g in zip(targets, grid)))
    np.testing.assert_allclose(found, want, rtol=1e-4)
    assert found[3] == 0 and fallen_back[1] > fallen_back[0]
