"""Training on crops of persons, and answers in pixels of their images."""

import keras
import numpy as np
import pytest

from keras_cnns.data import coco, named, persons
from keras_cnns.data.samples import Sample
from keras_cnns.models import detector
from keras_cnns.ops import heatmaps
from keras_cnns.training import keypoints, recipes, runs
from tests.data.helpers import stopped as refused

SIZE = (64, 64, 3)
pytestmark = pytest.mark.usefixtures("shallow_hourglass")


@pytest.fixture(scope="module")
def figures():
    samples, names, _ = named.keypoints("figures:6", progress=False)
    return samples, names


def recipe(epochs):
    return recipes.lasting(recipes.recipe("hourglass2_64"), epochs)._replace(batch=2, warmup=0)


@pytest.fixture(scope="module")
def run(figures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "figures"
    network, history = runs.train("hourglass2_64", *figures, folder, recipe(2), SIZE, validation=figures[0][:2])
    return folder, network, history


def test_a_run_learns_and_leaves_a_network_and_the_names_of_its_joints(run, figures):
    folder, _, history = run
    assert history[1]["loss"] < history[0]["loss"]
    assert set(history[1]) >= {"loss", "stack1_loss", "stack2_loss", "PCK", "PCKh"}
    assert (folder / "labels.txt").read_text().splitlines() == figures[1]
    again = keras.saving.load_model(folder / "network.keras", compile=False)
    image = np.full((1, *SIZE), 99.0, "float32")
    np.testing.assert_array_equal(detector(again)(image)["keypoints"], detector(run[1])(image)["keypoints"])


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(run, figures, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    save = runs.callbacks.Checkpoint.on_epoch_end

    def stop(self, epoch, logs=None):
        save(self, epoch, logs)
        raise Stop

    arguments = "hourglass2_64", *figures, tmp_path / "run", recipe(2), SIZE
    monkeypatch.setattr(runs.callbacks.Checkpoint, "on_epoch_end", stop)
    with pytest.raises(Stop):
        runs.train(*arguments, validation=figures[0][:2])
    monkeypatch.undo()
    network, history = runs.train(*arguments, validation=figures[0][:2])
    assert [epoch["loss"] for epoch in history] == pytest.approx([epoch["loss"] for epoch in run[2]], rel=1e-4)


class Oracle:
    """Stands in for a network's inference graph: it knows of each crop where the joints are."""

    def __init__(self, samples, size):
        self.input_shape, self.rows = (None, *size, 3), []
        for sample in samples:
            x, y, width = persons.frame(sample, size)
            places = (sample.keypoints[0, :, :2] - (x, y)) * size[1] / width + (size[1] / 2, size[0] / 2)
            self.rows.append(np.concatenate([places, np.ones((len(places), 1))], -1))

    def predict_on_batch(self, image):
        rows, self.rows = self.rows[:len(image)], self.rows[len(image):]
        return {"keypoints": np.array(rows, "float32")}


def test_who_knows_the_joints_is_always_right_in_pixels_of_the_image(figures):
    samples, names = figures
    found = keypoints.predict(Oracle(samples, (64, 96)), samples, 4, progress=False)
    seen = np.concatenate([s.keypoints for s in samples])
    np.testing.assert_allclose(found[..., :2][seen[..., 2] > 0], seen[..., :2][seen[..., 2] > 0], atol=1e-3)
    result = keypoints.evaluate(Oracle(samples, (64, 64)), samples, 4, progress=False)
    assert result.pck.mean == result.pckh.mean == 1 and result.oks is None


def two_and_one():
    """Two persons of COCO's joints in one image, and one in another."""
    rng = np.random.default_rng(0)
    images = []
    for number, count in enumerate((2, 1)):
        joints = np.concatenate([rng.uniform(20, 180, (count, 17, 2)), np.full((count, 17, 1), 2)], -1)
        boxes = np.concatenate([joints[..., :2].min(1), joints[..., :2].max(1)], -1)
        source = named.synthetic.samples(1, first=number)[0].source
        images.append(Sample(str(number), source, (0, 0), boxes.astype("float32"), np.ones(count, "int32"),
                             np.zeros(count, bool), {"area": [9000.0] * count}, keypoints=joints.astype("float32")))
    return persons.split(images, coco.KEYPOINTS)[0]


def test_cocos_numbers_are_of_images_not_of_persons():
    samples = two_and_one()
    result = keypoints.evaluate(Oracle(samples, (64, 64)), samples, 2, progress=False)
    assert result.oks["AP"] == pytest.approx(1) and result.pckh is None and result.pck.mean == 1
    truth, found = keypoints._by_image(samples, np.stack([s.keypoints[0] for s in samples]))
    assert [len(image["keypoints"]) for image in truth] == [len(image["scores"]) for image in found] == [2, 1]
    others = [samples[0], samples[1], samples[2]._replace(keypoints=samples[2].keypoints + [300, 300, 0])]
    result = keypoints.evaluate(Oracle(samples, (64, 64)), others, 2, progress=False)
    assert 0.5 < result.oks["AP"] < 0.75


def test_what_a_network_is_fed_is_what_its_losses_take(figures, run):
    image, joints = next(iter(keypoints.elements(run[1], figures[0], recipe(1), 0, 0)))
    assert image.shape == (2, *SIZE) and set(joints) == set(run[1].output)
    maps = np.array(heatmaps.encode(joints["stack1"].numpy(), 16, 16, 4))
    assert maps.max() > 0.7


def test_in_the_view_plain_persons_are_upright_and_perhaps_mirrored(figures, run):
    upright = np.concatenate([np.array(image) for image, _ in persons.crops(figures[0], SIZE[:2], 2)])
    views = np.concatenate([upright, upright[:, :, ::-1]])
    for image, _ in keypoints.elements(run[1], figures[0], recipe(1)._replace(view="plain"), 0, 0):
        for seen in np.array(image):
            assert np.abs(views - seen).mean((1, 2, 3)).min() < 1


def test_samples_of_other_joints_are_refused(figures, run, tmp_path):
    samples, names = figures
    refused(lambda: runs.train("hourglass2_64", samples, names[:5], tmp_path, recipe(1), SIZE),
            "has 16 joints, class_names 5")
    refused(lambda: keypoints.evaluate(detector(run[1]), two_and_one(), progress=False),
            "The data have 17 joints, the network 16")
    refused(lambda: keypoints.evaluate(detector(run[1]), []), "No samples")
    whole = named.read("figures:1").samples
    refused(lambda: runs.train("hourglass2_64", whole, names, tmp_path, recipe(1), SIZE), "is no person's sample")
    assert not (tmp_path / "settings.json").exists()
