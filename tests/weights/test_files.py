"""Files of weights: every form is read as it was written, and nothing in a file is run."""

import pathlib
import pickle
import sys

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_cnns import weights
from keras_cnns.errors import InputError
from tests.weights import donors

STATE = {"conv1.weight": np.arange(24, dtype="float32").reshape(2, 3, 2, 2), "conv1.bias": np.ones(2, "float32")}


def refused(path, message):
    with pytest.raises(InputError, match=message) as error:
        weights.read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(STATE, path)
    found = weights.read(path)
    assert found.keys() == STATE.keys() and all(np.array_equal(found[key], STATE[key]) for key in STATE)
    path.write_bytes(path.read_bytes()[:-4])
    refused(path, "no whole safetensors file")


def test_keras_files_with_names_in_one_attribute_and_cut_into_pieces(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3, name="a"), keras.layers.ReLU(),
                              keras.layers.BatchNormalization(name="b")])
    path = tmp_path / "a.h5"
    model.save(path)
    found = weights.read(path)
    assert [name for name, _ in found.layers] == ["a", "b"]
    want = [layer.get_weights() for layer in model.layers if layer.weights]
    for (_, tensors), values in zip(found.layers, want):
        assert all(map(np.array_equal, tensors, values))
    del found, tensors  # which keep the file open
    with h5py.File(path, "r+") as file:  # as Keras does where they are longer than HDF5's header
        group = file["model_weights"]
        names = group.attrs["layer_names"]
        del group.attrs["layer_names"]
        group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:1], names[1:]
    assert [name for name, _ in weights.read(path).layers] == ["a", "b"]
    with h5py.File(path, "r+") as file:
        del file["model_weights"]["a"]
    refused(path, "no whole HDF5 file")


def test_what_is_no_file_of_weights(tmp_path):
    refused(tmp_path / "a.h5", "no such file")
    refused(tmp_path / "a.npz", "is none of .safetensors, .pth")
    (tmp_path / "a.h5").write_bytes(b"GIF89a")
    refused(tmp_path / "a.h5", "no whole HDF5 file")
    keras.Sequential([keras.Input((3,)), keras.layers.ReLU()]).save(tmp_path / "b.h5")
    refused(tmp_path / "b.h5", "names no layers with weights")


def test_without_torch_its_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"")
    refused(tmp_path / "a.pth", r"needs torch.*pip install 'keras-cnns\[torch\]'")


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (self.mark,)


@donors.needs_torchvision
@pytest.mark.parametrize("old", [False, True])
def test_torch(tmp_path, monkeypatch, old):
    monkeypatch.syspath_prepend(next(pathlib.Path(donors.TORCHVISION).glob("lib/python3*/site-packages")))
    import torch

    path = tmp_path / "a.pth"
    state = {key: torch.tensor(value) for key, value in STATE.items()}
    for saved in (state, {"state_dict": state, "epoch": 7}):
        torch.save(saved, path, _use_new_zipfile_serialization=not old)
        found = weights.read(path)
        assert found.keys() == STATE.keys() and all(np.array_equal(found[key], STATE[key]) for key in STATE)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "no whole file of torch|was not read")
    torch.save(torch.ones(3), path)
    refused(path, "holds a Tensor, no state dict")
    torch.save({"a": Bomb(tmp_path / "run")}, path, _use_new_zipfile_serialization=not old)
    refused(path, "could run code")
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "run")))
    refused(path, "could run code|no whole file of torch")
    assert not (tmp_path / "run").exists()
