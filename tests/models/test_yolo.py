import keras
import numpy as np
import pytest

from keras_cnns import export
from keras_cnns.data import batches, synthetic
from keras_cnns.errors import InputError
from keras_cnns.layers.detection import DecodeGrid
from keras_cnns.losses import YOLOLoss
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector, info, model_info
from keras_cnns.models.detection import yolo
from keras_cnns.training import detect
from tests.training import test_distribute

SMALL = (96, 128, 3)  # 3 x 4 cells of yolo_v1_resnet18


def pixels(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


def small(name="yolo_v1_resnet18", shape=SMALL):
    """A network whose confidences are not all about 0."""
    keras.utils.set_random_seed(0)
    network = create_model(name, shape, 3)
    last = next(layer for layer in reversed(network.layers) if layer.weights)
    last.bias.assign(np.random.default_rng(0).uniform(0.2, 0.9, last.bias.shape))
    return network


@pytest.mark.parametrize("name, trainable, everything, multiply_adds", [
    ("yolo_v1", 271_703_550, 271_703_550, 20.28515e9), ("yolo_v1_tiny", 45_089_374, 45_089_374, 2.41873e9),
    ("yolo_v1_bn", 271_716_734, 271_743_102, 20.28515e9), ("yolo_v1_local", 197_301_875, 197_328_243, 20.21073e9)])
def test_parameters_and_multiply_adds_are_those_of_the_reference(name, trainable, everything, multiply_adds):
    found = model_info(name)
    assert (found.trainable_parameters, found.parameters) == (trainable, everything)
    assert found.multiply_adds == pytest.approx(multiply_adds, rel=1e-5)


def test_the_network_is_that_of_figure_3():
    network = info.weightless(lambda: create_model("yolo_v1"))
    convs = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.name for layer in convs] == [f"conv{i}" for i in range(1, 25)]
    assert [i for i, layer in enumerate(convs, 1) if layer.strides == (2, 2)] == [1, 22]
    sides = {"pool1": 112, "pool2": 56, "conv6": 56, "pool3": 28, "conv16": 28, "pool4": 14, "conv21": 14, "conv22": 7}
    assert {name: network.get_layer(name).output.shape[1] for name in sides} == sides
    assert network.output["grid"].shape == (None, 7, 7, 30)
    assert all(layer.negative_slope == pytest.approx(0.1) for layer in network.layers
               if isinstance(layer, keras.layers.LeakyReLU))
    assert info.weightless(lambda: create_model("yolo_v1_local")).output["grid"].shape == (None, 7, 7, 35)


def some_objects(rng, count, height, width):
    sides = rng.uniform(0.1, 0.6, (count, 2)) * (width, height)
    corner = rng.uniform(0, 1, (count, 2)) * ((width, height) - sides)
    return np.concatenate([corner, corner + sides], -1).astype("float32")


def test_each_object_is_told_to_the_cell_of_its_centre():
    rng = np.random.default_rng(0)
    boxes, labels = some_objects(rng, 6, 90, 120), rng.integers(1, 4, 6)
    found = yolo.encode_targets(np.pad(boxes, ((0, 2), (0, 0))), np.pad(labels, (0, 2)), (3, 4), (90, 120))
    want = {}
    order = np.argsort((boxes[:, 2:] - boxes[:, :2]).prod(1))
    for box, label in zip(boxes[order].tolist(), labels[order]):
        x, y = (box[0] + box[2]) / 2 / 30, (box[1] + box[3]) / 2 / 30  # cells of 30 pixels
        want[int(y), int(x)] = (x % 1, y % 1, (box[2] - box[0]) / 120, (box[3] - box[1]) / 90, label)
    assert found.shape == (3, 4, 5) and found.dtype == "float32" and len(want) == (found[..., 4] > 0).sum() < 6
    for i in range(3):
        for j in range(4):
            np.testing.assert_allclose(found[i, j], want.get((i, j), np.zeros(5)), atol=1e-5)


