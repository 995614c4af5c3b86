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
    """Smooth L1 on objects, averaged over all sampled rows. Fast R-CNN, eq. 2-3.

    `[B, N, 5], offsets [B, N, 4] -> [B]`, or offsets `[B, N, K, 4]`, one box a class, of which the true
    class's is taken.

    Args:
      beta: error at which the square becomes a line; 1 in Fast R-CNN, 1/9 in the RPN of its authors' code.
    """

    def __init__(self, beta=1.0, name="box_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.beta = beta

    def call(self, targets, offsets):
        goal, label = targets[..., :4], targets[..., 4]
        if len(offsets.shape) == 4:
            chosen = ops.one_hot(ops.cast(label, "int32") - 1, offsets.shape[2], dtype=offsets.dtype)
            offsets = ops.sum(offsets * chosen[..., None], axis=2)
        error = ops.abs(goal - offsets)
        loss = ops.where(error < self.beta, 0.5 * error**2 / self.beta, error - 0.5 * self.beta)
        return _mean_over(ops.where(label > 0, ops.sum(loss, -1), 0.0), label >= 0)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


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
