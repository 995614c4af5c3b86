"""Every tensor of a donor once, into every variable of a network once; or not at all."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_cnns.errors import InputError
from keras_cnns.models import info
from keras_cnns.weights import caffe, detectors, files, mask_rcnn, names, segmentation, ssd

STATE_DICTS = (names.STATE_DICTS | detectors.STATE_DICTS | mask_rcnn.STATE_DICTS | segmentation.STATE_DICTS
               | ssd.STATE_DICTS)
TORCH_PARTS = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
               "moving_variance": "running_var", "scale": "scale_weight"}


class Report(NamedTuple):
    """What `transfer` did. Names of tensors are the donor's, of variables the network's."""

    carried: tuple[str, ...]   # tensors that the network now holds
    left_out: tuple[str, ...]  # tensors of classifiers that the network lacks or has of its own
    kept: tuple[str, ...]      # variables of the network's own classifier, which stay as they were
    notes: tuple[str, ...]     # why answers may differ from the donor's all the same


def transfer(network, donor, new_head=False):
    """Sets a network's weights to a donor's, so that both answer the same to the same picture.

    The donor is taken to have been fed as its authors say: keras.applications VGG and ResNet with BGR pixels less
    (123.68, 116.779, 103.939), its Inceptions and MobileNet with pixels of -1 to 1, its DenseNet and all of torchvision
    with ImageNet's mean and deviation (of which GoogLeNet and Inception v3 as released make -1 to 1 themselves). The
    first kernel takes up the order of the channels and the deviation, exactly. The mean it cannot, since zeros are
    padded after it is subtracted: if the network's layer "normalize" has another, `notes` says how far it is (Keras'
    VGG and ResNet: half a grey value).

    A network of one channel gets the sum of the first kernel over R, G and B, so a grey picture is answered like the
    same in RGB, if the three means are equal; `notes` says if not. Of more than three channels, the first are R, G and
    B, and the others get zeros.

    A convolution's bias before batch norm, where the network has none, moves into the mean; gamma, where the donor has
    none, is 1; another epsilon moves into the variance. `num_batches_tracked` is not used.

    Args:
      network: of `create_model`; changed in place.
      donor: a `keras.applications` model; a state dict of torchvision or timm, name -> array or CPU tensor; or what
        `read` gives of a file.
      new_head: True leaves the network's layers of classes, and those of an auxiliary classifier, as they are; None
        does if the donor has another number of classes, which False refuses. What a headless network
        (`num_classes=None`) lacks is left out in any case.

    Returns:
      a `Report`.

    Raises:
      InputError: tensors are missing, left over or of another shape, or no donor of this kind answers as the network
        does. Then nothing has been changed.
    """
    source = _Donor(donor, network)
    new_head = source.other_classes(network) if new_head is None else new_head
    own = [layer for layer in leaves(network) if layer.weights]
    kept = [layer for layer in own if new_head and layer.name in source.family.classifiers]
    left_out = source.left_out({layer.name for layer in own if layer not in kept})
    def value_of(layer, variable):
        tensors = source.tensors_of(layer.name, variable.name)
        return source.value(network, layer, variable.name, [np.asarray(source.tensors[name]) for name in tensors])

    used, missing, shapes = set(), [], []
    targets = [(layer, variable) for layer in own if layer not in kept for variable in layer.weights]
    for layer, variable in targets:
        tensors = source.tensors_of(layer.name, variable.name)
        used.update(tensors)
        if lost := [name for name in tensors if name not in source.tensors]:
            missing += lost
            continue
        try:
            shape = value_of(layer, variable).shape
        except (ValueError, IndexError):  # of too few dimensions, or of other sizes
            shape = None
        if shape != tuple(variable.shape):
            given = ", ".join(f"{name} {source.tensors[name].shape}" for name in tensors)
            shapes.append(f"{given} for {layer.name}/{variable.name} {tuple(variable.shape)}")
    over = [name for name in source.tensors if name not in used and name not in left_out]
    wrong = [f"{what}: {', '.join(found[:12])}" + (f" and {len(found) - 12} more" if len(found) > 12 else "")
             for what, found in {"missing": missing, "left over": over,
                                 "wrong shape, kernels as Keras has them": shapes}.items() if found]
    if wrong:
        raise InputError(f"This donor does not fit {network.name}; nothing was changed. {'; '.join(wrong)}.")
    for layer, variable in targets:  # made again, one by one: together they would take as much memory as it
        variable.assign(value_of(layer, variable))
    return Report(tuple(name for name in source.tensors if name in used), tuple(left_out),
                  tuple(f"{layer.name}/{v.name}" for layer in kept for v in layer.weights), source.notes)


def leaves(network):
    """The layers of a network and of the networks within it, in order."""
    for layer in network.layers:
        yield from leaves(layer) if isinstance(layer, keras.Model) else (layer,)


def leaf(network, name):
    """The first of them of that name."""
    return next(layer for layer in leaves(network) if layer.name == name)


def family(donor, name):
    """The `names.Family` of a donor whose weights answer as the network of that name; InputError if there is none."""
    if isinstance(donor, (keras.Model, files.KerasFile)):
        kind, families = "keras.applications model", names.KERAS
    elif isinstance(donor, caffe.Donor):
        kind, families = "Caffe file", caffe.FAMILIES
    elif isinstance(donor, Mapping):
        kind, families = "state dict", STATE_DICTS
    else:
        raise InputError(f"donor is a {type(donor).__name__}: give a keras.applications model, a state dict, "
                         "{name: array}, or what keras_cnns.weights.read gives of a file.")
    if name not in families:
        raise InputError(f"No {kind} known answers as {name} does; there are such for {', '.join(families)}.")
    return families[name]


class _Donor:
    """Its `tensors` by name, kernels as Keras has them; and what they are called and do in a network of ours."""

    def __init__(self, donor, network):
        self.keras = isinstance(donor, (keras.Model, files.KerasFile))
        self.family = family(donor, network.name)
        if isinstance(donor, files.KerasFile):
            self.layers, self.tensors = _of_file(donor, self.family)
        elif self.keras:
            self.layers = {layer.name: layer for layer in donor.layers}
            self.tensors = {f"{name}/{v.name}": v.numpy() for name, layer in self.layers.items() for v in layer.weights}
        else:
            changed = caffe.as_ours(network.name, donor) if isinstance(donor, caffe.Donor) else donor
            self.layers, self.tensors = {}, dict(_of_torch(changed))
        self.table = self.family.table
        if callable(self.table):
            self.table = self.table(network.name, {re.split(r"/|\.\w+$", name)[0] for name in self.tensors})
        self.mixing, self.notes = _mixing(network, self.family.fed)

    def tensor(self, layer, part=""):
        """The name of a variable of our layer."""
        where = names.find(self.table, layer)
        return f"{where}/{part}" if self.keras else f"{where}.{TORCH_PARTS.get(part, part)}"

    def left_out(self, ours):
        """Names of what is in a head, but not among `ours`."""
        absent = tuple(self.tensor(layer) for layer in self.family.head if layer not in ours)
        return [name for name in self.tensors if name.startswith(absent + self.family.dropped)]

    def other_classes(self, network):
        """Whether its layers of classes are of another number than the network's."""
        biases = ((self.tensors.get(self.tensor(layer.name, "bias")), layer.bias) for layer in leaves(network)
                  if layer.name in self.family.classifiers)
        return any(theirs is not None and theirs.shape != tuple(ours.shape) for theirs, ours in biases)

    def tensors_of(self, layer, part):
        """Names of what makes a variable of our layer."""
        if part == "gamma" and not self.family.gamma:
            return []
        if part == "moving_mean" and self.family.conv_bias:
            return [self.tensor(layer, part), self.tensor(f"{layer.removesuffix('_bn')}_conv", "bias")]
        return [self.tensor(layer, part)]

    def value(self, network, layer, part, tensors):
        """Makes it."""
        if not tensors:
            return np.ones(layer.gamma.shape, "float32")
        value, *bias = tensors
        if part == "moving_mean" and bias:
            return value - bias[0]
        if part == "moving_variance" and self.keras:
            epsilon = np.float64(self.layers[names.find(self.table, layer.name)].epsilon)
            return (value + (epsilon - layer.epsilon)).astype("float32")
        if part != "kernel":
            return value
        if layer.name == "fc6" and not self.keras and value.ndim == 2:  # rows count channels first, then cells
            height, width, channels = leaf(network, "flatten").input.shape[-3:]
            value = value.reshape(channels, height, width, -1).transpose(1, 2, 0, 3)
        if isinstance(layer, keras.layers.Dense):  # of others, a convolution over all cells
            return value.reshape(-1, value.shape[-1])
        first = layer is next(layer for layer in leaves(network) if layer.weights)
        return np.einsum("hwco,nc->hwno", value, self.mixing).astype("float32") if first else value


