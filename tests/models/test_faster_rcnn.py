import keras
import numpy as np
import pytest

from keras_cnns.errors import InputError
from keras_cnns.models import create_model, detector
from keras_cnns.models.detection import faster_rcnn
from keras_cnns.ops import boxes

SIDE = 96


def some_input(batch=2, labels=((1, 3, 0),)):
    rng = np.random.default_rng(0)
    rows = np.array([[[8, 8, 60, 60], [40, 30, 90, 80], [0, 0, 0, 0]]], "float32")
    return {"image": rng.uniform(0, 255, (batch, SIDE, SIDE, 3)).astype("float32"),
            "boxes": rows[:, :len(labels[0])].repeat(batch, 0),
            "labels": np.array(labels, "int32").repeat(batch, 0)}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return create_model("faster_rcnn_resnet18", (SIDE, SIDE, 3), 3)


def count(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


def test_the_pyramid_for_voc_has_the_parameters_of_the_release():
    network = create_model("faster_rcnn_resnet50_fpn", (64, 96, 3), 20)
    assert count(network.trainable_weights) == 41_396_536  # 21 classes with background


def test_the_network_gives_predictions_and_targets_of_equal_keys(network):
    outputs = network(some_input())
    assert set(outputs["predictions"]) == set(outputs["targets"]) == {"rpn_cls", "rpn_reg", "roi_cls", "roi_reg"}
    anchors = 12 * 12 * 12
    assert outputs["predictions"]["rpn_cls"].shape == (2, anchors)
    assert outputs["predictions"]["rpn_reg"].shape == (2, anchors, 4)
    assert outputs["predictions"]["roi_cls"].shape == (2, 64, 4)
    assert outputs["predictions"]["roi_reg"].shape == (2, 64, 3, 4)
    assert outputs["targets"]["rpn_cls"].shape == (2, anchors, 5)
    assert outputs["targets"]["roi_cls"].shape == (2, 64, 5)


def test_stock_compile_fit_and_evaluate_log_each_loss(network):
    network.compile("sgd", loss=faster_rcnn.losses())
    x = some_input(4)
    logs = network.evaluate(x, batch_size=2, verbose=0, return_dict=True)
    assert {"loss", "rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss"} <= set(logs)
    assert logs["loss"] == pytest.approx(sum(v for k, v in logs.items() if k != "loss"), rel=1e-4)


def test_an_image_without_objects_has_finite_losses(network):
    network.compile("sgd", loss=faster_rcnn.losses())
    x = some_input(2, labels=((0, 0, 0),))
    logs = network.evaluate(x, batch_size=2, verbose=0, return_dict=True)
    assert np.isfinite(list(logs.values())).all() and logs["roi_reg_loss"] == 0


def anchors_of(network):
    grids = keras.Model(network.input, network.get_layer("anchors").output)(some_input(1))
    return np.concatenate([np.array(grid) for grid in keras.tree.flatten(grids)])


def gradient_of(network, which, labels):
    """Gradient of one loss with respect to its prediction rows, and the target rows it came from."""
    import tensorflow as tf

    x = some_input(1, labels)
    outputs = network(x, training=False)
    prediction = tf.convert_to_tensor(outputs["predictions"][which])
    targets = outputs["targets"][which]
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        loss = faster_rcnn.losses()[which](targets, prediction)
    return tape.gradient(loss, prediction).numpy()[0], targets.numpy()[0]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow's tape")
@pytest.mark.parametrize("which", ["rpn_cls", "rpn_reg"])
def test_the_gradient_is_zero_in_an_ignored_region(network, which):
    gradient, _ = gradient_of(network, which, ((-1, 3, 0),))
    gradient = np.abs(gradient).reshape(len(gradient), -1).sum(1)
    rows = anchors_of(network)
    ignored, other = some_input(1)["boxes"][0, :1], some_input(1)["boxes"][0, 1:2]
    inside = np.array(boxes.ioa(rows, ignored))[:, 0] >= 0.5
    on_the_other = np.array(boxes.iou(rows, other))[:, 0] >= 0.3
    assert inside.any() and gradient[inside & ~on_the_other].sum() == 0
    assert gradient.sum() > 0  # elsewhere it learns


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow's tape")
def test_a_crowd_over_half_the_image_is_neither_learnt_nor_unlearnt(network):
    """Nothing whose greater part lies in it has a loss; what has one lies outside, or on the object."""
    import tensorflow as tf

    x = some_input(1, ((-1, 2),))
    x["boxes"] = np.array([[[0, 0, SIDE / 2, SIDE], [60, 20, 90, 70]]], "float32")
    sampled = keras.Model(network.input, [network.get_layer("sample_rois").output[0], network.output])
    rois, outputs = sampled(x, training=False)
    for stage, places in (("rpn", anchors_of(network)), ("roi", np.array(rois)[0])):
        inside = np.array(boxes.ioa(places, x["boxes"][0, :1]))[:, 0] >= 0.5
        on_the_object = np.array(boxes.iou(places, x["boxes"][0, 1:]))[:, 0] >= 0.3
        for which in (f"{stage}_cls", f"{stage}_reg"):
            prediction, loss = tf.convert_to_tensor(outputs["predictions"][which]), faster_rcnn.losses()[which]
            with tf.GradientTape() as tape:
                tape.watch(prediction)
                value = loss(outputs["targets"][which], prediction)
            gradient = np.abs(tape.gradient(value, prediction).numpy()[0]).reshape(len(places), -1).sum(1)
            assert stage == "roi" or (inside & ~on_the_object).any()  # no region in there is even sampled
            assert gradient[inside & ~on_the_object].sum() == 0 < gradient.sum(), which
            # The loss does not move, whatever is answered in there.
            wild = prediction.numpy()
            wild[0, inside & ~on_the_object] += 7.0
            assert float(loss(outputs["targets"][which], wild)) == pytest.approx(float(value), abs=1e-6), which


def test_losses_are_finite_where_no_proposal_survives(network):
    head = network.get_layer("rpn_head").get_layer("rpn_reg")
    before = head.get_weights()
    try:
        head.set_weights([0 * before[0], before[1] - 40.0])  # every box leaves the image and shrinks to nothing
        network.compile("sgd", loss=faster_rcnn.losses())
        for labels in ((1, 3, 0), (0, 0, 0)):
            logs = network.evaluate(some_input(2, labels=(labels,)), batch_size=2, verbose=0, return_dict=True)
            assert np.isfinite(list(logs.values())).all()
        found = detector(network, score_threshold=0.0)(some_input(1)["image"])
        assert int(found["count"][0]) == 0
    finally:
        head.set_weights(before)


@pytest.mark.parametrize("height, width", [(5, 7), pytest.param(40, 97, marks=pytest.mark.slow)])
def test_any_size_of_image_trains_and_detects(height, width):
    keras.utils.set_random_seed(0)
    network = create_model("faster_rcnn_resnet18", (None, None, 3), 3)
    x = some_input(2)
    x["image"] = x["image"].repeat(2, 2)[:, :height, :width]
    x["boxes"] = np.array([[[1, 1, 4, 4]]] * 2, "float32")
    x["labels"] = x["labels"][:, :1]
    network.compile("sgd", loss=faster_rcnn.losses())
    assert np.isfinite(network.train_on_batch(x)).all()
    found = {key: np.array(value) for key, value in detector(network, score_threshold=0.0)(x["image"]).items()}
    assert (found["boxes"] >= 0).all() and (found["boxes"] <= [width, height, width, height]).all()


def test_frozen_stages_do_not_learn():
    network = create_model("faster_rcnn_resnet50_fpn", (64, 64, 3), 90, frozen_stages=2)
    assert count(network.trainable_weights) == 41_532_886  # torchvision's, its last three stages learning
    with pytest.raises(InputError, match="0 to 5 frozen stages"):
        create_model("faster_rcnn_resnet18", (64, 64, 3), 3, frozen_stages=6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow's tape")
@pytest.mark.parametrize("which", ["roi_cls", "roi_reg"])
def test_the_gradient_is_zero_at_regions_that_do_not_count(network, which):
    gradient, targets = gradient_of(network, which, ((-1, 3, 0),))
    gradient, counted = np.abs(gradient).reshape(len(gradient), -1).sum(1), targets[:, 4] >= 0
    assert (gradient[~counted] == 0).all() and gradient.sum() > 0


def test_a_network_whose_only_object_is_ignored_learns_no_object(network):
    outputs = network(some_input(2, labels=((-1, 0, 0),)))
    assert (np.array(outputs["targets"]["rpn_cls"])[..., 4] <= 0).all()
    assert (np.array(outputs["targets"]["roi_cls"])[..., 4] <= 0).all()


def test_regions_inside_an_ignored_object_are_not_counted(network):
    sampled = keras.Model(network.input, network.get_layer("sample_rois").output)
    x = some_input(1, labels=((-1, 0, 0),))
    rois, targets, _ = (np.array(t)[0] for t in sampled(x))
    inside = np.array(boxes.ioa(rois, x["boxes"][0, :1]))[:, 0] >= 0.5
    real = rois[:, 2] - rois[:, 0] > 1.5
    assert (targets[inside & real, 4] == -1).all()


def test_the_detector_gives_padded_detections_within_the_image(network):
    found = detector(network, score_threshold=0.01, max_detections=30).predict(some_input()["image"], verbose=0)
    assert found["boxes"].shape == (2, 30, 4) and found["labels"].dtype == "int32"
    assert found["boxes"].min() >= 0 and found["boxes"].max() <= SIDE
    for i, n in enumerate(found["count"]):
        assert (found["labels"][i, :n] >= 1).all() and (found["labels"][i, :n] <= 3).all()
        assert (np.diff(found["scores"][i, :n]) <= 0).all()
        assert found["scores"][i, n:].sum() == found["labels"][i, n:].sum() == found["boxes"][i, n:].sum() == 0


def test_a_batch_gives_what_its_images_give_alone(network):
    graph, image = detector(network, score_threshold=0.01), some_input(3)["image"]
    image[1] *= 0.5
    together, alone = graph.predict(image, verbose=0), graph.predict(image, batch_size=1, verbose=0)
    np.testing.assert_array_equal(together["labels"], alone["labels"])
    np.testing.assert_allclose(together["scores"], alone["scores"], atol=1e-5)


def test_the_detector_of_a_loaded_network_gives_the_same(network, tmp_path):
    network.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras", compile=False)
    image = some_input()["image"]
    want, got = (detector(n, score_threshold=0.01).predict(image, verbose=0) for n in (network, again))
    for key in want:
        np.testing.assert_allclose(got[key], want[key], atol=1e-4)


@pytest.mark.slow
def test_the_pyramid_trains_and_detects():
    keras.utils.set_random_seed(0)
    network = create_model("faster_rcnn_resnet50_fpn", (64, 96, 3), 3)
    # Frozen batch norm does not tame random weights: without this a step of SGD ends in NaN or not, by luck.
    for layer in network.get_layer("backbone").layers:
        if layer.name.endswith("_3_bn"):
            layer.gamma.assign(0.1 * keras.ops.ones_like(layer.gamma))
    network.compile("sgd", loss=faster_rcnn.losses())
    before = [np.array(w) for w in network.trainable_weights]
    x = some_input(1)
    x["image"] = x["image"][:, :64]
    assert np.isfinite(network.train_on_batch(x)).all()
    after = [np.array(w) for w in network.trainable_weights]
    assert all(np.isfinite(w).all() for w in after)
    assert sum(np.any(a != b) for a, b in zip(after, before)) > len(after) / 2
    found = detector(network, score_threshold=0.0, max_detections=20).predict(x["image"], verbose=0)
    assert found["boxes"].shape == (1, 20, 4)


def test_half_precision_keeps_boxes_and_losses_in_float32():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16" if keras.backend.backend() != "jax" else "mixed_bfloat16")
        network = create_model("faster_rcnn_resnet18", (SIDE, SIDE, 3), 3)
        outputs = network(some_input(1))
        assert network.get_layer("backbone").compute_dtype in ("float16", "bfloat16")
        for part in outputs.values():
            assert {keras.backend.standardize_dtype(t.dtype) for t in part.values()} == {"float32"}
        assert keras.backend.standardize_dtype(detector(network)(some_input(1)["image"])["boxes"].dtype) == "float32"
    finally:
        keras.config.set_dtype_policy(policy)
