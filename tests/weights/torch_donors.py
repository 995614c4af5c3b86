"""Writes what torchvision answers: python torch_donors.py MODEL OUT.npz, in an environment that has it.

A network of random weights, its batch norms' statistics random too; of each of three sizes pixels/i `[1, H, W, 3]`,
predictions/i, the logits, and aux1/i, those of an auxiliary classifier.
"""

import sys

import numpy as np
import torch
import torchvision

MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
# Of AlexNet and VGG such as leave their fully connected layers as many cells.
SIZES = {"alexnet": ((224, 224), (224, 240), (239, 229)), "inception_v3": ((299, 299), (299, 331), (320, 305))}
VGG, OTHERS = ((224, 224), (224, 240), (251, 231)), ((64, 96), (75, 107), (96, 80))


def randomise(network, generator):
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.5, 1.5), (module.bias, -0.2, 0.2),
                                      (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5)):
                tensor.uniform_(low, high, generator=generator)
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-0.2, 0.2, generator=generator)


@torch.no_grad()
def main(name, out):
    generator = torch.Generator().manual_seed(0)
    released = {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = torchvision.models.get_model(name, weights=None, **released)
    randomise(network, generator)
    network.eval()
    answers = {}
    for i, size in enumerate(VGG if name.startswith("vgg") else SIZES.get(name, OTHERS)):
        if name == "inception_v3":  # which answers with it in training only
            hook = network.Mixed_6e.register_forward_hook(
                lambda *a: answers.update({f"aux1/{i}": network.AuxLogits(a[2]).numpy()}))
        pixels = torch.rand((1, *size, 3), generator=generator) * 255
        answers[f"pixels/{i}"] = pixels.numpy()
        answers[f"predictions/{i}"] = network(((pixels / 255 - MEAN) / DEVIATION).permute(0, 3, 1, 2)).numpy()
        if name == "inception_v3":
            hook.remove()
    np.savez(out, **answers, **{f"state/{key}": value.numpy() for key, value in network.state_dict().items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
