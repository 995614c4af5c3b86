"""The doors of every classifier: pixels in, an answer out; and the pooling of Caffe."""

from keras import Input, layers

from keras_cnns.errors import InputError

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB, 0 to 255
IMAGENET_VARIANCE = (58.395**2, 57.12**2, 57.375**2)
HALF = ((127.5,) * 3, (127.5**2,) * 3)  # mean and variance that map 0...255 to -1...1, as the Inceptions and MobileNet
CIFAR_MEAN = (125.3, 123.0, 113.9)
CIFAR_VARIANCE = (63.0**2, 62.1**2, 66.7**2)
ACTIVATIONS = ("softmax", "sigmoid", None)


def pixels(input_shape, default, smallest=1, mean=IMAGENET_MEAN, variance=IMAGENET_VARIANCE, fixed=False):
    """The input layer "image" and, after the layer "normalize", its pixels with the paper's mean and variance.

    Args:
      input_shape: `(height, width, channels)` or None for `default`; height and width may be None, unless `fixed`.
      smallest: pixels a side below which the network has nothing left.
      mean, variance: of each channel. Channels beyond these get their average; so does a single one.
      fixed: fully connected layers need to know the size.

    Returns:
      `(inputs, x)`, both `[B, H, W, C]`.

    Raises:
      InputError: a shape that is none, too small, or free where it must be fixed.
    """
    shape = tuple(input_shape or default)
    sides = [side for side in shape[:2] if side is not None]
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in (*sides, shape[2])):
        raise InputError(f"input_shape={input_shape}: give (height, width, channels), such as {default}.")
    if min(sides, default=smallest) < smallest:
        raise InputError(f"input_shape={input_shape}: too small for this network; the smallest that works is "
                         f"{(smallest, smallest, shape[2])}.")
    if fixed and len(sides) < 2:
        raise InputError(f"input_shape={input_shape}: fully connected layers need a fixed size, such as {default}; "
                         "num_classes=None leaves them out.")
    inputs = Input(shape, name="image")
    mean, variance = (_of_channels(numbers, shape[2]) for numbers in (mean, variance))
    return inputs, layers.Normalization(mean=mean, variance=variance, name="normalize")(inputs)


def _of_channels(numbers, count):
    average = sum(numbers) / len(numbers)
    known = tuple(numbers) if count >= len(numbers) else ()
    return known + (average,) * (count - len(known))


def predictions(logits, activation, name="predictions"):
    """The network's answer `[B, K]`, float32 under every dtype policy; its layer's input are the logits.

    Raises:
      InputError: an activation other than "softmax", "sigmoid" (several classes may be true) and None (logits).
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"classifier_activation={activation!r}: choose from {', '.join(map(repr, ACTIVATIONS))}.")
    return layers.Activation(activation or "linear", dtype="float32", name=name)(logits)


def caffe_max_pool(x, size, strides, name):
    """Max pooling whose last window may reach over the border, as Caffe rounds: up. `x` must not be negative."""
    x = layers.ZeroPadding2D(((0, strides - 1), (0, strides - 1)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(size, strides, name=name)(x)
