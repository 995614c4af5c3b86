import keras
import numpy as np
import pytest

from keras_cnns import export
from keras_cnns.errors import InputError
from keras_cnns.layers.detection import DecodeDefaultBoxes
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector, info, model_info
from keras_cnns.models.detection import ssd
from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import default_boxes as default_box_ops

SMALL = (96, 128, 3)


def pixels(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


def of_shape(name, function, *arguments):
    return info.weightless(lambda: function(ssd.build(name, *arguments)))


def small(name="ssd300_mobilenet_v1"):
    """A network whose scores differ."""
    keras.utils.set_random_seed(0)
    network = create_model(name, SMALL, 3)
    for layer in network.layers:
        if layer.name.endswith("_cls"):
            layer.kernel.assign(20 * layer.kernel)
    return network


@pytest.fixture(scope="module")
def network():
    return small()


def test_parameters_and_multiply_adds_are_those_of_the_reference():
    for name, parameters, multiply_adds in (("ssd300_vgg16", 26_285_486, 31.37354e9),
                                            ("ssd512_vgg16", 27_188_676, 90.20791e9)):
        found = model_info(name)
        assert (found.parameters, found.trainable_parameters) == (parameters, parameters)
        assert found.multiply_adds == pytest.approx(multiply_adds, rel=1e-6)
    assert of_shape("ssd300_vgg16", info.parameters, None, 90) == (35_641_826, 35_641_826)
    assert of_shape("ssd512_vgg16", info.parameters, None, 80) == (36_038_196, 36_038_196)


@pytest.mark.parametrize("name, count, cells, smallest, wide", [
    ("ssd300_vgg16", 8732, (38, 19, 10, 5, 3, 1), (21, 45, 99, 153, 207, 261), 300),
    ("ssd300_vgg16_voc", 8732, (38, 19, 10, 5, 3, 1), (30, 60, 111, 162, 213, 264), 264 * 2**0.5),
    ("ssd512_vgg16", 24564, (64, 32, 16, 8, 4, 2, 1), (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8),
     460.8 * 2**0.5),
    ("ssd512_vgg16_voc", 24564, (64, 32, 16, 8, 4, 2, 1), (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8),
     460.8 * 2**0.5)])
def test_default_boxes_are_as_many_and_as_large_as_published(name, count, cells, smallest, wide):
    boxes, maps = of_shape(name, lambda network: (ssd.default_boxes(network), ssd.maps_of(network)))
    side = ssd.VARIANTS[name].side
    assert boxes.shape == (count, 4) and tuple(rows for (rows, _), _, _ in maps) == cells
    of_map = np.cumsum([0, *(n * n * len(sides) for n, (_, _, sides) in zip(cells, maps))])
    for start, end, pixels_wide in zip(of_map, of_map[1:], smallest):
        np.testing.assert_allclose(boxes[start, 2:] - boxes[start, :2], pixels_wide, rtol=1e-5)
        centers = (boxes[start:end, :2] + boxes[start:end, 2:]) / 2
        assert centers.min() > 0 and centers.max() < side + 5
    assert boxes[-2, 2] - boxes[-2, 0] == pytest.approx(wide)
    np.testing.assert_allclose(boxes[:1, :2] + boxes[:1, 2:], 8)  # the first cell's centre is at 4, 4


def targets_by_loop(objects, labels, default_boxes):
    """Matching of section 2.2, a pair at a time."""
    def iou(a, b):
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        common = max(width, 0) * max(height, 0)
        return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)

    table = np.array([[iou(d, o) for o in objects] for d in default_boxes.astype("float64")])
    owner = [int(row.argmax()) if row.max() > 0.5 else -1 for row in table]
    pairs = sorted(((-table[d, o], d, o) for d in range(len(table)) for o in range(len(objects)) if table[d, o] > 0))
    done = set()
    for _, d, o in pairs:
        if ("default", d) not in done and ("object", o) not in done:
            done |= {("default", d), ("object", o)}
            owner[d] = o
    rows = np.zeros((len(table), 5))
    for d, o in enumerate(owner):
        if o >= 0:
            (x1, y1, x2, y2), (u1, v1, u2, v2) = default_boxes[d], objects[o]
            w, h = x2 - x1, y2 - y1
            rows[d] = ((u1 + u2 - x1 - x2) / 2 / w / 0.1, (v1 + v2 - y1 - y2) / 2 / h / 0.1,
                       np.log((u2 - u1) / w) / 0.2, np.log((v2 - v1) / h) / 0.2, labels[o])
    return rows


