"""The command line: `keras-cnns models | data | train | evaluate | predict | export | serve | query | benchmark`.

A command is a file: the first line of its docstring is its help, `arguments(parser)` says what it takes, and
`run(options)` does it. Exit status 0 done, 1 failed while working, 2 the call or its input is wrong. An error is one
line.
"""

import argparse
import contextlib
import os
import sys
import tempfile

from keras_cnns.cli import benchmark, data, evaluate, export, models, predict, query, serve, train
from keras_cnns.errors import InputError

COMMANDS = (models, data, train, evaluate, predict, export, serve, query, benchmark)


def main(arguments=None):
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    with contextlib.suppress(AttributeError):  # names of files need not be text that can be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if options.run is not query.run:  # a client needs no TensorFlow
            import_tensorflow()
        options.run(options)
    except InputError as error:
        return _complain(error, 2)
    except KeyboardInterrupt:
        return _complain("stopped; the same command goes on from the last checkpoint, if it writes any", 1)
    except Exception as error:
        if os.environ.get("KERAS_CNNS_TRACEBACK"):
            raise
        return _complain(f"{type(error).__name__}: {error} (KERAS_CNNS_TRACEBACK=1 shows where)", 1)
    return 0


def import_tensorflow():
    """Imports it without its notes about the machine, which no setting keeps from a user's terminal."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as notes, contextlib.ExitStack() as stack:
        stack.callback(os.close, terminal)
        stack.callback(os.dup2, terminal, 2)
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            notes.seek(0)
            os.write(terminal, notes.read())
            raise


def _complain(error, status):
    print(f"keras-cnns: {' '.join(str(error).split())}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Complains in one line, too."""

    def error(self, message):
        sys.exit(_complain(f"{message}; {self.prog} --help says what is accepted", 2))


def _parser():
    parser = _Parser("keras-cnns", description="Classical convolutional networks, for Keras 3.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        text = module.__doc__.splitlines()[0]
        sub = commands.add_parser(module.__name__.split(".")[-1], help=text, description=text)
        sub.set_defaults(run=getattr(module, "run", None))  # those with actions have one each
        module.arguments(sub)
    return parser


def console():
    """The console script."""
    sys.exit(main())
