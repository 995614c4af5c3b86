import io
import types

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cnns import losses, models
from keras_cnns.data.samples import Sample
from keras_cnns.errors import InputError
from keras_cnns.metrics import classification as metrics
from keras_cnns.training import classify, recipes, runs

NAMES = ["across", "down", "both"]


def picture(lines, seed, size=28):
    """Bright lines on black, at a place of chance."""
    image = np.zeros((size, size), "uint8")
    y, x = np.random.default_rng(seed).integers(6, size - 8, 2)
    if lines in (0, 2):
        image[y:y + 3, 4:-4] = 255
    if lines in (1, 2):
        image[4:-4, x:x + 3] = 255
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def samples():
    return [Sample(str(i), picture(i % 3, i), (28, 28), label=i % 3) for i in range(48)]


@pytest.fixture(scope="module")
def several():
    """The same, told as two classes of which both may be there."""
    present = np.array([[1, -1], [-1, 1], [1, 1]], "int32")
    return [Sample(str(i), picture(i % 3, i), (28, 28), present=present[i % 3]) for i in range(48)]


RECIPE = recipes.recipe("lenet5_dense")._replace(batch=4, epochs=3, view="plain")


@pytest.fixture(scope="module")
def run(tmp_path_factory, samples):
    """Folder, network and history of a whole run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, *runs.train("lenet5_dense", samples, NAMES, folder, RECIPE._replace(epochs=5),
                                          validation=samples[:9])


def test_a_run_learns_and_leaves_the_whole_network(run, samples):
    folder, network, history = run
    assert set(history[0]) == {"loss", "accuracy", "top1", "top5"} and history[-1]["top1"] > 0.7
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert (folder / "labels.txt").read_text().split() == NAMES
    loaded = keras.saving.load_model(folder / "network.keras", compile=False)
    answer = classify.predict(loaded, samples[:5], progress=False)
    np.testing.assert_allclose(answer.sum(1), 1.0, rtol=1e-5)  # with its softmax
    np.testing.assert_allclose(answer, classify.predict(network, samples[:5], progress=False), atol=1e-5)
    result = classify.evaluate(loaded, samples, progress=False)
    assert result.top1 > 0.7 and list(result.counts) == [16, 16, 16]


def test_a_stopped_run_goes_on_and_ends_like_an_uninterrupted_one(tmp_path, samples, monkeypatch):
    arguments = "lenet5_dense", samples, NAMES
    whole, expected = runs.train(*arguments, tmp_path / "whole", RECIPE, validation=samples[:4])

    def stopped():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        numbers = iter([lambda: {}, stopped])
        patch.setattr(classify, "evaluation", lambda *_: lambda: next(numbers)())
        with pytest.raises(KeyboardInterrupt):
            runs.train(*arguments, tmp_path / "broken", RECIPE, validation=samples[:4])
    network, history = runs.train(*arguments, tmp_path / "broken", RECIPE, validation=samples[:4])
    for one, other in zip(expected[1:], history[1:], strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for one, other in zip(whole.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_several_classes_an_image_train_sigmoids(tmp_path, several):
    network, history = runs.train("lenet5_dense", several, ["across", "down"], tmp_path / "run",
                                             RECIPE._replace(epochs=4), validation=several[:6])
    assert history[-1]["mAP"] > 0.95 and "top1" not in history[-1]
    answer = classify.predict(network, several[2:3], progress=False)
    assert answer.shape == (1, 2) and answer.sum() > 1.2  # both are there
    assert classify.evaluate(network, several, progress=False).ap.keys() == {1, 2}


def with_auxiliary(name, input_shape=None, num_classes=3, classifier_activation="softmax"):
    """A network with an auxiliary classifier, as googlenet_aux has."""
    image = keras.Input(input_shape or (32, 32, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    outputs = {key: keras.layers.Activation(classifier_activation, name=key)(keras.layers.Dense(num_classes)(x))
               for key in ("predictions", "aux1")}
    return keras.Model(image, outputs, name=name)


def test_auxiliary_losses_weigh_what_the_recipe_says(monkeypatch, tmp_path, samples):
    monkeypatch.setitem(models.MODELS, "tiny", types.SimpleNamespace(build=with_auxiliary, TASK="classification"))
    network = with_auxiliary("tiny")
    recipe = recipes.recipe("googlenet_aux")._replace(view="plain", colour=None, batch=8, epochs=1)
    trained = classify.compiled(network, recipes.optimizer(recipe, 1), recipe, samples)
    images, targets = next(iter(classify.elements(network, samples, recipe, 0, 0)))
    found = trained.evaluate(images, targets, return_dict=True, verbose=0)
    of = {name: classify.ClassEntropy()(targets[name], logits) for name, logits in trained(images).items()}
    assert found["loss"] == pytest.approx(float(of["predictions"] + 0.3 * of["aux1"]), rel=1e-4)
    trained, history = runs.train("tiny", samples, NAMES, tmp_path / "run", recipe, validation=samples[:3])
    assert {"predictions_loss", "aux1_loss", "top1"} <= set(history[0])
    assert classify.predict(trained, samples[:2], progress=False).shape == (2, 3)


def test_the_networks_own_loss_wins(samples, several):
    for name, kind in (("lenet5", losses.CompetitiveLoss), ("lenet5_dense", classify.ClassEntropy)):
        network = models.create_model(name)
        trained = classify.compiled(network, "sgd", recipes.recipe(name), samples)
        assert isinstance(trained.loss["predictions"], kind)
    with pytest.raises(InputError, match="lenet5: .*one class an image"):
        classify.options("lenet5", several)


def test_losses_equal_plain_loops_and_do_not_saturate():
    dice = np.random.default_rng(0)
    logits, labels = dice.normal(0, 2, (6, 4)), dice.integers(0, 4, 6)
    told = dice.choice([-1, 0, 1], (6, 4))
    for smoothing in (0.0, 0.1):
        found = classify.ClassEntropy(smoothing, reduction=None)(labels, logits)
        for i in range(6):
            p = np.exp(logits[i]) / np.exp(logits[i]).sum()
            goal = [(1 - smoothing) * (k == labels[i]) + smoothing / 4 for k in range(4)]
            assert float(found[i]) == pytest.approx(-sum(g * np.log(q) for g, q in zip(goal, p)), rel=1e-5)
    found = classify.PresenceEntropy(reduction=None)(told, logits)
    for i in range(6):
        terms = [np.log(1 + np.exp(-t * x)) for t, x in zip(told[i], logits[i]) if t]  # log loss of t = 1 or -1
        assert float(found[i]) == pytest.approx(np.mean(terms) if terms else 0.0, rel=1e-5)
    for loss, target in ((classify.ClassEntropy(), [1]), (classify.PresenceEntropy(), [[-1, 1]])):
        assert float(loss(np.array(target), np.array([[500.0, -500.0]]))) >= 499.0


def mean_and_corner():
    """A network that answers an image's mean and its first pixel."""
    image = keras.Input((224, 224, 3), name="image")
    first = keras.layers.Flatten()(keras.layers.Cropping2D(((0, 223), (0, 223)))(image))
    return keras.Model(image, keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(image), first]))