def some_objects(rng, count, low, high, side=300):
    sides = rng.uniform(low, high, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (side - sides)
    return np.concatenate([corner, corner + sides], -1).astype("float32")


@pytest.fixture(scope="module")
def default_boxes():
    return of_shape("ssd300_vgg16", ssd.default_boxes)


def test_targets_equal_a_loop(default_boxes):
    rng = np.random.default_rng(0)
    objects, labels = some_objects(rng, 6, 10, 250), rng.integers(1, 5, 6)
    found = ssd.encode_targets(objects, labels, default_boxes)
    np.testing.assert_allclose(found, targets_by_loop(objects, labels, default_boxes), rtol=1e-3, atol=1e-3)
    assert found.dtype == "float32" and (found[:, 4] > 0).sum() > 12
    padded = np.pad(objects, ((0, 3), (0, 0))), np.pad(labels, (0, 3))
    np.testing.assert_array_equal(ssd.encode_targets(*padded, default_boxes), found)


def test_the_best_boxes_are_shared_out_where_objects_want_the_same(default_boxes):
    objects = np.array([[100, 100, 104, 104], [101, 100, 105, 104], [101, 101, 104, 105]], "float32")  # in one cell
    found = ssd.encode_targets(objects, np.array([1, 2, 3]), default_boxes)
    assert sorted(found[found[:, 4] > 0, 4]) == [1, 2, 3]
    np.testing.assert_allclose(found, targets_by_loop(objects, [1, 2, 3], default_boxes), rtol=1e-3, atol=1e-3)


def test_decoded_targets_are_the_objects(default_boxes):
    objects = some_objects(np.random.default_rng(1), 5, 20, 200)
    found = ssd.encode_targets(objects, np.arange(1, 6), default_boxes)
    positive = found[:, 4] > 0
    decoded = box_ops.decode(found[positive, :4], default_boxes[positive], ssd.VARIANCES)
    np.testing.assert_allclose(decoded, objects[found[positive, 4].astype(int) - 1], atol=1e-2)


def test_default_boxes_near_ignored_objects_do_not_count_unless_an_object_is_there(default_boxes):
    region = np.array([[0, 0, 151.3, 290.7], [180, 180, 200.3, 204.2]], "float32")
    found = ssd.encode_targets(region, np.array([-1, -1]), default_boxes)
    inside, iou = (np.array(f(default_boxes, region)) for f in (box_ops.ioa, box_ops.iou))
    assert (found[(inside >= 0.5).any(1) | (iou > 0.5).any(1), 4] == -1).all()
    assert (found[(inside < 0.5).all(1) & (iou < 0.1).all(1), 4] == 0).all()
    assert (found[iou.argmax(0), 4] == -1).all() and not found[:, :4].any()  # also the best of the small one
    with_object = ssd.encode_targets(np.concatenate([region, [[20, 20, 120, 120]]]), np.array([-1, -1, 2]),
                                     default_boxes)
    assert (with_object[:, 4] == 2).sum() > 2 and (with_object[with_object[:, 4] != 2, 4] <= 0).all()


@pytest.mark.parametrize("objects, labels", [
    (np.array([[10, 10, 10.5, 10.5], [250, 7, 250.2, 7.3], [10.1, 10.1, 10.4, 10.4]]), [1, 2, 3]),  # all tiny
    (np.array([[5, 5, 5, 9], [400, 400, 500, 500]]), [1, 2]),  # without area; outside
    (np.zeros((1, 4)), [0]), (np.zeros((0, 4)), [])])
def test_odd_objects_give_finite_targets_and_losses(default_boxes, objects, labels):
    found = ssd.encode_targets(objects, labels, default_boxes)
    assert np.isfinite(found).all() and (found[:, 4] > 0).sum() == (3 if len(objects) == 3 else 0)
    logits = np.random.default_rng(0).normal(0, 5, (1, len(found), 4)).astype("float32")
    losses = ssd.losses()
    assert np.isfinite([float(losses["cls"](found[None], logits)), float(losses["reg"](found[None], logits))]).all()


def test_the_network_gives_logits_and_offsets_of_its_default_boxes_and_trains(network):
    image, count = pixels(2, *SMALL), len(ssd.default_boxes(network))
    outputs = network.predict(image, verbose=0)
    assert outputs["cls"].shape == (2, count, 4) and outputs["reg"].shape == (2, count, 4)
    encode = ssd.target_encoder(network)
    rows = np.stack([encode(some_objects(np.random.default_rng(i), 3, 10, 60, 96), [1, 2, 3]) for i in (0, 1)])
    copy = keras.models.clone_model(network)
    copy.compile("sgd", loss=ssd.losses())
    logs = copy.train_on_batch(image, dict.fromkeys(copy.output, rows), return_dict=True)
    assert {"loss", "cls_loss", "reg_loss"} <= set(logs) and np.isfinite(list(logs.values())).all()
    assert all(np.isfinite(np.array(w)).all() for w in copy.weights)


def decoded_by_loop(logits, offsets, default_boxes, score_threshold, iou_threshold, pre_nms, size):
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    boxes = np.clip(np.array(box_ops.decode(offsets, default_boxes, ssd.VARIANCES)), 0, (100, 50, 100, 50))
    found = []
    for label in range(1, logits.shape[-1]):
        kept = []
        for i in np.argsort(-scores[:, label])[:pre_nms]:
            if scores[i, label] > score_threshold and all(
                    np.array(box_ops.iou(boxes[i:i + 1], boxes[j:j + 1])) <= iou_threshold for j in kept):
                kept.append(i)
        found += [(scores[i, label], label, *boxes[i]) for i in kept]
    return np.array(sorted(found, reverse=True)[:size])


MAPS = [((4, 8), (12.5, 12.5), default_box_ops.sides(0.2, 0.4, (2,)).tolist()),
        ((2, 4), (25.0, 25.0), default_box_ops.sides(0.4, 0.8, (2, 3)).tolist())]


def some_answers(batch=2):
    rng, rows = np.random.default_rng(0), len(default_box_ops.pyramid(MAPS, (50, 100)))
    return (rng.normal(0, 2, (batch, rows, 4)).astype("float32"),
            rng.normal(0, 0.7, (batch, rows, 4)).astype("float32"))


def test_decoding_equals_a_loop():
    logits, offsets = some_answers()
    layer = DecodeDefaultBoxes(MAPS, (50, 100), 0.1, 0.45, 40, pre_nms=20)
    layer = DecodeDefaultBoxes.from_config(layer.get_config())
    found = {key: np.array(value) for key, value in layer(logits, offsets).items()}
    for i in range(2):
        want = decoded_by_loop(logits[i], offsets[i], layer.anchors, 0.1, 0.45, 20, 40)
        n = found["count"][i]
        assert 20 < n == len(want)
        np.testing.assert_array_equal(found["labels"][i, :n], want[:, 1])
        np.testing.assert_allclose(found["scores"][i, :n], want[:, 0], rtol=1e-5)
        np.testing.assert_allclose(found["boxes"][i, :n], want[:, 2:], atol=1e-4)
        assert not found["scores"][i, n:].any() and not found["labels"][i, n:].any()


def test_decoding_is_made_of_ops_that_tflite_has_built_in():
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    logits, offsets = some_answers(1)
    layer = DecodeDefaultBoxes(MAPS, (50, 100), 0.1, 0.45, 40, pre_nms=20)
    decode = tf.function(lambda logits, offsets: layer(logits, offsets), input_signature=[
        tf.TensorSpec(logits.shape, name="logits"), tf.TensorSpec(offsets.shape, name="offsets")])
    lite = tf.lite.TFLiteConverter.from_concrete_functions([decode.get_concrete_function()], layer).convert()
    found = Interpreter(model_content=lite).get_signature_runner()(logits=logits, offsets=offsets)
    want = layer(logits, offsets)
    for key in want:
        np.testing.assert_allclose(found[key], want[key], atol=1e-4)


def test_the_detector_of_a_loaded_network_gives_the_same(network, tmp_path):
    network.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras", compile=False)
    want, got = (detector(n).predict(pixels(2, *SMALL), verbose=0) for n in (network, again))
    assert want["count"].min() > 20
    for key in want:
        np.testing.assert_allclose(got[key], want[key], atol=1e-4)


def exported_gives_the_same(network, tmp_path):
    """A SavedModel at batches of 1, 2 and 8, and TFLite, which refuses what is not built in."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    graph, image = detector(network), pixels(8, *network.input_shape[1:])
    want = graph.predict(image, batch_size=1, verbose=0)
    serve = tf.saved_model.load(str(export.saved_model(graph, tmp_path / "ssd"))).signatures["serving_default"]
    height, width = network.input_shape[1:3]

    def detections(answer):
        answer = {key: np.array(value) for key, value in answer.items()}
        return [{"boxes": answer["detection_boxes"][i, :int(n)][:, [1, 0, 3, 2]] * (width, height, width, height),
                 "scores": answer["detection_scores"][i, :int(n)],
                 "labels": answer["detection_classes"][i, :int(n)].astype(int)}
                for i, n in enumerate(answer["num_detections"])]

    def kept(i):  # those of less than a pixel a side are not served
        real = (want["boxes"][i, :, 2:] - want["boxes"][i, :, :2]).min(-1) >= 1
        return {key: want[key][i][real] for key in ("boxes", "scores", "labels")}

    for batch in (1, 2, 8):
        result = metrics.agreement([kept(i) for i in range(batch)], detections(serve(image=tf.constant(image[:batch]))))
        assert result.same and result.iou > 0.99 and result.score < 1e-4 and result.count > 20 * batch
    lite = Interpreter(str(export.tflite(graph, tmp_path / "ssd.tflite"))).get_signature_runner()
    for i in range(2):
        n = want["count"][i]
        result = metrics.agreement([{key: want[key][i, :n] for key in ("boxes", "scores", "labels")}],
                                   detections(lite(image=image[i:i + 1])))
        assert result.same and result.iou > 0.99 and result.score < 1e-3


@pytest.mark.slow
def test_exported_it_gives_what_keras_gives(network, tmp_path):
    exported_gives_the_same(network, tmp_path)


@pytest.mark.slow
def test_exported_ssd300_gives_what_keras_gives(tmp_path):
    keras.utils.set_random_seed(0)
    exported_gives_the_same(create_model("ssd300_vgg16", num_classes=5), tmp_path)


@pytest.mark.parametrize("name", ["ssd300_resnet18", "ssd300_inception_v2"])
def test_other_backbones_have_maps_of_strides_16_32_and_four_halvings(name):
    maps, count = of_shape(name, lambda n: (ssd.maps_of(n), n.output["cls"].shape[1]))
    assert [cells[0] for cells, _, _ in maps] == [19, 10, 5, 3, 2, 1]
    assert count == len(default_box_ops.pyramid(maps, (300, 300))) == 19**2 * 4 + 6 * (100 + 25 + 9) + 4 * (4 + 1)


@pytest.mark.parametrize("backbone, features, cells", [
    ("vgg16", None, [16, 8, 4, 2, 1, 1]), ("resnet101", None, [8, 4, 2, 1, 1, 1]),
    ("densenet121", None, [8, 4, 2, 1, 1, 1]),
    ("inception_v3", None, [6, 2, 1, 1, 1, 1]), ("inception_resnet_v2", None, [6, 2, 1, 1, 1, 1]),
    ("mobilenet_v1_025", ("conv5_pw_relu", "conv11_pw_relu", "conv13_pw_relu"), [16, 8, 4, 2, 1, 1]),
    ("alexnet", "conv5_relu", [6, 3, 2, 1, 1, 1])])
def test_on_any_classifier_there_are_six_maps(backbone, features, cells):
    def made():
        network = create_model("ssd", (128, 128, 3), 2, backbone=backbone, features=features)
        return ssd.maps_of(network), network.output["cls"].shape[1], len(ssd.default_boxes(network))

    maps, count, boxes = info.weightless(made)
    assert [rows for (rows, _), _, _ in maps] == cells and count == boxes
    assert [len(sides) for _, _, sides in maps] == [4, 6, 6, 6, 4, 4]


def test_on_another_backbone_it_trains_saves_loads_and_detects(tmp_path):
    keras.utils.set_random_seed(0)
    network = create_model("ssd", SMALL, 3, backbone="mobilenet_v1_025")
    network.compile("sgd", loss=ssd.losses())
    rows = ssd.target_encoder(network)(np.float32([[10, 10, 60, 80]]), np.int32([2]))[None]
    assert np.isfinite(network.train_on_batch(pixels(1, *SMALL), dict.fromkeys(network.output, rows))).all()
    network.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras", compile=False)
    np.testing.assert_array_equal(ssd.default_boxes(again), ssd.default_boxes(network))
    want, got = (detector(n).predict(pixels(2, *SMALL), verbose=0) for n in (network, again))
    for key in want:
        np.testing.assert_allclose(got[key], want[key], atol=1e-4)


def test_weights_of_another_number_of_classes_are_refused_in_one_line(tmp_path):
    create_model("ssd", SMALL, 3, backbone="mobilenet_v1_025").save(tmp_path / "n.keras")
    with pytest.raises(InputError, match="do not fit") as error:
        create_model("ssd", SMALL, 4, weights=tmp_path / "n.keras", backbone="mobilenet_v1_025")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, options, says", [
    ("ssd300_vgg16", dict(backbone="resnet18"), "take neither"),
    ("ssd", dict(features=("conv4_x",)), "then its layers"),
    ("ssd", dict(backbone="resnet18", features=("conv5_x", "conv4_x")), "fine to coarse.*9, 36 cells"),
    ("ssd", dict(backbone="resnet18", features=["conv4_x", "conv4_x"]), "there twice"),
    ("ssd", dict(backbone="resnet18", features=[f"conv{i}_x" for i in range(6)]), "at most five"),
    ("ssd", dict(backbone="resnet18", features="conv4"), "no layer 'conv4'.*conv4_x"),
    ("ssd", dict(backbone="nin"), "known of vgg16")])
def test_backbones_that_do_not_work_are_refused(name, options, says):
    with pytest.raises(InputError, match=says) as error:
        info.weightless(lambda: create_model(name, (96, 96, 3), 2, **options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape, says", [((300, None, 3), "fixed"), ((200, 300, 3), r"smallest.*\(268, 268, 3\)"),
                                         ((300, 300), "height, width, channels")])
def test_shapes_that_do_not_work_are_refused(shape, says):
    with pytest.raises(InputError, match=says) as error:
        create_model("ssd300_vgg16", shape)
    assert "\n" not in str(error.value)


def test_the_smallest_size_works_and_half_precision_answers_in_float32():
    for name in ("ssd300_vgg16", "ssd512_vgg16"):
        assert of_shape(name, ssd.maps_of, (268, 268, 3))[-1][0] == [1, 1]
    network = create_model("ssd300_mobilenet_v1", SMALL, 3, dtype_policy="mixed_bfloat16")
    assert {keras.backend.standardize_dtype(x.dtype) for x in network.output.values()} == {"float32"}
