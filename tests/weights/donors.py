"""What tests of donors share: torchvision's environment, and the table of how closely donors were met.

KERAS_CNNS_TORCHVISION names the folder of an environment that has torchvision, be it without TensorFlow; its
bin/activate-torchvision, or else bin/activate, is sourced. Without it, tests of such donors are skipped.
KERAS_CNNS_PARITY names a CSV file, the package's weights/parity.csv, whose rows of the donors tried are made anew.
"""

import csv
import os
import pathlib
import subprocess

import pytest

TORCHVISION = os.environ.get("KERAS_CNNS_TORCHVISION")
PARITY = os.environ.get("KERAS_CNNS_PARITY")
FIELDS = ("model", "donor", "what", "difference", "sizes")

needs_torchvision = pytest.mark.skipif(not TORCHVISION, reason="no KERAS_CNNS_TORCHVISION")


def run_torch(script, *arguments):
    """A script beside this file, in torchvision's environment."""
    activate = pathlib.Path(TORCHVISION, "bin", "activate-torchvision")
    activate = activate if activate.exists() else activate.with_name("activate")
    subprocess.run(["bash", "-c", '. "$0" && python "$@"', activate, pathlib.Path(__file__).with_name(script),
                    *map(str, arguments)], check=True)


def record(model, donor, what, difference, sizes):
    """Prints how far a donor's answers are from ours, and puts it into the table."""
    print(f"{model} of {donor}: {what} {difference} at {sizes}")
    if not PARITY:
        return
    path, rows = pathlib.Path(PARITY), {}
    if path.exists():
        with open(path, newline="") as file:
            rows = {(row["model"], row["donor"]): row for row in csv.DictReader(file)}
    rows[model, donor] = dict(zip(FIELDS, (model, donor, what, difference, sizes)))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
