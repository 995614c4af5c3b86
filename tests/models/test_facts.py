"""What each paper's figure or table says and a wrong implementation gets wrong."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnns.errors import InputError
from keras_cnns.models import create_model, info
from keras_cnns.models.classification import common, nin, resnet_v2


def weightless(name, *arguments, **options):
    return info.weightless(lambda: create_model(name, *arguments, **options))


def shapes(network, *names):
    """(side, maps) of each layer's answer."""
    return [(network.get_layer(n).output.shape[1], network.get_layer(n).output.shape[-1]) for n in names]


def test_lenet_has_the_connections_of_table_1_and_340908_in_all():
    network = create_model("lenet5")
    table = network.get_layer("c3_conv").table
    assert [len(row) for row in table] == [3] * 6 + [4] * 9 + [6] and sum(map(len, table)) == 60
    sides = {"c1": 28, "s2": 14, "c3": 10, "s4": 5, "c5": 1}
    assert [network.get_layer(n).output.shape[1] for n in sides] == list(sides.values())
    connections = 28**2 * 6 * 26 + 14**2 * 6 * 5 + 10**2 * (60 * 25 + 16) + 5**2 * 16 * 5 + 120 * 401 + 84 * 121
    assert connections + network.get_layer("output").codes.size == 340_908


def test_alexnet_has_55_27_13_and_6_cells_and_two_towers_in_conv2_4_and_5():
    network = weightless("alexnet")
    assert shapes(network, "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5") == [
        (55, 96), (27, 96), (27, 256), (13, 256), (13, 384), (13, 384), (13, 256), (6, 256)]
    assert [network.get_layer(f"conv{i}").groups for i in range(1, 6)] == [1, 2, 1, 2, 2]
    order = [layer.name for layer in network.layers]
    assert order.index("conv1_relu") < order.index("norm1") < order.index("pool1")
    assert order.index("fc6") < order.index("fc6_dropout") < order.index("fc7")


def test_zfnet_rounds_up_when_pooling():
    network = weightless("zfnet")
    assert shapes(network, "conv1", "pool1", "conv2", "pool2", "conv5", "pool5") == [
        (110, 96), (55, 96), (26, 256), (13, 256), (13, 256), (6, 256)]


def test_nin_pools_by_max_then_by_average_and_has_no_dense_layer():
    network = weightless("nin_cifar")
    assert shapes(network, "pool1", "pool2", "cccp6") == [(16, 96), (8, 192), (8, 10)]
    assert isinstance(network.get_layer("pool1"), layers.MaxPooling2D)
    assert isinstance(network.get_layer("pool2"), layers.AveragePooling2D)
    assert not any(isinstance(layer, layers.Dense) for layer in network.layers)


