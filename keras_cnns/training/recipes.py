"""How long and how fast each model learns, as in its paper; nothing reads these tables but `training/`."""

from typing import NamedTuple

import keras

from keras_cnns.errors import InputError
from keras_cnns.training import schedules


class Recipe(NamedTuple):
    """A row of the tables. Epochs, where papers count steps, are of their data: 50,000 images of CIFAR, 1,281,167 of
    ImageNet."""

    optimizer: str         # a key of `OPTIMIZERS`
    learning_rate: float   # for the batch below; falls at each drop, or by `decay`, or along a cosine if there are none
    weight_decay: float    # of kernels
    batch: int             # images
    epochs: int
    warmup: int = 0        # steps in which the rate rises from 0, or stays at `warmup_rate`
    drops: tuple = ()      # epochs
    factor: float = 0.1    # of the rate at each drop
    decay: tuple = ()      # (factor, every so many epochs)
    warmup_rate: float | None = None
    # True: rate * decay * w goes into the gradient, and so into momentum, as in the papers, Caffe and Torch. False:
    # Keras' w -= rate * decay * w beside it, which with a momentum of 0.9 is a tenth of that in the long run.
    coupled: bool = False
    clip: float | None = None  # largest norm of the whole gradient
    view: str = "letterboxed_or_mirrored"  # of `data.views`
    colour: str | None = None  # of `data.augment`
    keep: str = "visible"  # which objects a view keeps: as of `views.render`
    smoothing: float = 0.0  # of labels
    aux: float = 0.0       # weight of an auxiliary classifier's loss
    power: float | None = None  # the rate falls to 0 as (1 - step / steps) ** power, in place of the cosine
    change: str | None = None  # of `data.augment`: of an element on its canvas
    border: tuple = ()     # (w0, sigma) of `data.segmented.border_weights`
    balance: float | None = None  # c of `training.segment.class_weights`
    dice: float = 0.0      # weight of `losses.DiceLoss` beside the pixels' cross-entropy


OPTIMIZERS = {
    "sgd": lambda rate, **options: keras.optimizers.SGD(rate, momentum=0.9, **options),
    "nesterov": lambda rate, **options: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **options),
    "sgd_099": lambda rate, **options: keras.optimizers.SGD(rate, momentum=0.99, **options),
    # arXiv:1512.00567, section 8; the momentum is that of its authors' code.
    "rmsprop": lambda rate, **options: keras.optimizers.RMSprop(rate, rho=0.9, momentum=0.9, epsilon=1.0, **options),
    # arXiv:1603.06937, section 3.1: Torch's defaults.
    "rmsprop_torch": lambda rate, **options: keras.optimizers.RMSprop(rate, rho=0.99, epsilon=1e-16, **options),
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
}

# arXiv:1512.02325, section 3.1: 120,000 steps of 32 of VOC07+12's 16,551 images, drops at 80,000 and 100,000, as in the
# authors' code; section 3.4: 240,000 of COCO's 118,287, drops at 160,000 and 200,000. From VGG-16's ImageNet weights.
SSD_VOC = Recipe("sgd", 1e-3, 5e-4, 32, 232, drops=(155, 193), coupled=True, view="ssd", colour="photometric",
                 keep="center")
SSD = SSD_VOC._replace(epochs=65, drops=(43, 54))

# The authors' files for joint training: 70,000 steps of 2 of VOC07's 5,011 images, a drop at 50,000; from ImageNet
# weights. Theirs of single images, whose gradients are added up.
FASTER_RCNN = Recipe("sgd", 1e-3, 5e-4, 2, 28, drops=(20,), coupled=True)
# arXiv:1512.03385, appendix A: 320,000 steps of 8 of COCO's 82,783 images, a drop at 240,000. The decay is the
# classifier's.
FASTER_RCNN_C4 = Recipe("sgd", 1e-3, 1e-4, 8, 31, drops=(23,), coupled=True)

