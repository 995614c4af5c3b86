import numpy as np
import pytest
import tensorflow as tf

from keras_cnns.data import augment, batches, images, synthetic, views
from keras_cnns.data.samples import LabelImage, Sample
from keras_cnns.errors import InputError
from keras_cnns.ops import masks as mask_ops


@pytest.fixture(scope="module")
def samples():
    return synthetic.samples(13)


def seen(dataset):
    """Batches as lists of NumPy dicts."""
    return [{key: value.numpy() for key, value in batch.items()} for batch in dataset]


def numbered(count):
    """Samples that can be told apart by their label: one-pixel pictures."""
    pixel = tf.io.encode_png(np.zeros((1, 1, 3), "uint8")).numpy()
    return [Sample(str(i), pixel, (1, 1), label=i) for i in range(count)]


def labels(dataset):
    return np.concatenate([batch["label"] for batch in dataset]).tolist()


def test_ground_truth_is_in_pixels_of_the_canvas(samples):
    batch = next(iter(batches.training(samples, (96, 128), 4, 1, seed=0, view=lambda size, canvas, boxes, seed: (
        views.letterbox(size, canvas), False))))
    order = batches.epoch(13, 4, 0, 0)[0]
    for i, index in enumerate(order):
        sample = samples[index]
        canvas, scale = images.letterbox(images.decode(sample.source, "x"), (96, 128))
        np.testing.assert_allclose(batch["image"][i], canvas, atol=0.01)  # as in inference
        count = len(sample.boxes)
        np.testing.assert_allclose(batch["boxes"][i, :count], sample.boxes * np.tile(scale, 2), atol=1e-4)
        assert (batch["labels"][i, :count].numpy() == np.where(sample.ignored, -1, sample.labels)).all()
        assert not batch["boxes"][i, count:].numpy().any() and not batch["labels"][i, count:].numpy().any()


def test_a_run_that_starts_again_sees_what_it_would_have_seen(samples):
    def run(first_step):
        return seen(batches.training(samples, (64, 64), 4, 3, seed=7, first_step=first_step, view=views.ssd))

    for again, before in zip(run(4), run(0)[4:], strict=True):
        for key in before:
            np.testing.assert_array_equal(again[key], before[key])


def test_another_seed_or_epoch_is_another_order_and_chance(samples):
    first, second = (seen(batches.training(samples, (64, 64), 13, 2, seed=seed)) for seed in (0, 1))
    assert (first[0]["image"] != first[1]["image"]).any() and (first[0]["image"] != second[0]["image"]).any()


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [12, 13, 5])
def test_workers_share_nothing_and_have_all_but_the_remainder(workers, count):
    parts = [labels(batches.training(numbered(count), (1, 1), 2, 1, 0, worker=w, workers=workers))
             for w in range(workers)]
    together = sum(parts, [])
    assert len(set(map(len, parts))) == 1
    if count >= 2 * workers:
        assert len(set(together)) == len(together) >= count - (2 * workers - 1)


def test_padding_repeats_the_epochs_beginning_and_drops_nothing():
    parts = [labels(batches.training(numbered(13), (1, 1), 4, 1, 0, worker=w, workers=2, remainder="pad"))
             for w in range(2)]
    assert [len(part) for part in parts] == [8, 8]
    assert set(sum(parts, [])) == set(range(13))


def test_an_epoch_smaller_than_a_batch_fills_it():
    assert sorted(labels(batches.training(numbered(3), (1, 1), 4, 1, 0))) in ([0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2])


def test_another_remainder_is_refused():
    with pytest.raises(InputError, match="'drop', 'pad'"):
        batches.training(numbered(3), (1, 1), 2, 1, 0, remainder="keep")


def test_buckets_have_one_size_a_batch_and_every_image_at_its_own(samples):
    wide, tall = (64, 96), (96, 64)
    bucket = batches.bucketed(samples, (wide, tall))
    for sample, i in zip(samples, bucket):
        assert (sample.size[1] >= sample.size[0]) == (i == 0)
    steps, of = batches.bucket_batches(bucket, 4, 0, 0)
    assert set(steps.reshape(-1)) == set(range(13))
    found = seen(batches.training_in_buckets(samples, (wide, tall), 4, 2, 0))
    assert len(found) == 2 * len(steps)
    for batch, members, i in zip(found, steps, of):
        assert batch["image"].shape == (4, *(wide, tall)[i], 3)
        assert (bucket[members] == i).all()
    again = seen(batches.training_in_buckets(samples, (wide, tall), 4, 2, 0, first_step=3))
    np.testing.assert_array_equal(again[0]["image"], found[3]["image"])


