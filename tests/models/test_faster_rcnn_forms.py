"""Faster R-CNN in the paper's form, in that of ResNet's paper, and on any classifier of the zoo."""

import keras
import numpy as np
import pytest

from keras_cnns.errors import InputError
from keras_cnns.models import create_model, detector, info, load_weights
from keras_cnns.models.detection import faster_rcnn
from keras_cnns.weights import carry, zoo

HEIGHT, WIDTH = 64, 96
AUTHORS = [[-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],  # their generate_anchors, x2 inclusive
           [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
           [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359]]


def weightless(*arguments, **options):
    return info.weightless(lambda: create_model(*arguments, **options))


def some_input(height=HEIGHT, width=WIDTH):
    box = np.array([width, height] * 2, "float32") * np.float32([[0.1, 0.1, 0.7, 0.9], [0.4, 0.3, 0.9, 0.8]])
    return {"image": np.random.default_rng(0).uniform(0, 255, (2, height, width, 3)).astype("float32"),
            "boxes": np.stack([box] * 2), "labels": np.int32([[1, 3], [2, 0]])}


def leaf(network, name):
    return carry.leaf(network, name)


def test_vgg_has_the_parameters_and_multiply_adds_of_the_reference():
    def counted():
        network = create_model("faster_rcnn_vgg16")
        return info.parameters(network), info.cost(detector(network, proposals=1))[0], info.cost(detector(network))[0]

    parameters, of_one_region, of_300 = info.weightless(counted)
    assert parameters == (137_078_239, 137_078_239)
    assert of_one_region == pytest.approx(189.7036e9, rel=1e-4)
    assert of_300 - of_one_region == pytest.approx(299 * 0.11997e9, rel=1e-4)


def test_vgg_is_the_authors_network():
    network = weightless("faster_rcnn_vgg16", frozen_stages=2)
    names = {layer.name for layer in carry.leaves(network)}
    assert {"conv1_1", "conv5_3", "rpn_conv", "rpn_cls", "rpn_reg", "flatten", "fc6", "fc7", "cls_score", "bbox_pred",
            "fc6_dropout", "fc7_dropout"} <= names and "pool5" not in names
    last = network.get_layer("backbone").layers[-1]
    assert last.name == "conv5_3_relu" and last.output.shape[1:] == (None, None, 512)
    assert network.get_layer("roi_pool").output.shape == (None, 128, 7, 7, 512)
    assert network.get_layer("proposals").get_config()["top_n"] == 2000
    np.testing.assert_allclose(np.ravel(leaf(network, "normalize").get_config()["mean"])[::-1],
                               (102.9801, 115.9465, 122.7717))
    learns = {layer.name: layer.trainable for layer in network.get_layer("backbone").layers if layer.weights}
    assert {name for name in learns if not learns[name]} == {"conv1_1", "conv1_2", "conv2_1", "conv2_2"}


def test_the_anchors_are_the_authors():
    exclusive = np.array(AUTHORS, "float32") + (0, 0, 1, 1)
    np.testing.assert_array_equal(faster_rcnn.about_centre(16, (8, 16, 32)), exclusive)
    network = weightless("faster_rcnn_vgg16")  # 600x1000 pixels, 38x63 cells
    layer = network.get_layer("anchors")
    anchors, = layer(np.zeros((1, 600, 1000, 3), "float32"), [np.zeros((1, 38, 63, 512), "float32")])
    shifts = np.array([(x, y, x, y) for y in range(0, 38 * 16, 16) for x in range(0, 63 * 16, 16)], "float32")
    np.testing.assert_array_equal(anchors, (shifts[:, None] + exclusive).reshape(-1, 4))
    assert network.output["predictions"]["rpn_cls"].shape == (None, 38 * 63 * 9)


def test_the_sigmoid_of_a_logit_is_the_softmax_of_two_scores():
    head = faster_rcnn.rpn_head(4, 9, 8, scores=2)
    maps = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    scores = np.array(keras.Model(head.input, head.get_layer("rpn_cls").output)(maps)).reshape(2, 3, 5, 2, 9)
    want = np.exp(scores[..., 1, :]) / np.exp(scores).sum(-2)
    logits = np.array(head(maps)[0])
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), want.reshape(2, -1), rtol=1e-5)