# arXiv:1506.02640, section 2.2, VOC07+12, in the paper from ImageNet weights of 20 convolutions: the rate rises to
# 0.01 in "the first epochs", three here, of 258 steps, then 75 epochs at 0.01, 30 at 0.001, 30 at 0.0001.
YOLO = Recipe("sgd", 1e-2, 5e-4, 64, 135, 774, (75, 105), coupled=True, view="yolo", colour="exposure_and_saturation")

# arXiv:1504.08083, section 2.3: 30,000 steps of 2 of VOC07's 5,011 images, 10,000 more at a tenth of the rate.
FAST_RCNN = FASTER_RCNN._replace(epochs=16, drops=(12,))
# arXiv:1605.06409, section 3: 20,000 steps of 8 of VOC07+12's 16,551 images, 10,000 more at a tenth of the rate.
RFCN = FASTER_RCNN._replace(batch=8, epochs=15, drops=(10,))

# arXiv:1311.2524, section 2.3, and the authors' files: 70,000 steps of 128 regions for VOC07's 5,011 images, of which
# an epoch here has one each, a tenth of the rate every 20,000. arXiv:1406.4729, section 4.1: 250,000 and 50,000.
RCNN = Recipe("sgd", 1e-3, 5e-4, 128, 14, drops=(4, 8, 12), coupled=True)
SPPNET_DETECTOR = Recipe("sgd", 1e-4, 5e-4, 128, 60, drops=(50,), coupled=True)

DETECTION = {
    # This package's own, from random weights.
    **dict.fromkeys(("faster_rcnn_resnet18", "faster_rcnn", "fast_rcnn_resnet18", "rfcn_resnet18", "rfcn"),
                    Recipe("adamw", 1e-3, 1e-2, 4, 24, 40)),
    **dict.fromkeys(("localizer_resnet18", "localizer"), Recipe("adamw", 1e-3, 1e-2, 16, 60, 100, view="jittered")),
    # This package's own, from random weights.
    **dict.fromkeys(("rcnn_resnet20", "sppnet_detector_resnet20"), Recipe("adamw", 1e-3, 1e-2, 128, 3, 40)),
    **dict.fromkeys(("rcnn_alexnet", "rcnn_vgg16"), RCNN),
    **dict.fromkeys(("sppnet_detector_zf5", "sppnet_detector_vgg16"), SPPNET_DETECTOR),
    "fast_rcnn_vgg16": FAST_RCNN,
    **dict.fromkeys(("rfcn_resnet50", "rfcn_resnet101"), RFCN),
    "faster_rcnn_vgg16": FASTER_RCNN,
    **{f"faster_rcnn_{resnet}_c4": FASTER_RCNN_C4 for resnet in ("resnet18", "resnet50", "resnet101")},
    # The reference script of the release: 2 images on each of 8 devices, 26 epochs of COCO from ImageNet weights.
    "faster_rcnn_resnet50_fpn": Recipe("sgd", 0.02, 1e-4, 16, 26, 1000, (16, 22)),
    "mask_rcnn_resnet18": Recipe("adamw", 1e-3, 1e-2, 4, 24, 40),
    # arXiv:1703.06870, section 3.1: 160,000 steps of 16 of COCO's 115,000 images, a drop at 120,000.
    "mask_rcnn_resnet50_c4": Recipe("sgd", 0.02, 1e-4, 16, 22, drops=(16.5,), coupled=True),
    "mask_rcnn_resnet50_fpn": Recipe("sgd", 0.02, 1e-4, 16, 26, 1000, (16, 22)),
    "keypoint_rcnn_resnet50_fpn": Recipe("sgd", 0.02, 1e-4, 16, 46, 1000, (36, 43)),
    # This package's own, from random weights.
    **dict.fromkeys(("ssd", "ssd300_mobilenet_v1", "ssd300_inception_v2", "ssd300_resnet18"),
                    SSD_VOC._replace(optimizer="adamw", weight_decay=1e-2, epochs=120, drops=(), warmup=100)),
    **dict.fromkeys(("ssd300_vgg16", "ssd512_vgg16"), SSD),
    **dict.fromkeys(("ssd300_vgg16_voc", "ssd512_vgg16_voc"), SSD_VOC),
    **dict.fromkeys(("yolo_v1", "yolo_v1_tiny", "yolo_v1_bn", "yolo_v1_local"), YOLO),
    # This package's own, from random weights.
    "yolo_v1_resnet18": YOLO._replace(optimizer="adamw", learning_rate=1e-3, weight_decay=1e-2, batch=8, epochs=60,
                                      drops=(), warmup=100),
}

