"""SPP-net for detection: Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition.

He, Zhang, Ren, Sun. ECCV 2014, arXiv:1406.4729, section 4. R-CNN whose convolutions see the image once, in five sizes;
each region is pooled from the size in which it has nearest to 224x224 pixels (section 4.1).

    image -> in five sizes -> convolutions -> pyramid of each region -> fc7 -> an SVM a class  -> NMS -> detections
                              proposals    ->                        -> box regression a class ->

`build` returns the classifier of background and classes, whose pyramid is of the whole image; `rcnn.assembled` puts
SVMs and regressions in its softmax's place, and `detector` regions in the image's. All of it is trained by
`training.stages`: of regions only the fully connected layers learn (section 4.1).

Rows: `sppnet_detector_zf5` is the paper's, on ZF-5. `sppnet_detector_vgg16` is the same on VGG-16, to which Fast R-CNN
is compared (arXiv:1504.08083, Table 4), `sppnet_detector_resnet20` this package's own small one.

Not as in the paper: images are letterboxed to 600x1000 pixels, whose shorter side the five sizes are of; and of
negatives that overlap by more than 70 % all are kept, as in the authors' release.
"""

from typing import NamedTuple

from keras import KerasTensor, Model, initializers, layers, ops, saving, tree

from keras_cnns.errors import InputError
from keras_cnns.layers.roi import RoIPyramidPool, SpatialPyramidPool
from keras_cnns.models import info
from keras_cnns.models.classification import sppnet
from keras_cnns.models.detection import backbones, rcnn

TASK, YEAR, PAPER = "detection", sppnet.YEAR, sppnet.PAPER


class Variant(NamedTuple):
    backbone: str       # a classifier of the zoo
    map: str            # its layer that is pooled
    stride: int         # pixels to a cell of it
    center: float = 0.0  # as of `RoIPyramidPool`
    width: int = 4096   # of fc6 and fc7
    scales: tuple = (480, 576, 688, 864, 1200)  # pixels of the shorter side
    window: int = 224   # a region is seen nearest to so many pixels a side
    proposals: int = 2000  # an image, at most
    canvas: tuple = (600, 1000)  # height and width to which images are letterboxed
    pool5: str = "spp"
    fc7: str = "fc7"
    background: float = 0.1  # as of `rcnn.Variant`, section 4.1
    pairs: float = 0.5
    ridge: float = 4000.0    # of the authors' release
    num_classes: int = 20
    cost: float = 1e-3       # as of `rcnn.Variant`


VARIANTS = {
    "sppnet_detector_zf5": Variant("sppnet_zf5", "conv5_relu", 16, 20.5),
    "sppnet_detector_vgg16": Variant("vgg16", "conv5_3_relu", 16, 8.0),
    "sppnet_detector_resnet20": Variant(
        "resnet20_cifar", "conv4_x", 4, 0.5, 256, (48, 80, 136, 224), 32, 500, (320, 320), ridge=1000.0, cost=0.1),
}

PUBLISHED = {"sppnet_detector_zf5": "VOC2007 test: mAP 59.2 % (Table 9, five sizes)"}


def build(name="sppnet_detector_zf5", input_shape=None, num_classes=None):
    """The classifier of whole images, RGB 0 to 255: `[B, H, W, 3] ->` {"cls": logits `[B, K+1]`}.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(None, None, 3)`, the only one.
      num_classes: K, without background.
    """
    v = VARIANTS[name]
    shape, classes = tuple(input_shape or (None, None, 3)), v.num_classes if num_classes is None else num_classes
    if shape != (None, None, 3):
        raise InputError(f"input_shape={input_shape}: the convolutions of an SPP-net see images in several sizes; give "
                         "(None, None, 3), or none.")
    if v.backbone in sppnet.VARIANTS:
        whole = sppnet.build(v.backbone, shape, classes + 1, None)
        return Model(whole.input, {"cls": whole.output}, name=name)
    trunk = backbones.trunk(v.backbone, shape)
    x = SpatialPyramidPool(name="spp")(trunk.get_layer(v.map).output)
    for fc in ("fc6", "fc7"):
        x = layers.Dense(v.width, activation="relu", kernel_initializer="he_normal", name=fc)(x)
        x = layers.Dropout(0.5, name=f"{fc}_dropout")(x)
    x = layers.Dense(classes + 1, kernel_initializer=initializers.RandomNormal(stddev=0.01), dtype="float32",
                     name="fc8")(x)
    return Model(trunk.input, {"cls": x}, name=name)


losses = rcnn.losses


@saving.register_keras_serializable("keras_cnns")
class EachRegion(layers.Wrapper):
    """A network of single regions on those of each image: `[B, R, P] -> [B, R, ...]` each."""

    def call(self, regions):
        found = self.layer(ops.reshape(regions, (-1, regions.shape[-1])), training=False)
        return tree.map_structure(lambda x: ops.reshape(x, (-1, ops.shape(regions)[1], *x.shape[1:])), found)

    def compute_output_spec(self, regions):
        return tree.map_structure(
            lambda x: KerasTensor((*regions.shape[:2], *x.shape[1:]), x.dtype),
            self.layer.output)

    def multiply_adds(self, input_shape):
        return (input_shape[1] or 1) * info.cost(self.layer)[0]


def of_region(network, answers=None):
    """The network behind its pyramid, which is what learns of regions: `[N, P] ->` what it answers, or a part of it."""
    return Model(network.get_layer("spp").output, network.output if answers is None else answers, name=network.name)


def over_image(network, v, regions=None):
    """The graph from an image and proposals to what a network answers of each; arguments as of `rcnn.over_image`."""
    given = rcnn.inputs(v, regions)
    return Model(given, EachRegion(of_region(network), name="regions")(pyramids(network, v, given)))


def features(network, v):
    """The graph from an image and proposals to what SVMs and regressions learn from, as of `rcnn.features`."""
    given = rcnn.inputs(v, None)
    pooled = pyramids(network, v, given)
    fc7 = EachRegion(of_region(network, network.get_layer(v.fc7).output))(pooled)
    return Model(given, {"pool5": pooled, "fc7": fc7})


def pyramids(network, v, given):
    """Of each region the pyramid, `[B, R, P]`, in the size in which it is nearest to the window."""
    image, proposals = given["image"], given["proposals"]
    maps = Model(network.input, network.get_layer(v.map).output, name="convolutions")
    sides = proposals[..., 2:] - proposals[..., :2]
    area, chosen, nearest = sides[..., 0] * sides[..., 1], None, None
    for scale in v.scales:
        factor = scale / min(v.canvas)
        size = [round(side * factor) for side in v.canvas]
        pooled = RoIPyramidPool(stride=v.stride, center=v.center, name=f"pyramid_{scale}")(
            maps(ops.image.resize(image, size)), proposals * factor)
        distance = ops.absolute(area * factor**2 - v.window**2)
        if chosen is None:
            chosen, nearest = pooled, distance
        else:
            chosen = ops.where((distance < nearest)[..., None], pooled, chosen)
            nearest = ops.minimum(distance, nearest)
    return chosen


def detector(network, proposals=None, score_threshold=0.05, iou_threshold=0.3, max_detections=100):
    """The inference graph {"image": `[B, H, W, 3]`, "proposals": `[B, R, 4]`} `->` {boxes, scores, labels, count}.

    Arguments as of `rcnn.detector`.
    """
    v = VARIANTS[network.name]
    return rcnn.decoded(network.name, over_image(network, v, v.proposals if proposals is None else proposals),
                        score_threshold=score_threshold, iou_threshold=iou_threshold, max_detections=max_detections)
