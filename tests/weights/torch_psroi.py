"""Writes what torchvision's ps_roi_pool answers to the arrays of a file: python torch_psroi.py IN.npz OUT.npz"""

import sys

import numpy as np
import torch
import torchvision


def main(given, out):
    features, rois, upstream = (torch.tensor(np.load(given)[key]) for key in ("features", "rois", "upstream"))
    features = features.permute(0, 3, 1, 2).contiguous().requires_grad_()
    pooled = torchvision.ops.ps_roi_pool(features, torch.cat([torch.zeros(len(rois), 1), rois], 1), 7, 1 / 16)
    pooled = pooled.permute(0, 2, 3, 1)
    (pooled * upstream).sum().backward()
    np.savez(out, pooled=pooled.detach().numpy(), gradient=features.grad.permute(0, 2, 3, 1).numpy())


main(*sys.argv[1:])
