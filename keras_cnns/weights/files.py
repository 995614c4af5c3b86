"""Weights in the files their authors released, read without running any code in them."""

import pathlib
import pickle
from typing import NamedTuple

from keras_cnns.errors import InputError
from keras_cnns.weights import caffe

SUFFIXES = (".safetensors", ".pth", ".pt", ".h5", ".caffemodel")
WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts put a state dict beside other things


class KerasFile(NamedTuple):
    """A Keras 2 file: tensors in the order of the layers, whose names in it need not be those of today's model."""

    path: str
    layers: tuple  # (name, tensors, `h5py.Dataset`s) of each layer that has any


def read(path):
    """What `transfer` takes as a donor.

    Args:
      path: of a `.safetensors` file (extra `weights`); of a `.pth` or `.pt` file (extra `torch`); of an `.h5` file of
        keras.applications; or of a `.caffemodel`.

    Returns:
      a state dict, {name: array or CPU tensor}; a `KerasFile`; or a `caffe.Donor`.

    Raises:
      InputError: no such file, a suffix of none of these, a broken file, one with code in it, or an extra is missing.
    """
    path = pathlib.Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: is none of {', '.join(SUFFIXES)}; give a file of weights in one of these forms.")
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    return {".h5": _h5, ".caffemodel": caffe.donor, ".safetensors": _safetensors}.get(path.suffix, _torch)(path)


def _safetensors(path):
    try:
        import safetensors
        from safetensors.numpy import load_file
    except ImportError:
        raise InputError(f"{path}: needs safetensors; pip install 'keras-cnns[weights]'.") from None
    try:
        return load_file(path)
    except (safetensors.SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"{path}: is no whole safetensors file ({_line(error)}); fetch it again.") from None


def _torch(path):
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: needs torch to be read; pip install 'keras-cnns[torch]', or convert the file to "
                         "safetensors where there is one.") from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: was not read, for it is damaged or holds more than tensors, which could run code "
                         f"({_line(error)}); get a file of tensors only.") from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise InputError(f"{path}: is no whole file of torch ({_line(error)}); fetch it again.") from None
    for wrapper in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}, no state dict; save module.state_dict().")
    return found


def _h5(path):
    import h5py

    def attribute(group, name):  # cut into pieces where it would be longer than HDF5 allows
        if name in group.attrs:
            return [_text(each) for each in group.attrs[name]]
        pieces = sorted((key for key in group.attrs if key.removeprefix(name).isdigit()),
                        key=lambda key: int(key.removeprefix(name)))
        return [_text(each) for key in pieces for each in group.attrs[key]]

    try:
        file = h5py.File(path)  # open as long as its tensors are in use, which are read one by one
        group = file.get("model_weights", file)
        layers = [(name, tuple(group[name][tensor] for tensor in attribute(group[name], "weight_names")))
                  for name in attribute(group, "layer_names")]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: is no whole HDF5 file of Keras weights ({_line(error)}); fetch it again.") from None
    layers = tuple((name, tensors) for name, tensors in layers if tensors)
    if not layers:
        raise InputError(f"{path}: names no layers with weights; give a file of keras.applications, or, of this "
                         "package's own networks, a .weights.h5 or .keras file.")
    return KerasFile(str(path), layers)


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)


def _line(error):
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
