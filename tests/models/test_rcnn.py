import csv
import pathlib

import keras
import numpy as np
import pytest

from keras_cnns import export
from keras_cnns.data import images, synthetic
from keras_cnns.errors import InputError
from keras_cnns.models import create_model, detector, info, model_info
from keras_cnns.models.detection import rcnn, sppnet
from keras_cnns.ops import boxes as box_ops

NAMES = ("rcnn_resnet20", "sppnet_detector_resnet20")
CLASSES, REGIONS = 3, 90


def proposals(rng, v, count):
    start = rng.uniform(0, 150, (1, count, 2))
    found = np.concatenate([start, start + rng.uniform(20, 120, (1, count, 2))], -1).astype("float32")
    found[:, -10:] = 0  # padding
    return found


def answers(graph, given):
    return keras.tree.map_structure(np.array, graph(given))


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    """A network, its assembled form, what that is made of, and an image with proposals."""
    keras.utils.set_random_seed(0)
    network, module = create_model(request.param, num_classes=CLASSES), {"r": rcnn, "s": sppnet}[request.param[0]]
    v, rng = module.VARIANTS[network.name], np.random.default_rng(0)
    pixels = images.letterbox(images.decode(synthetic.samples(1)[0].source, "image"), v.canvas)[0]
    given = {"image": np.array(pixels)[None], "proposals": proposals(rng, v, REGIONS)}
    features = answers(module.features(network, v), given)

    def fitting(x, shape, spread):
        """A linear layer whose answers for these regions are about 0, and so far from it."""
        weights = rng.normal(size=(x.shape[-1], np.prod(shape)))
        weights *= spread / (x[0, :80] @ weights).std(0)
        biases = -(x[0, :80] @ weights).mean(0)
        return weights.reshape(-1, *shape).astype("float32"), biases.reshape(shape).astype("float32")

    svms, regressions = fitting(features["fc7"], (CLASSES,), 1.0), fitting(features["pool5"], (CLASSES, 4), 0.1)
    svms[1][2] = rcnn.NEVER
    return module, v, network, rcnn.assembled(network, svms, regressions), svms, regressions, given


def nms(boxes, scores, limit):
    kept, overlap = [], np.array(box_ops.iou(boxes, boxes))
    for i in np.argsort(-scores, kind="stable"):
        if (overlap[i, kept] <= limit).all():
            kept.append(i)
    return kept


def test_the_graph_detects_what_its_stages_do_one_by_one(case):
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import LinearSVC

    module, v, network, assembled, svms, regressions, given = case
    features = answers(module.features(network, v), given)
    fc7, pool5 = features["fc7"][0], features["pool5"][0]
    rois, sides, want = given["proposals"][0], np.tile(v.canvas[::-1], 2), []
    for k in range(2):
        judge, corrector = LinearSVC(), LinearRegression()
        judge.coef_, judge.intercept_, judge.classes_ = svms[0][:, k][None], svms[1][k:k + 1], np.array([-1, 1])
        corrector.coef_, corrector.intercept_ = regressions[0][:, k].T, regressions[1][k]
        scores = 1 / (1 + np.exp(-judge.decision_function(fc7)))
        middle, size = (rois[:, :2] + rois[:, 2:]) / 2, rois[:, 2:] - rois[:, :2]
        offsets = corrector.predict(pool5)
        middle, size = middle + offsets[:, :2] * size, size * np.exp(offsets[:, 2:])
        found = np.clip(np.concatenate([middle - size / 2, middle + size / 2], 1), 0, sides)
        good = (size > 0).all(1) & (scores > 0.05) & ((found[:, 2:] - found[:, :2]).min(1) >= 1e-2)
        kept = np.flatnonzero(good)[nms(found[good], scores[good], 0.3)]
        want += [(scores[i], k + 1, *found[i]) for i in kept]
    want = np.array(sorted(want, reverse=True))[:20]
    got = answers(detector(assembled, proposals=REGIONS, max_detections=20), given)
    assert got["count"][0] == len(want)
    np.testing.assert_array_equal(got["labels"][0, :len(want)], want[:, 1])
    np.testing.assert_allclose(got["scores"][0, :len(want)], want[:, 0], atol=1e-5)
    np.testing.assert_allclose(got["boxes"][0, :len(want)], want[:, 2:], atol=1e-2)


def test_regions_in_parts_are_answered_as_at_once_and_padding_changes_nothing(case):
    module, v, network, assembled, _, _, given = case
    if module is not rcnn:
        pytest.skip("SPP-net has no parts")
    small, large = (answers(rcnn.over_image(assembled, v, chunk=chunk), given) for chunk in (7, 200))
    for key in small:
        np.testing.assert_allclose(small[key][:, :80], large[key][:, :80], atol=1e-4)
    both = {key: np.concatenate([value, value[:, ::-1]]) for key, value in given.items()}
    answer = answers(rcnn.over_image(assembled, v, chunk=32), both)
    np.testing.assert_allclose(answer["scores"][0, :80], large["scores"][0, :80], atol=1e-4)


def test_the_assembled_network_lives_through_a_file(case, tmp_path):
    *_, assembled, _, _, given = case
    assembled.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras", compile=False)
    assert again.name == assembled.name
    want, got = (answers(detector(network, proposals=REGIONS), given) for network in (assembled, again))
    for key in want:
        np.testing.assert_array_equal(got[key], want[key])


