"""Weights that others have trained and published, by the name of our network: where they are and what they reach.

The files are not ours to hand on: they are fetched from their authors' place on first use, checked and kept in Keras'
cache; a machine without a network is given them by hand (`fetch`).
"""

import functools
import hashlib
import os
import pathlib
from typing import NamedTuple

import keras

from keras_cnns.data import voc
from keras_cnns.errors import InputError


class Release(NamedTuple):
    """A row of the table."""

    name: str       # what `create_model(weights=...)` is given
    origin: str     # URL
    digest: str     # "sha256:", "sha1:" or "md5:" and the hex digits that are told, or their first; "" if none
    metric: str     # as published
    source: str     # of the metric
    licence: str
    classes: str    # whose they are, and their order: of `class_names`
    resize: int | tuple | None = None  # a classifier's images: shorter side, or both; then the middle

    exact_norm: bool = False  # its batch norm added nothing to the variance
    free: bool = False  # a detector's images keep their proportions, or FCN's: its network's shape is (None, None, 3)

    @property
    def file(self):
        return self.origin.rsplit("/", 1)[1]


IMAGENET = "ILSVRC2012 val: top-1 {}, top-5 {}"


def torchvision(file, metric, name="imagenet", resize=256, classes="imagenet"):
    """A row of torchvision's; its files carry the first digits of their SHA-256 in their names."""
    return Release(name, f"https://download.pytorch.org/models/{file}.pth", f"sha256:{file.rsplit('-', 1)[1]}", metric,
                   "torchvision's table of weights", "BSD-3-Clause; the terms of the data", classes, resize)


def tv_imagenet(file, top1, top5, name="imagenet", resize=256):
    return torchvision(file, IMAGENET.format(top1, top5), name, resize)


def tv_coco(file, metric, classes="coco", free=True):
    return torchvision(file, f"COCO val2017: {metric}", "coco", None, classes)._replace(free=free, exact_norm=free)


def applications(file, md5, top1_error, top5_error, licence, size=224, folder=""):
    """A row of keras.applications; errors in percent, of one crop in the middle."""
    return Release("imagenet", f"https://storage.googleapis.com/tensorflow/keras-applications/{folder}{file}.h5",
                   md5 and f"md5:{md5}", IMAGENET.format(round(100 - top1_error, 3), round(100 - top5_error, 3)),
                   "keras.io and the README of keras-applications", licence, "imagenet", round(size * 8 / 7))


def keras_row(network, md5, top1_error, top5_error, licence, size=224, folder=None):
    folder = f"{network}/" if folder is None else folder
    file = f"{network}_weights_tf_dim_ordering_tf_kernels"
    return applications(file, md5, top1_error, top5_error, licence, size, folder)


def mobilenet(width, top1_error, top5_error):
    return applications(f"mobilenet_{width}_224_tf", "", top1_error, top5_error, "Apache-2.0", folder="mobilenet/")


def caffe(url, sha1, metric, source, licence, classes="imagenet", resize=(256, 256), name="imagenet"):
    return Release(name, url, sha1 and f"sha1:{sha1}", metric, source, licence, classes, resize)


BERKELEY = "http://dl.caffe.berkeleyvision.org/"
GOOGLENET = caffe(f"{BERKELEY}bvlc_googlenet.caffemodel", "405fc5acd08a3bb12de8ee5e23a96bec22f08204",
                  IMAGENET.format(68.7, 88.9), "BVLC model zoo", "unrestricted")
CC_BY, MIT, APACHE, BSD = "CC BY 4.0", "MIT", "Apache-2.0", "BSD-3-Clause"


def oxford(depth, top5):
    return caffe(f"http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_{depth}_layers.caffemodel", "",
                 f"ILSVRC2012 val: top-5 {top5}, dense, shorter side 384", "the authors' page", CC_BY, resize=256,
                 name="imagenet_caffe")