def _of_file(donor, family):
    """Layers by name, and tensors. A file's layers go by their order, as Keras itself reads them."""
    make = getattr(keras.applications, family.maker)
    classes = donor.layers[-1][1][-1].shape[0]  # if the last layer is one of classes
    for head in ({"classes": classes}, {"include_top": False}):
        model = info.weightless(lambda: make(weights=None, **head, **family.options))
        layers = {layer.name: layer for layer in model.layers if layer.weights}
        if len(layers) == len(donor.layers):
            break
    tensors = {}
    for (name, layer), (_, found) in zip(layers.items(), donor.layers):
        tensors.update((f"{name}/{v.name}", value) for v, value in zip(layer.weights, found))
    if len(layers) != len(donor.layers):
        raise InputError(f"{donor.path}: {len(donor.layers)} layers with weights, {family.maker} has {len(layers)}.")
    return layers, tensors


def _of_torch(donor):
    for name, value in donor.items():
        # torchvision's files of DenseNet are from a time when names of modules could hold dots.
        today = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", str(name))
        try:
            value = np.asarray(value, "float32")
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"donor[{name!r}] is a {type(value).__name__} and gives no array of numbers: give a state "
                             "dict, {name: array}, its tensors on the CPU.") from error
        if not today.endswith(".num_batches_tracked"):
            yield name if today in donor else today, value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _mixing(network, fed):
    """How much of each of the donor's inputs each of the network's is, `[channels, 3]`; and notes of the means."""
    config = leaf(network, "normalize").get_config()
    mean, deviation = np.ravel(config["mean"]), np.sqrt(np.ravel(config["variance"]))
    if len(mean) == 2:
        raise InputError(f"{network.name} has 2 input channels; known are 1 (grey), 3 (RGB), and more (RGB first).")
    which = np.ones((1, 3)) if len(mean) == 1 else np.eye(len(mean), 3)
    shift = np.abs(which * (mean[:, None] - fed.mean)).max()
    notes = (f"From the donor's pixels (R, G, B) {fed.mean} are subtracted, from the network's {tuple(mean.tolist())}: "
             f"up to {shift:.3f} grey values apart.",) if shift > 1e-3 else ()
    mixing = which * deviation[:, None] / np.sqrt(fed.variance)
    return mixing[:, ::-1] if fed.bgr else mixing, notes
