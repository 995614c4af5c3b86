"""The one model class of the package: a network that computes its own targets."""

import keras
from keras import layers


@keras.saving.register_keras_serializable("keras_cnns")
class TwoStageModel(keras.Model):
    """A functional model with outputs `{"predictions": {...}, "targets": {...}}`, equal keys in both.

    The second stage's targets depend on the first stage's proposals, so the graph makes them; `compute_loss`
    only hands them to the losses given to `compile`.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, y_pred["targets"], y_pred["predictions"], sample_weight, training)


def network(inputs, predictions, targets, name):
    """The training network of a graph; its predictions are float32 under every dtype policy."""
    predictions = {key: layers.Activation("linear", dtype="float32", name=key)(x) for key, x in predictions.items()}
    return TwoStageModel(inputs, {"predictions": predictions, "targets": targets}, name=name)
