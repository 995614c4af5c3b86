"""The one error of the doors: what was given, what is accepted, what to do."""


class InputError(ValueError):
    """What the caller gave is wrong; the message is one line and says how to mend it."""
