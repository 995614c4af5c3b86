import csv
import os
import pathlib
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_cnns.data import folder
from keras_cnns.data import samples as sample_data
from keras_cnns.errors import InputError
from tests.data.helpers import DATA, real, stopped


def put(path, colour="green"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), colour).save(path)


@pytest.fixture
def root(tmp_path):
    """Splits of cats and dogs, one dog deeper down."""
    for name in ("train/cat/1.png", "train/cat/2.JPEG", "train/dog/old/3.jpg", "val/dog/4.png"):
        put(tmp_path / name)
    return tmp_path


def read(root, split=None, **options):
    found, skipped = folder.samples(root, split, **options)
    assert skipped == []
    return found


def labels(samples):
    return {sample.image_id: sample.label for sample in samples}


def listed(folder, text, name="labels.tsv"):
    (folder / name).write_text(text)
    return folder


# Folders.

def test_folders_are_classes_in_order_of_their_names(root):
    assert folder.class_names(root, "train") == ["cat", "dog"]
    found = read(root, "train")
    assert labels(found) == {"cat/1.png": 0, "cat/2.JPEG": 0, "dog/old/3.jpg": 1}
    assert [sample.source for sample in found] == [str(root / "train" / sample.image_id) for sample in found]


def test_a_split_folder_is_itself_a_folder_of_classes(root):
    assert labels(read(root / "train")) == labels(read(root, "train"))


def test_labels_of_all_splits_are_those_of_train(root):
    assert labels(read(root, "val")) == {"dog/4.png": 1}
    assert folder.class_names(root, "val") == ["cat", "dog"]


def test_without_a_split_train_each_split_stands_alone(root):
    (root / "train").rename(root / "part")
    assert folder.class_names(root, "val") == ["dog"] and labels(read(root, "val")) == {"dog/4.png": 0}


def test_elements_have_the_label_and_the_pixels(root):
    elements = list(folder.classification(root, "train").as_numpy_iterator())
    assert [element["label"] for element in elements] == [0, 0, 1]
    assert elements[0]["label"].dtype == np.int32 and elements[0]["image"].shape == (5, 6, 3)
    np.testing.assert_array_equal(elements[0]["image"][0, 0], (0, 128, 0))


def test_shuffling_is_by_the_seed_and_the_same_in_every_pass(root):
    for number in range(10, 30):
        put(root / f"train/cat/{number}.png")

    def ids(dataset):
        return [element["image_id"].decode() for element in dataset.as_numpy_iterator()]

    shuffled = folder.classification(root, "train", shuffle=True)
    first, other = ids(shuffled), ids(folder.classification(root, "train", shuffle=True, seed=1))
    plain = [*labels(read(root, "train"))]
    assert ids(shuffled) == first != other and sorted(first) == sorted(other) == plain != first


def test_hidden_files_and_other_files_are_left_out(root):
    shutil.copy(root / "train/cat/1.png", root / "train/cat/.hidden.png")
    shutil.copytree(root / "train/cat", root / "train/.cache")
    shutil.copytree(root / "train/cat", root / "train/cat/.thumbnails")
    (root / "train/cat/notes.txt").write_text("a cat")
    (root / "train/README.md").write_text("animals")
    assert len(read(root, "train")) == 3


def test_every_suffix_stands_for_images_that_decode(tmp_path):
    for suffix in folder.SUFFIXES:
        put(tmp_path / f"cat/1{suffix}")
        put(tmp_path / f"cat/2{suffix.upper()}")
    assert len(list(folder.classification(tmp_path))) == 2 * len(folder.SUFFIXES) == 20


def test_links_are_followed_and_circles_end(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    put(elsewhere / "far.png")
    (root / "train/dog/away").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root / "train/dog")
    (root / "train/dog/up").symlink_to(root)
    (root / "train/dog/self").symlink_to("self")
    (root / "train/dog/old/again").symlink_to("../old")
    (root / "train/bird").symlink_to(elsewhere)
    found = labels(read(root, "train"))
    assert {name: label for name, label in found.items() if "cat" not in name} == {
        "bird/far.png": 0, "bird/back/old/3.jpg": 0, "dog/old/3.jpg": 2, "dog/away/far.png": 2}


