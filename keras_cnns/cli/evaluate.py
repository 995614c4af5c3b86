"""Average precision of a detector; top-1, top-5, worst classes of a classifier; IoU of a segmenter; PCK of joints."""

from keras_cnns.cli import common, regions
from keras_cnns.errors import InputError

WORST = 10  # classes that are listed


def arguments(parser):
    common.network_arguments(parser)
    common.data_arguments(parser, "val")
    parser.add_argument("--views", type=int, choices=(1, 10),
                        help="of each image, whose answers are averaged: 1, the default, or AlexNet's 10")
    parser.add_argument("--tile", type=common.positive, metavar="PIXELS",
                        help="side of what a segmenter is shown at once; default all, or what it was built for")
    regions.arguments(parser)
    parser.add_argument("--confusion", metavar="FILE", help="write what was taken for what as a picture")
    parser.add_argument("--curves", metavar="FILE", help="write a detector's precision over recall as a picture")


def run(options):
    from keras_cnns.weights import releases

    network, names, task = common.network(options)
    regions.check("--proposals", options.proposals, network.name)
    if task != "classification" and options.views:
        raise InputError(f"--views is for classifiers; {network.name} is for {task}.")
    if task != "segmentation" and options.tile:
        raise InputError(f"--tile is for segmenters; {network.name} is for {task}.")
    if task != "detection" and options.curves:
        raise InputError(f"--curves is for detectors; {network.name} is for {task}.")
    release = common.release(options)
    known = releases.data_names(release) if release else names
    if task == "segmentation" and known and known[0] == "background":  # which is none of the data's
        known = known[1:]
    samples, found, _ = common.read(options, task, class_names=known)
    evaluate = {"classification": classifier, "detection": detector, "keypoints": poses, "segmentation": segmenter}
    evaluate[task](options, network, samples, names or found)


