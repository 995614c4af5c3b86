"""What there is to know of a model, for people: a card each, and one table of all."""

import csv
import functools
import pathlib

from keras_cnns import models
from keras_cnns.weights import zoo
from keras_cnns.weights.releases import RELEASES

COMMANDS = {  # that give a release's published figure, of a set in its authors' layout, by task and data learnt from
    ("classification", "imagenet"): "folder:ILSVRC2012 --split val",
    ("detection", "coco"): "coco:PATH --split val2017",
    ("segmentation", "voc"): "voc:VOCdevkit:2011 --split seg11valid",  # FCN's authors' list
}


@functools.cache
def checked():
    """How closely donors of random weights were met, carried over, by network and kind of donor: rows of `parity.csv`,
    which the tests of this room write (KERAS_CNNS_PARITY names the file)."""
    with open(pathlib.Path(__file__).with_name("parity.csv"), newline="", encoding="utf-8") as file:
        return {(row["model"], row["donor"]): row for row in csv.DictReader(file)}


def donor_of(release):
    """The kind of a release's file."""
    return {".h5": "keras", ".caffemodel": "caffe"}.get(pathlib.Path(release.file).suffix, "torchvision")


def card(name):
    """A model's card, lines of text."""
    info = zoo.model_info(name)
    lines = [
        f"{name}: {info.task}, {info.year}", f"  {info.paper}",
        f"  {'x'.join(map(str, info.input_shape))} in; {info.trainable_parameters:,} trainable parameters, "
        f"{info.parameters:,} in all; {info.multiply_adds / 1e9:.4g} billion multiply-adds; "
        f"{info.activations / 1e6:.4g} million activations",
        f"  {info.published or 'no published accuracy'}"]
    for release in RELEASES.get(name, ()):
        lines += [
            f"  weights={release.name!r}: {release.metric} ({release.source}); licence {release.licence}",
            f"    {release.origin}" + (f", {release.digest}" if release.digest else ", no digest published"),
            f"    {_met(name, release)}",
            *_command(name, info.task, release.name)]
    return "\n".join(lines)


def _command(model, task, release):
    data = COMMANDS.get((task, release.split("_")[0]))
    return [f"    keras-cnns evaluate {model} --weights {release} --data {data}"] if data else []


def _met(name, release):
    row = checked().get((name, donor_of(release)))
    return f"checked: {row['what']}, {row['difference']}, at {row['sizes']}" if row else "not checked against a donor"


def table():
    """All models, Markdown: a line each, and under it what its releases are."""
    lines = ["| model | paper | input | parameters | multiply-adds | weights | published | checked |", "|---" * 8 + "|"]
    for name in models.list_models():
        info = zoo.model_info(name)
        about = (name, f"{info.paper} ({info.year})", "x".join(map(str, info.input_shape)), f"{info.parameters:,}",
                 f"{info.multiply_adds / 1e9:.4g} G")
        releases = RELEASES.get(name, ())
        for release in releases:
            lines.append(_row(*about, f"[`{release.name}`]({release.origin}), {release.licence}",
                              f"{release.metric} ({release.source})", _met(name, release).removeprefix("checked: ")))
        if not releases:
            lines.append(_row(*about, "", info.published or "", ""))
    return "\n".join(lines) + "\n"


def _row(*cells):
    return f"| {' | '.join(cells)} |"
