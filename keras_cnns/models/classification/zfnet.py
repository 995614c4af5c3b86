"""ZFNet: Visualizing and Understanding Convolutional Networks.

Zeiler, Fergus. ECCV 2014, arXiv:1311.2901. Fig. 3: AlexNet with a first layer of 7x7 and stride 2, without groups.
Pooling rounds up; the first two poolings are followed by contrast normalisation across maps, for which the paper names
no numbers: AlexNet's are taken. `zfnet_512_1024_512` is the larger one of Table 2 (b).
"""

from keras import Model, layers

from keras_cnns.layers import LocalResponseNormalization
from keras_cnns.models.classification import common
from keras_cnns.models.classification.alexnet import classifier, conv_relu

TASK, YEAR = "classification", 2013
PAPER = "Visualizing and Understanding Convolutional Networks, arXiv:1311.2901"

VARIANTS = {  # filters of conv3, conv4 and conv5
    "zfnet":              (384, 384, 256),
    "zfnet_512_1024_512": (512, 1024, 512),
}

PUBLISHED = {
    "zfnet": "ILSVRC-2012 val, 10 crops: top-1 error 38.4 %, top-5 16.5 % (Table 2, one network)",
    "zfnet_512_1024_512": "ILSVRC-2012 val, 10 crops: top-1 error 37.5 %, top-5 16.0 % (Table 2, one network)",
}


def build(name="zfnet", input_shape=None, num_classes=1000, classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (224, 224, 3), at least 63 pixels a side; free sides
        only without a classifier.
      num_classes: units of the classifier; None leaves the network headless, its output being "pool5",
        `[B, 6, 6, 256]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    inputs, x = common.pixels(input_shape, (224, 224, 3), 63, variance=(1.0,) * 3, fixed=num_classes is not None)
    x = conv_relu(x, 96, 7, 2, padding=1, name="conv1")
    x = LocalResponseNormalization(name="norm1")(common.caffe_max_pool(x, 3, 2, "pool1"))
    x = conv_relu(x, 256, 5, 2, bias=1, name="conv2")
    x = LocalResponseNormalization(name="norm2")(common.caffe_max_pool(x, 3, 2, "pool2"))
    for i, filters in enumerate(VARIANTS[name], 3):
        x = conv_relu(x, filters, 3, padding=1, bias=int(i > 3), name=f"conv{i}")
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    if num_classes is not None:
        x = classifier(layers.Flatten(name="flatten")(x), num_classes, classifier_activation)
    return Model(inputs, x, name=name)
