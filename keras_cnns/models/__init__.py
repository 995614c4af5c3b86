"""The model zoo: every name, and the file that builds it.

>>> list_models("resnet5*")
['resnet50', 'resnet50_v1_5', 'resnet50_v2', 'resnet56_cifar']
>>> create_model("resnet50", num_classes=10)
"""

import difflib
import fnmatch
import os

import keras

from keras_cnns.errors import InputError
from keras_cnns.models import info
from keras_cnns.models.classification import (
    alexnet, densenet, googlenet, inception_v2, inception_v3, inception_v4, lenet, mobilenet, nin, odenet, resnet,
    resnet_v2, resnext, sppnet, stochastic_depth, vgg, zfnet)
from keras_cnns.models.detection import fast_rcnn, faster_rcnn, localizer, mask_rcnn, rcnn, rfcn, ssd, yolo
from keras_cnns.models.detection import sppnet as sppnet_detector
from keras_cnns.models.keypoints import hourglass
from keras_cnns.models.segmentation import deconvnet, enet, fcn, multiscale, recurrent, unet

# Each module holds TASK, PAPER, YEAR, VARIANTS (a dict keyed by model name), PUBLISHED (accuracies and their sources by
# name) and build(name, ...).
MODULES = (
    lenet, alexnet, zfnet, nin, vgg, googlenet, inception_v2, inception_v3, inception_v4, resnet, resnet_v2, resnext,
    densenet, mobilenet, stochastic_depth, sppnet, odenet, localizer, rcnn, sppnet_detector, fast_rcnn, faster_rcnn,
    rfcn, mask_rcnn, ssd, yolo, fcn, deconvnet, unet, enet, multiscale, recurrent, hourglass)
MODELS = {name: module for module in MODULES for name in module.VARIANTS}


def module_of(name):
    """The file of a model's paper; InputError with the nearest names if there is none."""
    if name not in MODELS:
        near = difflib.get_close_matches(str(name), MODELS, 6)
        raise InputError(f"No model {name!r}. " + (f"Did you mean {', '.join(near)}? " if near else "")
                         + f"There are {len(MODELS)}: keras_cnns.list_models() or `keras-cnns models` names them.")
    return MODELS[name]


def list_models(pattern="*", task=None):
    """Names that match the shell pattern, of one task or of all, sorted."""
    return sorted(n for n in fnmatch.filter(MODELS, pattern) if task in (None, MODELS[n].TASK))


def model_info(name):
    """What is known of a model, counted from its graph in the paper's form: a `models.info.ModelInfo`.

    Takes no memory for weights. A detector's multiply-adds are those of its inference graph.
    """
    module = module_of(name)

    def counted():
        network = module.build(name)
        trainable, everything = info.parameters(network)
        served = module.detector(network) if hasattr(module, "detector") else network
        image = served.input["image"] if isinstance(served.input, dict) else served.input
        return image.shape[1:], everything, trainable, *info.cost(served)

    return info.ModelInfo(name, module.TASK, module.PAPER, module.YEAR, *info.weightless(counted),
                          module.PUBLISHED.get(name))


def create_model(name, input_shape=None, num_classes=..., weights=None, dtype_policy=None, **options):
    """Builds a network by name.

    Args:
      name: one of `list_models()`.
      input_shape: `(height, width, channels)`; by default the paper's.
      num_classes: by default the paper's; None leaves a classifier headless.
      weights: None, or the path of a `.weights.h5` or `.keras` file of the same network; of an FCN also a `.keras` file
        of `vgg16` or a coarser one.
      dtype_policy: of its layers, such as "mixed_float16"; by default Keras' global one. Answers are float32.
      options: what the model's `build` takes besides.

    Returns:
      A `keras.Model`, float32 RGB pixels 0 to 255 in.
    """
    build = module_of(name).build
    if num_classes is not ...:
        if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 1):
            raise InputError(f"num_classes={num_classes!r}: give a whole number from 1, or None for no classifier.")
        options["num_classes"] = num_classes
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(dtype_policy or policy)
        network = build(name, input_shape=input_shape, **options)
    finally:
        keras.config.set_dtype_policy(policy)
    if weights is not None:
        load_weights(network, weights)
    return network


def load_weights(network, path):
    """Sets a network's weights from a `.weights.h5` file, or from a `.keras` file of the same network, or of one that
    it begins with."""
    path = str(path)
    if not path.endswith((".keras", ".weights.h5")):
        raise InputError(f"weights={path!r}: give the path of a .weights.h5 or .keras file, or None.")
    if not os.path.isfile(path):
        raise InputError(f"weights={path!r}: no such file.")
    try:
        if path.endswith(".keras"):
            donor = keras.saving.load_model(path, compile=False)
            begin_with = getattr(module_of(network.name), "begin_with", None)  # of the next coarser FCN, for one
            if donor.name == network.name:
                network.set_weights(donor.get_weights())
            elif begin_with:
                begin_with(network, donor)
            else:
                raise ValueError(f"they are {donor.name}'s")
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


def stretched(detector):
    """Whether a detector's graph is shown images stretched to its size, as its authors do, and not letterboxed."""
    return getattr(MODELS.get(detector.name.removesuffix("_detector")), "STRETCHED", False)
