"""Writes what torchvision's detectors answer: python torch_detectors.py MODEL OUT.npz SIDE IMAGE...

A network of random weights, its batch norms' statistics random too, its heads such that it detects something. For
each image, resized to a shorter side of SIDE: its pixels `[H, W, 3]`, 0 to 255, and the detections in them.
"""

import sys

import numpy as np
import PIL.Image
import torch
from torchvision.models import detection
from torchvision.ops import boxes
from torchvision.transforms import functional

DETECTIONS = 40  # the median of the images
# Of few boxes, torchvision moves the classes apart to suppress within each, the last 90,000 pixels far, where float32
# has steps of 0.008: of an IoU of 0.500008 it made less than 0.5. Here it takes its other way, that of many boxes.
boxes._batched_nms_coordinate_trick = boxes._batched_nms_vanilla


@torch.no_grad()
def randomise(network, generator):
    """Activations stay of order 1, whatever the depth."""
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            weight = (0.1, 0.4) if name.endswith("bn3") else (0.5, 1.5)
            for tensor, (low, high) in ((module.weight, weight), (module.bias, (-0.5, 0.5)),
                                        (module.running_mean, (-0.2, 0.2)), (module.running_var, (0.5, 1.5))):
                tensor.uniform_(low, high, generator=generator)
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)):
            transposed = isinstance(module, torch.nn.ConvTranspose2d)
            fan_in = (module.weight[:, 0] if transposed else module.weight[0]).numel()
            module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-0.1, 0.1, generator=generator)


def spread(layer, deviation):
    """Scales a layer's weights, as soon as it answers, so that its answers deviate by so much."""
    def scale(module, given, answer):
        factor = deviation / answer.std()
        for parameter in module.parameters():
            parameter *= factor
        hook.remove()
        return answer * factor

    hook = layer.register_forward_hook(scale)


def answer(network, image):
    """Detections in pixels of the resized image, and this image."""
    resized, _ = network.transform.resize(image)
    images, _ = network.transform([image])
    features = network.backbone(images.tensors)
    proposals, _ = network.rpn(images, features)
    found, _ = network.roi_heads(features, proposals, images.image_sizes)
    return found[0], resized


def set_background(network, images):
    """Makes the background's logit so large that `DETECTIONS` are found in the median image."""
    heads, seen = network.roi_heads, []
    decode = heads.postprocess_detections
    heads.postprocess_detections = lambda *given: seen.append(given) or decode(*given)
    for image in images:
        answer(network, image)
    heads.postprocess_detections = decode
    low, high = -20.0, 20.0
    for _ in range(12):
        more = (low + high) / 2
        counts = [len(decode(logits + more * torch.eye(len(logits[0]))[0], *rest)[2][0]) for logits, *rest in seen]
        low, high = (more, high) if np.median(counts) > DETECTIONS else (low, more)
    heads.box_predictor.cls_score.bias[0] += more
    print(f"{sorted(counts)} detections")


@torch.no_grad()
def donor(name, images, side):
    """A network of random weights that finds some objects in an image."""
    generator = torch.Generator().manual_seed(0)
    network = getattr(detection, name)(weights=None, weights_backbone=None, min_size=side, max_size=round(side * 5 / 3))
    network.eval()
    randomise(network, generator)
    head, heads = network.rpn.head, network.roi_heads
    for layer, deviation in ((head.cls_logits, 2.0), (head.bbox_pred, 0.3), (heads.box_head.fc6, 1.0),
                             (heads.box_head.fc7, 1.0), (heads.box_predictor.bbox_pred, 0.5),
                             (heads.box_predictor.cls_score, 1.5)):
        spread(layer, deviation)
    answer(network, images[0])
    set_background(network, images)
    return network


@torch.no_grad()
def main(name, out, side, *paths):
    images = [functional.to_tensor(PIL.Image.open(path).convert("RGB")) for path in paths]
    network, arrays = donor(name, images, int(side)), {}
    for i, image in enumerate(images):
        found, resized = answer(network, image)
        arrays |= {f"{key}/{i}": value.numpy() for key, value in found.items()}
        arrays[f"pixels/{i}"] = (255 * resized).permute(1, 2, 0).numpy()
    arrays |= {f"state/{key}": value.numpy() for key, value in network.state_dict().items()}
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
