"""Network in Network.

Lin, Chen, Yan. ICLR 2014, arXiv:1312.4400. Fig. 2: each convolution is followed by two of 1x1 ("cccp", cascaded
cross-channel pooling), the last one has a map a class, and their averages are the logits: no fully connected layer.
The paper gives no widths; these are the authors' Caffe files, for CIFAR-10 and for ImageNet. Pooling rounds up.
The second pooling of the CIFAR network averages. A ReLU follows the last 1x1 too, as it does there; unlike there, that
1x1 begins with kernels of zero and biases of one, since behind a ReLU a class that begins below zero on every image
would never be learnt.
"""

from keras import Model, layers, ops

from keras_cnns.models.classification import common

TASK, YEAR = "classification", 2013
PAPER = "Network In Network, arXiv:1312.4400"

# A block: filters, kernel, stride of its convolution; then the widths of its two 1x1, None being the classes.
VARIANTS = {
    "nin":       ((96, 11, 4, 96, 96), (256, 5, 1, 256, 256), (384, 3, 1, 384, 384), (1024, 3, 1, 1024, None)),
    "nin_cifar": ((192, 5, 1, 160, 96), (192, 5, 1, 192, 192), (192, 3, 1, 192, None)),
}

PUBLISHED = {
    "nin": "ImageNet val: top-1 error 40.64 % (the authors' Caffe release)",
    "nin_cifar": "CIFAR-10 test: error 10.41 %, with augmentation 8.81 % (Table 1)",
}


def conv_relu(x, filters, kernel_size, strides, name, **begin):
    padding = "same" if strides == 1 else "valid"
    x = layers.Conv2D(filters, kernel_size, strides, padding, name=name,
                      **{"kernel_initializer": "he_uniform", **begin})(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def caffe_average_pool(x, name):
    """3x3 with stride 2, the last window cut off at the border, as Caffe rounds: up. The size must be known."""
    height, width = ((0, n % 2 == 0) for n in x.shape[1:3])
    total = layers.AveragePooling2D(3, 2, name=name)(layers.ZeroPadding2D((height, width), name=f"{name}_pad")(x))
    pixels = ops.pad(ops.ones((1, *x.shape[1:3], 1)), ((0, 0), height, width, (0, 0)))
    return total / ops.average_pool(pixels, 3, 2)


def build(name="nin", input_shape=None, num_classes=..., classifier_activation="softmax"):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (227, 227, 3), at least 39 pixels a side, `nin_cifar`
        (32, 32, 3), at least 4; sides may be free but for `nin_cifar`.
      num_classes: maps of the last 1x1, by default 1000 and 10; None leaves the network headless: it ends before it.
      classifier_activation: "softmax", "sigmoid", or None for logits.
    """
    cifar = name.endswith("_cifar")
    if cifar:
        inputs, x = common.pixels(input_shape, (32, 32, 3), 4, common.CIFAR_MEAN, common.CIFAR_VARIANCE, fixed=True)
    else:
        inputs, x = common.pixels(input_shape, (227, 227, 3), 39, variance=(1.0,) * 3)
    num_classes = (10 if cifar else 1000) if num_classes is ... else num_classes
    blocks = VARIANTS[name]
    for i, (filters, kernel_size, strides, *widths) in enumerate(blocks, 1):
        last = i == len(blocks)
        if last or (cifar and i > 1):
            x = layers.Dropout(0.5, name=f"drop{i - 1}")(x)
        x = conv_relu(x, filters, kernel_size, strides, f"conv{i}")
        for j, width in enumerate(widths, 2 * i - 1):
            if width:
                x = conv_relu(x, width, 1, 1, f"cccp{j}")
            elif num_classes is not None:
                x = conv_relu(x, num_classes, 1, 1, f"cccp{j}", kernel_initializer="zeros", bias_initializer="ones")
        if not last:
            pool = caffe_average_pool if cifar and i == 2 else lambda x, name: common.caffe_max_pool(x, 3, 2, name)
            x = pool(x, f"pool{i}")
    if num_classes is not None:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = common.predictions(x, classifier_activation)
    return Model(inputs, x, name=name)
