"""What torchvision calls the layers of its SSD300, and what it feeds it."""

from keras_cnns.models.detection import ssd
from keras_cnns.weights.names import Family, Fed

SOURCES = ssd.sources(ssd.VARIANTS["ssd300_vgg16"])  # of the heads
TORCH = {
    # The sequences count ReLU and pooling too; the second begins with pool4.
    **{f"conv{i}_{j}": f"backbone.features.{start + 2 * j}"
       for i, start in ((1, -2), (2, 3), (3, 8), (4, 15)) for j in (1, 2, 3)},
    **{f"conv5_{j}": f"backbone.extra.0.{2 * j - 1}" for j in (1, 2, 3)},
    "conv4_3_norm": "backbone",
    "fc6": "backbone.extra.0.7.1", "fc7": "backbone.extra.0.7.3",
    r"conv(8|9|10|11)_([12])": lambda i, j: f"backbone.extra.{int(i) - 7}.{2 * int(j) - 2}",
    **{f"{source}_{ours}": f"head.{theirs}_head.module_list.{i}"
       for i, source in enumerate(SOURCES) for ours, theirs in (("cls", "classification"), ("reg", "regression"))}}
STATE_DICTS = {"ssd300_vgg16": Family(
    TORCH, Fed(ssd.MEAN, (1.0,) * 3), head=(), maker="ssd300_vgg16",
    classifiers=tuple(f"{source}_cls" for source in SOURCES))}