# The first of a row's releases is the one that needs no extra, where there is a choice.
RELEASES = {
    "alexnet": (caffe(f"{BERKELEY}bvlc_alexnet.caffemodel", "9116a64c0fbe4459d18f4bb6b56d647b63920377",
                      IMAGENET.format(57.1, 80.2), "BVLC model zoo", "unrestricted"),),
    "alexnet_owt": (tv_imagenet("alexnet-owt-7be5be79", 56.522, 79.066),),
    "vgg11": (tv_imagenet("vgg11-8a719046", 69.02, 88.628),),
    "vgg13": (tv_imagenet("vgg13-19584684", 69.928, 89.246),),
    "vgg16": (keras_row("vgg16", "64373286793e3c8b2b4e3219cbf3544b", 28.732, 9.95, CC_BY),
              tv_imagenet("vgg16-397923af", 71.592, 90.382, "imagenet_torchvision"),
              oxford(16, 91.9)),
    "vgg19": (keras_row("vgg19", "cbe5617147190e668d6c5d5026f83318", 28.744, 10.012, CC_BY),
              tv_imagenet("vgg19-dcbb9e9d", 72.376, 90.876, "imagenet_torchvision"),
              oxford(19, 92.0)),
    "vgg11_bn": (tv_imagenet("vgg11_bn-6002323d", 70.37, 89.81),),
    "vgg13_bn": (tv_imagenet("vgg13_bn-abd245e5", 71.586, 90.374),),
    "vgg16_bn": (tv_imagenet("vgg16_bn-6c64b313", 73.36, 91.516),),
    "vgg19_bn": (tv_imagenet("vgg19_bn-c79401a0", 74.218, 91.842),),
    "googlenet": (GOOGLENET,),
    "googlenet_aux": (GOOGLENET,),
    "googlenet_bn": (tv_imagenet("googlenet-1378be20", 69.778, 89.53),),
    "inception_v3": (keras_row("inception_v3", "9a0d58056eeedaa3f26cb7ebd46da564", 22.102, 6.28, APACHE, 299),),
    "inception_v3_aux": (tv_imagenet("inception_v3_google-0cc3c7bd", 77.294, 93.45, resize=342),),
    "inception_resnet_v2": (
        keras_row("inception_resnet_v2", "e693bd0210a403b3192acc6073ad2e96", 19.744, 4.748, APACHE, 299),),
    "resnet18": (tv_imagenet("resnet18-f37072fd", 69.758, 89.078),),
    "resnet34": (tv_imagenet("resnet34-b627a593", 73.314, 91.42),),
    "resnet50": (keras_row("resnet50", "2cb95161c43110f7111970584f804107", 25.1, 7.9, MIT, folder="resnet/"),),
    "resnet101": (keras_row("resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", 23.6, 7.2, MIT, folder="resnet/"),),
    "resnet152": (keras_row("resnet152", "100835be76be38e30d865e96f2aaae62", 23.4, 6.9, MIT, folder="resnet/"),),
    "resnet50_v1_5": (tv_imagenet("resnet50-0676ba61", 76.13, 92.862),
                      tv_imagenet("resnet50-11ad3fa6", 80.858, 95.434, "imagenet_v2", 232)),
    "resnet101_v1_5": (tv_imagenet("resnet101-63fe2227", 77.374, 93.546),
                       tv_imagenet("resnet101-cd907fc2", 81.886, 95.78, "imagenet_v2", 232)),
    "resnet152_v1_5": (tv_imagenet("resnet152-394f9c45", 78.312, 94.046),
                       tv_imagenet("resnet152-f82ba261", 82.284, 96.002, "imagenet_v2", 232)),
    "resnext50_32x4d": (tv_imagenet("resnext50_32x4d-7cdf4587", 77.618, 93.698),
                        tv_imagenet("resnext50_32x4d-1a0047aa", 81.198, 95.34, "imagenet_v2", 232)),
    "resnext101_64x4d": (tv_imagenet("resnext101_64x4d-173b62eb", 83.246, 96.454, resize=232),),
    "densenet121": (keras_row("densenet121", "9d60b8095a5708f2dcce2bca79d332c7", 25.48, 8.022, BSD, folder="densenet/"),
                    tv_imagenet("densenet121-a639ec97", 74.434, 91.972, "imagenet_torchvision")),
    "densenet161": (tv_imagenet("densenet161-8d451a50", 77.138, 93.56),),
    "densenet169": (keras_row("densenet169", "d699b8f76981ab1b30698df4c175e90b", 23.926, 6.892, BSD,
                              folder="densenet/"),
                    tv_imagenet("densenet169-b2777c0a", 75.6, 92.806, "imagenet_torchvision")),
    "densenet201": (keras_row("densenet201", "1ceb130c1ea1b78c3bf6114dbdfd8807", 22.936, 6.542, BSD,
                              folder="densenet/"),
                    tv_imagenet("densenet201-c1103571", 76.896, 93.37, "imagenet_torchvision")),
    "mobilenet_v1": (mobilenet("1_0", 29.576, 10.496),),
    "mobilenet_v1_075": (mobilenet("7_5", 31.588, 11.758),),
    "mobilenet_v1_050": (mobilenet("5_0", 35.708, 14.376),),
    "mobilenet_v1_025": (mobilenet("2_5", 48.418, 24.208),),
    "faster_rcnn_resnet50_fpn": (
        tv_coco("fasterrcnn_resnet50_fpn_coco-258fb6c6", "box AP 37.0"),),
    "mask_rcnn_resnet50_fpn": (
        tv_coco("maskrcnn_resnet50_fpn_coco-bf2d0c1e", "box AP 37.9, mask AP 34.6"),),
    "keypoint_rcnn_resnet50_fpn": (
        tv_coco("keypointrcnn_resnet50_fpn_coco-fc266e95", "box AP 54.6, keypoint AP 65.0", "person"),),
    "ssd300_vgg16": (tv_coco("ssd300_vgg16_coco-b556d3b4", "box AP 25.1", free=False),),
    **dict.fromkeys(("fcn_resnet50", "fcn_resnet50_aux"), (
        tv_coco("fcn_resnet50_coco-1167a1af", "mean IoU 60.5, pixel accuracy 91.4, of VOC's classes", "voc_and_none",
                free=False),)),
    **{f"fcn{stride}s": (caffe(
        f"{BERKELEY}fcn{stride}s-heavy-pascal.caffemodel", "", f"VOC2011 seg11valid: mean IoU {iou}",
        "the authors' repository", "unrestricted", "voc_and_none", None, "voc")._replace(free=True),)
       for stride, iou in ((32, 63.6), (16, 65.0), (8, 65.5))},
}


