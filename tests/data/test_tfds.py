import builtins
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets
from PIL import Image

from keras_cnns.data import samples as sample_data
from keras_cnns.data import tfds, voc
from tests.data.helpers import DATA, real, stopped

features = tensorflow_datasets.features
BBox = features.BBox


def made(name, spec, folder, examples):
    """Prepares a set of these examples in a folder, as `tfds build` does, to be found by its name."""
    class Builder(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tensorflow_datasets.core.Version("1.0.0")
        code_path = None  # no files beside this one belong to the set

        def _info(self):
            return tensorflow_datasets.core.DatasetInfo(
                builder=self, features=features.FeaturesDict(spec), disable_shuffling=True)

        def _split_generators(self, manager):
            return {"train": enumerate(examples)}

        def _generate_examples(self):
            pass

    Builder.name = name
    Builder(data_dir=folder).download_and_prepare()
    return name


def picture(height=50, width=60, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype("uint8")


def coco(**changes):
    """An example in the form of coco's features."""
    return {"image": picture(), "image/filename": "000007.jpg", "objects": [
        {"bbox": BBox(ymin=10 / 50, xmin=7 / 60, ymax=30 / 50, xmax=59 / 60), "is_crowd": False, "label": 2, "area": 5},
        {"bbox": BBox(ymin=0.0, xmin=0.0, ymax=1.0, xmax=1.0), "is_crowd": True, "label": 0, "area": 6}], **changes}


COCO = {"image": features.Image(encoding_format="png"), "image/filename": features.Text(),
        "objects": features.Sequence({
            "bbox": features.BBoxFeature(), "is_crowd": np.bool_, "area": np.int64,
            "label": features.ClassLabel(names=["ant", "bee", "cat"])})}


def test_boxes_come_back_in_pixels_and_labels_from_1(tmp_path):
    made("small_coco", COCO, tmp_path, [coco(), coco(objects=[])])
    samples, skipped = tfds.samples("small_coco", data_dir=tmp_path)
    assert skipped == [] and sample_data.check(samples, progress=False) == (samples, [])
    first, empty = samples
    np.testing.assert_array_equal(first.boxes, [[7, 10, 59, 30], [0, 0, 60, 50]])
    assert list(first.labels) == [3, 1] and list(first.ignored) == [False, True]
    assert first.boxes.dtype == np.float32 and first.labels.dtype == np.int32 and first.size == (50, 60)
    assert first.details == {"area": [5, 6], "iscrowd": [0, 1]} and first.image_id == "000007.jpg"
    assert empty.boxes.shape == (0, 4) and empty.labels.shape == (0,) and empty.ignored.shape == (0,)
    assert tfds.class_names("small_coco", tmp_path) == ["ant", "bee", "cat"]


def test_the_stream_has_the_elements_of_the_samples(tmp_path):
    made("small_coco", COCO, tmp_path, [coco(), coco(objects=[])])
    samples, _ = tfds.samples("small_coco", data_dir=tmp_path)
    streamed = tfds.detection("small_coco", data_dir=tmp_path)
    held = sample_data.dataset(samples)
    assert streamed.element_spec == held.element_spec
    for one, other in zip(streamed.as_numpy_iterator(), held.as_numpy_iterator(), strict=True):
        for key in other:
            np.testing.assert_array_equal(one[key], other[key])
    np.testing.assert_array_equal(next(streamed.as_numpy_iterator())["image"], picture())


def test_parts_of_splits_and_shuffling(tmp_path):
    spec = {"image": features.Image(), "id": np.int64, "label": features.ClassLabel(num_classes=3)}
    made("small_set", spec, tmp_path, [{"image": picture(4, 4), "id": i, "label": 0} for i in range(20)])

    def ids(**options):
        dataset = tfds.classification("small_set", data_dir=tmp_path, **options)
        return [[int(e["image_id"]) for e in dataset.as_numpy_iterator()] for _ in range(2)]

    assert ids(split="train[5:8]") == [[5, 6, 7]] * 2
    first, second = ids(shuffle=True)
    assert first == second != [*range(20)] == sorted(first) and first != ids(shuffle=True, seed=1)[0]


def test_labels_are_counted_in_the_order_of_given_names(tmp_path):
    made("small_coco", COCO, tmp_path, [coco()])
    options = {"data_dir": tmp_path, "class_names": ["cat", "dog", "bee", "ant"]}
    assert list(tfds.samples("small_coco", **options)[0][0].labels) == [1, 4]
    assert list(next(tfds.detection("small_coco", **options).as_numpy_iterator())["labels"]) == [1, 4]
    for read in (tfds.samples, tfds.detection):
        stopped(lambda: read("small_coco", data_dir=tmp_path, class_names=["cat", "ant"]),
                "small_coco: has the classes bee, which are not in class_names (cat, ant)")
    spec = {"image": features.Image(), "label": features.ClassLabel(names=["ant", "bee"])}
    made("small_bugs", spec, tmp_path, [{"image": picture(), "label": label} for label in (1, 0, -1)])
    options["class_names"] = ["bee", "ant"]
    elements = tfds.classification("small_bugs", **options).take(2)
    assert [e["label"] for e in elements.as_numpy_iterator()] == [0, 1]
    samples, skipped = tfds.samples("small_bugs", on_bad_sample="skip", **options)
    assert [s.label for s in samples] == [0, 1] and "has no class" in skipped[0]


def test_further_classes_of_objects_are_told_by_their_names(tmp_path):
    spec = {"image": features.Image(), "objects": features.Sequence({
        "bbox": features.BBoxFeature(), "label": features.ClassLabel(num_classes=3),
        "pose": features.ClassLabel(names=["left", "rear"]), "is_truncated": np.bool_, "is_occluded": np.int8})}
    objects = [{"bbox": BBox(0.0, 0.0, 0.5, 0.5), "label": 0, "pose": pose, "is_truncated": True, "is_occluded": -1}
               for pose in (1, -1)]
    made("small_poses", spec, tmp_path, [{"image": picture(), "objects": objects}])
    assert tfds.samples("small_poses", data_dir=tmp_path)[0][0].details == {
        "pose": ["rear", None], "truncated": [1, 1], "occluded": [-1, -1]}


def test_objects_without_classes_have_one(tmp_path):
    spec = {"image": features.Image(), "faces": features.Sequence({"bbox": features.BBoxFeature()})}
    made("small_faces", spec, tmp_path, [{"image": picture(), "faces": [{"bbox": BBox(0.0, 0.0, 0.5, 0.5)}]}])
    samples, _ = tfds.samples("small_faces", data_dir=tmp_path)
    assert list(samples[0].labels) == [1] and tfds.class_names("small_faces", tmp_path) == ["faces"]
    assert samples[0].image_id == "train-00000"


def test_of_several_classes_of_an_object_none_is_guessed(tmp_path):
    spec = {"image": features.Image(), "objects": features.Sequence({
        "bbox": features.BBoxFeature(), "colour": features.ClassLabel(num_classes=3),
        "shape": features.ClassLabel(num_classes=4)})}
    made("small_shapes", spec, tmp_path, [{"image": picture(), "objects": []}])
    stopped(lambda: tfds.detection("small_shapes", data_dir=tmp_path), "has nothing but images that can be read")


def test_the_class_of_an_image_is_its_unit(tmp_path):
    spec = {"image": features.Image(shape=(8, 9, 1)), "id": np.int64,
            "label": features.ClassLabel(names=["ant", "bee"]), "species": features.ClassLabel(num_classes=5)}
    made("small_bugs", spec, tmp_path, [
        {"image": picture(8, 9, 1, i), "id": 70 + i, "label": i, "species": 4} for i in range(2)])
    elements = list(tfds.classification("small_bugs", data_dir=tmp_path).as_numpy_iterator())
    assert [e["label"] for e in elements] == [0, 1] and elements[0]["label"].dtype == np.int32
    assert [e["image_id"] for e in elements] == [b"70", b"71"] and elements[0]["image"].shape == (8, 9, 3)
    samples, _ = tfds.samples("small_bugs", data_dir=tmp_path)
    assert [s.label for s in samples] == [0, 1]
    assert tfds.class_names("small_bugs", tmp_path, "classification") == ["ant", "bee"]
    stopped(lambda: tfds.detection("small_bugs", data_dir=tmp_path), "has one class an image that can be read")
    stopped(lambda: tfds.class_names("small_bugs", tmp_path), "not boxes")
    stopped(lambda: tfds.class_names("small_bugs", tmp_path, "captions"), "'detection', 'classification'")


def test_masks_are_read_by_their_numbers_or_by_a_table(tmp_path):
    mask = picture(50, 60, 1) % 3 + 1
    spec = {"image": features.Image(), "mask": features.LabeledImage(labels=["none", "ant", "bee", "cat"])}
    made("small_masks", spec, tmp_path, [{"image": picture(), "mask": mask}])
    element = next(tfds.segmentation("small_masks", data_dir=tmp_path).as_numpy_iterator())
    np.testing.assert_array_equal(element["segmentation"], mask[..., 0])
    values = {1: 1, 2: 0, 3: 255}
    element = next(tfds.segmentation("small_masks", data_dir=tmp_path, values=values).as_numpy_iterator())
    expected = np.array([9, 1, 0, 255])[mask[..., 0]]
    np.testing.assert_array_equal(element["segmentation"], expected)
    samples, _ = tfds.samples("small_masks", data_dir=tmp_path, values=values)
    np.testing.assert_array_equal(sample_data.segmentation(samples[0]), expected)
    assert tfds.class_names("small_masks", tmp_path, "segmentation") == ["ant", "bee", "cat"]


def test_a_box_without_area_is_named_or_left_out(tmp_path):
    flat = [{"bbox": BBox(0.5, 0.5, 0.5, 1.0), "is_crowd": False, "label": 0, "area": 0}]
    made("small_coco", COCO, tmp_path, [coco(), coco(objects=flat, **{"image/filename": "flat.jpg"})])
    stopped(lambda: tfds.samples("small_coco", data_dir=tmp_path),
            "small_coco: image 'flat.jpg': object 1: box [30.0, 25.0, 60.0, 25.0] has no area", "on_bad_sample='skip'")
    samples, skipped = tfds.samples("small_coco", data_dir=tmp_path, on_bad_sample="skip")
    assert len(samples) == len(skipped) == 1
    stopped(lambda: tfds.samples("small_coco", data_dir=tmp_path, on_bad_sample="ignore"), "'stop', 'skip'")


def test_images_and_objects_without_a_class_are_errors(tmp_path):
    spec = {"image": features.Image(), "label": features.ClassLabel(num_classes=3)}
    made("small_test", spec, tmp_path, [{"image": picture(), "label": -1}])
    stopped(lambda: tfds.samples("small_test", data_dir=tmp_path), "image 'train-00000': has no class")
    with pytest.raises(tf.errors.InvalidArgumentError, match="small_test: an image without a class"):
        list(tfds.classification("small_test", data_dir=tmp_path))
    objects = [{"bbox": BBox(0.0, 0.0, 1.0, 1.0), "is_crowd": False, "label": -1, "area": 0}]
    made("small_coco", COCO, tmp_path, [coco(objects=objects)])
    stopped(lambda: tfds.samples("small_coco", data_dir=tmp_path), "object 1 has no class")
    with pytest.raises(tf.errors.InvalidArgumentError, match="small_coco: an object without a class"):
        list(tfds.detection("small_coco", data_dir=tmp_path))


@pytest.mark.parametrize("key, feature, value, expected", [
    ("text", features.Text(), "a", "has no image"),
    ("left", features.Image(), picture(), "has the images left, right"),
    ("image", features.Image(dtype=np.uint16, shape=(4, 4, 1)), np.zeros((4, 4, 1), "uint16"), "image is of uint16"),
    ("objects", features.Sequence({"bbox": features.BBoxFeature(bbox_format="XYWH")}), [], "its boxes are")])
def test_features_that_cannot_be_read_are_named(tmp_path, key, feature, value, expected):
    spec, example = {key: feature}, {key: value}
    if key in ("left", "objects"):
        spec["right"], example["right"] = features.Image(), picture()
    made("small_odd", spec, tmp_path, [example])
    stopped(lambda: tfds.samples("small_odd", data_dir=tmp_path), "small_odd", expected, "choose another set")


def test_an_unknown_set_or_split_is_named(tmp_path):
    stopped(lambda: tfds.samples("nonesuch", data_dir=tmp_path), "nonesuch: no such set", "catalog")
    stopped(lambda: tfds.samples("voc/1990", data_dir=tmp_path), "voc/1990: no such set")
    made("small_coco", COCO, tmp_path, [coco()])
    for split in ("val", "train[", "", None, ["train"]):
        stopped(lambda: tfds.samples("small_coco", split, data_dir=tmp_path), f"no split {split!r}", "Known: train")


def test_a_set_that_cannot_be_had_says_how_to_prepare_it(tmp_path, monkeypatch):
    def offline(self, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", offline)
    stopped(lambda: tfds.detection("voc/2007", data_dir=tmp_path), "voc/2007: cannot be prepared (no route)",
            "tfds build voc/2007", "data_dir=")


def test_a_module_that_is_not_installed_is_named(tmp_path, monkeypatch):
    def without(self, **options):
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", without)
    stopped(lambda: tfds.detection("voc/2007", data_dir=tmp_path), "No module named 'scipy'", "pip install scipy")


def test_files_that_are_cut_off_are_named(tmp_path):
    made("small_coco", COCO, tmp_path, [coco()])
    path, = tmp_path.rglob("*.tfrecord*")
    path.write_bytes(path.read_bytes()[:-9])
    stopped(lambda: tfds.samples("small_coco", data_dir=tmp_path), "small_coco: its prepared files cannot be read")


def test_without_tensorflow_datasets_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "tensorflow_datasets":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    for read in (tfds.samples, tfds.detection, tfds.class_names):
        stopped(lambda: read("mnist"), "pip install 'keras-cnns[tfds]'")


# Sets of the catalogue by their own descriptions, with made-up contents.

def test_mnist_of_the_catalogue():
    with tensorflow_datasets.testing.mock_data(num_examples=3):
        elements = list(tfds.classification("mnist").as_numpy_iterator())
        samples, _ = tfds.samples("mnist", "test")
        assert tfds.class_names("mnist", task="classification") == list("0123456789")
    assert len(elements) == 3 and elements[0]["image"].shape == (28, 28, 3)
    assert [int(e["label"]) for e in elements] == [s.label for s in samples]
    assert elements[1]["image_id"] == b"train-00001" and samples[1].image_id == "test-00001"


def test_oxford_iiit_pet_of_the_catalogue():
    with tensorflow_datasets.testing.mock_data(num_examples=2):
        dataset = tfds.segmentation("oxford_iiit_pet", values={1: 1, 2: 0, 3: 255})
        assert dataset.element_spec["segmentation"] == tf.TensorSpec([None, None], tf.uint8)
        masks = [e["segmentation"] for e in dataset.as_numpy_iterator()]
        assert len(list(tfds.classification("oxford_iiit_pet"))) == 2  # the breed, not the species
        assert len(tfds.class_names("oxford_iiit_pet", task="classification")) == 37
    assert len(masks) == 2 and set(np.unique(masks[0])) <= {0, 1, 255}


@pytest.mark.parametrize("name, count, flags", [
    ("voc/2007", 20, {"is_difficult": [True, False], "is_truncated": [False, True], "pose": [0, 4]}),
    ("coco/2017", 80, {"is_crowd": [True, False], "area": [0, 0], "id": [0, 0]})])
def test_voc_and_coco_of_the_catalogue(name, count, flags):
    details = {"difficult": [1, 0], "truncated": [0, 1], "pose": ["frontal", "unspecified"]}
    if name == "coco/2017":
        details = {"iscrowd": [1, 0], "area": [0, 0], "id": [0, 0]}

    def one(self, split, decoders, **options):
        objects = {"bbox": [BBox(0.2, 0.25, 0.4, 0.5), BBox(0.0, 0.0, 1.0, 1.0)], "label": [0, count - 1], **flags}
        example = {"image": picture(), "image/filename": "1.jpg", "image/id": 1, "labels": [],
                   "labels_no_difficult": [], "objects": objects}
        kept = decoders.extract_features(self.info.features)
        encoded = kept.encode_example({key: example[key] for key in kept} | {
            "objects": {key: objects[key] for key in kept["objects"].feature}})
        tensors = tf.data.Dataset.from_generator(lambda: [encoded], output_signature={
            key: ({k: tf.TensorSpec(v.shape, v.tf_dtype) for k, v in info.items()} if isinstance(info, dict)
                  else tf.TensorSpec(info.shape, info.tf_dtype)) for key, info in kept.get_serialized_info().items()})
        return tensors.map(lambda example: kept.decode_example(example, decoders=decoders.decoders))

    with tensorflow_datasets.testing.mock_data(as_dataset_fn=one):
        samples, _ = tfds.samples(name)
        element = next(tfds.detection(name).as_numpy_iterator())
        assert len(tfds.class_names(name)) == count
    np.testing.assert_array_equal(samples[0].boxes, [[15, 10, 30, 20], [0, 0, 60, 50]])
    assert list(samples[0].labels) == [1, count] and list(samples[0].ignored) == [True, False]
    assert samples[0].details == details and samples[0].image_id == "1.jpg"
    for key in ("boxes", "labels", "ignored"):
        np.testing.assert_array_equal(element[key], getattr(samples[0], key))


@real
def test_real_objects_of_coco_come_back_exactly(tmp_path):
    told = json.loads((DATA / "coco/annotations/instances_val2017.json").read_text())
    numbers = [category["id"] for category in told["categories"]]
    spec = {"image": features.Image(), "image/filename": features.Text(), "objects": features.Sequence({
        "bbox": features.BBoxFeature(), "is_crowd": np.bool_,
        "label": features.ClassLabel(names=[category["name"] for category in told["categories"]])})}
    examples, expected = [], {}
    for image in told["images"]:
        height, width, objects = image["height"], image["width"], []
        for item in (item for item in told["annotations"] if item["image_id"] == image["id"]):
            x, y, w, h = item["bbox"]
            objects.append({"bbox": BBox(y / height, x / width, min((y + h) / height, 1.0), min((x + w) / width, 1.0)),
                            "is_crowd": bool(item["iscrowd"]), "label": numbers.index(item["category_id"])})
            expected.setdefault(image["file_name"], []).append((x, y, x + w, y + h))
        examples.append({"image": str(DATA / "coco/val2017" / image["file_name"]),
                         "image/filename": image["file_name"], "objects": objects})
    made("real_coco", spec, tmp_path, examples)
    samples, _ = tfds.samples("real_coco", data_dir=tmp_path)
    assert len(samples) == 20 and sum(len(s.boxes) for s in samples) == 159
    assert sum(s.ignored.sum() for s in samples) == 2
    for sample in samples:
        np.testing.assert_array_equal(sample.boxes, np.array(expected[sample.image_id]).round(3).astype("float32"))
        assert sample.source == (DATA / "coco/val2017" / sample.image_id).read_bytes()  # not encoded anew
    assert sample_data.check(samples, progress=False)[1] == []


@real
def test_real_objects_of_voc_come_back_exactly(tmp_path):
    given, _ = voc.samples(DATA / "voc/VOCdevkit", 2012, "val")
    spec = {"image": features.Image(), "image/filename": features.Text(), "objects": features.Sequence({
        "bbox": features.BBoxFeature(), "is_difficult": np.bool_, "label": features.ClassLabel(names=voc.CLASSES)})}

    def objects(sample):
        height, width = sample.size
        for (x1, y1, x2, y2), label, ignored in zip(sample.boxes, sample.labels, sample.ignored):
            yield {"bbox": BBox(y1 / height, x1 / width, y2 / height, x2 / width), "label": int(label) - 1,
                   "is_difficult": bool(ignored)}

    made("real_voc", spec, tmp_path, [
        {"image": s.source, "image/filename": s.image_id, "objects": list(objects(s))} for s in given])
    elements = list(tfds.detection("real_voc", data_dir=tmp_path).as_numpy_iterator())
    assert len(elements) == len(given)
    for element, sample in zip(elements, given):
        assert element["image_id"].decode() == sample.image_id
        for key in ("boxes", "labels", "ignored"):
            np.testing.assert_array_equal(element[key], getattr(sample, key))
        np.testing.assert_array_equal(element["image"].shape, np.array(Image.open(sample.source)).shape)
