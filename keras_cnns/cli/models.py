"""List the networks."""

from keras_cnns.cli import common


def arguments(parser):
    parser.add_argument("pattern", nargs="?", help="such as 'resnet*': what is known of each, counted from its graph")
    parser.add_argument("--task", choices=("classification", "segmentation", "keypoints", "detection"))


def run(options):
    from keras_cnns import models

    names = models.list_models(options.pattern or "*", options.task)
    if not names:
        models.module_of(options.pattern)
    if not options.pattern:
        table = common.table("Networks", ("name", "left"), ("task", "left"), ("year", "right"), ("paper", "left"))
        for name in names:
            module = models.MODELS[name]
            table.add_row(name, module.TASK, str(module.YEAR), module.PAPER)
        return common.show(table)
    from keras_cnns.weights import cards

    for name in names:
        print(cards.card(name), flush=True)
