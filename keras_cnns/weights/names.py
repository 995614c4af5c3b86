"""What other people call our layers, and what they feed their networks: a family a table.

`KERAS` and `STATE_DICTS` hold, by the name of our network, the `Family` of `keras.applications` and of torchvision (and
timm, where it has the same network). What is not there has no donor of that kind that answers the same: torchvision's
ResNets stride elsewhere than the v1 (they are our v1_5), and its Inception v3 pools otherwise (our inception_v3_aux).
"""

import re
from typing import Callable, NamedTuple

from keras_cnns.models.classification import common, vgg


class Fed(NamedTuple):
    """The donor's own preprocessing: (pixel - mean) / sqrt(variance) for each of R, G, B, 0 to 255."""

    mean: tuple[float, float, float]
    variance: tuple[float, float, float]
    bgr: bool = False  # the donor wants blue first


TORCH = Fed(common.IMAGENET_MEAN, common.IMAGENET_VARIANCE)
HALF = Fed(*common.HALF)
CAFFE = Fed((123.68, 116.779, 103.939), (1.0,) * 3, bgr=True)


class Family(NamedTuple):
    table: dict | Callable  # {our layer, or a pattern of it: donor's}; if need be of our network's name, donor's layers
    fed: Fed
    head: tuple[str, ...] = ("fc",)  # our layers that a network without a classifier lacks
    dropped: tuple[str, ...] = ()    # beginnings of donor's tensors that no network of ours has
    gamma: bool = True               # the donor's batch norms have one
    conv_bias: bool = False          # the donor's convolutions before a batch norm have a bias, ours none
    maker: str = ""                  # what makes the donor: a function of keras.applications, or of torchvision.models,
    options: dict = {}               # and what that takes besides
    classifiers: tuple[str, ...] = ("fc", "fc8", "aux1_fc")  # our layers whose units are the classes


FC = ("fc6", "fc7", "fc8")


def find(table, layer):
    """The donor's name of our layer, or None. A pattern's name is a format string, or a function, of its groups."""
    if layer in table:
        return table[layer]
    for pattern, name in table.items():
        if match := re.fullmatch(pattern, layer):
            return name(*match.groups()) if callable(name) else name.format(*match.groups())
    return None


def conv_and_bn(table, suffix):
    """Of names of pairs, those of their layers; our convolutions end with `suffix`."""
    pairs = ((suffix, ".conv"), ("_bn", ".bn"))
    return {ours + end: theirs + their_end for ours, theirs in table.items() for end, their_end in pairs}


# Inception v3: our convolutions in the order in which Keras makes them, and their names in torchvision.
MODULE_A = {
    "1x1_1": "branch1x1", "5x5_1": "branch5x5_1", "5x5_2": "branch5x5_2", "double_1": "branch3x3dbl_1",
    "double_2": "branch3x3dbl_2", "double_3": "branch3x3dbl_3", "pool_proj_1": "branch_pool"}
REDUCTION_A = {
    "3x3_1": "branch3x3", "double_1": "branch3x3dbl_1", "double_2": "branch3x3dbl_2", "double_3": "branch3x3dbl_3"}
MODULE_B = {
    "1x1_1": "branch1x1", **{f"7x7_{i}": f"branch7x7_{i}" for i in (1, 2, 3)},
    **{f"double_{i}": f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)}, "pool_proj_1": "branch_pool"}
REDUCTION_B = {
    "3x3_1": "branch3x3_1", "3x3_2": "branch3x3_2", **{f"7x7_{i}": f"branch7x7x3_{i}" for i in (1, 2, 3, 4)}}
MODULE_C = {
    "1x1_1": "branch1x1", "3x3_1": "branch3x3_1", "3x3_fork_1x3_1": "branch3x3_2a", "3x3_fork_3x1_1": "branch3x3_2b",
    "double_1": "branch3x3dbl_1", "double_2": "branch3x3dbl_2", "double_fork_1x3_1": "branch3x3dbl_3a",
    "double_fork_3x1_1": "branch3x3dbl_3b", "pool_proj_1": "branch_pool"}
MODULES = {
    **dict.fromkeys(("5b", "5c", "5d"), MODULE_A), "6a": REDUCTION_A,
    **dict.fromkeys(("6b", "6c", "6d", "6e"), MODULE_B), "7a": REDUCTION_B, **dict.fromkeys(("7b", "7c"), MODULE_C)}