def test_sizes_that_no_annotation_says_are_read_from_the_header(samples):
    unknown = [s._replace(size=(0, 0)) for s in samples]
    sizes = (64, 96), (96, 64)
    assert (batches.bucketed(unknown, sizes) == batches.bucketed(samples, sizes)).all()


def test_masks_joints_and_segmentation_travel_in_batches(tmp_path):
    picture = tf.io.encode_png(np.full((20, 30, 3), 90, "uint8")).numpy()
    numbers = np.zeros((20, 30, 1), "uint8")
    numbers[5:15, 6:18] = 1
    numbers = tf.io.encode_png(numbers).numpy()
    sample = Sample("a", picture, (20, 30), np.float32([[6, 5, 18, 15]]), np.int32([3]), np.array([False]),
                    masks=LabelImage(numbers), segmentation=LabelImage(numbers, {0: 0, 1: 3}),
                    keypoints=np.float32([[[6, 5, 2], [17, 14, 1], [0, 0, 0]]]))
    batch, = batches.training([sample], (40, 60), 1, 1, 0, view=lambda size, canvas, boxes, seed: (
        views.whole(size), True), pairs=((0, 1),))
    np.testing.assert_array_equal(batch["boxes"][0], [[24, 10, 48, 30]])
    mask = batch["masks"][0, 0].numpy()
    assert mask[10:30, 24:48].all() and mask.sum() == 20 * 24
    np.testing.assert_array_equal(batch["segmentation"][0], 3 * mask)
    np.testing.assert_array_equal(batch["keypoints"][0, 0], [[26, 28, 1], [48, 10, 2], [0, 0, 0]])


def test_the_colour_beside_the_image_stays():
    sample = Sample("a", tf.io.encode_png(np.full((10, 20, 3), 90, "uint8")).numpy(), (10, 20))
    batch, = batches.training([sample], (40, 40), 1, 1, 0, colour=lambda image, seed: image + 50.0)
    np.testing.assert_allclose(batch["image"][0, :20], 140.0)
    np.testing.assert_allclose(batch["image"][0, 20:], np.broadcast_to(images.PADDING, (20, 40, 3)))


def test_elements_may_be_changed_and_batches_mixed(samples):
    labelled = [s._replace(label=i) for i, s in enumerate(samples)]

    def mix(batch, seed):
        return augment.mixup(batch["image"], tf.one_hot(batch["label"], len(samples)), seed, alpha=1.0)

    def run(first_step=0):
        return list(batches.training(labelled, (64, 64), 4, 2, 0, first_step, change=augment.elastic, mix=mix))

    first = run()
    assert first[0][0].shape == (4, 64, 64, 3) and (np.count_nonzero(first[0][1], axis=1) == 2).any()
    np.testing.assert_allclose(tf.reduce_sum(first[0][1], 1), 1.0, rtol=1e-5)
    for again, before in zip(run(4), first[4:], strict=True):
        np.testing.assert_array_equal(again[0], before[0])
        np.testing.assert_array_equal(again[1], before[1])


def test_what_only_some_samples_have_is_named(samples):
    some = [samples[0]._replace(label=1), samples[1]]
    with pytest.raises(InputError, match=f"{samples[1].image_id}.*no label"):
        batches.training(some, (32, 32), 1, 1, 0)


def test_no_samples_are_refused():
    with pytest.raises(InputError, match="No samples"):
        batches.training([], (32, 32), 1, 1, 0)


def test_a_run_knows_its_length(samples):
    assert len(batches.training(samples, (32, 32), 4, 5, 0, first_step=2)) == 5 * 3 - 2


