"""What happens between two epochs."""

import json
import math
import os
import pathlib
import shutil

import keras

from keras_cnns.metrics import detection as metrics
from keras_cnns.training import detect


class EvaluateDetections(keras.callbacks.Callback):
    """Adds "AP50" on the samples given to each epoch's logs: VOC's area form at IoU 0.5, 0 to 1."""

    def __init__(self, detector, samples, batch):
        super().__init__()
        self.detector, self.samples, self.batch = detector, samples, batch

    def on_epoch_end(self, epoch, logs=None):
        found = detect.detect(self.detector, self.samples, self.batch, progress=False)
        logs["AP50"] = metrics.voc_ap(detect.truth(self.samples), found).mean


class Checkpoint(keras.callbacks.Callback):
    """Keeps the network, its optimizer and its sampling layers' dice as they are after each epoch.

    `folder/network.keras` and `folder/history.json` change together: a new folder is written aside, then put in
    place of the old one. A run that is killed at any moment finds a whole checkpoint, at worst the last but one.
    """

    def __init__(self, folder, history=()):
        super().__init__()
        self.folder, self.history = pathlib.Path(folder), list(history)

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss is {logs['loss']} in epoch {epoch + 1}; {self.folder} keeps the epoch "
                                     "before. Lower the learning rate, in another folder")
        self.history.append({key: float(value) for key, value in logs.items()})
        aside, old = self.folder.with_suffix(".writing"), self.folder.with_suffix(".old")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        self.model.save(aside / "network.keras")
        (aside / "history.json").write_text(json.dumps(self.history, indent=1))
        if self.folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(self.folder, old)
        os.rename(aside, self.folder)
        shutil.rmtree(old, ignore_errors=True)


def last_checkpoint(folder):
    """`(path of the network, history)` of the last whole checkpoint in `folder`, or None if there is none."""
    folder = pathlib.Path(folder)
    if not folder.exists() and folder.with_suffix(".old").exists():  # killed between the two renames
        os.rename(folder.with_suffix(".old"), folder)
    if not folder.exists():
        return None
    return folder / "network.keras", json.loads((folder / "history.json").read_text())
