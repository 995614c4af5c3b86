import numpy as np
from PIL import Image

from keras_cnns import pictures


def test_boxes_are_drawn_and_the_image_is_left_alone():
    image = np.zeros((80, 120, 3), "uint8")
    picture = np.array(pictures.draw(image, [[10, 20, 60, 70]], [2], ["a", "b"], [0.75]))
    assert image.sum() == 0 and (picture[70 - 1, 30] == pictures.colour(2)).all()
    assert (picture[40, 35] == 0).all()  # the inside stays clear


def test_ignored_objects_are_grey_and_nothing_is_legal():
    image = np.zeros((80, 120, 3), "uint8")
    picture = np.array(pictures.draw(image, [[10, 20, 60, 70]], [2], ignored=[True]))
    assert (picture[69, 30] == 150).all()
    assert np.array(pictures.draw(image, np.zeros((0, 4)), [])).sum() == 0


def test_neighbouring_classes_look_different():
    colours = np.array([pictures.colour(i) for i in range(1, 21)])
    assert np.abs(np.diff(colours, axis=0)).max(1).min() > 60


def test_a_sheet_holds_its_rows():
    tile = pictures.draw(np.zeros((50, 100, 3), "uint8"), [], [])
    sheet = pictures.sheet([[tile, tile], [tile]], ("left", "right"), width=200)
    assert sheet.width > 400 and sheet.height > 200


def test_an_overlay_veils_masks_and_labels_and_nothing_else():
    image = np.full((6, 8, 3), 100, "uint8")
    masks = np.zeros((2, 6, 8), "uint8")
    masks[0, :2], masks[1, 4:] = 1, 1
    veiled = pictures.overlay(image, masks)
    assert (image == 100).all() and veiled.dtype == np.uint8 and (veiled[2:4] == 100).all()
    np.testing.assert_allclose(veiled[0, 0], (100 + np.array(pictures.colour(1))) / 2, atol=1)
    np.testing.assert_allclose(veiled[5, 0], (100 + np.array(pictures.colour(2))) / 2, atol=1)
    labels = np.zeros((6, 8), "uint8")
    labels[0], labels[1] = 3, 255
    veiled = pictures.overlay(image, segmentation=labels)
    np.testing.assert_allclose(veiled[0, 0], (100 + np.array(pictures.colour(3))) / 2, atol=1)
    assert (veiled[1] == 177).all() and (veiled[2:] == 100).all()


def test_joints_are_dots_rings_or_nothing():
    joints = [[[20, 20, 2], [60, 20, 1], [20, 60, 0]]]
    picture = np.array(pictures.dots(pictures.draw(np.zeros((90, 1280, 3), "uint8"), [], []), joints))
    assert (picture[20, 20] == pictures.colour(1)).all() and not picture[50:].any()
    ring = picture[10:31, 50:71]
    assert ring.any() and (ring.reshape(-1, 3).max(0) == pictures.colour(2)).all()


def test_a_class_without_a_name_has_its_number():
    image = np.zeros((80, 120, 3), "uint8")
    drawn = [np.array(pictures.draw(image, [[10, 40, 60, 70]], [1], names)) for names in (None, ["1"], ["other"])]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_boxes_on_the_border_and_names_of_any_kind_and_length_can_be_drawn():
    for size in ((1, 1), (1, 400), (400, 1), (28, 28), (300, 200)):
        height, width = size
        boxes = [[0, 0, width, height], [0, 0, 0.5, 0.5], [width - 0.5, height - 0.5, width, height]]
        names = ["", "\u6587 \U0001f600\n", "x" * 1000]
        picture = pictures.draw(np.zeros((*size, 3), "uint8"), boxes, [1, 2, 3], names, ignored=[True, False, False])
        assert picture.size == (width, height)


def test_a_picture_fits_on_a_sheet_with_its_proportions():
    assert pictures.fitted((400, 300), 200) == (200, 150)
    assert pictures.fitted((28, 28), 200) == (200, 200)
    assert pictures.fitted((100, 1000), 200) == (40, 400)  # no higher than twice the width
    assert pictures.fitted((1, 10_000), 200) == (1, 400) and pictures.fitted((10_000, 1), 200) == (200, 1)


def test_a_sheet_of_pictures_that_fit_leaves_them_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (150, 200, 3)).astype("uint8")
    sheet = np.array(pictures.sheet([[Image.fromarray(image)] * 2], width=200))
    np.testing.assert_array_equal(sheet[6:156, 212:412], image)


def test_a_confusion_matrix_is_dark_where_a_row_has_its_share():
    matrix = np.array([[8, 0, 2], [0, 0, 0], [1, 9, 0]])
    picture = np.array(pictures.confusion(matrix, ["cat", "dog", "horse"]), int)
    edge = len(picture) - 10 - 3 * 48  # of the first cell
    corners = picture[edge + 3::48, edge + 3::48][:3, :3].sum(-1)
    np.testing.assert_array_equal(np.argsort(corners.reshape(-1)[[0, 2, 6, 7, 1]]), [3, 0, 1, 2, 4])
    assert (corners[1] == 3 * 255).all()
    for rows, columns in ((slice(30, edge - 2), slice(edge, None)), (slice(edge, None), slice(30, edge - 2))):
        assert (picture[rows, columns] < 100).any()  # names beside and above


def test_a_confusion_matrix_of_any_size_fits_a_screen():
    for classes in (1, 2, 21, 100, 1000):
        picture = pictures.confusion(np.eye(classes, dtype=int), [f"a rather long name {i}" for i in range(classes)])
        assert max(picture.size) <= 1300


