"""Writes what torchvision's SSD300 finds: python torch_ssd.py OUT.npz IMAGE ..., in an environment that has it.

A network of random weights whose heads are calibrated on the images, so that classes differ from place to place and
some 80 scores of an image are above the threshold. Written: the state dict; pixels `[N, 300, 300, 3]`, 0 to 255, of its
own transform; default boxes `[A, 4]`; of each image its size (height, width) and its detections, in its own pixels.
"""

import sys

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList


def calibrate(head, maps, deviation):
    """Every output of mean 0 and this deviation over all places of all images."""
    for conv, features in zip(head.module_list, maps):
        answer = functional.conv2d(features, conv.weight, padding=1)
        factor = deviation / answer.std((0, 2, 3))
        conv.weight.mul_(factor[:, None, None, None])
        conv.bias.copy_(-factor * answer.mean((0, 2, 3)))


@torch.no_grad()
def main(out, *paths):
    generator = torch.Generator().manual_seed(0)
    network = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=91).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
            module.bias.uniform_(-0.2, 0.2, generator=generator)
    network.backbone.scale_weight.uniform_(10, 30, generator=generator)
    images = [torchvision.transforms.functional.to_tensor(Image.open(path).convert("RGB")) for path in paths]
    fed, _ = network.transform(images)
    mean = torch.tensor(network.transform.image_mean)[:, None, None] * 255
    maps = list(network.backbone(fed.tensors).values())
    heads = network.head.classification_head, network.head.regression_head
    for head, deviation in zip(heads, (2.0, 0.7)):
        calibrate(head, maps, deviation)
    logits = heads[0](maps)
    low, high = 0.0, 30.0
    for _ in range(20):  # until background leaves each image 80 scores on average
        background = (low + high) / 2
        logits[..., 0] += background
        many = (logits.softmax(-1)[..., 1:] > network.score_thresh).sum() > 80 * len(images)
        logits[..., 0] -= background
        low, high = (background, high) if many else (low, background)
    for conv in heads[0].module_list:
        conv.bias[::91] += background
    found = network(images)
    boxes = network.anchor_generator(ImageList(fed.tensors, fed.image_sizes), maps)[0]
    np.savez(out, pixels=(fed.tensors + mean).permute(0, 2, 3, 1).numpy(), default_boxes=boxes.numpy(),
             sizes=np.array([image.shape[1:] for image in images]),
             **{f"found/{i}/{key}": value.numpy() for i, each in enumerate(found) for key, value in each.items()},
             **{f"state/{key}": value.numpy() for key, value in network.state_dict().items()})


main(*sys.argv[1:])
