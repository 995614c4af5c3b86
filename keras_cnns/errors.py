"""The one error of the doors: what was given, what is accepted, what to do."""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # line breaks of all kinds among them


class InputError(ValueError):
    """What the caller gave is wrong; the message is one line and says how to mend it."""

    def __init__(self, message):
        # Names of files, and what is in them, may hold anything, and much of it.
        message = CONTROL.sub(lambda found: repr(found[0])[1:-1], message)
        super().__init__(message if len(message) <= 4500 else f"{message[:4000]} ... {message[-400:]}")