@pytest.mark.parametrize("resnet, channels", [("resnet18", (256, 512)), ("resnet50", (1024, 2048)),
                                              ("resnet101", (1024, 2048))])
def test_c4_is_all_of_resnet_and_four_layers_more(resnet, channels):
    shared, wide = channels
    network, trunk = weightless(f"faster_rcnn_{resnet}_c4"), weightless(resnet, num_classes=None)
    rpn = shared * 9 * 512 + 512 + (18 + 36) * 513
    assert info.parameters(network)[1] == info.parameters(trunk)[1] + rpn + (wide + 1) * (21 + 84)
    theirs = {layer.name: [w.shape for w in layer.weights] for layer in trunk.layers if layer.weights}
    ours = {layer.name: [w.shape for w in layer.weights] for layer in carry.leaves(network) if layer.weights}
    assert {name: ours.get(name) for name in theirs} == theirs
    assert {name for name in ours.keys() - theirs.keys() if ours[name] and "sample" not in name} == {
        "rpn_conv", "rpn_cls", "rpn_reg", "cls_score", "bbox_pred"} | {
        name for name in ours if name == "anchor_targets"}
    assert network.get_layer("roi_pool").output.shape[2:] == (14, 14, shared)
    assert leaf(network, "conv5_x").output.shape[1:] == (7, 7, wide)
    norms = [layer for layer in carry.leaves(network) if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) > 15 and not any(layer.trainable for layer in norms)


@pytest.mark.slow
def test_c4_takes_a_classifiers_weights_by_name_and_detects(tmp_path):
    keras.utils.set_random_seed(0)
    network = create_model("faster_rcnn_resnet18_c4", (HEIGHT, WIDTH, 3), 3)
    classifier = create_model("resnet18", num_classes=None)
    zoo._take(network, classifier)
    for name in ("conv1_conv", "conv4_2_2_conv", "conv5_1_shortcut_conv", "conv5_2_2_bn"):
        for ours, theirs in zip(leaf(network, name).get_weights(), classifier.get_layer(name).get_weights()):
            np.testing.assert_array_equal(ours, theirs)
    saved_and_loaded_it_detects_the_same(network, tmp_path)


def test_the_c4_head_answers_for_each_region_alone():
    keras.utils.set_random_seed(0)
    head = faster_rcnn.roi_head(faster_rcnn.VARIANTS["faster_rcnn_resnet18_c4"], (14, 14, 8), 3)
    pooled = np.random.default_rng(0).normal(size=(2, 3, 14, 14, 8)).astype("float32")
    logits, offsets = faster_rcnn.over_regions(head, pooled)
    assert logits.shape == (2, 3, 4) and offsets.shape == (2, 3, 3, 4)
    for i in range(2):
        one, box = head(pooled[i])
        np.testing.assert_allclose(logits[i], one, atol=1e-5)
        np.testing.assert_allclose(offsets[i], box, atol=1e-5)


def saved_and_loaded_it_detects_the_same(network, folder):
    x = some_input()
    assert all(np.isfinite(np.array(part)).all() for part in network(x)["predictions"].values())
    network.save(folder / "n.keras")
    again = keras.saving.load_model(folder / "n.keras", compile=False)
    assert again.name == network.name
    want, got = (detector(n, score_threshold=0.01).predict(x["image"], verbose=0) for n in (network, again))
    assert want["count"].sum() > 0
    for key in want:
        np.testing.assert_allclose(got[key], want[key], atol=1e-4)


