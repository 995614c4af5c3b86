import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import targets


def match(anchors, boxes, labels, *args, **kwargs):
    matched, label = targets.match(np.array(anchors, "float32"), np.array(boxes, "float32"), np.array(labels, "int32"),
                                   *args, **kwargs)
    return np.array(matched), np.array(label)


ANCHORS = [[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 2], [50, 50, 60, 60]]
BOX = [0, 0, 10, 10]


def test_anchors_are_labelled_by_their_overlap():
    _, label = match(ANCHORS, [[BOX]], [[3]], 0.7, 0.3)
    assert label.tolist() == [[3, -1, 0, 0]]  # IoU 1, 0.6, 0.2, 0


def test_the_best_anchor_of_a_box_is_kept_where_asked():
    far = [[100, 100, 200, 200]]
    assert match([[100, 100, 200, 140], *ANCHORS], [far], [[1]], 0.7, 0.3)[1][0, 0] == -1
    assert match([[100, 100, 200, 140], *ANCHORS], [far], [[1]], 0.7, 0.3, keep_best=True)[1][0, 0] == 1


def test_each_anchor_goes_to_its_best_box():
    matched, label = match([[0, 0, 10, 10]], [[[0, 0, 10, 8], [0, 0, 10, 9]]], [[1, 2]], 0.5, 0.5)
    assert label.tolist() == [[2]] and matched.tolist() == [[[0, 0, 10, 9]]]


def test_padding_rows_are_never_matched():
    with_padding = match(ANCHORS, [[BOX, [0, 0, 0, 0]]], [[3, 0]], 0.7, 0.3, keep_best=True)
    without = match(ANCHORS, [[BOX]], [[3]], 0.7, 0.3, keep_best=True)
    np.testing.assert_array_equal(with_padding[1], without[1])
    assert (match(ANCHORS, [[[0, 0, 0, 0]]], [[0]], 0.7, 0.3, keep_best=True)[1] == 0).all()


def test_an_ignored_region_makes_neither_positives_nor_negatives():
    _, label = match(ANCHORS, [[BOX]], [[-1]], 0.7, 0.3, keep_best=True)
    assert label.tolist() == [[-1, -1, -1, 0]]  # the third lies wholly inside: by its own area, not by IoU


def test_a_large_anchor_over_a_small_ignored_region_stays_background():
    assert match([[0, 0, 100, 100]], [[[40, 40, 60, 60]]], [[-1]], 0.7, 0.3)[1].tolist() == [[0]]


def test_a_small_ignored_region_has_its_rows_like_an_object():
    region = [[[8, 8, 23, 23]]]  # a difficult object of 15 pixels in anchors of 32: IoU 0.22 with the best
    rows = [[0, 0, 32, 32], [4, 4, 36, 36], [20, 20, 52, 52]]
    assert match(rows, region, [[1]], 0.7, 0.3, keep_best=True)[1].tolist() == [[1, 1, 0]]
    assert match(rows, region, [[-1]], 0.7, 0.3, keep_best=True)[1].tolist() == [[-1, -1, 0]]
    near = [[0, 0, 10, 10], [0, 0, 10, 22]]  # IoU 0.45 with the region, by its own area 0.45 too
    assert match(near, [[BOX]], [[-1]], 0.7, 0.3)[1].tolist() == [[-1, -1]]


def test_an_object_inside_an_ignored_region_is_still_learnt():
    _, label = match([[0, 0, 10, 10]], [[BOX, [0, 0, 100, 100]]], [[2, -1]], 0.7, 0.3)
    assert label.tolist() == [[2]]


