"""A detector's training, and its answers for samples in pixels of the image."""

import numpy as np
import rich.console
import rich.progress

from keras_cnns import models
from keras_cnns.data import batches, views
from keras_cnns.metrics import detection as metrics


def options(name, samples):
    """What `create_model` takes besides."""
    return {}


def compiled(network, optimizer, recipe, samples):
    """The network, compiled with its losses: what `fit` trains."""
    network.compile(optimizer, loss=models.module_of(network.name).losses())
    return network


def elements(network, samples, recipe, seed, first_step):
    """What `fit` is given: image, boxes and labels."""
    return batches.training(samples, network.input["image"].shape[1:3], recipe.batch, recipe.epochs, seed, first_step,
                            getattr(views, recipe.view))


def evaluation(network, samples, batch):
    """A function that gives what is logged of an epoch: "AP50", VOC's area form at IoU 0.5, 0 to 1."""
    detector = models.detector(network)
    return lambda: {"AP50": metrics.voc_ap(truth(samples), detect(detector, samples, batch, progress=False)).mean}


def detect(detector, samples, batch=8, progress=True):
    """A detector's answers for each sample, in pixels of its own image; what lies in the margin beside it is dropped.

    Returns:
      a list of dicts, boxes `[N, 4]`, scores `[N]`, labels `[N]`, NumPy, in the order of the samples.
    """
    found = []
    elements = batches.canvases(samples, detector.input_shape[1:3], batch)
    for image, scale, side in rich.progress.track(
            elements, "Detecting", total=-(-len(samples) // batch), transient=True, disable=not progress,
            console=rich.console.Console(stderr=True)):
        answer = detector.predict_on_batch(image)
        scale, side = np.array(scale), np.array(side)
        for i, n in enumerate(answer["count"]):
            boxes = np.minimum(answer["boxes"][i, :n] / np.tile(scale[i], 2), np.tile(side[i], 2))
            real = (boxes[:, 2:] - boxes[:, :2]).min(1) >= 1  # pixel
            found.append({"boxes": boxes[real], "scores": answer["scores"][i, :n][real],
                          "labels": answer["labels"][i, :n][real]})
    return found


def truth(samples):
    """The ground truth of samples as the metrics take it."""
    return [{"boxes": s.boxes, "labels": s.labels, "ignored": s.ignored} for s in samples]
