"""Drawn objects with exact labels: a data set for tests and demonstrations that nobody has to download.

Five shapes of any colour and many sizes, tilted a little, on textured backgrounds, one to four an image; they
cover one another (an object's box is what can be seen of it), are cut by the border (truncated), or are hardly to
be seen, small or mostly covered (difficult). Images differ in size and are not square. `write_voc` writes them in
the genuine VOCdevkit layout; picture i of a seed is always the same.

`figures` are persons of sticks with MPII's 16 joints, one an image: facing us, so that their right is on our left,
bent at random, each limb's end told by a colour. Some are cut by the border; joints beside the image are not labelled.
"""

import io
import math

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from keras_cnns.data import samples as data_samples
from keras_cnns.data import mpii, voc

CLASSES = ("disc", "square", "triangle", "cross", "ring")
SIDES = (160, 289)  # of an image, pixels
SMALL = 24          # a lower visible side than this makes an object difficult
COVERED = 0.4       # and so does less of it than this in sight
OVERSAMPLING = 3    # shapes are drawn this much larger, then averaged down
# Of a figure's limbs, as shares of its height: from joint to joint, how long, and how thick.
LIMBS = {"upper_leg": (0.25, 0.075), "lower_leg": (0.24, 0.06), "upper_arm": (0.17, 0.055), "lower_arm": (0.16, 0.045)}


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


def figures(count=64, seed=0, first=0):
    """Figures `first ... first + count - 1` of a seed as `data.samples.Sample`, as `samples` gives shapes: each with
    its box, of what can be seen of it, and its `keypoints` `[1, 16, 3]`, named `mpii.KEYPOINTS`.
    """
    return [_figure(seed, i) for i in range(first, first + count)]


def _figure(seed, index):
    rng = np.random.default_rng([seed, index, len(mpii.KEYPOINTS)])  # other dice than those of shapes
    height, width = (int(n) for n in rng.integers(*SIDES, 2))
    canvas = _background(rng, height, width)
    tall = min(height, width) * rng.uniform(0.6, 0.95)
    places = {name: tall * place for name, place in _pose(rng).items()}
    middle = np.mean([np.min(list(places.values()), 0), np.max(list(places.values()), 0)], 0)
    shift = rng.uniform(0.35, 0.65, 2) * (width, height) - middle
    places = {name: place + shift for name, place in places.items()}
    colours = rng.uniform(0, 255, (4, 3))
    while np.abs(colours - canvas.mean((0, 1))).max(1).min() < 70:
        colours = rng.uniform(0, 255, (4, 3))
    paint, mask = _person(places, tall, colours, height, width)
    canvas = canvas * (1 - mask[..., None]) + paint * mask[..., None]
    canvas = np.clip(canvas + rng.normal(0, 4, canvas.shape), 0, 255).astype("uint8")
    y, x = np.nonzero(mask >= 0.5)
    encoded = io.BytesIO()
    Image.fromarray(canvas).save(encoded, "JPEG", quality=90)
    joints = np.array([(*places[name], 2) for name in mpii.KEYPOINTS], "float32")
    inside = ((joints[:, :2] >= 0) & (joints[:, :2] < (width, height))).all(1, keepdims=True)
    return data_samples.Sample(
        f"{index + 1:06d}", encoded.getvalue(), (height, width),
        np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], "float32"), np.ones(1, "int32"), np.zeros(1, bool),
        keypoints=np.where(inside, joints, 0).astype("float32")[None],
        about={"source/database": "keras_cnns figures", "source/annotation": "exact", "source/image": "drawn"})


def _pose(rng):
    """Where the joints of a figure of height 1 are, by name, its pelvis at (0, 0): (x, y), y downwards."""
    def step(start, degrees, length):  # from straight down, positive to our right
        angle = math.radians(degrees)
        return start + length * np.array([math.sin(angle), math.cos(angle)])

    lean = rng.uniform(-20, 20)
    found = {"pelvis": np.zeros(2)}
    found["thorax"] = step(found["pelvis"], 180 + lean, 0.28 * rng.uniform(0.9, 1))
    nod = lean + rng.uniform(-15, 15)
    found["upper_neck"] = step(found["thorax"], 180 + nod, 0.06)
    found["head_top"] = step(found["upper_neck"], 180 + nod, 0.15)
    for side, sign in (("right", -1), ("left", 1)):
        found[f"{side}_hip"] = step(found["pelvis"], lean + 90 * sign, 0.065)
        found[f"{side}_shoulder"] = step(found["thorax"], lean + 90 * sign, 0.115)
        for start, parts, swing, bend in (
                ("hip", ("upper_leg", "knee", "lower_leg", "ankle"), (-10, 55), (-60, 10)),
                ("shoulder", ("upper_arm", "elbow", "lower_arm", "wrist"), (-15, 150), (-110, 110))):
            turn = rng.uniform(*swing)
            for part, joint, degrees in ((parts[0], parts[1], turn), (parts[2], parts[3], turn + rng.uniform(*bend))):
                length = LIMBS[part][0] * rng.uniform(0.8, 1)  # seen at a slant it is shorter
                found[f"{side}_{joint}"] = step(found[f"{side}_{start}"], sign * degrees, length)
                start = joint
    return found


def _person(places, tall, colours, height, width):
    """A figure painted where its joints are: colours `[H, W, 3]` and how much of each pixel it covers, `[H, W]`."""
    n, (skin, shirt, trousers, boots) = OVERSAMPLING, colours
    field = Image.new("RGBA", (width * n, height * n))
    pen = ImageDraw.Draw(field)

    def stick(one, other, share, colour):
        a, b, radius = places[one] * n, places[other] * n, share * tall * n / 2
        pen.line([*a, *b], fill=(*colour.astype(int), 255), width=max(round(2 * radius), 1))
        for x, y in (a, b):
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(*colour.astype(int), 255))

    for side in ("right", "left"):
        stick(f"{side}_knee", f"{side}_ankle", LIMBS["lower_leg"][1], boots)
        stick(f"{side}_hip", f"{side}_knee", LIMBS["upper_leg"][1], trousers)
    stick("thorax", "upper_neck", 0.05, skin)
    trunk = [f"{side}_{joint}" for side, joint in (
        ("right", "shoulder"), ("left", "shoulder"), ("left", "hip"), ("right", "hip"))]
    pen.polygon([tuple(places[name] * n) for name in trunk], fill=(*shirt.astype(int), 255))
    for one, other in zip(trunk, trunk[1:]):
        stick(one, other, 0.05, shirt)
    stick("right_hip", "left_hip", 0.06, trousers)
    neck, top = places["upper_neck"], places["head_top"]
    across = 0.36 * (top - neck)[::-1] * (-1, 1)
    turns = np.linspace(0, 2 * math.pi, 24, endpoint=False)[:, None]
    oval = (neck + top) / 2 + (top - neck) / 2 * np.cos(turns) + across * np.sin(turns)
    pen.polygon([tuple(place * n) for place in oval], fill=(*skin.astype(int), 255))
    for side in ("right", "left"):
        stick(f"{side}_elbow", f"{side}_wrist", LIMBS["lower_arm"][1], skin)
        stick(f"{side}_shoulder", f"{side}_elbow", LIMBS["upper_arm"][1], shirt)
    painted = np.asarray(field.reduce(n), "float32")  # which weighs colours by how much they cover
    return painted[..., :3], painted[..., 3] / 255


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
