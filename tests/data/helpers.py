"""What the tests of several readers share."""

import os
import pathlib

import pytest

from keras_cnns.errors import InputError

DATA = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", ""))  # the real samples
real = pytest.mark.skipif(not os.environ.get("KERAS_CNNS_DATA"), reason="KERAS_CNNS_DATA is not set")


def stopped(function, *expected):
    """The one line of the InputError that a call ends with; it holds each of the expected texts."""
    with pytest.raises(InputError) as error:
        function()
    message = str(error.value)
    assert message.splitlines() == [message]
    for text in expected:
        assert text in message
    return message
