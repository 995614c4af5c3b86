import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cnns.data import images
from keras_cnns.data import samples as data_samples
from keras_cnns.data.samples import LabelImage, Sample
from keras_cnns.errors import InputError
from keras_cnns.losses import DiceLoss, PixelEntropy
from keras_cnns.models import create_model, info, list_models
from keras_cnns.models.segmentation import multiscale, unet
from keras_cnns.training import recipes, runs, segment

NAMES = ["disc", "square"]


def encoded(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def sample(seed, side=64):
    """A bright disc and a dark square on noise, at places of chance; a ring around the disc counts neither way."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 130, (side, side, 3), "uint8")
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), "uint8")
    v, u = rng.integers(14, side // 2 - 4, 2)
    distance = np.hypot(y - v, x - u)
    labels[distance < 12], labels[distance < 10] = 255, 1
    pixels[labels == 1] = (220, 200, 40)
    v, u = rng.integers(side // 2 + 8, side - 20, 2)
    labels[v:v + 16, u:u + 16] = 2
    pixels[labels == 2] = (20, 30, 60)
    return Sample(str(seed), encoded(pixels), (side, side), segmentation=LabelImage(encoded(labels)))


@pytest.fixture(scope="module")
def samples():
    return [sample(seed) for seed in range(8)]


RECIPE = recipes.recipe("unet_same")._replace(
    learning_rate=2e-3, batch=1, epochs=16, warmup=8, change=None, balance=1.02)
SHAPE = (64, 64, 3)


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "FILTERS", 8)
        patch.setattr(multiscale, "HIDDEN", 16)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, samples):
    """Folder, network and history of a whole run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, *runs.train("unet_same", samples, NAMES, folder, RECIPE, SHAPE, validation=samples[:2])


def test_a_run_learns_eight_images_by_heart(run, samples):
    folder, network, history = run
    assert set(history[0]) == {"loss", "mean_iou", "pixel_accuracy"}
    assert network.output_shape == (None, 64, 64, 3)  # with the background
    assert (folder / "labels.txt").read_text().split() == NAMES
    result = segment.evaluate(keras.saving.load_model(folder / "network.keras", compile=False), samples, progress=False)
    print(f"mean IoU {result.mean_iou:.3f}, loss {history[0]['loss']:.3f} to {history[-1]['loss']:.3f}")
    assert result.mean_iou > 0.7 and result.pixel_accuracy > 0.9
    assert result.confusion.sum() == sum((data_samples.segmentation(s) != 255).sum() for s in samples)


def test_a_folder_of_before_the_recipe_had_a_field_is_the_same_run(run, tmp_path):
    settings = json.loads((run[0] / "settings.json").read_text())
    before = {key: value for key, value in settings["recipe"].items() if key != "dice"}
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "recipe": before}))
    runs._refuse_another_run(tmp_path, settings)
    with pytest.raises(InputError, match="other recipe"):
        runs._refuse_another_run(tmp_path, {**settings, "recipe": settings["recipe"] | {"dice": 1.0}})


def test_dices_loss_is_added_to_the_entropy(samples):
    network = create_model("unet_same", SHAPE, 3)
    pixels = np.stack([images.decode(s.source, "0") for s in samples[:2]]).astype("float32")
    truth = np.stack([data_samples.segmentation(s) for s in samples[:2]]).astype("int32")
    border = np.stack([truth, 1 + np.arange(truth.size).reshape(truth.shape) % 3], -1).astype("float32")

    def loss(dice, labels):
        trained = segment.compiled(network, "sgd", RECIPE._replace(dice=dice), samples)
        return trained.evaluate(pixels, labels, verbose=0)

    logits = keras.Model(network.input, network.get_layer("predictions").input).predict(pixels, verbose=0)
    for labels in (truth, border):
        expected = loss(0.0, labels) + 0.5 * float(DiceLoss()(truth, logits))
        assert loss(0.5, labels) == pytest.approx(expected, rel=1e-4)


