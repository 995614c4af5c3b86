"""Send images to a model server."""

import io
import pathlib

from keras_cnns.cli import common, regions
from keras_cnns.errors import InputError


def arguments(parser):
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG or PNG files")
    parser.add_argument("--labels", metavar="FILE", help="class names, one a line")
    parser.add_argument("--output", default="predictions", metavar="FOLDER", help="of a segmenter's pictures")
    regions.arguments(parser)
    parser.add_argument("--max-proposals", type=common.positive, default=2000, metavar="N",
                        help="sent with an image, no more than the model takes; default 2000")
    parser.add_argument("--score-threshold", type=float, default=0.5, help="default 0.5")


def run(options):
    from keras_cnns.serving import Client, ServingError

    for path in (*options.images, options.labels or options.images[0]):
        if not pathlib.Path(path).is_file():
            raise InputError(f"{path}: no such file.")
    names = pathlib.Path(options.labels).read_text().splitlines() if options.labels else None
    common.check_targets(options.output, options.images)
    found = proposed(options) if options.proposals else None
    with Client(options.server) as client:
        for path in options.images:
            try:
                data = upright(path)
                if found:
                    data = {"jpeg": [data], "proposals": found[path][None]}
                answer = client.predict(options.model, data, signature="jpeg")
            except ServingError as error:
                if error.code in ("NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT"):
                    raise InputError(f"{path}: {error}; give a model the server has, with a signature \"jpeg\", a "
                                     "whole JPEG or PNG file, and --proposals, with no more than it takes "
                                     "(--max-proposals), to a model that takes such, and to no other.") from None
                raise
            answer = {name: value[0] for name, value in answer.items()}
            if "probabilities" in answer:
                classes(path, answer, names)
            elif "keypoints" in answer:
                joints(path, answer, names, options)
            elif "label_maps" in answer:
                pixels(path, answer, names, options)
            elif "detection_scores" in answer:
                objects(path, answer, names, options)
            else:
                raise InputError(f"{options.model} answers {', '.join(sorted(answer))}, neither probabilities nor "
                                 "detections nor keypoints nor labels of pixels. Ask it with "
                                 "keras_cnns.serving.Client.")


def upright(path):
    """The file's bytes; of a photograph that its EXIF data turn, those of an upright PNG, for a server turns none."""
    from PIL import Image

    data = pathlib.Path(path).read_bytes()
    try:
        turned = Image.open(io.BytesIO(data)).getexif().get(0x0112, 1) != 1  # Orientation
    except Exception:  # Pillow's readers raise what they please; what is wrong with it, the server says
        return data
    if not turned:
        return data
    from keras_cnns import cli

    cli.import_tensorflow()
    from keras_cnns.data import images

    png = io.BytesIO()
    Image.fromarray(images.decode(data, path)).save(png, "PNG")
    return png.getvalue()


def proposed(options):
    """Each image's regions `[R, 4]`, in its pixels; those of a file are found by the image's name without suffix."""
    from keras_cnns import cli

    cli.import_tensorflow()
    from keras_cnns.data import proposals
    from keras_cnns.data import samples as data_samples

    samples = [data_samples.Sample(pathlib.Path(path).stem, path) for path in options.images]
    found = proposals.with_proposals(samples, options.proposals, options.proposals_cache, options.max_proposals)
    return {path: sample.proposals for path, sample in zip(options.images, found)}


def classes(path, answer, names):
    print(f"{path}: the best of {len(answer['probabilities'])} classes (class, probability)")
    for label in (-answer["probabilities"]).argsort(kind="stable")[:5]:
        name = names[label] if names and label < len(names) else label
        print("", name, f"{answer['probabilities'][label]:.3f}", sep="\t")


def joints(path, answer, names, options):
    heat = answer["keypoint_scores"]
    print(f"{path}: {(heat > options.score_threshold).sum()} of {len(heat)} joints (joint, heat, y, x)")
    for i, (y, x) in enumerate(answer["keypoints"]):
        print("", names[i] if names and i < len(names) else i, f"{heat[i]:.3f}", f"{y:.3f}", f"{x:.3f}", sep="\t")


def pixels(path, answer, names, options):
    import numpy as np
    from PIL import Image

    from keras_cnns.data import images

    labels = np.array(Image.open(io.BytesIO(answer["label_maps"])))
    if names and names[0] != "background":  # those of a run, of the classes 1...K
        names = ["background", *names]
    common.save_labels(images.decode(pathlib.Path(path).read_bytes(), path), labels, names,
                       pathlib.Path(options.output) / f"{pathlib.Path(path).stem}.png")


def objects(path, answer, names, options):
    sure = answer["detection_scores"] > options.score_threshold
    print(f"{path}: {sure.sum()} objects (class, score, ymin, xmin, ymax, xmax)")
    for i in sure.nonzero()[0]:
        label = int(answer["detection_classes"][i])
        name = names[label - 1] if names and label <= len(names) else label
        print("", name, f"{answer['detection_scores'][i]:.3f}",
              *(f"{edge:.3f}" for edge in answer["detection_boxes"][i]), sep="\t")
