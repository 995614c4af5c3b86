"""Other people's weights as one file of ours: python tools/convert_weights.py DONOR MODEL OUT

DONOR is a release of MODEL, such as imagenet, or the path of a file (.h5, .pth, .safetensors, .caffemodel); OUT a
.keras or .weights.h5 file. Prints how far ours is from its donor, stage by stage, on a fixed image: the largest
difference of an activation, to the largest activation. For this the donor itself is run, so it is left out of Caffe's
files, of detectors, and of torchvision's networks where torchvision is not installed.
"""

import argparse
import os
import pathlib
import sys

import keras
import numpy as np
import rich.console
import rich.table

from keras_cnns import models, weights
from keras_cnns.errors import InputError
from keras_cnns.models import info
from keras_cnns.weights import carry, files, names, releases


def compared(network, family, donor):
    """Our layers that a donor's one answers for: of a convolution with batch norm that, as it may take up a bias."""
    table = family.table
    if callable(table):
        table = table(network.name, donor)
    layers = {layer.name: layer for layer in network.layers if layer.weights}
    return {name: names.find(table, name) for name in layers
            if name.removesuffix("_conv") + "_bn" not in layers or name.endswith("_bn")}


def of_keras(file, family, network, image):
    """Activations by layer of a model of keras.applications."""
    classes = network.get_layer("predictions").output.shape[-1]
    donor = getattr(keras.applications, family.maker)(
        weights=None, classifier_activation=None, input_shape=image.shape[1:], classes=classes, **family.options)
    donor.load_weights(file)
    x = (image - family.fed.mean) / np.sqrt(family.fed.variance)
    pairs = compared(network, family, [layer.name for layer in donor.layers])
    outputs = {name: donor.get_layer(theirs).output for name, theirs in pairs.items()}
    return {name: np.array(x) for name, x in keras.Model(donor.input, outputs)(
        (x[..., ::-1] if family.fed.bgr else x).astype("float32")).items()}


def of_torchvision(state, family, network, image):
    """Activations by layer of a model of torchvision."""
    import torch
    import torchvision

    donor = torchvision.models.get_model(family.maker, weights=None, **family.options).eval()
    donor.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    modules, found = dict(donor.named_modules()), {}
    for name, theirs in compared(network, family, [*modules]).items():
        modules[theirs].register_forward_hook(lambda module, given, x, name=name: found.update({name: x.clone()}))
    mean, deviation = np.array(names.TORCH.mean), np.sqrt(names.TORCH.variance)
    with torch.no_grad():
        donor(torch.tensor(((image - mean) / deviation).transpose(0, 3, 1, 2).astype("float32")))
    return {name: (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy() for name, x in found.items()}


def stage(name):
    """A layer's name up to its first number: "conv3" of "conv3_2_1_bn", "mixed_5b" of "mixed_5b_1x1"."""
    parts = name.split("_")
    return "_".join(parts[:1 + next((i for i, part in enumerate(parts) if any(map(str.isdigit, part))), len(parts))])


def report(network, donors):
    """A table of differences by stage."""
    ours = keras.Model(network.input, {name: network.get_layer(name).output for name in donors})
    image = np.random.default_rng(0).uniform(0, 255, (1, *network.input_shape[1:])).astype("float32")
    table = rich.table.Table("stage", "layers", "largest difference", title=f"{network.name}, {image.shape[1:]}, noise")
    found = {}
    for name, x in ours(image).items():
        x, theirs = np.array(x), donors[name]
        if 0 in (x.min(), theirs.min()):  # one of the two has its ReLU in the layer
            x, theirs = np.maximum(x, 0), np.maximum(theirs, 0)
        difference = np.abs(x.reshape(theirs.shape) - theirs).max() / np.abs(theirs).max()
        found.setdefault(stage(name), []).append(difference)
    for name, differences in found.items():
        table.add_row(name, str(len(differences)), f"{max(differences):.1e}")
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("DONOR", "MODEL", "OUT"):
        parser.add_argument(name)
    options = parser.parse_args()
    out = pathlib.Path(options.OUT)
    if not out.name.endswith((".keras", ".weights.h5")):
        raise InputError(f"{out}: give a .keras or .weights.h5 file.")
    models.module_of(options.MODEL)
    file = options.DONOR
    if pathlib.Path(file).suffix not in files.SUFFIXES:
        file = releases.fetch(releases.find(options.MODEL, file))
    donor = files.read(file)
    family = carry.family(donor, options.MODEL)
    network = weights.create_model(options.MODEL, weights=file)
    aside = out.with_name(f".writing.{out.name}")
    network.save(aside) if out.suffix == ".keras" else network.save_weights(aside)
    os.replace(aside, out)
    print(f"{out}: {network.name}, {info.parameters(network)[1]:,} parameters of {file}")
    image = np.random.default_rng(0).uniform(0, 255, (1, *network.input_shape[1:])).astype("float32")
    if isinstance(donor, files.KerasFile):
        donors = of_keras(str(file), family, network, image)
    elif isinstance(donor, carry.caffe.Donor) or not family.maker:
        return print("Not compared with its donor, which cannot be run here; the tests of weights compare.")
    else:
        try:
            donors = of_torchvision(donor, family, network, image)
        except ImportError as error:
            return print(f"Not compared with its donor: torchvision cannot be imported ({error}).")
    rich.console.Console().print(report(network, donors))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"convert_weights: {error}")
