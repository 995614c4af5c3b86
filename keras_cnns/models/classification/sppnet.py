"""SPP-net: Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition.

He, Zhang, Ren, Sun. ECCV 2014, arXiv:1406.4729. The network ZF-5 of Table 1 whose last pooling is a pyramid of 50
bins, so that the fully connected layers take images of any size. Numbers that the paper does not name are those of
the authors' release (Zeiler_conv5.prototxt): unlike ZFNet it normalises before it pools, and within each map.
"""

from keras import Model, layers, ops, saving

from keras_cnns.layers import SpatialPyramidPool
from keras_cnns.models.classification import common
from keras_cnns.models.classification.alexnet import classifier, conv_relu

TASK, YEAR = "classification", 2014
PAPER = "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition, arXiv:1406.4729"

VARIANTS = {"sppnet_zf5": (6, 3, 2, 1)}  # bins to a side, a number a level

PUBLISHED = {"sppnet_zf5": "ILSVRC-2012 val, 10 views: top-1 error 34.98 %, top-5 14.14 % (Table 2, one size)"}


@saving.register_keras_serializable("keras_cnns")
class WithinMapNormalization(layers.Layer):
    """`x / (1 + alpha * mean of x**2 over 3x3 pixels)**0.75`, zeros outside, each map by itself; float32 inside."""

    def __init__(self, alpha=5e-5, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        energy = ops.average_pool(ops.pad(x * x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 1)
        scale = 1.0 + self.alpha * energy
        return ops.cast(x * ops.rsqrt(scale * ops.sqrt(scale)), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


def build(name="sppnet_zf5", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3), at least 31 pixels a side; height and width
        may be None, with the classifier too.
      num_classes: units of the classifier; None leaves the network headless, its output being "spp",
        `[B, 12800]`; the map before it is "conv5_relu", `[B, H/16, W/16, 256]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    inputs, x = common.pixels(input_shape, (224, 224, 3), 31, variance=(1.0,) * 3)
    x = WithinMapNormalization(name="norm1")(conv_relu(x, 96, 7, 2, padding=1, name="conv1"))
    x = common.caffe_max_pool(x, 3, 2, "pool1")
    x = WithinMapNormalization(name="norm2")(conv_relu(x, 256, 5, 2, bias=1, name="conv2"))
    x = common.caffe_max_pool(x, 3, 2, "pool2")
    x = conv_relu(x, 384, 3, padding=1, name="conv3")
    x = conv_relu(x, 384, 3, padding=1, bias=1, name="conv4")
    x = conv_relu(x, 256, 3, padding=1, bias=1, name="conv5")
    x = SpatialPyramidPool(VARIANTS[name], name="spp")(x)
    if num_classes is not None:
        x = classifier(x, num_classes, classifier_activation)
    return Model(inputs, x, name=name)
