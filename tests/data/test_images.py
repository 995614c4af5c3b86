"""Images of every kind and in every state; the graph must see what `decode` sees."""

import io
import resource
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFile, ImageOps

from keras_cnns.data import images
from keras_cnns.data.samples import Sample, check, dataset
from tests.data.helpers import stopped as refused


def picture(height=20, width=30, channels=3, dtype="uint8"):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(height).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def encoded(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def png(rows, width, depth, colour):
    """A PNG file of `rows`, an iterable of bytes: what Pillow does not write, or not in so little memory."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer, body, height = zlib.compressobj(9), b"", 0
    for row in rows:
        body, height = body + packer.compress(b"\0" + row), height + 1
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body + packer.flush()) + chunk(b"IEND", b""))


def claiming(contents, width, height):
    """A JPEG file whose header says another size."""
    at = contents.index(b"\xff\xc0") + 5
    return contents[:at] + struct.pack(">HH", height, width) + contents[at + 4:]


def in_graph(*contents):
    """Images as `samples.dataset` decodes them."""
    return [element["image"] for element in dataset([Sample("a", each) for each in contents]).as_numpy_iterator()]


# The canvas.

@pytest.mark.parametrize("height, width", [(50, 100), (100, 50), (300, 200), (7, 500), (96, 128)])
def test_letterbox_keeps_proportions_in_the_top_left_corner(height, width):
    canvas, scale = images.letterbox(np.full((height, width, 3), 10, "uint8"), (96, 128))
    canvas, (x, y) = canvas.numpy(), scale.numpy()
    inner = max(round(height * min(96 / height, 128 / width)), 1), max(round(width * min(96 / height, 128 / width)), 1)
    assert canvas.shape == (96, 128, 3)
    np.testing.assert_allclose(canvas[:inner[0], :inner[1]], 10, atol=1e-3)
    np.testing.assert_allclose(canvas[inner[0]:], np.broadcast_to(images.PADDING, canvas[inner[0]:].shape), rtol=1e-5)
    np.testing.assert_allclose((x * width, y * height), inner[::-1], rtol=1e-5)


def test_a_batch_is_letterboxed_like_its_images():
    batch = np.random.default_rng(0).uniform(0, 255, (3, 40, 70, 3)).astype("float32")
    together, _ = images.letterbox(batch, (64, 64))
    for image, want in zip(batch, together):
        np.testing.assert_allclose(images.letterbox(image, (64, 64))[0], want, atol=1e-4)


def test_letterbox_has_a_static_shape_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def graph(image):
        canvas, _ = images.letterbox(image, (32, 48))
        assert canvas.shape == (32, 48, 3)
        return canvas

    graph(np.zeros((5, 6, 3), "uint8"))


# Upright.

def oriented(number):
    exif = Image.Exif()
    exif[images.ORIENTATION] = number
    return exif


@pytest.mark.parametrize("kind, options", [
    ("JPEG", {}), ("JPEG", {"progressive": True, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}),
    ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})])
def test_each_of_the_eight_orientations_is_turned_as_pillow_turns_it(kind, options):
    stored = images.decode(encoded(picture(), kind, **options), "x")
    files, upright = [], []
    for number in range(1, 9):
        turned = Image.fromarray(stored)
        turned.getexif()[images.ORIENTATION] = number
        upright.append(np.asarray(ImageOps.exif_transpose(turned)))
        files.append(encoded(picture(), kind, exif=oriented(number), **options))
        np.testing.assert_array_equal(images.decode(files[-1], "x"), upright[-1])
        assert images.orientation(files[-1]) == number
        assert images.upright_size(files[-1], "x") == upright[-1].shape[:2]
    assert {each.shape[:2] for each in upright} == {(20, 30), (30, 20)}
    for found, expected, file in zip(in_graph(*files), upright, files, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert tuple(images.opened(tf.constant(file)).size) == expected.shape[:2]


@pytest.mark.parametrize("number", [0, 9, 65535])
def test_a_number_that_is_no_orientation_turns_nothing(number):
    for kind in ("JPEG", "PNG"):
        file = encoded(picture(), kind, exif=oriented(number))
        expected = images.decode(encoded(picture(), kind), "x")
        np.testing.assert_array_equal(images.decode(file, "x"), expected)
        np.testing.assert_array_equal(in_graph(file)[0], expected)


def test_an_orientation_far_from_the_beginning_of_a_jpeg_is_found():
    file = encoded(picture(), "JPEG", exif=oriented(6), icc_profile=bytes(60_000))
    assert images.decode(file, "x").shape == in_graph(file)[0].shape == (30, 20, 3)


def test_an_orientation_behind_more_notes_than_are_looked_through_is_refused_and_not_overlooked():
    file = encoded(picture(), "JPEG", exif=oriented(6))
    note = b"\xff\xfe" + struct.pack(">H", 60_000) + bytes(59_998)
    refused(lambda: images.decode(file[:2] + 2 * note + file[2:], "a.jpg"), "a.jpg: is to be turned", "save it upright")
    plain = encoded(picture(), "JPEG")
    np.testing.assert_array_equal(images.decode(plain[:2] + 2 * note + plain[2:], "x"), images.decode(plain, "x"))


def test_exif_without_an_orientation_or_with_nonsense_changes_nothing():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    expected = images.decode(encoded(picture(), "JPEG"), "x")
    for file in (encoded(picture(), "JPEG", exif=exif), encoded(picture(), "JPEG", exif=b"Exif\0\0nonsense")):
        np.testing.assert_array_equal(images.decode(file, "x"), expected)
        np.testing.assert_array_equal(in_graph(file)[0], expected)


# Kinds.

GREY, GREY16, RGB16 = picture(channels=0), picture(channels=0, dtype="uint16"), picture(dtype="uint16")
BITS = GREY > 99
PALETTE = Image.fromarray(picture()).quantize(16)
TRANSPARENT = PALETTE.copy()
TRANSPARENT.info["transparency"] = 3
FRAMES = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]


def three(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, -1)


KINDS = {
    "PNG of 16 bits, grey": (encoded(GREY16, "PNG"), three(GREY16 >> 8)),
    "PNG of 16 bits, colour": (png([row.astype(">u2").tobytes() for row in RGB16], 30, 16, 2), RGB16 >> 8),
    "PNG of 1 bit": (encoded(Image.fromarray(BITS), "PNG"), three(BITS * 255)),
    "PNG of 1 bit, by hand": (png([np.packbits(row).tobytes() for row in BITS], 30, 1, 0), three(BITS * 255)),
    "PNG, grey with alpha": (encoded(Image.merge("LA", [Image.fromarray(GREY)] * 2), "PNG"), three(GREY)),
    "PNG with a palette": (encoded(PALETTE, "PNG"), PALETTE.convert("RGB")),
    "PNG with a palette, one colour transparent": (encoded(TRANSPARENT, "PNG"), PALETTE.convert("RGB")),
    "TIFF": (encoded(picture(), "TIFF"), picture()),
    "TIFF, packed": (encoded(picture(), "TIFF", compression="tiff_adobe_deflate"), picture()),
    "TIFF of 16 bits": (encoded(GREY16, "TIFF"), three(GREY16 >> 8)),
    "TIFF of 16 bits, big end first": (encoded(Image.frombytes("I;16B", (30, 20), GREY16.astype(">u2").tobytes()),
                                               "TIFF"), three(GREY16 >> 8)),
    "TIFF of 1 bit": (encoded(Image.fromarray(BITS), "TIFF"), three(BITS * 255)),
    "TIFF with alpha": (encoded(picture(channels=4), "TIFF"), picture(channels=4)[..., :3]),
    "TIFF, CMYK": (encoded(Image.fromarray(picture()).convert("CMYK"), "TIFF"), picture()),
    "GIF": (encoded(FRAMES[0], "GIF"), three(GREY)),
    "GIF that moves": (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), three(GREY)),
    "BMP": (encoded(picture(), "BMP"), picture()),
    "BMP, grey": (encoded(GREY, "BMP"), three(GREY)),
    "WebP": (encoded(picture(), "WEBP", lossless=True), picture()),
    "WebP with alpha": (encoded(np.dstack([picture(), GREY | 1]), "WEBP", lossless=True, exact=True), picture()),
    "PPM": (encoded(picture(), "PPM"), picture()),
    "PGM": (encoded(GREY, "PPM"), three(GREY)),
    "PGM of 16 bits": (b"P5 30 20 65535\n" + GREY16.astype(">u2").tobytes(), three(GREY16 >> 8)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_any_kind_comes_back_to_the_byte(kind):
    contents, expected = KINDS[kind]
    found = images.decode(contents, "x")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.asarray(expected))
    assert images.upright_size(contents, "x") == (20, 30)


def test_the_graph_gives_the_same_of_every_kind():
    files = [contents for contents, _ in KINDS.values()]
    files += [encoded(picture(21, 33), "JPEG", **options) for options in (
        {}, {"progressive": True}, {"subsampling": 0}, {"quality": 20}, {"optimize": True})]
    files += [encoded(GREY, "JPEG"), encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG")]
    for found, contents in zip(in_graph(*files), files, strict=True):
        np.testing.assert_array_equal(found, images.decode(contents, "x"))


def test_a_jpeg_is_what_pillow_sees_but_for_rounding():
    smooth = np.asarray(Image.fromarray(picture(6, 8)).resize((80, 60), Image.Resampling.BICUBIC))
    for image, options in ((smooth, {}), (smooth, {"progressive": True}), (smooth[..., 0], {})):
        contents = encoded(image, "JPEG", quality=95, **options)
        pillow = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))
        difference = np.abs(images.decode(contents, "x").astype(int) - pillow)
        assert difference.max() <= 12 and difference.mean() < 2
    cmyk = encoded(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(images.decode(cmyk, "x").astype(int) - smooth).mean() < 3


def test_what_a_file_is_tells_its_contents_and_not_its_name(tmp_path):
    paths = {"a.jpg": encoded(picture(), "PNG"), "b.png": encoded(picture(), "JPEG"), "c": encoded(picture(), "BMP"),
             "d.txt": encoded(picture(), "WEBP", lossless=True)}
    for name, contents in paths.items():
        (tmp_path / name).write_bytes(contents)
    samples, _ = check([Sample(name, str(tmp_path / name), (20, 30)) for name in paths], progress=False)
    for element, contents in zip(dataset(samples).as_numpy_iterator(), paths.values(), strict=True):
        np.testing.assert_array_equal(element["image"], images.decode(contents, "x"))


@pytest.mark.parametrize("kind, image", [
    ("TIFF", Image.fromarray(picture(channels=0).astype("float32"))), ("PPM", Image.fromarray(GREY.astype("float32"))),
    ("TIFF", Image.fromarray(GREY.astype("int32")))])
def test_pixels_of_32_bits_are_refused_since_nobody_says_which_is_white(kind, image):
    refused(lambda: images.decode(encoded(image, kind), "a.tif"), "a.tif", "32 bits", "PNG")


# Broken.

WHOLE = {kind: encoded(picture(60, 80), kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9])
def test_a_cut_off_image_is_refused_by_every_door(kind, share, tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(WHOLE[kind][:int(share * len(WHOLE[kind]))])
    sample = Sample("a", str(path), (60, 80))
    message = refused(lambda: images.decode(str(path), str(path)), str(path), "give a whole JPEG or PNG file")
    assert ("empty" if share == 0 else "truncated or corrupt" if share > 0.1 else "") in message
    refused(lambda: check([sample], progress=False), str(path), "--on-bad-sample skip")
    refused(lambda: images.labels(str(path), str(path)), str(path))
    if share == 0:  # of others the header may be there
        refused(lambda: images.upright_size(str(path), str(path)), str(path))


def test_a_cut_off_image_ends_a_dataset_with_its_name(tmp_path):
    for kind, contents in WHOLE.items():
        path = tmp_path / f"cut.{kind}"
        path.write_bytes(contents[:len(contents) // 2])
        with pytest.raises(tf.errors.OpError, match=f"cut.{kind}: image is truncated"):
            list(dataset([Sample("a", str(path))]))


# Large.

@pytest.fixture(scope="module")
def huge():
    """Files of little bytes that are, or claim to be, 30,000 x 30,000 pixels: 2.7 GB decoded."""
    files = {"PNG": png(iter([bytes(3750)] * 30_000), 30_000, 1, 0),
             "JPEG": claiming(encoded(picture(), "JPEG"), 30_000, 30_000),
             "GIF": b"GIF89a" + struct.pack("<HH", 30_000, 30_000) + WHOLE["GIF"][10:],
             "PPM": b"P6 30000 30000 255\n" + bytes(100)}
    assert all(len(contents) < 120_000 for contents in files.values())
    return files


def test_a_huge_image_is_refused_before_it_is_decoded(huge, monkeypatch):
    def decodes(*arguments, **options):
        raise AssertionError("decoded")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(tf.io, "decode_image", decodes)
    monkeypatch.setattr(Image.Image, "load", decodes)
    monkeypatch.setattr(ImageFile.ImageFile, "load", decodes)
    for kind, contents in huge.items():
        name = f"huge.{kind}"
        for door in (images.decode, images.labels, images.upright_size):
            refused(lambda: door(contents, name), name, "67,108,864 pixels", "make it smaller")
        refused(lambda: check([Sample(name, contents, (30_000, 30_000))], progress=False), name, "67,108,864 pixels")
        with pytest.raises(tf.errors.OpError, match=f"{name}.*67,108,864 pixels|{name}.*above the limit"):
            list(dataset([Sample(name, contents)]))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # kB


def test_the_limit_holds_for_whole_images_in_the_graph_too(monkeypatch):
    files = [encoded(picture(), kind) for kind in ("JPEG", "PNG")]
    monkeypatch.setattr(images, "MAX_PIXELS", 600)
    assert [each.shape for each in in_graph(*files)] == [(20, 30, 3)] * 2
    monkeypatch.setattr(images, "MAX_PIXELS", 599)
    for contents in files:
        refused(lambda: images.decode(contents, "x"), "image of 30 x 20 is above the limit of 599 pixels")
        with pytest.raises(tf.errors.OpError, match="image 'a': image of 30 x 20 is above the limit of 599 pixels"):
            list(dataset([Sample("a", contents)]))


# Numbers.

@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("image, expected", [
    (Image.fromarray(BITS), BITS.astype("uint8")), (Image.fromarray(GREY), GREY), (Image.fromarray(GREY16), GREY16),
    (Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(255 - GREY)]), GREY), (PALETTE, np.asarray(PALETTE)),
    (TRANSPARENT, np.asarray(PALETTE)),
    (Image.fromarray(picture()), picture().astype("int32") @ [1, 256, 65536]),
    (Image.fromarray(picture(channels=4)), picture(channels=4)[..., :3].astype("int32") @ [1, 256, 65536])])
def test_a_label_image_gives_its_numbers(kind, image, expected):
    found = images.labels(encoded(image, kind), "x")
    assert found.dtype in (np.uint8, np.uint16, np.int32) and found.dtype.isnative
    np.testing.assert_array_equal(found, expected)


def test_whole_numbers_of_32_bits_and_of_either_byte_order_are_numbers_too():
    numbers = np.array([[0, 1, 70_000], [2**31 - 1, -1, 255]], "int32")
    np.testing.assert_array_equal(images.labels(encoded(numbers, "TIFF"), "x"), numbers)
    big = Image.frombytes("I;16B", (30, 20), GREY16.astype(">u2").tobytes())
    found = images.labels(encoded(big, "TIFF"), "x")
    np.testing.assert_array_equal(found, GREY16)
    assert found.dtype.isnative


@pytest.mark.parametrize("kind, mode", [
    ("TIFF", "F"), ("TIFF", "CMYK"), ("TIFF", "YCbCr"), ("TIFF", "LAB"), ("TIFF", "PA"), ("JPEG", "CMYK")])
def test_an_image_whose_pixels_are_no_numbers_is_no_label_image(kind, mode):
    image = PALETTE.convert("PA") if mode == "PA" else Image.fromarray(picture())
    image = Image.fromarray(np.full((4, 5), np.nan, "float32")) if mode == "F" else image.convert(mode)
    refused(lambda: images.labels(encoded(image, kind), "a.tif"), "a.tif", f"mode {mode}", "save it as a PNG")


def test_a_label_image_is_turned_as_the_image_is():
    for kind in ("PNG", "TIFF"):
        found = images.labels(encoded(GREY, kind, exif=oriented(6)), "x")
        np.testing.assert_array_equal(found, np.rot90(GREY, -1))


def test_stretched_fills_the_canvas():
    image = np.random.default_rng(0).uniform(0, 255, (30, 40, 3)).astype("float32")
    canvas, scale = images.stretched(image, (60, 20))
    np.testing.assert_allclose(canvas, tf.image.resize(image, (60, 20)))
    assert scale.numpy().tolist() == [0.5, 2.0]  # x, y