def classifier(options, network, samples, names):
    from keras_cnns import pictures
    from keras_cnns.training import classify

    views, release = options.views or 1, common.release(options)
    result = classify.evaluate(network, samples, views=views, resize=release and release.resize)
    about = f"{options.data}, {options.split}: {len(samples)} images{', 10 views of each' * (views == 10)}"
    if samples[0].label is None:
        if options.confusion:
            raise InputError(f"--confusion is for data with one class an image; {options.data} has several.")
        table = common.table(about, ("class", "left"), ("AP, VOC 2010+ area", "right"))
        for label in sorted(result.ap):
            table.add_row(names[label - 1], f"{result.ap[label]:.4f}")
        table.add_section()
        table.add_row("mean", f"{result.mean:.4f}")
        common.show(table)
        return
    table = common.table(f"{about}; the worst classes", ("class", "left"), ("images", "right"), ("right", "right"),
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
    common.show(table)
    if options.confusion:
        common.save(pictures.confusion(result.confusion, names), options.confusion)
        print(f"{options.confusion}: the confusion matrix.")


def detector(options, network, samples, names):
    from keras_cnns import models, pictures
    from keras_cnns.metrics import detection as metrics
    from keras_cnns.training import detect

    samples = regions.proposed(options, network.name, samples)
    truth, found = detect.truth(samples), detect.detect(models.detector(network), samples)
    area, eleven = (metrics.voc_ap(truth, found, form=form) for form in ("area", "11point"))
    coco = {kind: metrics.coco_evaluation(truth, found, kind)
            for kind, key in (("bbox", "boxes"), ("segm", "masks"), ("keypoints", "keypoints"))
            if all(key in each for each in (*truth, *found))}
    table = common.table(f"{options.data}, {options.split}: {len(samples)} images",
                   ("class", "left"), ("AP@0.5, VOC 2010+ area", "right"), ("AP@0.5, VOC 2007 11 points", "right"),
                   *((f"COCO AP, {kind}", "right") for kind in coco))
    for label in sorted(area.ap):
        table.add_row(names[label - 1], f"{area.ap[label]:.4f}", f"{eleven.ap[label]:.4f}",
                      *(f"{result.ap.get(label, -1):.4f}" for result in coco.values()))
    table.add_section()
    table.add_row("mean", f"{area.mean:.4f}", f"{eleven.mean:.4f}",
                  *(f"{result.numbers['AP']:.4f}" for result in coco.values()))
    common.show(table)
    for kind, result in coco.items():
        print(f"COCO, {kind}:", ", ".join(f"{name} {value:.4f}" for name, value in result.numbers.items()))
    if options.confusion:
        matrix = metrics.confusion(truth, found, len(names))
        common.save(pictures.confusion(matrix, ["background", *names]), options.confusion)
        print(f"{options.confusion}: what objects were taken for, at IoU 0.5 and scores above 0.5.")
    if options.curves:
        lines = {names[label - 1]: (area.recall[label], area.precision[label])
                 for label in sorted(area.ap, key=area.ap.get)[:WORST]}
        common.save(pictures.precision_recall(lines), options.curves)
        print(f"{options.curves}: precision over recall at IoU 0.5 of the {len(lines)} worst classes.")


def poses(options, network, samples, names):
    from keras_cnns import models
    from keras_cnns.data import persons
    from keras_cnns.training import keypoints

    if options.confusion:
        raise InputError(f"--confusion is for classifiers and detectors; {network.name} is for keypoints.")
    sides = persons.pairs(names)
    result = keypoints.evaluate(models.detector(network, pairs=sides), samples)
    measures = {"PCK@0.2": result.pck, "PCKh@0.5": result.pckh}
    columns = {name: correct for name, correct in measures.items() if correct}
    views = ", with their mirror images" if sides else ""
    table = common.table(f"{options.data}, {options.split}: {len(samples)} persons{views}", ("joint", "left"),
                         ("labelled", "right"), *((name, "right") for name in columns))
    labelled = sum((sample.keypoints[0, :, 2] > 0).astype(int) for sample in samples)
    for i, name in enumerate(names):
        table.add_row(name, str(labelled[i]), *(f"{correct.by_joint[i]:.4f}" for correct in columns.values()))
    table.add_section()
    table.add_row("mean", str(labelled.sum()), *(f"{correct.mean:.4f}" for correct in columns.values()))
    common.show(table)
    if result.oks:
        print("COCO, keypoints:", ", ".join(f"{name} {value:.4f}" for name, value in result.oks.items()))


def segmenter(options, network, samples, names):
    import numpy as np

    from keras_cnns import pictures
    from keras_cnns.data import images
    from keras_cnns.data import samples as data_samples
    from keras_cnns.metrics import segmentation as metrics
    from keras_cnns.training import segment

    of_isbi = options.data.startswith("isbi:")
    if of_isbi:
        metrics.isbi_errors(np.ones((1, 2, 2)), np.ones((1, 2, 2)))  # so that a lack of scikit-image is told at once
    result = segment.evaluate(network, samples, options.tile)
    names = common.with_background(names, len(result.iou))
    table = common.table(f"{options.data}, {options.split}: {len(samples)} images", ("class", "left"),
                         ("pixels", "right"), ("of these right", "right"), ("IoU", "right"))
    for name, row, right, iou in zip(names, result.confusion, result.accuracy, result.iou):
        table.add_row(name, f"{row.sum():,}", *("" if number != number else f"{number:.4f}" for number in (right, iou)))
    table.add_section()
    table.add_row("mean", f"{result.confusion.sum():,}", f"{result.mean_accuracy:.4f}", f"{result.mean_iou:.4f}")
    common.show(table)
    print(f"Pixel accuracy {result.pixel_accuracy:.4f}, mean accuracy {result.mean_accuracy:.4f}, mean IoU "
          f"{result.mean_iou:.4f}, frequency-weighted IoU {result.weighted_iou:.4f}.")
    if of_isbi:
        errors = metrics.isbi_errors(
            [data_samples.segmentation(sample) for sample in samples],
            [segment.probabilities(network, images.decode(sample.source, sample.name), options.tile)[..., 1]
             for sample in samples])
        print("ISBI:", ", ".join(f"{key} error {value:.4f}" for key, value in errors.items()))
    if options.confusion:
        common.save(pictures.confusion(result.confusion, names), options.confusion)
        print(f"{options.confusion}: the confusion matrix, of pixels.")