# This package's own: the paper's second-order steps of one image (section III.C, 20 passes) are none of Keras'.
LENET = Recipe("adam", 2e-3, 0.0, 32, 15, view="distorted")

# Section 5: 90 passes, the rate divided by 10 three times, by hand; at even distance here. Section 4.1: crops, colours.
ALEXNET = Recipe("sgd", 0.01, 5e-4, 128, 90, drops=(23, 45, 68), coupled=True, view="square_crop", colour="colour_pca")
# arXiv:1404.5997, section 4: times 250^(-1/3) at 25, 50 and 75 % of 90 epochs.
ALEXNET_OWT = ALEXNET._replace(drops=(22.5, 45, 67.5), factor=250 ** (-1 / 3), view="scaled_crop")
# arXiv:1311.2901, section 3: 70 epochs, annealed by hand, at even distance here; the decay, untold, is AlexNet's.
ZFNET = ALEXNET._replace(epochs=70, drops=(23, 47), colour=None)
# arXiv:1406.4729, section 3.1: as ZFNet, divided by 10 twice; crops of the shorter side 256, colours.
SPPNET = ZFNET._replace(view="scaled_crop", colour="colour_pca")
# arXiv:1312.4400, section 4: batches of 128, divided by 10 twice when the training error stays, until 1 % is left;
# numbers the paper does not tell are AlexNet's on ImageNet, and on CIFAR the authors' files': 0.1, 1e-4, drops at
# 100,000 and 115,000 of 120,000 steps.
NIN = ALEXNET._replace(drops=(30, 60), colour=None)
NIN_CIFAR = Recipe("sgd", 0.1, 1e-4, 128, 307, drops=(256, 294), coupled=True, view="padded_crop")
# arXiv:1409.1556, section 3.1: 370,000 steps of 256 are 74 epochs; divided by 10 three times, by hand, at even distance
# here. A, A-LRN and B at one scale; C, D and E at 256 to 512 (Tables 3 and 4).
VGG = Recipe("sgd", 0.01, 5e-4, 256, 74, drops=(19, 37, 56), coupled=True, view="scaled_crop", colour="colour_pca")
VGG_SCALES = VGG._replace(view="vgg")
# arXiv:1409.4842, section 6: 4 % less every 8 epochs, crops of 8 to 100 % of the area, colours of Howard; section 5:
# auxiliary losses weigh 0.3. Rate, decay, batch and length, untold, are those of BVLC's re-training.
GOOGLENET = Recipe("sgd", 0.01, 2e-4, 32, 250, decay=(0.96, 8), coupled=True, view="inception", colour="jitter_colour",
                   aux=0.3)
# arXiv:1502.03167, section 4.2.1, BN-x5: five times 0.0015, a fifth of the decay, falling six times as fast, fewer
# distortions; 100 epochs are this package's own.
BN_INCEPTION = GOOGLENET._replace(learning_rate=0.0075, weight_decay=4e-5, epochs=100, decay=(0.96, 8 / 6), colour=None)
# arXiv:1512.00567, section 8: on each of 50 replicas batches of 32, 0.045, times 0.94 every two epochs, gradients
# clipped at 2; section 7: labels smoothed by 0.1. The decay and the auxiliary weight are those of the authors' code.
INCEPTION_V3 = Recipe("rmsprop", 0.045, 4e-5, 32, 100, decay=(0.94, 2), coupled=True, clip=2.0, view="inception",
                      colour="jitter_colour", smoothing=0.1, aux=0.4)
