"""What happens between two epochs."""

import json
import math
import os
import pathlib
import shutil

import keras
import numpy as np


class Evaluate(keras.callbacks.Callback):
    """Adds what a function gives, a dict of numbers such as "AP50" or "top1", to each epoch's logs."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.numbers())


class Checkpoint(keras.callbacks.Callback):
    """Keeps the network, its optimizer and its layers' dice as they are after each epoch.

    `folder/network.keras`, dice.npz, which Keras leaves out, and history.json change together: a new folder is written
    aside, then put in place of the old one. A run that is killed at any moment finds a whole checkpoint, at worst the
    last but one. `resume` goes on from it.

    Args:
      network: what is kept; by default the model in training.
    """

    def __init__(self, folder, history=(), network=None):
        super().__init__()
        self.folder, self.history, self.network = pathlib.Path(folder), list(history), network

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss is {logs['loss']} in epoch {epoch + 1}; {self.folder} keeps the epoch "
                                     "before. Lower the learning rate, in another folder")
        self.history.append({key: float(value) for key, value in logs.items()})
        aside, old = self.folder.with_suffix(".writing"), self.folder.with_suffix(".old")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        network = self.network or self.model
        network.save(aside / "network.keras")
        np.savez(aside / "dice.npz", *_dice(network))
        (aside / "history.json").write_text(json.dumps(self.history, indent=1))
        if self.folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(self.folder, old)
        os.rename(aside, self.folder)
        shutil.rmtree(old, ignore_errors=True)


def resume(network, folder):
    """Brings a compiled network to the last whole checkpoint in `folder`; its history, [] if there is none."""
    folder = pathlib.Path(folder)
    if not folder.exists() and folder.with_suffix(".old").exists():  # killed between the two renames
        os.rename(folder.with_suffix(".old"), folder)
    if not folder.exists():
        return []
    network.load_weights(folder / "network.keras")  # with the optimizer's state
    with np.load(folder / "dice.npz") as states:
        for dice, state in zip(_dice(network), states.values(), strict=True):
            dice.assign(state)
    return json.loads((folder / "history.json").read_text())


def _dice(network):
    """The states of random generators, such as dropout's."""
    weights = {id(weight) for weight in network.weights}
    return [variable for variable in network.variables if id(variable) not in weights]
