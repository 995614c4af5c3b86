"""A segmenter's training on its logits, and its labels of the pixels of samples.

The network ends in the layer "predictions" and, for training, perhaps in "aux1": activations over the classes of each
pixel, 0 the background, whose inputs are the logits. Where its answer is smaller than what it is shown, as U-Net's, it
is for the middle.
"""

import keras
import numpy as np
import rich.console
import rich.progress

from keras_cnns.data import augment, images, segmented, views
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError
from keras_cnns.losses import DiceLoss, PixelEntropy
from keras_cnns.metrics import segmentation as metrics
from keras_cnns.training import tiles

BACKGROUND = 1  # classes beside those of `class_names`


def options(name, samples):
    """What `create_model` takes besides."""
    return {}


def compiled(network, optimizer, recipe, samples):
    """The network's logits by name, compiled with their loss: what `fit` trains. It shares the network's weights.

    Raises:
      InputError: an input of no fixed size, or of as many channels as no image; samples without labels of pixels.
    """
    _shapes(network)
    if without := [sample.name for sample in samples if sample.segmentation is None]:
        raise InputError(f"{without[0]}: has no segmentation, which {network.name} learns from; read the data as "
                         "segmentation data.")
    if recipe.border:
        segmented.border_weights(np.zeros((1, 1), int), *recipe.border)  # so that a lack of SciPy is told at once
    names = _outputs(network)
    logits = keras.Model(network.input, {name: network.get_layer(name).input for name in names}, name=network.name)
    classes = network.get_layer("predictions").output.shape[-1]
    loss = _loss(class_weights(samples, classes, recipe.balance) if recipe.balance else None, recipe.dice)
    logits.compile(optimizer, dict.fromkeys(names, loss),
                   {name: 1.0 if name == "predictions" else recipe.aux for name in names})
    return logits


def _loss(weights, dice):
    if dice < 0:
        raise InputError(f"dice={dice}: give 0 or more, the weight of Dice's loss beside the cross-entropy.")
    entropy, overlap = PixelEntropy(weights), DiceLoss()

    def both(labels, logits):
        plain = labels[..., 0] if len(labels.shape) == 4 else labels  # without the pixels' own weights
        return entropy.call(labels, logits) + dice * overlap.call(plain, logits)

    return both if dice else entropy


def class_weights(samples, classes, c=1.02):
    """ENet's weights of the classes (arXiv:1606.02147, section 5.1), `1 / ln(c + share of the pixels)`: a list.

    Raises:
      InputError: a c of 1 or less, of which a weight may be no number, or negative.
    """
    if c <= 1:
        raise InputError(f"balance={c}: give more than 1, such as ENet's 1.02; the more, the more alike the weights.")
    counts = sum(data_samples.in_parallel(
        lambda sample: np.bincount(data_samples.segmentation(sample).reshape(-1), minlength=256)[:classes],
        samples, "Counting pixels"))
    return (1 / np.log(c + counts / max(counts.sum(), 1))).tolist()


def elements(network, samples, recipe, seed, first_step):
    """What `fit` is given: image, and the labels for each output."""
    shape, size = _shapes(network)
    colour, change = (getattr(augment, each) if each else None for each in (recipe.colour, recipe.change))
    found = segmented.training(samples, shape, size, recipe.batch, recipe.epochs, seed, first_step,
                               getattr(views, recipe.view), colour, change, recipe.border,
                               network.get_layer("predictions").output.shape[-1])
    names = _outputs(network)
    return found.map(lambda image, labels: (image, dict.fromkeys(names, labels)))


def evaluation(network, samples, batch):
    """A function that gives what is logged of an epoch: "mean_iou" and "pixel_accuracy"."""
    graph = answering(network)

    def numbers():
        result = evaluate(graph, samples, progress=False)
        return {"mean_iou": result.mean_iou, "pixel_accuracy": result.pixel_accuracy}

    return numbers


def answering(network):
    """The network without what is only for training."""
    if isinstance(network.output, dict):
        return keras.Model(network.input, network.output["predictions"], name=network.name)
    return network


