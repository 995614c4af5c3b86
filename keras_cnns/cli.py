"""The command line: `keras-cnns models | data | train | evaluate | predict | export | serve | query`.

Exit status 0 done, 1 failed while working, 2 the call or its input is wrong. An error is one line.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile

from keras_cnns.errors import InputError

TILE = 240  # pixels, width of a picture on the sheet of `data check`
WORST = 10  # classes that `evaluate` lists


def main(arguments=None):
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    with contextlib.suppress(AttributeError):  # names of files need not be text that can be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if options.command is not _query:  # a client needs no TensorFlow
            import_tensorflow()
        options.command(options)
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

    def command(function, text):
        sub = commands.add_parser(function.__name__.strip("_"), help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    def data(sub, split, name="--data"):
        required = {"required": True} if name.startswith("-") else {}
        sub.add_argument(name, metavar="DATA", **required,
                         help="such as voc:PATH[:YEAR], coco:PATH[:SPLIT], folder:PATH, small:PATH, synthetic[:N]")
        sub.add_argument("--split", default=split, help=f"default {split}")
        sub.add_argument("--limit", type=_positive, metavar="N", help="only the first N images")
        sub.add_argument("--on-bad-sample", choices=("stop", "skip"), default="stop",
                         help="at a broken image or annotation; default stop")

    def network(sub):
        sub.add_argument("network", metavar="NETWORK", help="folder of a run, .keras file, or, with --weights, a model")
        sub.add_argument("--weights", metavar="WEIGHTS", help="a release, such as imagenet, or a file of weights")

    def decoding(sub):
        sub.add_argument("--score-threshold", type=float, default=0.05, help="default 0.05")

    sub = command(_models, "List the networks.")
    sub.add_argument("pattern", nargs="?", help="such as 'resnet*': what is known of each, counted from its graph")
    sub.add_argument("--task", choices=("classification", "segmentation", "keypoints", "detection"))

    sub = command(_data, "Look at data, or write them in another form.")
    actions = sub.add_subparsers(required=True, metavar="ACTION")
    text = "Read every file: counts, odd sizes, broken files, duplicates, unused classes, and a picture of it."
    sub = actions.add_parser("check", help=text, description=text)
    sub.set_defaults(command=_check)
    data(sub, "train", "data")
    sub.add_argument("--sheet", default="contact_sheet.png", metavar="FILE", help="the picture; default %(default)s")
    text = "Write a data set in another form; what that form has no place for is refused."
    sub = actions.add_parser("convert", help=text, description=text)
    sub.set_defaults(command=_convert)
    data(sub, "train", "data")
    sub.add_argument("target", metavar="TARGET", help="voc:PATH[:YEAR], coco:PATH[:SPLIT] or records:PATH")

    sub = command(_train, "Train a network; the same command goes on after an interruption.")
    sub.add_argument("name", metavar="MODEL", help="one of `keras-cnns models`")
    data(sub, "train")
    sub.add_argument("--output", default=None, metavar="FOLDER", help="of the run; default runs/MODEL")
    sub.add_argument("--validation-split", metavar="SPLIT", help="evaluate on it after each epoch")
    sub.add_argument("--input-size", type=_positive, nargs="+", metavar="PIXELS", help="side, or height and width")
    sub.add_argument("--weights", metavar="WEIGHTS", help="start from a release, such as imagenet, or a file")
    sub.add_argument("--alternate", action="store_true", help="Faster R-CNN in its paper's four steps")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--devices", nargs="+", metavar="DEVICE", help="such as GPU:0 GPU:1; default every GPU")
    sub.add_argument("--optimizer", choices=("sgd", "nesterov", "rmsprop", "adam", "adamw"),
                     help="default: the model's recipe")
    sub.add_argument("--epochs", type=_positive,
                     help="default: the model's recipe, whose drops of the rate move in proportion")
    for field, kind in (("learning-rate", float), ("weight-decay", float), ("batch", _positive), ("warmup", int)):
        sub.add_argument(f"--{field}", type=kind, help="default: the model's recipe")

    sub = command(_evaluate, "Average precision of a trained detector; top-1, top-5 and worst classes of a classifier.")
    network(sub)
    data(sub, "val")
    sub.add_argument("--views", type=int, choices=(1, 10),
                     help="of each image, whose answers are averaged: 1, the default, or AlexNet's 10")
    sub.add_argument("--confusion", metavar="FILE", help="write what was taken for what as a picture")
    sub.add_argument("--curves", metavar="FILE", help="write a detector's precision over recall as a picture")

    sub = command(_predict, "Draw a detector's answers on images, or print a classifier's.")
    network(sub)
    sub.add_argument("images", nargs="+", metavar="IMAGE")
    sub.add_argument("--output", default="predictions", metavar="FOLDER", help="of the pictures")
    sub.add_argument("--score-threshold", type=float, default=0.5, help="default 0.5")

    sub = command(_export, "Write a SavedModel for TensorFlow Serving, or a TFLite file.")
    network(sub)
    sub.add_argument("target", metavar="TARGET", help="saved_models/MODEL, or FILE.tflite")
    sub.add_argument("--quantization", choices=("float16", "dynamic"), help="of a TFLite file")
    decoding(sub)

    sub = command(_serve, "Serve a folder of SavedModels over gRPC, as TensorFlow Serving does.")
    sub.add_argument("folder", metavar="FOLDER", help="such as saved_models")
    sub.add_argument("--host", default="127.0.0.1")
    sub.add_argument("--port", type=int, default=8500)

    sub = command(_query, "Send images to a model server.")
    sub.add_argument("server", metavar="HOST:PORT")
    sub.add_argument("model", metavar="MODEL")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG or PNG files")
    sub.add_argument("--labels", metavar="FILE", help="class names, one a line")
    sub.add_argument("--score-threshold", type=float, default=0.5, help="default 0.5")
    return parser


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _table(title, *columns):
    import rich.table

    table = rich.table.Table(title=title)
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=not table.columns)
    return table


def _print(table):
    import rich.console

    rich.console.Console(markup=False, emoji=False).print(table)  # of names as they are


def _models(options):
    from keras_cnns import models

    names = models.list_models(options.pattern or "*", options.task)
    if not names:
        models.module_of(options.pattern)
    if not options.pattern:
        table = _table("Networks", ("name", "left"), ("task", "left"), ("year", "right"), ("paper", "left"))
        for name in names:
            module = models.MODELS[name]
            table.add_row(name, module.TASK, str(module.YEAR), module.PAPER)
        return _print(table)
    from keras_cnns.weights import cards

    for name in names:
        print(cards.card(name), flush=True)


def _read(options, task, split=None, class_names=None):
    """Samples and class names of `--data` for a task; says what was skipped."""
    from keras_cnns.data import named

    read = {"detection": named.detection, "classification": named.classification}.get(task)
    if read is None:
        raise InputError(f"Networks of {task} are trained and evaluated in Python, with compile and fit; from here "
                         "those of classification and detection are.")
    samples, names, skipped = read(options.data, split or options.split, class_names, options.on_bad_sample)
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    if skipped:
        print(f"{len(skipped)} samples skipped, {len(samples)} used.", file=sys.stderr)
    return samples[:options.limit], names, skipped


def _data(options):
    """Never called: its actions are."""


def _check(options):
    from keras_cnns import pictures
    from keras_cnns.data import named, report

    found = named.read(options.data, options.split, on_bad_sample="skip")
    good, told = report.report(found.samples[:options.limit], found.class_names, found.skipped)
    title = f"{options.data}, {options.split}: {len(good)} good images, {len(told.broken)} broken samples"
    columns = ["objects", "of these ignored", "images", "pixels"][:len(told.counts[0]) - 1] if told.counts else []
    table = _table(title, ("class", "left"), *((name, "right") for name in columns))
    for row in told.counts:
        table.add_row(*map(str, row))
    table.add_section()
    sums = dict(zip(columns, map(sum, list(zip(*told.counts))[1:]))) | {"images": len(good)}
    table.add_row("all", *(str(sums[name]) for name in columns))
    _print(table)
    print(f"Images: {told.sizes}.")
    for heading, lines in (
            ("broken", told.broken), ("of odd size", told.odd_sizes), ("tiny objects", told.tiny_objects),
            ("duplicates", told.duplicates), ("classes without anything", told.unused),
            ("images without an annotation", named.unannotated(options.data))):
        if lines is None:  # of this kind of data nobody can tell
            continue
        print(f"{len(lines)} {heading}{':' * bool(lines)}", *lines[:20], sep="\n  ")
        if len(lines) > 20:
            print(f"  ... and {len(lines) - 20} more")
    if not good:
        raise InputError(f"{options.data}: no usable sample; repair the files above.")
    tiles = [_tile(sample, found.class_names) for sample in good[::max(len(good) // 24, 1)][:24]]
    sheet = pictures.sheet([tiles[i:i + 6] for i in range(0, len(tiles), 6)], width=TILE)
    _save(sheet, options.sheet)
    print(f"{options.sheet}: {len(tiles)} of the images.")
    if told.broken and options.on_bad_sample == "stop":
        raise InputError(f"{options.data}: {len(told.broken)} broken samples; repair the files above, or leave them "
                         "out with --on-bad-sample skip.")


def _save(picture, path):
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error}); name a .png file elsewhere.") from None


def _tile(sample, names):
    """A sample's picture with all that is told of it; drawn small, so that one can read it on the sheet."""
    from PIL import Image

    from keras_cnns import pictures
    from keras_cnns.data import samples as data_samples

    image = data_samples.pixels(sample)
    masks = data_samples.masks(sample) if sample.masks is not None else ()
    image = pictures.overlay(image, masks, data_samples.segmentation(sample) if sample.segmentation else None)
    image = Image.fromarray(image)
    picture = image.resize(pictures.fitted(image.size, TILE))
    x, y = (new / old for new, old in zip(picture.size, image.size))
    picture = pictures.draw(picture, sample.boxes * [x, y, x, y], sample.labels, names, ignored=sample.ignored)
    if sample.keypoints is not None:
        pictures.dots(picture, sample.keypoints * [x, y, 1])
    if sample.label is not None:
        picture = pictures.draw(picture, [(0, 0, *picture.size)], [sample.label + 1], names)
    return picture


