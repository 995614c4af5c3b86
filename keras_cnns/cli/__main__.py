"""`python -m keras_cnns.cli`."""

from keras_cnns import cli

cli.console()
