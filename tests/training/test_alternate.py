import json

import keras
import numpy as np
import pytest

from keras_cnns.data import synthetic
from keras_cnns.errors import InputError
from keras_cnns.models import create_model, detector
from keras_cnns.training import alternate, recipes

NAME, SHAPE = "faster_rcnn_resnet18", (64, 64, 3)
PARTS = ("backbone", "rpn_head", "roi_head")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The arguments of a run, and its answer."""
    recipe = recipes.recipe(NAME)._replace(optimizer="sgd", learning_rate=1e-3, batch=2, epochs=1)
    arguments = dict(name=NAME, samples=synthetic.samples(4), class_names=synthetic.CLASSES,
                     folder=tmp_path_factory.mktemp("run") / "run", recipe=recipe, input_shape=SHAPE, seed=5)
    return arguments, alternate.train(**arguments)


def weights(network):
    return {part: [np.array(w) for w in network.get_layer(part).weights] for part in PARTS}


def moved(before, after):
    """Parts of which any number has changed, statistics of batch norm included."""
    return {part for part in PARTS if any((a != b).any() for a, b in zip(before[part], after[part]))}


@pytest.mark.slow
def test_each_step_moves_its_own_weights(run):
    arguments, (trained, _) = run
    keras.utils.set_random_seed(5)
    made = weights(create_model(NAME, SHAPE, len(synthetic.CLASSES)))
    first, second, third, fourth = (
        weights(keras.saving.load_model(arguments["folder"] / step.name / "network.keras", compile=False))
        for step in alternate.STEPS)
    assert moved(made, first) == {"backbone", "rpn_head"}
    assert moved(made, second) == {"backbone", "roi_head"}  # from the beginning again
    assert "backbone" in moved(first, second)
    assert moved(second, third) == {"rpn_head"}
    assert moved(third, fourth) == {"roi_head"}
    assert moved(fourth, weights(trained)) == set()


@pytest.mark.slow
def test_the_trained_network_is_whole_and_detects(run):
    arguments, (trained, history) = run
    again = keras.saving.load_model(arguments["folder"] / "network.keras", compile=False)
    made = create_model(NAME, SHAPE, len(synthetic.CLASSES))
    assert len(again.trainable_weights) == len(made.trainable_weights)
    found = detector(again, score_threshold=0.0)(np.zeros((1, *SHAPE), "float32"))
    assert np.isfinite(np.array(found["boxes"])).all()
    assert (arguments["folder"] / "labels.txt").read_text().split() == list(synthetic.CLASSES)
    assert json.loads((arguments["folder"] / "history.json").read_text()) == history
    assert [epoch["step"] for epoch in history] == [1, 2, 3, 4]
    assert {"rpn_cls_loss", "rpn_reg_loss"} <= set(history[0]) and "roi_cls_loss" not in history[0]
    assert {"roi_cls_loss", "roi_reg_loss"} <= set(history[1]) and "rpn_cls_loss" not in history[1]


@pytest.mark.slow
def test_the_same_words_again_find_all_done_and_others_are_refused(run):
    arguments, (_, history) = run
    assert alternate.train(**arguments)[1] == history
    with pytest.raises(InputError, match="other seed"):
        alternate.train(**{**arguments, "seed": 6})


def test_the_second_step_learns_from_the_first_networks_proposals():
    keras.utils.set_random_seed(0)
    network, proposer = (create_model(NAME, SHAPE, 3) for _ in range(2))
    x = {"image": np.random.default_rng(0).uniform(0, 255, (1, *SHAPE)).astype("float32"),
         "boxes": np.float32([[[8, 8, 40, 50]]]), "labels": np.int32([[2]])}

    def proposed(model):
        return np.array(keras.Model(model.input, model.get_layer("proposals").output)(x))[0]

    keys = {f"roi_{kind}" for kind in ("cls", "reg")}
    whole = alternate._on_proposals_of(proposer, network)
    assert whole["predictions"].keys() == whole["targets"].keys() == keys
    rois = keras.Model(network.input, network.get_layer("sample_rois")._inbound_nodes[-1].output_tensors[0])(x)
    rois = np.array(rois)[0]
    boxes = np.concatenate([proposed(proposer), x["boxes"][0], [[0, 0, 1, 1]]])
    assert all((np.abs(boxes - roi).max(1) < 1e-3).any() for roi in rois)
    others = np.concatenate([proposed(network), x["boxes"][0], [[0, 0, 1, 1]]])
    assert not all((np.abs(others - roi).max(1) < 1e-3).any() for roi in rois)


def test_only_faster_rcnn_is_trained_so(tmp_path):
    with pytest.raises(InputError, match="mask_rcnn_resnet18: alternating"):
        alternate.train("mask_rcnn_resnet18", synthetic.samples(2), synthetic.CLASSES, tmp_path)
