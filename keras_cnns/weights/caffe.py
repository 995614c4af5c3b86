"""Files of Caffe's weights, .caffemodel, read without Caffe; and what their authors call our layers.

>>> transfer(create_model("fcn8s"), donor("fcn8s-heavy-pascal.caffemodel"))

A file is one message, NetParameter of BVLC/caffe's src/caffe/proto/caffe.proto, of which `_MESSAGES` lists the few
fields that hold weights, in its form since 2015 (`layer`) and in that before (`layers`). Numbers are declared as bytes,
which a packed array is on the wire: 138 million of them are there at once.
"""

import math
import os

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from keras_cnns.errors import InputError
from keras_cnns.models.segmentation import fcn
from keras_cnns.weights import names

# message -> (field, number, type, whether repeated)
_MESSAGES = {
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [("num", 1, "int32", False), ("channels", 2, "int32", False), ("height", 3, "int32", False),
                  ("width", 4, "int32", False), ("data", 5, "bytes", True), ("shape", 7, "BlobShape", False),
                  ("double_data", 8, "bytes", True)],
    "V1LayerParameter": [("name", 4, "bytes", False), ("blobs", 6, "BlobProto", True)],
    "LayerParameter": [("name", 1, "bytes", False), ("blobs", 7, "BlobProto", True)],
    "NetParameter": [("layers", 2, "V1LayerParameter", True), ("layer", 100, "LayerParameter", True)],
}


def _net_parameter():
    file = descriptor_pb2.FileDescriptorProto(name="keras_cnns/caffe.proto", package="caffe", syntax="proto2")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            field = described.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in _MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


_NetParameter = _net_parameter()


def read(path):
    """The weights in a .caffemodel file: `{layer: (array, ...)}`, float32, for layers that have any, in their order.

    Convolutions `(C_out, C_in / groups, h, w)` and a bias; transposed ones `(C_in, C_out / groups, h, w)`; fully
    connected layers `(C_out, C_in)` and a bias.

    Raises:
      InputError: no such file, or it is cut short, damaged or no .caffemodel.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file. Give the path of a .caffemodel.")
    with open(path, "rb") as file:
        content = file.read()
    try:
        net = _NetParameter.FromString(content)
    except message.DecodeError as error:
        raise InputError(f"{path}: no .caffemodel, or a damaged one ({len(content)} bytes). Fetch it again.") from error
    layers = {}
    for layer in (*net.layers, *net.layer):
        name = layer.name.decode(errors="replace")
        if layer.blobs:
            layers[name] = tuple(_array(blob, i, f"{path}: layer {name!r}") for i, blob in enumerate(layer.blobs))
    if not layers:
        raise InputError(f"{path}: no layer with weights in it. Give a .caffemodel, Caffe's binary file of weights; a "
                         ".prototxt holds none, nor do files of before 2014 or HDF5 ones before Caffe upgrades them.")
    return layers


def _array(blob, index, where):
    stored, kind = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
    stored = b"".join(stored)
    shape = tuple(blob.shape.dim)
    if not blob.HasField("shape"):  # of before 2015: always four, ones in front
        shape = (blob.num, blob.channels, blob.height, blob.width)
        if index:
            shape = (math.prod(shape),)
        elif shape[:2] == (1, 1):
            shape = shape[2:]
    if min(shape, default=1) < 0 or len(stored) != math.prod(shape) * np.dtype(kind).itemsize:
        raise InputError(f"{where}: {len(stored)} bytes of numbers for a shape of {shape}. The file is damaged; fetch "
                         "it again.")
    return np.frombuffer(stored, kind).astype("float32", copy=False).reshape(shape or 1)


class Donor(dict):
    """Weights by "layer.weight" and "layer.bias", kernels as Caffe and torch have them."""


def donor(path):
    """The file's weights for `transfer`."""
    return Donor({f"{layer}.{part}": array for layer, arrays in read(path).items()
                  for part, array in zip(("weight", "bias", *range(2, len(arrays))), arrays)})


# What networks of ours compute otherwise, by tensor.

ROOT = 0.4**0.5
DEVIATIONS = np.float32([[0.1], [0.1], [0.2], [0.2]])  # BBOX_NORMALIZE_STDS of py-faster-rcnn


