"""What the tests of several readers share."""

import os
import pathlib

import pytest

from keras_cnns.errors import InputError

DATA = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", ""))  # the real samples
real = pytest.mark.skipif(not os.environ.get("KERAS_CNNS_DATA"), reason="KERAS_CNNS_DATA is not set")


def stopped(function, *expected):
    """Asserts that a call ends with an InputError of one line that contains all that is expected."""
    with pytest.raises(InputError) as error:
        function()
    message = str(error.value)
    assert len(message.splitlines()) == 1
    for text in expected:
        assert text in message