def test_ten_views_are_averaged_in_any_batches():
    image = np.random.default_rng(1).integers(0, 256, (256, 256, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    sample = Sample("a", file.getvalue(), (256, 256), label=0)
    crops = [image[y:y + 224, x:x + 224] for y, x in ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))]
    crops += [crop[:, ::-1] for crop in crops]
    want = np.mean([[*crop.mean((0, 1)), *crop[0, 0]] for crop in crops], 0)
    for batch in (1, 25):
        found = classify.predict(mean_and_corner(), [sample] * 3, batch, 10, progress=False)
        np.testing.assert_allclose(found, [want] * 3, rtol=1e-4)
    one = classify.predict(mean_and_corner(), [sample], progress=False)[0]
    np.testing.assert_allclose(one, [*crops[4].mean((0, 1)), *crops[4][0, 0]], rtol=1e-4)


def test_what_cannot_be_is_answered_in_a_line(tmp_path, samples, several):
    network = models.create_model("lenet5_dense", num_classes=2)
    for says, call in (
            ("No testing with 5 views. Known: 1, 10", lambda: classify.predict(network, samples, views=5)),
            ("3 classes, the network 2", lambda: classify.evaluate(network, samples, progress=False)),
            ("No samples", lambda: classify.evaluate(network, [])),
            ("fixed size", lambda: classify.predict(models.create_model("resnet18", (None, None, 3)), samples)),
            ("neither label nor present", lambda: classify.options("resnet18", [Sample("a", b"")])),
            ("class 2, from 0", lambda: runs.train("lenet5_dense", samples, NAMES[:2], tmp_path / "run")),
            ("2 classes, but", lambda: runs.train("lenet5_dense", several, NAMES, tmp_path / "run")),
            ("fixed size and 1 or 3 channels", lambda: runs.train(
                "lenet5_dense", samples, NAMES, tmp_path / "run", input_shape=(32, 32, 4)))):
        with pytest.raises(InputError, match=says) as error:
            call()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    assert isinstance(classify.evaluate(models.create_model("lenet5_dense", num_classes=3), samples[:4],
                                        progress=False), metrics.Accuracy)
