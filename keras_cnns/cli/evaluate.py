"""Average precision of a trained detector; top-1, top-5 and worst classes of a classifier."""

from keras_cnns.cli import common
from keras_cnns.errors import InputError

WORST = 10  # classes that are listed


def arguments(parser):
    common.network_arguments(parser)
    common.data_arguments(parser, "val")
    parser.add_argument("--views", type=int, choices=(1, 10),
                        help="of each image, whose answers are averaged: 1, the default, or AlexNet's 10")
    parser.add_argument("--confusion", metavar="FILE", help="write what was taken for what as a picture")
    parser.add_argument("--curves", metavar="FILE", help="write a detector's precision over recall as a picture")


def run(options):
    from keras_cnns.weights import releases

    network, names, task = common.network(options)
    if task != "classification" and options.views:
        raise InputError(f"--views is for classifiers; {network.name} is for {task}.")
    if task != "detection" and options.curves:
        raise InputError(f"--curves is for detectors; {network.name} is for {task}.")
    release = common.release(options)
    samples, found, _ = common.read(options, task, class_names=releases.data_names(release) if release else names)
    {"classification": classifier, "detection": detector}[task](options, network, samples, names or found)


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
