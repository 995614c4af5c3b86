import numpy as np
import pytest

from keras_cnns.ops import windows


@pytest.mark.parametrize("image_size, window, stride, scales", [
    ((480, 640), (64, 64), 8, (1.0, 0.5, 0.25)), ((33, 90), (32, 32), 4, (1.0,)), ((100, 70), (64, 32), 7, (2.0, 0.9)),
    ((20, 200), (32, 32), 4, (1.0, 1.7))])
def test_windows_by_formula_are_those_that_fit_by_hand(image_size, window, stride, scales):
    found, sides = [], []
    for scale in scales:
        height, width = (int(scale * side + 0.5) for side in image_size)
        for y in range(0, height, stride):
            for x in range(0, width, stride):
                if y + window[0] <= height and x + window[1] <= width:
                    found.append((x, y, x + window[1], y + window[0]))
                    sides.append((image_size[1] / width, image_size[0] / height) * 2)
    assert windows.count(image_size, window, stride, scales) == len(found)
    boxes = windows.boxes(image_size, window, stride, scales)
    np.testing.assert_allclose(boxes, np.multiply(found, sides).reshape(-1, 4), rtol=1e-6)


def test_the_formula_of_the_lecture_and_no_window_at_all():
    assert windows.count((8, 10), (4, 4), 2) == ((10 - 4) // 2 + 1) * ((8 - 4) // 2 + 1) == 12
    assert windows.count((8, 10), (16, 4), 2) == 0 and windows.boxes((8, 10), (16, 4), 2).shape == (0, 4)