def test_labels_and_probabilities_are_of_the_images_size(run, samples):
    _, network, _ = run
    labels = list(segment.segment(network, samples[:2], progress=False))
    assert [each.shape for each in labels] == [(64, 64)] * 2 and labels[0].dtype == np.uint8
    pixels = images.decode(samples[0].source, "0")
    found = segment.probabilities(network, pixels)
    np.testing.assert_allclose(found, network.predict(pixels[None].astype("float32"), verbose=0)[0], atol=1e-5)
    np.testing.assert_array_equal(found.argmax(-1), labels[0])
    large = pixels.repeat(2, 0).repeat(2, 1)[:, :100]
    found = segment.probabilities(network, large)
    assert found.shape == (128, 100, 3)
    right = found.argmax(-1) == labels[0].repeat(2, 0).repeat(2, 1)[:, :100]
    assert right.mean() > 0.9


def test_an_average_over_turns_turns_with_the_image(run):
    _, network, _ = run
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")
    found = segment.averaged(network, pixels)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    for turned in (lambda x: np.rot90(x, 1), lambda x: x[::-1]):
        np.testing.assert_allclose(segment.averaged(network, turned(pixels)), turned(found), atol=1e-5)


def test_a_free_network_sees_images_as_they_are_or_in_tiles(run, samples):
    _, network, _ = run
    free = create_model("unet_same", (None, None, 3), 3)
    free.set_weights(network.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), "uint8")
    found = segment.probabilities(free, pixels)
    np.testing.assert_allclose(found, free(pixels[None].astype("float32"))[0], atol=1e-5)
    assert segment.probabilities(free, pixels, tile=64).shape == found.shape
    odd = info.weightless(lambda: create_model("deconvnet_16", (None, None, 3), 3))
    with pytest.raises(InputError, match="no image of 50 x 70 pixels; give the side of a tile"):
        segment.probabilities(odd, pixels)
    one, = segment.segment(free, samples[:1], tile=64, progress=False)
    assert (one == next(segment.segment(free, samples[:1], progress=False))).mean() > 0.95


