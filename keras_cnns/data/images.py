"""Images: from bytes to pixels, from pixels to a network's canvas.

`decode` is the careful door, in Python, with errors that name the file. `look` is the quick one, in TensorFlow ops:
it takes out of a JPEG only the part that a window shows, and resizes that. `letterbox` and `central` are the same in
the pipeline and in a SavedModel.
"""

import io
import os
import pathlib
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_cnns.errors import InputError

# What networks trained on ImageNet normalise to 0, RGB, 0 to 255.
PADDING = (123.675, 116.28, 103.53)
MAX_PIXELS = 2**26  # 8192 x 8192, 200 MB decoded; a larger image is refused before it is decoded
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
ORIENTATION = 0x0112  # EXIF's tag
# Its entry of one 16-bit number, 1, and how EXIF begins if its directory is what follows; in both orders of bytes.
EXIF_STARTS = (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08")
XMP_TURN = b":Orientation"
HEAD = 2**16  # bytes of a JPEG in which a turn is looked for; one that stands behind them is refused
UPRIGHT = (b"\x12\x01\x03\x00\x01\x00\x00\x00\x01\x00", b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01")

# Pillow warns of large images at a limit above ours, by which they are refused anyway.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read(source, name, remedy="give a whole JPEG or PNG file"):
    """The bytes of a file that has some; arguments and errors as of `decode`."""
    if isinstance(source, bytes):
        contents = source
    else:
        try:
            contents = pathlib.Path(source).read_bytes()
        except FileNotFoundError:
            raise InputError(f"{name}: image is missing; {remedy}") from None
        except (OSError, ValueError) as error:  # the last: a null in the name
            raise InputError(f"{name}: image cannot be read ({error}); {remedy}") from None
    if not contents:
        raise InputError(f"{name}: image file is empty (0 bytes); {remedy}")
    return contents


def header(contents, name, remedy="give a whole JPEG or PNG file"):
    """A Pillow image of which only the header is read: its format and size are good, its pixels not yet looked at.

    Raises:
      InputError: it is of no known format, or of more than `MAX_PIXELS`.
    """
    try:
        image = Image.open(io.BytesIO(contents), formats=FORMATS)
    except UnidentifiedImageError:
        if contents.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
            raise InputError(f"{name}: image is truncated or corrupt ({len(contents)} bytes); {remedy}") from None
        raise InputError(f"{name}: no JPEG, PNG, GIF, BMP, WebP, TIFF or PPM image; {remedy}") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name}: image has far more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except Exception as error:  # Pillow's readers raise what they please on a broken header
        raise InputError(f"{name}: image is truncated or corrupt ({error}); {remedy}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: image of {width} x {height} is above the limit of {MAX_PIXELS:,} pixels; "
                         "make it smaller")
    return image


def decode(source, name, remedy="give a whole JPEG or PNG file"):
    """An image as RGB, uint8 `[H, W, 3]`, upright.

    Any of `FORMATS`, the first picture of a moving one. Grey is repeated in the three channels, CMYK converted, alpha
    dropped, a palette looked up; of 16 bits a channel the upper 8 are taken, and of 32 bits none, since nobody says
    which number is white. An EXIF orientation is applied, as browsers and annotation tools do.

    Args:
      source: path, or encoded bytes. name: what an error calls the image, and remedy: what it advises.

    Raises:
      InputError: one line, if the file is missing, empty, cut off, too large or no such image.
    """
    contents = read(source, name, remedy)
    image = header(contents, name, remedy)
    if image.mode == "F" or (image.format, image.mode) == ("TIFF", "I"):
        raise InputError(f"{name}: image of 32 bits a pixel, expected 8 or 16; save it as a PNG of 8, or {remedy}")
    try:
        turn = image.getexif().get(ORIENTATION, 1)
        if image.format in ("JPEG", "MPO", "PNG"):  # as the ops of a SavedModel do, to the bit
            seen = b"Exif\0\0" in contents[:HEAD] or XMP_TURN in contents[:HEAD]
            if turn != 1 and image.format != "PNG" and not seen:
                raise InputError(f"{name}: is to be turned, as is told only after {HEAD:,} bytes of other notes; save "
                                 "it upright, without them")
            pixels = tf.io.decode_image(contents, channels=3, expand_animations=False).numpy()
            return turned(pixels, turn)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except InputError:
        raise
    except tf.errors.OpError:
        raise InputError(f"{name}: image is truncated or corrupt ({len(contents)} bytes); {remedy}") from None
    except Exception as error:
        raise InputError(f"{name}: image is truncated or corrupt ({len(contents)} bytes, {error}); {remedy}") from None


def orientation(source):
    """EXIF's number for how the stored picture is to be turned, 1 (as it is) to 8, of an image `decode` can read."""
    return header(read(source, "image"), "image").getexif().get(ORIENTATION, 1)


def upright_size(source, name, remedy="give a whole JPEG or PNG file"):
    """Height and width of an image as `decode` gives it, from its header; errors as of `decode`."""
    image = header(read(source, name, remedy), name, remedy)
    width, height = image.size
    if image.format == "TIFF":  # of which some releases of Pillow give the upright size, others the stored one
        width, height = image.tag_v2[256], image.tag_v2[257]
    try:
        turn = image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # of a PNG, it reads the pixels
        raise InputError(f"{name}: image is truncated or corrupt ({error}); {remedy}") from None
    return (width, height) if turn in (5, 6, 7, 8) else (height, width)


def turned(pixels, orientation):
    """Upright pixels of `[H, W, 3]` stored in one of EXIF's eight orientations."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def labels(source, name, remedy="give a whole PNG file"):
    """An image whose pixels are numbers, not colours: grey level or palette index, `[H, W]` uint8, uint16 or int32.

    A colour image gives `R + 256 G + 65536 B`, as COCO's panoptic files have it. Errors as of `decode`, and images of
    fractions or of other colours are one, and JPEGs, whatever they are called.
    """
    image = header(read(source, name, remedy), name, remedy)
    if image.mode not in ("1", "L", "LA", "P", "I", "RGB", "RGBA") and not image.mode.startswith("I;16"):
        raise InputError(f"{name}: label image of the mode {image.mode}, whose pixels are no numbers; save it as a PNG "
                         f"with a palette or in grey, or {remedy}")
    if image.format in ("JPEG", "MPO"):
        raise InputError(f"{name}: label image saved as a JPEG, which blurs numbers into others; save it as a PNG of "
                         f"the labels as they were drawn, or {remedy}")
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode in ("RGB", "RGBA"):
            r, g, b = np.moveaxis(np.array(image.convert("RGB"), "int32"), -1, 0)
            return r + 256 * g + 65536 * b
        # Of two colours not bool, and of any byte order the machine's.
        return np.array(image.convert("L") if image.mode == "LA" else image) * np.uint8(1)
    except Exception as error:
        raise InputError(f"{name}: image is truncated or corrupt ({error}); {remedy}") from None


class Opened(NamedTuple):
    """An image whose size is known and whose pixels, if it is a plain JPEG, are not yet decoded."""

    contents: tf.Tensor  # encoded, string []
    pixels: tf.Tensor  # uint8 [H, W, 3] where it is not plain, else [0, 0, 3]
    size: tf.Tensor  # height, width: int32 [2]
    plain: tf.Tensor  # bool []


def opened(image, name="image"):
    """Looks at an image's header, in the graph.

    Args:
      image: encoded, string `[]`, or pixels, uint8 `[H, W, 3]`. name: string `[]`, for errors.

    Returns:
      `Opened`. What is no plain JPEG (another format, turned by EXIF, cut off, too large) is decoded here and now by
      `decode`, with its errors.
    """
    if image.dtype != tf.string:
        return Opened(contents=tf.constant(b""), pixels=tf.ensure_shape(image, [None, None, 3]),
                      size=tf.shape(image)[:2], plain=tf.constant(False))
    end = tf.maximum(tf.strings.length(image) - 2, 0)
    plain = (tf.strings.substr(image, 0, 3) == b"\xff\xd8\xff") & (tf.strings.substr(image, end, 2) == b"\xff\xd9")
    plain &= _upright(tf.strings.substr(image, 0, HEAD))
    shape = tf.cond(plain, lambda: tf.io.extract_jpeg_shape(image), lambda: tf.zeros([3], tf.int32))
    plain &= tf.reduce_prod(tf.cast(shape[:2], tf.int64)) <= MAX_PIXELS

    def carefully():
        def careful(contents, name):  # bytes in a graph, arrays of them outside
            # As objects: numpy's own kind of string loses the zeros at its end.
            contents, name = (np.asarray(each, object).item() for each in (contents, name))
            return decode(contents, os.fsdecode(name))

        pixels = tf.numpy_function(careful, [image, name], tf.uint8)
        return tf.ensure_shape(pixels, [None, None, 3]), tf.shape(pixels)

    pixels, shape = tf.cond(plain, lambda: (tf.zeros([0, 0, 3], tf.uint8), shape), carefully)
    return Opened(contents=image, pixels=pixels, size=tf.ensure_shape(shape, [3])[:2], plain=plain)


def _upright(head):
    """Whether what stands in the head of a JPEG tells no turn: bool `[]`. In doubt it does."""
    parts = _split(head, b"Exif\0\0")

    def tells_none():  # wherever the first directories have the tag, it is the entry of 1
        near = tf.strings.substr(parts[1], 0, 2048)
        is_first = tf.reduce_any([tf.strings.substr(near, 0, 8) == start for start in EXIF_STARTS])
        return is_first & tf.reduce_all(
            [tf.size(_split(near, entry[:2])) == tf.size(_split(near, entry)) for entry in UPRIGHT])

    told = tf.switch_case(tf.minimum(tf.size(parts), 3) - 1, [lambda: True, tells_none, lambda: False])
    return told & (tf.size(_split(head, XMP_TURN)) == 1)


def _split(text, separator):
    return tf.raw_ops.StringSplitV2(input=[text], sep=separator).values


def cut(image, region):
    """The part of an `Opened` in `(x1, y1, x2, y2)`, int32 `[4]`, inside it: uint8 `[y2 - y1, x2 - x1, 3]`."""
    x1, y1, x2, y2 = tf.unstack(region)
    pixels = tf.cond(
        image.plain,
        lambda: tf.io.decode_and_crop_jpeg(image.contents, tf.stack([y1, x1, y2 - y1, x2 - x1]), channels=3),
        lambda: image.pixels[y1:y2, x1:x2])
    return tf.ensure_shape(pixels, [None, None, 3])


def letterbox(image, size):
    """Scales an image, its proportions kept, into the top left corner of a canvas of the mean colour.

    Args:
      image: `[H, W, 3]` or `[B, H, W, 3]`, any number type, 0 to 255.
      size: `(height, width)` of the canvas.

    Returns:
      the canvas, float32 `[height, width, 3]` or `[B, height, width, 3]`, and the scale `(x, y)`, float32 `[2]`:
      canvas pixels to an image pixel, so that boxes go over by `boxes * [x, y, x, y]`.
    """
    canvas_size, size = size, tf.constant(size, tf.int32)
    given = tf.cast(tf.shape(image)[-3:-1], tf.float32)
    factor = tf.reduce_min(tf.cast(size, tf.float32) / given)
    inner = tf.clip_by_value(tf.cast(tf.round(given * factor), tf.int32), 1, size)
    image = tf.image.resize(image, inner)
    background = tf.constant(np.broadcast_to(np.float32(PADDING), (*canvas_size, 3)))
    if image.shape.rank == 4:
        background = tf.tile(background[None], [tf.shape(image)[0], 1, 1, 1])
    beside, below = background[..., :inner[0], inner[1]:, :], background[..., inner[0]:, :, :]
    canvas = tf.concat([tf.concat([image, beside], -2), below], -3)  # faster than to add the colour to a padded image
    canvas = tf.ensure_shape(canvas, (*image.shape[:-3], *canvas_size, 3))
    return canvas, (tf.cast(inner, tf.float32) / given)[::-1]


def central_window(size, canvas):
    """What a classifier is shown of an image, as `(x1, y1, x2, y2)`, int32 `[4]`; it may reach over the border.

    For a canvas of 100 pixels or more a side, the middle of the image: of the canvas's proportions, 7/8 of the largest
    such part, which is 224 pixels of 256 (Krizhevsky et al. 2012, section 5, and nearly everyone since). For a smaller
    canvas the whole image, or, if that is no larger than the canvas, as much around its middle as the canvas has
    pixels (LeNet's 32 x 32 for digits of 28 x 28). An image of exactly the canvas's size is taken to be prepared: all
    of it.

    Args:
      size: `(height, width)` of the image, tensor `[2]`. canvas: `(height, width)`, whole numbers.
    """
    size, sides = tf.cast(size, tf.int32), tf.constant(canvas, tf.int32)
    if min(canvas) < 100:
        shown = tf.where(tf.reduce_all(size <= sides), sides, size)
    else:
        factor = tf.reduce_min(tf.cast(size, tf.float32) / tf.cast(sides, tf.float32))
        middle = tf.cast(tf.round(7 / 8 * factor * tf.cast(sides, tf.float32)), tf.int32)
        shown = tf.where(tf.reduce_all(size == sides), size, tf.maximum(middle, 1))
    start = (size - shown) // 2
    return tf.concat([start[::-1], (start + shown)[::-1]], 0)


def central(image, shape):
    """An image as a classifier is shown it: `central_window`, with black beside the image, stretched to the canvas.

    Args:
      image: `[H, W, 3]` or `[B, H, W, 3]`, or of the canvas's channels; any number type, 0 to 255.
      shape: `(height, width, channels)` of the canvas; of one channel it shows the image in grey.

    Returns:
      float32 `[height, width, channels]` or `[B, height, width, channels]`.
    """
    image = tf.convert_to_tensor(image)
    size = tf.shape(image)[-3:-1]
    x1, y1, x2, y2 = tf.unstack(central_window(size, shape[:2]))
    left, top = tf.maximum(x1, 0), tf.maximum(y1, 0)
    right, bottom = tf.minimum(x2, size[1]), tf.minimum(y2, size[0])
    margin = [[0, 0]] * (image.shape.rank - 3) + [[top - y1, y2 - bottom], [left - x1, x2 - right], [0, 0]]
    canvas = tf.image.resize(tf.pad(image[..., top:bottom, left:right, :], margin), shape[:2])
    canvas = grey(canvas) if (image.shape[-1], shape[-1]) == (3, 1) else canvas
    return tf.ensure_shape(canvas, (*image.shape[:-3], *shape))


def stretched(image, size):
    """Scales an image to a canvas, whatever the proportions; as `letterbox`."""
    scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[-3:-1], tf.float32)
    return tf.ensure_shape(tf.image.resize(image, size), (*image.shape[:-3], *size, 3)), scale[::-1]


def resized_middle(image, shape, resize):
    """The middle of a resized image, to the pixel as torchvision's and Caffe's protocols of testing have it: resizing
    is bilinear, smoothed where it shrinks, and rounded to whole numbers.

    Args:
      image: uint8 `[H, W, 3]`.
      shape: `(height, width, channels)` of what is cut; black where the image ends.
      resize: pixels of the shorter side; or `(height, width)`, whatever the proportions.

    Returns:
      float32 `[height, width, channels]`, 0 to 255.
    """
    size = tf.shape(image)[:2]
    sides = resize
    if isinstance(resize, int):
        sides = tf.cast(resize, tf.int32) * size // tf.reduce_min(size)
    image = tf.round(tf.image.resize(image, sides, antialias=True))
    spare = tf.cast(tf.shape(image)[:2] - shape[:2], tf.float32)
    top, left = tf.unstack(tf.cast(tf.round(tf.maximum(spare, 0) / 2), tf.int32))
    image = image[top:, left:][:shape[0], :shape[1]]
    image = tf.image.resize_with_crop_or_pad(image, *shape[:2])
    return tf.ensure_shape(grey(image) if shape[-1] == 1 else image, shape)


def of_channels(image, channels):
    """An image, float32 `[..., C]`, of 1 or 3 channels as one of so many."""
    if image.shape[-1] == channels:
        return image
    return grey(image) if channels == 1 else tf.repeat(image, 3, -1)


def grey(image):
    """The luma of RGB by ITU-R BT.601: `[..., 3]`, float32, to `[..., 1]`."""
    return tf.reduce_sum(image * [0.299, 0.587, 0.114], -1, keepdims=True)
