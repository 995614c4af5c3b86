"""The 4-step alternating training of Faster R-CNN, arXiv:1506.01497, section 3.2.

    1  the RPN, from ImageNet weights
    2  Fast R-CNN, from ImageNet weights again, on the first network's proposals
    3  the second network's RPN, the convolutions shared and fixed
    4  its Fast R-CNN, on these proposals, the convolutions fixed

Each step is a run in a folder of its own, "1_rpn" to "4_fast_rcnn"; started again with the same words, training goes on
where it was. In the folder itself are the trained network.keras, labels.txt, settings.json and the history.json of all
steps, as of `runs`.

Not as in the paper: proposals are made anew of each view of an image, by a network that does not learn, not once of
each image; at most as many as the row has for training, 2000 in the paper. As in the authors' code, the RPN of step 3
begins as it was made.
"""

import json
import os
import pathlib
from typing import NamedTuple

import keras

from keras_cnns import models
from keras_cnns.errors import InputError
from keras_cnns.models.detection import faster_rcnn
from keras_cnns.models.detection.two_stage import TwoStageModel
from keras_cnns.training import detect, runs
from keras_cnns.weights import create_model


class Step(NamedTuple):
    name: str            # of its folder
    learns: tuple        # parts of the network
    losses: str          # how the keys begin of what they answer
    begins: str = ""     # the step whose network it goes on with; else the weights that were given
    proposes: str = ""   # the step whose network makes proposals; else its own


STEPS = (
    Step("1_rpn", ("backbone", "rpn_head"), "rpn"),
    Step("2_fast_rcnn", ("backbone", "roi_head"), "roi", proposes="1_rpn"),
    Step("3_rpn", ("rpn_head",), "rpn", begins="2_fast_rcnn"),
    Step("4_fast_rcnn", ("roi_head",), "roi", begins="3_rpn"),
)


def train(name, samples, class_names, folder, recipe=None, input_shape=None, seed=0, weights=None, validation=(),
          devices=None, **options):
    """Trains a Faster R-CNN in four steps, from the last checkpoint if the folder has one.

    Args:
      recipe: of each step. validation: samples to evaluate on in the last step.
      options: what `create_model` takes besides. The others as of `runs.train`.

    Returns:
      `(network, history)`: the trained network, and a dict of numbers an epoch, "step" from 1 among them.

    Raises:
      InputError, FloatingPointError: as of `runs.train`; or `name` is no Faster R-CNN.
    """
    if models.module_of(name) is not faster_rcnn:
        raise InputError(f"{name}: alternating training is Faster R-CNN's; give one of "
                         f"{', '.join(faster_rcnn.VARIANTS)}.")
    folder, history = pathlib.Path(folder), []
    for number, step in enumerate(STEPS, 1):
        begins = folder / step.begins / "network.keras" if step.begins else weights
        _, epochs = runs.train(
            name, samples, class_names, folder / step.name, recipe, input_shape, seed, begins,
            validation if step is STEPS[-1] else (), devices, _Task(step, folder), **options)
        history += [{"step": number, **epoch} for epoch in epochs]
    last = folder / STEPS[-1].name
    network = create_model(name, input_shape, len(class_names), last / "network.keras", **options)  # whole, to learn on
    aside = folder / ".writing.keras"
    network.save(aside)
    os.replace(aside, folder / "network.keras")
    for file in ("labels.txt", "settings.json"):
        runs._put(last / file, folder / file)
    (folder / "history.json").write_text(json.dumps(history, indent=1))
    return network, history


class _Task:
    """A step as `runs` takes it: what is compiled, fed and evaluated."""

    def __init__(self, step, folder):
        self.step, self.folder = step, folder

    options = staticmethod(detect.options)
    elements = staticmethod(detect.elements)
    evaluation = staticmethod(detect.evaluation)

    def compiled(self, network, optimizer, recipe, samples):
        for part in ("backbone", "rpn_head", "roi_head"):
            if part not in self.step.learns:
                network.get_layer(part).trainable = False
        whole = network.output
        if self.step.proposes:
            proposer = keras.saving.load_model(self.folder / self.step.proposes / "network.keras", compile=False)
            whole = _on_proposals_of(proposer, network)
        part = TwoStageModel(network.input, {
            kind: {key: answer for key, answer in answers.items() if key.startswith(self.step.losses)}
            for kind, answers in whole.items()}, name=network.name)
        losses = faster_rcnn.losses(network.name)
        part.compile(optimizer, loss={key: losses[key] for key in part.output["predictions"]})
        return part


def _on_proposals_of(proposer, network):
    """What a network's second stage predicts and is to predict, of another's proposals."""
    inputs, layer = network.input, network.get_layer
    proposer = keras.Model(proposer.input["image"], proposer.get_layer("proposals").output, name="proposer")
    proposer.trainable = False
    rois, targets, _ = layer("sample_rois")(proposer(inputs["image"]), inputs["boxes"], inputs["labels"])
    maps = layer("backbone")(layer("pad")(inputs["image"]))
    predictions = zip(("roi_cls", "roi_reg"), faster_rcnn.second_stage(network, maps, rois))
    return {"predictions": {key: layer(key)(answer) for key, answer in predictions},
            "targets": {"roi_cls": targets, "roi_reg": targets}}