# arXiv:1602.07261, section 4: as Inception-v3, on 20 replicas, without clipping.
INCEPTION_V4 = INCEPTION_V3._replace(clip=None)
# arXiv:1704.04861, section 4: as Inception-v3 without side heads and label smoothing; no decay of depthwise kernels.
MOBILENET = INCEPTION_V3._replace(smoothing=0.0, aux=0.0, clip=None, colour=None)

# arXiv:1512.03385, section 3.4: 600,000 steps of 256 are 120 epochs; divided by 10 when the error stays, which is every
# 30 epochs here; shorter side 256 to 480, AlexNet's colours.
RESNET = Recipe("sgd", 0.1, 1e-4, 256, 120, drops=(30, 60, 90), coupled=True, view="resnet", colour="colour_pca")
# The reference script of the releases: crops of 8 to 100 % of the area, 90 epochs.
RESNET_V1_5 = RESNET._replace(epochs=90, drops=(30, 60), view="inception", colour=None)
# Section 4.2: 64,000 steps of 128, drops at 32,000 and 48,000.
RESNET_CIFAR = Recipe("sgd", 0.1, 1e-4, 128, 164, drops=(82, 123), coupled=True, view="padded_crop")
# Section 4.2: about 400 steps at 0.01 until the error is below 80 %. arXiv:1603.05027, appendix: all networks there.
RESNET_CIFAR_DEEP = RESNET_CIFAR._replace(warmup=400, warmup_rate=0.01)
# arXiv:1603.05027, appendix: drops at 30 and 60 epochs, as fb.resnet.torch, whose colours and crops these are (Table 5,
# "scale, asp ratio").
RESNET_V2 = RESNET_V1_5._replace(optimizer="nesterov", colour="jitter_and_pca")
# arXiv:1611.05431, section 4: divided by 10 three times, as fb.resnet.torch.
RESNEXT = RESNET_V2._replace(epochs=100, drops=(30, 60, 90))
# arXiv:1603.09382, section 4: 500 epochs, drops at 250 and 375, Nesterov's momentum.
STOCHASTIC_DEPTH = RESNET_CIFAR._replace(optimizer="nesterov", epochs=500, drops=(250, 375))
# arXiv:1608.06993, section 4.2: Nesterov's momentum; ImageNet 90 epochs of 256; CIFAR 300 of 64, drops at 50 and 75 %.
DENSENET = RESNET_V2
DENSENET_CIFAR = Recipe("nesterov", 0.1, 1e-4, 64, 300, drops=(150, 225), coupled=True, view="padded_crop")
# The authors' odenet_mnist.py: 160 epochs, drops at 60, 100 and 140; its decay is 0. Their random crops are left out.
ODENET = Recipe("sgd", 0.1, 0.0, 128, 160, drops=(60, 100, 140), view="plain")

