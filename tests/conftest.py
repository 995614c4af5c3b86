"""Before anything imports TensorFlow: its notes about the machine are not for the reader of a test report."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_collection_modifyitems(items):
    """Those that train come first: they take longest, and so two workers end together."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/training"))


@pytest.fixture(scope="module")
def shallow_hourglass():
    """Hourglasses of one halving, which are compiled within seconds."""
    from keras_cnns.models.keypoints import hourglass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hourglass, "DEPTH", 1)
        yield
