"""Caffe's files: written here byte by byte, read, carried over; answers as of the same nets in torch.

Those in torch need an environment that KERAS_CNNS_TORCHVISION names, as in donors.py.
"""

import functools
import struct

import keras
import numpy as np
import pytest

from keras_cnns import create_model, weights
from keras_cnns.errors import InputError
from keras_cnns.models.detection import faster_rcnn
from keras_cnns.models.segmentation import fcn
from keras_cnns.weights import caffe, carry, names
from tests.weights import donors


# Protocol buffers' wire format, and the numbers of fields in caffe.proto.

def varint(n):
    return bytes([n]) if n < 128 else bytes([n % 128 + 128]) + varint(n // 128)


def field(number, payload):
    """A whole number, or bytes after their length."""
    if isinstance(payload, int):
        return varint(8 * number) + varint(payload)
    return varint(8 * number + 2) + varint(len(payload)) + payload


def blob(array, old=False, double=False):
    shape = field(7, field(1, b"".join(map(varint, array.shape))))
    if old:  # num, channels, height, width
        shape = b"".join(field(i, n) for i, n in enumerate((1,) * (4 - array.ndim) + array.shape, 1))
    data = field(8, array.astype("<f8").tobytes()) if double else field(5, array.astype("<f4").tobytes())
    return data + shape


def net(layers, old=False, **form):
    """`{name: arrays}` as a NetParameter, after a layer without any, with fields that no reader of weights needs."""
    written = field(1, b"a net") + field(3, b"data")
    if old:
        written += field(2, field(4, b"relu1") + field(5, 18))
        for name, arrays in layers.items():
            blobs = b"".join(field(6, blob(array, True, **form)) for array in arrays)
            written += field(2, field(2, b"below") + field(4, name.encode()) + blobs + field(5, 4)
                             + varint(8 * 7 + 5) + struct.pack("<f", 1.0))
    else:
        written += field(100, field(1, b"relu1") + field(2, b"ReLU"))
        for name, arrays in layers.items():
            blobs = b"".join(field(7, blob(array, **form)) for array in arrays)
            written += field(100, field(1, name.encode()) + field(2, b"Convolution") + blobs + field(10, 1))
    return written


def some_layers():
    rng = np.random.default_rng(0)
    shapes = {"conv1": ((4, 3, 5, 5), (4,)), "fc6": ((7, 100), (7,)), "upscore": ((2, 2, 4, 4),), "one": ((1, 7), (1,))}
    return {name: tuple(rng.normal(size=s).astype("float32") for s in of) for name, of in shapes.items()}


@pytest.mark.parametrize("form", [{}, {"old": True}, {"double": True}, {"old": True, "double": True}], ids=str)
def test_files_of_either_form_are_read(form, tmp_path):
    path, layers = tmp_path / "a.caffemodel", some_layers()
    path.write_bytes(net(layers, **form))
    found = caffe.read(path)
    assert list(found) == list(layers)
    for name, arrays in layers.items():
        assert len(found[name]) == len(arrays)
        for ours, theirs in zip(found[name], arrays):
            assert ours.dtype == "float32" and ours.shape == theirs.shape
            np.testing.assert_array_equal(ours, theirs)
    donor = caffe.donor(str(path))
    assert list(donor) == ["conv1.weight", "conv1.bias", "fc6.weight", "fc6.bias", "upscore.weight", "one.weight",
                           "one.bias"]
    np.testing.assert_array_equal(donor["fc6.bias"], layers["fc6"][1])


def test_more_than_two_arrays_of_a_layer_are_numbered(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(net({"bn1": (np.ones(3), np.ones(3), np.array([999.0]))}))
    assert list(caffe.donor(path)) == ["bn1.weight", "bn1.bias", "bn1.2"]


def test_a_file_cut_anywhere_is_refused_or_lacks_whole_layers(tmp_path):
    whole, path, layers = net(some_layers()), tmp_path / "cut.caffemodel", some_layers()
    read = 0
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            found = caffe.read(path)
        except InputError as error:
            assert "cut.caffemodel" in str(error) and "\n" not in str(error)
        else:
            read += 1
            assert len(found) < len(layers)
            assert all(np.array_equal(a, b) for name in found for a, b in zip(found[name], layers[name]))
    assert read <= len(layers)


@pytest.mark.parametrize("content, says", [
    (b"", "no layer with weights"), (b'name: "AlexNet"\nlayer {\n  name: "data"\n}\n', "b.caffemodel: no"),
    (b"<html>404</html>", "b.caffemodel: no"), (b"\x89HDF\r\n\x1a\n" + bytes(100), "b.caffemodel: no"),
    (np.random.default_rng(0).bytes(1000), "b.caffemodel: no"),
    (field(100, field(1, b"conv1") + field(7, field(5, bytes(12)) + field(7, field(1, b"\x02\x02")))),
     r"layer 'conv1': 12 bytes of numbers for a shape of \(2, 2\)"),
    (field(100, field(1, b"conv1") + field(7, field(5, bytes(13)) + field(7, field(1, b"\x03")))), "13 bytes"),
    (field(100, field(1, b"conv1") + field(7, field(7, field(1, b"\xff" * 9 + b"\x01")))), r"0 bytes .* \(-1,\)"),
    (net({"relu1": ()}), "no layer with weights"),
])
def test_what_is_no_file_of_weights_is_refused(content, says, tmp_path):
    (tmp_path / "b.caffemodel").write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        caffe.read(tmp_path / "b.caffemodel")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "nowhere.caffemodel", tmp_path):
        with pytest.raises(InputError, match="no such file"):
            caffe.read(path)


def test_changed_bytes_give_numbers_or_an_error(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "a.caffemodel"
    for _ in range(300):
        content = bytearray(net(some_layers(), old=bool(rng.integers(2))))
        for position in rng.integers(len(content), size=3):
            content[position] = rng.integers(256)
        path.write_bytes(content)
        try:
            caffe.donor(path)
        except InputError as error:
            assert "a.caffemodel" in str(error)


# Answers

UNITS = 24  # of FCN's fc6 and fc7 here


def in_torch(name, height, width, units, folder):
    """A net's answers, pixels, and its weights as a file."""
    donors.run_torch("torch_caffe.py", name, height, width, units, folder / "donor.npz")
    with np.load(folder / "donor.npz") as file:
        donor = dict(file)
    (folder / "donor.npz").unlink()
    layers = {}
    for key in donor:
        if key.startswith("weights/"):
            layers.setdefault(key.removeprefix("weights/").split("|")[0], []).append(donor[key])
    (folder / "a.caffemodel").write_bytes(net(layers, old=len(name) % 2 == 0))
    answers = {key.removeprefix("answer/"): donor[key] for key in donor if key.startswith("answer/")}
    return answers, donor["pixels"], folder / "a.caffemodel"


def difference(network, pixels, answers):
    """The largest of a logit, to the largest of its head."""
    heads = {name: network.get_layer(name).input for name in answers if name in network.output_names}
    found = keras.Model(network.input, heads)(pixels)
    assert min(answers[name].std() for name in heads) > 0.1
    return max(np.abs(np.array(found[name]) - answers[name]).max() / np.abs(answers[name]).max() for name in heads)


@donors.needs_torchvision
@pytest.mark.parametrize("name, ours, sizes, units", [
    ("bvlc_alexnet", ("alexnet",), ((99, 131), (67, 195), (227, 227)), 4096),
    ("bvlc_googlenet", ("googlenet_aux", "googlenet"), ((80, 128), (96, 112), (224, 224)), 1024),
    ("fcn8s", ("fcn8s",), ((21, 38), (50, 33), (64, 64)), UNITS),
    *(pytest.param(*row, marks=pytest.mark.slow) for row in [
        ("fcn32s", ("fcn32s",), ((21, 38), (50, 33), (64, 64)), UNITS),
        ("fcn16s", ("fcn16s",), ((21, 38), (50, 33), (64, 64)), UNITS),
        ("vgg_ilsvrc_16", ("vgg16",), ((64, 96), (96, 64), (32, 64)), 4096),
        ("vgg_ilsvrc_19", ("vgg19",), ((64, 96), (96, 64), (32, 64)), 4096)])])
def test_answers_are_those_of_caffes_net(name, ours, sizes, units, tmp_path, monkeypatch):
    monkeypatch.setattr(fcn, "WIDTH", UNITS)
    found = {}
    for height, width in sizes:
        answers, pixels, path = in_torch(name, height, width, units, tmp_path)
        donor = caffe.donor(path)
        path.unlink()
        for our in ours:
            network = create_model(our, pixels.shape[1:])
            report = weights.transfer(network, donor)
            found[our, height, width] = difference(network, pixels, answers)
            assert found[our, height, width] < 1e-4
            assert not report.kept and bool(report.notes) == (not our.startswith("fcn"))
            assert {key[:6] for key in report.left_out} == ({"loss1/", "loss2/"} if our == "googlenet" else set())
            assert len(report.carried) + len(report.left_out) == len(donor)
    for our in ours:
        donors.record(our, "caffe", "largest difference of a logit to the largest logit" + (
            f", fc6 and fc7 of {UNITS} maps" if our.startswith("fcn") else ""),
            f"{max(value for key, value in found.items() if key[0] == our):.1e}",
            ", ".join(f"{height}x{width}" for height, width in sizes))


def test_zeros_of_the_same_shapes_are_carried_and_other_nets_refused(monkeypatch):
    monkeypatch.setattr(fcn, "WIDTH", UNITS)
    coarse, fine = (create_model(name, (8, 8, 3), 21) for name in ("fcn16s", "fcn8s"))

    def zeros(network):
        return caffe.Donor({f"{layer.name}.{'weight' if w.name == 'kernel' else 'bias'}": np.zeros(
            [w.shape[i] for i in (3, 2, 0, 1)] if len(w.shape) == 4 else w.shape, "float32")
            for layer in network.layers for w in layer.weights})

    report = weights.transfer(coarse, zeros(coarse))
    assert len(report.carried) == len(coarse.weights) and not report.notes
    with pytest.raises(InputError, match=r"missing: upscore_pool4\.weight, score_pool3\.weight.*left over: upscore16"):
        weights.transfer(fine, zeros(coarse))
    more = create_model("fcn16s", (8, 8, 3), 5)
    with pytest.raises(InputError, match="wrong shape"):
        weights.transfer(more, zeros(coarse))
    assert "upscore16/kernel" in weights.transfer(more, zeros(coarse), new_head=True).kept


def test_deviations_are_divided_out():
    rng = np.random.default_rng(0)
    tensors = {"bbox_pred.weight": rng.normal(size=(84, 6)), "bbox_pred.bias": rng.normal(size=84)}
    ours, y = caffe.as_ours("faster_rcnn_vgg16", tensors), rng.normal(size=6)
    offsets = (tensors["bbox_pred.weight"] @ y + tensors["bbox_pred.bias"]).reshape(21, 4)
    found = (ours["bbox_pred.weight"] @ y + ours["bbox_pred.bias"]).reshape(21, 4)
    np.testing.assert_allclose(found * (0.1, 0.1, 0.2, 0.2), offsets, rtol=1e-6)


def test_the_authors_faster_rcnn_is_carried_over(monkeypatch, tmp_path):
    row = faster_rcnn.VARIANTS["faster_rcnn_vgg16"]
    narrow = functools.partial(faster_rcnn.fully_connected, width=6, dropout=0.5)
    monkeypatch.setitem(faster_rcnn.VARIANTS, "faster_rcnn_vgg16", row._replace(head=narrow))
    network = create_model("faster_rcnn_vgg16", (32, 48, 3))
    rng, layers = np.random.default_rng(0), {}
    for layer in carry.leaves(network):
        if layer.name in ("anchor_targets", "sample_rois") or not layer.weights:
            continue
        shape = layer.kernel.shape
        shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
        layers[names.find(caffe.FASTER_RCNN, layer.name)] = tuple(
            rng.normal(0, 0.1, s).astype("float32") for s in (shape, shape[:1]))
    assert layers["rpn_cls_score"][0].shape == (18, 512, 1, 1) and layers["bbox_pred"][0].shape == (84, 6)
    (tmp_path / "final.caffemodel").write_bytes(net(layers))
    report = weights.transfer(network, weights.read(tmp_path / "final.caffemodel"))
    assert len(report.carried) == 2 * len(layers) and not report.left_out + report.kept + report.notes

    # The first layer sees BGR; scores of anchors are background's, then objects'; a region's rows count channels first.
    kernel = np.array(carry.leaf(network, "conv1_1").kernel)
    np.testing.assert_allclose(kernel[:, :, ::-1].transpose(3, 2, 0, 1), layers["conv1_1"][0], rtol=1e-6)
    head, maps = network.get_layer("rpn_head"), rng.normal(size=(1, 1, 1, 512)).astype("float32")
    hidden = np.maximum(layers["rpn_conv/3x3"][0][:, :, 1, 1] @ maps[0, 0, 0] + layers["rpn_conv/3x3"][1], 0)
    scores = layers["rpn_cls_score"][0][..., 0, 0] @ hidden + layers["rpn_cls_score"][1]
    np.testing.assert_allclose(head(maps)[0][0], scores[9:] - scores[:9], atol=1e-3)
    x = pooled = rng.normal(size=(7, 7, 512)).astype("float32")
    x = x.transpose(2, 0, 1).ravel()
    for name in ("fc6", "fc7"):
        x = np.maximum(layers[name][0] @ x + layers[name][1], 0)
    logits, offsets = network.get_layer("roi_head")(pooled[None, None])
    np.testing.assert_allclose(logits[0, 0], layers["cls_score"][0] @ x + layers["cls_score"][1], rtol=1e-3, atol=1e-3)
    want = (layers["bbox_pred"][0] @ x + layers["bbox_pred"][1]).reshape(21, 4)[1:]
    np.testing.assert_allclose(np.array(offsets[0, 0]) * (0.1, 0.1, 0.2, 0.2), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("ours, theirs", {
    "conv1_1": "conv1_1", "conv5_3": "conv5_3", "rpn_conv": "rpn_conv/3x3", "rpn_cls": "rpn_cls_score",
    "rpn_reg": "rpn_bbox_pred", "fc6": "fc6", "cls_score": "cls_score", "bbox_pred": "bbox_pred"}.items())
def test_names_of_faster_rcnn(ours, theirs):
    assert names.find(caffe.FASTER_RCNN, ours) == theirs


def test_tensors_of_other_shapes_reach_the_refusal():
    for name, changes in caffe.CHANGES.items():
        for shape in ((), (3,), (3, 5), (2, 3, 4, 5)):
            tensors = dict.fromkeys(changes, np.zeros(shape or 1))
            assert caffe.as_ours(name, tensors).keys() == changes.keys()
