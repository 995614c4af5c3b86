import keras
import numpy as np
import pytest

from keras_cnns.models import create_model, detector, info
from keras_cnns.models.detection import faster_rcnn, mask_rcnn

SIDE = 96
CROP = mask_rcnn.VARIANTS["mask_rcnn_resnet18"].crop


def some_input(batch=2, labels=((1, 3, 0),)):
    rng = np.random.default_rng(0)
    rows = np.array([[[8, 8, 60, 60], [40, 30, 90, 80], [0, 0, 0, 0]]], "float32")
    masks = np.zeros((1, 3, CROP, CROP), "uint8")
    masks[:, 0, 1:53, 1:27] = masks[:, 1, 10:40, 1:51] = 1
    return {"image": rng.uniform(0, 255, (batch, SIDE, SIDE, 3)).astype("float32"), "boxes": rows.repeat(batch, 0),
            "labels": np.array(labels, "int32").repeat(batch, 0), "masks": masks.repeat(batch, 0)}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return create_model("mask_rcnn_resnet18", (SIDE, SIDE, 3), 3)


def losses_of(network, x):
    outputs = network(x)
    return {key: float(loss(outputs["targets"][key], outputs["predictions"][key]))
            for key, loss in mask_rcnn.losses(network.name).items()}


@pytest.mark.parametrize("name, trainable, everything", [
    ("mask_rcnn_resnet50_fpn", 44_401_393, 44_507_633), ("keypoint_rcnn_resnet50_fpn", 59_137_258, 59_243_498)])
def test_the_releases_have_their_parameters(name, trainable, everything):
    assert info.weightless(lambda: info.parameters(mask_rcnn.build(name))) == (trainable, everything)


def test_the_c4_form_is_faster_rcnns_and_two_layers():
    c4 = faster_rcnn.VARIANTS["faster_rcnn_resnet50_c4"]._replace(scales=(2, 4, 8, 16, 32))
    plain = info.weightless(lambda: info.parameters(faster_rcnn.network(faster_rcnn.graph(c4, num_classes=80), "c4")))
    ours = info.weightless(lambda: info.parameters(mask_rcnn.build("mask_rcnn_resnet50_c4")))
    branch = 2 * 2 * 2048 * 256 + 256 + 256 * 81 + 81  # section 3, Fig. 4, left
    assert ours == tuple(count + branch for count in plain)


def test_the_c4_form_shares_its_last_stage(monkeypatch):
    monkeypatch.setitem(mask_rcnn.VARIANTS, "small", mask_rcnn.Variant(
        "faster_rcnn_resnet18_c4", (), 3, CROP, own=dict(rois=16, proposals=(50, 20), scales=(2, 4))))
    keras.utils.set_random_seed(0)
    network = mask_rcnn.build("small", (SIDE, SIDE, 3), 3)
    assert network.get_layer("mask_head").input.shape[1:] == (7, 7, 512)
    found = mask_rcnn.detector(network, score_threshold=0.01)(some_input()["image"])
    assert found["masks"].shape == (2, 100, 14, 14) and np.array(found["count"]).min() > 0
    # The masks are those of the final boxes, one by one.
    boxes = np.array(found["boxes"])[:, :1]
    maps = keras.tree.flatten(network.get_layer("backbone")(some_input()["image"]))
    features = mask_rcnn.conv5_x(network.get_layer("roi_pool"), network.get_layer("roi_head"), maps, boxes)
    logits = np.array(network.get_layer("mask_head")(features[0]))[0]
    want = 1 / (1 + np.exp(-logits[..., int(found["labels"][0, 0])]))
    np.testing.assert_allclose(found["masks"][0, 0], want, atol=1e-4)
    assert np.isfinite(list(losses_of(network, some_input()).values())).all()


def test_objects_come_first_and_have_their_masks(network):
    sampled = network.get_layer("sample_rois").output[0]
    rois, outputs = keras.Model(network.input, [sampled, network.output])(some_input())
    assert set(outputs["predictions"]) == set(outputs["targets"]) == set(mask_rcnn.losses(network.name))
    logits, targets = outputs["predictions"]["mask"], np.array(outputs["targets"]["mask"])
    assert logits.shape == (2, 16, 28, 28, 4) and targets.shape == (2, 16, 28 * 28 + 1)
    labels = np.array(outputs["targets"]["roi_cls"])[..., 4]
    assert (labels[:, 16:] <= 0).all() and (labels > 0).sum() == (targets[..., -1] > 0).sum() >= 2
    # The ground truth itself is among the regions: half of the first object's box is its mask.
    exact = (np.abs(np.array(rois)[0, :16] - [8, 8, 60, 60]).max(-1) < 1e-3).argmax()
    mask = targets[0, exact, :-1].reshape(28, 28)
    assert mask[:-1, :13].min() > 0.9 and mask[:, 15:].max() < 0.1