CLASSIFICATION = {
    **dict.fromkeys(("lenet5", "lenet5_dense"), LENET),
    **dict.fromkeys(("alexnet", "alexnet_ungrouped"), ALEXNET),
    "alexnet_owt": ALEXNET_OWT,
    **dict.fromkeys(("zfnet", "zfnet_512_1024_512"), ZFNET),
    "sppnet_zf5": SPPNET,
    "nin": NIN,
    "nin_cifar": NIN_CIFAR,
    **dict.fromkeys(("vgg11", "vgg11_lrn", "vgg13", "vgg11_bn", "vgg13_bn"), VGG),
    **dict.fromkeys(("vgg16c", "vgg16", "vgg19", "vgg16c_bn", "vgg16_bn", "vgg19_bn"), VGG_SCALES),
    **dict.fromkeys(("googlenet", "googlenet_aux"), GOOGLENET),
    **dict.fromkeys(("googlenet_bn", "inception_v2"), BN_INCEPTION),
    **dict.fromkeys(("inception_v3", "inception_v3_aux"), INCEPTION_V3),
    **dict.fromkeys(("inception_v4", "inception_resnet_v1", "inception_resnet_v2", "inception_resnet_v2_paper"),
                    INCEPTION_V4),
    **dict.fromkeys(("mobilenet_v1", "mobilenet_v1_075", "mobilenet_v1_050", "mobilenet_v1_025"), MOBILENET),
    **dict.fromkeys(("plain18", "plain34", "resnet18", "resnet18_a", "resnet34", "resnet34_a", "resnet34_c", "resnet50",
                     "resnet101", "resnet152"), RESNET),
    **dict.fromkeys(("resnet50_v1_5", "resnet101_v1_5", "resnet152_v1_5"), RESNET_V1_5),
    **dict.fromkeys(("resnet50_v2", "resnet101_v2", "resnet152_v2", "resnet200_v2"), RESNET_V2),
    **dict.fromkeys((f"{kind}{depth}_cifar" for kind in ("plain", "resnet") for depth in (20, 32, 44, 56)),
                    RESNET_CIFAR),
    **dict.fromkeys(("resnet110_cifar", "resnet1202_cifar", "resnet164_cifar", "resnet110_v2_cifar",
                     "resnet164_v2_cifar", "resnet1001_v2_cifar"), RESNET_CIFAR_DEEP),
    "resnet110_stochastic_depth_cifar": STOCHASTIC_DEPTH,
    **dict.fromkeys(("resnext50_32x4d", "resnext101_32x4d", "resnext101_64x4d"), RESNEXT),
    **dict.fromkeys((f"densenet{depth}" for depth in (121, 161, 169, 201, 264)), DENSENET),
    **dict.fromkeys(("densenet40_k12_cifar", "densenet100_k12_cifar", "densenet100_k24_cifar",
                     "densenet100_k12_bc_cifar", "densenet250_k24_bc_cifar", "densenet190_k40_bc_cifar"),
                    DENSENET_CIFAR),
    "odenet": ODENET,
}

# arXiv:1411.4038, section 4.3: batches of 20, fixed rate, at least 175 epochs, from VGG-16; the finer ones from the
# coarser one at a hundredth of its rate (section 4.2; 8s in the authors' files), by `fcn.begin_with`. Biases learn as
# fast as kernels here, and images are mirrored.
FCN = Recipe("sgd", 1e-4, 5e-4, 20, 175, decay=(1.0, 1), coupled=True)
# torchvision's reference script: 4 images on each of 8 devices, 30 epochs of COCO, from ImageNet weights.
FCN_RESNET = Recipe("sgd", 0.02, 1e-4, 32, 30, coupled=True, view="half_to_double", aux=0.5, power=0.9)
# arXiv:1505.04366, section 5.1, and the authors' files, stage 1: 20,000 steps of 64 of 0.2 million objects that were
# cut out, drops every 9,000. From VGG-16.
DECONVNET = Recipe("sgd", 0.01, 5e-4, 64, 6, drops=(2.7, 5.4), coupled=True, view="stretched_crop")
# arXiv:1505.04597, section 3: one tile, momentum 0.99, elastic deformation, rotation (by quarters, and mirrored); rate
# and length, untold, are our own. Its variations of grey values, of which it tells nothing more, are left out.
UNET = Recipe("sgd_099", 1e-3, 0.0, 1, 300, view="tile", change="elastic_turned", border=(10.0, 5.0))
# arXiv:1606.02147, section 5.1; length and drops are those of the authors' code, which trains the encoder first.
ENET = Recipe("adam", 5e-4, 2e-4, 10, 300, drops=(100, 200), coupled=True, balance=1.02)

