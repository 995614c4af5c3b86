"""Send images to a model server."""

import pathlib

from keras_cnns.errors import InputError


def arguments(parser):
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG or PNG files")
    parser.add_argument("--labels", metavar="FILE", help="class names, one a line")
    parser.add_argument("--score-threshold", type=float, default=0.5, help="default 0.5")


def run(options):
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
            if not {"probabilities", "detection_scores", "keypoints"} & set(answer):
                raise InputError(f"{options.model} answers {', '.join(sorted(answer))}, neither probabilities nor "
                                 "detections nor keypoints. Ask it with keras_cnns.serving.Client.")
            answer = {name: value[0] for name, value in answer.items()}
            if "probabilities" in answer:
                print(f"{path}: the best of {len(answer['probabilities'])} classes (class, probability)")
                for label in (-answer["probabilities"]).argsort(kind="stable")[:5]:
                    name = names[label] if names and label < len(names) else label
                    print("", name, f"{answer['probabilities'][label]:.3f}", sep="\t")
                continue
            if "keypoints" in answer:
                heat = answer["keypoint_scores"]
                print(f"{path}: {(heat > options.score_threshold).sum()} of {len(heat)} joints (joint, heat, y, x)")
                for i, (y, x) in enumerate(answer["keypoints"]):
                    print("", names[i] if names and i < len(names) else i, f"{heat[i]:.3f}", f"{y:.3f}", f"{x:.3f}",
                          sep="\t")
                continue
            sure = answer["detection_scores"] > options.score_threshold
            print(f"{path}: {sure.sum()} objects (class, score, ymin, xmin, ymax, xmax)")
            for i in sure.nonzero()[0]:
                label = int(answer["detection_classes"][i])
                name = names[label - 1] if names and label <= len(names) else label
                print("", name, f"{answer['detection_scores'][i]:.3f}",
                      *(f"{edge:.3f}" for edge in answer["detection_boxes"][i]), sep="\t")