@pytest.mark.parametrize("backbone, features", [
    ("mobilenet_v1_025", "conv11_pw_relu"),
    pytest.param("inception_v2", ("inception_3b", "inception_4d", "inception_5b"), marks=pytest.mark.slow),
    pytest.param("densenet121", ("dense_block3",), marks=pytest.mark.slow),
    pytest.param("vgg16", ("conv4_3_relu", "conv5_3_relu"), marks=pytest.mark.slow),
    pytest.param("inception_v3", ("mixed_6e",), marks=pytest.mark.slow)])
def test_on_any_classifier_it_trains_saves_loads_and_detects(backbone, features, tmp_path):
    keras.utils.set_random_seed(0)
    side = dict(input_shape=(HEIGHT, WIDTH, 3)) if backbone != "inception_v3" else dict(input_shape=(128, 160, 3))
    network = create_model("faster_rcnn", num_classes=3, backbone=backbone, features=features, **side)
    assert network.name == "faster_rcnn"
    network.compile(keras.optimizers.SGD(1e-4), loss=faster_rcnn.losses("faster_rcnn"))
    x = some_input(*side["input_shape"][:2])
    before = [np.array(w) for w in network.trainable_weights]
    assert np.isfinite(network.train_on_batch(x)).all()
    after = [np.array(w) for w in network.trainable_weights]
    assert all(np.isfinite(w).all() for w in after)
    assert sum(np.any(a != b) for a, b in zip(after, before)) > len(after) / 2
    if backbone != "inception_v3":
        saved_and_loaded_it_detects_the_same(network, tmp_path)


@pytest.mark.parametrize("backbone, features, strides", [
    ("mobilenet_v1_025", "conv5_pw_relu", [8]), ("inception_v2", "inception_4d", [16]),
    ("inception_v2", "inception_4e", [32]), ("vgg16", ("conv5_3",), [16]), ("alexnet", ("conv5",), [16]),
    ("inception_v3", ("mixed_6e",), [16]), ("resnet18", ("conv3_x", "conv4_x", "conv5_x"), [8, 16, 32, 64]),
    ("vgg16", ("conv3_3", "conv4_3"), [4, 8, 16])])
def test_strides_are_read_from_the_graph(backbone, features, strides):
    network = weightless("faster_rcnn", (256, 256, 3), backbone=backbone, features=features)
    pool = network.get_layer("roi_pool").stride
    assert list(np.ravel(pool)) == strides[:max(len(strides) - 1, 1)]
    widths = [np.array(boxes)[0, 2] - np.array(boxes)[0, 0] for boxes in network.get_layer("anchors").references]
    np.testing.assert_allclose(widths, np.array(strides) * 8 * 2**0.5, rtol=0.05)


@pytest.mark.parametrize("backbone", ["vgg16", "resnet101", "resnext50_32x4d", "inception_v2", "inception_v3",
                                      "inception_resnet_v2", "mobilenet_v1_025", "densenet121"])
def test_where_no_layer_is_named_it_is_the_papers_of_stride_16(backbone):
    pool = weightless("faster_rcnn", (256, 256, 3), backbone=backbone).get_layer("roi_pool")
    assert pool.stride == 16


def test_levels_of_a_pyramid_are_named_by_their_strides():
    network = weightless("faster_rcnn", (None, None, 3), backbone="mobilenet_v1_025",
                         features=("conv5_pw_relu", "conv11_pw_relu"))
    names = {layer.name for layer in network.get_layer("backbone").layers}
    assert {"P3", "P4", "P5"} <= names and not {"P2", "P6"} & names


@pytest.mark.parametrize("name", faster_rcnn.VARIANTS)
def test_images_of_any_size_are_taken(name):
    network = weightless(name, (None, None, 3))
    assert info.weightless(lambda: detector(network)).input_shape == (None, None, None, 3)