def test_masks_cut_to_their_boxes_travel_with_the_view():
    """Three drawn objects: the crop of each is what the whole mask shows around its box, whichever way it is turned."""
    drawn = [sample for sample in synthetic.samples(12, masks=True) if len(sample.labels) == 3][:2]
    one = {"view": views.jittered, "seed": 4, "epochs": 3, "batch": 2, "image_size": (96, 128)}
    whole, cut = (list(batches.training(drawn, **one, crop=crop)) for crop in (None, 40))
    assert len(whole) == len(cut) == 3
    for a, b in zip(whole, cut):
        assert b["masks"].shape == (2, 3, 40, 40) and b["masks"].dtype == "uint8"
        np.testing.assert_array_equal(a["boxes"], b["boxes"])
        np.testing.assert_array_equal(a["image"], b["image"])
        for masks, crops, boxes in zip(a["masks"].numpy(), b["masks"].numpy(), b["boxes"]):
            start, step = (np.array(part, int) for part in mask_ops.window(boxes, 40))
            for mask, crop, (x, y), (across, down) in zip(masks, crops, start, step):
                beside = np.pad(mask, 200)[200 + y:200 + y + 40 * down:down, 200 + x:200 + x + 40 * across:across]
                np.testing.assert_array_equal(crop, beside)
            assert (masks.any((1, 2)) == crops.any((1, 2))).all()


def test_rows_of_padding_and_objects_out_of_sight_have_empty_crops():
    few, many = (next(s for s in synthetic.samples(20, masks=True) if len(s.labels) == n) for n in (1, 4))
    gone = batches.training([few, many], (64, 64), 2, 1, 0, crop=24, view=lambda size, canvas, boxes, seed: (
        tf.constant([0.0, 0.0, 20.0, 20.0]), False))
    batch, = gone
    assert batch["masks"].shape == (2, 4, 24, 24)
    assert not batch["masks"].numpy()[batch["labels"].numpy() == 0].any()


def with_proposals(samples, *counts):
    """Samples with so many proposals each: their first object's box, over and over."""
    return [s._replace(proposals=np.tile(s.boxes[:1], (n, 1))) for s, n in zip(samples, counts, strict=True)]


def test_proposals_go_where_the_boxes_go_and_are_padded(samples):
    few = with_proposals(samples[:3], 2, 5, 0)
    for regions, rows in ((None, 5), (8, 8)):
        for batch in seen(batches.training(few, (96, 128), 3, 2, 0, regions=regions)):
            assert batch["proposals"].shape == (3, rows, 4)
            counts = (batch["proposals"].any(-1)).sum(-1)
            assert sorted(counts) == [0, 2, 5]
            for i, n in enumerate(counts):
                assert (batch["proposals"][i, :n] == batch["boxes"][i, 0]).all()


def test_a_proposal_beside_the_view_is_a_row_of_padding(samples):
    far = samples[0]._replace(proposals=np.array([[0, 0, 10, 10], [200, 200, 220, 220]], "float32"))

    def corner(size, canvas, boxes, seed):
        return tf.constant([100.0, 100.0, 210.0, 210.0]), False

    batch = seen(batches.training([far], (55, 55), 1, 1, 0, view=corner))[0]
    np.testing.assert_allclose(batch["proposals"], [[[0, 0, 0, 0], [50, 50, 55, 55]]], atol=1e-4)


def test_canvases_show_proposals_in_their_pixels(samples):
    few = with_proposals(samples[:3], 2, 3, 1)
    for elements in (batches.canvases(few, (48, 64), 3, regions=4), batches.resized(few, 80, 120, regions=4)):
        for shown, scale, _ in elements:
            assert shown["proposals"].shape[1:] == (4, 4)
    shown, scale, _ = next(iter(batches.canvases(few, (48, 64), 3)))
    np.testing.assert_allclose(shown["proposals"][1, 2], few[1].boxes[0] * np.tile(scale[1], 2), rtol=1e-5)


def test_more_proposals_than_there_is_room_for_and_none_among_some_are_refused(samples):
    few = with_proposals(samples[:3], 2, 5, 1)
    with pytest.raises(InputError, match="has 5 proposals, more than the 4"):
        batches.training(few, (48, 64), 3, 1, 0, regions=4)
    with pytest.raises(InputError, match="has no proposals, which others have"):
        batches.training([few[0], samples[1]], (48, 64), 2, 1, 0)
