"""Draw a detector's answers on images, or print a classifier's."""

import pathlib

from keras_cnns.cli import common
from keras_cnns.errors import InputError


def arguments(parser):
    common.network_arguments(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--output", default="predictions", metavar="FOLDER", help="of the pictures")
    parser.add_argument("--score-threshold", type=float, default=0.5, help="default 0.5")


def run(options):
    from keras_cnns.data import samples as data_samples

    network, names, task = common.network(options)
    samples = [data_samples.Sample(pathlib.Path(path).stem, path) for path in options.images]
    {"classification": classes, "detection": objects}[task](options, network, samples, names)


def classes(options, network, samples, names):
    from keras_cnns.data import samples as data_samples
    from keras_cnns.metrics import classification as metrics
    from keras_cnns.training import classify

    samples = data_samples.check(samples)[0]
    scores = classify.predict(network, samples)
    for sample, labels, answer in zip(samples, metrics.best(scores, 5), scores):
        print(f"{sample.name}: the best of {len(answer)} classes (class, probability)")
        for label in labels:
            print("", names[label] if names and label < len(names) else label, f"{answer[label]:.3f}", sep="\t")


def objects(options, network, samples, names):
    from keras_cnns import models, pictures
    from keras_cnns.data import images
    from keras_cnns.training import detect

    if len({s.image_id for s in samples}) < len(samples):
        raise InputError("Two images have one name, and so would their pictures; predict them into two folders.")
    detector = models.detector(network, score_threshold=options.score_threshold)
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
