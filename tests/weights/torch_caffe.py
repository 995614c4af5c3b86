"""Writes what Caffe's nets answer: python torch_caffe.py NET HEIGHT WIDTH UNITS OUT.npz, in an environment with torch.

The nets of the authors' .prototxt files, in torch's functions: groups, normalisation as Caffe scales it, pooling that
rounds up, crops. UNITS are those of fc6 and fc7. Random weights, "layer|0" and "layer|1"; pixels `[1, H, W, 3]`, RGB;
the net takes them as BGR less MEAN, which is that of our network: where zeros are padded another would not do.
"""

import sys

import numpy as np
import torch
from torch.nn import functional

FCN_MEAN = (104.00698793, 116.66876762, 122.67891434)
IMAGENET_MEAN = (103.53, 116.28, 123.675)


class Net:
    """Functions by names of layers; weights are made when a layer is first met."""

    def __init__(self, units):
        self.units, self.weights, self.generator = units, {}, torch.Generator().manual_seed(0)

    def random(self, name, *shapes):
        for i, shape in enumerate(shapes):
            fan_in = np.prod(shape[1:])
            value = torch.randn(shape, generator=self.generator) * (2 / fan_in) ** 0.5 if i == 0 else (
                torch.rand(shape, generator=self.generator) - 0.5)
            self.weights[f"{name}|{i}"] = value
        return [self.weights[f"{name}|{i}"] for i in range(len(shapes))]

    def conv(self, name, x, filters, size, stride=1, pad=0, group=1, relu=True):
        weight, bias = self.random(name, (filters, x.shape[1] // group, size, size), (filters,))
        x = functional.conv2d(x, weight, bias, stride, pad, groups=group)
        return x.relu() if relu else x

    def deconv(self, name, x, size, stride):
        weight, = self.random(name, (x.shape[1], x.shape[1], size, size))
        return functional.conv_transpose2d(x, weight, stride=stride)

    def full(self, name, x, units, relu=True):
        x = x.flatten(1)
        weight, bias = self.random(name, (units, x.shape[1]), (units,))
        x = functional.linear(x, weight, bias)
        return x.relu() if relu else x


def pool(x, size, stride=2, pad=0):
    return functional.max_pool2d(x, size, stride, pad, ceil_mode=True)


def norm(x):
    return functional.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1)  # alpha is divided by 5, as Caffe's


def crop(x, like, offset):
    return x[:, :, offset:offset + like.shape[2], offset:offset + like.shape[3]]


def bvlc_alexnet(net, x):
    x = pool(norm(net.conv("conv1", x, 96, 11, 4)), 3)
    x = pool(norm(net.conv("conv2", x, 256, 5, pad=2, group=2)), 3)
    x = net.conv("conv3", x, 384, 3, pad=1)
    x = net.conv("conv4", x, 384, 3, pad=1, group=2)
    x = pool(net.conv("conv5", x, 256, 3, pad=1, group=2), 3)
    x = net.full("fc7", net.full("fc6", x, net.units), net.units)
    return {"predictions": net.full("fc8", x, 1000, relu=False)}


MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}


def bvlc_googlenet(net, x):
    x = norm(pool(net.conv("conv1/7x7_s2", x, 64, 7, 2, 3), 3))
    x = net.conv("conv2/3x3", net.conv("conv2/3x3_reduce", x, 64, 1), 192, 3, pad=1)
    x, answers = pool(norm(x), 3), {}
    for key, (n1, n3_reduce, n3, n5_reduce, n5, proj) in MODULES.items():
        x = pool(x, 3) if key in ("4a", "5a") else x
        m = f"inception_{key}"
        x = torch.cat([
            net.conv(f"{m}/1x1", x, n1, 1),
            net.conv(f"{m}/3x3", net.conv(f"{m}/3x3_reduce", x, n3_reduce, 1), n3, 3, pad=1),
            net.conv(f"{m}/5x5", net.conv(f"{m}/5x5_reduce", x, n5_reduce, 1), n5, 5, pad=2),
            net.conv(f"{m}/pool_proj", pool(x, 3, 1, 1), proj, 1)], 1)
        if key in ("4a", "4d"):
            i = 1 if key == "4a" else 2
            y = net.conv(f"loss{i}/conv", functional.avg_pool2d(x, 5, 3), 128, 1)
            y = net.full(f"loss{i}/fc", y, 1024)
            answers[f"aux{i}"] = net.full(f"loss{i}/classifier", y, 1000, relu=False)
    x = x.mean((2, 3))
    return answers | {"predictions": net.full("loss3/classifier", x, 1000, relu=False)}


def vgg(net, x, depths, pad=1):
    pools = {}
    for i, (filters, depth) in enumerate(zip((64, 128, 256, 512, 512), depths), 1):
        for j in range(1, depth + 1):
            x = net.conv(f"conv{i}_{j}", x, filters, 3, pad=pad if (i, j) == (1, 1) else 1)
        pools[f"pool{i}"] = x = pool(x, 2)
    return pools


def vgg_ilsvrc(net, x, depths):
    x = vgg(net, x, depths)["pool5"]
    x = net.full("fc7", net.full("fc6", x, net.units), net.units)
    return {"predictions": net.full("fc8", x, 1000, relu=False)}


def vgg_ilsvrc_16(net, x):
    return vgg_ilsvrc(net, x, (2, 2, 3, 3, 3))


def vgg_ilsvrc_19(net, x):
    return vgg_ilsvrc(net, x, (2, 2, 4, 4, 4))


def score_fr(net, pools):
    x = net.conv("fc7", net.conv("fc6", pools["pool5"], net.units, 7), net.units, 1)
    return net.conv("score_fr", x, 21, 1, relu=False)


def fcn32s(net, image):
    pools = vgg(net, image, (2, 2, 3, 3, 3), 100)
    return {"predictions": crop(net.deconv("upscore", score_fr(net, pools), 64, 32), image, 19)}


def fcn16s(net, image):
    pools = vgg(net, image, (2, 2, 3, 3, 3), 100)
    x = net.deconv("upscore2", score_fr(net, pools), 4, 2)
    x = x + crop(net.conv("score_pool4", pools["pool4"], 21, 1, relu=False), x, 5)
    return {"predictions": crop(net.deconv("upscore16", x, 32, 16), image, 27)}


def fcn8s(net, image):
    pools = vgg(net, image, (2, 2, 3, 3, 3), 100)
    x = net.deconv("upscore2", score_fr(net, pools), 4, 2)
    x = x + crop(net.conv("score_pool4", pools["pool4"], 21, 1, relu=False), x, 5)
    x = net.deconv("upscore_pool4", x, 4, 2)
    x = x + crop(net.conv("score_pool3", pools["pool3"], 21, 1, relu=False), x, 9)
    return {"predictions": crop(net.deconv("upscore8", x, 16, 8), image, 31)}


@torch.no_grad()
def main(name, height, width, units, out):
    net = Net(int(units))
    pixels = torch.rand((1, int(height), int(width), 3), generator=net.generator) * 255
    mean = torch.tensor(FCN_MEAN if name.startswith("fcn") else IMAGENET_MEAN)
    answers = globals()[name](net, (pixels.flip(-1) - mean).permute(0, 3, 1, 2))
    answers = {key: value.permute(0, 2, 3, 1) if value.ndim == 4 else value for key, value in answers.items()}
    np.savez(out, pixels=pixels, **{f"answer/{key}": value for key, value in answers.items()},
             **{f"weights/{key}": value for key, value in net.weights.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
