"""FCN: Fully Convolutional Networks for Semantic Segmentation.

Long, Shelhamer, Darrell. CVPR 2015, arXiv:1411.4038; Shelhamer, Long, Darrell. PAMI 2016, arXiv:1605.06211. VGG-16
whose fully connected layers are convolutions (section 4.1), its scores upsampled to the pixels of the image by
transposed convolutions, after those of pool4 and pool3 have been added to them (Fig. 3, section 4.2).

`fcn32s`, `fcn16s` and `fcn8s` are the authors' releases: 100 pixels of zeros around the image, so that images of any
size work; crops by the offsets that align the maps; scores that begin as zeros; upsampling by bilinear kernels that
stay as they are, in which the release differs from the CVPR paper, where only the last one did. Set
`layer.trainable = True` for the paper's. Layers carry the names of the authors' Caffe files.

`fcn_resnet50` is torchvision's release: ResNet-50 (v1.5) that keeps stride 8, its conv4_x and conv5_x dilated in place
of strides, two convolutions, and bilinear interpolation. `fcn_resnet50_aux` has a second classifier on conv4_x as
output "aux1", of which torchvision's training takes half.

`fcn` makes one of any classifier of the zoo: scores of the maps that its named layers make, finest first, each sum
upsampled to the next finer map and the last to the image. Images are padded inside to whole cells of the coarsest map,
so that there is nothing to crop between them, and no fully connected layers are kept.

Class 0 is the background, as in VOC's label images.
"""

import math
from typing import NamedTuple

import numpy as np
from keras import Model, layers

from keras_cnns.errors import InputError
from keras_cnns.layers import Bilinear, CropToMatch, ResizeToMatch
from keras_cnns.layers.detection import PadToStride
from keras_cnns.models.classification import common, resnet, vgg
from keras_cnns.models.detection import backbones, faster_rcnn

TASK, YEAR = "segmentation", 2014
PAPER = "Fully Convolutional Networks for Semantic Segmentation, arXiv:1411.4038"

MEAN = (122.67891434, 116.66876762, 104.00698793)  # of the authors' data layers, RGB
PADDING = 100  # of conv1_1
WIDTH = 4096  # of fc6 and fc7


class Variant(NamedTuple):
    skips: tuple   # (upsampling by 2, pooling whose scores are added then, offset of their crop)
    upsampling: str  # the last one
    stride: int      # of it
    offset: int      # of the last crop
    backbone = "vgg16"


class Dilated(NamedTuple):
    auxiliary: bool = False
    backbone = "resnet50_v1_5"


class OnBackbone(NamedTuple):
    backbone: str    # a classifier of the zoo
    features: tuple  # its layers that are scored, finest first, each of twice the cells of the next


VARIANTS = {
    "fcn32s": Variant((), "upscore", 32, 19),
    "fcn16s": Variant((("upscore2", "pool4", 5),), "upscore16", 16, 27),
    "fcn8s":  Variant((("upscore2", "pool4", 5), ("upscore_pool4", "pool3", 9)), "upscore8", 8, 31),
    "fcn_resnet50":     Dilated(),
    "fcn_resnet50_aux": Dilated(auxiliary=True),
    "fcn": OnBackbone("resnet18", ("conv3_x", "conv4_x", "conv5_x")),
}

PUBLISHED = {
    "fcn32s": "VOC 2011 val without SBD's training images (seg11valid): mean IoU 63.6 % (authors' release; CVPR 59.4)",
    "fcn16s": "VOC 2011 val without SBD's training images (seg11valid): mean IoU 65.0 % (authors' release; CVPR 62.4)",
    "fcn8s": "VOC 2011 val without SBD's training images (seg11valid): mean IoU 65.5 %, VOC 2012 test 67.2 % (authors' "
             "release; CVPR 62.7 and 62.2)",
    **dict.fromkeys(("fcn_resnet50", "fcn_resnet50_aux"),
                    "COCO val2017, VOC's 20 classes: mean IoU 60.5 %, pixel accuracy 91.4 % (torchvision's release)"),
}


