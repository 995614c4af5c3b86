"""Serve a folder of SavedModels over gRPC, as TensorFlow Serving does."""

import contextlib
import sys


def arguments(parser):
    parser.add_argument("folder", metavar="FOLDER", help="such as saved_models")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8500)


def run(options):
    from keras_cnns.serving.server import Server

    with Server(options.folder, options.host, options.port) as server:
        for name, why in server.failures.items():
            print(f"{name}: not served, {why}", file=sys.stderr)
        names = ", ".join(f"{name} (version {version})" for name, version in server.models.items())
        print(f"Serving {names} on {options.host}:{server.port}; Ctrl-C ends it.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()
