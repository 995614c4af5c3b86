"""A network of poses: its training on crops of persons, and its answers in pixels of their images."""

from typing import NamedTuple

import numpy as np
import rich.console
import rich.progress

from keras_cnns import models
from keras_cnns.data import augment, coco, persons
from keras_cnns.errors import InputError
from keras_cnns.metrics import detection as coco_metrics
from keras_cnns.metrics import keypoints as metrics


class Result(NamedTuple):
    """How right a network is, as far as its joints allow to say."""

    pck: metrics.Correct | None   # at 0.2 of the torso, of joints that have one
    pckh: metrics.Correct | None  # at 0.5 of the head, of joints that have one
    oks: dict[str, float] | None  # COCO's numbers by name, of COCO's joints


def options(name, samples):
    """What `create_model` takes besides."""
    return {}


def compiled(network, optimizer, recipe, samples):
    """The network, compiled with a loss for each hourglass: what `fit` trains.

    Raises:
      InputError: samples of others than its joints.
    """
    names, outputs = persons.joints(samples), models.module_of(network.name).losses(network.name)
    joints = network.output[next(iter(outputs))].shape[-1]
    if joints != len(names):
        raise InputError(f"{samples[0].name}: has {len(names)} joints, class_names {joints}; give the names of the "
                         "data.")
    network.compile(optimizer, loss=outputs)
    return network


def elements(network, samples, recipe, seed, first_step):
    """What `fit` is given: image, and the same joints for each output.

    With a recipe of the view "plain" persons are mirrored, but neither turned nor made smaller or larger.
    """
    colour = getattr(augment, recipe.colour) if recipe.colour else None
    still = {"turn": 0.0, "zoom": 0.0} if recipe.view == "plain" else {}
    found = persons.training(samples, network.input_shape[1:3], recipe.batch, recipe.epochs, seed, first_step,
                             colour=colour, **still)
    return found.map(lambda image, joints: (image, dict.fromkeys(network.output, joints)))


def evaluation(network, samples, batch):
    """A function that gives what is logged of an epoch: of joints with a torso "PCK", with a head "PCKh"."""
    detector = models.detector(network)

    def numbers():
        result = evaluate(detector, samples, batch, progress=False)
        return {name: correct.mean for name, correct in (("PCK", result.pck), ("PCKh", result.pckh)) if correct}

    return numbers


def evaluate(detector, samples, batch=8, progress=True):
    """How right a network's inference graph is of persons' samples: a `Result`.

    Raises:
      InputError: no samples, or such as are no persons'.
    """
    if not samples:
        raise InputError("No samples to evaluate on; name a data set or a split that has some.")
    names = persons.joints(samples)
    found = predict(detector, samples, batch, progress)
    if found.shape[1] != len(names):
        raise InputError(f"The data have {len(names)} joints, the network {found.shape[1]}; name data of its joints.")
    truth = np.concatenate([sample.keypoints for sample in samples])
    head = metrics.pckh(truth, found, names) if metrics.has_head(names) else None
    oks = coco_metrics.coco_ap(*_by_image(samples, found), "keypoints") if names == coco.KEYPOINTS else None
    torso = metrics.pck(truth, found, names) if metrics.has_torso(names) else None
    return Result(torso, head, oks)


def predict(detector, samples, batch=8, progress=True):
    """The joints of each sample's person, `[N, J, 3]`, in pixels of its image: x, y and heat, about 0 to 1.

    Args:
      detector: as of `models.detector`. samples: with one box each; of one without, the whole image is looked at.
    """
    size, found = detector.input_shape[1:3], []
    for image, frame in rich.progress.track(
            persons.crops(samples, size, batch), "Finding joints", total=-(-len(samples) // batch), transient=True,
            disable=not progress, console=rich.console.Console(stderr=True)):
        joints = np.array(detector.predict_on_batch(np.asarray(image))["keypoints"])
        joints[..., :2] = persons.in_image(joints, np.asarray(frame), size)
        found.append(joints)
    return np.concatenate(found)


def _by_image(samples, found):
    """Truth and detections an image, as COCO's program takes them; a person's score is its joints' mean heat."""
    images = {}
    for sample, joints in zip(samples, found):
        images.setdefault(sample.image_id, []).append((sample, joints))
    truth, detections = [], []
    for rows in images.values():
        people = [sample for sample, _ in rows]
        truth.append({key: np.concatenate([getattr(s, key) for s in people])
                      for key in ("boxes", "labels", "ignored", "keypoints")})
        if all(None not in s.details.get("area", [None]) for s in people):
            truth[-1]["area"] = [s.details["area"][0] for s in people]
        joints = np.stack([joints for _, joints in rows])
        detections.append({"boxes": truth[-1]["boxes"], "labels": truth[-1]["labels"], "keypoints": joints,
                           "scores": joints[..., 2].mean(1)})
    return truth, detections
