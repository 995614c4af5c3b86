"""R-FCN: Object Detection via Region-based Fully Convolutional Networks.

Dai, Li, He, Sun. NIPS 2016, arXiv:1605.06409.

    image -> backbone -> conv4_x -> RPN -> proposals -\
                      -> conv5_x -> position-sensitive maps -> pooling and voting -> detections

`build` returns the network to train; `detector(network)` the graph to serve. The RPN is Faster R-CNN's; regions have no
layers of their own. The network learns from the regions that have most loss of all, by its present weights (section 2,
"Training"); section 2 says also why strides in conv5_x are taken out and its kernels spread instead.

Rows: `rfcn_resnet50` and `rfcn_resnet101` are the paper's, for VOC, whose batch norm does not learn; `rfcn_resnet18` is
this package's own small one, a stage earlier, at stride 8, with 3x3 bins. `rfcn` stands on any classifier of the zoo.

Not as in the paper: what the file of Faster R-CNN says of its RPN and boxes; maps are pooled at their cells, as by
torchvision (`layers.PSRoIPool`), where the authors' code rounds corners to whole pixels.
"""

from typing import NamedTuple

from keras import Input, Model, initializers, layers, models, ops, saving

from keras_cnns.errors import InputError
from keras_cnns.layers.detection import DecodeDetections, SampleRoIs
from keras_cnns.layers.roi import PSRoIPool
from keras_cnns.losses import BoxLoss, ClassLoss, ObjectnessLoss
from keras_cnns.models.detection import backbones, faster_rcnn, two_stage

TASK, YEAR = "detection", 2016
PAPER = "R-FCN: Object Detection via Region-based Fully Convolutional Networks, arXiv:1605.06409"


class Variant(NamedTuple):
    base: faster_rcnn.Variant  # trunk and RPN; of its features the first is the RPN's, the last that of the regions;
    # its rois are the regions of most loss
    width: int = 1024          # channels of the 1x1 convolution before the position-sensitive maps
    bins: int = 7              # k, to a side of a region


C4 = faster_rcnn.C4._replace(features=("conv4_x", "conv5_x"))

VARIANTS = {
    "rfcn_resnet18": Variant(
        faster_rcnn.VARIANTS["faster_rcnn_resnet18"]._replace(features=("conv3_x", "conv4_x")), 256, 3),
    **{f"rfcn_{resnet}": Variant(C4._replace(backbone=resnet)) for resnet in ("resnet50", "resnet101")},
    "rfcn": Variant(faster_rcnn.VARIANTS["faster_rcnn"]),
}

PUBLISHED = {
    "rfcn_resnet50": "VOC2007 test: mAP 77.4 % from VOC07+12 (the authors' code)",
    "rfcn_resnet101": "VOC2007 test: mAP 79.5 % from VOC07+12 (Table 4)",
}


@saving.register_keras_serializable("keras_cnns")
class HardRoIs(layers.Layer):
    """Leaves an image's regions of most loss, by classes and boxes together, to learn from. Section 2, "Training".

    Args:
      size: regions an image.
    """

    def __init__(self, size, **kwargs):
        super().__init__(dtype="float32", **{key: value for key, value in kwargs.items() if key != "dtype"})
        self.size = size

    def call(self, logits, offsets, targets):
        """`[B, R, K+1], [B, R, 4], [B, R, 5] ->` targets `[B, R, 5]`, in which all others have label -1."""
        label, rows = targets[..., 4], ops.reshape(targets, (-1, 1, 5))
        loss = ClassLoss().call(rows, ops.reshape(logits, (-1, 1, logits.shape[-1])))
        loss = ops.reshape(loss + BoxLoss().call(rows, ops.reshape(offsets, (-1, 1, 4))), ops.shape(label))
        loss = ops.where(label >= 0, loss, -1.0)
        least = ops.top_k(ops.pad(loss, ((0, 0), (0, self.size)), constant_values=-1.0), self.size)[0][:, -1:]
        label = ops.where(loss >= least, label, -1.0)
        return ops.stop_gradient(ops.concatenate([targets[..., :4], label[..., None]], -1))

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def dilated(trunk, stage):
    """The trunk, in one stage of which no layer strides; what was 3x3 looks at every second cell instead."""
    def clone(layer):
        config = layer.get_config()
        if layer.name.startswith(f"{stage}_") and isinstance(layer, layers.ZeroPadding2D):
            config["padding"] = tuple(tuple(2 * n for n in side) for side in layer.padding)
        elif layer.name.startswith(f"{stage}_") and isinstance(layer, layers.Conv2D):
            config["strides"] = 1
            config["dilation_rate"] = 1 if layer.kernel_size == (1, 1) else 2
        elif layer.name.startswith(f"{stage}_") and isinstance(layer, layers.MaxPooling2D):  # a shortcut's
            config["strides"] = 1
        return type(layer).from_config(config)

    return models.clone_model(trunk, clone_function=clone)