def _paper_normalisation():
    """AlexNet's normalisation has k = 2 and alpha = 1e-4, Caffe's k = 1 and alpha = 1e-4 / 5. Of activations times the
    root of 0.4 the former gives 0.4**0.5 / 2**0.75 times the latter's answer, since 2 + 1e-4 * 0.4 x**2 is
    2 * (1 + 1e-4 / 5 x**2). The next layer takes that back."""
    answer = ROOT / 2**0.75
    factors = {"conv1.weight": ROOT, "conv1.bias": ROOT, "conv2.weight": ROOT / answer, "conv2.bias": ROOT,
               "conv3.weight": 1 / answer}
    return {name: lambda value, factor=factor: value * np.float32(factor) for name, factor in factors.items()}


def _cells_first(value):
    """Rows of the auxiliary classifiers' first layer, which in Caffe count 128 channels first, then cells."""
    if value.ndim != 2 or value.shape[1] % 128:
        return value
    return value.reshape(len(value), 128, -1).swapaxes(1, 2).reshape(value.shape)


def _per_deviation(value):
    """The authors' files have the deviations of a box's offsets multiplied in; our decoding multiplies by them."""
    return value if len(value) % 4 else (value.reshape(-1, 4, value[0].size) / DEVIATIONS).reshape(value.shape)


CHANGES = {
    "alexnet": _paper_normalisation(),
    "googlenet_aux": {"loss1/fc.weight": _cells_first, "loss2/fc.weight": _cells_first},
    "faster_rcnn_vgg16": {
        "bbox_pred.weight": _per_deviation, "bbox_pred.bias": _per_deviation},
}


def as_ours(network, tensors):
    """A donor's tensors by which the network of ours of that name answers what Caffe's answers."""
    changes = CHANGES.get(network, {})
    return {name: changes[name](value) if name in changes else value for name, value in tensors.items()}


# Our layers by the authors' names, and their pixels.

SAME = {"(.+)": "{}"}
GOOGLENET = {
    "conv1": "conv1/7x7_s2", "conv2_reduce": "conv2/3x3_reduce", "conv2": "conv2/3x3", "fc": "loss3/classifier",
    r"inception_(\d.)_(.+)": "inception_{}/{}",
    r"aux(\d)_conv": "loss{}/conv", r"aux(\d)_fc1": "loss{}/fc", r"aux(\d)_fc2": "loss{}/classifier"}
FASTER_RCNN = {"rpn_conv": "rpn_conv/3x3", "rpn_cls": "rpn_cls_score", "rpn_reg": "rpn_bbox_pred", **SAME}
AUXILIARY = tuple(f"aux{i}_{layer}" for i in (1, 2) for layer in ("conv", "fc1", "fc2"))


def _fcn(name):
    """Layers of an FCN whose maps are the classes."""
    v = fcn.VARIANTS[name]
    return ("score_fr", v.upsampling, *(layer for up, pool, _ in v.skips for layer in (up, f"score_{pool}")))


def _fed(*bgr):
    return names.Fed(bgr[::-1], (1.0,) * 3, bgr=True)


ILSVRC_2012 = _fed(104.00698793, 116.66876762, 122.67891434)  # Caffe's mean image, averaged

FAMILIES = {
    "alexnet": names.Family(SAME, ILSVRC_2012, names.FC),  # bvlc_alexnet
    "googlenet": names.Family(GOOGLENET, _fed(104, 117, 123), dropped=("loss1/", "loss2/")),  # bvlc_googlenet
    "googlenet_aux": names.Family(GOOGLENET, _fed(104, 117, 123), ("fc", *AUXILIARY),
                                  classifiers=("fc", "aux1_fc2", "aux2_fc2")),
    **dict.fromkeys(("vgg16", "vgg19"), names.Family(SAME, names.CAFFE, names.FC)),  # VGG_ILSVRC_16_layers, 19
    **{name: names.Family(SAME, ILSVRC_2012, _fcn(name), classifiers=_fcn(name))  # fcn32s-heavy-pascal and so on
       for name in ("fcn32s", "fcn16s", "fcn8s")},
    "faster_rcnn_vgg16": names.Family(FASTER_RCNN, _fed(102.9801, 115.9465, 122.7717), ("cls_score", "bbox_pred"),
                                      classifiers=("cls_score", "bbox_pred")),  # VGG16_faster_rcnn_final
}