def build(name="fcn8s", input_shape=None, num_classes=21, classifier_activation="softmax", backbone=None,
          features=None):
    """The network: RGB pixels, 0 to 255, `[B, H, W, 3] -> [B, H, W, num_classes]`, probabilities.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (500, 500, 3), ResNet's (520, 520, 3), of `fcn`
        (320, 320, 3); height and width may be None.
      num_classes: with the background; None leaves the network headless, its output being that of fc7,
        `[B, H/32, W/32, 4096]` and a border, or "conv5_x", `[B, H/8, W/8, 2048]`, or the coarsest map.
      classifier_activation: "softmax", "sigmoid", or None for logits.
      backbone, features: of `fcn`: a classifier of the zoo, and the name or names, finest first, of its layers that are
        maps; each of several has twice the cells of the next.

    Returns:
      a `keras.Model`; that of `fcn_resnet50_aux` answers a dict of "predictions" and "aux1".
    """
    variant = VARIANTS[name]
    if (backbone is None) != (features is None) or (backbone and name != "fcn"):
        raise InputError(f"{name} with backbone={backbone!r}, features={features!r}: the model 'fcn' takes both; the "
                         "others take neither.")
    if backbone:
        variant = OnBackbone(backbone, (features,) if isinstance(features, str) else tuple(features))
    inputs, outputs = FORMS[type(variant)](variant, input_shape, num_classes, classifier_activation)
    return Model(inputs, outputs, name=name)


def fully_convolutional_vgg(v, input_shape, num_classes, activation):
    inputs, x = common.pixels(input_shape, (500, 500, 3), mean=MEAN, variance=(1.0,) * 3)
    x = layers.ZeroPadding2D(PADDING - 1, name="pad")(x)  # and 1 more by conv1_1 itself
    pools = {}
    for i, (filters, depth) in enumerate(zip((64, 128, 256, 512, 512), vgg.VARIANTS["vgg16"].depths), 1):
        for j in range(1, depth + 1):
            x = vgg.conv_relu(x, filters, 3, False, f"conv{i}_{j}")
        x = layers.MaxPooling2D(2, 2, "same", name=f"pool{i}")(x)  # Caffe's: rounds up
        pools[f"pool{i}"] = x
    for fc, kernel_size in (("fc6", 7), ("fc7", 1)):
        x = layers.Conv2D(WIDTH, kernel_size, activation="relu", name=fc)(x)
        x = layers.Dropout(0.5, name=f"{fc}_dropout")(x)
    if num_classes is None:
        return inputs, x
    x = scores(x, num_classes, "score_fr")
    for upsampling, pool, offset in v.skips:
        x = upsampled(x, 2, upsampling)
        skip = scores(pools[pool], num_classes, f"score_{pool}")
        x = layers.Add(name=f"fuse_{pool}")([x, CropToMatch(offset, name=f"score_{pool}c")(skip, x)])
    x = upsampled(x, v.stride, v.upsampling)
    x = CropToMatch(v.offset, name="score")(x, inputs)
    return inputs, common.predictions(x, activation)


def scores(x, num_classes, name):
    return layers.Conv2D(num_classes, 1, kernel_initializer="zeros", name=name)(x)


def upsampled(x, stride, name, padding="valid"):
    """`[B, h, w, K] -> [B, s h + s, s w + s, K]`, bilinear; with padding "same" `-> [B, s h, s w, K]`."""
    return layers.Conv2DTranspose(x.shape[-1], 2 * stride, stride, padding, use_bias=False,
                                  kernel_initializer=Bilinear(), trainable=False, name=name)(x)


def dilated_resnet(v, input_shape, num_classes, activation):
    inputs, x = resnet.imagenet_stem(input_shape or (520, 520, 3))
    variant = resnet.VARIANTS[v.backbone]
    for i, strides in enumerate((1, 2)):
        x = resnet.stage(x, variant, 64 * 2**i, variant.depths[i], strides, f"conv{i + 2}_x")
    conv4_x = dilated_stage(x, 256, variant.depths[2], 2, "conv4_x")
    conv5_x = dilated_stage(conv4_x, 512, variant.depths[3], 4, "conv5_x")
    if num_classes is None:
        return inputs, conv5_x
    outputs = {name: head(x, inputs, num_classes, activation, name)
               for name, x in (("predictions", conv5_x), ("aux1", conv4_x)) if name == "predictions" or v.auxiliary}
    return inputs, outputs if v.auxiliary else outputs["predictions"]


