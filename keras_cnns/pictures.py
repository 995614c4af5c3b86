"""Images with boxes drawn on them, and diagrams, by Pillow."""

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def colour(label):
    """A colour a class, far from its neighbours': RGB, 0 to 255."""
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.85, 1.0))


def draw(image, boxes, labels, class_names=None, scores=None, ignored=None, masks=()):
    """Boxes and names on a copy of an image, under a veil of colours where there are masks.

    Args:
      image: `[H, W, 3]`, 0 to 255. boxes: `[N, 4]` xyxy, its pixels. labels: `[N]`, 1...K.
      class_names: 1...K in order; numbers are written without. scores: `[N]`, 0 to 1, written beside.
      ignored: `[N]`, drawn grey. masks: `[N, H, W]`, 1 inside, as of `overlay`.

    Returns:
      a `PIL.Image`.
    """
    image = overlay(image, masks) if len(masks) else np.asarray(image).astype("uint8")
    picture = Image.fromarray(image).convert("RGB")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(10, min(picture.size) // 22))
    line = max(2, min(picture.size) // 150)
    order = range(len(boxes)) if scores is None else np.argsort(scores)  # the surest on top
    for i in order:
        x1, y1, x2, y2 = (float(v) for v in boxes[i])
        shade = (150, 150, 150) if ignored is not None and ignored[i] else colour(int(labels[i]))
        text = class_names[int(labels[i]) - 1] if class_names else str(int(labels[i]))
        text += "" if scores is None else f" {scores[i]:.2f}"
        pen.rectangle([x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)], outline=shade, width=line)
        width, height = pen.textbbox((0, 0), text, font=font)[2:]
        x, y = min(x1, max(picture.width - width - 4, 0)), y1 - height - 2 if y1 > height + 2 else y1
        pen.rectangle([x, y, x + width + 3, y + height + 2], fill=shade)
        pen.text((x + 2, y), text, fill="black", font=font)
    return picture


def overlay(image, masks=(), segmentation=None):
    """An image under a veil of colours, uint8 `[H, W, 3]`.

    Args:
      masks: `[N, H, W]`, 1 inside, a colour an object. segmentation: `[H, W]`, a colour a class; 0 is left clear,
        and 255, ignored, is white.
    """
    image = np.array(image, "float32")
    for i, mask in enumerate(masks, 1):
        image[mask > 0] = (image[mask > 0] + colour(i)) / 2
    if segmentation is not None:
        for label in set(np.unique(segmentation).tolist()) - {0}:
            image[segmentation == label] = (image[segmentation == label] + (
                (255, 255, 255) if label == 255 else colour(label))) / 2
    return image.astype("uint8")


def labelled(image, labels, class_names=None):
    """An image under a veil of colours, and below it the names of those classes that it has: a `PIL.Image`.

    Args:
      image: `[H, W, 3]`, 0 to 255. labels: `[H, W]`, 0...K, as of `overlay`. class_names: 0...K in order; of what
        they leave out, numbers are written.
    """
    veiled = Image.fromarray(overlay(image, segmentation=labels))
    font = ImageFont.load_default(max(10, min(veiled.size) // 22))
    line, x, rows = int(1.6 * font.size), 0, [[]]
    for label in np.unique(labels).tolist():
        text = "ignored" if label == 255 else str(label)
        if class_names and label < len(class_names):
            text = str(class_names[label])
        width = int(font.getlength(text)) + 2 * line
        if x and x + width > veiled.width:
            rows.append([])
            x = 0
        rows[-1].append((x, label, text))
        x += width
    picture = Image.new("RGB", (veiled.width, veiled.height + line * len(rows)), "white")
    picture.paste(veiled)
    pen = ImageDraw.Draw(picture)
    for i, row in enumerate(rows):
        y = veiled.height + line * i
        for x, label, text in row:
            shade = "white" if label in (0, 255) else colour(label)
            pen.rectangle([x + line // 4, y + line // 4, x + line, y + line * 3 // 4], fill=shade, outline="black")
            pen.text((x + line * 5 // 4, y + line / 2), text, anchor="lm", fill="black", font=font)
    return picture


def task_family(image, boxes, labels, masks, class_names, width=320):
    """What the five tasks say of one image, side by side: classification, localisation, detection, semantic and
    instance segmentation: a `PIL.Image`.

    Args:
      image: `[H, W, 3]`, 0 to 255. boxes: `[N, 4]` xyxy, its pixels, one or more. labels: `[N]`, 1...K. masks:
        `[N, H, W]`, 1 inside. class_names: 1...K in order. width: of each of the five, pixels.
    """
    masks = np.asarray(masks)
    largest = [int(np.argmax(masks.sum((1, 2))))]  # the one object that the first two tasks tell of
    classes = np.zeros(masks.shape[1:], "uint8")
    for mask, label in zip(masks, labels):
        classes[mask > 0] = label
    plain = Image.fromarray(np.asarray(image).astype("uint8"))
    name = class_names[int(labels[largest[0]]) - 1]
    scale = min(width / plain.width, 1.0)  # so that what is written can be read

    def small(picture):
        return picture.resize([max(round(side * scale), 1) for side in picture.size])

    def boxed(picture, which, labels):
        return draw(picture, np.asarray(boxes)[which] * scale, np.asarray(labels)[which], class_names)

    every = range(len(masks))
    named = small(plain)
    ImageDraw.Draw(named).text((6, 4), name, fill="white", stroke_width=2, stroke_fill="black",
                               font=ImageFont.load_default(18))
    names = ["background", *class_names]
    panels = [named, boxed(small(plain), largest, labels), boxed(small(plain), every, labels),
              small(labelled(image, classes, names)), small(Image.fromarray(overlay(image, masks)))]
    titles = ("classification", "localisation", "detection", "semantic segmentation", "instance segmentation")
    return sheet([panels], titles, width)


def dots(picture, keypoints):
    """Joints `[N, J, 3]` (x, y, visibility) drawn on a `PIL.Image`: filled when visible, rings when hidden."""
    pen, radius = ImageDraw.Draw(picture), max(2, min(picture.size) // 120)
    for joints in keypoints:
        for i, (x, y, visible) in enumerate(joints, 1):
            if visible:
                pen.ellipse([x - radius, y - radius, x + radius, y + radius], outline=colour(i), width=2,
                            fill=colour(i) if visible > 1 else None)
    return picture


# Whose joints a skeleton joins, where the names are there: MPII's and COCO's.
BONES = (
    ("ankle", "knee"), ("knee", "hip"), ("wrist", "elbow"), ("elbow", "shoulder"), ("hip", "pelvis"),
    ("shoulder", "thorax"), ("pelvis", "thorax"), ("thorax", "upper_neck"), ("upper_neck", "head_top"),
    ("eye", "nose"), ("ear", "eye"))
SIDES = {"right": (255, 120, 30), "left": (40, 140, 255), "": (60, 210, 90)}


def skeleton(picture, keypoints, names, least=0.0):
    """Persons' joints and the bones between them drawn on a `PIL.Image`: right orange, left blue, the middle green.

    Args:
      keypoints: `[P, J, 3]`: x, y, and a visibility or heat, which must be more than `least`. names: of the J joints.
    """
    pen, width = ImageDraw.Draw(picture), max(2, min(picture.size) // 100)
    for joints in np.asarray(keypoints):
        seen = {name: (float(x), float(y)) for name, (x, y, sure) in zip(names, joints) if sure > least}
        for one, other, shade in _bones(names):
            if one in seen and other in seen:
                pen.line([*seen[one], *seen[other]], fill=shade, width=width)
        for name, (x, y) in seen.items():
            pen.ellipse([x - width, y - width, x + width, y + width], fill=SIDES[_side(name)], outline="white")
    return picture


def _side(name):
    return name.split("_")[0] if name.startswith(("left_", "right_")) else ""


def _bones(names):
    """(joint, joint, colour) of the joints that there are."""
    for one, other in BONES:
        for side in ("right_", "left_", ""):
            for end in (side + other, other):
                if side + one in names and end in names:
                    yield side + one, end, SIDES[side.strip("_")]
                    break
    if "thorax" not in names:
        yield from ((f"{side}_shoulder", f"{side}_hip", SIDES[side]) for side in ("right", "left"))
        yield from ((f"right_{joint}", f"left_{joint}", SIDES[""]) for joint in ("shoulder", "hip"))


def fitted(size, width):
    """The size `(width, height)` of a picture on a sheet, its proportions kept."""
    scale = min(width / size[0], 2 * width / size[1])
    return tuple(max(round(side * scale), 1) for side in size)


def sheet(rows, titles=(), width=320):
    """Pictures in rows, `width` pixels wide or up to twice as high, under column titles: a `PIL.Image`."""
    font = ImageFont.load_default(16)
    rows = [[p.resize(fitted(p.size, width)) for p in row] for row in rows]
    heights = [max(p.height for p in row) for row in rows]
    gap, head = 6, 26 if titles else 0
    canvas = Image.new("RGB", (max(len(row) for row in rows) * (width + gap) + gap,
                               head + sum(heights) + gap * (len(rows) + 1)), "white")
    for i, title in enumerate(titles):
        ImageDraw.Draw(canvas).text((gap + i * (width + gap), 4), title, fill="black", font=font)
    y = head + gap
    for row, height in zip(rows, heights):
        for i, picture in enumerate(row):
            canvas.paste(picture, (gap + i * (width + gap), y))
        y += height + gap
    return canvas


def confusion(matrix, class_names=None):
    """A confusion matrix: a `PIL.Image`, its cells the darker the larger their share of the row.

    Args:
      matrix: `[K, K]` whole numbers; rows are the true classes, columns what was said.
      class_names: in order; numbers are written without. Names and counts are left out where there is no room.
    """
    matrix = np.asarray(matrix)
    count = len(matrix)
    cell = max(960 // max(count, 1), 1) if count > 20 else 48
    names = [str(name) for name in (class_names or range(count))]
    font = ImageFont.load_default(min(cell * 0.8, 16) if cell >= 10 else 16)
    labels = [_text(name[:24], font) for name in names] if cell >= 10 else []
    margin = max([label.width for label in labels], default=0) + 34
    picture = Image.new("RGB", (margin + count * cell + 10,) * 2, "white")
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    shades = (255 - share[..., None] * (215, 155, 75)).astype("uint8")  # white to blue
    picture.paste(Image.fromarray(shades.repeat(cell, 0).repeat(cell, 1)), (margin, margin))
    pen = ImageDraw.Draw(picture)
    pen.rectangle([margin - 1, margin - 1, margin + count * cell, margin + count * cell], outline=(120, 120, 120))
    for i, label in enumerate(labels):
        near, middle = margin - label.width - 5, margin + i * cell + (cell - label.height) // 2
        picture.paste(label, (near, middle))
        picture.paste(label.rotate(90, expand=True), (middle, near))
    if cell >= 30:
        for row, column in np.argwhere(matrix):
            text, dark = str(matrix[row, column]), share[row, column] > 0.5
            pen.text((margin + (column + 0.5) * cell, margin + (row + 0.5) * cell), text, anchor="mm",
                     fill="white" if dark else "black", font=ImageFont.load_default(min(16, 1.6 * cell / len(text))))
    for title, turned in (("said", False), ("true", True)):
        text = _text(title, ImageFont.load_default(18))
        text, place = text.rotate(90, expand=True) if turned else text, margin + (count * cell - text.width) // 2
        picture.paste(text, (4, place) if turned else (place, 4))
    return picture


def curves(lines, title="", across="epoch", size=(720, 460)):
    """Numbers over epochs 1, 2, ..., a line for each name: a `PIL.Image`.

    Args:
      lines: `{name: values}`, of any lengths; where a value is no number the line is broken.
      title: above. across: below the axis. size: `(width, height)`.
    """
    points = {name: list(enumerate(np.asarray(values, float), 1)) for name, values in lines.items()}
    known = [value for line in points.values() for _, value in line if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    longest = max([2, *map(len, points.values())])
    epochs = [tick for tick in _ticks(1, longest) if tick == int(tick) and tick >= 1]
    return _chart(points, (1, max(longest, *epochs)), epochs, _ticks(low, high if high > low else low + 1.0), title,
                  across, size)


def precision_recall(lines, title="", size=(720, 460)):
    """Precision over recall, a line for each name: a `PIL.Image`.

    Args:
      lines: `{name: (recall, precision)}`, `[N]` each, 0 to 1, after each detection by falling score.
    """
    tenths = [round(i / 5, 1) for i in range(6)]
    points = {name: list(zip(*(np.asarray(side, float) for side in line))) for name, line in lines.items()}
    return _chart(points, (0.0, 1.0), tenths, tenths, title or "precision", "recall", size)


def scatter(points, title="", across="", size=(860, 520)):
    """Points in the colour of one name and the shape of another, both told beside: a `PIL.Image`.

    Args:
      points: rows `(x, y, name of the colour, name of the shape)`. title: above. across: below the axis.
    """
    ticks = [_ticks(min(0.0, *numbers), max(*numbers, 1e-9)) for numbers in ([p[0] for p in points] * 2,
                                                                            [p[1] for p in points] * 2)]
    colours, shapes = (list(dict.fromkeys(row[i] for row in points)) for i in (2, 3))
    picture, pen, place, edge = _axes([*colours, *shapes], (ticks[0][0], ticks[0][-1]), *ticks, title, across, size)

    def mark(x, y, shade, shape):
        sides = (None, 4, 3, 5, 6)[shapes.index(shape) % 5]
        if sides:
            pen.regular_polygon((x, y, 7), sides, fill=shade, outline="black")
        else:
            pen.ellipse([x - 5, y - 5, x + 5, y + 5], fill=shade, outline="black")

    shade_of = dict(zip(colours, _shades(len(colours))))
    for i, name in enumerate([*colours, *shapes]):
        x, y = edge[0] + 19, edge[1] + 20 * i + 8
        if i < len(colours):
            pen.line([x - 9, y, x + 9, y], fill=shade_of[name], width=5)
        else:
            mark(x, y, "white", name)
    for x, y, colour_name, shape in points:
        mark(*place(x, y), shade_of[colour_name], shape)
    return picture


def _chart(lines, span, below, beside, title, across, size):
    """Lines of points `(x, y)` by name, with ticks below and beside; `span` is that of x, of y the outer ticks."""
    picture, pen, place, (right, top) = _axes(lines, span, below, beside, title, across, size)
    shades = _shades(len(lines))
    for i, shade in enumerate(shades):
        y = top + 20 * i + 8
        pen.line([right + 10, y, right + 28, y], fill=shade, width=3)
    for shade, line in zip(shades, lines.values()):
        points = [place(x, y) if math.isfinite(y) else None for x, y in line]
        for one, other in zip(points, points[1:]):
            if one and other:
                pen.line([*one, *other], fill=shade, width=2)
        for x, y in filter(None, points[:1] if len(points) == 1 else ()):
            pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=shade)
    return picture


def _shades(count):
    """Colours that can be read on white."""
    return [tuple(int(0.75 * c) for c in colour(i)) for i in range(1, count + 1)]


def _axes(names, span, below, beside, title, across, size):
    """A picture with axes and, to their right, names, before each of which is room for what it means.

    Returns:
      the picture; its pen; a function of a point to its place in pixels; and the axes' upper right corner.
    """
    font, (width, height) = ImageFont.load_default(14), size
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    legend = max([pen.textlength(name, font=font) for name in names], default=0) + 40
    left, top, right, bottom = 64, 36, width - legend, height - 48

    def place(x, y):
        return (left + (x - span[0]) / (span[1] - span[0]) * (right - left),
                bottom - (y - beside[0]) / (beside[-1] - beside[0]) * (bottom - top))

    for tick in beside:
        y = place(span[0], tick)[1]
        pen.line([left, y, right, y], fill=(225, 225, 225))
        pen.text((left - 8, y), f"{tick:.6g}", anchor="rm", fill="black", font=font)
    for tick in below:
        x = place(tick, beside[0])[0]
        pen.line([x, bottom, x, bottom + 5], fill="black")
        pen.text((x, bottom + 8), f"{tick:.6g}", anchor="ma", fill="black", font=font)
    pen.line([left, top, left, bottom, right, bottom], fill="black")
    pen.text(((left + right) / 2, height - 6), across, anchor="mb", fill="black", font=font)
    pen.text(((left + right) / 2, 8), title, anchor="ma", fill="black", font=ImageFont.load_default(17))
    for i, name in enumerate(names):
        pen.text((right + 34, top + 20 * i + 8), name, anchor="lm", fill="black", font=font)
    return picture, pen, place, (right, top)


def _ticks(low, high):
    """Some five round numbers, of which the first is at most `low` and the last at least `high`."""
    step = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(step))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda size: abs(size - step))
    return [round(step * i, 12) for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _text(text, font):
    """A line of text as a small picture, black on white."""
    width, height = font.getbbox(text)[2:]
    picture = Image.new("RGB", (max(int(width), 1), max(int(height), 1) + 2), "white")
    ImageDraw.Draw(picture).text((0, 0), text, fill="black", font=font)
    return picture
