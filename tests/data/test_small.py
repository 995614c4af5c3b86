import gzip
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_cnns.data import samples as sample_data
from keras_cnns.data import small
from keras_cnns.errors import InputError
from tests.data.helpers import DATA, real, stopped


def idx(values):
    values = np.asarray(values, "uint8")
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes() + values.tobytes()


def random(*shape, below=256, seed=0):
    return np.random.default_rng(seed).integers(0, below, shape).astype("uint8")


def records(images, *labels):
    """CIFAR's records, by its own description: labels, then 1024 red, 1024 green, 1024 blue."""
    return b"".join(bytes([*each]) + b"".join(image[..., c].tobytes() for c in range(3))
                    for image, *each in zip(images, *labels))


@pytest.fixture
def digits(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(random(7, 28, 28)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx([5, 0, 4, 1, 9, 2, 1]))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(random(3, 28, 28, seed=1))))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx([7, 2, 1])))
    return tmp_path


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for i, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        (folder / name).write_bytes(records(random(4, 32, 32, 3, seed=i), [i, 1, 2, 9]))
    (folder / "batches.meta.txt").write_text("\n".join(small.CIFAR10) + "\n\n")
    return tmp_path


@pytest.fixture
def cifar100(tmp_path):
    (tmp_path / "train.bin").write_bytes(records(random(5, 32, 32, 3), [0, 19, 3, 4, 5], [99, 0, 7, 8, 9]))
    (tmp_path / "test.bin").write_bytes(records(random(2, 32, 32, 3, seed=1), [1, 2], [3, 4]))
    (tmp_path / "fine_label_names.txt").write_text("".join(f"thing{i}\n" for i in range(100)))
    return tmp_path


# MNIST.

def test_idx_files_packed_or_not_are_read_to_the_byte(digits):
    images, labels = small.mnist(digits, "train")
    np.testing.assert_array_equal(images, random(7, 28, 28))
    np.testing.assert_array_equal(labels, [5, 0, 4, 1, 9, 2, 1])
    assert images.dtype == np.uint8 and labels.dtype == np.int32 and images.flags.writeable
    images, labels = small.mnist(digits, "test")
    np.testing.assert_array_equal(images, random(3, 28, 28, seed=1))
    np.testing.assert_array_equal(labels, [7, 2, 1])
    assert len(small.mnist(digits, "t10k")[0]) == 3


def test_a_file_is_unpacked_by_what_is_in_it_and_a_dot_may_stand_in_its_name(digits):
    packed = (digits / "t10k-images-idx3-ubyte.gz").read_bytes()
    (digits / "emnist-letters-test-images.idx3-ubyte").write_bytes(packed)
    (digits / "emnist-letters-test-labels.idx1-ubyte").write_bytes(idx([26, 1, 2]))
    assert list(small.mnist(digits, "emnist-letters-test")[1]) == [26, 1, 2]
    assert small.class_names(digits, "emnist-letters-test") == [str(i) for i in range(27)]


def test_samples_are_png_of_the_same_values(digits):
    samples, skipped = small.samples(digits, "train")
    assert skipped == [] and sample_data.check(samples, progress=False) == (samples, [])
    assert [s.image_id for s in samples][:2] == ["train-00000", "train-00001"]
    assert samples[0].size == (28, 28) and [s.label for s in samples] == [5, 0, 4, 1, 9, 2, 1]
    for element, image in zip(small.classification(digits, "train").as_numpy_iterator(), random(7, 28, 28)):
        np.testing.assert_array_equal(element["image"], np.repeat(image[..., None], 3, -1))


def test_classification_in_order_or_shuffled_by_the_seed(digits):
    def labels(**options):
        return [int(e["label"]) for e in small.classification(digits, "train", **options).as_numpy_iterator()]

    plain, first, again = labels(), labels(shuffle=True), labels(shuffle=True)
    assert plain == [5, 0, 4, 1, 9, 2, 1] and first == again != labels(shuffle=True, seed=1)
    assert sorted(first) == sorted(plain) and first != plain


def test_the_classes_of_idx_files_are_their_numbers_or_those_of_labels_txt(digits):
    assert small.class_names(digits) == list("0123456789")
    (digits / "labels.txt").write_text("\n".join(small.FASHION))
    assert small.class_names(digits) == list(small.FASHION) and len(small.FASHION) == 10


