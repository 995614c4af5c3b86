"""Learning rates over steps, where Keras has none of the kind."""

from keras import ops, optimizers, saving


@saving.register_keras_serializable("keras_cnns")
class Drops(optimizers.schedules.LearningRateSchedule):
    """Rises in `warmup` steps, then falls to `factor` of itself at each of `drops` (steps).

    Args:
      start: the rate of all steps of the warm-up; None: it rises linearly from 0.
    """

    def __init__(self, learning_rate, drops, warmup, factor=0.1, start=None):
        self.learning_rate, self.drops, self.warmup = learning_rate, list(drops), warmup
        self.factor, self.start = factor, start

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = ops.cast(self.learning_rate, "float32")
        if self.warmup:
            early = rate * step / self.warmup if self.start is None else self.start
            rate = ops.where(step < self.warmup, early, rate)
        for drop in self.drops:
            rate = ops.where(step >= drop, self.factor * rate, rate)
        return rate

    def get_config(self):
        return {"learning_rate": self.learning_rate, "drops": self.drops, "warmup": self.warmup,
                "factor": self.factor, "start": self.start}
