"""What is known of a model; all that can be is counted from its graph."""

import math
import threading
from typing import NamedTuple

import keras
from keras import layers


class ModelInfo(NamedTuple):
    name: str
    task: str
    paper: str
    year: int
    input_shape: tuple  # (height, width, channels)
    parameters: int  # all, with batch norm's statistics
    trainable_parameters: int
    multiply_adds: int  # of convolutions and fully connected layers, one image; of a detector, all its boxes'
    activations: int  # numbers that leave these layers
    published: str | None  # accuracy and its source
    weights: tuple = ()  # releases that `create_model(weights=...)` knows


def weightless(build):
    """What `build()` returns, its networks without memory for their weights, which have shapes only.

    In a thread of its own, since Keras would make the weights up later in this one.
    """
    outcome = []

    def run():
        try:
            with keras.StatelessScope(initialize_variables=False):
                outcome.append((build(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error:
        raise error
    return result


def parameters(network):
    """Trainable and all, whole numbers; seeds of chance are none."""
    return tuple(sum(math.prod(w.shape) for w in weights if "seed" not in w.path)
                 for weights in (network.trainable_weights, network.weights))


def cost(network, input_shape=None):
    """`(multiply-adds, activations)` of a network for one image.

    Counted: convolutions, transposed ones and fully connected layers, and own layers that have a method
    `multiply_adds(input_shape)`. Bias, normalisation, pooling and activation functions are not.

    Args:
      input_shape: `(height, width, channels)` where the network leaves it free.
    """
    total = [0, 0]

    def walk(part, inputs):
        fresh = keras.tree.map_structure(  # of one image, so that a head of single regions is known to see them all
            lambda tensor: keras.Input(batch_shape=(tensor.shape[0] or 1, *tensor.shape[1:]), name=tensor.name),
            inputs)
        keras.models.clone_model(part, input_tensors=fresh, clone_function=lambda layer: layer, call_function=call)

    def call(layer, *arguments, **keywords):
        outputs = layer(*arguments, **keywords)
        if isinstance(layer, keras.Model):
            walk(layer, arguments[0])
        else:
            count = _multiply_adds(layer, arguments, outputs)
            total[0] += count
            total[1] += _size(outputs) if count else 0
        return outputs

    walk(network, keras.Input(input_shape) if input_shape else network.input)
    return tuple(total)


def _size(tensors):
    return sum(math.prod(n or 1 for n in tensor.shape) for tensor in keras.tree.flatten(tensors))


def _multiply_adds(layer, arguments, outputs):
    if hasattr(layer, "multiply_adds"):
        return layer.multiply_adds(arguments[0].shape)
    if isinstance(layer, layers.Conv2DTranspose):
        return _size(arguments[0]) * math.prod(layer.kernel.shape[:3])
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        each = 1 if isinstance(layer, layers.DepthwiseConv2D) else layer.kernel.shape[2]
        return _size(outputs) * math.prod(layer.kernel.shape[:2]) * each
    if isinstance(layer, layers.Dense):
        return _size(outputs) * layer.kernel.shape[0]
    return 0