def dilated_stage(x, filters, depth, dilation, name):
    """A stage of v1.5 bottlenecks without its stride. The first block is still dilated as the stage before."""
    for i in range(1, depth + 1):
        block = f"{name[:-1]}{i}"
        y = resnet.conv_bn_relu(x, filters, 1, 1, f"{block}_1")
        y = layers.Conv2D(filters, 3, padding="same", dilation_rate=dilation // 2 if i == 1 else dilation,
                          use_bias=False, kernel_initializer=resnet.he(), name=f"{block}_2_conv")(y)
        y = layers.ReLU(name=f"{block}_2_relu")(resnet.bn(y, f"{block}_2"))
        y = resnet.conv_bn(y, 4 * filters, 1, 1, f"{block}_3")
        y = layers.Add(name=f"{block}_add")([resnet.shortcut(x, "B", 4 * filters, 1, block), y])
        x = layers.ReLU(name=name if i == depth else f"{block}_relu")(y)
    return x


def head(x, inputs, num_classes, activation, name):
    """3x3 convolution to a quarter of the maps, 10 % dropout, scores, interpolated to the pixels of the image."""
    prefix = "" if name == "predictions" else f"{name}_"
    x = resnet.conv_bn_relu(x, x.shape[-1] // 4, 3, 1, f"{prefix}head")
    x = layers.Dropout(0.1, name=f"{prefix}dropout")(x)
    x = layers.Conv2D(num_classes, 1, name=f"{prefix}score_fr")(x)
    x = ResizeToMatch(name=f"{prefix}score")(x, inputs)
    return common.predictions(x, activation, name)


def on_backbone(v, input_shape, num_classes, activation):
    inputs, _ = common.pixels(input_shape, (320, 320, 3))
    if inputs.shape[-1] != 3:
        raise InputError(f"input_shape={tuple(input_shape)}: the backbones of fcn see RGB; give 3 channels.")
    whole = backbones.trunk(v.backbone)
    maps = backbones.features(whole, v.features, v.backbone)
    strides = faster_rcnn.strides_of(maps, whole.input, v.features)
    trunk = Model(whole.input, maps, name="backbone")
    height, width = trunk.compute_output_shape((1, 512, 1024, 3))[-1][1:3]
    if (height * strides[-1], width * strides[-1]) != (512, 1024):
        raise InputError(f"features={v.features}: of 512x1024 pixels {v.features[-1]} has {height}x{width} cells, so "
                         f"{v.backbone} cuts the border off; give a backbone that pads its convolutions.")
    mean = np.ravel(trunk.get_layer("normalize").get_config()["mean"]).tolist()
    *finer, x = trunk(PadToStride(strides[-1], mean, name="pad")(inputs))
    if num_classes is None:
        return inputs, x
    x = scores(x, num_classes, "score_fr")
    for skip, name in zip(reversed(finer), reversed(v.features[:-1])):
        x = upsampled(x, 2, f"upscore_{name}", "same")
        x = layers.Add(name=f"fuse_{name}")([x, scores(skip, num_classes, f"score_{name}")])
    x = upsampled(x, strides[0], "upscore", "same")
    return inputs, common.predictions(CropToMatch(name="score")(x, inputs), activation)


FORMS = {Variant: fully_convolutional_vgg, Dilated: dilated_resnet, OnBackbone: on_backbone}


def begin_with(network, donor):
    """Copies into an FCN what a classifier or a coarser FCN has learnt: 32s begins with VGG-16, 16s with 32s, 8s with
    16s (sections 4.1 and 4.2), torchvision's with `resnet50_v1_5`. Scores that the donor lacks, or has of other classes,
    stay as they are: zero. The mean pixel that `vgg16` subtracts is up to one grey value another.

    Returns:
      names of the layers that were copied.
    """
    theirs = {layer.name: layer.get_weights() for layer in donor.layers if layer.weights}
    copied = []
    for layer in network.layers:
        values, shapes = theirs.get(layer.name), [tuple(w.shape) for w in layer.weights]
        if values and shapes and values[0].size == math.prod(shapes[0]):
            values[0] = values[0].reshape(shapes[0])  # rows of a fully connected layer
        if values and [v.shape for v in values] == shapes:
            layer.set_weights(values)
            copied.append(layer.name)
    if not any(name.startswith("conv5_3") for name in copied):
        raise InputError(f"{donor.name} has no weights for {network.name}: give what it begins with, vgg16 or "
                         "resnet50_v1_5, or a coarser FCN to a finer one.")
    return copied
