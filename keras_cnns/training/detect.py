"""A detector's answers for samples, in pixels of the image."""

import numpy as np
import rich.console
import rich.progress

from keras_cnns.data import batches


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