def _convert(options):
    from keras_cnns.data import named

    samples, names, skipped = named.read(options.data, options.split, on_bad_sample=options.on_bad_sample)
    samples = samples[:options.limit]
    bad_images = named.write(samples, options.target, names, options.split, options.on_bad_sample)
    print(f"{options.target}: {len(samples) - len(bad_images)} images written.")
    for line in [*skipped, *bad_images]:
        print(f"skipped {line}", file=sys.stderr)


def _train(options):
    from keras_cnns.models import model_info, module_of
    from keras_cnns.training import alternate, recipes, runs

    module = module_of(options.name)
    recipe = recipes.recipe(options.name)
    given = {field: getattr(options, field) for field in recipe._fields if getattr(options, field, None) is not None}
    if options.epochs:
        recipe = recipes.lasting(recipe, options.epochs)
    size = options.input_size
    if size:
        size = size[0], size[-1], model_info(options.name).input_shape[2]
    samples, names, skipped = _read(options, module.TASK)
    validation = _read(options, module.TASK, options.validation_split, names)[0] if options.validation_split else ()
    folder = options.output or f"runs/{options.name}"
    train = runs.train_detector if module.TASK == "detection" else runs.train_classifier
    if options.alternate:
        train = alternate.train_detector
    _, history = train(options.name, samples, names, folder, recipe._replace(**given), size, options.seed,
                       options.weights, validation, options.devices)
    last = ", ".join(f"{key} {value:.4g}" for key, value in history[-1].items())
    print(f"{folder}/network.keras after {len(history)} epochs: {last}")
    if skipped:
        print(f"{len(skipped)} samples were skipped:", *skipped, sep="\n  ")


