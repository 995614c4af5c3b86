"""Writes what torchvision's ops answer to the arrays of a file: python torch_ops.py IN.npz OUT.npz"""

import sys

import numpy as np
import torch
import torchvision
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops.poolers import LevelMapper


def main(given, out):
    arrays = {key: torch.tensor(value) for key, value in np.load(given).items()}
    rois, boxes, answers = arrays["rois"], arrays["boxes"], {}
    numbered = torch.cat([torch.zeros(len(rois), 1), rois], 1)
    for name, pool in (
            ("pool", lambda x: torchvision.ops.roi_pool(x, numbered, 7, 1 / 16)),
            ("align", lambda x: torchvision.ops.roi_align(x, numbered, 7, 1 / 16, 2, False)),
            ("aligned", lambda x: torchvision.ops.roi_align(x, numbered, 7, 1 / 16, 2, True))):
        features = arrays["features"].permute(0, 3, 1, 2).contiguous().requires_grad_()
        pooled = pool(features)
        (pooled.permute(0, 2, 3, 1) * arrays[f"{name}_upstream"]).sum().backward()
        answers[name] = pooled.detach().permute(0, 2, 3, 1)
        answers[f"{name}_gradient"] = features.grad.permute(0, 2, 3, 1)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    answers["encoded"] = coder.encode_single(boxes, arrays["anchors"])
    answers["decoded"] = coder.decode_single(arrays["offsets"], arrays["anchors"])
    answers["nms"] = torchvision.ops.nms(boxes, arrays["scores"], 0.5)
    answers["levels"] = LevelMapper(2, 5)([boxes])
    np.savez(out, **{key: value.numpy() for key, value in answers.items()})


main(*sys.argv[1:])