def test_a_link_to_nothing_is_a_missing_image(root):
    (root / "train/cat/9.png").symlink_to("gone.png")
    stopped(lambda: folder.classification(root, "train"), "train/cat/9.png", "missing")


def test_a_pipe_is_no_image_and_is_not_waited_for(root):
    os.mkfifo(root / "train/cat/pipe.png")
    assert len(list(folder.classification(root, "train"))) == 3


def test_a_folder_that_is_called_like_an_image_is_a_folder(root):
    put(root / "train/cat/odd.png/5.png")
    assert labels(read(root, "train"))["cat/odd.png/5.png"] == 0


def test_names_need_not_be_utf_8(root):
    name = os.fsdecode(b"k\xe4tzchen-\xff.png")
    put(root / "train/cat/4.png")
    os.rename(root / "train/cat/4.png", root / "train/cat" / name)
    elements = list(folder.classification(root, "train").as_numpy_iterator())
    assert b"cat/k\xe4tzchen-\xff.png" in [element["image_id"] for element in elements]


def test_a_broken_image_is_named_or_left_out(root):
    (root / "train/cat/1.png").write_bytes(b"no image")
    stopped(lambda: folder.classification(root, "train"), "train/cat/1.png", "on_bad_sample='skip'")
    with pytest.warns(UserWarning, match="1 of 3 samples left out"):
        assert len(list(folder.classification(root, "train", on_bad_sample="skip"))) == 2


def test_an_empty_class_is_named(root):
    (root / "train/eel").mkdir()
    stopped(lambda: read(root, "train"), "train/eel: no image in this class", ".jpg, .jpeg, .png")


def test_an_unknown_class_in_another_split_is_named_with_the_known(root):
    put(root / "val/eel/5.png")
    stopped(lambda: read(root, "val"), "val/eel: unknown class 'eel'", "cat, dog", "class_names=")
    assert labels(read(root, "val", class_names=["eel", "dog"])) == {"dog/4.png": 1, "eel/5.png": 0}


def test_class_names_stand_in_labels_txt_of_root_or_split(root):
    (root / "labels.txt").write_text("dog\n\ncat\n")
    assert folder.class_names(root, "val") == ["dog", "cat"] and labels(read(root, "val")) == {"dog/4.png": 0}
    (root / "val/labels.txt").write_text("eel\ncat\ndog\n")
    assert labels(read(root, "val")) == {"dog/4.png": 2}
    (root / "labels.txt").write_text("dog\ndog\n")
    stopped(lambda: read(root, "train"), "labels.txt: a name twice")
    (root / "labels.txt").write_text("\n")
    stopped(lambda: read(root, "train"), "labels.txt: no name")


def test_splits_are_not_taken_for_classes(root):
    stopped(lambda: read(root), "holds splits, not classes: train, val", "choose one")
    put(root / "bus/1.png")  # but a train may be a class among others
    assert folder.class_names(root) == ["bus", "train", "val"]


def test_a_split_that_is_not_there_is_named_with_what_is(root):
    stopped(lambda: read(root, "test"), f"{root}/test: no such split", "train, val")


def test_a_folder_without_classes_says_what_is_in_it(tmp_path):
    stopped(lambda: read(tmp_path), "no folder of a class in it, but nothing")
    put(tmp_path / "1.png")
    stopped(lambda: read(tmp_path), "but 1.png", "labels.tsv")


def test_a_root_that_is_missing_or_no_list_is_named(tmp_path):
    stopped(lambda: read(tmp_path / "gone"), "gone: no such folder")
    put(tmp_path / "1.png")
    stopped(lambda: read(tmp_path / "1.png"), "1.png: no list", ".tsv")