def _network(options, fixed=False):
    """The network of a run's folder or a .keras file, or one with released weights; class names or None; its task.

    Args:
      fixed: a released one shall have an input of fixed size, also where its authors' images keep their proportions.
    """
    import keras

    from keras_cnns import models, weights

    if options.weights:
        release = _release(options)
        shape = (None, None, 3) if release and release.free and not fixed else None
        network = weights.create_model(options.network, shape, weights=options.weights)
        return network, release and weights.class_names(release), models.module_of(options.network).TASK
    path = pathlib.Path(options.network)
    path = path / "network.keras" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of a finished run, or a .keras file.")
    try:
        network = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: cannot be loaded ({error}).") from error
    labels = path.with_name("labels.txt")
    names = labels.read_text().splitlines() if labels.is_file() else None
    return network, names, models.module_of(network.name).TASK


def _release(options):
    """The row of `--weights`, or None."""
    from keras_cnns.weights import releases

    rows = releases.RELEASES.get(options.network, ()) if options.weights else ()
    return next((row for row in rows if row.name == options.weights), None)


def _load(options, **decoding):
    """What is served of it, itself or a detector's inference graph, and its class names or None."""
    from keras_cnns import models

    network, names, task = _network(options, fixed=True)
    return models.detector(network, **decoding) if task == "detection" else network, names


