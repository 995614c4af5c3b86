"""Look at data, or write them in another form."""

import sys

from keras_cnns.cli import common
from keras_cnns.errors import InputError

TILE = 240  # pixels, width of a picture on the sheet of `data check`


def arguments(parser):
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    text = "Read every file: counts, odd sizes, broken files, duplicates, unused classes, and a picture of it."
    sub = actions.add_parser("check", help=text, description=text)
    sub.set_defaults(run=check)
    common.data_arguments(sub, "train", "data")
    sub.add_argument("--sheet", default="contact_sheet.png", metavar="FILE", help="the picture; default %(default)s")
    text = "Write a data set in another form; what that form has no place for is refused."
    sub = actions.add_parser("convert", help=text, description=text)
    sub.set_defaults(run=convert)
    common.data_arguments(sub, "train", "data")
    sub.add_argument("target", metavar="TARGET", help="voc:PATH[:YEAR], coco:PATH[:SPLIT] or records:PATH")


def check(options):
    from keras_cnns import pictures
    from keras_cnns.data import named, report

    found = named.read(options.data, options.split, on_bad_sample="skip")
    good, told = report.report(found.samples[:options.limit], found.class_names, found.skipped)
    title = f"{options.data}, {options.split}: {len(good)} good images, {len(told.broken)} broken samples"
    columns = ["objects", "of these ignored", "images", "pixels"][:len(told.counts[0]) - 1] if told.counts else []
    table = common.table(title, ("class", "left"), *((name, "right") for name in columns))
    for row in told.counts:
        table.add_row(*map(str, row))
    table.add_section()
    sums = dict(zip(columns, map(sum, list(zip(*told.counts))[1:]))) | {"images": len(good)}
    table.add_row("all", *(str(sums[name]) for name in columns))
    common.show(table)
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
    tiles = [tile(sample, found.class_names) for sample in good[::max(len(good) // 24, 1)][:24]]
    sheet = pictures.sheet([tiles[i:i + 6] for i in range(0, len(tiles), 6)], width=TILE)
    common.save(sheet, options.sheet)
    print(f"{options.sheet}: {len(tiles)} of the images.")
    if told.broken and options.on_bad_sample == "stop":
        raise InputError(f"{options.data}: {len(told.broken)} broken samples; repair the files above, or leave them "
                         "out with --on-bad-sample skip.")


def tile(sample, names):
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


def convert(options):
    from keras_cnns.data import named

    samples, names, skipped = named.read(options.data, options.split, on_bad_sample=options.on_bad_sample)
    samples = samples[:options.limit]
    bad_images = named.write(samples, options.target, names, options.split, options.on_bad_sample)
    print(f"{options.target}: {len(samples) - len(bad_images)} images written.")
    for line in [*skipped, *bad_images]:
        print(f"skipped {line}", file=sys.stderr)
