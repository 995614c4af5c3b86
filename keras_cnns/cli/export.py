"""Write a SavedModel for TensorFlow Serving, or a TFLite file."""

from keras_cnns.cli import common, regions
from keras_cnns.errors import InputError


def arguments(parser):
    common.network_arguments(parser)
    parser.add_argument("target", metavar="TARGET", help="saved_models/MODEL, or FILE.tflite")
    parser.add_argument("--quantization", choices=("float16", "dynamic", "int8"), help="of a TFLite file")
    parser.add_argument("--representative", metavar="DATA",
                        help="images such as the network will see, for int8: voc:PATH, folder:PATH, ...")
    parser.add_argument("--split", default="train", help="of these images; default train")
    parser.add_argument("--score-threshold", type=float, default=0.05, help="default 0.05")
    parser.add_argument("--max-proposals", type=common.positive, metavar="N",
                        help="that R-CNN, SPP-net or Fast R-CNN take of an image; default the row's")
    parser.add_argument("--slide", type=common.positive, nargs=2, metavar="PIXELS",
                        help="a classifier over windows of images of this height and width, as a detector")
    parser.add_argument("--svd", type=common.positive, nargs=2, metavar="RANK",
                        help="Fast R-CNN's fc6 and fc7 by truncated SVD; 1024 256 in the paper")


def run(options):
    from keras_cnns import export

    if (options.quantization == "int8") != (options.representative is not None):
        raise InputError("--quantization int8 and --representative DATA belong together: of these images the ranges of "
                         "all numbers are measured.")
    decoding = {"proposals": options.max_proposals} if options.max_proposals else {}
    network, names = served(options, score_threshold=options.score_threshold, **decoding)
    if options.target.endswith(".tflite"):
        print(export.tflite(network, options.target, options.quantization, representative(options)))
    elif options.quantization:
        raise InputError(f"--quantization is for .tflite files; {options.target} names a SavedModel's folder.")
    else:
        print(export.saved_model(network, options.target, names))


def representative(options):
    """Images of `--representative`, or None."""
    if not options.representative:
        return None
    from keras_cnns.data import images, named

    samples = named.read(options.representative, options.split).samples
    return (images.decode(sample.source, sample.name) for sample in samples)


def served(options, **decoding):
    """What is served of it, itself or a detector's inference graph, and its class names or None."""
    from keras_cnns import models
    from keras_cnns.models.detection import fast_rcnn

    network, names, task = common.network(options, fixed=True)
    regions.check("--max-proposals", options.max_proposals, network.name)
    if options.svd:
        network = fast_rcnn.truncated_svd(network, tuple(options.svd))
    if options.slide:
        if task != "classification":
            raise InputError(f"--slide is for classifiers; {network.name} is for {task}.")
        return common.sliding(network, names, tuple(options.slide), options.score_threshold)
    if task == "keypoints":
        return models.detector(network), names
    if task == "segmentation":
        output = network.output["predictions"] if isinstance(network.output, dict) else network.output
        return network, common.with_background(names, output.shape[-1])
    return models.detector(network, **decoding) if task == "detection" else network, names
