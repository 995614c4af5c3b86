"""Images with boxes drawn on them, by Pillow."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def colour(label):
    """A colour a class, far from its neighbours': RGB, 0 to 255."""
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.85, 1.0))


def draw(image, boxes, labels, class_names=None, scores=None, ignored=None):
    """Boxes and names on a copy of an image.

    Args:
      image: `[H, W, 3]`, 0 to 255. boxes: `[N, 4]` xyxy, its pixels. labels: `[N]`, 1...K.
      class_names: 1...K in order; numbers are written without. scores: `[N]`, 0 to 1, written beside.
      ignored: `[N]`, drawn grey.

    Returns:
      a `PIL.Image`.
    """
    picture = Image.fromarray(np.asarray(image).astype("uint8")).convert("RGB")
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


def dots(picture, keypoints):
    """Joints `[N, J, 3]` (x, y, visibility) drawn on a `PIL.Image`: filled when visible, rings when hidden."""
    pen, radius = ImageDraw.Draw(picture), max(2, min(picture.size) // 120)
    for joints in keypoints:
        for i, (x, y, visible) in enumerate(joints, 1):
            if visible:
                pen.ellipse([x - radius, y - radius, x + radius, y + radius], outline=colour(i), width=2,
                            fill=colour(i) if visible > 1 else None)
    return picture


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
