import os
import subprocess

import numpy as np
import pytest

from keras_cnns.ops import masks

TORCHVISION = os.environ.get("KERAS_CNNS_TORCHVISION")


def bilinear(image, y, x):
    """The mask at one place, a loop's step: the border counts on beside the image, and nothing a pixel further out."""
    height, width = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    low = (1 - x + x0) * image[y0, x0] + (x - x0) * image[y0, x1]
    return (1 - y + y0) * low + (y - y0) * ((1 - x + x0) * image[y1, x0] + (x - x0) * image[y1, x1])


def aligned(image, roi, size):
    """RoIAlign of the whole mask, a sample a pixel, by loop."""
    sides = np.maximum(roi[2:] - roi[:2], 1.0)
    across, down = np.ceil(sides / size).astype(int)
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            out[i, j] = np.mean([bilinear(image, roi[1] + (i + (k + 0.5) / down) * sides[1] / size,
                                          roi[0] + (j + (m + 0.5) / across) * sides[0] / size)
                                 for k in range(down) for m in range(across)])
    return out


def cut_out(image, box, size):
    """A crop by loop."""
    start, step = (np.array(t)[0] for t in masks.window(box[None], size))
    crop = np.zeros((size, size), "uint8")
    for i in range(size):
        for j in range(size):
            x, y = (start + step * (j, i)).astype(int)
            if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                crop[i, j] = image[y, x]
    return crop


def blob(height, width, box):
    """An ellipse that fills a box."""
    y, x = np.mgrid[:height, :width] + 0.5
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return (((x - middle[0]) / half[0]) ** 2 + ((y - middle[1]) / half[1]) ** 2 <= 1).astype("uint8")


BOXES = np.float32([[3.2, 4.7, 17.1, 11.9], [0, 0, 9, 26], [28.5, 10, 40, 30], [0, 0, 40, 30]])
REGIONS = np.float32([[2, 4, 19.5, 12.2], [0, 1.5, 11, 30], [26, 9, 40, 30], [39.7, 29.8, 40, 30]])


def align(size, cells):
    crops = np.stack([cut_out(blob(30, 40, box), box, cells) for box in BOXES])
    return np.array(masks.align(crops[None], BOXES[None], REGIONS[None], size, (30, 40)))[0]


def test_targets_equal_a_loop_over_the_whole_mask_where_crops_hold_every_pixel():
    want = [aligned(blob(30, 40, box), roi, 7) for box, roi in zip(BOXES, REGIONS)]
    np.testing.assert_allclose(align(7, 42), want, atol=1e-5)


def test_of_objects_larger_than_their_crop_every_second_pixel_is_enough():
    want = np.array([aligned(blob(30, 40, box), roi, 4) for box, roi in zip(BOXES, REGIONS)])
    found = align(4, 22)
    assert (np.array(masks.window(BOXES[3], 22)[1]) == 2).all()
    assert np.abs(found - want)[3].max() < 0.3 and np.abs(found - want).mean() < 0.03
    np.testing.assert_allclose(found[0], want[0], atol=1e-5)  # it fits


def test_a_crop_shows_its_box_and_a_pixel_more():
    for size in (3, 8, 20, 100):
        start, step = (np.array(t) for t in masks.window(BOXES, size))
        first, last = start - np.floor((step - 1) / 2), start + step * (size - 1) + np.ceil((step - 1) / 2)
        assert (first < BOXES[:, :2]).all() and (last + 1 > BOXES[:, 2:]).all() and (step == step.round()).all()


def paste_by_loop(mask, box, height, width):
    """The rule of the authors' code for one mask, pixel by pixel."""
    size = len(mask) + 2
    padded = np.pad(mask, 1).astype("float64")
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * size / len(mask)
    x1, y1, x2, y2 = (int(v) for v in (*(middle - half), *(middle + half)))
    out = np.zeros((height, width), bool)
    for y in range(max(y1, 0), min(y2 + 1, height)):
        for x in range(max(x1, 0), min(x2 + 1, width)):
            place = [max((at - low + 0.5) * size / max(high - low + 1, 1) - 0.5, 0)
                     for at, low, high in ((y, y1, y2), (x, x1, x2))]
            out[y, x] = bilinear(padded, *place) > 0.5
    return out


def test_pasting_equals_a_loop():
    rng = np.random.default_rng(0)
    corner = rng.uniform(-10, 35, (12, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 40, (12, 2))], 1)
    given = rng.uniform(size=(12, 5, 5))
    want = [paste_by_loop(mask, box, 30, 40) for mask, box in zip(given, boxes)]
    np.testing.assert_array_equal(masks.paste(given, boxes, 30, 40), want)