V3 = {
    "conv1_1": "Conv2d_1a_3x3", "conv2": "Conv2d_2a_3x3", "conv3": "Conv2d_2b_3x3", "conv4": "Conv2d_3b_1x1",
    "conv5": "Conv2d_4a_3x3",
    **{f"mixed_{m}_{ours}": f"Mixed_{m}.{theirs}" for m, convs in MODULES.items() for ours, theirs in convs.items()}}


# keras.applications

KERAS_VGG = {r"conv(\d)_(\d)": "block{}_conv{}", "fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
KERAS_RESNET = {
    "conv1_(conv|bn)": "conv1_{}",
    r"conv(\d)_(\d+)_(\d)_(conv|bn)": "conv{}_block{}_{}_{}",
    r"conv(\d)_(\d+)_shortcut_(conv|bn)": "conv{}_block{}_0_{}",
    "fc": "predictions"}
KERAS_DENSENET = {
    "conv1_(conv|bn)": "conv1_{}",
    r"dense_block(\d)_(\d+)_(\d)_conv": lambda i, j, k: f"conv{int(i) + 1}_block{j}_{k}_conv",
    r"dense_block(\d)_(\d+)_(\d)_bn": lambda i, j, k: f"conv{int(i) + 1}_block{j}_{int(k) - 1}_bn",
    r"transition(\d)_(conv|bn)": lambda i, kind: f"pool{int(i) + 1}_{kind}",
    "post_bn": "bn", "fc": "predictions"}
KERAS_MOBILENET = {"conv0(|_bn)": "conv1{}", r"conv(\d+)_(dw|pw)(|_bn)": "conv_{1}_{0}{2}", "fc": "conv_preds"}


def in_order(convs, layers):
    """Keras numbers the layers that its authors left unnamed, "conv2d_7", as they are made, from any number on."""
    table = {}
    for kind, numbered in (("conv", "conv2d"), ("bn", "batch_normalization")):
        found = {int(m[1] or 0): m[0] for layer in layers if (m := re.fullmatch(rf"{numbered}(?:_(\d+))?", layer))}
        names = [found[number] for number in sorted(found)]
        names += [f"{numbered} (number {i + 1})" for i in range(len(names), len(convs))]
        table.update((f"{conv}_{kind}", name) for conv, name in zip(convs, names))
    return table


def keras_inception_v3(network, layers):
    return {**in_order(V3, layers), "fc": "predictions"}


def keras_inception_resnet_v2(network, layers):
    stages = (
        ("mixed_5b", MODULE_A),
        *((f"inception_a_{i}", ("1_1", "2_1", "2_2", "3_1", "3_2", "3_3")) for i in range(1, 11)),
        ("reduction_a", REDUCTION_A),
        *((f"inception_b_{i}", ("1_1", "2_1", "2_2", "2_3")) for i in range(1, 21)),
        ("reduction_b", ("1_1", "1_2", "2_1", "2_2", "double_1", "double_2", "double_3")),
        *((f"inception_c_{i}", ("1_1", "2_1", "2_2", "2_3")) for i in range(1, 11)))
    convs = [f"{stage}_{conv}" for stage, of_stage in stages for conv in of_stage]
    return {
        **in_order(["conv1_1", "conv2_1", "conv2_2", "conv3_1", "conv3_2", *convs], layers),
        r"inception_(.)_(\d+)_up": lambda stage, i: f"block{dict(a=35, b=17, c=8)[stage]}_{i}_conv",
        "conv_7b_conv": "conv_7b", "conv_7b_bn": "conv_7b_bn", "fc": "predictions"}


KERAS = {
    **{f"vgg{depth}": Family(KERAS_VGG, CAFFE, FC, maker=f"VGG{depth}") for depth in (16, 19)},
    **{f"resnet{depth}": Family(KERAS_RESNET, CAFFE, conv_bias=True, maker=f"ResNet{depth}")
       for depth in (50, 101, 152)},
    "inception_v3": Family(keras_inception_v3, HALF, gamma=False, maker="InceptionV3"),
    "inception_resnet_v2": Family(keras_inception_resnet_v2, HALF, maker="InceptionResNetV2"),
    **{f"densenet{depth}": Family(KERAS_DENSENET, TORCH, maker=f"DenseNet{depth}") for depth in (121, 169, 201)},
    **{f"mobilenet_v1{width}": Family(KERAS_MOBILENET, HALF, maker="MobileNet", options={"alpha": alpha})
       for width, alpha in (("", 1.0), ("_075", 0.75), ("_050", 0.5), ("_025", 0.25))},
}


# torchvision and timm

ALEXNET = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8", "conv5": "features.10",
    "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
GOOGLENET = {"fc": "fc", **conv_and_bn({
    "conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3",
    r"inception_(\d.)_1x1": "inception{}.branch1",
    r"inception_(\d.)_3x3_reduce": "inception{}.branch2.0",
    r"inception_(\d.)_3x3": "inception{}.branch2.1",
    r"inception_(\d.)_5x5_reduce": "inception{}.branch3.0",
    r"inception_(\d.)_5x5": "inception{}.branch3.1",
    r"inception_(\d.)_pool_proj": "inception{}.branch4.1"}, "")}
INCEPTION_V3_AUX = {"fc": "fc", "aux1_fc": "AuxLogits.fc", **conv_and_bn(
    {**V3, "aux1_1": "AuxLogits.conv0", "aux1_2": "AuxLogits.conv1"}, "_conv")}
RESNET = {
    "conv1_(conv|bn)": "{}1",
    r"conv(\d)_(\d+)_(\d)_(conv|bn)": lambda i, j, k, kind: f"layer{int(i) - 1}.{int(j) - 1}.{kind}{k}",
    r"conv(\d)_1_shortcut_conv": lambda i: f"layer{int(i) - 1}.0.downsample.0",
    r"conv(\d)_1_shortcut_bn": lambda i: f"layer{int(i) - 1}.0.downsample.1",
    "fc": "fc"}
DENSENET = {
    "conv1_conv": "features.conv0", "conv1_bn": "features.norm0", "post_bn": "features.norm5", "fc": "classifier",
    r"dense_block(\d)_(\d+)_(\d)_conv": "features.denseblock{}.denselayer{}.conv{}",
    r"dense_block(\d)_(\d+)_(\d)_bn": "features.denseblock{}.denselayer{}.norm{}",
    r"transition(\d)_conv": "features.transition{}.conv",
    r"transition(\d)_bn": "features.transition{}.norm"}


def torch_vgg(network, layers):
    variant, table, index = vgg.VARIANTS[network], {}, 0
    for i, depth in enumerate(variant.depths, 1):
        for j in range(1, depth + 1):
            table |= {f"conv{i}_{j}": f"features.{index}", f"conv{i}_{j}_bn": f"features.{index + 1}"}
            index += 3 if variant.bn else 2  # with the ReLU
        index += 1  # the pooling
    timm = "pre_logits.fc1" in layers  # where fc6 and fc7 are convolutions
    head = ("pre_logits.fc1", "pre_logits.fc2", "head.fc") if timm else ("classifier.0", "classifier.3", "classifier.6")
    return table | dict(zip(FC, head))


STATE_DICTS = {
    "alexnet_owt": Family(ALEXNET, TORCH, FC, maker="alexnet"),
    **{name: Family(torch_vgg, TORCH, FC, maker=name)
       for name in (f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn"))},
    # These two turn what torchvision feeds them back into -1 to 1: transform_input.
    "googlenet_bn": Family(GOOGLENET, HALF, dropped=("aux1.", "aux2."), maker="googlenet",
                           options={"transform_input": True, "init_weights": False}),
    "inception_v3_aux": Family(
        INCEPTION_V3_AUX, HALF, ("fc", "aux1_fc", "aux1_1_conv", "aux1_1_bn", "aux1_2_conv", "aux1_2_bn"),
        maker="inception_v3", options={"transform_input": True, "init_weights": False}),
    **{name: Family(RESNET, TORCH, maker=name.removesuffix("_v1_5"))
       for name in ("resnet18", "resnet34", "resnet50_v1_5", "resnet101_v1_5", "resnet152_v1_5", "resnext50_32x4d",
                    "resnext101_32x4d", "resnext101_64x4d")},
    **{name: Family(DENSENET, TORCH, maker=name)
       for name in (f"densenet{depth}" for depth in (121, 161, 169, 201))},
}
