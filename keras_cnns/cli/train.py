"""Train a network; the same command goes on after an interruption."""

import inspect

from keras_cnns.cli import common, regions
from keras_cnns.errors import InputError


def arguments(parser):
    parser.add_argument("name", metavar="MODEL", help="one of `keras-cnns models`")
    common.data_arguments(parser, "train")
    parser.add_argument("--output", default=None, metavar="FOLDER", help="of the run; default runs/MODEL")
    parser.add_argument("--validation-split", metavar="SPLIT", help=(
        "evaluate on it after each epoch; R-CNN and SPP-net, at the end"))
    parser.add_argument("--input-size", type=common.positive, nargs="+", metavar="PIXELS",
                        help="side, or height and width")
    parser.add_argument("--weights", metavar="WEIGHTS", help="start from a release, such as imagenet, or a file")
    parser.add_argument("--backbone", metavar="MODEL", help=(
        "a classifier, for the models that stand on any: faster_rcnn, rfcn, ssd, localizer, fcn"))
    parser.add_argument("--features", nargs="+", metavar="LAYER", help="of the backbone that the model looks at")
    regions.arguments(parser)
    parser.add_argument("--alternate", action="store_true", help="Faster R-CNN in its paper's four steps")
    parser.add_argument("--dtype-policy", choices=("mixed_float16", "mixed_bfloat16"), help=(
        "convolutions in half precision, on hardware that is faster so; weights and boxes stay float32"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", nargs="+", metavar="DEVICE", help="such as GPU:0 GPU:1; default every GPU")
    parser.add_argument("--optimizer", choices=("sgd", "nesterov", "rmsprop", "rmsprop_torch", "adam", "adamw"),
                        help="default: the model's recipe")
    parser.add_argument("--epochs", type=common.positive,
                        help="default: the model's recipe, whose drops of the rate move in proportion")
    parser.add_argument("--balance", type=float, metavar="C", help=(
        "of a segmenter's classes: weights 1 / ln(C + share of the pixels), 1.02 in ENet's paper; default the recipe"))
    parser.add_argument("--dice", type=float, metavar="WEIGHT", help=(
        "of Dice's loss beside the cross-entropy of a segmenter's pixels; default the recipe"))
    parser.add_argument("--tile", action="store_true", help=(
        "of a segmenter's images show parts as they are, not the whole scaled to its input: as predict --tile does"))
    for field, kind in (("learning-rate", float), ("weight-decay", float), ("batch", common.positive), ("warmup", int)):
        parser.add_argument(f"--{field}", type=kind, help="default: the model's recipe")


def run(options):
    from keras_cnns.models import model_info, module_of
    from keras_cnns.training import alternate, recipes, runs, stages

    module = module_of(options.name)
    if options.dtype_policy and module in stages.METHODS:
        raise InputError(f"--dtype-policy: {options.name} is trained in stages, in float32; leave it out.")
    for key in ("balance", "dice", "tile"):
        if getattr(options, key) not in (None, False) and module.TASK != "segmentation":
            raise InputError(f"--{key} is for segmenters; {options.name} is for {module.TASK}.")
    recipe = recipes.recipe(options.name)
    given = {field: getattr(options, field) for field in recipe._fields if getattr(options, field, None) is not None}
    if options.tile:
        given["view"] = "tile"
    if options.epochs:
        recipe = recipes.lasting(recipe, options.epochs)
    size = options.input_size
    if size:
        size = size[0], size[-1], model_info(options.name).input_shape[2]
    asked = {key: getattr(options, key) for key in ("backbone", "features") if getattr(options, key)}
    if unknown := [key for key in asked if key not in inspect.signature(module.build).parameters]:
        raise InputError(f"--{unknown[0]}: {options.name} has its paper's own; faster_rcnn, rfcn, ssd, localizer and "
                         "fcn stand on any classifier.")
    if len(asked.get("features", ())) == 1:
        asked["features"] = asked["features"][0]
    if options.dtype_policy:
        asked["dtype_policy"] = options.dtype_policy
    samples, names, skipped = common.read(options, module.TASK)
    validation = ()
    if options.validation_split:
        validation = common.read(options, module.TASK, options.validation_split, names)[0]
    samples, validation = (regions.proposed(options, options.name, part) for part in (samples, validation))
    folder = options.output or f"runs/{options.name}"
    train = alternate.train if options.alternate else stages.train if module in stages.METHODS else runs.train
    _, history = train(options.name, samples, names, folder, recipe._replace(**given), size, options.seed,
                       options.weights, validation, options.devices, **asked)
    epochs = [numbers for numbers in history if "loss" in numbers and numbers.get("stage", 2) == 2]
    last = ", ".join(f"{key} {value:.4g}" for key, value in (epochs[-1] | history[-1]).items())
    print(f"{folder}/network.keras after {len(epochs)} epochs: {last}")
    if skipped:
        print(f"{len(skipped)} samples were skipped:", *skipped, sep="\n  ")
