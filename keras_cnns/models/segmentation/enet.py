"""ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation.

Paszke, Chaurasia, Kim, Culurciello. 2016, arXiv:1606.02147. Table 1, blocks of Fig. 2. As in the authors' Torch files
where the paper leaves it open: a PReLU of its own for each map in the encoder, ReLU in the decoder; batch norm and no
activation after the last convolution of a block; biases of the 3x3 convolutions and of the second of two asymmetric
ones, and of no others; unpooling to the places of the encoder's maxima; the last layer a 2x2 transposed convolution.
Layers carry the names of the table's rows, "initial", "bottleneck1_0" and so on, "fullconv".

The paper trains the encoder first, to labels of an eighth of the size, and then both (section 5.2). It does not say how
pixels are scaled: by ImageNet's mean and deviation here.
"""

from keras import Model, initializers, layers, ops

from keras_cnns.layers import CropToMatch, MaxPoolWithArgmax, MaxUnpool
from keras_cnns.layers.detection import PadToStride
from keras_cnns.models.classification import common

TASK, YEAR = "segmentation", 2016
PAPER = "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation, arXiv:1606.02147"

# Table 1: what the middle convolution of each bottleneck of sections 2 and 3 is like.
MIDDLES = ({}, {"dilation": 2}, {"asymmetric": 5}, {"dilation": 4}, {}, {"dilation": 8}, {"asymmetric": 5},
           {"dilation": 16})
VARIANTS = {"enet": MIDDLES}

PUBLISHED = {"enet": "Cityscapes test: class IoU 58.3 %, category IoU 80.4 % (Table 3)"}


def build(name="enet", input_shape=None, num_classes=20, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, H, W, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (360, 640, 3); any size, or free: inside, images are padded
        to whole 8 x 8 pixels.
      num_classes: by default Cityscapes' 19 and the unlabelled; None leaves the network headless, its output being
        that of bottleneck5_1, `[B, H/2, W/2, 16]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    inputs, x = common.pixels(input_shape, (360, 640, 3))
    x = PadToStride(8, [0.0] * inputs.shape[-1], name="pad_to_stride")(x)
    x = initial(x)
    x, places1 = downsampling(x, 64, 0.01, "bottleneck1_0")
    for i in range(1, 5):
        x = bottleneck(x, {}, 0.01, f"bottleneck1_{i}")
    x, places2 = downsampling(x, 128, 0.1, "bottleneck2_0")
    for section, first in ((2, 1), (3, 0)):  # section 3 repeats 2 without its downsampling
        for i, middle in enumerate(VARIANTS[name], first):
            x = bottleneck(x, middle, 0.1, f"bottleneck{section}_{i}")
    x = upsampling(x, places2, 64, "bottleneck4_0")
    for i in (1, 2):
        x = decoding(x, f"bottleneck4_{i}")
    x = upsampling(x, places1, 16, "bottleneck5_0")
    x = decoding(x, "bottleneck5_1")
    if num_classes is not None:
        x = layers.Conv2DTranspose(num_classes, 2, 2, name="fullconv")(x)
        x = CropToMatch(name="crop")(x, inputs)
        x = common.predictions(x, classifier_activation)
    return Model(inputs, x, name=name)


def bn(x, name):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)


def prelu(x, name):
    return layers.PReLU(initializers.Constant(0.25), shared_axes=[1, 2], name=name)(x)


def initial(x):
    """13 maps of a convolution beside the 3 of a pooling (Fig. 2a): `[B, H, W, 3] -> [B, H/2, W/2, 16]`."""
    y = layers.ZeroPadding2D(1, name="initial_pad")(x)
    y = layers.Conv2D(16 - x.shape[-1], 3, 2, name="initial_conv")(y)
    x = layers.Concatenate(name="initial_concat")([y, layers.MaxPooling2D(2, name="initial_pool")(x)])
    return prelu(bn(x, "initial"), "initial")


def bottleneck(x, middle, dropout, name):
    """Beside the map itself three convolutions (Fig. 2b), the middle one as a row of `MIDDLES`."""
    return prelu(layers.Add(name=f"{name}_add")([x, convolutions(x, x.shape[-1], 1, middle, dropout, name)]), name)


def downsampling(x, filters, dropout, name):
    """The first convolution is 2x2 and strides; beside it a pooling, with zeros for new maps; and its places."""
    y = convolutions(x, filters, 2, {}, dropout, name)
    pooled, places = MaxPoolWithArgmax(name=f"{name}_pool")(x)
    pooled = ops.pad(pooled, ((0, 0), (0, 0), (0, 0), (0, filters - x.shape[-1])))
    return prelu(layers.Add(name=f"{name}_add")([pooled, y]), name), places


def convolutions(x, filters, strides, middle, dropout, name):
    inner = filters // 4
    x = layers.Conv2D(inner, strides, strides, use_bias=False, name=f"{name}_1_conv")(x)
    x = prelu(bn(x, f"{name}_1"), f"{name}_1_prelu")
    if "asymmetric" in middle:
        size = middle["asymmetric"]
        x = layers.Conv2D(inner, (1, size), padding="same", use_bias=False, name=f"{name}_2a_conv")(x)
        x = layers.Conv2D(inner, (size, 1), padding="same", name=f"{name}_2_conv")(x)
    else:
        x = layers.Conv2D(inner, 3, padding="same", dilation_rate=middle.get("dilation", 1), name=f"{name}_2_conv")(x)
    x = prelu(bn(x, f"{name}_2"), f"{name}_2_prelu")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_3_conv")(x)
    return layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(bn(x, f"{name}_3"))


def decoding(x, name):
    """A bottleneck of the decoder: ReLU, no dropout."""
    y = layers.Conv2D(x.shape[-1] // 4, 1, use_bias=False, name=f"{name}_1_conv")(x)
    y = layers.ReLU(name=f"{name}_1_relu")(bn(y, f"{name}_1"))
    y = layers.Conv2D(y.shape[-1], 3, padding="same", name=f"{name}_2_conv")(y)
    return joined(x, y, name)


def upsampling(x, places, filters, name):
    """Beside three convolutions, the middle one transposed, fewer maps unpooled."""
    y = layers.Conv2D(filters // 4, 1, use_bias=False, name=f"{name}_1_conv")(x)
    y = layers.ReLU(name=f"{name}_1_relu")(bn(y, f"{name}_1"))
    y = layers.Conv2DTranspose(filters // 4, 3, 2, name=f"{name}_2_conv")(y)
    y = layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}_2_crop")(y)  # Torch's padding and adjustment of 1
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_main_conv")(x)
    x = MaxUnpool(name=f"{name}_unpool")(bn(x, f"{name}_main"), places)
    return joined(x, y, name)


def joined(x, y, name):
    """The last convolution of a block of the decoder, added to the map beside it."""
    y = layers.ReLU(name=f"{name}_2_relu")(bn(y, f"{name}_2"))
    y = layers.Conv2D(x.shape[-1], 1, use_bias=False, name=f"{name}_3_conv")(y)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, bn(y, f"{name}_3")]))
