"""Networks with the weights that others have trained."""

import functools
import math
import pathlib

import keras
import numpy as np

from keras_cnns import models
from keras_cnns.models import info
from keras_cnns.models.detection import ssd
from keras_cnns.weights import carry, files, releases

EPSILON = 1e-5  # of our batch norms in ResNet


def create_model(name, input_shape=None, num_classes=..., weights=None, dtype_policy=None, **options):
    """Builds a network by name, with the weights that its authors or others released.

    Args:
      name: one of `list_models()`.
      input_shape: `(height, width, channels)`; by default the paper's. Of one channel, the network sees grey what its
        authors saw in colour; of four or more, the first three are R, G and B, the others count for nothing yet.
      num_classes: by default the release's, or the paper's; None leaves a classifier headless. If the weights are of
        another number of classes, the layers of classes stay as they were made, to be trained.
      weights: None; the name of a release (`model_info(name).weights`), such as "imagenet", whose file is fetched
        (`releases.fetch`); of a detector also one of its backbone's, which the rest is trained on; the path of a file
        as its authors gave it (`files.SUFFIXES`); or the path of a `.weights.h5` or `.keras` file of this network.
      dtype_policy: of its layers, such as "mixed_float16"; by default Keras' global one. Answers are float32.
      options: what the model's `build` takes besides.

    Returns:
      A `keras.Model`, float32 RGB pixels 0 to 255 in, which does with them what the donor's authors did.

    Raises:
      InputError: an unknown name or release, a file that is missing, damaged, or not of this network.
    """
    path = pathlib.Path(weights or "")
    if weights is None or path.name.endswith((".keras", ".weights.h5")):
        return models.create_model(name, input_shape, num_classes, weights, dtype_policy, **options)
    models.module_of(name)  # before anything is fetched
    build = functools.partial(models.create_model, name, input_shape, dtype_policy=dtype_policy, **options)
    backbone = options.get("backbone") or backbone_of(name)
    if weights in _names(backbone) and weights not in _names(name):
        network = build(num_classes=num_classes)
        _take(network, create_model(backbone, weights=weights))
        return network
    chosen = num_classes
    if path.suffix in files.SUFFIXES:
        donor = files.read(path)
    else:
        release = releases.find(name, weights)
        donor = files.read(releases.fetch(release))
        chosen = len(releases.class_names(release)) if num_classes is ... else num_classes
        if release.exact_norm:
            donor = {key: np.asarray(value) - EPSILON if key.endswith(".running_var") else value
                     for key, value in donor.items()}
    network = _fed(carry.family(donor, name).fed, lambda: build(num_classes=chosen))
    carry.transfer(network, donor, new_head=False if num_classes in (..., None) else None)
    return network


def _fed(fed, build):
    """The network that `build` makes; if the donor's authors subtracted Caffe's mean, with that in "normalize". What is
    divided by stays: the first kernel takes up the rest. Detectors have their authors' mean already."""
    template = info.weightless(build) if fed.bgr else None
    normalize = template and next((layer for layer in template.layers if layer.name == "normalize"), None)
    if normalize is None:
        return build()
    config = normalize.get_config()
    own = np.ravel(config["mean"]).tolist()
    if len(own) == 1:  # grey
        return build()
    fresh = type(normalize).from_config({**config, "mean": [*fed.mean, *own[3:]]})
    return keras.models.clone_model(template, clone_function=lambda layer: fresh if layer is normalize else
                                    type(layer).from_config(layer.get_config()))


def backbone_of(name):
    """The classifier that a detector or segmenter begins with, by its name in the zoo; None of others."""
    row = models.module_of(name).VARIANTS[name]
    base = getattr(row, "base", row)  # another model's row, or its name
    if isinstance(base, str):
        return backbone_of(base)
    backbone = getattr(base, "backbone", None)
    return backbone if backbone in models.MODELS else None


def _names(name):
    return tuple(release.name for release in releases.RELEASES.get(name, ()))


def _take(network, classifier):
    """Gives the layers that a network shares with a classifier, by name and shapes, its weights; and SSD's fc6 and fc7
    their part of VGG-16's."""
    theirs = {layer.name: layer.get_weights() for layer in classifier.layers}
    if models.module_of(network.name) is ssd and classifier.name == "vgg16":
        theirs |= {name: ssd.reduced(name, theirs[name]) for name in ("fc6", "fc7")}
    for layer in carry.leaves(network):
        values, shapes = theirs.get(layer.name, ()), [tuple(variable.shape) for variable in layer.weights]
        if values and shapes and values[0].size == math.prod(shapes[0]):
            values[0] = values[0].reshape(shapes[0])  # rows of a fully connected layer, where it is a convolution now
        if [value.shape for value in values] == shapes:
            layer.set_weights(values)


def model_info(name):
    """What is known of a model: `models.model_info`, and the names of its released weights."""
    return models.model_info(name)._replace(weights=_names(name))