def test_of_two_objects_in_a_cell_the_largest_counts_and_the_other_is_told_as_lost():
    boxes = np.float32([[10, 10, 50, 50], [5, 5, 55, 56], [20, 20, 40, 40], [60, 60, 70, 70], [1, 1, 1, 9]])
    found = yolo.encode_targets(boxes, np.arange(1, 6), (7, 7), (448, 448))
    assert found[0, 0, 4] == 2 and found[1, 1, 4] == 4 and (found[..., 4] > 0).sum() == 2
    images = [(boxes[:4], np.arange(1, 5), (448, 448)), (boxes[:2], np.array([1, -1]), (448, 448)),
              (boxes[:2] * 0.5, [1, 2], (224, 224)), (np.zeros((0, 4)), np.zeros(0, int), (100, 50))]
    assert yolo.lost(images) == (3, 7)
    drawn = [(s.boxes, s.labels * ~s.ignored, s.size) for s in synthetic.samples(20)]
    missing, total = yolo.lost(drawn, (3, 3))
    assert total == sum((labels > 0).sum() for _, labels, _ in drawn) and 0 < missing < total / 3


def test_cells_of_ignored_objects_do_not_count_unless_an_object_is_there():
    boxes = np.float32([[0, 0, 100, 64], [300, 300, 310, 310], [10, 10, 40, 40]])
    found = yolo.encode_targets(boxes[:2], np.array([-1, -1]), (7, 7), (448, 448))[..., 4]
    assert {tuple(place) for place in np.argwhere(found < 0)} == {(0, 0), (0, 1), (4, 4)} and not (found > 0).any()
    assert yolo.encode_targets(boxes, np.array([-1, -1, 3]), (7, 7), (448, 448))[0, 0, 4] == 3


def test_the_gradient_is_finite_and_ignored_cells_have_none():
    import tensorflow as tf

    targets = np.zeros((1, 2, 2, 5), "float32")
    targets[0, 0, 0], targets[0, 1, 1, 4] = (0.5, 0.5, 0, 0, 2), -1  # an object without area, as of a bad annotation
    for start in (np.zeros((1, 2, 2, 13), "float32"), np.random.default_rng(0).normal(size=(1, 2, 2, 13))):
        grid = tf.Variable(tf.cast(start, tf.float32))
        with tf.GradientTape() as tape:
            loss = YOLOLoss()(targets, grid)
        gradient = tape.gradient(loss, grid).numpy()
        assert np.isfinite(gradient).all() and not gradient[0, 1, 1].any() and gradient[0, 0, 0].any()
        assert not gradient[0, 0, 1, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12]].any()  # only confidences, of background


def test_a_perfect_answer_costs_nothing_and_is_decoded_to_the_objects():
    boxes = np.float32([[10, 10, 50, 64], [70, 6, 118, 30], [5, 60, 35, 88]])
    targets = yolo.encode_targets(boxes, np.array([1, 3, 2]), (3, 4), (90, 120))
    grid = np.zeros((1, 3, 4, 13), "float32")
    there = targets[..., 4] > 0
    grid[0, there, 5:7], grid[0, there, 7:9], grid[0, there, 9] = targets[there, :2], targets[there, 2:4]**0.5, 1
    grid[0, there, 10:] = np.eye(3)[targets[there, 4].astype(int) - 1]
    assert float(YOLOLoss()(targets[None], grid)) < 1e-8
    found = {key: np.array(value[0]) for key, value in DecodeGrid(2, (90, 120))(grid).items()}
    assert found["count"] == 3
    order = np.argsort(found["labels"][:3])
    np.testing.assert_allclose(found["boxes"][:3][order], boxes[[0, 2, 1]], atol=1e-3)
    np.testing.assert_allclose(found["scores"][:3], 1, atol=1e-5)


def test_decoding_is_made_of_ops_that_tflite_has_built_in():
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    grid = np.random.default_rng(0).uniform(0.1, 0.8, (1, 3, 4, 18)).astype("float32")
    layer = DecodeGrid(3, (90, 120), 0.2, 0.4, 90)
    decode = tf.function(lambda grid: layer(grid), input_signature=[tf.TensorSpec(grid.shape, name="grid")])
    lite = tf.lite.TFLiteConverter.from_concrete_functions([decode.get_concrete_function()], layer).convert()
    found, want = Interpreter(model_content=lite).get_signature_runner()(grid=grid), layer(grid)
    for key in want:
        np.testing.assert_allclose(found[key], want[key], atol=1e-4)


def test_it_trains_saves_loads_and_detects(tmp_path):
    network = small()
    network.compile("sgd", loss=yolo.losses(network.name))
    encode = yolo.target_encoder(network)
    rows = np.stack([encode(some_objects(np.random.default_rng(i), 3, 96, 128), [1, 2, 3]) for i in (0, 1)])
    copy = keras.models.clone_model(network)
    copy.compile("sgd", loss=yolo.losses(network.name))
    assert np.isfinite(copy.train_on_batch(pixels(2, *SMALL), {"grid": rows})).all()
    network.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras")
    want, got = (detector(n).predict(pixels(2, *SMALL), verbose=0) for n in (network, again))
    assert want["count"].min() > 2
    for key in want:
        np.testing.assert_allclose(got[key], want[key], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name, shape", [("yolo_v1_resnet18", SMALL), ("yolo_v1_tiny", (64, 128, 3)),
                                         ("yolo_v1_local", (64, 128, 3))])