def test_pasting_nothing_and_beside_the_image_is_legal():
    assert masks.paste(np.zeros((0, 28, 28)), np.zeros((0, 4)), 5, 6).shape == (0, 5, 6)
    boxes = [[-50, -50, -20, -20], [100, 2, 130, 4], [2, 100, 4, 130], [3, 3, 3, 3]]
    assert masks.paste(np.ones((4, 28, 28)), boxes, 20, 30)[:3].sum() == 0


def test_what_a_cut_leaves_is_that_part_by_hand():
    mask = np.zeros((1, 4, 4), "float32")
    mask[0, :, 2:] = 1
    whole = np.float32([[0, 0, 40, 40]])
    np.testing.assert_array_equal(masks.cut(mask, whole, whole), mask)
    right = np.array(masks.cut(mask, whole, np.float32([[25, 0, 40, 20]])))
    assert right.min() == 1
    left = np.array(masks.cut(mask, whole, np.float32([[0, 0, 20, 40]])))[0]
    np.testing.assert_allclose(left, np.tile([0, 0, 0, 0.25], (4, 1)), atol=1e-6)  # the last cell's middle is at 17.5
    assert np.array(masks.cut(mask, whole, np.float32([[40, 0, 40, 40]]))).sum() == 0


def test_a_joint_is_where_its_heat_map_is_hottest():
    heat = np.zeros((1, 56, 56, 2), "float32")
    heat[0, 10, 20, 0], heat[0, 55, 0, 1] = 5, 3
    (joints,) = masks.joints(heat, [[100, 200, 156, 312]])
    np.testing.assert_allclose(joints[0, :2], [120.5, 221], atol=1)
    np.testing.assert_allclose(joints[1, :2], [100.5, 311], atol=1)


PROGRAM = """
import sys
import numpy as np, torch
from torchvision.models.detection import roi_heads
given = {key: torch.from_numpy(value) for key, value in np.load(sys.argv[1]).items()}
size = tuple(given["masks"].shape[1:])
targets = roi_heads.project_masks_on_boxes(given["masks"], given["rois"], given["index"], 28)
pasted = roi_heads.paste_masks_in_image(given["small"][:, None], given["boxes"], size)
joints, scores = roi_heads.heatmaps_to_keypoints(given["heat"].permute(0, 3, 1, 2).contiguous(), given["rois"])
np.savez(sys.argv[2], targets=targets, pasted=pasted[:, 0] > 0.5, joints=joints[..., :2], scores=scores)
"""


@pytest.mark.skipif(not TORCHVISION, reason="no KERAS_CNNS_TORCHVISION")
def test_targets_pasting_and_joints_equal_torchvisions(tmp_path):
    rng = np.random.default_rng(0)
    box = np.float32([[30.4, 20.1, 180.7, 141.2], [0, 0, 200, 150], [150, 5.5, 163, 150]])
    drawn = np.stack([blob(150, 200, b) for b in box])
    index = rng.integers(3, size=60)
    boxes = box[index]
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    rois = np.clip(boxes + rng.normal(0, 0.1, (60, 4)) * sides, 0, [200, 150, 200, 150]).astype("float32")
    rois[:, 2:] = np.maximum(rois[:, 2:], rois[:, :2] + 0.3)
    heat = rng.normal(size=(60, 56, 56, 3)).astype("float32")
    small = rng.uniform(size=(60, 28, 28)).astype("float32")
    jittered = (boxes + rng.normal(0, 0.3, (60, 4)) * sides).astype("float32")
    np.savez(tmp_path / "given.npz", masks=drawn, rois=rois, index=index, small=small, boxes=jittered, heat=heat)
    activate = next(path for name in ("activate-torchvision", "activate")
                    if os.path.exists(path := os.path.join(TORCHVISION, "bin", name)))
    subprocess.run(["bash", "-c", '. "$0" && python "$@"', activate, "-c", PROGRAM, tmp_path / "given.npz",
                    tmp_path / "found.npz"], check=True)
    want = np.load(tmp_path / "found.npz")
    for cells, mean, largest in ((224, 1e-5, 1e-3), (112, 0.01, 0.3)):
        crops = np.stack([cut_out(mask, b, cells) for mask, b in zip(drawn, box)])[index]
        found = np.array(masks.align(crops[None], boxes[None], rois[None], 28, (150, 200)))[0]
        difference = np.abs(found - want["targets"])
        assert difference.mean() < mean and difference.max() < largest
    np.testing.assert_array_equal(masks.paste(small, jittered, 150, 200), want["pasted"])
    joints = masks.joints(heat, rois)
    assert (np.abs(joints[..., :2] - want["joints"]).max(-1) < 1e-3).mean() > 0.99
    np.testing.assert_allclose(joints[..., 2], want["scores"], atol=1e-4)
