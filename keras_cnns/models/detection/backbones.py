"""Classifiers of the zoo as backbones of other networks, by the names of their layers.

Which layers, where none are named: after Speed/accuracy trade-offs for modern convolutional object detectors (Huang et
al., CVPR 2017, arXiv:1611.10012, section 3), which calls inception_4d "Mixed_4e", inception_4b "Mixed_4c" and
inception_5b "Mixed_5c"; of what it has not, such as DenseNet, the last of stride 16 and of stride 32.
"""

import difflib
import fnmatch
from typing import NamedTuple

from keras import layers

from keras_cnns import models
from keras_cnns.errors import InputError


class Layers(NamedTuple):
    two_stage: tuple  # the one map, of stride 16, on which regions are proposed and pooled
    ssd: tuple        # maps, fine to coarse, beyond which extra layers go on


DEFAULTS = {  # patterns of names
    "vgg16": Layers(("conv5_3_relu",), ("conv4_3_norm", "fc7")),
    "resnet*": Layers(("conv4_x",), ("conv4_x", "conv5_x")),
    "resnext*": Layers(("conv4_x",), ("conv4_x", "conv5_x")),
    "inception_v2": Layers(("inception_4d",), ("inception_4b", "inception_5b")),
    "inception_v3": Layers(("mixed_6e",), ("mixed_6e", "mixed_7c")),
    "inception_resnet_v2": Layers(("inception_b_20",), ("inception_b_20", "conv_7b_relu")),
    "mobilenet_v1*": Layers(("conv11_pw_relu",), ("conv11_pw_relu", "conv13_pw_relu")),
    "densenet*": Layers(("dense_block3",), ("dense_block3", "post_relu")),
}


def default_features(backbone):
    """The `Layers` of a classifier; InputError of one that is not in the table, or none."""
    models.module_of(backbone)
    for pattern, names in DEFAULTS.items():
        if fnmatch.fnmatchcase(str(backbone), pattern):
            return names
    raise InputError(f"backbone={backbone!r}: name its layers that are maps, by features=; they are known of "
                     f"{', '.join(DEFAULTS)}.")


def named(backbone, features, default):
    """Names of features as a tuple, by default those of the field `default` of the backbone's `Layers`."""
    if features is None:
        return getattr(default_features(backbone), default)
    return (features,) if isinstance(features, str) else tuple(features)


def trunk(name, input_shape=(None, None, 3)):
    """A classifier of the zoo without its classes."""
    module = models.module_of(name)
    if module.TASK != "classification":
        raise InputError(f"backbone={name!r}: is for {module.TASK}; give a classifier, of which "
                         "`keras-cnns models` names those there are.")
    return module.build(name, input_shape=input_shape, num_classes=None)


INNER = (layers.Conv2D, layers.DepthwiseConv2D, layers.BatchNormalization, layers.Normalization, layers.ZeroPadding2D)


def features(trunk, names, of):
    """The maps that layers of a trunk make; InputError, with the layers that make any, if one does not."""
    if not names:
        raise InputError(f"features={names!r}: name a layer of {of} that makes a map, or several.")
    made = {layer.name: layer.output for layer in trunk.layers[1:] if len(getattr(layer.output, "shape", ())) == 4}
    for name in names:
        if name not in made:
            useful = [other for other in made if not isinstance(trunk.get_layer(other), INNER)]
            useful.sort(key=lambda other: -difflib.SequenceMatcher(None, str(name), other).ratio())
            raise InputError(f"features={names}: {of} has no layer {name!r} that makes a map. Beside convolutions and "
                             f"batch norm, the nearest first, these do: {', '.join(useful)}.")
    return [made[name] for name in names]