def test_curves_rise_and_fall_where_their_numbers_do():
    picture = np.array(pictures.curves({"up": np.linspace(0, 1, 50), "down": np.linspace(1, 0, 50)}, "accuracy"), int)
    for i, up in ((1, True), (2, False)):
        y, x = np.nonzero((picture == [int(0.75 * c) for c in pictures.colour(i)]).all(-1)[:, :600])
        left, right = y[x < 200].mean(), y[x > 400].mean()
        assert (left > right) == up and np.ptp(y) > 300 and np.ptp(x) > 400


def test_curves_of_nothing_much_can_be_drawn():
    for lines in ({}, {"a": []}, {"a": [2.0]}, {"a": [float("nan")] * 3}, {"a": [0.0, 0.0], "b": [1e-9]},
                  {"a": [1e12, -4e11, float("inf"), 3]}):
        assert pictures.curves(lines).size == (720, 460)
    broken = np.array(pictures.curves({"a": [0.0, 0.5, float("nan"), 0.5, 1.0]}))
    shade = (broken == [int(0.75 * c) for c in pictures.colour(1)]).all(-1)[36:, :600]
    columns = np.flatnonzero(shade.any(0))
    assert np.diff(columns).max() > 200


def test_masks_are_veiled_under_their_boxes():
    image = np.full((80, 120, 3), 100, "uint8")
    masks = np.zeros((1, 80, 120), "uint8")
    masks[0, 30:60, 20:50] = 1
    picture = np.array(pictures.draw(image, [[10, 20, 60, 70]], [2], masks=masks), int)
    np.testing.assert_allclose(picture[45, 30], (100 + np.array(pictures.colour(1))) / 2, atol=1)
    assert (picture[75, 100] == 100).all() and (picture[69, 30] == pictures.colour(2)).all() and image.max() == 100


def test_precision_over_recall_falls_where_its_numbers_do():
    recall = np.linspace(0, 1, 50)
    picture = np.array(pictures.precision_recall({"cat": (recall, 1 - 0.8 * recall)}, "AP"), int)
    y, x = np.nonzero((picture == [int(0.75 * c) for c in pictures.colour(1)]).all(-1)[:, :600])
    assert y[x < 150].mean() < y[x > 400].mean() and np.ptp(x) > 400
    assert pictures.precision_recall({}).size == (720, 460)


def test_a_skeleton_joins_what_it_is_sure_of_by_side():
    names = ("nose", "left_eye", "right_eye", "left_shoulder", "right_shoulder", "left_hip", "right_hip")
    joints = np.array([[50, 10, 1], [60, 5, 1], [40, 5, 0], [80, 40, 1], [20, 40, 1], [75, 90, 1], [25, 90, 1]], float)
    drawn = np.array(pictures.skeleton(Image.new("RGB", (100, 100)), joints[None], names))
    side = pictures.SIDES
    shoulders_to_hips = [(drawn[65, near] == side[name]).all(-1).any()
                         for name, near in (("left", slice(76, 80)), ("right", slice(21, 25)))]
    assert all(shoulders_to_hips)
    assert (drawn[40, 50] == side[""]).all() and (drawn[90, 50] == side[""]).all()
    assert not drawn[:12, :46].any()  # the eye nobody is sure of, and its bone
    mpii = ("pelvis", "thorax", "right_hip", "right_knee")
    rows = np.array([[50, 60, 1], [50, 20, 1], [30, 60, 1], [30, 90, 1]], float)
    drawn = np.array(pictures.skeleton(Image.new("RGB", (100, 100)), rows[None], mpii))
    assert (drawn[40, 50] == side[""]).all() and (drawn[60, 40] == side["right"]).all()
    assert (drawn[75, 30] == side["right"]).all() and not drawn[75, 60:].any()


def test_labels_are_veiled_over_a_legend_of_those_that_are_there():
    image = np.full((60, 200, 3), 100, "uint8")
    labels = np.zeros((60, 200), "uint8")
    labels[:20], labels[40:] = 2, 255
    picture = pictures.labelled(image, labels, ["none", "cat", "dog"])
    assert picture.width == 200 and picture.height > 60
    pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[:60], pictures.overlay(image, segmentation=labels))
    shades = {tuple(colour) for colour in pixels[60:].reshape(-1, 3)}
    assert pictures.colour(2) in shades and pictures.colour(1) not in shades
    tall = pictures.labelled(image[:, :40], labels[:, :40], ["a long name", "cat", "another long name"])
    assert tall.height > picture.height and pictures.labelled(image, labels).height == picture.height


def test_the_family_of_tasks_is_five_pictures_of_one_image():
    image = np.full((90, 120, 3), 100, "uint8")
    masks = np.zeros((2, 90, 120), "uint8")
    masks[0, 10:30, 10:30] = masks[1, 40:80, 30:100] = 1
    boxes = [(10, 10, 30, 30), (30, 40, 100, 80)]
    sheet = pictures.task_family(image, boxes, [1, 2], masks, ["cat", "dog"], width=120)
    assert sheet.width == 5 * 126 + 6
    panels = [np.asarray(sheet)[32:122, 6 + 126 * i:126 + 126 * i] for i in range(5)]
    one, other = pictures.colour(1), pictures.colour(2)
    inside = (60, 65)  # of the larger object
    assert (panels[0][inside] == 100).all() and (panels[1][inside] == 100).all()
    assert (panels[1] == other).all(-1).any() and not (panels[1] == one).all(-1).any()  # the largest alone
    assert (panels[2] == other).all(-1).any() and (panels[2] == one).all(-1).any()
    for panel in panels[3:]:
        np.testing.assert_array_equal(panel[inside], [(100 + part) // 2 for part in other])