def find(model, name):
    """The release of a network by that name.

    Raises:
      InputError: there is none; those that there are, are listed.
    """
    rows = RELEASES.get(model, ())
    for release in rows:
        if release.name == name:
            return release
    known = "the releases " + ", ".join(repr(release.name) for release in rows) if rows else "no release"
    raise InputError(f"weights={str(name)!r}: {model} has {known}; give one, the path of a file of weights, or None.")


def fetch(release):
    """Path of a release's file, whole and checked.

    It is, in this order: the file that the environment variable KERAS_CNNS_WEIGHTS names, or that of its own name in
    the folder that it names; the one in Keras' cache (~/.keras or KERAS_HOME, folder keras_cnns); or it is fetched into
    that.

    Raises:
      InputError: another file than the authors', or none can be had; says where to get it and where to put it.
    """
    by_hand = os.environ.get("KERAS_CNNS_WEIGHTS")
    if by_hand:
        given = pathlib.Path(by_hand) / release.file if os.path.isdir(by_hand) else pathlib.Path(by_hand)
        if given.is_file():
            _check(given, release)
            return given
        if not os.path.isdir(by_hand):
            raise InputError(f"KERAS_CNNS_WEIGHTS={by_hand}: no such file or folder; {_advice(release)}.")
    folder = pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras_cnns"
    path = folder / release.file
    if path.is_file():
        _check(path, release, "delete it, and it is fetched again")
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = keras.utils.get_file(release.file, release.origin, cache_dir=str(folder), cache_subdir=".fetching",
                                     force_download=True)
    except Exception as error:  # Keras' own, of no class of its own
        raise InputError(f"{release.origin}: could not be fetched ({' '.join(str(error).split())}); "
                         f"{_advice(release, folder)}.") from None
    try:
        _check(pathlib.Path(aside), release)
    except InputError:
        os.remove(aside)
        raise
    os.replace(aside, path)
    return path


def _check(path, release, remedy="fetch it again"):
    if not release.digest:
        return
    algorithm, digits = release.digest.split(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(digits):
        raise InputError(f"{path}: its {algorithm} is {found}, but {release.origin} has {digits}...: the file is "
                         f"damaged or another; {remedy}.")


def _advice(release, folder=None):
    digest = f" (its {release.digest.replace(':', ' begins with ')})" if release.digest else ""
    places = f"put it into {folder}, or into" if folder else "put it into"
    return f"fetch {release.origin}{digest} by hand and {places} a folder that KERAS_CNNS_WEIGHTS names"


# Names of the categories, whose ids 1...90 leave gaps: no detector is taught those.
COCO = [name or f"none {i}" for i, name in enumerate((
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush").split(","), 1)]


@functools.cache
def _imagenet():
    """WordNet ids, sorted, and names."""
    with open(pathlib.Path(__file__).with_name("imagenet.tsv"), encoding="utf-8") as file:
        return tuple(zip(*(line.rstrip("\n").split("\t") for line in file)))


def class_names(release):
    """What the answers are called, in order: of a classifier 0...K-1, of a detector 1...K."""
    return {"imagenet": lambda: list(_imagenet()[1]), "coco": lambda: COCO, "person": lambda: COCO[:1],
            "voc_and_none": lambda: ["background", *voc.CLASSES]}[release.classes]()


def data_names(release):
    """What the same classes are called in the data: in a folder of ImageNet their WordNet ids."""
    return list(_imagenet()[0]) if release.classes == "imagenet" else class_names(release)
