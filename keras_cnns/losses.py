"""Losses. Each maps (targets, predictions) to one value an image, `[B]`.

Keras then averages over images and replicas; a loss that returned a scalar would be multiplied by the number
of replicas under MirroredStrategy. A detector's targets are the rows `(t_x, t_y, t_w, t_h, label)` of
`ops.targets`; rows with label -1 do not count.
"""

from keras import losses, ops, saving

from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import heatmaps as heatmap_ops

register = saving.register_keras_serializable("keras_cnns")


def _mean_over(values, mask):
    mask = ops.cast(mask, values.dtype)
    return ops.sum(values * mask, -1) / ops.maximum(ops.sum(mask, -1), 1.0)


@register
class ObjectnessLoss(losses.Loss):
    """Log loss of object against background: `[B, A, 5], logits [B, A] -> [B]`. Faster R-CNN, eq. 1."""

    def call(self, targets, logits):
        label = targets[..., 4]
        loss = ops.binary_crossentropy(ops.cast(label > 0, logits.dtype), logits, from_logits=True)
        return _mean_over(loss, label >= 0)


@register
class ClassLoss(losses.Loss):
    """Softmax log loss over background and K classes: `[B, R, 5], logits [B, R, K+1] -> [B]`. Fast R-CNN, eq. 1."""

    def call(self, targets, logits):
        label = targets[..., 4]
        loss = ops.sparse_categorical_crossentropy(
            ops.cast(ops.maximum(label, 0.0), "int32"), logits, from_logits=True)
        return _mean_over(loss, label >= 0)


@register
class BoxLoss(losses.Loss):
    """Smooth L1 on objects, averaged over all sampled rows, or over the objects. Fast R-CNN, eq. 2-3; SSD, eq. 2.

    `[B, N, 5], offsets [B, N, 4] -> [B]`, or offsets `[B, N, K, 4]`, one box a class, of which the true
    class's is taken.

    Args:
      beta: error at which the square becomes a line; 1 in Fast R-CNN, 1/9 in the RPN of its authors' code.
      of_objects: the mean is over the objects' rows alone, as in SSD.
    """

    def __init__(self, beta=1.0, of_objects=False, name="box_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.beta, self.of_objects = beta, of_objects

    def call(self, targets, offsets):
        goal, label = targets[..., :4], targets[..., 4]
        if len(offsets.shape) == 4:
            chosen = ops.one_hot(ops.cast(label, "int32") - 1, offsets.shape[2], dtype=offsets.dtype)
            offsets = ops.sum(offsets * chosen[..., None], axis=2)
        error = ops.abs(goal - offsets)
        loss = ops.where(error < self.beta, 0.5 * error**2 / self.beta, error - 0.5 * self.beta)
        counted = label > 0 if self.of_objects else label >= 0
        return _mean_over(ops.where(label > 0, ops.sum(loss, -1), 0.0), counted)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta, "of_objects": self.of_objects}


@register
class MaskLoss(losses.Loss):
    """Log loss of each cell of the true class's mask, averaged over cells and then objects. Mask R-CNN, section 3.

    `[B, P, M * M + 1], logits [B, P, M, M, K+1] -> [B]`. Target rows are a mask's cells, row by row, 0 to 1, and the
    label; rows that are no object, label 0 or -1, do not count. Classes do not compete: the logits of all others, and
    of channel 0, the background, get no gradient.
    """

    def call(self, targets, logits):
        label, size = targets[..., -1], logits.shape[2]
        chosen = ops.one_hot(ops.cast(label, "int32"), logits.shape[-1], dtype=logits.dtype)
        logits = ops.einsum("brhwk,brk->brhw", logits, chosen)
        masks = ops.reshape(targets[..., :-1], (-1, *targets.shape[1:2], size, size))
        loss = ops.mean(ops.binary_crossentropy(masks, logits, from_logits=True), (-2, -1))
        return _mean_over(loss, label > 0)


@register
class KeypointLoss(losses.Loss):
    """Softmax log loss over the positions of each joint's one-hot mask. Mask R-CNN, section 5.

    `[B, P, J], logits [B, P, M, M, J] -> [B]`. Targets are positions, `row * M + column`; -1 does not count.
    """

    def call(self, targets, logits):
        size, joints = logits.shape[2], logits.shape[-1]
        logits = ops.swapaxes(ops.reshape(logits, (-1, logits.shape[1], size * size, joints)), -1, -2)
        loss = ops.sparse_categorical_crossentropy(
            ops.cast(ops.maximum(targets, 0.0), "int32"), logits, from_logits=True)
        counted = targets >= 0
        return ops.sum(ops.where(counted, loss, 0.0), (-2, -1)) / ops.maximum(
            ops.sum(ops.cast(counted, loss.dtype), (-2, -1)), 1.0)


