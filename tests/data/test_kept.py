"""Files of arrays that are damaged in every way, and those that are another program's, are none."""

import numpy as np
import pytest

from keras_cnns.data import kept


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "a.npz", boxes=np.ones((2, 4)), key="k")
    return tmp_path / "a.npz"


def test_arrays_come_back_by_their_names(path):
    assert set(kept.arrays(path, ("boxes",))) == {"boxes"}
    assert kept.arrays(path, ("boxes", "more")) is None and kept.arrays(path.with_name("b.npz"), ("boxes",)) is None


def test_a_file_cut_off_or_changed_anywhere_is_none_or_as_it_was(path):
    whole, dice = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole[:dice.integers(len(whole))] if dice.random() < 0.3 else whole)
        for place in dice.integers(max(len(damaged), 1), size=3):
            if damaged:
                damaged[place] = dice.integers(256)
        path.write_bytes(damaged)
        found = kept.arrays(path, ("boxes", "key"))
        assert found is None or set(found) == {"boxes", "key"}


def test_a_changed_header_of_rows_is_none_or_tells_the_same(tmp_path):
    path, dice = tmp_path / "c.npy", np.random.default_rng(0)
    np.save(path, np.zeros((3, 2), "f4"))
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for place in dice.integers(128, size=dice.integers(1, 4)):
            damaged[place] = dice.integers(256)
        path.write_bytes(damaged)
        found = kept.rows(path, np.dtype("f4"))
        assert found is None or found.dtype == np.dtype("f4")


def test_another_programs_file_is_none(path, tmp_path):
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert kept.arrays(tmp_path / "b.npz", ("boxes",)) is None
    assert kept.rows(path, np.dtype("f4")) is None  # a zip
    np.save(tmp_path / "c.npy", np.zeros((3, 2), "f4"))
    assert kept.rows(tmp_path / "c.npy", np.dtype("f4")).shape == (3, 2)
    assert kept.rows(tmp_path / "c.npy", np.dtype("f8")) is None
    (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes()[:-4])
    assert kept.rows(tmp_path / "c.npy", np.dtype("f4")) is None