def evaluate(network, samples, tile=None, progress=True):
    """How right a segmenter is, of pixels of the images' own size: `metrics.segmentation.Scores`.

    Args:
      network: as `create_model` or `load_model` gives it. samples: all with `segmentation`.
      tile: as of `probabilities`.

    Raises:
      InputError: no samples, or labels that the network does not know.
    """
    if not samples:
        raise InputError("No samples to evaluate on; name a data set or a split that has some.")
    classes = answering(network).output_shape[-1]
    matrix = 0
    for sample, labels in zip(samples, segment(network, samples, tile, progress)):
        truth = data_samples.segmentation(sample)
        if (known := truth[truth != metrics.IGNORED]).size and known.max() >= classes:
            raise InputError(f"{sample.name}: label {known.max()}, but {network.name} knows {classes}, counted from 0; "
                             "name data of its classes.")
        matrix = matrix + metrics.confusion(truth, labels, classes)
    return metrics.scores(matrix)


def segment(network, samples, tile=None, progress=True):
    """Yields the labels of each sample's pixels, uint8 `[H, W]`, in order; arguments as of `probabilities`."""
    graph = answering(network)
    for sample in rich.progress.track(samples, "Labelling", transient=True, disable=not progress or tile is not None,
                                      console=rich.console.Console(stderr=True)):
        pixels = images.decode(sample.source, sample.name)
        if tile is None:
            yield probabilities(graph, pixels).argmax(-1).astype("uint8")
        else:
            labels = np.zeros(pixels.shape[:2], "uint8")
            tiles.label(graph, pixels, labels, tile, progress=progress)
            yield labels


def probabilities(network, image, tile=None):
    """What a segmenter says of an image, at its size: `[H, W, 3]` or `[H, W, C]`, 0 to 255 -> float32 `[H, W, K]`.

    A network without a fixed size is shown the image as it is; one with, as `data.segmented.whole` has it.

    Args:
      tile: pixels a side of what it is shown at once, as of `tiles.label`; None: all.

    Raises:
      InputError: a size of images that the network does not take.
    """
    graph, image = answering(network), np.asarray(image)
    shape = graph.input_shape[1:]
    if tile is not None:
        found = np.zeros((*image.shape[:2], graph.output_shape[-1]), "float32")
        tiles.label(graph, image, found, tile, progress=False)
        return found
    if None in shape:
        try:
            size = tuple(graph.compute_output_shape((1, *image.shape[:2], shape[-1]))[1:3])
        except ValueError:
            raise InputError(f"{network.name}: takes no image of {image.shape[0]} x {image.shape[1]} pixels; give the "
                             "side of a tile that it takes (--tile).") from None
        if size != image.shape[:2]:
            raise InputError(f"{network.name}: of an image of {image.shape[0]} x {image.shape[1]} pixels it labels "
                             f"{size[0]} x {size[1]}; give the side of a tile that it takes (--tile).")
        image = tiles.window(image, 0, 0, (*image.shape[:2], shape[-1]))
        return np.asarray(graph.predict_on_batch(image[None]))[0]
    return np.asarray(segmented.whole(graph.predict_on_batch, image[None], shape, graph.output_shape[1:3]))[0]


def averaged(network, image, tile=None):
    """The mean of what a segmenter says of an image turned by quarters, mirrored and not, each turned back again.

    U-Net's numbers are so, of seven rotations (arXiv:1505.04597, Table 1). Arguments and result as of `probabilities`.
    """
    image, said = np.asarray(image), 0.0
    for turns in range(4):
        for way in (1, -1):
            found = probabilities(network, np.rot90(image, turns)[:, ::way], tile)
            said = said + np.rot90(found[:, ::way], -turns) / 8
    return said


def _outputs(network):
    """Names of the layers that end it: "predictions" and perhaps auxiliary ones."""
    return list(network.output) if isinstance(network.output, dict) else ["predictions"]


def _shapes(network):
    """`(height, width, channels)` of its input and `(height, width)` of its answer."""
    shape = tuple(network.input_shape[1:])
    if None in shape or shape[-1] not in (1, 3):
        raise InputError(f"{network.name}: its input is {shape}; to be trained it needs a fixed size and 1 or 3 "
                         "channels, such as input_shape=(224, 224, 3) (--input-size 224).")
    return shape, tuple(network.get_layer("predictions").output.shape[1:3])