@register
class CompetitiveLoss(losses.Loss):
    """The right class's distance, and a competition that pushes the others away. LeNet-5, eq. 9.

    `classes [B] or [B, 1] whole numbers, minus distances [B, K] -> [B]`.

    Args:
      rubbish: j, the distance of a class for what is no digit; the paper names no number.
    """

    def __init__(self, rubbish=0.1, name="competitive_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.rubbish = rubbish

    def call(self, classes, logits):
        chosen = ops.one_hot(ops.reshape(ops.cast(classes, "int32"), (-1,)), logits.shape[-1], dtype=logits.dtype)
        floor = ops.full_like(logits[:, :1], -self.rubbish)
        return ops.logsumexp(ops.concatenate([logits, floor], -1), axis=-1) - ops.sum(chosen * logits, -1)

    def get_config(self):
        return {**super().get_config(), "rubbish": self.rubbish}


@register
class HardNegativeClassLoss(losses.Loss):
    """Softmax log loss of the objects and of the background rows that have most of it, divided by the objects.

    `[B, A, 5], logits [B, A, K+1] -> [B]`; 0 of an image without objects. SSD, section 2.2, eq. 3 and hard negative
    mining.

    Args:
      ratio: background rows that count, to an object.
    """

    def __init__(self, ratio=3.0, name="hard_negative_class_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ratio = ratio

    def call(self, targets, logits):
        label = targets[..., 4]
        loss = ops.sparse_categorical_crossentropy(
            ops.cast(ops.maximum(label, 0.0), "int32"), logits, from_logits=True)
        objects = ops.sum(ops.cast(label > 0, loss.dtype), -1)
        hardest = -ops.sort(-ops.where(label == 0, loss, 0.0), -1)
        chosen = ops.arange(hardest.shape[-1], dtype=loss.dtype) < self.ratio * objects[..., None]
        total = ops.sum(ops.where(label > 0, loss, 0.0), -1) + ops.sum(ops.where(chosen, hardest, 0.0), -1)
        return total / ops.maximum(objects, 1.0)

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}


IGNORED = 255  # a pixel of a label image that counts neither way


@register
class PixelEntropy(losses.Loss):
    """Cross-entropy of the pixels' classes, their weighted mean: `labels [B, H, W], logits [B, H, W, K] -> [B]`.

    Labels are 0...K-1; pixels of label 255 do not count. Labels `[B, H, W, 2]` have a weight for each pixel beside
    them, such as U-Net's (arXiv:1505.04597, eq. 1 and 2; `data.segmented.border_weights`).

    Args:
      class_weights: K numbers by which pixels of each class count, or None: all alike.
    """

    def __init__(self, class_weights=None, name="pixel_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]

    def call(self, labels, logits):
        weights = 1.0
        if len(labels.shape) == 4:
            labels, weights = labels[..., 0], ops.cast(labels[..., 1], logits.dtype)
        target, counted = _one_hot(labels, logits)
        if self.class_weights is not None:
            weights = weights * ops.sum(target * ops.convert_to_tensor(self.class_weights, logits.dtype), -1)
        weights = ops.reshape(weights * counted, (ops.shape(logits)[0], -1))
        loss = ops.reshape(-ops.sum(target * ops.log_softmax(logits, -1), -1), (ops.shape(logits)[0], -1))
        return ops.sum(weights * loss, -1) / ops.maximum(ops.sum(weights, -1), 1e-6)

    def get_config(self):
        return {**super().get_config(), "class_weights": self.class_weights}


@register
class DiceLoss(losses.Loss):
    """1 minus the Dice coefficient, the mean of those of the classes that an image has: V-Net, arXiv:1606.04797,
    section 3, for each class as there for one.

    `labels [B, H, W], logits [B, H, W, K] -> [B]`. Labels are 0...K-1; pixels of label 255 do not count.
    """

    def call(self, labels, logits):
        target, counted = _one_hot(labels, logits)
        said = ops.softmax(logits, -1) * counted[..., None]
        common, squares = (ops.sum(values, (1, 2)) for values in (said * target, said**2 + target**2))
        there = ops.max(target, (1, 2))
        return _mean_over(1.0 - 2.0 * common / ops.maximum(squares, 1e-6), there)


def _one_hot(labels, logits):
    """`[B, H, W] -> [B, H, W, K]`, zeros where a label is ignored, and `[B, H, W]`, whether it counts."""
    labels = ops.cast(labels, "int32")
    counts = labels != IGNORED
    target = ops.one_hot(ops.where(counts, labels, 0), logits.shape[-1], dtype=logits.dtype)  # torch refuses 255
    counted = ops.cast(counts, logits.dtype)
    return target * counted[..., None], counted


@register
class HeatmapLoss(losses.Loss):
    """Mean square error against joints drawn as Gaussians, of the joints that are labelled. arXiv:1603.06937, sec. 3.1.

    `keypoints [B, J, 3], heat maps [B, h, w, J] -> [B]`. Keypoints are x, y in pixels of the network's input, and 0
    where not labelled: unlike in the authors' code, which wants an empty map of such a joint, it does not count. Hidden
    joints are drawn as others; of one beside the map as much of its Gaussian is wanted as reaches in.

    Args:
      stride: pixels of the input to a cell. sigma: deviation of the Gaussians, cells.
    """

    def __init__(self, stride, sigma=1.0, name="heatmap_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.stride, self.sigma = stride, sigma

    def call(self, keypoints, heatmaps):
        wanted = heatmap_ops.encode(keypoints, *heatmaps.shape[1:3], self.stride, self.sigma)
        return _mean_over(ops.mean((heatmaps - wanted) ** 2, (1, 2)), keypoints[..., 2] > 0)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride, "sigma": self.sigma}


@register
class YOLOLoss(losses.Loss):
    """Squared errors of YOLO's cells, their sum: `[B, S, S', 5], [B, S, S', 5N + K] -> [B]`. arXiv:1506.02640, eq. 3.

    Targets as of `models.detection.yolo.encode_targets`, predictions as `yolo.build` says. Of a cell with an object
    count its classes, and one of its boxes: that of the highest IoU with the object or, where none overlaps it, that
    of the least distance in (x, y, w, h) (authors' code); it answers for place and size, as roots, and with its
    confidence for that IoU. The confidence of every other box is to be 0. A cell of label -1 costs nothing.

    Args:
      boxes: N, of a cell. coordinates, no_object: the paper's lambda_coord and lambda_noobj.
    """

    def __init__(self, boxes=2, coordinates=5.0, no_object=0.5, name="yolo_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.boxes, self.coordinates, self.no_object = boxes, coordinates, no_object

    def call(self, targets, grid):
        (rows, columns, numbers), n = grid.shape[1:], self.boxes
        found = ops.reshape(grid[..., :5 * n], (-1, rows, columns, n, 5))
        label, goal = targets[..., 4], targets[..., None, :4]
        there = ops.cast(label > 0, grid.dtype)
        iou, distance = self._nearness(goal, found, (columns, rows))
        nearest = ops.where(ops.any(iou > 0, -1, keepdims=True), iou, -distance)
        responsible = there[..., None] * ops.one_hot(ops.argmax(nearest, -1), n, dtype=grid.dtype)
        goal = ops.concatenate([goal[..., :2], ops.sqrt(ops.maximum(goal[..., 2:], 0.0))], -1)
        cost = self.coordinates * ops.sum((goal - found[..., :4]) ** 2, -1) + (iou - found[..., 4]) ** 2
        others = ops.cast(label >= 0, grid.dtype)[..., None] - responsible
        cost = ops.sum(responsible * cost + self.no_object * others * found[..., 4] ** 2, -1)
        classes = ops.one_hot(ops.cast(label, "int32") - 1, numbers - 5 * n, dtype=grid.dtype)
        cost = cost + there * ops.sum((classes - grid[..., 5 * n:]) ** 2, -1)
        return ops.sum(cost, (1, 2))

    def _nearness(self, goal, found, cells):
        """IoU and squared distance of each box and the object, `[B, S, S', N]`, without gradient."""
        cells = ops.convert_to_tensor(cells, found.dtype)
        true = goal[..., :2] / cells, goal[..., 2:]
        own = found[..., :2] / cells, found[..., 2:4] ** 2
        iou = box_ops.iou(*(ops.concatenate([place - size / 2, place + size / 2], -1) for place, size in (own, true)))
        distance = sum(ops.sum((a - b) ** 2, -1) for a, b in zip(true, own))
        return ops.stop_gradient(iou[..., 0]), ops.stop_gradient(distance)

    def get_config(self):
        return {**super().get_config(), "boxes": self.boxes, "coordinates": self.coordinates,
                "no_object": self.no_object}


@register
class SquaredBoxLoss(losses.Loss):
    """Squared L2 distance of the objects' boxes, times a weight: `[B, N, 5], [B, N, 4] -> [B]`.

    The mean over the objects' rows; 0 of an image without. OverFeat, arXiv:1312.6229, section 4.2.
    """

    def __init__(self, weight=1.0, name="squared_box_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.weight = weight

    def call(self, targets, boxes):
        return self.weight * _mean_over(ops.sum((targets[..., :4] - boxes) ** 2, -1), targets[..., 4] > 0)

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}
