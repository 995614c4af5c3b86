"""The model zoo: every name, and the file that builds it.

>>> list_models("resnet*0")
['resnet50']
>>> create_model("resnet50", num_classes=10)
"""

import fnmatch
import os

import keras

from keras_cnns.errors import InputError
from keras_cnns.models.classification import resnet
from keras_cnns.models.detection import faster_rcnn

# Each module holds TASK, PAPER, YEAR, VARIANTS (a dict keyed by model name) and build(name, ...).
MODULES = (resnet, faster_rcnn)
MODELS = {name: module for module in MODULES for name in module.VARIANTS}


def module_of(name):
    """The file of a model's paper; InputError if there is none."""
    if name not in MODELS:
        raise InputError(f"No model {name!r}. Known: {', '.join(sorted(MODELS))}.")
    return MODELS[name]


def list_models(pattern="*", task=None):
    """Names that match the shell pattern, of one task or of all, sorted."""
    return sorted(n for n in fnmatch.filter(MODELS, pattern) if task in (None, MODELS[n].TASK))


def create_model(name, input_shape=None, num_classes=..., weights=None, **options):
    """Builds a network by name.

    Args:
      name: one of `list_models()`.
      input_shape: `(height, width, channels)`; by default the paper's.
      num_classes: by default the paper's; None leaves a classifier headless.
      weights: None, or the path of a `.weights.h5` or `.keras` file of the same network.
      options: what the model's `build` takes besides.

    Returns:
      A `keras.Model`, float32 RGB pixels 0 to 255 in.
    """
    if num_classes is not ...:
        options["num_classes"] = num_classes
    network = module_of(name).build(name, input_shape=input_shape, **options)
    if weights is not None:
        load_weights(network, weights)
    return network


def load_weights(network, path):
    """Sets a network's weights from a `.weights.h5` file, or from a `.keras` file of the same network."""
    path = str(path)
    if not path.endswith((".keras", ".weights.h5")):
        raise InputError(f"weights={path!r}: give the path of a .weights.h5 or .keras file, or None.")
    if not os.path.isfile(path):
        raise InputError(f"weights={path!r}: no such file.")
    try:
        if path.endswith(".keras"):
            donor = keras.saving.load_model(path, compile=False)
            if donor.name != network.name:
                raise ValueError(f"they are {donor.name}'s")
            network.set_weights(donor.get_weights())
        else:
            network.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"weights={path!r} do not fit {network.name}: {str(error).splitlines()[0]}") from error


def detector(network, **decoding):
    """The inference graph of a detector's network: image `[B, H, W, 3]` -> boxes, scores, labels, count."""
    module = module_of(network.name)
    if not hasattr(module, "detector"):
        raise InputError(f"{network.name} is no detector. Detectors: {', '.join(list_models(task='detection'))}.")
    return module.detector(network, **decoding)
