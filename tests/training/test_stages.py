import json

import keras
import numpy as np
import pytest

from keras_cnns.data import synthetic
from keras_cnns.errors import InputError
from keras_cnns.models import detector
from keras_cnns.training import detect, recipes, stages, svm

pytest.importorskip("sklearn")
NAME = "rcnn_resnet20"


def with_boxes(samples, seed=0):
    """Proposals without OpenCV: boxes near the objects, and others anywhere."""
    rng = np.random.default_rng(seed)
    found = []
    for sample in samples:
        height, width = sample.size
        near = np.repeat(sample.boxes, 6, 0) + rng.normal(0, 6, (6 * len(sample.boxes), 4))
        start = rng.uniform(0, 0.7, (20, 2))
        anywhere = np.concatenate([start, start + rng.uniform(0.1, 0.3, (20, 2))], 1) * ([width, height] * 2)
        boxes = np.clip(np.concatenate([near, anywhere]), 0, [width, height] * 2).astype("float32")
        boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1) > 4]
        found.append(sample._replace(proposals=boxes))
    return found


@pytest.fixture(scope="module")
def arguments():
    recipe = recipes.recipe(NAME)._replace(batch=16, epochs=10, warmup=4)
    return dict(name=NAME, samples=with_boxes(synthetic.samples(8)), class_names=synthetic.CLASSES, recipe=recipe,
                seed=3)


