"""Networks of poses on the command line: trained, evaluated, drawn, exported, and what they cannot be asked."""

import numpy as np
import pytest
from PIL import Image

from keras_cnns import cli
from keras_cnns.data import mpii, synthetic

pytestmark = pytest.mark.usefixtures("shallow_hourglass")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "poses"
    assert cli.main(["train", "hourglass2_64", "--data", "figures:4", "--input-size", "64", "--batch", "2", "--epochs",
                     "1", "--validation-split", "val", "--output", str(folder)]) == 0
    return folder


def test_evaluate_prints_a_joint_a_row(run_folder, capsys):
    assert cli.main(["evaluate", str(run_folder), "--data", "figures:3"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in (*mpii.KEYPOINTS, "PCK@0.2", "PCKh@0.5", "3 persons"))


def test_predict_draws_skeletons(run_folder, capsys, tmp_path):
    image = tmp_path / "a.jpg"
    image.write_bytes(synthetic.figures(1)[0].source)
    assert cli.main(["predict", str(run_folder), str(image), "--score-threshold", "-9", "--output",
                     str(tmp_path / "out")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "16 joints of 16" in head and [row.split("\t")[1] for row in rows] == list(mpii.KEYPOINTS)
    drawn = np.array(Image.open(tmp_path / "out" / "a.png"), int)
    assert (np.abs(drawn - np.array(Image.open(image))).max(-1) > 30).sum() > 100


def test_it_is_exported_with_the_names_of_its_joints(run_folder, tmp_path):
    assert cli.main(["export", str(run_folder), str(tmp_path / "poses")]) == 0
    labels = tmp_path / "poses" / "1" / "assets.extra" / "labels.txt"
    assert labels.read_text().splitlines() == list(mpii.KEYPOINTS)


@pytest.mark.parametrize("arguments, says", [
    (["--data", "synthetic:2"], "not one labelled joint"),
    (["--data", "figures:2", "--confusion", "a.png"], "--confusion is for classifiers and detectors"),
    (["--data", "figures:x"], "a number of pictures")])
def test_what_it_cannot_be_asked_is_told(run_folder, capsys, arguments, says):
    assert cli.main(["evaluate", str(run_folder), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error and error.startswith("keras-cnns:")
