"""Faster R-CNN with a ResNet-50 and FPN beside torchvision's: one image of 800x1066, 1,000 proposals.

    KERAS_CNNS_TORCHVISION=<its environment> python tools/benchmark_detector.py [--rounds 5] [--training]

Both get the same pixels, weights of chance and two threads; torchvision runs eagerly, without its transform. A round
measures one and then the other, and what counts is the median of the rounds. A ratio above 1 says that ours is quicker.
"""

import argparse
import sys
import tempfile

import numpy as np
from benchmark_roi import Peer, rounds

HEIGHT, WIDTH, OBJECTS = 800, 1066, 10
PEER = """
import sys, time
import numpy as np, torch
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
torch.set_num_threads(2)
arrays = np.load(sys.argv[1])
pixels = torch.tensor(arrays["pixels"]).permute(0, 3, 1, 2) / 255
network = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
target = [{"boxes": torch.tensor(arrays["boxes"][0]), "labels": torch.tensor(arrays["labels"][0]).long()}]
def run():
    padded = torch.nn.functional.pad((pixels - 0.45) / 0.225, (0, -pixels.shape[3] % 32, 0, -pixels.shape[2] % 32))
    images = ImageList(padded, [tuple(pixels.shape[2:])])
    features = network.backbone(padded)
    proposals, first = network.rpn(images, features, target if network.training else None)
    found, second = network.roi_heads(features, proposals, images.image_sizes, target if network.training else None)
    return {**first, **second}
optimizer = torch.optim.SGD(network.parameters(), 1e-5)
for line in sys.stdin:
    training = line.strip() == "training"
    network.train(training)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # frozen, as ours
    start = time.perf_counter()
    if training:
        optimizer.zero_grad()
        sum(run().values()).backward()
        optimizer.step()
    else:
        with torch.inference_mode():
            run()
    print(time.perf_counter() - start, flush=True)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--training", action="store_true", help="a step of training as well")
    parser.add_argument("--dtype-policy", default="float32", help="of ours, such as mixed_bfloat16; theirs is float32")
    options = parser.parse_args()

    import tensorflow as tf

    from keras_cnns.models import create_model, detector
    from keras_cnns.models.detection import faster_rcnn

    tf.config.threading.set_intra_op_parallelism_threads(2)
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (1, HEIGHT, WIDTH, 3)).astype("float32")
    corner = rng.uniform(0, 500, (1, OBJECTS, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(50, 300, (1, OBJECTS, 2))], -1).astype("float32")
    labels = rng.integers(1, 91, (1, OBJECTS)).astype("int32")
    network = create_model("faster_rcnn_resnet50_fpn", (HEIGHT, WIDTH, 3), dtype_policy=options.dtype_policy)
    for weight in network.weights:  # so that activations stay of order 1
        if weight.path.endswith("_3_bn/gamma"):
            weight.assign(0.2 * np.ones(weight.shape))
    served = detector(network)
    infer, x = tf.function(lambda image: served(image, training=False)), tf.constant(pixels)
    network.compile("sgd", loss=faster_rcnn.losses(network.name))
    batch = {"image": pixels, "boxes": boxes, "labels": labels}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/inputs.npz", pixels=pixels, boxes=boxes, labels=labels)
        peer = Peer(PEER, f"{folder}/inputs.npz")
        cases = {"inference": lambda: infer(x)["count"].numpy()}
        if options.training:
            cases["training"] = lambda: network.train_on_batch(batch)
        for name, run in cases.items():
            mine, theirs = rounds(options.rounds, run, peer, name)
            print(f"{name} ours {mine:6.0f} ms, torchvision's {theirs:6.0f} ms, ratio {theirs / mine:.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