def test_a_split_that_is_not_there_is_named_with_those_that_are(digits):
    stopped(lambda: small.mnist(digits, "val"), "val-images-idx3-ubyte: no such file", "t10k, train")
    (digits / "train-labels-idx1-ubyte").unlink()
    stopped(lambda: small.mnist(digits, "train"), "train-labels-idx1-ubyte: no such file")


def test_counts_that_differ_are_named(digits):
    (digits / "train-labels-idx1-ubyte").write_bytes(idx([1, 2]))
    stopped(lambda: small.mnist(digits), "7 images, but 2 labels", "train-labels-idx1-ubyte")


@pytest.mark.parametrize("change, expected", [
    (lambda b: b"", "it begins with nothing"),
    (lambda b: b[:10], "no idx file of bytes in 3 dimensions"),
    (lambda b: b"\x00\x00\x0d" + b[3:], "it begins with 00000d03, expected 00000803"),
    (lambda b: idx([1, 2, 3]), "it begins with 00000801"),
    (lambda b: b[:-1], "5487 bytes after the header, which says 7 x 28 x 28"),
    (lambda b: b + b"x", "more bytes after the header"),
    (lambda b: idx(np.zeros((0, 28, 28))), "the header says 0 x 28 x 28"),
    (lambda b: b[:4] + b"\xff" * 12, "the header says 4294967295 x"),
    (lambda b: b[:4] + bytes([0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 8, 0]), "the header says 1 x 65536 x 2048"),
    (lambda b: gzip.compress(b)[:-9], "cannot be read"),
    (lambda b: gzip.compress(b)[:-8] + bytes(8), "cannot be read (CRC check failed"),
    (lambda b: b"\x1f\x8b" + b[2:], "cannot be read")])
def test_a_broken_idx_file_is_named(digits, change, expected):
    path = digits / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    stopped(lambda: small.mnist(digits), str(path), expected, "take a whole copy")


def test_no_more_is_unpacked_than_the_header_says(digits):
    bomb = gzip.compress(idx(random(7, 28, 28)) + bytes(50_000_000), 1)
    (digits / "train-images-idx3-ubyte").write_bytes(bomb)
    tracemalloc.start()
    stopped(lambda: small.mnist(digits), "more bytes after the header")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), packed=st.booleans())
