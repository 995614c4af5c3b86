"""Writes what torchvision answers: python torch_segmentation.py OUT.npz, in an environment that has it.

fcn_resnet50 of random weights, its batch norms' statistics random too; pixels of three sizes `[1, H, W, 3]` and logits
`[1, H, W, 21]` of both classifiers.
"""

import sys

import numpy as np
import torch
import torchvision
from torch_donors import DEVIATION, MEAN, randomise

SIZES = ((64, 96), (75, 107), (121, 50))


@torch.no_grad()
def main(out):
    generator = torch.Generator().manual_seed(0)
    network = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    randomise(network, generator)
    network.eval()
    answers = {}
    for i, size in enumerate(SIZES):
        pixels = torch.rand((1, *size, 3), generator=generator) * 255
        logits = network(((pixels / 255 - MEAN) / DEVIATION).permute(0, 3, 1, 2))
        answers |= {f"{i}/pixels": pixels, f"{i}/predictions": logits["out"].permute(0, 2, 3, 1),
                    f"{i}/aux1": logits["aux"].permute(0, 2, 3, 1)}
    answers |= {f"state/{key}": value for key, value in network.state_dict().items()}
    np.savez(out, **{key: value.numpy() for key, value in answers.items()})


main(*sys.argv[1:])
