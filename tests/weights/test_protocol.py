"""`keras-cnns evaluate NAME --weights RELEASE` shows a network what its authors showed theirs."""

import os
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cnns import cli
from keras_cnns.data import images, named
from keras_cnns.data import samples as data_samples
from keras_cnns.training import classify
from keras_cnns.weights import create_model, releases

SAMPLES = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", "data"), "imagenet_samples")
NAME = "mobilenet_v1_025"  # whose authors published no digest, so that a file by hand may hold any weights


@pytest.fixture(scope="module")
def donor(tmp_path_factory):
    """keras.applications' network of random weights that tell pictures apart, by hand in a folder."""
    model = keras.applications.MobileNet(weights=None, alpha=0.25)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name == "kernel":
            fan_in = np.prod(variable.shape[:2 if "_dw_" in variable.path else -1])
            variable.assign(rng.standard_normal(variable.shape, "float32") * (2 / fan_in) ** 0.5)
    last = model.get_layer("conv_preds").kernel
    last.assign(40 * last)
    folder = tmp_path_factory.mktemp("weights")
    model.save(folder / releases.RELEASES[NAME][0].file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_CNNS_WEIGHTS", str(folder))
        yield model


def by_pillow(path, resize, side):
    """The middle of an image whose shorter side has been resized, as torchvision's transforms do it."""
    image = Image.open(path).convert("RGB")
    if isinstance(resize, int):
        width, height = image.size
        resize = (resize * height // min(image.size), resize * width // min(image.size))
    image = image.resize(resize[::-1], Image.Resampling.BILINEAR)
    left, top = (round((n - side) / 2) for n in image.size)
    return np.array(image.crop((left, top, left + side, top + side)), "float32")


def a_picture(tmp_path, size):
    rng = np.random.default_rng(0)
    path = tmp_path / f"{size[0]}.png"
    Image.fromarray(rng.integers(0, 255, (9, 7, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize("size", [(500, 375), (201, 333), (227, 227), (640, 640)])
@pytest.mark.parametrize("resize, side", [(256, 224), (342, 299), ((256, 256), 227)])
def test_the_middle_of_a_resized_image(tmp_path, size, resize, side):
    path = a_picture(tmp_path, size)
    found = images.resized_middle(np.array(Image.open(path)), (side, side, 3), resize)
    np.testing.assert_allclose(found, by_pillow(path, resize, side), atol=1.01)  # Pillow rounds between two passes


@pytest.mark.skipif(not SAMPLES.exists(), reason="no imagenet_samples in KERAS_CNNS_DATA")
def test_of_real_pictures_the_donors_own_answers(donor, capsys):
    row = releases.RELEASES[NAME][0]
    samples, _, _ = named.classification(f"folder:{SAMPLES}", "train", releases.data_names(row))
    seen = [images.resized_middle(data_samples.pixels(s), (224, 224, 3), row.resize) for s in samples]
    want = donor.predict(np.stack(seen) / 127.5 - 1, verbose=0)
    found = classify.predict(create_model(NAME, weights="imagenet"), samples, progress=False, resize=row.resize)
    np.testing.assert_allclose(found, want, atol=1e-5)
    assert cli.main(["evaluate", NAME, "--weights", "imagenet", "--data", f"folder:{SAMPLES}", "--split", "train"]) == 0
    labels = np.array([s.label for s in samples])
    assert f"{(found.argmax(1) == labels).mean():.4f}" in capsys.readouterr().out
    assert cli.main(["predict", NAME, samples[0].source, "--weights", "imagenet"]) == 0
    assert "\t" in capsys.readouterr().out