def test_exported_it_gives_what_keras_gives(name, shape, tmp_path):
    """A SavedModel at batches of 1 and 8, and TFLite, which refuses what is not built in."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    network = small(name, shape)
    graph, image = detector(network, score_threshold=0.05), pixels(8, *shape)
    want = graph.predict(image, batch_size=1, verbose=0)
    serve = tf.saved_model.load(str(export.saved_model(graph, tmp_path / "yolo"))).signatures["serving_default"]
    lite = Interpreter(str(export.tflite(graph, tmp_path / "yolo.tflite"))).get_signature_runner()

    def detections(answer, i, scale=np.array([shape[1], shape[0]] * 2)):
        n = int(answer["num_detections"][i])
        return {"boxes": np.array(answer["detection_boxes"])[i, :n][:, [1, 0, 3, 2]] * scale,
                "scores": np.array(answer["detection_scores"])[i, :n],
                "labels": np.array(answer["detection_classes"])[i, :n].astype(int)}

    def kept(i):  # those of less than a pixel a side are not served
        real = (want["boxes"][i, :, 2:] - want["boxes"][i, :, :2]).min(-1) >= 1
        return {key: want[key][i][real] for key in ("boxes", "scores", "labels")}

    assert want["count"].min() > 2
    for batch in (1, 8):
        answer = serve(image=tf.constant(image[:batch]))
        result = metrics.agreement([kept(i) for i in range(batch)], [detections(answer, i) for i in range(batch)])
        assert result.same and result.iou > 0.99 and result.score < 1e-4
    n = want["count"][0]
    result = metrics.agreement([{key: want[key][0, :n] for key in ("boxes", "scores", "labels")}],
                               [detections(lite(image=image[:1]), 0)])
    assert result.same and result.iou > 0.99 and result.score < 1e-3


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart():
    found = [s for s in synthetic.samples(40) if not s.ignored.any()]
    samples = [s for s in found if not yolo.lost([(s.boxes, s.labels, s.size)], (4, 4))[0]][:8]
    keras.utils.set_random_seed(1)
    network = create_model("yolo_v1_resnet18", (128, 128, 3), 5)
    network.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 250), global_clipnorm=10.0),
                    loss=yolo.losses(network.name))
    elements = batches.training(samples, (128, 128), 8, 250, 0, view=detect.views.plain)
    network.fit(batches.with_targets(elements, yolo.target_encoder(network), network.output), shuffle=False, verbose=0)
    result = metrics.voc_ap(detect.truth(samples), detect.detect(detector(network), samples, progress=False))
    assert result.mean > 0.9


@pytest.mark.parametrize("name, shape, says", [
    ("yolo_v1", (None, None, 3), "fixed"), ("yolo_v1", (448, 63, 3), r"smallest.*\(64, 64, 3\)"),
    ("yolo_v1_resnet18", (None, None, 3), "fixed size"), ("yolo_v1_tiny", (448, 448), "height, width, channels"),
    ("yolo_v1_resnet18", (448, 448), "height, width, channels")])
def test_shapes_that_do_not_work_are_refused(name, shape, says):
    with pytest.raises(InputError, match=says) as error:
        info.weightless(lambda: create_model(name, shape))
    assert "\n" not in str(error.value)


def test_half_precision_answers_in_float32_and_other_sizes_have_other_cells():
    network = create_model("yolo_v1_resnet18", SMALL, 3, dtype_policy="mixed_bfloat16")
    assert keras.backend.standardize_dtype(network.output["grid"].dtype) == "float32"
    wide = info.weightless(lambda: create_model("yolo_v1_bn", (320, 448, 3), 3))
    assert wide.output["grid"].shape == (None, 5, 7, 13)


@pytest.mark.slow
def test_two_replicas_give_the_losses_and_weights_of_one(tmp_path, monkeypatch):
    program = test_distribute.PROGRAM.replace("0.001", "0.0001")  # a sum is a larger loss
    monkeypatch.setattr(test_distribute, "PROGRAM", program)
    test_distribute.test_two_replicas_give_the_losses_and_weights_of_one("yolo_v1_resnet18", tmp_path)