def test_a_folder_that_may_not_be_read_is_named(root, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(folder.os, "listdir", refuse)
    stopped(lambda: read(root, "train"), "train: folder cannot be read (Permission denied)")


def test_another_word_than_stop_or_skip_is_refused(root):
    stopped(lambda: read(root, "train", on_bad_sample="ignore"), "'stop', 'skip'")


# Lists.

@pytest.fixture
def images(tmp_path):
    for number in "123":
        put(tmp_path / f"{number}.png")
    return tmp_path


def test_a_list_of_two_columns_is_a_file_and_its_class(images):
    listed(images, "2.png\tdog\n1.png\tcat\n\n3.png\tdog\n")
    assert labels(read(images)) == {"2.png": 1, "1.png": 0, "3.png": 1}
    assert [sample.image_id for sample in read(images)] == ["2.png", "1.png", "3.png"]
    assert folder.class_names(images) == ["cat", "dog"]


def test_whole_numbers_are_the_labels_themselves(images):
    listed(images, "1.png\t7\n2.png\t0\n3.png\t999\n")
    assert labels(read(images)) == {"1.png": 7, "2.png": 0, "3.png": 999}
    assert folder.class_names(images) is None
    stopped(lambda: read(images, class_names=["a", "b"]), "line 1: class 7, but there are 2 classes")
    (images / "labels.txt").write_text("".join(f"class {i}\n" for i in range(1000)))
    assert folder.class_names(images)[7] == "class 7" and labels(read(images))["3.png"] == 999


def test_columns_are_found_by_their_names_and_the_others_kept(images):
    listed(images, "split,label,filename\nx,dog,1.png\ny,\"cat, small\",2.png\n", "labels.csv")
    found = read(images)
    assert labels(found) == {"1.png": 1, "2.png": 0} and folder.class_names(images) == ["cat, small", "dog"]
    assert found[0].about == {"split": "x", "label": "dog"}


def test_indices_and_names_side_by_side_name_the_classes(images):
    listed(images, "name\tclass_index\tfile\ndog\t1\t1.png\ncat\t0\t2.png\n")
    assert folder.class_names(images) == ["cat", "dog"] and labels(read(images)) == {"1.png": 1, "2.png": 0}
    listed(images, "name\tclass_index\tfile\ndog\t1\t1.png\ncat\t1\t2.png\n")
    stopped(lambda: folder.class_names(images), "line 2: class 1 is called 'dog' here and 'cat' elsewhere")


def test_a_list_may_be_given_itself_and_lie_in_or_beside_a_split(images):
    listed(images, "1.png\tcat\n2.png\tdog\n", "train.tsv")
    listed(images, "3.png\tdog\n", "val.tsv")
    assert labels(read(images, "val")) == {"3.png": 1}  # of train's classes
    assert labels(read(images / "val.tsv")) == {"3.png": 0}  # alone
    put(images / "test/4.png")
    listed(images / "test", "4.png,dog\n", "labels.csv")
    assert labels(read(images, "test")) == {"4.png": 1}
    stopped(lambda: read(images / "val.tsv", "val"), "a list has no split 'val'")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(images):
    (images / "labels.tsv").write_bytes(b"\xef\xbb\xbffile\tclass\r\n1.png\tcat\r\n")
    assert labels(read(images)) == {"1.png": 0}


def test_a_repeated_line_is_read_once_and_a_contradiction_named(images):
    listed(images, "1.png\tcat\n2.png\tdog\n1.png\tcat\n")
    assert len(read(images)) == 2
    listed(images, "1.png\tcat\n2.png\tdog\n1.png\tdog\n")
    stopped(lambda: read(images), "line 3: '1.png' has another class in line 1")


def test_a_missing_image_is_named_with_its_line_or_left_out(images):
    listed(images, "1.png\tcat\ngone.png\tdog\n")
    stopped(lambda: read(images), "gone.png: image is missing", "labels.tsv: line 2", "on_bad_sample='skip'")
    found, skipped = folder.samples(images, on_bad_sample="skip")
    assert len(found) == 1 and len(skipped) == 1 and "gone.png" in skipped[0]


def test_an_unknown_class_of_a_list_is_named(images):
    listed(images, "1.png\tcat\n", "train.tsv")
    listed(images, "2.png\teel\n", "val.tsv")
    stopped(lambda: read(images, "val"), "val.tsv: line 1: unknown class 'eel'", "Known: cat")
    listed(images, "1.png\t3\n", "train.tsv")
    stopped(lambda: read(images, "val"), "val.tsv: line 1: unknown class 'eel'")


def test_a_first_line_of_unknown_names_is_no_sample(images):
    for text in ("picture,breed\n1.png,dog\n", "picture,breed,x\n1.png,dog,y\n"):
        listed(images, text, "labels.csv")
        for on_bad_sample in ("stop", "skip"):
            stopped(lambda: folder.samples(images, on_bad_sample=on_bad_sample),
                    "labels.csv: line 1: no column is called file (picture, breed", "'picture' is no image")
    listed(images, "image_id,breed\n1.png,dog\n", "labels.csv")
    stopped(lambda: read(images), "labels.csv: no column of classes among image_id, breed")
    for word in folder.FILE:
        listed(images, f"{word.upper()},label\n1.png,dog\n", "labels.csv")
        assert labels(read(images)) == {"1.png": 0}
    (images / "1.png").rename(images / "picture")  # an image need not have a suffix
    listed(images, "picture,dog\n2.png,cat\n", "labels.csv")
    assert labels(read(images)) == {"picture": 1, "2.png": 0}


@pytest.mark.parametrize("text, expected", [
    ("", "the list is empty"),
    ("file\tclass\n", "the list is empty"),
    ("1.png\n", "line 1: 1 columns, expected 2 (file, class)"),
    ("file\tclass\n1.png\tcat\textra\n", "line 2: 3 columns"),
    ("file\tcolour\n1.png\tred\n", "no column of classes among file, colour"),
    ("file\tclass_index\n1.png\t-1\n", "line 2: class index is '-1'"),
    ("file\tclass_index\n1.png\t1.5\n", "line 2: class index is '1.5'"),
    ("file\tclass_index\n1.png\t99999999999\n", "line 2: class index is '99999999999'"),
    ("file\tclass\n1.png\t\n", "line 2: nothing in column class"),
    ("1.png\tcat\n\tdog\n", "line 2: nothing in column file")])
def test_a_broken_list_is_named_with_its_line(images, text, expected):
    listed(images, text)
    stopped(lambda: read(images), "labels.tsv", expected)


def test_a_quotation_that_does_not_end_is_named(images):
    listed(images, '1.png,"cat\n2.png,dog\n', "labels.csv")
    stopped(lambda: read(images), "labels.csv: line 2: a line break within a cell")
    listed(images, '1.png,"' + 200_000 * "x" + '"\n', "labels.csv")
    stopped(lambda: read(images), "labels.csv: line 1: no CSV")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.one_of(st.binary(max_size=60), st.text("12.png,\t\n\"fileclassind_x", max_size=60).map(str.encode)),
       name=st.sampled_from(["labels.tsv", "labels.csv", "labels.txt"]))
