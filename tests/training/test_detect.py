import keras
import numpy as np
import pytest

from keras_cnns.data import batches, synthetic
from keras_cnns.errors import InputError
from keras_cnns.metrics import detection as metrics
from keras_cnns.models import create_model, detector, module_of
from keras_cnns.training import callbacks, detect, recipes, runs


@pytest.fixture(scope="module")
def samples():
    return synthetic.samples(10)


def arrays(dataset):
    return [{key: value.numpy() for key, value in batch.items()} for batch in dataset]


def test_batches_are_whole_and_padded_to_one_width(samples):
    taken = arrays(batches.training(samples, (96, 128), 4, 2, seed=0))
    assert len(taken) == 2 * (10 // 4)
    rows = max(len(s.boxes) for s in samples)
    for batch in taken:
        assert batch["image"].shape == (4, 96, 128, 3) and batch["boxes"].shape == (4, rows, 4)
        assert batch["labels"].shape == (4, rows)
        padding = batch["labels"] == 0
        assert (batch["boxes"][padding] == 0).all() and (batch["boxes"][~padding][:, 2:] > 0).all()
        assert batch["boxes"][..., 2].max() <= 128 + 1e-3 and batch["boxes"][..., 3].max() <= 96 + 1e-3


def test_fewer_samples_than_a_batch_fill_it(samples):
    assert arrays(batches.training(samples[:3], (64, 64), 8, 1, 0))[0]["image"].shape[0] == 8


def test_a_run_begun_in_the_middle_sees_what_it_would_have_seen(samples):
    whole = arrays(batches.training(samples, (64, 64), 4, 3, seed=5))
    rest = arrays(batches.training(samples, (64, 64), 4, 3, seed=5, first_step=3))
    assert len(rest) == len(whole) - 3
    for a, b in zip(whole[3:], rest):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_epochs_and_seeds_differ(samples):
    first = arrays(batches.training(samples, (64, 64), 5, 2, seed=0))
    other = arrays(batches.training(samples, (64, 64), 5, 2, seed=1))
    assert (first[0]["image"] != first[2]["image"]).any() and (first[0]["image"] != other[0]["image"]).any()


def test_ignored_objects_reach_the_network_as_regions_to_ignore(samples):
    sample = samples[0]._replace(ignored=np.ones(len(samples[0].labels), bool))
    labels = arrays(batches.training([sample], (64, 64), 1, 1, 0))[0]["labels"]
    assert (labels == -1).sum() == len(sample.labels)


def test_boxes_lie_on_the_objects_after_flip_and_letterbox():
    """A picture that is black but for its one box."""
    import io

    from PIL import Image

    canvas = np.zeros((60, 100, 3), "uint8")
    canvas[10:40, 20:80] = 255
    encoded = io.BytesIO()
    Image.fromarray(canvas).save(encoded, "PNG")
    sample = synthetic.samples(1)[0]._replace(
        source=encoded.getvalue(), size=(60, 100), boxes=np.array([[20, 10, 80, 40]], "float32"),
        labels=np.array([1], "int32"), ignored=np.array([False]))
    lefts = set()
    for batch in arrays(batches.training([sample], (120, 200), 1, 12, 0)):
        x1, y1, x2, y2 = batch["boxes"][0, 0].round().astype(int)
        lefts.add(x1)
        inside = batch["image"][0, y1 + 2:y2 - 2, x1 + 2:x2 - 2]
        assert inside.min() > 250 and batch["image"][0].sum() < 1.1 * 255 * 3 * (y2 - y1) * (x2 - x1)
    assert lefts == {40}  # symmetric, so both ways


def test_detections_come_back_in_pixels_of_the_image(samples):
    keras.utils.set_random_seed(0)
    graph = detector(create_model("faster_rcnn_resnet18", (96, 96, 3), 5), score_threshold=0.0, max_detections=5)
    found = detect.detect(graph, samples[:3], batch=2, progress=False)
    assert len(found) == 3
    for sample, answer in zip(samples, found):
        height, width = sample.size
        assert answer["boxes"][:, [0, 2]].max() <= width and answer["boxes"][:, [1, 3]].max() <= height


def test_eight_images_are_learnt_by_heart(samples):
    keras.utils.set_random_seed(1)
    few = [s for s in samples if not s.ignored.any()][:8]
    network = create_model("faster_rcnn_resnet18", (96, 96, 3), 5)
    network.compile(keras.optimizers.Adam(1e-3), loss=module_of(network.name).losses())
    network.fit(batches.training(few, (96, 96), 8, 100, 0), shuffle=False, verbose=0)
    found = detect.detect(detector(network), few, progress=False)
    assert metrics.voc_ap(detect.truth(few), found).mean > 0.9


def test_a_folder_of_another_run_is_refused(tmp_path, samples):
    recipe = recipes.recipe("faster_rcnn_resnet18")
    arguments = dict(class_names=synthetic.CLASSES, folder=tmp_path / "run", input_shape=(64, 64, 3))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text('{"seed": 0}')
    with pytest.raises(InputError, match="another folder") as error:
        runs.train("faster_rcnn_resnet18", samples, recipe=recipe, **arguments)
    assert str(tmp_path / "run") in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, samples):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        runs.train("faster_rcnn_resnet18", samples, synthetic.CLASSES, tmp_path / "file" / "run")


def test_no_samples_are_refused(tmp_path):
    with pytest.raises(InputError, match="No samples"):
        runs.train("faster_rcnn_resnet18", [], synthetic.CLASSES, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    checkpoint = callbacks.Checkpoint(tmp_path / "checkpoint", history=[{"loss": 1.0}])
    with pytest.raises(FloatingPointError, match="epoch 2.*Lower the learning rate"):
        checkpoint.on_epoch_end(1, {"loss": float("nan")})
    assert checkpoint.history == [{"loss": 1.0}] and not (tmp_path / "checkpoint").exists()


def test_what_is_wrong_leaves_no_folder_behind(tmp_path, samples):
    with pytest.raises(InputError, match="typo.keras"):
        runs.train("faster_rcnn_resnet18", samples, synthetic.CLASSES, tmp_path / "run",
                            input_shape=(64, 64, 3), weights="typo.keras")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path, samples, monkeypatch):
    class ThreeReplicas:
        num_replicas_in_sync = 3

    monkeypatch.setattr(runs.distribute, "strategy", lambda devices: ThreeReplicas())
    with pytest.raises(InputError, match="batch of 4 cannot be shared evenly by 3"):
        runs.train("faster_rcnn_resnet18", samples, synthetic.CLASSES, tmp_path / "run")