def caffe_pool(image, reduce):
    """3x3 with stride 2 over `[H, W, C]`, windows cut off at the border, one after another."""
    height, width, _ = image.shape
    rows, columns = (-(-(n - 3) // 2) + 1 for n in (height, width))
    return np.array([[reduce(image[2 * i:2 * i + 3, 2 * j:2 * j + 3], axis=(0, 1)) for j in range(columns)]
                     for i in range(rows)])


@pytest.mark.parametrize("height, width", [(8, 8), (9, 12), (13, 7), (3, 4)])
def test_pooling_rounds_up_as_caffe_does_like_a_loop(height, width):
    image = np.random.default_rng(0).uniform(0, 1, (1, height, width, 2)).astype("float32")
    x = keras.Input(image.shape[1:])
    for pool, reduce in ((common.caffe_max_pool(x, 3, 2, "p"), np.max), (nin.caffe_average_pool(x, "q"), np.mean)):
        np.testing.assert_allclose(keras.Model(x, pool)(image)[0], caffe_pool(image[0], reduce), rtol=1e-5)


def test_vgg_c_differs_from_d_in_three_kernels():
    c, d = weightless("vgg16c"), weightless("vgg16")
    other = [a.name for a, b in zip(c.layers, d.layers)
             if isinstance(a, layers.Conv2D) and a.kernel_size != b.kernel_size]
    assert other == ["conv3_3", "conv4_3", "conv5_3"]
    assert weightless("vgg11_lrn").get_layer("norm1").output.shape[1:] == (224, 224, 64)


def test_googlenet_has_the_maps_of_table_1():
    modules = [f"inception_{key}" for key in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    assert shapes(weightless("googlenet"), *modules) == [
        (28, 256), (28, 480), (14, 512), (14, 512), (14, 512), (14, 528), (14, 832), (7, 832), (7, 1024)]


def test_the_naive_module_passes_all_maps_of_its_pooling():
    network = weightless("googlenet", naive=True)
    assert network.get_layer("inception_3a").output.shape[1:] == (28, 28, 416)
    module = [layer for layer in network.layers if layer.name.startswith("inception_3a")]
    assert sum(layer.count_params() for layer in module) == 387_296


def test_googlenets_auxiliary_classifiers_hang_on_4a_and_4d():
    network = weightless("googlenet_aux")
    assert set(network.output) == {"predictions", "aux1", "aux2"}
    assert [network.get_layer(f"aux{i}_pool").input.shape[-1] for i in (1, 2)] == [512, 528]
    assert network.get_layer("aux1_pool").output.shape[1:] == (4, 4, 512)
    assert network.get_layer("aux2_dropout").rate == 0.7


def test_inception_v2_has_the_maps_of_figure_5():
    modules = [f"inception_{key}" for key in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    network = weightless("inception_v2")
    assert shapes(network, *modules) == [
        (28, 256), (28, 320), (14, 576), (14, 576), (14, 576), (14, 608), (14, 608), (7, 1056), (7, 1024), (7, 1024)]
    assert isinstance(network.get_layer("inception_5a_pool"), layers.AveragePooling2D)
    assert isinstance(network.get_layer("inception_5b_pool"), layers.MaxPooling2D)


def test_inception_v3_has_35_17_and_8_cells():
    assert shapes(weightless("inception_v3"), "pool2", "mixed_5b", "mixed_5d", "mixed_6a", "mixed_6e", "mixed_7a",
                  "mixed_7c") == [
        (35, 192), (35, 256), (35, 288), (17, 768), (17, 768), (8, 1280), (8, 2048)]


@pytest.mark.parametrize("name, maps", [
    ("inception_v4", (384, 1024, 1024, 1536, 1536)), ("inception_resnet_v1", (256, 896, 896, 1792, 1792)),
    ("inception_resnet_v2", (320, 1088, 1088, 2080, 2080)),
    ("inception_resnet_v2_paper", (384, 1152, 1152, 2144, 2144))])
def test_inception_v4_and_the_inception_resnets_have_the_maps_of_their_figures(name, maps):
    found = shapes(weightless(name), "inception_a_1", "reduction_a", "inception_b_1", "reduction_b", "inception_c_1")
    assert found == list(zip((35, 17, 17, 8, 8), maps))


def test_the_last_module_of_the_released_inception_resnet_v2_is_neither_scaled_nor_rectified():
    network = weightless("inception_resnet_v2")
    assert isinstance(network.get_layer("inception_c_10"), layers.Add)
    scales = [layer.scale for layer in network.layers if isinstance(layer, layers.Rescaling)]
    assert scales == [0.17] * 10 + [0.10] * 20 + [0.20] * 9


@pytest.mark.parametrize("name", ["resnet18_a", "resnet20_cifar"])
def test_shortcut_a_copies_every_second_pixel_and_adds_zeros(name):
    network = create_model(name, (32, 32, 3))
    subsample = network.get_layer("conv3_1_shortcut_subsample")
    shortcut = keras.Model(subsample.input, network.get_layer("conv3_1_add").input[0])
    x = np.random.default_rng(0).normal(size=(1, *subsample.input.shape[1:])).astype("float32")
    y = np.array(shortcut(x))
    np.testing.assert_array_equal(y[..., :x.shape[-1]], x[:, ::2, ::2])
    assert y.shape[-1] == 2 * x.shape[-1] and not y[..., x.shape[-1]:].any()


def test_shortcut_c_projects_in_every_block_and_b_where_dimensions_change():
    def projections(name):
        return [layer.name for layer in weightless(name).layers if layer.name.endswith("shortcut_conv")]

    assert len(projections("resnet34_c")) == 16 and len(projections("resnet34")) == 3
    assert projections("resnet34_a") == projections("plain34") == []


AFTER = {  # what follows the last convolution of a unit
    "original": ["BatchNormalization", "Add", "ReLU"],
    "bn_after_addition": ["Add", "BatchNormalization", "ReLU"],
    "relu_before_addition": ["BatchNormalization", "ReLU", "Add"],
    "relu_only_preactivation": ["BatchNormalization", "Add"],
    "full_preactivation": ["Add"],
}


@pytest.mark.parametrize("order", resnet_v2.ORDERS)
def test_the_five_orders_of_activation_are_those_of_figure_4(order):
    network = weightless("resnet110_v2_cifar", order=order)
    kinds = [(layer.name, type(layer).__name__) for layer in network.layers]
    start = [name for name, _ in kinds].index("conv2_2_2_conv") + 1
    assert [kind for _, kind in kinds[start:start + len(AFTER[order])]] == AFTER[order]
    before = {"relu_only_preactivation": ["ReLU"], "full_preactivation": ["BatchNormalization", "ReLU"]}.get(order, [])
    unit = [kind for name, kind in kinds if name.startswith("conv2_2")]
    assert unit[:len(before)] == before
    assert info.parameters(network)[0] == 1_727_962
    with pytest.raises(InputError, match="choose from original"):
        create_model("resnet110_v2_cifar", order="none")


def test_preactivated_shortcuts_are_never_rectified():
    network = weightless("resnet50_v2")
    for name in ("conv2_x", "conv3_x", "conv4_x", "conv5_x"):
        assert isinstance(network.get_layer(name), layers.Add)
    assert network.get_layer("conv3_1_shortcut_conv").strides == (2, 2)
    assert network.get_layer("conv3_1_2_conv").strides == (2, 2)


def test_the_stages_of_the_deepest_net_can_be_cut_by_name():
    network = weightless("resnet1202_cifar")
    assert shapes(network, "conv2_x", "conv3_x", "conv4_x") == [(32, 16), (16, 32), (8, 64)]
    info.weightless(lambda: keras.Model(network.input, network.get_layer("conv3_x").output))


def test_resnext_strides_in_its_grouped_convolution():
    network = weightless("resnext50_32x4d")
    conv = network.get_layer("conv3_1_2_conv")
    assert (conv.groups, conv.filters, conv.strides) == (32, 256, (2, 2))


def test_densenet_joins_old_before_new_and_halves_in_transitions():
    network = weightless("densenet121")
    assert shapes(network, "dense_block1", "transition1_pool", "dense_block2", "dense_block4") == [
        (56, 256), (28, 128), (28, 512), (7, 1024)]
    joined = network.get_layer("dense_block1_1").input
    assert [tensor.shape[-1] for tensor in joined] == [64, 32]
    plain = weightless("densenet40_k12_cifar")
    assert plain.get_layer("conv1_conv").filters == 16
    assert plain.get_layer("transition1_conv").filters == plain.get_layer("dense_block1").output.shape[-1]


def test_mobilenet_halves_at_depthwise_convolutions_2_4_6_and_12():
    network = weightless("mobilenet_v1")
    halving = [i for i in range(1, 14) if network.get_layer(f"conv{i}_dw").strides == (2, 2)]
    assert halving == [2, 4, 6, 12]
    assert network.get_layer("conv13_pw_relu").output.shape[1:] == (7, 7, 1024)
