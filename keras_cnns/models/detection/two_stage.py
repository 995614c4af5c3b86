"""The one model class of the package: a network that computes its own targets."""

import keras


@keras.saving.register_keras_serializable("keras_cnns")
class TwoStageModel(keras.Model):
    """A functional model with outputs `{"predictions": {...}, "targets": {...}}`, equal keys in both.

    The second stage's targets depend on the first stage's proposals, so the graph makes them; `compute_loss`
    only hands them to the losses given to `compile`.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, y_pred["targets"], y_pred["predictions"], sample_weight, training)