@pytest.mark.parametrize("labels", [((0, 0, 0),), ((-1, 0, 0),)])
def test_without_an_object_there_is_no_mask_loss(network, labels):
    found = losses_of(network, some_input(2, labels))
    assert np.isfinite(list(found.values())).all() and found["mask"] == found["roi_reg"] == 0


def test_an_object_of_no_mask_teaches_its_box_alone(network):
    x = some_input(1)
    x["masks"][:] = 0
    found = losses_of(network, x)
    assert np.isfinite(list(found.values())).all() and found["mask"] == 0 and found["roi_reg"] > 0


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow's tape")
def test_a_crowd_over_half_the_image_gives_the_mask_head_no_gradient():
    """Regions inside it are not objects of the crowd's class, nor of any other, unless they are another object's."""
    import tensorflow as tf

    network = create_model("mask_rcnn_resnet18", (SIDE, SIDE, 3), 3)
    x = some_input(1, ((-1, 3, 0),))
    x["boxes"][0, 0], x["masks"][0, 0] = (0, 0, 48, 96), 1
    outputs = network(x, training=False)
    logits = tf.convert_to_tensor(outputs["predictions"]["mask"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = mask_rcnn.losses(network.name)["mask"](outputs["targets"]["mask"], logits)
    gradient = np.abs(tape.gradient(loss, logits).numpy()[0])
    labels = np.array(outputs["targets"]["roi_cls"])[0, :16, 4]
    assert (labels == 3).any() and set(labels) <= {-1, 0, 3} and float(loss) > 0
    assert gradient[labels != 3].sum() == 0 and gradient[..., :3].sum() == 0 and gradient[labels == 3].sum() > 0


def test_detections_have_masks_and_padding_has_none(network):
    found = detector(network, score_threshold=0.01, max_detections=30).predict(some_input()["image"], verbose=0)
    assert found["masks"].shape == (2, 30, 28, 28) and found["masks"].dtype == "float32"
    for i, n in enumerate(found["count"]):
        assert found["masks"][i, n:].sum() == 0
        assert (found["masks"][i, :n] > 0).all() and (found["masks"][i, :n] < 1).all()


def test_the_detector_of_a_loaded_network_gives_the_same(network, tmp_path):
    network.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras", compile=False)
    image = some_input()["image"]
    want, got = (detector(n, score_threshold=0.01, max_detections=20).predict(image, verbose=0)
                 for n in (network, again))
    for key in want:
        np.testing.assert_allclose(got[key], want[key], atol=1e-4)


def test_half_precision_keeps_masks_and_losses_in_float32():
    network = create_model("mask_rcnn_resnet18", (SIDE, SIDE, 3), 3, dtype_policy="mixed_bfloat16")
    outputs = network(some_input(1))
    for part in outputs.values():
        assert {keras.backend.standardize_dtype(t.dtype) for t in part.values()} == {"float32"}
    found = detector(network, max_detections=5)(some_input(1)["image"])
    assert keras.backend.standardize_dtype(found["masks"].dtype) == "float32"


@pytest.mark.slow
def test_the_pyramids_train_and_find_masks_and_joints():
    rng = np.random.default_rng(0)
    for name, key, own, shape in (
            ("mask_rcnn_resnet50_fpn", "masks", rng.integers(0, 2, (1, 3, 224, 224)).astype("uint8"), (1, 5, 28, 28)),
            ("keypoint_rcnn_resnet50_fpn", "keypoints", rng.uniform(5, 80, (1, 3, 17, 3)).astype("float32"),
             (1, 5, 56, 56, 17))):
        keras.utils.set_random_seed(0)
        classes = 1 if key == "keypoints" else 3
        network = create_model(name, (SIDE, SIDE, 3), classes)
        for layer in network.get_layer("backbone").layers:  # random weights and frozen batch norm: see test_faster_rcnn
            if layer.name.endswith("_3_bn"):
                layer.gamma.assign(0.1 * keras.ops.ones_like(layer.gamma))
        network.compile(keras.optimizers.SGD(1e-4), loss=mask_rcnn.losses(name))
        x = some_input(1, ((1, classes, 0),))
        x[key] = own
        x = {field: x[field] for field in network.input}
        before = [np.array(w) for w in network.trainable_weights]
        assert np.isfinite(network.train_on_batch(x)).all()
        changed = [np.any(np.array(w) != b) for w, b in zip(network.trainable_weights, before)]
        assert sum(changed) > len(changed) / 2 and all(np.isfinite(w).all() for w in network.get_weights())
        found = detector(network, score_threshold=0.0, max_detections=5).predict(x["image"], verbose=0)
        assert found["masks" if key == "masks" else "heatmaps"].shape == shape