def test_any_change_of_a_file_is_read_or_refused_in_one_line(digits, data, packed):
    contents = bytearray(idx(random(7, 2, 2)))
    contents = bytearray(gzip.compress(contents)) if packed else contents
    for _ in range(data.draw(st.integers(1, 4))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    (digits / "train-images-idx3-ubyte").write_bytes(contents[:data.draw(st.integers(0, len(contents)))])
    try:
        images, labels = small.mnist(digits)
        assert len(images) == len(labels) == 7
    except InputError as error:
        assert len(str(error).splitlines()) == 1


# CIFAR.

def test_cifar10s_records_become_rgb_images_of_all_five_batches(cifar10):
    for root in (cifar10, cifar10 / "cifar-10-batches-bin"):
        images, labels = small.cifar10(root, "train")
        np.testing.assert_array_equal(images, np.concatenate([random(4, 32, 32, 3, seed=i) for i in range(5)]))
        assert list(labels) == sum([[i, 1, 2, 9] for i in range(5)], [])
        assert images.dtype == np.uint8 and labels.dtype == np.int32
    assert list(small.cifar10(cifar10, "test")[1]) == [5, 1, 2, 9]


def test_cifar100_has_fine_labels_and_coarse_ones(cifar100):
    images, fine = small.cifar100(cifar100)
    np.testing.assert_array_equal(images, random(5, 32, 32, 3))
    assert list(fine) == [99, 0, 7, 8, 9]
    assert list(small.cifar100(cifar100, level="coarse")[1]) == [0, 19, 3, 4, 5]
    assert list(small.cifar100(cifar100, "test")[1]) == [3, 4]
    stopped(lambda: small.cifar100(cifar100, level="medium"), "'fine', 'coarse'")


def test_cifars_samples_know_their_classes(cifar10):
    samples, _ = small.samples(cifar10, "test")
    assert samples[3].image_id == "test-00003" and samples[3].label == 9 and samples[3].size == (32, 32)
    for element, image in zip(small.classification(cifar10, "test").as_numpy_iterator(), random(4, 32, 32, 3, seed=5)):
        np.testing.assert_array_equal(element["image"], image)
    assert small.class_names(cifar10) == list(small.CIFAR10)
    (cifar10 / "cifar-10-batches-bin/batches.meta.txt").unlink()
    assert small.class_names(cifar10)[9] == "truck"


def test_cifar100s_names_stand_in_their_file(cifar100):
    assert small.class_names(cifar100)[99] == "thing99"
    (cifar100 / "fine_label_names.txt").write_text("apple\npear\n")
    stopped(lambda: small.class_names(cifar100), "fine_label_names.txt: 2 different names, expected 100")
    (cifar100 / "fine_label_names.txt").unlink()
    stopped(lambda: small.class_names(cifar100), "fine_label_names.txt: cannot be read", "archive")


def test_a_missing_or_cut_off_batch_is_named(cifar10):
    path = cifar10 / "cifar-10-batches-bin/data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    stopped(lambda: small.cifar10(cifar10), str(path), "12291 bytes, expected a multiple of 3073")
    path.write_bytes(b"")
    stopped(lambda: small.cifar10(cifar10), str(path), "0 bytes")
    path.unlink()
    stopped(lambda: small.cifar10(cifar10), str(path), "no such file")


def test_a_label_that_no_class_has_is_named(cifar10, cifar100):
    path = cifar10 / "cifar-10-batches-bin/test_batch.bin"
    path.write_bytes(records(random(2, 32, 32, 3), [9, 10]))
    stopped(lambda: small.cifar10(cifar10, "test"), "record 2 has the label 10, expected 0 to 9")
    (cifar100 / "test.bin").write_bytes(records(random(2, 32, 32, 3), [19, 20], [99, 99]))
    stopped(lambda: small.cifar100(cifar100, "test"), "record 2 has the label 20, expected 0 to 19")


def test_the_python_version_is_refused_unopened(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "opened"),)

    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    for read in (small.samples, small.cifar10, small.class_names):
        stopped(lambda: read(tmp_path), "pickle", "cifar-10-binary.tar.gz")
    assert not (tmp_path / "opened").exists()


def test_an_unknown_split_of_cifar_is_refused(cifar10):
    stopped(lambda: small.cifar10(cifar10, "val"), "No split 'val'", "'train', 'test'")


# Finding out.

def test_a_folder_of_no_set_or_of_two_is_refused(tmp_path, digits, cifar100):
    stopped(lambda: small.samples(tmp_path), "mnist and cifar100", "give the folder of one set")
    (tmp_path / "empty").mkdir()
    stopped(lambda: small.samples(tmp_path / "empty"), "neither MNIST's nor CIFAR's files", "nothing")
    stopped(lambda: small.samples(tmp_path / "gone"), "no such folder")


def test_another_word_than_stop_or_skip_is_refused(digits):
    stopped(lambda: small.samples(digits, on_bad_sample="ignore"), "'stop', 'skip'")


@real
def test_the_real_mnist_part_has_8000_images_of_ten_digits():
    images, labels = small.mnist(DATA / "mnist", "test")
    assert images.shape == (8000, 28, 28)
    assert list(np.bincount(labels)) == [801, 882, 814, 821, 790, 738, 771, 822, 758, 803]
    contents = gzip.decompress((DATA / "mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    assert images.tobytes() == contents[16:]
    assert labels[0] == 7  # the well-known first test image


@real
def test_the_real_fashion_part_has_600_images_under_its_own_prefix():
    images, labels = small.mnist(DATA / "fashion_mnist", "sprite900")
    assert images.shape == (600, 28, 28) and labels.shape == (600,) and set(labels) == set(range(10))
    samples, _ = small.samples(DATA / "fashion_mnist", "sprite900")
    assert samples[599].image_id == "sprite900-00599"
    stopped(lambda: small.mnist(DATA / "fashion_mnist"), "sprite900")
