"""Losses. Each maps (targets, predictions) to one value an image, `[B]`.

Keras then averages over images and replicas; a loss that returned a scalar would be multiplied by the number
of replicas under MirroredStrategy. A detector's targets are the rows `(t_x, t_y, t_w, t_h, label)` of
`ops.targets`; rows with label -1 do not count.
"""

from keras import losses, ops, saving

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