def test_a_stopped_run_goes_on_and_ends_like_an_uninterrupted_one(tmp_path, samples, monkeypatch):
    recipe = RECIPE._replace(optimizer="sgd", learning_rate=1e-2, epochs=2, batch=4, view="tile", balance=None)
    arguments = "multiscale_convnet", samples, NAMES
    whole, expected = runs.train(*arguments, tmp_path / "whole", recipe, SHAPE, validation=samples[:2])

    def stopped():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        numbers = iter([lambda: {}, stopped])
        patch.setattr(segment, "evaluation", lambda *_: lambda: next(numbers)())
        with pytest.raises(KeyboardInterrupt):
            runs.train(*arguments, tmp_path / "broken", recipe, SHAPE, validation=samples[:2])
    network, history = runs.train(*arguments, tmp_path / "broken", recipe, SHAPE, validation=samples[:2])
    assert history[-1] == pytest.approx(expected[-1], rel=1e-4)
    for one, other in zip(whole.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_u_net_learns_the_middle_of_its_tiles(tmp_path, samples):
    recipe = recipes.recipe("unet")._replace(optimizer="adam", learning_rate=3e-3, epochs=2)
    network, history = runs.train("unet", samples, NAMES, tmp_path / "run", recipe, (220, 220, 1),
                                  validation=samples[:1])
    assert network.output_shape == (None, 36, 36, 3) and history[1]["loss"] < history[0]["loss"]
    pixels = images.decode(samples[0].source, "0")
    found = segment.probabilities(network, pixels)
    assert found.shape == (64, 64, 3)
    np.testing.assert_allclose(found, segment.probabilities(network, pixels, tile=220), atol=1e-5)
    free = create_model("unet", (None, None, 1), 3)
    free.set_weights(network.get_weights())
    np.testing.assert_allclose(found, segment.probabilities(free, pixels, tile=220), atol=1e-5)
    with pytest.raises(InputError, match="give the side of a tile"):
        segment.probabilities(free, np.zeros((300, 300, 3)))


def test_what_a_u_net_is_fed_lies_under_its_answer(samples):
    network = create_model("unet", (220, 220, 1), 3)
    recipe = recipes.recipe("unet")._replace(change=None)
    image, labels = next(iter(segment.elements(network, samples, recipe, 0, 0)))
    assert image.shape == (1, 220, 220, 1) and labels["predictions"].shape == (1, 36, 36, 2)
    middle = image.numpy()[0, 92:128, 92:128, 0]
    dark = labels["predictions"].numpy()[0, ..., 0] == 2
    assert dark.any() == (middle < 60).any() and (not dark.any() or (middle[dark] < 60).all())


def test_auxiliary_outputs_learn_too(samples):
    network = create_model("recurrent_cnn2_aux", (64, 64, 3), 3)
    recipe = recipes.recipe("recurrent_cnn2_aux")._replace(batch=2)
    trained = segment.compiled(network, keras.optimizers.SGD(0.0), recipe, samples)
    image, labels = next(iter(segment.elements(network, samples, recipe, 0, 0)))
    logs = trained.train_on_batch(image, labels, return_dict=True)
    parts = {name: float(keras.ops.mean(PixelEntropy()(labels[name], value)))
             for name, value in trained(image, training=True).items()}
    assert set(parts) == {"predictions", "aux1"} and logs["loss"] == pytest.approx(sum(parts.values()), rel=1e-4)
    assert segment.answering(network).output.shape[1:] == (64, 64, 3)


def test_the_rarer_a_class_the_more_it_weighs(samples):
    labels = np.concatenate([data_samples.segmentation(s).reshape(-1) for s in samples])
    share = np.array([(labels == k).sum() for k in range(3)]) / (labels != 255).sum()
    np.testing.assert_allclose(segment.class_weights(samples, 3), 1 / np.log(1.02 + share))
    network = create_model("unet_same", SHAPE, 3)
    assert segment.compiled(network, "sgd", RECIPE, samples).loss["predictions"].class_weights is not None
    with pytest.raises(InputError, match="balance=1.0: give more than 1"):
        segment.class_weights(samples, 3, 1.0)


def test_what_cannot_be_learnt_or_evaluated_is_told(run, samples):
    _, network, _ = run
    free = create_model("unet_same", (None, None, 3), 3)
    with pytest.raises(InputError, match="needs a fixed size"):
        segment.compiled(free, "sgd", RECIPE, samples)
    with pytest.raises(InputError, match="has no segmentation"):
        segment.compiled(network, "sgd", RECIPE, [samples[0], samples[1]._replace(segmentation=None)])
    with pytest.raises(InputError, match="No samples"):
        segment.evaluate(network, [])
    other = samples[0]._replace(segmentation=LabelImage(encoded(np.full((64, 64), 3, "uint8"))))
    with pytest.raises(InputError, match="label 3, but unet_same knows 3, counted from 0"):
        segment.evaluate(network, [other], progress=False)


def test_every_row_of_segmentation_is_of_a_segmenter():
    assert set(list_models(task="segmentation")) <= set(recipes.SEGMENTATION)


def test_the_rate_of_torchvisions_recipe_falls_as_a_polynomial():
    rate = recipes.optimizer(recipes.recipe("fcn_resnet50"), 10)._learning_rate
    np.testing.assert_allclose([float(rate(step)) for step in (0, 150, 300)], [0.02, 0.02 * 0.5**0.9, 0], rtol=1e-5)
    fixed = recipes.optimizer(recipes.recipe("fcn32s"), 10)._learning_rate
    assert float(fixed(0)) == float(fixed(1749)) == pytest.approx(1e-4)