@pytest.fixture(scope="module")
def run(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, stages.train(**arguments, folder=folder, validation=arguments["samples"])


def test_r_cnn_learns_some_images_by_heart(run):
    folder, (network, history) = run
    assert history[-1]["AP50"] > 0.6
    assert json.loads((folder / "history.json").read_text()) == history
    assert (folder / "labels.txt").read_text().split() == list(synthetic.CLASSES)
    again = keras.saving.load_model(folder / "network.keras", compile=False)
    a, b = (detect.detect(detector(n), with_boxes(synthetic.samples(2)), progress=False) for n in (network, again))
    for one, two in zip(a, b):
        np.testing.assert_array_equal(one["scores"], two["scores"])


def test_in_an_image_without_proposals_nothing_is_found(run):
    _, (network, _) = run
    without = [sample._replace(proposals=np.zeros((0, 4), "float32")) for sample in synthetic.samples(2)]
    assert [len(found["scores"]) for found in detect.detect(detector(network), without, progress=False)] == [0, 0]


@pytest.mark.slow
def test_a_run_cut_off_between_stages_goes_on_to_the_same(arguments, run, tmp_path, monkeypatch):
    _, (network, history) = run

    def cut(module, name, after):
        calls, kept = [], getattr(module, name)

        def cutting(*args, **kwargs):
            calls.append(1)
            if len(calls) > after:
                raise KeyboardInterrupt
            return kept(*args, **kwargs)

        monkeypatch.setattr(module, name, cutting)
        with pytest.raises(KeyboardInterrupt):
            stages.train(**arguments, folder=tmp_path)
        monkeypatch.setattr(module, name, kept)

    cut(stages, "_answer", 3)     # in the midst of the features
    cut(stages.svm, "fit", 7)     # and of the SVMs
    cut(stages.svm, "ridge", 1)   # and of the regressions
    again, others = stages.train(**arguments, folder=tmp_path)
    assert others == history[:-1]
    for one, two in zip(network.get_weights(), again.get_weights()):
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.slow
def test_damaged_features_are_made_anew(arguments, run):
    folder, (network, _) = run
    (folder / "network.keras").unlink()
    (folder / "4_svms.npz").unlink()
    files = sorted((folder / "3_features").iterdir())
    files[0].write_bytes(b"nothing")
    files[1].write_bytes(files[2].read_bytes())  # another image's
    with (folder / "5_regressions.npz").open("wb") as file:
        np.save(file, np.zeros(3))  # another program's
    (folder / "4_svms_so_far.npz").write_bytes(b"half")
    again, _ = stages.train(**arguments, folder=folder)
    np.testing.assert_allclose(again.get_layer("svm").get_weights()[0], network.get_layer("svm").get_weights()[0],
                               atol=1e-5)


@pytest.mark.slow
def test_features_without_room_are_made_when_they_are_wanted(arguments, run):
    folder, (network, _) = run
    for file in (folder / "3_features").iterdir():
        file.unlink()
    (folder / "4_svms.npz").unlink()
    again, history = stages.train(**arguments, folder=folder, features=100_000)
    assert sum(file.stat().st_size for file in (folder / "3_features").iterdir()) <= 100_000
    assert next(row for row in history if row["stage"] == 3)["images_left_out"] > 0
    np.testing.assert_allclose(again.get_layer("svm").get_weights()[0], network.get_layer("svm").get_weights()[0],
                               atol=1e-5)


def test_another_runs_folder_and_other_proposals_are_refused(arguments, run):
    folder, _ = run
    with pytest.raises(InputError, match="other seed"):
        stages.train(**{**arguments, "seed": 4}, folder=folder)
    with pytest.raises(InputError, match="other proposals"):
        stages.train(**{**arguments, "samples": with_boxes(arguments["samples"], 1)}, folder=folder)


@pytest.mark.slow
def test_spp_net_learns_some_images_by_heart(arguments, tmp_path):
    name = "sppnet_detector_resnet20"
    recipe = recipes.recipe(name)._replace(batch=32, epochs=15, warmup=4)
    network, history = stages.train(**{**arguments, "name": name, "recipe": recipe}, folder=tmp_path,
                                    validation=arguments["samples"])
    assert history[-1]["AP50"] > 0.85
    assert len([row for row in history if "loss" in row]) == 30  # of the convolutions, and of what is behind them
    (tmp_path / "2_pyramids.npy").write_bytes(b"nothing")
    (tmp_path / "network.keras").unlink()
    assert stages.train(**{**arguments, "name": name, "recipe": recipe}, folder=tmp_path)[1] == history[:-1]
    trained = keras.saving.load_model(tmp_path / "2_convolutions" / "checkpoint" / "network.keras", compile=False)
    for layer in network.layers:
        if layer.name.startswith("conv"):
            for one, two in zip(layer.get_weights(), trained.get_layer(layer.name).get_weights()):
                np.testing.assert_array_equal(one, two)  # fine-tuning does not reach behind the pyramid


@pytest.mark.slow
def test_a_class_without_objects_is_told_and_scores_nothing(arguments, tmp_path, capsys):
    names = [*synthetic.CLASSES, "unicorn"]
    recipe = arguments["recipe"]._replace(epochs=1)
    network, _ = stages.train(**{**arguments, "class_names": names, "recipe": recipe}, folder=tmp_path)
    assert "unicorn: has no object that counts; its score will be 0." in capsys.readouterr().out
    graph = detector(network, score_threshold=0.0, max_detections=300)
    for found in detect.detect(graph, arguments["samples"][:2], progress=False):
        assert not found["scores"][found["labels"] == len(names)].any()


def test_what_is_known_of_regions_by_hand():
    boxes = np.float32([[0, 0, 100, 100], [200, 0, 300, 100], [0, 200, 100, 300]])
    proposals = np.float32([[0, 0, 100, 60], [0, 0, 100, 40], [0, 0, 100, 20], [210, 0, 300, 100], [400, 400, 450, 450],
                            [0, 210, 100, 300]])
    sample = synthetic.samples(1)[0]._replace(
        boxes=boxes, labels=np.int32([1, 2, 2]), ignored=np.array([False, False, True]), proposals=proposals)
    known = stages.Known(sample, 2)
    assert known.truth.tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
    assert known.label.tolist() == [1, 2, 1, 0, 0, 2, 0, -1]
    assert known.negative.tolist() == [
        [False, True], [True, False], [False, True], [False, True], [True, True], [True, False], [True, True],
        [False, False]]


@pytest.mark.parametrize("change, says", [
    (lambda s: s._replace(proposals=np.zeros((2001, 4), "float32")), "more than the 2000"),
    (lambda s: s._replace(boxes=s.boxes[:0], labels=s.labels[:0], ignored=s.ignored[:0]), "has an object")])
def test_samples_that_cannot_be_learnt_from_are_refused(arguments, tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        stages.train(**{**arguments, "samples": [change(s) for s in arguments["samples"]]}, folder=tmp_path)


def test_some_with_and_some_without_proposals_are_refused(arguments, tmp_path):
    mixed = [arguments["samples"][0], arguments["samples"][1]._replace(proposals=None)]
    with pytest.raises(InputError, match="others have"):
        stages.train(**{**arguments, "samples": mixed}, folder=tmp_path)


def test_only_models_of_stages_are_trained_so(tmp_path):
    with pytest.raises(InputError, match="faster_rcnn_vgg16 is not trained in stages"):
        stages.train("faster_rcnn_vgg16", synthetic.samples(1), synthetic.CLASSES, tmp_path)


def points(rng, count, width=12):
    """Features, in two classes and neither, of some images."""
    middle = rng.normal(size=(3, width)) * 4
    images = []
    for _ in range(count):
        kind = rng.integers(0, 3, 60)
        kind[:2] = 1, 2
        truth = np.where(np.arange(60) < 10, kind, 0)
        images.append((np.float32(middle[kind] + rng.normal(size=(60, width))), truth,
                       kind[:, None] != np.arange(1, 3)))
    return images, middle


def test_svms_part_classes_and_the_state_says_where_to_go_on():
    images, middle = points(np.random.default_rng(0), 6)
    kept = []
    weights, biases = svm.mined(images, 2, keep=kept.append, progress=False)
    features, negative = (np.concatenate([image[i] for image in images]) for i in (0, 2))
    assert ((features @ weights + biases > 0) != negative).mean(0).min() > 0.99
    again = svm.mined(images, 2, kept[0], progress=False)
    np.testing.assert_array_equal(again[0], weights)
    np.testing.assert_array_equal(again[1], biases)


def test_a_class_without_positives_is_never_found_and_one_example_is_enough():
    images, _ = points(np.random.default_rng(1), 3)
    images = [(f, np.where((truth == 1) & (i > 0), 0, np.where(truth == 2, 0, truth)), n)
              for i, (f, truth, n) in enumerate(images)]
    images[0][1][images[0][1] == 1] *= np.arange(np.sum(images[0][1] == 1)) == 0
    weights, biases = svm.mined(images, 2, progress=False)
    assert biases[1] == -np.inf and not weights[:, 1].any()
    assert np.isfinite(biases[0]) and weights[:, 0].any()


@pytest.mark.parametrize("count", [9, 60])
def test_ridge_equals_scikit_learns_of_decorrelated_offsets(count):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(count)
    x, y = rng.normal(size=(count, 20)) * 3, rng.normal(size=(count, 4)) @ rng.normal(size=(4, 4))
    weights, bias = svm.ridge(zip(np.split(x, [3, 3, 8]), np.split(y, [3, 3, 8])), 10.0)
    scaled = np.insert(x * 20 / np.linalg.norm(x, axis=1).mean(), 20, 1, axis=1)
    values, vectors = np.linalg.eigh((y - y.mean(0)).T @ (y - y.mean(0)) / count)
    root = np.sqrt(values + 1e-3)
    model = Ridge(10.0, fit_intercept=False).fit(scaled, (y - y.mean(0)) @ vectors @ np.diag(1 / root) @ vectors.T)
    want = model.predict(scaled) @ vectors @ np.diag(root) @ vectors.T + y.mean(0)
    np.testing.assert_allclose(x @ weights + bias, want, atol=1e-4)
    assert not svm.ridge([(x[:0], y[:0])], 10.0)[0].any()


def test_two_examples_of_a_class_are_learnt_at_a_higher_cost():
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(0, 1, (400, 64)), 0).astype("float32")
    features[:2, 0] += 3
    truth = np.zeros(400, int)
    truth[:2] = 1
    images = [(features, truth, (truth == 0)[:, None])]
    for cost, learnt in ((svm.COST, False), (0.1, True)):
        weights, biases = svm.mined(images, 1, progress=False, cost=cost)
        margins = features @ weights[:, 0] + biases[0]
        assert (margins[:2].min() > max(margins[2:].max(), 0)) == learnt