SEGMENTATION = {
    "fcn32s": FCN,
    "fcn16s": FCN._replace(learning_rate=1e-6),
    "fcn8s": FCN._replace(learning_rate=1e-8),
    **dict.fromkeys(("fcn_resnet50", "fcn_resnet50_aux"), FCN_RESNET),
    "deconvnet": DECONVNET,
    "unet": UNET,
    # This package's own, from random weights.
    **dict.fromkeys(("unet_same", "unet_same_32", "unet_same_16"),
                    Recipe("adam", 1e-3, 0.0, 4, 100, 40, change="elastic")),
    **dict.fromkeys(("fcn", "deconvnet_16"), Recipe("adam", 1e-3, 0.0, 4, 100, 40)),
    "enet": ENET,
    # This package's own: the papers tell neither rate nor length.
    **dict.fromkeys(("multiscale_convnet", "recurrent_cnn2", "recurrent_cnn3"), Recipe("adam", 1e-3, 1e-5, 4, 100)),
    # arXiv:1306.2795, equation 9: the instances' losses are added up.
    **dict.fromkeys(("recurrent_cnn2_aux", "recurrent_cnn3_aux"), Recipe("adam", 1e-3, 1e-5, 4, 100, aux=1.0)),
}

# arXiv:1603.06937, section 3.1: one drop by 5 when the accuracy stays, which is at three quarters here. Batch and
# length, untold, are those of the authors' code.
HOURGLASS = Recipe("rmsprop_torch", 2.5e-4, 0.0, 6, 200, drops=(150,), factor=0.2)

KEYPOINTS = {
    **dict.fromkeys(("hourglass1", "hourglass2", "hourglass8"), HOURGLASS),
    # This package's own, from random weights.
    "hourglass2_64": Recipe("adam", 2e-3, 0.0, 16, 40, 40),
}

RECIPES = DETECTION | CLASSIFICATION | SEGMENTATION | KEYPOINTS


def recipe(name):
    """The recipe of a model; InputError if it has none yet."""
    if name not in RECIPES:
        raise InputError(f"No training recipe for {name!r}. Trainable: {', '.join(sorted(RECIPES))}.")
    return RECIPES[name]


def lasting(recipe, epochs):
    """The recipe in another number of epochs: its drops and the steps of its decay move in proportion."""
    share = epochs / recipe.epochs
    return recipe._replace(epochs=epochs, drops=tuple(share * epoch for epoch in recipe.drops),
                           decay=recipe.decay and (recipe.decay[0], share * recipe.decay[1]))


def optimizer(recipe, steps_per_epoch):
    """The recipe's optimizer with its schedule; biases and batch norm's numbers do not decay.

    Raises:
      InputError: an optimizer that is none of `OPTIMIZERS`.
    """
    if recipe.optimizer not in OPTIMIZERS:
        raise InputError(f"No optimizer {recipe.optimizer!r}. Known: {', '.join(OPTIMIZERS)}.")
    steps = recipe.epochs * steps_per_epoch
    warmup = min(recipe.warmup, max(steps // 4, 1))
    if recipe.drops:
        rate = schedules.Drops(recipe.learning_rate, [round(epoch * steps_per_epoch) for epoch in recipe.drops], warmup,
                               recipe.factor, recipe.warmup_rate)
    elif recipe.power:
        rate = keras.optimizers.schedules.PolynomialDecay(
            recipe.learning_rate, max(steps, 1), 0.0, recipe.power)
    elif recipe.decay:
        factor, epochs = recipe.decay
        rate = keras.optimizers.schedules.ExponentialDecay(
            recipe.learning_rate, max(epochs * steps_per_epoch, 1), factor, staircase=True)
    else:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(steps - warmup, 1), warmup_target=recipe.learning_rate, warmup_steps=warmup)
    made = OPTIMIZERS[recipe.optimizer](
        rate, weight_decay=None if _coupled(recipe) else recipe.weight_decay, global_clipnorm=recipe.clip)
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def decay_in_gradient(network, recipe):
    """Where the recipe's decay is coupled, adds half of it times the squares of all but depthwise kernels to the loss.

    By a regularizer of the variables, not of the layers: the network's file does not mention it.
    """
    if _coupled(recipe) and recipe.weight_decay:
        for layer in network.layers:
            if not isinstance(layer, keras.layers.DepthwiseConv2D):
                for variable in layer.trainable_variables:
                    if variable.name.endswith("kernel"):
                        variable.regularizer = keras.regularizers.L2(recipe.weight_decay / 2)


def _coupled(recipe):
    return recipe.coupled and recipe.optimizer != "adamw"  # whose whole point it is that it is not
