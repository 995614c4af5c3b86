"""Draw the answers of a detector, a segmenter or a network of poses on images, or print a classifier's."""

import pathlib

from keras_cnns.cli import common, regions
from keras_cnns.errors import InputError


def arguments(parser):
    common.network_arguments(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    regions.arguments(parser)
    parser.add_argument("--output", default="predictions", metavar="FOLDER", help="of the pictures")
    parser.add_argument("--tile", type=common.positive, metavar="PIXELS",
                        help="side of what a segmenter is shown at once; images larger than memory may be .npy files")
    parser.add_argument("--slide", action="store_true", help="a classifier over windows of each image, as a detector")
    parser.add_argument("--score-threshold", type=float, default=0.5, help="default 0.5")


def run(options):
    from keras_cnns.data import samples as data_samples

    network, names, task = common.network(options)
    samples = [data_samples.Sample(pathlib.Path(path).stem, path) for path in options.images]
    regions.check("--proposals", options.proposals, network.name)
    if task != "segmentation" and options.tile:
        raise InputError(f"--tile is for segmenters; {network.name} is for {task}.")
    if task != "classification" and options.slide:
        raise InputError(f"--slide is for classifiers; {network.name} is for {task}.")
    if options.slide:
        task = "detection"
    predict = {"classification": classes, "detection": objects, "keypoints": poses, "segmentation": pixels}[task]
    predict(options, network, samples, names)


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

    common.check_targets(options.output, options.images)
    decoded = [images.decode(s.source, s.name) for s in samples]
    if options.slide:
        sizes = [image.shape[:2] for image in decoded]
        graphs = {size: common.sliding(network, names, size, options.score_threshold) for size in set(sizes)}
        answers = [detect.detect(graphs[size][0], [sample], progress=False)[0] for size, sample in zip(sizes, samples)]
        names = graphs[sizes[0]][1]
    else:
        samples = regions.proposed(options, network.name, samples)
        answers = detect.detect(models.detector(network, score_threshold=options.score_threshold), samples)
    folder = pathlib.Path(options.output)
    for sample, image, found in zip(samples, decoded, answers):
        picture = pictures.draw(image, found["boxes"], found["labels"], names, found["scores"],
                                masks=detect.mask_pixels(found))
        if "keypoints" in found:
            pictures.dots(picture, found["keypoints"])
        common.save(picture, folder / f"{sample.image_id}.png")
        print(f"{folder / sample.image_id}.png: {len(found['boxes'])} objects")


def poses(options, network, samples, names):
    """Of one person in each image, who fills most of it."""
    from PIL import Image

    from keras_cnns import models, pictures
    from keras_cnns.data import images, persons
    from keras_cnns.training import keypoints

    common.check_targets(options.output, options.images)
    decoded = [images.decode(s.source, s.name) for s in samples]
    names = names or [str(i) for i in range(network.output["stack1"].shape[-1])]
    found = keypoints.predict(models.detector(network, pairs=persons.pairs(names)), samples)
    folder = pathlib.Path(options.output)
    for sample, image, joints in zip(samples, decoded, found):
        picture = pictures.skeleton(Image.fromarray(image), joints[None], names, options.score_threshold)
        common.save(picture, folder / f"{sample.image_id}.png")
        sure = joints[:, 2] > options.score_threshold
        print(f"{folder / sample.image_id}.png: {sure.sum()} joints of {len(names)} (joint, heat, x, y)")
        for name, (x, y, heat) in zip(names, joints):
            print("", name, f"{heat:.3f}", f"{x:.1f}", f"{y:.1f}", sep="\t")


def pixels(options, network, samples, names):
    """Pictures of the labels over the image, and the labels themselves: PNG files of palette indices."""
    from keras_cnns.data import images
    from keras_cnns.training import segment, tiles

    common.check_targets(options.output, options.images)
    folder, graph = pathlib.Path(options.output), segment.answering(network)
    for sample in [sample for sample in samples if sample.source.endswith(".npy")]:  # larger than memory
        samples.remove(sample)
        target = folder / f"{sample.image_id}_labels.npy"
        tiles.label_file(graph, sample.source, target, options.tile)
        print(f"{target}: the labels")
    decoded = [images.decode(s.source, s.name) for s in samples]
    names = common.with_background(names, graph.output_shape[-1])
    for sample, image, labels in zip(samples, decoded, segment.segment(network, samples, options.tile)):
        common.save_labels(image, labels, names, folder / f"{sample.image_id}.png")
