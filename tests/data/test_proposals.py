import numpy as np
import pytest

from keras_cnns.data import proposals, synthetic
from keras_cnns.data.samples import Sample
from keras_cnns.errors import InputError
from keras_cnns.metrics.detection import proposal_recall

cv2 = pytest.importorskip("cv2")
needs_regions = pytest.mark.skipif(not hasattr(cv2, "ximgproc"), reason="OpenCV without its contributed modules")


@pytest.fixture(scope="module")
def samples():
    return synthetic.samples(3)


@pytest.fixture(scope="module")
def searched(samples, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return proposals.with_proposals(samples, cache=cache), cache


@needs_regions
def test_selective_search_finds_nearly_all_drawn_objects(searched):
    found, _ = searched
    truth = [{"boxes": s.boxes, "labels": s.labels, "ignored": s.ignored} for s in found]
    assert proposal_recall(truth, [s.proposals for s in found])[0] == 1
    for sample in found:
        boxes, (height, width) = sample.proposals, sample.size
        assert boxes.dtype == np.float32 and len(np.unique(boxes, axis=0)) == len(boxes)
        assert boxes.min() >= 0 and (boxes.max(0) <= [width, height, width, height]).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()


@needs_regions
def test_the_cache_is_used_and_what_is_damaged_or_foreign_is_made_anew(samples, searched, monkeypatch):
    found, cache = searched
    first, second, third = sorted(cache.iterdir())
    whole, third_whole = first.read_bytes(), third.read_bytes()
    first.write_bytes(whole[:100])
    second.write_bytes(whole)  # of another image
    calls = []
    search = proposals._selective_search
    monkeypatch.setattr(proposals, "_selective_search", lambda *args: calls.append(1) or search(*args))
    again = proposals.with_proposals(samples, cache=cache)
    assert len(calls) == 2 and third.read_bytes() == third_whole
    for a, b in zip(found, again):
        np.testing.assert_array_equal(a.proposals, b.proposals)  # and in the same order
    assert len(proposals.with_proposals(samples, cache=cache, limit=7)[0].proposals) == 7 and len(calls) == 2
    assert len(list(cache.iterdir())) == 3


@needs_regions
def test_what_was_found_before_an_error_is_kept(samples, tmp_path):
    broken = Sample("broken", b"\x89PNG nothing")
    with pytest.raises(InputError, match="broken"):
        proposals.with_proposals([samples[0], broken], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@needs_regions
def test_edge_boxes_of_gradients_finds_some_and_is_the_same_each_time(samples):
    one, two = (proposals.with_proposals(samples[:1], "edge_boxes_of_gradients")[0].proposals for _ in range(2))
    assert len(one) > 5
    np.testing.assert_array_equal(one, two)


def test_boxes_come_from_a_file(samples, tmp_path):
    boxes = {s.image_id: np.float32([[1, 2, 30, 40], [5, 6, 7, 8]]) for s in samples}
    np.savez(tmp_path / "a.npz", **boxes)
    found = proposals.with_proposals(samples, tmp_path / "a.npz", limit=1)
    np.testing.assert_array_equal(found[0].proposals, [[1, 2, 30, 40]])
    with pytest.raises(InputError, match="has no boxes of image 'x'"):
        proposals.with_proposals([samples[0]._replace(image_id="x")], tmp_path / "a.npz")
    np.savez(tmp_path / "c.npz", **{samples[0].image_id: np.float32([[1, 2, 30, 40], [5, 6, 5, 8]])})
    with pytest.raises(InputError, match="box 1 of .* is .5.0, 6.0, 5.0, 8.0.; expected"):
        proposals.with_proposals(samples[:1], tmp_path / "c.npz")
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no file of proposals"):
        proposals.with_proposals(samples, tmp_path / "b.npz")


def test_the_authors_files_are_read(samples, tmp_path):
    io = pytest.importorskip("scipy.io")
    names, boxes = np.empty((1, 1), object), np.empty((1, 1), object)
    names[0, 0], boxes[0, 0] = samples[0].image_id, np.float64([[2, 1, 40, 30]])  # y1, x1, y2, x2; 1-based, inclusive
    io.savemat(tmp_path / "a.mat", {"images": names, "boxes": boxes})
    found = proposals.with_proposals(samples[:1], tmp_path / "a.mat")
    np.testing.assert_array_equal(found[0].proposals, [[0, 1, 30, 40]])


@needs_regions
@pytest.mark.parametrize("method, says", [("sliding", "Known: selective_search"), ("edge_boxes", "Known"),
                                          ("edge_boxes:nowhere.yml.gz", "no model of structured forests")])
def test_other_methods_are_refused(samples, method, says):
    with pytest.raises(InputError, match=says):
        proposals.with_proposals(samples, method)


def test_a_missing_module_names_its_extra(samples, monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc", raising=False)
    with pytest.raises(InputError, match=r"keras_cnns\[regions\]"):
        proposals.with_proposals(samples)
