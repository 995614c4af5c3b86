"""Tiles of an image, joined, are what a network says of the whole image, at least away from its border."""

import os

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnns.errors import InputError
from keras_cnns.models import create_model, info
from keras_cnns.training import tiles


def network(padding, input_shape=(None, None, 3), levels=2):
    """A small U-Net: of 2 levels without padding it loses 20 pixels a side, and with padding sees as many."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input(input_shape)
    down = []
    for level in range(levels + 1):
        x = layers.MaxPooling2D(2)(x) if level else layers.Rescaling(1 / 128, -1.0)(x)
        for _ in range(2):
            x = layers.Conv2D(4, 3, padding=padding, activation="relu")(x)
        down.append(x)
    for level, left in reversed(list(enumerate(down[:-1]))):
        x = layers.UpSampling2D(2)(x)
        cut = 0 if padding == "same" else 12 * 2**(levels - level - 1) - 8
        x = layers.Concatenate()([layers.Cropping2D(cut)(left), x])
        for _ in range(2):
            x = layers.Conv2D(4, 3, padding=padding, activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(3, 1, activation="softmax")(x))


def image(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), "uint8")


def labelled(network, pixels, tile=None, overlap=None):
    into = np.full((*pixels.shape[:2], 3), -1, "float32")
    tiles.label(network, pixels, into, tile, overlap, progress=False)
    return into


@pytest.mark.parametrize("height, width", [(200, 168), (40, 300), (20, 30)])
def test_tiles_equal_the_whole_image_in_the_interior(height, width):
    graph, pixels = network("same"), image(height, width)
    found = labelled(graph, pixels, 128, overlap=32)
    deep = 4 - height % 4, 4 - width % 4
    whole = graph.predict(np.pad(pixels, ((0, deep[0]), (0, deep[1]), (0, 0)), "symmetric")[None], verbose=0)[0]
    far = slice(24, -24)
    np.testing.assert_allclose(found[far, far], whole[:height, :width][far, far], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)  # everywhere


@pytest.mark.parametrize("height, width", [(200, 168), (30, 20)])
def test_tiles_of_a_network_that_answers_for_the_middle_equal_the_whole_mirrored_image(height, width):
    graph, pixels = network("valid"), image(height, width)
    assert graph.compute_output_shape((1, 104, 104, 3))[1:3] == (64, 64)
    deep = 4 - height % 4, 4 - width % 4
    around = np.pad(pixels, ((20, 20 + deep[0]), (20, 20 + deep[1]), (0, 0)), "symmetric")
    whole = graph.predict(around[None], verbose=0)[0][:height, :width]
    np.testing.assert_allclose(labelled(graph, pixels, 104), whole, rtol=0, atol=1e-5)  # to the border
    fixed = network("valid", (104, 104, 3))
    np.testing.assert_allclose(labelled(fixed, pixels), whole, rtol=0, atol=1e-5)


def test_labels_are_the_most_probable_classes_and_files_will_do(tmp_path):
    graph, pixels = network("same"), image(100, 90)
    np.save(tmp_path / "image.npy", pixels)
    into = np.lib.format.open_memmap(tmp_path / "labels.npy", "w+", "uint8", (100, 90))
    tiles.label(graph, np.load(tmp_path / "image.npy", mmap_mode="r"), into, 64, progress=False)
    into.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), labelled(graph, pixels, 64).argmax(-1))


def test_a_window_goes_on_mirrored_again_and_again():
    pixels = image(3, 5)
    around = np.pad(pixels, ((10, 12), (7, 9), (0, 0)), "symmetric")
    np.testing.assert_array_equal(tiles.window(pixels, -10, -7, (25, 21, 3)), around)
    np.testing.assert_array_equal(tiles.window(pixels, 1, 2, (2, 3, 3)), pixels[1:3, 2:5])
    grey = tiles.window(pixels, 0, 0, (3, 5, 1))
    np.testing.assert_allclose(grey[..., 0], pixels @ [0.299, 0.587, 0.114], rtol=1e-5)
    np.testing.assert_array_equal(tiles.window(image(3, 5, 1), 0, 0, (3, 5, 3)), image(3, 5, 1).repeat(3, -1))


def test_no_more_than_a_window_is_read():
    class Watched:
        shape, ndim, largest = (10_000, 10_000, 3), 3, 0

        def __getitem__(self, place):
            sides = [part.stop - part.start for part in place]
            self.largest = max(self.largest, *sides)
            return np.zeros((*sides, 3), "uint8")

    watched = Watched()
    tiles.window(watched, 9_950, 30, (100, 100, 3))
    tiles.window(watched, -50, 9_990, (100, 100, 3))
    assert watched.largest <= 100


@pytest.mark.parametrize("input_shape, tile, overlap, says", [
    ((None, None, 3), None, None, "say how large a tile"), ((64, 64, 3), 96, None, "tiles cannot be of 96"),
    ((64, 64, 3), None, 32, "nothing is left"), ((64, 64, 3), None, 200, "nothing is left")])
def test_tiles_that_cannot_be_are_told(input_shape, tile, overlap, says):
    with pytest.raises(InputError, match=says):
        labelled(network("same", input_shape), image(80, 80), tile, overlap)


def test_a_tile_whose_border_would_go_unseen_is_refused_with_the_next_that_works():
    unet = info.weightless(lambda: create_model("unet", (None, None, 3)))
    with pytest.raises(InputError, match="such as 572"):
        labelled(unet, image(80, 80), 584)


@pytest.mark.parametrize("name, tile, says", [
    ("unet", 100, "none of that side, but one of 188"), ("deconvnet", 250, "but one of 256"),
    ("deconvnet", 100, "but one of 224")])
def test_a_tile_that_is_too_small_or_odd_is_refused_with_the_next_that_works(name, tile, says):
    free = info.weightless(lambda: create_model(name, (None, None, 3)))
    with pytest.raises(InputError, match=says):
        labelled(free, image(80, 80), tile)


def test_an_answer_of_another_size_is_told():
    with pytest.raises(InputError, match=r"An image of \[80, 80, 3\] and an answer of \[80, 79\]"):
        tiles.label(network("same"), image(80, 80), np.zeros((80, 79)), 64)


def anonymous_memory():
    """Bytes of this process that are in no file."""
    with open("/proc/self/status", encoding="ascii") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_image(tmp_path):
    graph = network("same")

    class Written:
        """Labels in a file, and the most memory that was taken while they were written."""

        def __init__(self, side):
            self.labels = np.lib.format.open_memmap(tmp_path / f"labels{side}.npy", "w+", "uint8", (side, side))
            self.shape, self.ndim, self.most = self.labels.shape, 2, 0

        def __setitem__(self, place, values):
            self.labels[place] = values
            self.most = max(self.most, anonymous_memory())

    most = {}
    for side in (1024, 1024, 6144):  # once more, when all has been allocated that will be kept
        pixels = np.lib.format.open_memmap(tmp_path / f"{side}.npy", "w+", "uint8", (side, side, 3))
        into = Written(side)
        tiles.label(graph, pixels, into, 512, overlap=32, progress=False)
        most[side] = into.most
    print(*(f"{side} x {side}: {size / 2**20:.0f} MiB" for side, size in most.items()), sep="; ")
    assert most[6144] < most[1024] + 32 * 2**20  # of 108 MiB of pixels and 36 MiB of labels


def test_files_that_cannot_be_labelled_are_told(tmp_path):
    graph = network("same")
    np.save(tmp_path / "flat.npy", np.zeros((4, 4)))
    np.save(tmp_path / "deep.npy", np.zeros((4, 4, 3), "uint16"))
    np.savez(tmp_path / "several", a=1)
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    for name, text in (("text.npy", "words"), ("empty.npy", ""), ("zip.npy", "PK")):
        (tmp_path / name).write_text(text)
    for name, says in (("flat.npy", r"holds float64 \[4, 4\], expected uint8"), ("deep.npy", "holds uint16"),
                       ("several.npy", "holds several"), ("text.npy", "give a .npy file"), ("empty.npy", "give a .npy"),
                       ("zip.npy", "give a .npy file"), ("none.npy", "No such file")):
        with pytest.raises(InputError, match=says):
            tiles.label_file(graph, tmp_path / name, tmp_path / "labels.npy", 64, progress=False)
    np.save(tmp_path / "image.npy", image(40, 50))
    with pytest.raises(InputError, match="say how large a tile"):
        tiles.label_file(graph, tmp_path / "image.npy", tmp_path / "labels.npy", progress=False)
    assert not (tmp_path / "labels.npy").exists() and not list(tmp_path.glob(".*"))
    tiles.label_file(graph, tmp_path / "image.npy", tmp_path / "labels.npy", 64, progress=False)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), labelled(graph, image(40, 50), 64).argmax(-1))
