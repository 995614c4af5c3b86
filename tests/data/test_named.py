"""Data by the names of the command line: each form, and what is answered to a name that is none."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_cnns.data import coco, mpii, named, pairs, records, synthetic, tfds, voc
from keras_cnns.data import samples as data_samples
from keras_cnns.data.samples import LabelImage, Sample
from keras_cnns.errors import InputError
from tests.data.helpers import stopped as refused

NAMES = ["dog", "big cat"]


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 60, 3)).astype("uint8"))


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return str(path)


@pytest.fixture
def objects(tmp_path):
    """Two samples with boxes; a has two objects, b one that is ignored."""
    return [Sample("a", save(tmp_path / "given/a.png", picture()), (50, 60),
                   np.array([[1, 2, 30, 40], [5, 5, 60, 50]], "float32"), np.array([1, 2], "int32"),
                   np.array([False, False])),
            Sample("b", save(tmp_path / "given/b.png", picture(1)), (50, 60), np.array([[0, 0, 9, 9]], "float32"),
                   np.array([2], "int32"), np.array([True]))]


def labelled(samples, tmp_path):
    """The same with a segmentation."""
    path = save(tmp_path / "given/labels.png", Image.fromarray(np.full((50, 60), 2, "uint8")))
    return [sample._replace(segmentation=LabelImage(path)) for sample in samples]


def with_joints(samples):
    return [sample._replace(keypoints=np.ones((len(sample.labels), 3, 3), "float32")) for sample in samples]


def same_objects(found, given):
    assert [sample.image_id for sample in found] == [sample.image_id for sample in given]
    for one, other in zip(found, given):
        for field in ("boxes", "labels", "ignored"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


# Every form.

def read_voc(root, objects):
    voc.write(objects, root / "kit", NAMES, split="train")
    found = named.read(f"voc:{root / 'kit'}")
    assert named.read(f"voc:{root / 'kit'}:2012").class_names == found.class_names == NAMES
    same_objects(found.samples, objects)
    return found


def read_voc_segmentation(root, objects):
    voc.write(labelled(objects, root), root / "kit", NAMES, split="train")
    found = named.read(f"voc-segmentation:{root / 'kit'}:2012")
    assert [data_samples.segmentation(sample).max() for sample in found.samples] == [2, 2]
    return found


def read_coco(root, objects):
    coco.write(objects, root / "set", NAMES)
    same_objects(named.read(f"coco:{root / 'set'}:train2017", "val").samples, objects)
    found = named.read(f"coco:{root / 'set'}")
    same_objects(found.samples, objects)
    assert all(sample.masks is None for sample in found.samples)  # since there are none in the file
    return found


def read_coco_keypoints(root, objects):
    coco.write(with_joints(objects), root / "set", NAMES)
    found = named.read(f"coco-keypoints:{root / 'set'}")
    assert [sample.keypoints.shape for sample in found.samples] == [(2, 3, 3), (1, 3, 3)]
    return found


def read_coco_panoptic(root, objects):
    save(root / "set/train2017/a.png", picture())
    numbers = np.zeros((50, 60, 3), "uint8")
    numbers[:, 30:] = (1, 2, 0)  # the segment 1 + 2 * 256
    save(root / "set/annotations/panoptic_train2017/a.png", Image.fromarray(numbers))
    segments = [{"id": 513, "category_id": 1, "bbox": [30, 0, 30, 50], "area": 1500, "iscrowd": 0}]
    (root / "set/annotations/panoptic_train2017.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a.png", "height": 50, "width": 60}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "dog", "isthing": 1}, {"id": 5, "name": "big cat", "isthing": 0}]}))
    found = named.read(f"coco-panoptic:{root / 'set'}")
    assert data_samples.masks(found.samples[0]).sum() == 1500
    return found


def read_records(root, objects):
    records.write(objects, root / "shards", NAMES, progress=False)
    found = named.read(f"records:{root / 'shards'}")
    same_objects(found.samples, objects)
    return found


def read_folder(root, objects):
    for split in ("train", "val"):
        for number, name in enumerate(NAMES):
            save(root / f"images/{split}/{name}/x.png", picture(number))
    plain = named.read(f"folder:{root / 'images/train'}")  # not parted
    assert plain.class_names == sorted(NAMES) and [sample.label for sample in plain.samples] == [0, 1]
    assert named.read(f"folder:{root / 'images'}", "val").samples != plain.samples
    found = named.read(f"folder:{root / 'images'}")
    return found._replace(class_names=found.class_names[::-1])


def read_small(root, objects):
    (root / "mnist").mkdir()
    for split, count in (("train", 3), ("t10k", 2)):
        shape = np.array([count, 4, 5], ">i4").tobytes()
        (root / f"mnist/{split}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + shape + bytes(20 * count))
        (root / f"mnist/{split}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + shape[:4] + bytes(range(count)))
    (root / "mnist/labels.txt").write_text("dog\nbig cat\nhen\n")
    found = named.read(f"small:{root / 'mnist'}")
    assert [sample.label for sample in found.samples] == [0, 1, 2] and found.class_names == [*NAMES, "hen"]
    (root / "mnist/labels.txt").unlink()
    for path in (root / "mnist").glob("train-*"):
        path.unlink()
    assert named.read(f"small:{root / 'mnist'}", "test").class_names == list("0123456789")
    return found._replace(class_names=NAMES)


def read_isbi(root, objects):
    save(root / "isbi/train/image/0.png", picture())
    save(root / "isbi/train/label/0.png", Image.fromarray(np.full((50, 60), 255, "uint8")))
    found = named.read(f"isbi:{root / 'isbi'}")
    assert data_samples.segmentation(found.samples[0]).max() == 1 and found.class_names == list(pairs.ISBI_CLASSES)
    return found._replace(class_names=NAMES)


def read_camvid(root, objects):
    save(root / "camvid/train/0.png", picture())
    save(root / "camvid/trainannot/0.png", Image.fromarray(np.full((50, 60), 10, "uint8")))
    (root / "camvid/train.txt").write_text("train/0.png trainannot/0.png\n")
    found = named.read(f"camvid:{root / 'camvid'}")
    assert data_samples.segmentation(found.samples[0]).max() == 11 and len(found.class_names) == 11
    return found._replace(class_names=NAMES)


def read_mpii(root, objects):
    save(root / "mpii/images/a.png", picture())
    (root / "mpii/train.json").write_text(json.dumps([{
        "image": "a.png", "joints": [[5, 6]] * 16, "joints_vis": [1] * 16, "center": [30, 25], "scale": 0.1}]))
    found = named.read(f"mpii:{root / 'mpii'}")
    assert found.samples[0].keypoints.shape == (1, 16, 3) and found.class_names == list(mpii.CLASSES)
    return found._replace(class_names=NAMES)


def read_tfds(root, objects):
    def samples(name, split, on_bad_sample):
        assert (name, split, on_bad_sample) == ("coco/2017:1.1.0", "train[:1%]", "skip")
        return objects, ["one line"]

    def class_names(name, task):
        if task != "classification":
            raise InputError("has one class an image that can be read, not boxes")
        return NAMES

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds, "samples", samples)
        patch.setattr(tfds, "class_names", class_names)
        found = named.read("tfds:coco/2017:1.1.0", "train[:1%]", on_bad_sample="skip")
    assert found.samples is objects and found.skipped == ["one line"]
    return found


def read_synthetic(root, objects):
    assert len(named.read("synthetic").samples) == named.SYNTHETIC
    found = named.read("synthetic:3")
    assert len(found.samples) == 3 and found.class_names == list(synthetic.CLASSES)
    other = named.read("synthetic:3", "val")
    assert {sample.source for sample in found.samples}.isdisjoint(sample.source for sample in other.samples)
    return found._replace(class_names=NAMES)


def read_figures(root, objects):
    assert len(named.read("figures").samples) == named.SYNTHETIC
    found = named.read("figures:2")
    assert found.samples[0].keypoints.shape == (1, 16, 3) and found.class_names == list(mpii.CLASSES)
    assert found.samples[0].source not in {sample.source for sample in named.read("figures:2", "val").samples}
    return found._replace(class_names=NAMES)


READS = {
    "voc:PATH[:YEAR]": read_voc, "voc-segmentation:PATH[:YEAR]": read_voc_segmentation, "coco:PATH[:SPLIT]": read_coco,
    "coco-keypoints:PATH[:SPLIT]": read_coco_keypoints, "coco-panoptic:PATH[:SPLIT]": read_coco_panoptic,
    "records:PATH": read_records, "folder:PATH": read_folder, "small:PATH": read_small, "isbi:PATH": read_isbi,
    "camvid:PATH": read_camvid, "mpii:PATH": read_mpii, "tfds:NAME": read_tfds, "synthetic[:N]": read_synthetic,
    "figures[:N]": read_figures}


@pytest.mark.parametrize("form", named.FORMS)
def test_every_form_of_name_is_read(form, tmp_path, objects, monkeypatch):
    monkeypatch.setattr(named, "SYNTHETIC", 5)
    found = READS[form](tmp_path, objects)
    assert isinstance(found, named.Data) and found.class_names == NAMES
    assert found.samples and all(isinstance(sample, Sample) for sample in found.samples)
    assert data_samples.check(found.samples, progress=False) == (found.samples, [])


def test_persons_are_read_one_a_sample_with_the_names_of_their_joints(tmp_path, objects):
    read_mpii(tmp_path, objects)
    found, names, skipped = named.keypoints(f"mpii:{tmp_path / 'mpii'}", progress=False)
    assert len(found) == 1 and names == list(mpii.KEYPOINTS) and not skipped
    joints = ("nose", "left_eye", "right_eye")
    coco.write(with_joints(objects), tmp_path / "set", NAMES, joints=(joints, ((0, 1),)))
    for name in (f"coco:{tmp_path / 'set'}", f"coco-keypoints:{tmp_path / 'set'}:train2017"):
        found, names, _ = named.keypoints(name, progress=False)
        assert [s.image_id for s in found] == ["a", "a"] and names == list(joints)  # b's object is ignored
    found, names, _ = named.keypoints("figures:3", "val", progress=False)
    assert len(found) == 3 and names == list(mpii.KEYPOINTS)
    refused(lambda: named.keypoints("figures:3", class_names=joints), "the network knows others: nose, left_eye")
    refused(lambda: named.keypoints("synthetic:3"), "not one labelled joint in 3 images", "figures")
    named.write(with_joints(objects), f"records:{tmp_path / 'shards'}", NAMES, "train")
    refused(lambda: named.keypoints(f"records:{tmp_path / 'shards'}"), "does not tell what its joints are called")


# Names that are none.

@pytest.mark.parametrize("name", [
    "", "voc", "VOC:x", "imagenet", "coco:", "records:", "folder", "voc.x:y", ":x", "tfds:", "voc[:YEAR]", "small"])
def test_a_name_of_no_form_is_answered_with_the_forms(name):
    refused(lambda: named.read(name), repr(name), "Accepted: voc:PATH[:YEAR], voc-segmentation:PATH", "synthetic[:N]")


@pytest.mark.parametrize("name", ["synthetic:x", "synthetic:-1", "synthetic:1.5", "synthetic:3:4"])
def test_a_number_of_pictures_that_is_none_is_refused(name):
    refused(lambda: named.read(name), name, "synthetic:N, a number of pictures")


@pytest.mark.parametrize("kind", [
    "voc", "voc-segmentation", "coco", "coco-keypoints", "coco-panoptic", "records", "folder", "small", "isbi",
    "camvid", "mpii"])
def test_a_folder_that_is_not_there_is_named(kind, tmp_path):
    refused(lambda: named.read(f"{kind}:{tmp_path / 'nowhere'}"), str(tmp_path / "nowhere"))
    refused(lambda: named.read(f"{kind}:{tmp_path}"), str(tmp_path))


@pytest.mark.parametrize("name", ["voc", "coco:", "records:", "folder:x", "synthetic:3", "", "coco-keypoints:x"])
def test_what_is_not_written_is_answered_with_what_is(name, objects):
    refused(lambda: named.write(objects, name, NAMES, "train"), repr(name),
            "Accepted: voc:PATH[:YEAR], coco:PATH[:SPLIT], records:PATH")


# Paths.

@pytest.mark.parametrize("folder", ["C:\\data\\set", "C:/data/set", "a:b c", "a: 1", "wo:rd-1"])
def test_a_path_may_have_a_colon_of_its_own(folder, tmp_path, objects, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named.write(objects, f"voc:{folder}/kit:2011", NAMES, "train")
    assert (tmp_path / folder / "kit/VOC2011").is_dir()
    for name in (f"voc:{folder}/kit", f"voc:{folder}/kit:2011"):
        same_objects(named.read(name).samples, objects)
    named.write(objects, f"coco:{folder}/set.1", NAMES, "train")
    named.write(objects, f"coco:{folder}/set.1:val2016", NAMES, "train")
    for name in (f"coco:{folder}/set.1", f"coco:{folder}/set.1:val2016"):
        same_objects(named.read(name).samples, objects)
    named.write(objects, f"records:{folder}/shards", NAMES, "train")
    same_objects(named.read(f"records:{folder}/shards").samples, objects)


def test_a_path_of_the_home_folder_is_found(tmp_path, objects, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("voc:~/kit", "coco:~/set", "records:~/shards"):
        named.write(objects, name, NAMES, "train")
        same_objects(named.read(name).samples, objects)
    save(tmp_path / "images/train/dog/a.png", picture())
    assert [sample.image_id for sample in named.read("folder:~/images").samples] == ["dog/a.png"]


def test_a_class_may_be_called_as_a_split_is(tmp_path):
    save(tmp_path / "images/train/a.png", picture())
    save(tmp_path / "images/bus/b.png", picture(1))
    assert named.read(f"folder:{tmp_path / 'images'}").class_names == ["bus", "train"]


# Classes.

@pytest.mark.parametrize("name", ["voc", "coco", "records"])
def test_a_list_of_classes_decides_the_labels(name, tmp_path, objects):
    name = f"{name}:{tmp_path / 'set'}"
    named.write(objects, name, NAMES, "train")
    found = named.read(name, class_names=["hen", "big cat", "dog"])
    assert found.class_names == ["hen", "big cat", "dog"]
    assert [list(sample.labels) for sample in found.samples] == [[3, 2], [2]]
    refused(lambda: named.read(name, class_names=["hen", "cow"]), "hen, cow" if name[0] == "v" else "dog")


def test_a_list_of_classes_decides_the_labels_of_folders(tmp_path):
    save(tmp_path / "images/cat/a.png", picture())
    name = f"folder:{tmp_path / 'images'}"
    found = named.read(name, class_names=["dog", "cat"])
    assert [sample.label for sample in found.samples] == [1] and found.class_names == ["dog", "cat"]
    refused(lambda: named.read(name, class_names=["dog"]), "images/cat", "'cat'", "Known: dog")


def test_data_whose_classes_are_fixed_do_not_take_others():
    assert len(named.read("synthetic:2", class_names=list(synthetic.CLASSES)).samples) == 2
    refused(lambda: named.read("synthetic:2", class_names=["cat", "dog"]), "has the classes disc, square", "cat, dog")
    refused(lambda: named.read("synthetic:2", class_names=list(synthetic.CLASSES[::-1])), "the network knows others")


def test_classes_without_names_cannot_be_written(tmp_path, objects):
    for kind in ("voc", "coco", "records"):
        for names in (None, []):
            refused(lambda: named.write(objects, f"{kind}:{tmp_path / 'x'}", names, "train"), "labels.txt")
    assert not (tmp_path / "x").exists()


# Writing.

def test_what_a_form_has_no_place_for_is_refused(tmp_path, objects):
    joints = with_joints(objects)
    classes = [sample._replace(label=1) for sample in objects]
    present = [sample._replace(present=np.array([1, -1])) for sample in objects]
    for kind, cases in {"voc": {"keypoints": joints, "label": classes},
                        "coco": {"label": classes, "present": present}}.items():
        for field, samples in cases.items():
            refused(lambda: named.write(samples, f"{kind}:{tmp_path / 'x'}", NAMES, "train"), field, "records:PATH")
            assert not (tmp_path / "x").exists()
            named.write(samples, f"records:{tmp_path / kind / field}", NAMES, "train")
            same_objects(named.read(f"records:{tmp_path / kind / field}").samples, objects)


@pytest.mark.parametrize("kind", ["voc", "coco", "records"])
def test_an_image_that_cannot_be_read_stops_the_writing_or_is_left_out(kind, tmp_path, objects):
    (tmp_path / "given/b.png").write_bytes((tmp_path / "given/b.png").read_bytes()[:500])
    name = f"{kind}:{tmp_path / 'new'}"
    refused(lambda: named.write(objects, name, NAMES, "train"), "b.png", "truncated")
    assert not list(tmp_path.glob("new*/*"))
    skipped = named.write(objects, name, NAMES, "train", "skip")
    assert len(skipped) == 1 and "b.png" in skipped[0]
    same_objects(named.read(name).samples, objects[:1])


# For a detector.

def test_a_detector_gets_checked_samples_with_boxes(tmp_path, objects):
    named.write(objects, f"voc:{tmp_path / 'kit'}", NAMES, "train")
    samples, names, skipped = named.detection(f"voc:{tmp_path / 'kit'}", progress=False)
    same_objects(samples, objects)
    assert names == NAMES and skipped == []
    image = tmp_path / "kit/VOC2012/JPEGImages/b.png"
    image.write_bytes(image.read_bytes()[:500])
    refused(lambda: named.detection(f"voc:{tmp_path / 'kit'}", progress=False), "b.png")
    (tmp_path / "kit/VOC2012/ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    samples, _, skipped = named.detection(f"voc:{tmp_path / 'kit'}", on_bad_sample="skip", progress=False)
    assert [sample.image_id for sample in samples] == ["a"]
    assert len(skipped) == 2 and "c.xml" in skipped[0] and "b.png" in skipped[1]


def test_data_without_boxes_are_no_data_for_a_detector(tmp_path):
    save(tmp_path / "images/cat/a.png", picture())
    refused(lambda: named.detection(f"folder:{tmp_path / 'images'}", progress=False), "not one box in 1 images")


# What nobody asks for.

def test_images_without_an_annotation_are_told_of_voc(tmp_path, objects):
    named.write(objects, f"voc:{tmp_path / 'kit'}", NAMES, "train")
    assert named.unannotated(f"voc:{tmp_path / 'kit'}") == []
    path = save(tmp_path / "kit/VOC2012/JPEGImages/more.jpg", picture())
    assert named.unannotated(f"voc:{tmp_path / 'kit'}") == named.unannotated(f"voc:{tmp_path / 'kit'}:2012") == [path]
    assert named.unannotated("synthetic:3") is named.unannotated(f"folder:{tmp_path}") is None  # nobody can tell


# Masks.

@pytest.mark.parametrize("kind", ["voc", "voc-segmentation", "coco", "records"])
def test_masks_are_read_by_name_where_there_are_some(kind, tmp_path, objects):
    path = save(tmp_path / "given/masks.png", Image.fromarray(np.eye(50, 60, dtype="uint8") * 2 + 1))
    given = [sample._replace(masks=LabelImage(path)) for sample in objects]
    if kind == "voc-segmentation":
        given = labelled(given, tmp_path)
    named.write(given, f"{kind.partition('-')[0]}:{tmp_path / 'set'}", NAMES, "train")
    for one, other in zip(named.read(f"{kind}:{tmp_path / 'set'}").samples, given, strict=True):
        np.testing.assert_array_equal(data_samples.masks(one), data_samples.masks(other))


def test_voc_is_read_without_masks_where_not_every_image_has_some(tmp_path, objects):
    path = save(tmp_path / "given/masks.png", Image.fromarray(np.ones((50, 60), "uint8")))
    named.write([objects[0], objects[1]._replace(masks=LabelImage(path))], f"voc:{tmp_path / 'kit'}", NAMES, "train")
    assert [sample.masks for sample in named.read(f"voc:{tmp_path / 'kit'}").samples] == [None, None]


# For a classifier.

def test_a_classifier_reads_folders_and_is_told_what_lies_in_images(tmp_path, objects):
    for name in ("cat/1.png", "dog/2.png", "dog/3.png"):
        save(tmp_path / "data" / name, picture())
    samples, names, skipped = named.classification(f"folder:{tmp_path / 'data'}", progress=False)
    assert [s.label for s in samples] == [0, 1, 1] and names == ["cat", "dog"] and skipped == []
    voc.write(objects, tmp_path / "kit", NAMES, split="train")
    samples, names, _ = named.classification(f"voc:{tmp_path / 'kit'}", progress=False)
    np.testing.assert_array_equal([s.present for s in samples], [[1, 1], [-1, 0]])  # b's is to be ignored
    assert names == NAMES and all(not len(s.boxes) and s.label is None for s in samples)


def test_classes_without_a_name_have_a_number(tmp_path):
    save(tmp_path / "a.png", picture())
    (tmp_path / "labels.tsv").write_text("a.png\t2\n")
    assert named.classification(f"folder:{tmp_path}", progress=False)[1] == ["0", "1", "2"]


def test_data_that_tell_no_class_are_no_classifiers(tmp_path, objects):
    read_camvid(tmp_path, objects)
    refused(lambda: named.classification(f"camvid:{tmp_path / 'camvid'}"), "tells no class of its images",
            "folder:PATH")


def test_a_broken_image_of_a_class_stops_or_is_left_out(tmp_path):
    save(tmp_path / "cat/1.png", picture())
    (tmp_path / "cat/2.png").write_bytes(b"no image")
    refused(lambda: named.classification(f"folder:{tmp_path}", progress=False), "2.png")
    samples, _, skipped = named.classification(f"folder:{tmp_path}", on_bad_sample="skip", progress=False)
    assert len(samples) == len(skipped) == 1
