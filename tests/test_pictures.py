import numpy as np

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