def test_match_equals_a_loop():
    rng = np.random.default_rng(0)
    def some(n):
        corner = rng.uniform(0, 100, (2, n, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 60, (2, n, 2))], -1).astype("float32")

    anchors, boxes, labels = some(200), some(6), rng.integers(-1, 4, (2, 6)).astype("int32")
    matched, label = match(anchors, boxes, labels, 0.5, 0.4, keep_best=True)
    iou, ioa = np.array(box_ops.iou(anchors, boxes)), np.array(box_ops.ioa(anchors, boxes))
    for b in range(2):
        real = [g for g in range(6) if labels[b, g] > 0]
        best_of = {g: max(iou[b, a, g] for a in range(200)) for g in real}
        for a in range(200):
            best = max(real, key=lambda g: iou[b, a, g])
            chosen = any(iou[b, a, g] == best_of[g] > 0 for g in real)
            if iou[b, a, best] >= 0.5 or chosen:
                want = labels[b, best]
                np.testing.assert_array_equal(matched[b, a], boxes[b, best])
            elif iou[b, a, best] < 0.4 and not any(
                    ioa[b, a, g] >= 0.5 or iou[b, a, g] >= 0.4 or iou[b, a, g] == iou[b, :, g].max() > 0
                    for g in range(6) if labels[b, g] < 0):
                want = 0
            else:
                want = -1
            assert label[b, a] == want


def test_a_sample_holds_its_quota():
    labels = np.array([[1] * 30 + [0] * 70, [1] * 2 + [0] * 8 + [-1] * 90], "int32")
    index, real = targets.sample(labels, 40, 0.25, keras.random.SeedGenerator(0))
    taken = np.take_along_axis(labels, np.array(index), 1)
    assert [(taken[0] == v).sum() for v in (1, 0)] == [10, 30] and np.array(real)[0].all()
    assert [(taken[1][np.array(real)[1]] == v).sum() for v in (1, 0, -1)] == [2, 8, 0]  # what there is, nothing else
    assert len(set(np.array(index)[0].tolist())) == 40


def test_keep_sampled_marks_the_same_numbers():
    labels = np.array([[1] * 30 + [0] * 70, [1] * 2 + [0] * 8 + [-1] * 90], "int32")
    kept = np.array(targets.keep_sampled(labels, 40, 0.25, keras.random.SeedGenerator(0)))
    assert [(kept[0] == v).sum() for v in (1, 0)] == [10, 30]
    assert [(kept[1] == v).sum() for v in (1, 0)] == [2, 8]


def test_sampling_is_even_and_changes_from_call_to_call():
    labels, seed, counts = np.zeros((1, 20), "int32"), keras.random.SeedGenerator(1), np.zeros(20)
    for _ in range(200):
        counts += np.array(targets.keep_sampled(labels, 5, 0.5, seed))[0] == 0
    assert counts.sum() == 1000 and counts.min() > 20 and counts.max() < 85


def test_a_sample_does_not_depend_on_the_place_in_the_batch():
    labels = np.random.default_rng(0).integers(-1, 3, (4, 60)).astype("int32")
    together = np.array(targets.keep_sampled(labels, 16, 0.5, keras.random.SeedGenerator(3)))
    alone = [np.array(targets.keep_sampled(labels[i:i + 1], 16, 0.5, keras.random.SeedGenerator(3)))[0]
             for i in range(4)]
    np.testing.assert_array_equal(together, alone)


MEMORY = """
import keras
import numpy as np
from keras_cnns.layers.detection import Anchors, AnchorTargets
from keras_cnns.ops import anchors
image = np.zeros((1, 800, 1333, 3), "float32")
maps = [np.zeros((1, -(-800 // s), -(-1344 // s), 1), "float32") for s in (4, 8, 16, 32, 64)]
grids = Anchors([anchors.about_origin((s,), (0.5, 1, 2)) for s in (32, 64, 128, 256, 512)], 32)(image, maps)
assert sum(len(g) for g in grids) == 268_569
corner = np.random.default_rng(0).uniform(0, 600, (1, 100, 2))
boxes = np.concatenate([corner, corner + 150], -1).astype("float32")
layer, labels = AnchorTargets(), np.ones((1, 100), "int32")
layer([g[:99] for g in grids], boxes, labels)
def kilobytes(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))
open("/proc/self/clear_refs", "w").write("5")  # the largest size begins anew
before = kilobytes("VmRSS")
targets = layer(grids, boxes, labels)
print((kilobytes("VmHWM") - before) / 1024, targets.shape[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's largest size since a moment")
def test_targets_of_a_pyramid_fit_into_little_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr[-2000:]
    megabytes = float(done.stdout.split()[-2])
    print(f"{megabytes:.0f} MB for 268,569 anchors and 100 boxes")
    assert megabytes < 300
