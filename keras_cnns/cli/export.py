"""Write a SavedModel for TensorFlow Serving, or a TFLite file."""

from keras_cnns.cli import common
from keras_cnns.errors import InputError


def arguments(parser):
    common.network_arguments(parser)
    parser.add_argument("target", metavar="TARGET", help="saved_models/MODEL, or FILE.tflite")
    parser.add_argument("--quantization", choices=("float16", "dynamic"), help="of a TFLite file")
    parser.add_argument("--score-threshold", type=float, default=0.05, help="default 0.05")


def run(options):
    from keras_cnns import export

    network, names = served(options, score_threshold=options.score_threshold)
    if options.target.endswith(".tflite"):
        print(export.tflite(network, options.target, options.quantization))
    elif options.quantization:
        raise InputError(f"--quantization is for .tflite files; {options.target} names a SavedModel's folder.")
    else:
        print(export.saved_model(network, options.target, names))


def served(options, **decoding):
    """What is served of it, itself or a detector's inference graph, and its class names or None."""
    from keras_cnns import models

    network, names, task = common.network(options, fixed=True)
    return models.detector(network, **decoding) if task == "detection" else network, names
