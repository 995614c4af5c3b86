"""The command line with a segmenter: trained, evaluated, asked and exported."""

import numpy as np
import pytest
from PIL import Image

from keras_cnns import cli
from keras_cnns.data import synthetic
from keras_cnns.models.segmentation import unet
from keras_cnns.serving.server import Server


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "FILTERS", 4)
        assert cli.main(["train", "unet_same", "--data", "synthetic:4", "--input-size", "32", "--batch", "2",
                         "--epochs", "1", "--output", str(folder), "--validation-split", "val", "--limit", "4"]) == 0
    return folder


@pytest.fixture
def photo(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), "uint8")
    Image.fromarray(image).save(tmp_path / "a.png")
    np.save(tmp_path / "large.npy", image)
    return tmp_path


def refused(capsys, *arguments):
    assert cli.main(list(map(str, arguments))) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keras-cnns:")]
    assert len(lines) == 1
    return lines[0]


def test_a_run_leaves_its_network_and_labels(run_folder):
    assert (run_folder / "labels.txt").read_text().split() == list(synthetic.CLASSES)
    assert (run_folder / "network.keras").is_file()


def test_evaluate_prints_every_class_and_the_four_numbers(capsys, run_folder, tmp_path):
    assert cli.main(["evaluate", str(run_folder), "--data", "synthetic:3", "--confusion", str(tmp_path / "c.png")]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert all(name in output for name in ("background", *synthetic.CLASSES))
    for name in ("Pixel accuracy 0.", "mean accuracy 0.", "mean IoU 0.", "frequency-weighted IoU 0."):
        assert name in output
    assert (tmp_path / "c.png").is_file()


def test_of_slices_of_isbi_it_prints_that_challenges_errors(capsys, tmp_path):
    for name, values in (("image", (60, 200)), ("label", (0, 255))):
        pixels = np.full((32, 32), values[1], "uint8")
        pixels[:, 15:17] = values[0]
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "train" / name / "0.png")
    data, run = f"isbi:{tmp_path}", str(tmp_path / "run")
    assert cli.main(["train", "unet_same_16", "--data", data, "--input-size", "32", "--batch", "1", "--epochs", "1",
                     "--dice", "0.5", "--balance", "1.02", "--tile", "--output", run]) == 0
    assert '"view": "tile"' in (tmp_path / "run" / "settings.json").read_text()
    capsys.readouterr()
    assert cli.main(["evaluate", run, "--data", data, "--split", "train"]) == 0
    assert "ISBI: pixel error 0." in (output := capsys.readouterr().out) and "information error" in output


def test_predict_writes_overlays_and_labels(capsys, run_folder, photo):
    out = photo / "out"
    assert cli.main(["predict", str(run_folder), str(photo / "a.png"), "--output", str(out)]) == 0
    output = capsys.readouterr().out
    assert f"{out / 'a.png'}: the labels in a_labels.png" in output
    with Image.open(out / "a.png") as picture, Image.open(out / "a_labels.png") as labels:
        assert labels.mode == "P" and labels.size == (40, 50) and np.asarray(labels).max() <= 5
        assert picture.width == 40 and picture.height > 50  # with a legend
    assert cli.main(["predict", str(run_folder), str(photo / "large.npy"), "--output", str(out), "--tile", "32"]) == 0
    assert np.load(out / "large_labels.npy").shape == (50, 40)


def test_what_a_segmenter_cannot_be_asked_is_told(capsys, run_folder, photo, monkeypatch):
    assert "tiles cannot be of 64" in refused(capsys, "predict", run_folder, photo / "a.png", "--tile", 64)
    monkeypatch.chdir(photo)
    for folder in (photo, "."):
        assert "a.png: a picture of this name would be written over it" in refused(
            capsys, "predict", run_folder, photo / "a.png", "--output", folder)
    assert "Two images have one name" in refused(capsys, "predict", run_folder, photo / "a.png", photo / "large.npy",
                                                 photo / "b" / "a.png")
    assert "dice=-1.0: give 0 or more" in refused(
        capsys, "train", "unet_same_16", "--data", "synthetic:2", "--input-size", 32, "--dice", -1, "--output",
        photo / "run")
    assert "--tile is for segmenters" in refused(capsys, "train", "lenet5", "--data", "synthetic:2", "--tile")
    assert "--dice is for segmenters; ssd300_resnet18 is for detection" in refused(
        capsys, "train", "ssd300_resnet18", "--data", "synthetic:2", "--dice", 1)
    assert "--views is for classifiers" in refused(
        capsys, "evaluate", run_folder, "--data", "synthetic:2", "--views", 10)
    assert "--curves is for detectors" in refused(
        capsys, "evaluate", run_folder, "--data", "synthetic:2", "--curves", photo / "c.png")


def test_exported_and_served_it_answers_a_query_as_predict_does(capsys, run_folder, photo):
    assert cli.main(["export", str(run_folder), str(photo / "served" / "shapes")]) == 0
    labels = photo / "served" / "shapes" / "1" / "assets.extra" / "labels.txt"
    assert labels.read_text().split() == ["background", *synthetic.CLASSES]
    lying = Image.Exif()
    lying[0x0112] = 6  # to be turned by a quarter
    with Image.open(photo / "a.png") as image:
        image.save(photo / "lying.jpg", exif=lying)
    images = [str(photo / name) for name in ("a.png", "lying.jpg")]
    assert cli.main(["predict", str(run_folder), *images, "--output", str(photo / "here")]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("\t")]
    with Server(photo / "served", port=0) as server:
        for names in (labels, run_folder / "labels.txt"):
            assert cli.main(["query", f"127.0.0.1:{server.port}", "shapes", *images, "--labels", str(names),
                             "--output", str(photo / "there")]) == 0
            assert told == [line for line in capsys.readouterr().out.splitlines() if line.startswith("\t")]
    for name in ("a.png", "a_labels.png", "lying.png", "lying_labels.png"):
        with Image.open(photo / "here" / name) as one, Image.open(photo / "there" / name) as two:
            np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