def _evaluate(options):
    from keras_cnns import models
    from keras_cnns.weights import releases

    network, names, task = _network(options)
    if task == "detection" and options.views:
        raise InputError(f"--views is for classifiers; {network.name} is a detector.")
    if task == "classification" and options.curves:
        raise InputError(f"--curves is for detectors; {network.name} is a classifier.")
    release = _release(options)
    samples, found, _ = _read(options, task, class_names=releases.data_names(release) if release else names)
    names = names or found
    if task == "classification":
        _evaluate_classifier(options, network, samples, names, release and release.resize)
    else:
        _evaluate_detector(options, models.detector(network), samples, names)


def _evaluate_classifier(options, network, samples, names, resize=None):
    from keras_cnns import pictures
    from keras_cnns.training import classify

    views = options.views or 1
    result = classify.evaluate(network, samples, views=views, resize=resize)
    about = f"{options.data}, {options.split}: {len(samples)} images{', 10 views of each' * (views == 10)}"
    if samples[0].label is None:
        if options.confusion:
            raise InputError(f"--confusion is for data with one class an image; {options.data} has several.")
        table = _table(about, ("class", "left"), ("AP, VOC 2010+ area", "right"))
        for label in sorted(result.ap):
            table.add_row(names[label - 1], f"{result.ap[label]:.4f}")
        table.add_section()
        table.add_row("mean", f"{result.mean:.4f}")
        _print(table)
        return
    table = _table(f"{about}; the worst classes", ("class", "left"), ("images", "right"), ("right", "right"),
                   ("most often taken for", "left"))
    some = (result.counts > 0).sum()  # of the others the share is NaN, which comes last
    for label in result.by_class.argsort(kind="stable")[:min(WORST, some)]:
        others = result.confusion[label].copy()
        others[label] = 0
        taken = f"{names[others.argmax()]} ({others.max()})" if others.any() else ""
        table.add_row(names[label], str(result.counts[label]), f"{result.by_class[label]:.4f}", taken)
    table.add_section()
    table.add_row("top-1", str(len(samples)), f"{result.top1:.4f}", "")
    table.add_row("top-5", str(len(samples)), f"{result.top5:.4f}", "")
    _print(table)
    if options.confusion:
        _save(pictures.confusion(result.confusion, names), options.confusion)
        print(f"{options.confusion}: the confusion matrix.")


def _evaluate_detector(options, detector, samples, names):
    from keras_cnns import pictures
    from keras_cnns.metrics import detection as metrics
    from keras_cnns.training import detect

    truth, found = detect.truth(samples), detect.detect(detector, samples)
    area, eleven = (metrics.voc_ap(truth, found, form=form) for form in ("area", "11point"))
    coco = {kind: metrics.coco_evaluation(truth, found, kind)
            for kind, key in (("bbox", "boxes"), ("segm", "masks"), ("keypoints", "keypoints"))
            if all(key in each for each in (*truth, *found))}
    table = _table(f"{options.data}, {options.split}: {len(samples)} images",
                   ("class", "left"), ("AP@0.5, VOC 2010+ area", "right"), ("AP@0.5, VOC 2007 11 points", "right"),
                   *((f"COCO AP, {kind}", "right") for kind in coco))
    for label in sorted(area.ap):
        table.add_row(names[label - 1], f"{area.ap[label]:.4f}", f"{eleven.ap[label]:.4f}",
                      *(f"{result.ap.get(label, -1):.4f}" for result in coco.values()))
    table.add_section()
    table.add_row("mean", f"{area.mean:.4f}", f"{eleven.mean:.4f}",
                  *(f"{result.numbers['AP']:.4f}" for result in coco.values()))
    _print(table)
    for kind, result in coco.items():
        print(f"COCO, {kind}:", ", ".join(f"{name} {value:.4f}" for name, value in result.numbers.items()))
    if options.confusion:
        matrix = metrics.confusion(truth, found, len(names))
        _save(pictures.confusion(matrix, ["background", *names]), options.confusion)
        print(f"{options.confusion}: what objects were taken for, at IoU 0.5 and scores above 0.5.")
    if options.curves:
        lines = {names[label - 1]: (area.recall[label], area.precision[label])
                 for label in sorted(area.ap, key=area.ap.get)[:WORST]}
        _save(pictures.precision_recall(lines), options.curves)
        print(f"{options.curves}: precision over recall at IoU 0.5 of the {len(lines)} worst classes.")


