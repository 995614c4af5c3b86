"""The hourglass: counts, shapes, what its stacks hand on, its inference graph, and what every network must do."""

import csv
import pathlib

import keras
import numpy as np
import pytest

from keras_cnns.errors import InputError
from keras_cnns.models import create_model, detector, info, list_models, model_info, module_of
from keras_cnns.models.keypoints import hourglass
from keras_cnns.ops import heatmaps
from tests.models import helpers

with open(pathlib.Path(__file__).with_name("counts.csv"), newline="") as file:
    COUNTS = {row["model"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def small():
    """Of one halving, which is built within seconds."""
    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hourglass, "DEPTH", 1)
        return create_model("hourglass2_64", (64, 128, 3), 5)


def test_the_counts_are_those_of_the_reference():
    assert set(list_models(task="keypoints")) - COUNTS.keys() == {"hourglass2_64"}
    for name in ("hourglass1", "hourglass2", "hourglass8"):
        found, want = model_info(name), COUNTS[name]
        assert (found.task, found.input_shape) == ("keypoints", (256, 256, 3))
        assert (found.trainable_parameters, found.parameters) == (int(want["trainable"]), int(want["all"]))
        assert found.multiply_adds == pytest.approx(float(want["multiply_adds"]), rel=1e-4)


def test_every_stack_answers_a_quarter_of_the_size_and_the_waist_has_four_cells():
    network = info.weightless(lambda: create_model("hourglass8"))
    assert {name: tuple(value.shape) for name, value in network.output.items()} == {
        f"stack{i}": (None, 64, 64, 16) for i in range(1, 9)}
    assert network.get_layer("hourglass5_bottom").output.shape == (None, 4, 4, 256)
    assert network.get_layer("conv2").output.shape == (None, 128, 128, 128)
    names = [layer.name for layer in network.layers]
    assert len(names) == len(set(names)) and set(module_of("hourglass8").losses("hourglass8")) == set(network.output)


def test_a_step_up_is_the_nearest_cell(small):
    up = small.get_layer("hourglass1_nearest1")
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 64)).astype("float32")
    np.testing.assert_array_equal(up(x), x.repeat(2, 1).repeat(2, 2))


def test_predictions_and_features_of_a_stack_go_on_to_the_next(small):
    merge = small.get_layer("merge1")
    assert {t._keras_history.operation.name if hasattr(t, "_keras_history") else "" for t in merge.input} == {
        "conv4", "features1_back_conv", "heatmaps1_back_conv"}


@pytest.mark.parametrize("shape", [(250, 256, 3), (256, 100, 3), (None, None, 3), (32, 32, 3), (0, 64, 3)])
def test_sizes_that_do_not_divide_are_refused_with_one_that_works(shape):
    with pytest.raises(InputError, match=r"256, 256, 3"):
        create_model("hourglass1", shape)
    with pytest.raises(InputError, match="give their number"):
        create_model("hourglass1", num_classes=None)


def test_the_inference_graph_reads_the_last_stacks_maps(small):
    image = helpers.images((3, 64, 128, 3))
    want = heatmaps.decode(np.array(small(image)["stack2"]), 4)
    found = detector(small)(image)
    assert found.keys() == {"keypoints"} and tuple(found["keypoints"].shape) == (3, 5, 3)
    np.testing.assert_allclose(found["keypoints"], want, atol=1e-5)


def test_with_the_mirror_image_a_mirrored_picture_has_the_mirrored_answer(small):
    image, pairs = helpers.images((2, 64, 128, 3)), ((0, 3),)
    maps, mirrored = (np.array(small(x)["stack2"]) for x in (image, image[:, :, ::-1]))
    graph = detector(small, pairs=pairs)
    found = np.array(graph(image)["keypoints"])
    np.testing.assert_allclose(found, heatmaps.decode(heatmaps.mirror_average(maps, mirrored, pairs), 4), atol=1e-4)
    other = np.array(graph(image[:, :, ::-1])["keypoints"])[:, [3, 1, 2, 0, 4]]
    np.testing.assert_allclose(other, [128, 0, 0] + found * [-1, 1, 1], atol=1e-4)


def test_it_answers_the_same_from_a_file(small, tmp_path):
    image = helpers.images((2, 64, 128, 3))
    small.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    for name, value in again(image).items():
        np.testing.assert_array_equal(value, small(image)[name])
    np.testing.assert_array_equal(detector(again)(image)["keypoints"], detector(small)(image)["keypoints"])


@pytest.mark.slow
def test_steps_in_mixed_precision_change_the_weights_and_answers_are_float32():
    network = create_model("hourglass2_64", (64, 128, 3), 5, dtype_policy="mixed_float16")
    network.compile(keras.optimizers.Adam(1e-4), module_of(network.name).losses(network.name), run_eagerly=True)
    image, joints = helpers.images((4, 64, 128, 3)), np.full((4, 5, 3), 20.0, "float32")
    before = [np.array(w) for w in network.trainable_weights]
    for _ in range(4):  # of which the first may find the scale of the loss too large, and only lower it
        assert np.isfinite(network.train_on_batch(image, dict.fromkeys(network.output, joints))).all()
        if any((np.array(w) != b).any() for w, b in zip(network.trainable_weights, before)):
            break
    else:
        raise AssertionError("no weight has changed")
    assert all(value.dtype == "float32" and np.isfinite(value).all() for value in network(image).values())


@pytest.mark.slow
def test_eight_pictures_are_learnt_by_heart():
    keras.utils.set_random_seed(0)
    network = create_model("hourglass2_64", (64, 64, 3), 3)
    rng = np.random.default_rng(0)
    joints = np.concatenate([rng.uniform(8, 56, (8, 3, 2)), np.ones((8, 3, 1))], -1).astype("float32")
    joints[0, 0] = 0  # not labelled
    image = np.full((8, 64, 64, 3), 60.0, "float32")
    for b, j in np.ndindex(8, 3):
        x, y = joints[b, j, :2].astype(int)
        image[b, max(y - 3, 0):y + 3, max(x - 3, 0):x + 3, j] = 250
    network.compile(keras.optimizers.Adam(2e-3), module_of(network.name).losses(network.name))
    labelled, graph = joints[..., 2] > 0, detector(network)
    for _ in range(15):
        network.fit(image, dict.fromkeys(network.output, joints), batch_size=8, epochs=20, verbose=0)
        error = np.hypot(*(graph.predict(image, verbose=0)["keypoints"] - joints)[..., :2][labelled].T)
        if error.max() < 3:
            return
    raise AssertionError(error)
