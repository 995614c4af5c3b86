"""Labels of images larger than memory, in tiles that overlap: U-Net, arXiv:1505.04597, section 2 and Fig. 2.

Each tile is shown with what lies around it, and beside the border of the image with its mirror image, the pixels at the
border twice. Tiles begin at whole multiples of `data.segmented.STRIDE` pixels, where every pooling of the whole image
has a window's beginning, too. So, where tiles overlap by as many pixels as a network sees to each side (of `unet_same`
about 100: by default in tiles of 400 and more) and as far from the image's border, its answer is that to the whole
image (but of `fcn_resnet50`, which stretches its map to the image, only where sides are multiples of 8); and near the
border that to the mirrored one, where the whole image would have been padded with zeros. Pixels are shown as they are:
a network has to have learnt from such, not from whole images scaled to its input (view "tile" of a recipe).
"""

import os
import pathlib
import zipfile

import numpy as np
import rich.console
import rich.progress

from keras_cnns.data import segmented
from keras_cnns.errors import InputError

MOST = 600  # pixels by which a tile that a network does not take is enlarged, to name one that it does


def label(network, image, into, tile=None, overlap=None, progress=True):
    """Writes what a network says of an image, tile by tile; takes memory for a tile, however large the image.

    Args:
      network: a segmenter with one output, such as `segment.answering` gives.
      image: `[H, W, C]`, what can be cut as `image[y1:y2, x1:x2]`: a NumPy array, or one in a file (`np.load` with
        `mmap_mode="r"`). Of one or three channels for a network of one or three, else of as many as it takes; 0 to 255.
      into: what is written in the same way: `[H, W]` for labels, or `[H, W, K]` for probabilities.
      tile: the side, in pixels, of what the network is shown at once, where its input has no fixed size.
      overlap: pixels of a tile's answer that are dropped on each side, rounded up to whole strides; by default none
        where the network answers for the middle only, as U-Net, and a quarter of the tile, if it is as large as three
        strides, where it answers for all that it is shown, and so at its border for what padding made up. With as many
        as the network sees to each side tiles leave no trace.
      progress: show a bar on standard error.

    Raises:
      InputError: a tile that the network does not take, too large an overlap, or images of other sizes.
    """
    shape = tuple(network.input_shape[1:])
    if None in shape[:2]:
        if tile is None:
            raise InputError(f"{network.name}: takes images of any size; say how large a tile shall be, in pixels.")
        shape = (tile, tile, shape[2])
    elif tile not in (None, *shape[:2]):
        raise InputError(f"{network.name}: takes images of {shape[0]} x {shape[1]} pixels, so tiles cannot be of "
                         f"{tile}; leave the tile out, or build the network with input_shape=(None, None, {shape[2]}).")
    channels = (1, 3) if shape[2] in (1, 3) else shape[2:]
    if np.ndim(image) != 3 or image.shape[2] not in channels or tuple(into.shape[:2]) != image.shape[:2]:
        raise InputError(f"An image of {list(np.shape(image))} and an answer of {list(into.shape)}: give [H, W, C] and "
                         "[H, W] or [H, W, K].")
    if None in network.input_shape[1:3] and _told(network, tile) is None:
        larger = next((side for side in range(tile + 1, tile + MOST) if _told(network, side)), None)
        raise InputError(f"tile={tile}: {network.name} takes none of that side"
                         f"{f', but one of {larger}' if larger else ''}.")
    size = tuple(network.compute_output_shape((1, *shape))[1:3])
    if None in network.input_shape[1:3] and size != shape[:2] and _told(network, tile - 1) == size[0]:
        raise InputError(f"tile={tile}: {network.name} would leave out some of it right and below; give a tile of "
                         f"which it sees all, such as {_whole_tile(network, tile)}.")
    if overlap is None:
        side = min(shape[:2])
        most = max(side - segmented.STRIDE, 0) // 2 // segmented.STRIDE * segmented.STRIDE  # so that a stride is left
        overlap = 0 if size != shape[:2] else min(side // 4, most)
    overlap = -(-overlap // segmented.STRIDE) * segmented.STRIDE
    kept = [segmented.step(side - 2 * overlap) for side in size]
    if min(kept) < 1:
        raise InputError(f"overlap={overlap}: nothing is left of an answer of {size[0]} x {size[1]} pixels; give less.")
    margins = [(seen - told) // 2 + overlap for seen, told in zip(shape, size)]
    corners = [(y, x) for y in range(0, image.shape[0], kept[0]) for x in range(0, image.shape[1], kept[1])]
    for y, x in rich.progress.track(corners, "Labelling tiles", transient=True, disable=not progress,
                                    console=rich.console.Console(stderr=True)):
        cut = window(image, y - margins[0], x - margins[1], shape)
        answer = np.asarray(network.predict_on_batch(cut[None]))[0]
        answer = answer[overlap:overlap + kept[0], overlap:overlap + kept[1]]
        answer = answer[:image.shape[0] - y, :image.shape[1] - x]
        place = slice(y, y + kept[0]), slice(x, x + kept[1])
        into[place] = answer if np.ndim(into) == 3 else answer.argmax(-1)


def label_file(network, source, target, tile=None, progress=True):
    """The same from file to file, NumPy's `.npy`: uint8 `[H, W, C]` -> labels uint8 `[H, W]`, neither ever in memory.

    The target appears complete or not at all.

    Raises:
      InputError: as of `label`, or a file that is none, or cannot be written.
    """
    target = pathlib.Path(target)
    aside = target.with_name(f".{target.name}.writing")
    try:
        image = np.load(source, mmap_mode="r")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{source}: {str(error).splitlines()[0]}; give a .npy file of numbers [H, W, 3].") from None
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.dtype != np.uint8:
        held = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else "several arrays"
        raise InputError(f"{source}: holds {held}, expected uint8 [H, W, C], 0 to 255; save it so.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        into = np.lib.format.open_memmap(aside, "w+", "uint8", image.shape[:2])
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); name a file in a folder that can.") from None
    try:
        label(network, image, into, tile, progress=progress)
        into.flush()
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def _whole_tile(network, tile):
    """The next smaller side of which a network that answers for the middle sees all."""
    return next(side for side in range(tile, 0, -1) if _told(network, side - 1) != _told(network, tile))


def _told(network, side):
    """The side of its answer to a tile, None of a tile that it does not take."""
    try:
        return network.compute_output_shape((1, side, side, network.input_shape[3]))[1]
    except ValueError:
        return None


def window(image, top, left, shape):
    """What lies at a place of an image, which goes on mirrored at its border: float32 `[*shape]`, 0 to 255."""
    rows, columns = (_mirrored(np.arange(start, start + side), length)
                     for start, side, length in zip((top, left), shape, image.shape))
    cut = np.asarray(image[rows.min():rows.max() + 1, columns.min():columns.max() + 1], "float32")
    cut = cut[rows - rows.min()][:, columns - columns.min()]
    if cut.shape[-1] == shape[-1]:
        return cut
    return cut.repeat(3, -1) if cut.shape[-1] == 1 else cut @ np.float32([[0.299], [0.587], [0.114]])


def _mirrored(index, length):
    index = index % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)
