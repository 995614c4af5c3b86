"""R-FCN: counts, dilation, what it learns from, and that it does what every detector must."""

import csv
import pathlib

import keras
import numpy as np
import pytest

from keras_cnns import export
from keras_cnns.data import batches, synthetic
from keras_cnns.errors import InputError
from keras_cnns.losses import BoxLoss, ClassLoss
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector, info, module_of
from keras_cnns.models.classification import resnet
from keras_cnns.models.detection import rfcn
from keras_cnns.training import detect

SHAPE = (96, 96, 3)


def images(count=2, side=96):
    blocks = np.random.default_rng(0).uniform(0, 255, (count, 8, 8, 3)).astype("float32")
    return blocks.repeat(side // 8, 1).repeat(side // 8, 2)


@pytest.fixture(scope="module")
def network():
    """With heads of some life in them."""
    keras.utils.set_random_seed(0)
    network = create_model("rfcn_resnet18", SHAPE, 3)
    head = network.get_layer("position_sensitive")
    head.set_weights([20 * w for w in head.get_weights()])
    return network


def test_counts_are_those_of_the_reference():
    with open(pathlib.Path(__file__).with_name("counts.csv"), newline="") as file:
        want = {row["model"]: row for row in csv.DictReader(file)}["rfcn_resnet101"]
    network = info.weightless(lambda: create_model("rfcn_resnet101"))
    trainable, everything = info.parameters(network)
    fixed = sum(2 * layer.gamma.shape[0] for layer in network.get_layer("backbone").layers
                if isinstance(layer, keras.layers.BatchNormalization))  # which the reference counts as trainable
    assert (trainable + fixed, everything) == (int(want["trainable"]), int(want["all"]))
    cost = info.weightless(lambda: info.cost(detector(create_model("rfcn_resnet101"))))[0]
    assert cost == pytest.approx(float(want["multiply_adds"]), rel=1e-4)
    maps = network.get_layer("position_sensitive").output
    assert [x.shape[-1] for x in maps] == [49 * 21, 49 * 8]


def test_a_dilated_stage_answers_at_every_second_cell_as_the_one_that_strides():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 8))
    row = resnet.Variant(resnet.bottleneck_block, (2,))
    strided = keras.Model(inputs, resnet.stage(inputs, row, 4, 2, 2, name="conv5_x"))
    spread = rfcn.dilated(strided, "conv5")
    spread.set_weights(strided.get_weights())
    x = np.random.default_rng(0).normal(size=(1, 16, 24, 8)).astype("float32")
    assert spread(x).shape == (1, 16, 24, 16)
    np.testing.assert_allclose(np.array(spread(x))[:, ::2, ::2], strided(x), atol=1e-5)


def test_hard_rois_are_those_of_most_loss_by_hand():
    rng = np.random.default_rng(1)
    targets = np.concatenate([rng.normal(size=(2, 40, 4)), rng.integers(-1, 4, (2, 40, 1))], -1).astype("float32")
    logits, offsets = (rng.normal(size=(2, 40, n)).astype("float32") for n in (4, 4))
    kept = np.array(rfcn.HardRoIs(10)(logits, offsets, targets))
    for b in range(2):
        loss = [float(ClassLoss()(targets[b:b + 1, i:i + 1], logits[b:b + 1, i:i + 1])
                      + BoxLoss()(targets[b:b + 1, i:i + 1], offsets[b:b + 1, i:i + 1])) for i in range(40)]
        loss = np.where(targets[b, :, 4] >= 0, loss, -1)
        hardest = set(np.argsort(-loss)[:10])
        assert {i for i in range(40) if kept[b, i, 4] >= 0} == hardest
        np.testing.assert_array_equal(kept[b, sorted(hardest)], targets[b, sorted(hardest)])
    few = np.array(rfcn.HardRoIs(50)(logits, offsets, targets))
    np.testing.assert_array_equal(few, targets)


def test_every_region_is_looked_at_and_the_hardest_are_learnt_from(network):
    batch = next(iter(batches.training(synthetic.samples(4), SHAPE[:2], 4, 1, 0)))
    batch["labels"] = keras.ops.minimum(batch["labels"], 3)
    rows = np.array(network(batch)["targets"]["roi_cls"])
    assert rows.shape[1] == 300 + batch["boxes"].shape[1]
    assert ((rows[..., 4] >= 0).sum(1) <= 64).all() and (rows[..., 4] > 0).any()


def test_it_lives_in_a_file_and_finds_the_same(network, tmp_path):
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    want, found = (detector(n, score_threshold=0.01).predict(images(), verbose=0) for n in (network, again))
    assert want["count"].min() > 0
    for key in want:
        np.testing.assert_array_equal(found[key], want[key])


@pytest.mark.slow
def test_exported_it_finds_the_same(network, tmp_path):
    """Both are tried on pictures before they are handed over, TFLite with built-in ops only."""
    graph = detector(network, score_threshold=0.01, max_detections=20)
    export.saved_model(graph, tmp_path / "saved")
    assert export.tflite(graph, tmp_path / "network.tflite").stat().st_size > 4e6


def test_other_backbones_and_what_cannot_be_one():
    parts = {"mobilenet_v1": None, "resnet18": ("conv4_x", "conv5_x"), "resnet50": ("conv5_x",)}
    for name, features in parts.items():
        network = info.weightless(lambda: create_model("rfcn", (96, 128, 3), 3, backbone=name, features=features))
        assert info.weightless(lambda: detector(network)).output["boxes"].shape[-1] == 4
    assert info.weightless(lambda: create_model("rfcn", (96, 128, 3), 3, backbone="resnet18")).get_layer(
        "backbone").compute_output_shape((1, 96, 128, 3))[1] == (1, 6, 8, 512)
    assert info.weightless(lambda: create_model("rfcn", (96, 128, 3), 3, backbone="resnet18_a", features=(
        "conv4_x", "conv5_x"))).get_layer("backbone").compute_output_shape((1, 96, 128, 3))[1] == (1, 6, 8, 512)
    with pytest.raises(InputError, match="cells of 16, 32 pixels; give one layer, or two whose cells are alike"):
        create_model("rfcn", backbone="mobilenet_v1", features=("conv11_pw_relu", "conv13_pw_relu"))
    with pytest.raises(InputError, match="'rfcn' takes a backbone"):
        create_model("rfcn_resnet18", backbone="resnet18")


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart():
    keras.utils.set_random_seed(1)
    few = [s for s in synthetic.samples(10) if not s.ignored.any()][:8]
    network = create_model("rfcn_resnet18", (128, 128, 3), 5)
    network.compile(keras.optimizers.Adam(1e-3), loss=module_of(network.name).losses())
    network.fit(batches.training(few, (128, 128), 8, 160, 0), shuffle=False, verbose=0)
    found = detect.detect(detector(network), few, progress=False)
    assert metrics.voc_ap(detect.truth(few), found).mean > 0.9