def _predict(options):
    from keras_cnns import models
    from keras_cnns.data import samples as data_samples

    network, names, task = _network(options)
    samples = [data_samples.Sample(pathlib.Path(path).stem, path) for path in options.images]
    if task == "classification":
        _predict_classes(data_samples.check(samples)[0], network, names)
    else:
        detector = models.detector(network, score_threshold=options.score_threshold)
        _predict_objects(options, samples, detector, names)


def _predict_classes(samples, network, names):
    from keras_cnns.metrics import classification as metrics
    from keras_cnns.training import classify

    scores = classify.predict(network, samples)
    for sample, labels, answer in zip(samples, metrics.best(scores, 5), scores):
        print(f"{sample.name}: the best of {len(answer)} classes (class, probability)")
        for label in labels:
            print("", names[label] if names and label < len(names) else label, f"{answer[label]:.3f}", sep="\t")


def _predict_objects(options, samples, detector, names):
    from keras_cnns import pictures
    from keras_cnns.data import images
    from keras_cnns.training import detect

    if len({s.image_id for s in samples}) < len(samples):
        raise InputError("Two images have one name, and so would their pictures; predict them into two folders.")
    decoded = [images.decode(s.source, s.name) for s in samples]
    folder = pathlib.Path(options.output)
    for sample, image, found in zip(samples, decoded, detect.detect(detector, samples)):
        picture = pictures.draw(image, found["boxes"], found["labels"], names, found["scores"],
                                masks=detect.mask_pixels(found))
        if "keypoints" in found:
            pictures.dots(picture, found["keypoints"])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{sample.image_id}.png")
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); name a folder that can.") from None
        print(f"{folder / sample.image_id}.png: {len(found['boxes'])} objects")


def _export(options):
    from keras_cnns import export

    network, names = _load(options, score_threshold=options.score_threshold)
    if options.target.endswith(".tflite"):
        print(export.tflite(network, options.target, options.quantization))
    elif options.quantization:
        raise InputError(f"--quantization is for .tflite files; {options.target} names a SavedModel's folder.")
    else:
        print(export.saved_model(network, options.target, names))


def _serve(options):
    from keras_cnns.serving.server import Server

    with Server(options.folder, options.host, options.port) as server:
        for name, why in server.failures.items():
            print(f"{name}: not served, {why}", file=sys.stderr)
        names = ", ".join(f"{name} (version {version})" for name, version in server.models.items())
        print(f"Serving {names} on {options.host}:{server.port}; Ctrl-C ends it.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


def _query(options):
    from keras_cnns.serving import Client, ServingError

    for path in (*options.images, options.labels or options.images[0]):
        if not pathlib.Path(path).is_file():
            raise InputError(f"{path}: no such file.")
    names = pathlib.Path(options.labels).read_text().splitlines() if options.labels else None
    with Client(options.server) as client:
        for path in options.images:
            try:
                answer = client.predict(options.model, pathlib.Path(path).read_bytes())
            except ServingError as error:
                if error.code in ("NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT"):
                    raise InputError(f"{path}: {error}; give a model the server has, with a signature \"jpeg\", and a "
                                     "whole JPEG or PNG file.") from None
                raise
            if not {"probabilities", "detection_scores"} & set(answer):
                raise InputError(f"{options.model} answers {', '.join(sorted(answer))}, neither probabilities nor "
                                 "detections. Ask it with keras_cnns.serving.Client.")
            answer = {name: value[0] for name, value in answer.items()}
            if "probabilities" in answer:
                print(f"{path}: the best of {len(answer['probabilities'])} classes (class, probability)")
                for label in (-answer["probabilities"]).argsort(kind="stable")[:5]:
                    name = names[label] if names and label < len(names) else label
                    print("", name, f"{answer['probabilities'][label]:.3f}", sep="\t")
                continue
            sure = answer["detection_scores"] > options.score_threshold
            print(f"{path}: {sure.sum()} objects (class, score, ymin, xmin, ymax, xmax)")
            for i in sure.nonzero()[0]:
                label = int(answer["detection_classes"][i])
                name = names[label - 1] if names and label <= len(names) else label
                print("", name, f"{answer['detection_scores'][i]:.3f}",
                      *(f"{edge:.3f}" for edge in answer["detection_boxes"][i]), sep="\t")


def run():
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
