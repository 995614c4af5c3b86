"""A detector's training, and its answers for samples in pixels of the image."""

import numpy as np
import rich.console
import rich.progress
from pycocotools import mask as coco_mask

from keras_cnns import models
from keras_cnns.data import augment, batches, coco, images, views
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError
from keras_cnns.metrics import detection as metrics
from keras_cnns.ops import masks as mask_ops


def options(name, samples):
    """What `create_model` takes besides."""
    return {}


def compiled(network, optimizer, recipe, samples):
    """The network, compiled with its losses: what `fit` trains."""
    network.compile(optimizer, loss=models.module_of(network.name).losses(network.name))
    return network


def elements(network, samples, recipe, seed, first_step):
    """What `fit` is given: image, boxes, labels, and masks, keypoints or proposals where the network takes them; of a
    single-shot detector, image and targets.

    Raises:
      InputError: samples without what the network learns from.
    """
    module = models.module_of(network.name)
    single_shot = hasattr(module, "target_encoder")
    if not single_shot and not isinstance(network.input, dict):
        raise InputError(f"{network.name}: is trained in stages; call training.stages.train, as the command line does.")
    inputs = {"image": network.input} if single_shot else network.input
    for field in {"masks", "keypoints"} & inputs.keys():
        if without := [sample.name for sample in samples if getattr(sample, field) is None]:
            raise InputError(f"{without[0]}: has no {field}, which {network.name} learns from; name data that have "
                             "them, or a detector of boxes.")
    samples = _with(samples, inputs, network.name)
    crop = inputs["masks"].shape[-1] if "masks" in inputs else None
    pairs = coco.KEYPOINT_PAIRS if "keypoints" in inputs else ()
    colour = getattr(augment, recipe.colour) if recipe.colour else None
    found = batches.training(samples, inputs["image"].shape[1:3], recipe.batch, recipe.epochs, seed, first_step,
                             getattr(views, recipe.view), colour, pairs=pairs, keep=recipe.keep, crop=crop,
                             regions=_regions(inputs))
    return batches.with_targets(found, module.target_encoder(network), network.output) if single_shot else found


def _with(samples, fields, name):
    """The samples without what is not among the fields, so that it is not read.

    Raises:
      InputError: samples without proposals that the fields ask for.
    """
    if "proposals" in fields and (without := [sample.name for sample in samples if sample.proposals is None]):
        raise InputError(f"{without[0]}: has no proposals, which {name} looks at; make them with "
                         "data.proposals.with_proposals (--proposals METHOD).")
    absent = dict.fromkeys({"masks", "keypoints", "segmentation", "proposals"} - set(fields))
    return [sample._replace(**absent) for sample in samples]


def _regions(inputs):
    """How many proposals a graph's inputs take, None if any number or none at all."""
    return inputs["proposals"].shape[1] if "proposals" in inputs else None


def evaluation(network, samples, batch):
    """A function that gives what is logged of an epoch: "AP50", VOC's area form at IoU 0.5, 0 to 1.

    And, of a network of masks or joints, COCO's "mask_AP50" or "keypoint_AP50".
    """
    detector = models.detector(network)

    def evaluated():
        true, found = truth(samples), detect(detector, samples, batch, progress=False)
        logs = {"AP50": metrics.voc_ap(true, found).mean}
        for key, name, kind in (("masks", "mask_AP50", "segm"), ("keypoints", "keypoint_AP50", "keypoints")):
            if all(key in image for image in (*true, *found)):
                logs[name] = metrics.coco_ap(true, found, kind)["AP50"]
        return logs

    return evaluated


def detect(detector, samples, batch=8, progress=True, sides=(800, 1333)):
    """A detector's answers for each sample, in pixels of its own image; what lies in the margin beside it is dropped.

    Args:
      samples: with proposals, where the detector takes them.
      batch: images at a time, letterboxed to the detector's size, or stretched (SSD); those with proposals are shown
        alone. sides: where it has none, each
        image is shown alone, its shorter side so many pixels and its longer at most so many.

    Returns:
      a list of dicts, boxes `[N, 4]`, scores `[N]`, labels `[N]`, NumPy, in the order of the samples; where the
      detector gives them also masks, `[N]` run lengths of the image's size as of `data.samples.Sample` (`mask_pixels`
      decodes them), or keypoints `[N, J, 3]`: x, y, and a logit.
    """
    found = []
    inputs = detector.input if isinstance(detector.input, dict) else {"image": detector.input}
    (*size, channels), regions = inputs["image"].shape[1:], _regions(inputs)
    plain = _with(samples, inputs, detector.name)
    if None in size:
        elements = batches.resized(plain, *sides, regions, channels)
    else:
        fit = images.stretched if models.stretched(detector) else images.letterbox
        elements = batches.canvases(plain, size, 1 if "proposals" in inputs else batch, fit, regions, channels)
    for shown, scale, side in rich.progress.track(
            elements, "Detecting", total=int(elements.cardinality()), transient=True, disable=not progress,
            console=rich.console.Console(stderr=True)):
        answer = detector.predict_on_batch(shown)
        scale, side = np.array(scale), np.array(side)
        for i, n in enumerate(answer["count"]):
            whole = answer["boxes"][i, :n] / np.tile(scale[i], 2)
            boxes = np.minimum(whole, np.tile(side[i], 2))
            real = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(1) >= 1)  # pixel
            found.append({"boxes": boxes[real],
                          "scores": answer["scores"][i][real], "labels": answer["labels"][i][real]})
            if "masks" in answer:
                width, height = side[i].astype(int)
                pasted = mask_ops.paste(answer["masks"][i][real], whole[real], height, width)
                found[-1]["masks"] = _run_lengths(pasted)
            if "heatmaps" in answer:
                found[-1]["keypoints"] = mask_ops.joints(answer["heatmaps"][i][real], whole[real])
    return found


def _run_lengths(masks):
    return [coco_mask.encode(np.asfortranarray(mask, "uint8")) for mask in masks]


def mask_pixels(found):
    """The masks of an answer of `detect`, `[N, H, W]`, 1 inside, none of a detector of boxes; for `pictures.draw`."""
    return np.moveaxis(coco_mask.decode(found["masks"]), -1, 0) if found.get("masks") else ()


def truth(samples):
    """The ground truth of samples as the metrics take it."""
    return [_truth(sample) for sample in samples]


def _truth(sample):
    true = {"boxes": sample.boxes, "labels": sample.labels, "ignored": sample.ignored}
    if None not in (area := sample.details.get("area", [None])):
        true["area"] = area  # COCO's, of the masks
    if sample.keypoints is not None:
        true["keypoints"] = sample.keypoints
    if sample.masks is not None:
        drawn = isinstance(sample.masks, data_samples.LabelImage)
        true["masks"] = _run_lengths(data_samples.masks(sample)) if drawn else sample.masks
    return true