@pytest.mark.parametrize("options, says", [
    (dict(backbone="inception_v2", features=("inception_4x",)), "no layer 'inception_4x'.*: inception_4[a-e]"),
    (dict(backbone="resnet18", features=("conv4",)), "no layer 'conv4'.*conv4_x"),
    (dict(backbone="resnet18", features=("avg_pool",)), "no layer 'avg_pool'"),
    (dict(backbone="inception_v5", features=("x",)), "Did you mean inception_v4"),
    (dict(backbone="fcn8s", features=("x",)), "segmentation; give a classifier"),
    (dict(backbone="resnet18", features=()), "name a layer of resnet18"),
    (dict(backbone="resnet18", features=("conv4_x", "conv3_x")), "32x64, 64x128 cells"),
    (dict(backbone="resnet18", features=("conv2_x", "conv4_x")), "twice the next"),
    (dict(backbone="inception_v3", features=("mixed_5d", "mixed_6e")), "twice the next"),
    (dict(backbone="alexnet"), "name its layers.*known of vgg16"),
    (dict(backbone="fcn8s"), "name its layers"), (dict(features=("conv4_x",)), "takes a backbone, and then")])
def test_what_cannot_be_is_refused_in_one_line(options, says):
    with pytest.raises(InputError, match=says) as error:
        weightless("faster_rcnn", **options)
    assert "\n" not in str(error.value)


def test_rows_with_a_backbone_of_their_own_take_no_other():
    with pytest.raises(InputError, match="take neither"):
        create_model("faster_rcnn_vgg16", backbone="resnet18", features=("conv4_x",))


def test_frozen_stages_are_told_from_later_ones_by_their_whole_number():
    network = weightless("faster_rcnn", (64, 64, 3), backbone="mobilenet_v1_025", features="conv11_pw_relu",
                         frozen_stages=2)
    fixed = {layer.name.split("_")[0] for layer in network.get_layer("backbone").layers
             if layer.weights and not layer.trainable}
    assert fixed == {"conv0", "conv1", "conv2"}
    assert all(layer.trainable for layer in carry.leaves(tiny()))


def tiny(input_shape=(HEIGHT, WIDTH, 3), num_classes=3):
    keras.utils.set_random_seed(0)
    return create_model("faster_rcnn", input_shape, num_classes, backbone="mobilenet_v1_025", features="conv11_pw_relu")


@pytest.mark.slow
def test_images_smaller_than_a_stride_have_finite_losses():
    network = tiny((5, 7, 3))
    network.compile("sgd", loss=faster_rcnn.losses("faster_rcnn"))
    assert np.isfinite(network.train_on_batch(some_input(5, 7))).all()
    found = detector(network, score_threshold=0.0).predict(some_input(5, 7)["image"], verbose=0)
    assert found["boxes"].max() <= 7


def test_vgg_makes_one_cell_of_less_than_a_stride():
    assert weightless("faster_rcnn_vgg16", (5, 7, 3)).output["predictions"]["rpn_cls"].shape == (None, 9)


@pytest.mark.slow
def test_without_proposals_losses_are_finite_and_nothing_is_found(monkeypatch):
    row = faster_rcnn.VARIANTS["faster_rcnn"]
    monkeypatch.setitem(faster_rcnn.VARIANTS, "faster_rcnn", row._replace(min_size=1e9))
    network, x = tiny(), some_input()
    x["labels"][1] = 0  # an image without objects has no region at all
    assert np.array(keras.Model(network.input, network.get_layer("proposals").output)(x)).max() == 0
    network.compile("sgd", loss=faster_rcnn.losses("faster_rcnn"))
    assert np.isfinite(network.train_on_batch(x)).all()
    assert detector(network, score_threshold=0.0).predict(x["image"], verbose=0)["count"].sum() == 0


def test_weights_of_other_classes_or_another_backbone_are_refused(tmp_path):
    network = tiny()
    network.save(tmp_path / "a.keras")
    network.save_weights(tmp_path / "a.weights.h5")
    for file in ("a.keras", "a.weights.h5"):
        with pytest.raises(InputError, match="do not fit faster_rcnn") as error:
            load_weights(tiny(num_classes=4), tmp_path / file)
        assert "\n" not in str(error.value)
        load_weights(network, tmp_path / file)
