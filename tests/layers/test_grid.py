import numpy as np

from keras_cnns.layers.detection import DecodeGrid


def decoded_by_loop(grid, boxes, size, score_threshold, iou_threshold):
    def iou(a, b):
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        common = max(width, 0) * max(height, 0)
        return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)

    (rows, columns, numbers), (height, width) = grid.shape, size
    found = []
    for label in range(1, numbers - 5 * boxes + 1):
        candidates = []
        for i in range(rows):
            for j in range(columns):
                for x, y, w, h, confidence in grid[i, j, :5 * boxes].reshape(boxes, 5):
                    x, y, w, h = (x + j) / columns * width, (y + i) / rows * height, w * w * width, h * h * height
                    box = np.clip((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 0, (width, height) * 2)
                    candidates.append((min(confidence * grid[i, j, 5 * boxes + label - 1], 1), label, *box))
        kept = []
        for candidate in sorted(candidates, key=lambda c: -c[0]):
            if candidate[0] > score_threshold and all(iou(candidate[2:], other[2:]) <= iou_threshold for other in kept):
                kept.append(candidate)
        found += kept
    return np.array(sorted(found, key=lambda c: -c[0]))


def some_answers(batch=2, boxes=3):
    return np.random.default_rng(0).uniform(0.1, 0.8, (batch, 3, 4, 5 * boxes + 3)).astype("float32")


def test_decoding_equals_a_loop():
    grid = some_answers()
    layer = DecodeGrid(3, (90, 120), 0.2, 0.4, 90)
    layer = DecodeGrid.from_config(layer.get_config())
    found = {key: np.array(value) for key, value in layer(grid).items()}
    for i in range(2):
        want = decoded_by_loop(grid[i], 3, (90, 120), 0.2, 0.4)
        n = found["count"][i]
        assert 10 < n == len(want) < 90
        np.testing.assert_array_equal(found["labels"][i, :n], want[:, 1])
        np.testing.assert_allclose(found["scores"][i, :n], want[:, 0], rtol=1e-5)
        np.testing.assert_allclose(found["boxes"][i, :n], want[:, 2:], atol=1e-3)
        assert not found["scores"][i, n:].any() and not found["labels"][i, n:].any()
