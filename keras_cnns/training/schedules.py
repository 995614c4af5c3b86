"""Learning rates over steps, where Keras has none of the kind."""

from keras import ops, optimizers, saving


@saving.register_keras_serializable("keras_cnns")
class Drops(optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 in `warmup` steps, then falls to a tenth at each of `drops` (steps)."""

    def __init__(self, learning_rate, drops, warmup):
        self.learning_rate, self.drops, self.warmup = learning_rate, list(drops), warmup

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = self.learning_rate * ops.minimum(step / max(self.warmup, 1), 1.0)
        for drop in self.drops:
            rate = ops.where(step >= drop, 0.1 * rate, rate)
        return rate

    def get_config(self):
        return {"learning_rate": self.learning_rate, "drops": self.drops, "warmup": self.warmup}
