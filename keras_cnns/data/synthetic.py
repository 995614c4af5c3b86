"""Drawn objects with exact labels: a data set for tests and demonstrations that nobody has to download.

Five shapes of any colour and many sizes, tilted a little, on textured backgrounds, one to four an image; they
cover one another (an object's box is what can be seen of it), are cut by the border (truncated), or are hardly to
be seen, small or mostly covered (difficult). Images differ in size and are not square. `write_voc` writes them in
the genuine VOCdevkit layout; picture i of a seed is always the same.
"""

import io
import math

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from keras_cnns.data import samples as data_samples
from keras_cnns.data import voc

CLASSES = ("disc", "square", "triangle", "cross", "ring")
SIDES = (160, 289)  # of an image, pixels
SMALL = 24          # a lower visible side than this makes an object difficult
COVERED = 0.4       # and so does less of it than this in sight
OVERSAMPLING = 3    # shapes are drawn this much larger, then averaged down


def samples(count=64, seed=0, first=0, masks=False):
    """Pictures `first ... first + count - 1` of a seed as `data.samples.Sample`, JPEG bytes in memory.

    Args:
      masks: also what can be seen of each object.
    """
    drawn = [_sample(seed, i) for i in range(first, first + count)]
    return drawn if masks else [sample._replace(masks=None) for sample in drawn]


def detection(count=64, seed=0, first=0, masks=False):
    """The same as an unbatched `tf.data.Dataset` of dicts: image, image_id, boxes, labels, ignored, and maybe masks."""
    return data_samples.dataset(samples(count, seed, first, masks))


def write_voc(root, train=400, val=100, seed=0, year="2012"):
    """Writes `VOC<year>/` with the lists train, val and trainval, and `labels.txt` beside it, by `voc.write`.

    The folder appears whole or not at all. Returns its path, the VOCdevkit folder for the readers.

    Raises:
      InputError: the folder cannot be written, or is there already.
    """
    drawn = samples(train + val, seed)
    ids = [sample.image_id for sample in drawn]
    return voc.write(drawn, root, CLASSES, year, sublists={"train": ids[:train], "val": ids[train:]})


def _sample(seed, index):
    rng = np.random.default_rng([seed, index])
    height, width = (int(n) for n in rng.integers(*SIDES, 2))
    canvas = _background(rng, height, width)
    things = []
    for _ in range(rng.integers(1, 5)):
        label = int(rng.integers(len(CLASSES)))
        whole, mask = _shape(rng, label, height, width)
        if mask.max() < 0.5:
            continue
        paint = _paint(rng, canvas, mask)
        canvas = canvas * (1 - mask[..., None]) + paint * mask[..., None]
        seen = mask >= 0.5
        for thing in things:
            thing["seen"] &= ~seen
        things.append(dict(label=label + 1, whole=whole, inside=seen.sum(), seen=seen))
    canvas = np.clip(canvas + rng.normal(0, 4, canvas.shape), 0, 255).astype("uint8")
    return _pack(f"{index + 1:06d}", canvas, [t for t in things if t["seen"].any()])


def _pack(image_id, canvas, things):
    boxes = np.zeros((len(things), 4), "float32")
    for i, thing in enumerate(things):
        y, x = np.nonzero(thing["seen"])
        boxes[i] = x.min(), y.min(), x.max() + 1, y.max() + 1
    share = np.array([t["seen"].sum() / t["whole"] for t in things])
    sides = (boxes[:, 2:] - boxes[:, :2]).min(1) if things else np.zeros(0)
    encoded = io.BytesIO()
    Image.fromarray(canvas).save(encoded, "JPEG", quality=90)
    return data_samples.Sample(
        image_id, encoded.getvalue(), canvas.shape[:2], boxes, np.array([t["label"] for t in things], "int32"),
        (share < COVERED) | (sides < SMALL),
        {"truncated": [int(t["inside"] < 0.99 * t["whole"]) for t in things],
         "occluded": [int(t["seen"].sum() < 0.99 * t["inside"]) for t in things]},
        [coco_mask.encode(np.asfortranarray(t["seen"], "uint8")) for t in things],
        about={"source/database": "keras_cnns synthetic", "source/annotation": "exact", "source/image": "drawn"})


def _shape(rng, label, height, width):
    """A turned shape somewhere in the image: its whole area in pixels, and its mask `[H, W]`, 0 to 1."""
    radius = 0.5 * min(height, width) * math.exp(rng.uniform(math.log(0.3), math.log(0.75)))
    turn = rng.uniform(-0.4, 0.4)  # radians
    center = rng.uniform(0.05, 0.95, 2) * (width, height)
    n = OVERSAMPLING
    # Drawn on a field with a margin of its own radius, so that the area outside the image is known too.
    margin = math.ceil(radius) + 1
    field = Image.new("L", ((width + 2 * margin) * n, (height + 2 * margin) * n))
    pen = ImageDraw.Draw(field)

    def at(points):
        c, s = math.cos(turn), math.sin(turn)
        return [((center[0] + margin + radius * (c * x - s * y)) * n,
                 (center[1] + margin + radius * (s * x + c * y)) * n) for x, y in points]

    def circle(r, fill):
        (x, y), = at([(0, 0)])
        pen.ellipse([x - r * n, y - r * n, x + r * n, y + r * n], fill=fill)

    name = CLASSES[label]
    if name == "disc":
        circle(radius, 255)
    elif name == "ring":
        circle(radius, 255)
        circle(0.55 * radius, 0)
    elif name == "square":
        pen.polygon(at([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]), fill=255)
    elif name == "triangle":
        pen.polygon(at([(math.cos(a), math.sin(a)) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]), fill=255)
    else:  # cross
        w = 0.3
        pen.polygon(at([(-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w),
                        (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w)]), fill=255)
    mask = np.asarray(field.reduce(n), "float32") / 255
    return max((mask >= 0.5).sum(), 1), mask[margin:-margin, margin:-margin]


def _paint(rng, canvas, mask):
    """A colour that stands out from what it covers, with a texture of its own, `[H, W, 3]`."""
    under = canvas[mask >= 0.5].mean(0)
    colour = rng.uniform(0, 255, 3)
    while np.abs(colour - under).max() < 70:
        colour = rng.uniform(0, 255, 3)
    texture = _noise(rng, *mask.shape, int(rng.integers(4, 24)))
    return np.clip(colour + rng.uniform(5, 30) * texture[..., None], 0, 255)


def _background(rng, height, width):
    """Soft patches, stripes or both in two colours, `[H, W, 3]`, 0 to 255."""
    dark, light = rng.uniform(20, 235, (2, 3))
    texture = sum(_noise(rng, height, width, cells) / (i + 1) for i, cells in enumerate((3, 8, 21)))
    y, x = np.mgrid[:height, :width]
    angle, period = rng.uniform(0, math.pi), rng.uniform(6, 40)
    stripes = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period)
    share = 1 / (1 + np.exp(-texture - rng.uniform(0, 1.5) * stripes))
    return dark + share[..., None] * (light - dark)


def _noise(rng, height, width, cells):
    """Smooth noise of about deviation 1, `[H, W]`, with `cells` patches to a side."""
    small = Image.fromarray(rng.normal(size=(cells, cells)).astype("float32"))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