def test_a_fine_tuned_network_detects_by_its_softmax_without_moving_boxes(case):
    module, v, network, *_, given = case
    found = answers(detector(network, proposals=REGIONS, score_threshold=0.0), given)
    rows = given["proposals"][0]
    for box in found["boxes"][0, :found["count"][0]]:
        assert np.abs(rows - box).max(1).min() < 1e-2


@pytest.mark.slow
def test_exported_it_takes_proposals_in_pixels_of_the_image(case, tmp_path):
    import tensorflow as tf

    module, v, _, assembled, _, _, given = case
    graph, sample = detector(assembled, proposals=REGIONS), synthetic.samples(1)[0]
    path = export.saved_model(graph, tmp_path / "m", ("a", "b", "c"))
    loaded = tf.saved_model.load(str(path))
    scale = np.tile(images.letterbox(images.decode(sample.source, "image"), v.canvas)[1], 2)
    native = tf.constant((given["proposals"][:, :80] / scale).round())  # fewer than the network takes
    given = {**given, "proposals": np.pad(native * scale, ((0, 0), (0, 10), (0, 0)))}
    answer = loaded.signatures["jpeg"](jpeg=tf.constant([sample.source]), proposals=native)
    want = answers(graph, given)
    n = int(answer["num_detections"][0])
    assert n > 5
    np.testing.assert_allclose(np.sort(answer["detection_scores"][0, :n])[::-1], want["scores"][0, :n], atol=1e-4)
    pixels = tf.constant(images.decode(sample.source, "image")[None].astype("float32"))
    again = loaded.signatures["serving_default"](image=pixels, proposals=native)
    np.testing.assert_allclose(again["detection_scores"], answer["detection_scores"], atol=1e-4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than the"):
        loaded.signatures["serving_default"](image=pixels, proposals=tf.zeros((1, REGIONS + 1, 4)))


@pytest.mark.slow
@pytest.mark.parametrize("regions", [20, REGIONS])  # R-CNN's at once, and in parts
def test_as_tflite_it_answers_the_same(case, regions, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    *_, assembled, _, _, given = case
    graph = detector(assembled, proposals=regions)
    given = {**given, "proposals": given["proposals"][:, -regions:]}
    path = export.tflite(graph, tmp_path / "n.tflite")  # which tries it
    found = Interpreter(str(path)).get_signature_runner("serving_default")(**given)
    np.testing.assert_allclose(np.sort(found["detection_scores"]), np.sort(answers(graph, given)["scores"]), atol=1e-4)


@pytest.mark.slow
def test_in_8_bits_it_answers_nearly_the_same(case, tmp_path):
    module, _, _, assembled, *_ = case
    graph = detector(assembled, proposals=20)
    seen = [images.decode(sample.source, "image") for sample in synthetic.samples(4)]
    if module is rcnn:
        with pytest.raises(InputError, match="region by region"):
            export.tflite(graph, tmp_path / "n.tflite", "int8", seen)
        return
    assert export.tflite(graph, tmp_path / "n.tflite", "int8", seen).stat().st_size < 2 * assembled.count_params()


def test_the_first_part_is_asked_once():
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            calls.append(len(x))
            return x

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape)

    region = keras.Input((32, 32, 3))
    over = rcnn.OverRegions(keras.Model(region, Counted()(region)[:, 0, 0]), 4, (0.0,) * 3, chunk=30)
    over(np.tile(np.float32([1, 2, 20, 30]), (1, 90, 1)), np.ones((1, 64, 64, 3), "float32"))
    assert calls == [30, 30, 30]


def test_counts_are_those_of_the_reference():
    with open(pathlib.Path(__file__).with_name("counts.csv"), newline="") as file:
        want = {row["model"]: row for row in csv.DictReader(file)}["rcnn_alexnet"]
    network = info.weightless(lambda: create_model("rcnn_alexnet"))
    assert info.parameters(network) == (int(want["trainable"]), int(want["all"]))
    cost = info.weightless(lambda: info.cost(detector(create_model("rcnn_alexnet"), proposals=1)))[0]
    assert cost == pytest.approx(float(want["multiply_adds"]), rel=1e-4)  # a region
    found = model_info("sppnet_detector_zf5")
    assert found.parameters == 73_026_709  # as of the authors' fine-tuning
    one = info.weightless(lambda: info.cost(detector(create_model("sppnet_detector_zf5"), proposals=1)))[0]
    assert found.multiply_adds - one == 1999 * (12800 * 4096 + 4096 * 4096 + 4096 * 21)  # fully connected, a region


@pytest.mark.parametrize("name, pool5, fc7", [
    ("rcnn_alexnet", 9216, 4096), ("rcnn_vgg16", 25088, 4096), ("sppnet_detector_zf5", 12800, 4096),
    ("sppnet_detector_vgg16", 25600, 4096)])
def test_features_are_those_of_the_papers(name, pool5, fc7):
    module = {"r": rcnn, "s": sppnet}[name[0]]

    def shapes():
        network, v = create_model(name), module.VARIANTS[name]
        return {key: value.shape[-1] for key, value in rcnn.region_features(network, v).output.items()}, {
            key: value.shape for key, value in module.features(network, v).output.items()}

    found, over_image = info.weightless(shapes)
    assert found == {"pool5": pool5, "fc7": fc7}
    assert over_image == {"pool5": (None, None, pool5), "fc7": (None, None, fc7)}


def test_shapes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="more than 32 pixels"):
        create_model("rcnn_alexnet", (32, 32, 3))
    with pytest.raises(InputError, match="several sizes"):
        create_model("sppnet_detector_zf5", (224, 224, 3))