def test_any_bytes_in_a_list_are_read_or_refused_in_one_line(images, contents, name):
    for other in ("labels.tsv", "labels.csv", "labels.txt"):
        (images / other).unlink(missing_ok=True)
    (images / name).write_bytes(contents)
    try:
        for sample in read(images if name != "labels.txt" else images / name):
            assert 0 <= sample.label < 10**9
    except InputError as error:
        assert len(str(error).splitlines()) == 1


@real
def test_cifar10_as_jpeg_has_100_and_30_images_of_each_class():
    for split, count in (("train", 100), ("test", 30)):
        found = read(DATA / "cifar10_jpg", split)
        np.testing.assert_array_equal(np.bincount([sample.label for sample in found]), [count] * 10)
        assert all(pathlib.Path(s.source).parent.name == folder.class_names(DATA / "cifar10_jpg", split)[s.label]
                   for s in found)
    assert folder.class_names(DATA / "cifar10_jpg", "test")[:3] == ["airplane", "automobile", "bird"]
    assert sample_data.check(found, progress=False) == (found, [])


@real
def test_imagenets_labels_are_the_units_of_the_network():
    root = DATA / "imagenet_samples"
    found = read(root)
    with open(root / "labels.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(found) == 60 and folder.class_names(root) is None
    assert labels(found) == {row["file"]: int(row["class_index"]) for row in rows}
    assert [sample.about["wnid"] for sample in found] == [row["wnid"] for row in rows]
    assert sum(Image.open(sample.source).mode == "L" for sample in found) == 3
    for element, row in zip(folder.classification(root).take(9).as_numpy_iterator(), rows):
        assert element["label"] == int(row["class_index"]) and element["image"].shape[-1] == 3
