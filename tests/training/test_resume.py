"""A run that is killed in its middle, and the same command again."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

EPOCHS = 4


def command(model, folder):
    return [sys.executable, "-m", "keras_cnns.cli", "train", model, "--data", "synthetic:8", "--input-size", "64",
            "--batch", "4", "--epochs", str(EPOCHS), "--seed", "3", "--output", str(folder)]


def epochs(folder):
    """How many the last checkpoint has done."""
    try:
        return len(json.loads((folder / "checkpoint" / "history.json").read_text()))
    except FileNotFoundError:
        return 0


def losses(folder):
    return [[epoch[key] for key in sorted(epoch)] for epoch in json.loads((folder / "history.json").read_text())]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["localizer_resnet18", "faster_rcnn_resnet18"])  # the second throws dice
def test_a_killed_run_goes_on_and_ends_like_an_uninterrupted_one(model, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(model, whole), check=True, capture_output=True, env=environment)

    process = subprocess.Popen(command(model, broken), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=environment)
    while epochs(broken) < 1:
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert epochs(broken) < EPOCHS and not (broken / "network.keras").exists()

    # What a kill between two renames would leave behind is found as well.
    (broken / "checkpoint").rename(broken / "checkpoint.old")
    subprocess.run(command(model, broken), check=True, capture_output=True, env=environment)
    np.testing.assert_allclose(losses(broken), losses(whole), rtol=1e-4)

    # Once more: nothing is left to do, and a changed command is refused in one line.
    again = subprocess.run(command(model, broken), check=True, capture_output=True, text=True, env=environment)
    assert f"after {EPOCHS} epochs" in again.stdout
    other = subprocess.run([*command(model, broken), "--learning-rate", "0.5"], capture_output=True, text=True,
                           env=environment)
    assert other.returncode == 2 and "other recipe" in other.stderr and "Traceback" not in other.stderr
