"""A classifier's training on its logits, and its answers for samples.

The network ends in the layer "predictions" and, for training, "aux1" and "aux2": activations, whose inputs are the
logits. The losses are computed from these, since of a saturated softmax there is no gradient left.
"""

import keras
import numpy as np
import rich.console
import rich.progress
from keras import ops

from keras_cnns import models
from keras_cnns.data import augment, labelled, views
from keras_cnns.errors import InputError
from keras_cnns.metrics import classification as metrics

VIEWS = (1, 10)


class ClassEntropy(keras.losses.Loss):
    """Cross-entropy of one class an image: labels `[B]`, logits `[B, K] -> [B]`.

    Args:
      smoothing: the share of the target that all classes divide among them. Inception-v3, arXiv:1512.00567, section 7.
    """

    def __init__(self, smoothing=0.0, name="class_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, labels, logits):
        classes = logits.shape[-1]
        target = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), classes, dtype=logits.dtype)
        target = (1.0 - self.smoothing) * target + self.smoothing / classes
        return ops.categorical_crossentropy(target, logits, from_logits=True)


class PresenceEntropy(keras.losses.Loss):
    """Binary cross-entropy of several classes an image: present `[B, K]`, logits `[B, K] -> [B]`.

    The mean over the classes that are there, 1, or not, -1; those that are 0 do not count.
    """

    def call(self, present, logits):
        told = ops.cast(present != 0, logits.dtype)
        loss = ops.binary_crossentropy(ops.cast(present > 0, logits.dtype), logits, from_logits=True)
        return ops.sum(told * loss, -1) / ops.maximum(ops.sum(told, -1), 1.0)


def options(name, samples):
    """What `create_model` takes besides: several classes in an image ask for sigmoids.

    Raises:
      InputError: samples that tell no class, or several of an image where the network's own loss knows but one.
    """
    if any(s.label is None and s.present is None for s in samples):
        raise InputError(f"{samples[0].name}: has neither label nor present; read the data as classification data.")
    if samples[0].label is not None:
        return {}
    if _own_losses(name):
        raise InputError(f"{name}: is trained by its paper's own loss, for one class an image; choose another network "
                         "for data with several.")
    return {"classifier_activation": "sigmoid"}


def compiled(network, optimizer, recipe, samples):
    """The network's logits by name, compiled with their losses: what `fit` trains. It shares the network's weights.

    Raises:
      InputError: an input of no fixed size, or of as many channels as no image; samples of other classes.
    """
    _shape(network)
    names = _outputs(network)
    several = samples[0].label is None
    classes = network.get_layer("predictions").output.shape[-1]
    for s in samples:
        if len(s.present) != classes if several else not 0 <= s.label < classes:
            raise InputError(f"{s.name}: {f'{len(s.present)} classes' if several else f'class {s.label}, from 0'}, but "
                             f"class_names has {classes}; give the names of the data.")
    losses = _own_losses(network.name) or (PresenceEntropy() if several else ClassEntropy(recipe.smoothing))
    logits = keras.Model(network.input, {name: network.get_layer(name).input for name in names}, name=network.name)
    logits.compile(
        optimizer, losses if isinstance(losses, dict) else dict.fromkeys(names, losses),
        {name: 1.0 if name == "predictions" else recipe.aux for name in names},
        {} if several else {"predictions": keras.metrics.SparseCategoricalAccuracy("accuracy")})
    return logits


def elements(network, samples, recipe, seed, first_step):
    """What `fit` is given: image, and the targets of each output."""
    colour = getattr(augment, recipe.colour) if recipe.colour else None
    found = labelled.training(samples, _shape(network), recipe.batch, recipe.epochs, seed, first_step,
                              getattr(views, recipe.view), colour)
    names = _outputs(network)
    return found.map(lambda image, target: (image, dict.fromkeys(names, target)))


def evaluation(network, samples, batch):
    """A function that gives what is logged of an epoch: "top1" and "top5", or "mAP" of several classes an image."""
    graph = keras.Model(network.input, _answer(network))  # without what is only for training

    def numbers():
        result = evaluate(graph, samples, batch, progress=False)
        if isinstance(result, metrics.Accuracy):
            return {"top1": result.top1, "top5": result.top5}
        return {"mAP": result.mean}

    return numbers


def evaluate(network, samples, batch=32, views=1, progress=True, resize=None):
    """How right a classifier is.

    Args:
      network: as `create_model` or `load_model` gives it. samples: all with `label` or all with `present`.
      views, resize: of each image, as of `data.labelled.views_of`; 1 view or 10.

    Returns:
      `metrics.classification.Accuracy`; or of samples with `present` a `metrics.detection.VOCResult`.

    Raises:
      InputError: no samples, a number of views that is none, samples of more classes than the network's.
    """
    if not samples:
        raise InputError("No samples to evaluate on; name a data set or a split that has some.")
    scores = predict(network, samples, batch, views, progress, resize)
    if samples[0].label is None:
        present = np.stack([s.present for s in samples])
        _same_classes(present.shape[1], scores)
        return metrics.average_precision(scores, present)
    labels = np.array([s.label for s in samples])
    if labels.max() >= scores.shape[1]:
        _same_classes(labels.max() + 1, scores)
    return metrics.accuracy(scores, labels)


def predict(network, samples, batch=32, views=1, progress=True, resize=None):
    """A classifier's answers, `[N, K]`, in the order of the samples; of several views of an image their average."""
    if views not in VIEWS:
        raise InputError(f"No testing with {views} views. Known: {', '.join(map(str, VIEWS))}.")
    graph, shape = network, _shape(network)
    if isinstance(network.output, dict):
        graph = keras.Model(network.input, _answer(network))
    found = []
    for crops in rich.progress.track(
            labelled.views_of(samples, shape, -(-batch // views), views, resize), "Classifying",
            total=-(-len(samples) // -(-batch // views)), transient=True, disable=not progress,
            console=rich.console.Console(stderr=True)):
        crops = np.asarray(crops)
        answer = np.asarray(graph.predict_on_batch(crops.reshape(-1, *shape)))
        found.append(answer.reshape(len(crops), views, -1).mean(1))
    return np.concatenate(found)


def _own_losses(name):
    """What a model's file says of its losses, or None: cross-entropy."""
    return getattr(models.module_of(name), "losses", lambda name: None)(name)


def _same_classes(count, scores):
    if count != scores.shape[1]:
        raise InputError(f"The data have {count} classes, the network {scores.shape[1]}; name data of its classes.")


def _outputs(network):
    """Names of the layers that end it: "predictions" and perhaps auxiliary ones."""
    return list(network.output) if isinstance(network.output, dict) else ["predictions"]


def _answer(network):
    return network.output["predictions"] if isinstance(network.output, dict) else network.output


def _shape(network):
    """`(height, width, channels)` of its input."""
    shape = network.input_shape[1:]
    if None in shape or shape[-1] not in (1, 3):
        raise InputError(f"{network.name}: its input is {shape}; images need a fixed size and 1 or 3 channels, such as "
                         "input_shape=(224, 224, 3) (--input-size 224).")
    return shape