def backbone(v, frozen_stages=0):
    """`[B, H, W, 3] -> [map of the RPN, map of the regions]`, and pixels to a cell, the same of both."""
    trunk, names = faster_rcnn.trunk(v.backbone), v.features
    if len(names) == 2 and names[1].endswith("_x"):
        trunk = dilated(trunk, names[1].removesuffix("_x"))
    maps = backbones.features(trunk, names, v.backbone)
    strides = [faster_rcnn.strides_of([x], trunk.input, (name,))[0] for x, name in zip(maps, names)]
    if len(names) > 2 or len(set(strides)) > 1:
        raise InputError(f"features={names}: these have cells of {', '.join(map(str, strides))} pixels; give one "
                         "layer, or two whose cells are alike, for the RPN and for the regions.")
    model = Model(trunk.input, [maps[0], maps[-1]], name="backbone")
    return faster_rcnn.frozen(model, v, frozen_stages), strides[0]


def position_sensitive(channels, num_classes, width, bins):
    """Score and box maps of every bin, section 2: `[B, H, W, C] -> [B, H+1, W+1, bins**2 * (K+1)], [..., bins**2 * 8]`.

    With the margin that `PSRoIPool` leaves out. Boxes are of any class; the background has one in the authors' code.
    """
    small = initializers.RandomNormal(stddev=0.01)
    inputs = Input((None, None, channels))
    x = layers.Conv2D(width, 1, activation="relu", kernel_initializer=small, name="conv_new_1")(inputs)
    maps = [layers.Conv2D(bins**2 * depth, 1, kernel_initializer=small, name=name)(x)
            for name, depth in (("rfcn_cls", num_classes + 1), ("rfcn_bbox", 8))]
    return Model(inputs, [layers.ZeroPadding2D(((0, 1), (0, 1)))(x) for x in maps], name="position_sensitive")


def votes(pool, maps, rois):
    """Each region's mean over its bins, section 2: `-> logits [B, R, K+1], offsets [B, R, 4]`."""
    logits, offsets = (ops.mean(pool(x, rois), (2, 3)) for x in maps)
    return logits, offsets[..., 4:]


def build(name="rfcn_resnet101", input_shape=None, num_classes=None, frozen_stages=0, backbone=None, features=None):
    """The training network; inputs, outputs and arguments as of `faster_rcnn.build`.

    Args:
      backbone, features: of `rfcn`: a classifier of the zoo, and the name of its layer that is the map, or the names of
        two with cells of the same size, for the RPN and for the regions; a ResNet's stage named second is made to have
        such cells. By default that of `backbones.DEFAULTS`, and the next stage of a ResNet.
    """
    v = VARIANTS[name]
    if (features is not None and not backbone) or (backbone and name != "rfcn"):
        raise InputError(f"{name} with backbone={backbone!r}, features={features!r}: the model 'rfcn' takes a "
                         "backbone, and then its layers; the others take neither.")
    if backbone:
        names = backbones.named(backbone, features, "two_stage")
        if features is None and names == ("conv4_x",):
            names = ("conv4_x", "conv5_x")
        v = v._replace(base=v.base._replace(backbone=backbone, features=names))
    return _network(name, v, input_shape, num_classes, frozen_stages)


def _network(name, v, input_shape, num_classes, frozen_stages):
    inputs, num_classes = faster_rcnn.entrances(v.base, input_shape, num_classes, frozen_stages)
    trunk, stride = backbone(v.base, frozen_stages)
    maps = faster_rcnn.maps_of(trunk, inputs["image"], stride, v.base.padded)
    proposals, predictions, targets = faster_rcnn.first_stage(v.base, inputs, maps[:1], [stride], stride)
    rois, rows, _ = SampleRoIs(None, faster_rcnn.VARIANCES, name="sample_rois")(
        proposals, inputs["boxes"], inputs["labels"])
    head = position_sensitive(maps[1].shape[-1], num_classes, v.width, v.bins)
    logits, offsets = votes(PSRoIPool(v.bins, stride, name="psroi_pool"), head(maps[1]), rois)
    rows = HardRoIs(v.base.rois, name="hard_rois")(logits, offsets, rows)
    return two_stage.network(inputs, {**predictions, "roi_cls": logits, "roi_reg": offsets},
                             {**targets, "roi_cls": rows, "roi_reg": rows}, name)


def losses(name="rfcn_resnet101"):
    """What `compile(loss=...)` takes, keyed like the outputs: those of Faster R-CNN; section 2, lambda 1."""
    return {"rpn_cls": ObjectnessLoss(), "rpn_reg": BoxLoss(beta=1 / 9), "roi_cls": ClassLoss(), "roi_reg": BoxLoss()}


def detector(network, proposals=None, score_threshold=0.05, iou_threshold=None, max_detections=100):
    """The inference graph `image [B, H, W, 3] -> {boxes, scores, labels, count}` over the network's layers.

    Arguments as of `faster_rcnn.detector`.
    """
    base, layer = VARIANTS[network.name].base, network.get_layer
    image = Input(network.input["image"].shape[1:], name="image")
    maps = layer("backbone")(layer("pad")(image))
    rois = faster_rcnn.proposed(network, base, image, maps[:1], proposals)
    logits, offsets = votes(layer("psroi_pool"), layer("position_sensitive")(maps[1]), rois)
    offsets = ops.tile(offsets[:, :, None], (1, 1, logits.shape[-1] - 1, 1))  # the same of every class
    iou_threshold = base.iou_threshold if iou_threshold is None else iou_threshold
    detections = DecodeDetections(score_threshold, iou_threshold, max_detections, faster_rcnn.VARIANCES,
                                  name="detections")(logits, offsets, rois, image)
    return Model(image, detections, name=f"{network.name}_detector")
