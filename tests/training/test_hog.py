"""HOG and linear SVMs: windows against scikit-image's own, training, stopping and going on."""

import numpy as np
import pytest

from keras_cnns.data import samples as data_samples
from keras_cnns.data import synthetic
from keras_cnns.errors import InputError
from keras_cnns.metrics import detection as metrics
from keras_cnns.training import detect, hog, svm

skimage = pytest.importorskip("skimage.feature")


@pytest.fixture(scope="module")
def samples():
    return [s for s in synthetic.samples(20) if not s.ignored.any()][:6]


def test_a_window_of_the_pyramid_has_the_blocks_that_scikit_image_gives_by_hand(samples, monkeypatch):
    monkeypatch.setattr(hog, "SCALES", (1.0, 0.6))
    image = data_samples.pixels(samples[0])
    features, boxes = hog.pyramid(image)
    columns = (image.shape[1] - 64) // 8 + 1
    i, (row, column) = 3 * columns + 5, (3, 5)
    whole = skimage.hog(image, 9, (8, 8), (2, 2), "L2-Hys", feature_vector=False, channel_axis=-1)
    np.testing.assert_allclose(features[i], whole[row:row + 7, column:column + 7].reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(boxes[i], [48, 32, 96, 80])
    assert len(features) == len(boxes) == hog.window_ops.count(image.shape[:2], (64, 64), 8, (1.0, 0.6))


def test_an_object_alone_looks_as_in_the_pyramid(samples):
    """A box of 48x48 pixels is a window at scale 1."""
    image = data_samples.pixels(samples[0])
    alone = hog.of_box(image, np.array([48.0, 32, 96, 80]))
    np.testing.assert_allclose(alone[0], hog.blocks(image[24:88, 40:104]).reshape(-1), atol=1e-5)
    assert np.isfinite(hog.of_box(image, np.array([0.0, 0, 30, 200]))).all()


@pytest.mark.slow
def test_it_learns_its_images_and_goes_on_where_it_stopped(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(hog, "SCALES", (1.0, 0.7, 0.5, 0.35))
    model = hog.train(samples, synthetic.CLASSES, tmp_path / "whole", progress=False)
    found = hog.detect(model, samples, progress=False)
    assert metrics.voc_ap(detect.truth(samples), found, iou=0.4).mean > 0.7  # few scales, and windows are square

    class Stop(Exception):
        pass

    windows, seen = hog._Windows.__getitem__, []

    def stopping(self, i):
        seen.append(i)
        if len(seen) == len(samples) + 4:
            raise Stop
        return windows(self, i)

    monkeypatch.setattr(svm, "ENOUGH", 0)
    want = hog.train(samples, synthetic.CLASSES, tmp_path / "again", progress=False)
    monkeypatch.setattr(hog._Windows, "__getitem__", stopping)
    with pytest.raises(Stop):
        hog.train(samples, synthetic.CLASSES, tmp_path / "stopped", progress=False)
    assert (tmp_path / "stopped" / "checkpoint.npz").exists()
    monkeypatch.setattr(hog._Windows, "__getitem__", windows)
    model = hog.train(samples, synthetic.CLASSES, tmp_path / "stopped", progress=False)
    np.testing.assert_allclose(model.weights, want.weights, atol=1e-4)
    assert not (tmp_path / "stopped" / "checkpoint.npz").exists()
    again = hog.load(tmp_path / "stopped")
    np.testing.assert_array_equal(again.biases, model.biases)


def test_what_is_wrong_is_said(samples, tmp_path):
    with pytest.raises(InputError, match="No samples"):
        hog.train([], synthetic.CLASSES, tmp_path)
    with pytest.raises(InputError, match="is not there, or damaged"):
        hog.load(tmp_path)
    np.save(tmp_path / "hog.npy", np.zeros(3))
    (tmp_path / "hog.npy").rename(tmp_path / "hog.npz")  # another program's
    with pytest.raises(InputError, match="is not there, or damaged"):
        hog.load(tmp_path)
    (tmp_path / "settings.json").write_text('{"model": "other"}')
    with pytest.raises(InputError, match="another folder"):
        hog.train(samples, synthetic.CLASSES, tmp_path)
