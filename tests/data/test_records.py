import glob
import io
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from keras_cnns.data import batches, examples, images, records, views, voc
from keras_cnns.data import samples as sample_data
from keras_cnns.data.samples import LabelImage, Sample
from keras_cnns.errors import InputError

NAMES = ["cat", "dog", "übergröße"]
PIXEL = tf.io.encode_png(np.zeros((1, 1, 3), "uint8")).numpy()


def picture(kind="PNG", height=20, width=30, seed=0, **options):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def png(numbers):
    return tf.io.encode_png(np.asarray(numbers, "uint8")[..., None]).numpy()


def rle(*box, height=20, width=30):
    mask = np.zeros((height, width), "uint8")
    mask[box[1]:box[3], box[0]:box[2]] = 1
    return coco_mask.encode(np.asfortranarray(mask))


def rich(number=0, kind="PNG"):
    """A sample with everything a sample can have; 20 x 30 pixels."""
    segmentation = np.zeros((20, 30))
    segmentation[3:9, 4:13], segmentation[9] = 2, 255
    return Sample(
        f"2007_{number:06d}", picture(kind, seed=number), (20, 30),
        np.float32([[4.1, 3, 13.3, 9], [0, 0, 30, 20], [7 / 3, 1 / 7, 20 / 7, 19]]), np.int32([2, 1, 3]),
        np.array([False, True, True]),
        {"pose": ["Left", "Unspecified", "Frontal"], "truncated": [1, 0, 0], "difficult": [0, 1, 0],
         "occluded": [0, 0, 1], "area": [55.3, 600, 0.1], "parts": [[["head", 1.5, 2, 3, 4]], [], []]},
        [rle(4, 3, 13, 9), rle(0, 0, 30, 20), rle(2, 0, 3, 19)],
        np.float32([[[5 / 3, 4, 2], [0, 0, 0]], [[29.9, 19.9, 1], [1, 1, 2]], [[0, 0, 0], [0, 0, 0]]]),
        LabelImage(png(segmentation)), 1, np.array([1, 0, -1]),
        {"id": f"x{number}", "licence": None, "source": {"database": "Ü", "flickrid": 1234567890123}})


def numbered(count):
    """Samples that can be told apart by their label: one-pixel pictures."""
    return [Sample(str(i), PIXEL, (1, 1), label=i) for i in range(count)]


def names(count):
    return [f"class {i}" for i in range(count)]


def same(a, b):
    """Two samples are equal to the bit; label images by what they mean, masks by their run lengths."""
    for field in ("image_id", "size", "label", "about", "details"):
        assert getattr(a, field) == getattr(b, field), field
    for field in ("boxes", "labels", "ignored", "keypoints", "present"):
        x, y = getattr(a, field), getattr(b, field)
        assert (x is None) == (y is None), field
        if x is not None:
            np.testing.assert_array_equal(x, y, field)
            assert field == "present" or x.dtype == y.dtype
    assert (a.masks is None) == (b.masks is None)
    if a.masks is not None:
        np.testing.assert_array_equal(sample_data.masks(a), sample_data.masks(b))
    if isinstance(a.masks, list):
        assert a.masks == b.masks
    assert (a.segmentation is None) == (b.segmentation is None)
    if a.segmentation is not None:
        np.testing.assert_array_equal(sample_data.segmentation(a), sample_data.segmentation(b))


def round_trip(samples, folder, class_names=NAMES, **options):
    paths, skipped = records.write(samples, folder, class_names, progress=False, **options)
    found, unread = records.samples(folder)
    assert skipped == unread == [] and all(map(os.path.exists, paths))
    for before, after in zip(samples, found, strict=True):
        same(before, after)
    return found


def raw(path):
    return [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]


def changed(folder, change, name="train.tfrecord"):
    """A file without a manifest, of the records in the folder, each changed as a feature dict."""
    found = []
    for path in sorted(glob.glob(f"{folder}/*-of-*.tfrecord")):
        found.extend(map(tf.train.Example.FromString, raw(path)))
    place = pathlib.Path(folder) / "changed"
    place.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(place / name)) as writer:
        for example in found:
            change(example.features.feature)
            writer.write(example.SerializeToString())
    return place


def stops(call, *expected):
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message, message
    for text in expected:
        assert text in message, message


def labels(stream):
    return run(stream)[0]


def run(stream):
    """Labels and places of all elements."""
    parts = list(stream.map(lambda element, place: (element["label"], place)).batch(1000).as_numpy_iterator())
    return tuple(np.concatenate([part[i] for part in parts]).tolist() if parts else [] for i in range(2))


# Round trips.

def test_a_sample_with_everything_comes_back_to_the_bit(tmp_path):
    found = round_trip([rich(0), rich(1, "JPEG")], tmp_path)
    assert [s.source for s in found] == [picture("PNG", seed=0), picture("JPEG", seed=1)]


def test_a_set_without_objects_keeps_what_it_could_have(tmp_path):
    empty = rich()._replace(
        boxes=np.zeros((0, 4), "float32"), labels=np.zeros(0, "int32"), ignored=np.zeros(0, bool), masks=[],
        keypoints=np.zeros((0, 2, 3), "float32"), details={"pose": [], "id": []})
    round_trip([empty], tmp_path)
    (element, _), = records.elements(tmp_path)
    assert element["masks"].shape == (0, 20, 30) and element["keypoints"].shape == (0, 2, 3)


sides = st.integers(1, 40)
numbers = st.floats(0, 1, width=32, allow_subnormal=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=6)
detail_names = st.sampled_from(["pose", "truncated", "difficult", "area", "iscrowd", "id", "parts"])


@st.composite
def awkward(draw, index):
    height, width, count = draw(sides), draw(sides), draw(st.integers(0, 3))
    boxes = []
    for _ in range(count):
        x, y = sorted([draw(numbers) * width, draw(numbers) * width]), sorted([draw(numbers) * height,
                                                                              draw(numbers) * height])
        box = np.float32([x[0], y[0], x[1], y[1]])
        boxes.append(box if (box[2:] > box[:2]).all() else np.float32([0, 0, width, height]))
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    details = draw(st.dictionaries(detail_names, st.lists(
        anything | st.integers(0, 1) | st.text(max_size=3), min_size=count, max_size=count), max_size=4))
    mask = np.array(draw(st.lists(st.integers(0, 1), min_size=height, max_size=height)), "uint8")[:, None]
    return Sample(
        draw(st.sampled_from([f"{index}", f"00{index}", f"ö {index}", f"a/{index}.x"])),
        picture(draw(st.sampled_from(["PNG", "JPEG"])), height, width, index), (height, width),
        np.float32(boxes).reshape(-1, 4), np.int32(draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))),
        np.array(draw(flags), bool), details,
        [coco_mask.encode(np.asfortranarray(mask.repeat(width, 1)))] * count,
        np.float32(draw(st.lists(st.tuples(st.floats(-5, 50, width=32), st.floats(-5, 50, width=32), st.integers(0, 2)),
                                 min_size=count, max_size=count))).reshape(-1, 1, 3),
        about=draw(st.dictionaries(st.text(max_size=3), anything, max_size=3)))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_awkward_samples_come_back_to_the_bit(tmp_path_factory, data):
    samples = [data.draw(awkward(i)) for i in range(data.draw(st.integers(1, 3)))]
    round_trip(samples, tmp_path_factory.mktemp("set"), shards=data.draw(st.integers(1, len(samples))))


def test_the_stream_has_what_samples_would_give(tmp_path):
    given = [rich(i) for i in range(5)]
    records.write(given, tmp_path, NAMES, shards=2, progress=False)
    read = sample_data.reader(given)
    for i, (element, place) in enumerate(records.elements(tmp_path, shuffle=False)):
        expected = read(tf.constant(i, tf.int64))
        assert place == i and element.keys() == expected.keys()
        for key in expected.keys() - {"name"}:
            np.testing.assert_array_equal(element[key], expected[key], key)
            assert element[key].dtype == expected[key].dtype
        assert f"record {i // 2 + 1}" in element["name"].numpy().decode()


def test_ours_are_read_by_other_numbers_throughout(one):
    names = ["dog", "bird", "übergröße", "cat"]
    before, after = sample_data.segmentation(rich()), np.array([0, 4, 1, 3, *[255] * 252])
    found, _ = records.samples(one, class_names=names)
    element, _ = next(iter(records.elements(one, shuffle=False, class_names=names)))
    for labels, label, present, segmentation in (
            (found[0].labels, found[0].label, found[0].present, sample_data.segmentation(found[0])),
            (element["labels"], element["label"], element["present"], element["segmentation"])):
        np.testing.assert_array_equal(labels, [1, 4, 3])
        assert label == 0
        np.testing.assert_array_equal(present, [0, -1, -1, 1])
        np.testing.assert_array_equal(segmentation, after[before])
    stops(lambda: records.samples(one, class_names=["cat", "dog"]), "the records have übergröße too")


def test_a_data_set_is_of_decoded_images(one):
    element = next(iter(records.dataset(one)))
    assert element.keys() == {"image", "image_id", "boxes", "labels", "ignored", "masks", "keypoints", "segmentation",
                              "label", "present"}
    np.testing.assert_array_equal(element["image"], images.decode(picture(), "x"))
    assert len(list(records.dataset(one, shuffle=True))) == 2


def imagenet(folder, *rows):
    """Shards as those of the Inception project: labels from 1, synsets, boxes without labels of their own."""
    with tf.io.TFRecordWriter(str(folder / "train-00000-of-00001")) as writer:
        for label, text, boxes in rows:
            feature = {"image/encoded": examples._bytes(picture("JPEG")), "image/class/label": examples._ints(label),
                       "image/class/text": examples._bytes(text), "image/class/synset": examples._bytes("n01"),
                       "image/object/bbox/label": examples._ints(*[label] * len(boxes)),
                       **{key: examples._floats([box[i] for box in boxes]) for i, key in enumerate(examples.BOX)}}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def test_imagenets_shards_are_read_by_number_with_their_boxes(tmp_path):
    corner, whole, right = (0, 0, 0.5, 0.5), (0, 0, 1, 1), (0.5, 0, 1, 0.5)
    imagenet(tmp_path, (1, "crane", [corner]), (2, "crane", [whole, right]), (1, "crane", []))
    stops(lambda: records.samples(tmp_path), "class 'crane' has the number 2, before it was 1; give class_names=")
    given = ["background", "crane", "crane (machine)"]
    found, _ = records.samples(tmp_path, class_names=given)
    assert [given[sample.label] for sample in found] == ["crane", "crane (machine)", "crane"]
    assert [[given[label - 1] for label in sample.labels] for sample in found] == [given[1:2], [given[2]] * 2, []]
    np.testing.assert_array_equal(found[0].boxes, [[0, 0, 15, 10]])
    for sample, (element, _) in zip(found, records.elements(tmp_path, shuffle=False, class_names=given), strict=True):
        np.testing.assert_array_equal(element["boxes"], sample.boxes)
        np.testing.assert_array_equal(element["labels"], sample.labels)


def test_other_splits_of_other_tools_have_the_names_of_train(one, tmp_path):
    place = changed(copy(one, tmp_path), lambda feature: None)

    def only_cats(feature):
        feature["image/object/class/text"].bytes_list.value[:] = [b"cat"] * 3
        feature["image/object/class/label"].int64_list.value[:] = [1] * 3

    changed(tmp_path, only_cats, "val.tfrecord")
    assert records.class_names(place, "val") == NAMES
    changed(tmp_path, put("image/object/class/text", bytes=[b"cow"] * 3), "val.tfrecord")
    stops(lambda: records.samples(place, "val"), "unknown class 'cow', known: cat, dog")


def test_a_folder_whose_name_is_not_utf8_is_written_and_read(tmp_path):
    place = os.path.join(tmp_path, os.fsdecode(b"\xff"))
    records.write(numbered(3), place, names(3), progress=False)
    assert labels(records.elements(place, shuffle=False)) == [0, 1, 2]
    assert records.verify(place, progress=False) == 3
    os.remove(os.path.join(place, "train.manifest.json"))
    assert records.verify(place, progress=False) == 3 and len(records.samples(place)[0]) == 3


def test_the_order_stands_however_many_shards_there_are(tmp_path):
    for shards in (1, 3, 10):
        records.write(numbered(10), tmp_path / str(shards), names(10), shards=shards, progress=False)
        assert labels(records.elements(tmp_path / str(shards), shuffle=False)) == list(range(10))
        whole = [raw(path) for path in sorted(glob.glob(f"{tmp_path / str(shards)}/*.tfrecord"))]
        assert [len(part) for part in whole] == [len(range(s, 10, shards)) for s in range(shards)]


@pytest.mark.parametrize("kind, options", [
    ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PPM", {}), ("GIF", {})])
def test_other_formats_become_png_without_loss(tmp_path, kind, options):
    source = picture(kind, **options)
    records.write([Sample("a", source)], tmp_path, NAMES, progress=False)
    found, = records.samples(tmp_path)[0]
    assert found.source.startswith(b"\x89PNG") and found.size == (20, 30)
    np.testing.assert_array_equal(images.decode(found.source, "x"), images.decode(source, "x"))


def test_what_exif_turns_is_stored_upright_so_that_decoders_that_ignore_it_see_the_boxes_right(tmp_path):
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    source = picture("JPEG", exif=exif)
    sample = Sample("a", source, (30, 20), np.float32([[1, 2, 19, 29]]), np.int32([1]), np.array([False]))
    records.write([sample], tmp_path, NAMES, progress=False)
    found, = records.samples(tmp_path)[0]
    pixels = tf.io.decode_image(found.source).numpy()
    np.testing.assert_array_equal(pixels, images.decode(source, "x"))
    assert found.size == (30, 20)


def test_run_lengths_of_another_encoder_come_back_too(tmp_path):
    # A run of no pixels in the midst: 5 ones, 0 zeros, 5 ones.
    odd = coco_mask.frPyObjects({"size": [20, 30], "counts": [0, 5, 0, 5, 590]}, 20, 30)
    plain = coco_mask.frPyObjects({"size": [20, 30], "counts": [0, 10, 590]}, 20, 30)
    assert odd != plain and (coco_mask.decode(odd) == coco_mask.decode(plain)).all()
    box = np.float32([[0, 0, 1, 10]])
    round_trip([Sample("a", picture(), (20, 30), box, np.int32([1]), np.array([False]), masks=[odd])], tmp_path)


def test_instances_in_a_label_image_become_masks(tmp_path):
    numbers = np.zeros((20, 30))
    numbers[2:5, 3:9], numbers[10:12], numbers[15] = 1, 2, 255
    sample = rich()._replace(masks=LabelImage(png(numbers)))
    sample = sample._replace(**{key: getattr(sample, key)[:2] for key in ("boxes", "labels", "ignored", "keypoints")},
                             details={})
    round_trip([sample], tmp_path)


# The Model Garden's own readers and writers.

@pytest.fixture(scope="module")
def garden():
    pytest.importorskip("official.vision")
    from official.vision.data import create_coco_tf_record, tfrecord_lib
    from official.vision.dataloaders import (classification_input, segmentation_input, tf_example_decoder,
                                             tf_example_label_map_decoder)

    class Garden:
        write, lib = create_coco_tf_record, tfrecord_lib
        classes, segments = classification_input, segmentation_input
        decoder, label_map = tf_example_decoder, tf_example_label_map_decoder
    return Garden


def test_the_gardens_detection_decoder_reads_our_files(tmp_path, garden):
    given = [rich(i, ("PNG", "JPEG")[i % 2]) for i in range(3)]
    paths, _ = records.write(given, tmp_path, NAMES, progress=False)
    decoder = garden.decoder.TfExampleDecoder(include_mask=True)
    ids = set()
    for sample, record in zip(given, raw(paths[0]), strict=True):
        found = decoder.decode(record)
        ids.add(int(tf.strings.to_number(found["source_id"], tf.int64)))
        np.testing.assert_array_equal(found["image"], images.decode(sample.source, "x"))
        assert (found["height"], found["width"]) == sample.size
        boxes = np.float32(found["groundtruth_boxes"])[:, [1, 0, 3, 2]] * [30, 20, 30, 20]
        np.testing.assert_allclose(boxes, sample.boxes, atol=1e-5)
        np.testing.assert_array_equal(found["groundtruth_classes"], sample.labels)
        np.testing.assert_array_equal(found["groundtruth_is_crowd"], [0, 0, 0])  # difficult, VOC says, is no crowd
        np.testing.assert_allclose(found["groundtruth_area"], sample.details["area"], rtol=1e-6)
        np.testing.assert_array_equal(found["groundtruth_instance_masks"], sample_data.masks(sample))
    assert len(ids) == 3


def test_the_gardens_label_map_decoder_finds_our_names(tmp_path, garden):
    paths, _ = records.write([rich()], tmp_path, NAMES, progress=False)
    (tmp_path / "map.csv").write_text("7,übergröße\n8,cat\n9,dog\n")
    found = garden.label_map.TfExampleDecoderLabelMap(str(tmp_path / "map.csv")).decode(raw(paths[0])[0])
    np.testing.assert_array_equal(found["groundtruth_classes"], [9, 8, 7])


def test_the_gardens_classification_and_segmentation_decoders_read_our_files(tmp_path, garden):
    paths, _ = records.write([rich()], tmp_path, NAMES, progress=False)
    record, = raw(paths[0])
    assert garden.classes.Decoder().decode(record)["image/class/label"] == 1
    found = garden.segments.Decoder().decode(record)
    png = tf.io.decode_image(found["image/segmentation/class/encoded"], channels=1)[..., 0]
    np.testing.assert_array_equal(png, sample_data.segmentation(rich()))
    parser = garden.segments.Parser([20, 30], resize_eval_groundtruth=True)
    image, target = parser._parse_eval_data(found)
    assert image.shape == (20, 30, 3)
    np.testing.assert_array_equal(target["masks"][..., 0], sample_data.segmentation(rich()))


def test_crowds_and_numeric_ids_are_cocos(tmp_path, garden):
    given = [rich(i)._replace(image_id=f"{i + 397133:012d}", ignored=np.array([False, True, False]),
                              about={"id": i + 397133}, details={"iscrowd": [0, 1, 0]}) for i in range(2)]
    paths, _ = records.write(given, tmp_path, NAMES, progress=False)
    for i, record in enumerate(raw(paths[0])):
        found = garden.decoder.TfExampleDecoder().decode(record)
        assert found["source_id"] == str(i + 397133)
        np.testing.assert_array_equal(found["groundtruth_is_crowd"], [0, 1, 0])
    assert [s.image_id for s in records.samples(tmp_path)[0]] == ["000000397133", "000000397134"]


def coco_set(folder, garden, masks=True, shards=2):
    """A set written by the Garden's COCO tool: categories 3 (dog) and 90 (cat); a crowd; an image with nothing."""
    (folder / "images").mkdir()
    examples = []
    polygons = [[4.0, 3.0, 13.0, 3.0, 13.0, 9.0, 4.0, 9.0]]
    crowd = {"size": [20, 30], "counts": [0, 40, 560]}
    for i in range(5):
        (folder / "images" / f"{i}.jpg").write_bytes(picture("JPEG", seed=i))
        image = {"height": 20, "width": 30, "file_name": f"{i}.jpg", "id": 100 + i}
        found = [{"bbox": [4.5, 3, 9, 6.25], "category_id": 90, "iscrowd": 0, "area": 54.0, "segmentation": polygons},
                 {"bbox": [0, 0, 2, 20], "category_id": 3, "iscrowd": 1, "area": 40.0, "segmentation": crowd}]
        examples.append((image, [str(folder / "images")], None, found if i else None, {90: "cat", 3: "dog"}, None, None,
                         None, False, masks))
    garden.lib.write_tf_record_dataset(str(folder / "val"), examples, garden.write.create_tf_example, shards, 0)


def test_files_of_the_gardens_coco_tool_are_read(tmp_path, garden):
    coco_set(tmp_path, garden)
    assert records.class_names(tmp_path, "val") == ["dog", "cat"]  # by number, without the gaps
    assert records.count(tmp_path, "val") == records.verify(tmp_path, "val") == 5
    found, skipped = records.samples(tmp_path, "val")
    assert skipped == [] and [s.image_id for s in found] == ["100", "101", "102", "103", "104"]
    assert len(found[0].boxes) == 0 and found[0].masks == []
    for sample in found[1:]:
        np.testing.assert_allclose(sample.boxes, [[4.5, 3, 13.5, 9.25], [0, 0, 2, 20]], atol=1e-5)
        assert list(sample.labels) == [2, 1] and list(sample.ignored) == [False, True] and sample.size == (20, 30)
        assert sample.details == {"iscrowd": [0, 1], "area": [54, 40]}
        masks = sample_data.masks(sample)
        assert masks[0, 3:9, 4:13].all() and masks[0].sum() == 54 and masks[1].sum() == 40
    streamed = {element["image_id"].numpy().decode(): element for element, _ in records.elements(tmp_path, "val")}
    for sample in found:
        element = streamed[sample.image_id]
        for key in ("boxes", "labels", "ignored"):
            np.testing.assert_array_equal(element[key], getattr(sample, key))
        np.testing.assert_array_equal(element["masks"], sample_data.masks(sample))
    by_hand, _ = records.samples(tmp_path, "val", ["bird", "cat", "dog"])
    assert list(by_hand[1].labels) == [2, 3]
    stops(lambda: records.samples(tmp_path, "val", ["bird", "cat"]), "val-00001-of-00002.tfrecord: record 1", "'dog'",
          "bird, cat")


def test_an_example_of_the_gardens_builder_is_read(tmp_path, garden):
    from official.vision.data import tf_example_builder

    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype("uint8")
    masks = np.zeros((2, 40, 60, 1), "uint8")
    masks[0, :20], masks[1, 5:, 7:] = 1, 1
    built = tf_example_builder.TfExampleBuilder().add_image_matrix_feature(pixels).add_boxes_feature(
        [0, 0.5], [1, 0.75], [0.25, 0], [0.5, 1], [2, 1]).add_instance_mask_matrices_feature(masks)
    with tf.io.TFRecordWriter(str(tmp_path / "train.record")) as writer:
        writer.write(built.example.SerializeToString())
    sample, = records.samples(tmp_path, class_names=NAMES)[0]
    np.testing.assert_array_equal(sample.boxes, [[0, 10, 60, 20], [30, 0, 45, 40]])
    np.testing.assert_array_equal(sample_data.masks(sample), masks[..., 0])
    np.testing.assert_array_equal(images.decode(sample.source, "x"), pixels)
    assert sample.size == (40, 60) and list(sample.labels) == [2, 1] and not sample.ignored.any()


def test_joints_of_the_object_detection_api_are_read(tmp_path):
    records.write([rich()], tmp_path, NAMES, progress=False)

    def without_ours(feature):
        for key in [key for key in feature if key.startswith("keras_cnns/")]:
            del feature[key]

    sample, = records.samples(changed(tmp_path, without_ours))[0]
    np.testing.assert_allclose(sample.keypoints, rich().keypoints, atol=1e-5)
    np.testing.assert_allclose(sample.boxes, rich().boxes, atol=1e-5)
    assert list(sample.ignored) == [False, True, False] and sample.image_id == "0"
    assert sample.details["pose"] == ["Left", "Unspecified", "Frontal"] and "occluded" not in sample.details


# Writing again.

def contents(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


class Killed(BaseException):
    pass


def test_a_write_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    samples = [rich(i) for i in range(9)]
    records.write(samples, tmp_path / "whole", NAMES, shards=4, progress=False)
    real, made = examples.example, []

    def dies(sample, *arguments):
        made.append(sample.image_id)
        if len(made) == 7:
            raise Killed
        return real(sample, *arguments)

    monkeypatch.setattr(examples, "example", dies)
    with pytest.raises(Killed):
        records.write(samples, tmp_path / "again", NAMES, shards=4, progress=False)
    done = [name for name in contents(tmp_path / "again") if name.endswith(".tfrecord")]
    assert 1 <= len(done) < 4 and not any(name.startswith(".") for name in contents(tmp_path / "again"))
    stops(lambda: records.samples(tmp_path / "again"), "not written yet", "4 shards")
    made.clear()
    monkeypatch.setattr(examples, "example", lambda *arguments: made.append(arguments[0]) or real(*arguments))
    records.write(samples, tmp_path / "again", NAMES, progress=False)  # the manifest knows how many shards
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    assert len(made) < 9  # finished shards were not made again


@pytest.mark.slow
def test_a_write_ended_by_sigkill_goes_on(tmp_path):
    program = """
import sys, time
from keras_cnns.data import examples, records, synthetic
real = examples.example
examples.example = lambda *arguments: time.sleep(0.05) or real(*arguments)
records.write(synthetic.samples(60), sys.argv[1], synthetic.CLASSES, shards=12, progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "again")])
    while len(list(tmp_path.glob("again/train-*"))) < 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= len(list(tmp_path.glob("again/train-*"))) < 12 and list(tmp_path.glob("again/.train-*"))
    from keras_cnns.data import synthetic

    for place in ("again", "whole"):
        records.write(synthetic.samples(60), tmp_path / place, synthetic.CLASSES, shards=12, progress=False)
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_a_damaged_shard_is_written_again_and_told_before(tmp_path):
    paths, _ = records.write(numbered(6), tmp_path, names(6), shards=3, progress=False)
    before = contents(tmp_path)
    assert records.verify(tmp_path, progress=False) == 6
    damaged = bytearray(before["train-00001-of-00003.tfrecord"])
    damaged[40] ^= 1
    pathlib.Path(paths[1]).write_bytes(damaged)
    stops(lambda: records.verify(tmp_path, progress=False), "train-00001-of-00003.tfrecord: differs")
    stops(lambda: records.samples(tmp_path), "train-00001-of-00003.tfrecord: damaged after record 0")
    os.remove(paths[2])
    stops(lambda: records.verify(tmp_path), "train-00002-of-00003.tfrecord: a shard is missing")
    records.write(numbered(6), tmp_path, names(6), progress=False)
    assert contents(tmp_path) == before


def test_other_samples_classes_or_numbers_of_shards_do_not_overwrite(tmp_path):
    records.write(numbered(6), tmp_path, names(6), shards=2, progress=False)
    other = numbered(6)
    other[3] = other[3]._replace(label=2)
    stops(lambda: records.write(other, tmp_path, names(6), progress=False), "00001-of-00002.tfrecord: holds other")
    stops(lambda: records.write(numbered(7), tmp_path, names(7), progress=False), "holds other samples")
    stops(lambda: records.write(numbered(6), tmp_path, names(7), progress=False), "holds other samples")
    stops(lambda: records.write(numbered(6), tmp_path, names(6), shards=3, progress=False), "a set of 2 shards, not 3")
    records.write(numbered(6), tmp_path, names(6), "val", shards=3, progress=False)  # another split is no other set
    os.remove(tmp_path / "train.manifest.json")
    stops(lambda: records.write(numbered(6), tmp_path, names(6), shards=2, progress=False), "records already")


def test_a_file_that_changed_is_another_sample(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    sample = Sample("a", str(tmp_path / "a.png"))
    records.write([sample], tmp_path / "set", NAMES, progress=False)
    records.write([sample], tmp_path / "set", NAMES, progress=False)
    (tmp_path / "a.png").write_bytes(picture(seed=1))
    stops(lambda: records.write([sample], tmp_path / "set", NAMES, progress=False), "holds other samples")


def test_shards_are_about_150_megabytes(monkeypatch):
    monkeypatch.setattr(records, "_stat", lambda path: os.stat_result([16_000_000] * 10))
    assert records._shards([Sample("", "a.jpg")] * 1183) == round(1183 * 16e6 / 150e6)
    assert records._shards([Sample("", "a.jpg")] * 3) == 1
    assert records._shards([Sample("", "a.jpg")] * 20_000) == 512


def test_bad_samples_stop_the_writing_or_are_left_out_and_listed(tmp_path):
    box = np.float32([[1, 1, 9, 9]])
    whole = Sample("b", picture(), (20, 30), box, np.int32([1]), np.array([False]))
    bad = {
        "truncated or corrupt": whole._replace(source=picture()[:300]),
        "empty": whole._replace(source=b""),
        "its annotation says 31 x 20": whole._replace(size=(20, 31)),
        "label 4, expected 1 to 3": whole._replace(labels=np.int32([4])),
        "label 0, expected 1 to 3": whole._replace(labels=np.int32([0])),
        "not in the image of 30 x 20": whole._replace(boxes=box * 4),
        "object 1: box [nan": whole._replace(boxes=box * np.float32([np.nan, 1, 1, 1])),
        "box [9.0, 1.0, 9.0, 9.0]": whole._replace(boxes=np.float32([[9, 1, 9, 9]])),
        "of 2 labels": whole._replace(labels=np.int32([1, 1])),
        "details['pose'] is no list of 1": whole._replace(details={"pose": ["Left", "Right"]}),
        "cannot be written as JSON": whole._replace(details={"odd": [object()]}),
        "a key that is no string": whole._replace(about={1: 2}),
        "keypoints [1, 2, 2]": whole._replace(keypoints=np.zeros((1, 2, 2), "float32")),
        "visibilities that are not 0, 1 or 2": whole._replace(keypoints=np.full((1, 2, 3), 3, "float32")),
        "masks of the sizes [20, 31]": whole._replace(masks=[rle(0, 0, 1, 1, width=31)]),
        "label is 3, expected 0 to 2": whole._replace(label=3),
        "present [2]": whole._replace(present=np.array([1, 1])),
        "image_id '\\udfff' is no text": whole._replace(image_id="\udfff"),
    }
    for expected, sample in bad.items():
        stops(lambda: records.write([whole, sample], tmp_path / "stop", NAMES, progress=False), expected)
    assert not (tmp_path / "stop").exists()
    odd = whole._replace(masks=[{"size": [20, 30], "counts": bytes(range(200, 230))}])
    stops(lambda: records.write([odd], tmp_path / "odd", NAMES, progress=False), "masks cannot be decoded")
    text = whole._replace(masks=[{**rle(1, 1, 9, 9), "counts": rle(1, 1, 9, 9)["counts"].decode()}])
    records.write([text], tmp_path / "text", NAMES, progress=False)
    assert records.samples(tmp_path / "text")[0][0].masks == [rle(1, 1, 9, 9)]
    _, skipped = records.write([whole, *bad.values(), whole._replace(image_id="c")], tmp_path / "skip", NAMES,
                               on_bad_sample="skip", progress=False)
    assert len(skipped) == len(bad) and all(any(text in line for line in skipped) for text in bad)
    assert [s.image_id for s in records.samples(tmp_path / "skip")[0]] == ["b", "c"]


def test_wrong_calls_of_write_are_told(tmp_path):
    write = records.write
    stops(lambda: write([], tmp_path, NAMES), "no samples to write")
    stops(lambda: write(numbered(3), tmp_path, names(3), shards=4), "4 shards of 3 samples")
    stops(lambda: write(numbered(513), tmp_path, names(513), shards=513), "give 1 to 512")
    stops(lambda: write(numbered(3), tmp_path, names(3), split="../up"), "'../up'", "without slashes")
    stops(lambda: write(numbered(3), tmp_path, ["a", "a", "b"]), "class names a, a, b")
    stops(lambda: write(numbered(3), tmp_path, None), "class names none")
    stops(lambda: write(numbered(2) + [rich()], tmp_path, NAMES), "write them to two splits")
    (tmp_path / "file").write_text("")
    stops(lambda: write(numbered(3), tmp_path / "file" / "set", names(3)), "Not a directory")


def test_a_full_disk_is_told_and_nothing_half_written_stays(tmp_path):
    samples = [Sample(str(i), picture(height=100, width=100, seed=i)) for i in range(8)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        stops(lambda: records.write(samples, tmp_path, NAMES, shards=1, progress=False),
              "train-00000-of-00001.tfrecord: cannot be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path).keys() == {"train.manifest.json"}
    records.write(samples, tmp_path, NAMES, progress=False)
    assert records.count(tmp_path) == 8


# Streams.

@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    """Folders of 100 numbered records, by the number of shards."""
    root = tmp_path_factory.mktemp("hundred")
    for shards in (1, 5, 8):
        records.write(numbered(100), root / str(shards), names(100), shards=shards, progress=False)
    return root


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A folder with one shard of two rich samples."""
    folder = tmp_path_factory.mktemp("one")
    records.write([rich(0), rich(1)], folder, NAMES, shards=1, progress=False)
    return folder


@pytest.mark.parametrize("shards, workers, shuffle", [
    (5, 3, True), pytest.param(1, 2, True, marks=pytest.mark.slow), (5, 2, False)])
def test_workers_share_nothing_and_have_all_in_every_epoch(hundred, shards, workers, shuffle):
    share = 100 // workers
    parts = [labels(records.elements(hundred / str(shards), epochs=2, seed=3, shuffle=shuffle, worker=w,
                                     workers=workers)) for w in range(workers)]
    assert [len(part) for part in parts] == [2 * share] * workers
    for epoch in range(2):
        seen = sum((part[epoch * share:(epoch + 1) * share] for part in parts), [])
        assert len(set(seen)) == len(seen) > 100 - workers


def test_a_stream_that_starts_in_the_midst_gives_exactly_the_rest(hundred):
    for first, options in ((144, {"shuffle": False}), (44, {"seed": 2, "worker": 1, "workers": 3, "share": 30})):
        whole, places = run(records.elements(hundred / "8", epochs=3, **options))
        assert len(set(places)) == len(places)
        rest = records.elements(hundred / "8", epochs=3, first=first, **options)
        assert run(rest) == (whole[first:], places[first:])
    assert run(records.elements(hundred / "8", epochs=3, first=1000)) == ([], [])


def test_what_is_passed_over_is_not_decoded(hundred, monkeypatch):
    parsed = []
    real = examples.reader

    def counting(form, rows=None):
        read = real(form, rows)

        def counted(item):
            tf.numpy_function(lambda number: parsed.append(int(number)), [item[1]], [])
            return read(item)
        return counted

    monkeypatch.setattr(examples, "reader", counting)
    assert len(list(records.elements(hundred / "5", first=90))) == len(parsed) == 10


def test_the_order_follows_from_the_seed_alone(hundred):
    def order(threads=0, **options):
        stream = records.elements(hundred / "5", epochs=2, **options)
        choice = tf.data.Options()
        choice.threading.private_threadpool_size = threads
        choice.autotune.enabled = not threads
        return labels(stream.with_options(choice))

    first = order(seed=1)
    tf.random.set_seed(99)
    assert first == order(1, seed=1) == order(16, seed=1)
    assert first != order(seed=2) and first[:100] != first[100:]


@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_sorted_sets_are_shuffled_about_as_well_as_by_a_permutation(hundred, shards, monkeypatch):
    # Of a permutation of n the mean displacement is n / 3, and places before and after do not go together. The block
    # is made small against the set, as it is with real ones.
    monkeypatch.setattr(records, "BLOCK", 10)
    displaced, together, neighbours = [], [], []
    for order in np.reshape(labels(records.elements(hundred / str(shards), epochs=20)), (20, 100)):
        displaced.append(np.abs(order - np.arange(100)).mean())
        together.append(np.corrcoef(order, np.arange(100))[0, 1])
        neighbours.append((np.diff(order) == 1).mean())
    assert 100 / 3 * 0.85 < np.mean(displaced) < 100 / 3 * 1.15
    assert abs(np.mean(together)) < 0.2 and np.mean(neighbours) < 0.05


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(0, 9), st.integers(0, 9), st.integers(1, 5),
       st.integers(1, 60))
def test_a_plan_is_the_epoch_cut_into_equal_parts(counts, seed, number, workers, share):
    counts = np.array(counts)
    seen = np.zeros(counts.sum(), int)
    begin = np.cumsum(counts) - counts
    for worker in range(workers):
        rows = records._plan(counts, seed, number, worker, share)
        assert rows[:, 2:].sum() == share and (rows[:, 2:] >= 0).all()
        for file, start, to_end, after in rows:
            assert start + to_end <= counts[file]
            seen[begin[file] + start:begin[file] + start + to_end] += 1
            seen[begin[file]:begin[file] + after] += 1
    times, rest = divmod(share * workers, counts.sum())
    assert set(seen) <= {times, times + 1} and (seen == times + 1).sum() == rest


def test_batches_are_those_of_samples_of_the_same_order(tmp_path):
    samples = [rich(i) for i in range(7)]
    records.write(samples, tmp_path, NAMES, shards=3, progress=False)
    options = dict(view=views.jittered, pairs=((0, 1),))
    found = list(records.training(tmp_path, "train", (24, 24), 2, 2, seed=5, **options))
    assert len(found) == 2 * batches.steps_per_epoch(samples, 2)
    order = [e["image_id"].numpy().decode() for e, _ in records.elements(tmp_path, epochs=2, seed=5, share=6)]
    index = np.array([int(name[5:]) for name in order])
    items = tf.data.Dataset.from_tensor_slices((index, np.arange(12)))
    expected = batches.batched(items, sample_data.reader(samples, 3), (24, 24), 2, 5, **options)
    for batch, ours in zip(expected, found, strict=True):
        assert batch.keys() == ours.keys() and batch["boxes"].shape == (2, 3, 4)
        for key in batch:
            np.testing.assert_array_equal(ours[key], batch[key], key)


def test_rows_of_objects_are_as_many_as_one_asks_for(one):
    element, _ = next(iter(records.elements(one)))
    for rows in (2, 4):
        found = examples._with_rows(dict(element), rows)
        for key in ("boxes", "labels", "ignored", "masks", "keypoints"):
            assert len(found[key]) == rows and found[key].dtype == element[key].dtype
            np.testing.assert_array_equal(found[key][:3], element[key][:rows])
            assert not found[key][3:].numpy().any()


def test_a_remainder_is_filled_up_for_all_workers_alike_and_a_run_goes_on_at_any_step(hundred, monkeypatch):
    monkeypatch.setattr(batches, "batched", lambda items, read, size, batch, seed: items.map(
        lambda item, place: read(item)["label"]).batch(batch, drop_remainder=True))

    def part(worker, first_step=0):
        return np.concatenate(list(records.training(
            hundred / "8", "train", (1, 1), 7, 2, 0, first_step, worker=worker, workers=2, remainder="pad")))

    parts = part(0), part(1)
    assert [len(each) for each in parts] == [2 * 8 * 7] * 2
    assert set(parts[0][:56]) | set(parts[1][:56]) == set(range(100))
    np.testing.assert_array_equal(part(1, 11), parts[1][77:])


# Errors.

def copy(folder, place):
    for name, data in contents(folder).items():
        (place / name).write_bytes(data)
    return place


def test_missing_folders_splits_and_shards_are_named(tmp_path):
    stops(lambda: records.samples(tmp_path / "no"), "no: no such folder")
    stops(lambda: records.samples(tmp_path), "no records of a split 'train'. Found: none")
    paths, _ = records.write(numbered(6), tmp_path, names(6), "val", 3, progress=False)
    stops(lambda: records.samples(tmp_path), "Found: val")
    os.remove(paths[1])
    stops(lambda: records.elements(tmp_path, "val"), "val-00001-of-00003.tfrecord: a shard is missing")
    os.remove(tmp_path / "val.manifest.json")
    stops(lambda: records.samples(tmp_path, "val"), "2 of 00003 shards of 'val' are there, 00001 is missing")
    with tf.io.TFRecordWriter(str(tmp_path / "val.tfrecord")):
        pass
    stops(lambda: records.samples(tmp_path, "val"), "several sets of the split 'val'")
    for path in (paths[0], paths[2]):
        os.remove(path)
    stops(lambda: records.samples(tmp_path, "val"), "val.tfrecord: no record in it")


def test_a_shard_cut_off_or_damaged_is_named(one, tmp_path):
    path = copy(one, tmp_path) / "train-00000-of-00001.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    stops(lambda: records.elements(tmp_path), f"{path}: has {len(whole) - 5} bytes, its manifest says {len(whole)}")
    os.remove(tmp_path / "train.manifest.json")
    for data in (whole[:-5], whole[:5], b"these are words, no records"):
        path.write_bytes(data)
        stops(lambda: records.count(tmp_path), f"{path}: record", "is cut off, or this is no TFRecord file")
    path.write_bytes(whole[:-9] + b"x" + whole[-8:])
    stops(lambda: records.samples(tmp_path, class_names=NAMES), f"{path}: damaged after record 1")
    stops(lambda: records.class_names(tmp_path), f"{path}: damaged after record 1")
    stops(lambda: records.verify(tmp_path, progress=False), f"{path}: damaged after record 1")


def test_a_broken_manifest_is_named(one, tmp_path):
    path = copy(one, tmp_path) / "train.manifest.json"
    good = json.loads(path.read_text())
    for text in ("", "{", "[]", "null", "[" * 100_000, '"\xff"', "NaN"):
        path.write_bytes(text.encode("latin-1"))
        stops(lambda: records.samples(tmp_path), str(path))
    for key in good:
        for value in (None, -1, 1.5, "x", [], {}, [[]], {"x": 1}, 2**80, True):
            if key in ("samples", "most_objects") and value is True or value == good[key]:
                continue
            path.write_text(json.dumps({**good, key: value}))
            stops(lambda: records.samples(tmp_path))
    os.remove(path)
    path.mkdir()
    stops(lambda: records.samples(tmp_path), str(path), "cannot be read")


def put(key, **values):
    def change(feature):
        feature.pop(key, None)
        for kind, value in values.items():
            getattr(feature[key], f"{kind}_list").value.extend(value)
    return change


BROKEN = {
    "no image/encoded": put("image/encoded"),
    "image is truncated or corrupt": put("image/encoded", bytes=[b"\xff\xd8\xffwords"]),
    "no JPEG, PNG": put("image/encoded", bytes=[b"words"]),
    "image/height is 21, but the image has 20": put("image/height", int64=[21]),
    "2 of image/object/bbox/ymax, but 3 of image/object/bbox/xmin": put("image/object/bbox/ymax", float=[1, 1]),
    "1 of image/object/is_crowd, but 3": put("image/object/is_crowd", int64=[1]),
    "2 of image/object/mask, but 3": put("image/object/mask", bytes=[png(np.ones((20, 30)))] * 2),
    "0 of image/object/mask, but 3": put("image/object/mask"),
    "image/object/mask is 30 x 21 pixels, the image 30 x 20": put(
        "image/object/mask", bytes=[png(np.ones((20, 30))), png(np.ones((21, 30))), png(np.ones((20, 30)))]),
    "image/object/mask is no PNG": put("image/object/mask", bytes=[b"", b"x", b""]),
    "image/segmentation/class/encoded is 3 x 2": put("image/segmentation/class/encoded", bytes=[png(np.ones((2, 3)))]),
    "no image/segmentation/class/encoded": put("image/segmentation/class/encoded"),
    "of the mode RGB, expected grey": put("image/segmentation/class/encoded", bytes=[picture()]),
    "box [nan, ": put("image/object/bbox/xmin", float=[np.nan, 0, 0]),
    "box [27.0, 3.0, 13.3": put("image/object/bbox/xmin", float=[0.9, 0, 0]),
    "3.0, 3.0, 9.0] has no area in the image of 30 x 20": put("image/object/bbox/xmax", float=[0.1, 0, 1]),
    "object 2: box [1.0, 2.0, 33.0, 4.0] is not in": put(
        "keras_cnns/boxes", float=[1, 2, 3, 4, 1, 2, 33, 4, 1, 2, 3, np.inf]),
    "is not in the image of 30 x 20": put("image/object/bbox/xmax", float=[2, 1, 1]),
    "label 0, expected 1 to 3": put("image/object/class/label", int64=[1, 0, 1]),
    "label 9, expected 1 to 3": put("image/object/class/label", int64=[1, 2, 9]),
    "0 of image/object/class/label, but 3": put("image/object/class/label"),
    "image/class/label is 3": put("image/class/label", int64=[3]),
    "5 of image/object/keypoint/x, but 3 objects of 2 joints": put("image/object/keypoint/x", float=[0] * 5),
    "visibility 7 of a joint": put("image/object/keypoint/visibility", int64=[2, 0, 7, 2, 0, 0]),
    "image/object/class/label is a float_list": put("image/object/class/label", float=[1, 2, 1]),
    "unknown class 'cow', known: cat, dog": put("image/object/class/text", bytes=[b"cat", b"cow", b"cat"]),
    "2 of image/width, expected one": put("image/width", int64=[30, 30]),
    "keras_cnns/rle cannot be decoded": put("keras_cnns/rle", bytes=[bytes(range(200, 230))] * 3),
    "is no JSON": put("keras_cnns/about", bytes=[b"{" * 10_000]),
    "is no dict": put("keras_cnns/details", bytes=[b"[1, 2]"]),
}


@pytest.fixture(scope="module")
def broken(one, tmp_path_factory):
    """A file without a manifest: a record as it was, and one for each of `BROKEN`, with the schema's features alone."""
    place = tmp_path_factory.mktemp("broken")
    path = place / "train.tfrecord"
    first, second = raw(one / "train-00000-of-00001.tfrecord")
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(first)
        for change in BROKEN.values():
            example = tf.train.Example.FromString(second)
            for key in ("keras_cnns/boxes", "keras_cnns/keypoints", "image/object/class/text", "image/class/text"):
                del example.features.feature[key]
            change(example.features.feature)
            writer.write(example.SerializeToString())
    return path


def test_broken_records_are_named_or_left_out(broken):
    stops(lambda: records.samples(broken.parent, class_names=NAMES), f"{broken}: record 2: no image/encoded",
          "on_bad_sample='skip'")
    found, skipped = records.samples(broken.parent, class_names=NAMES, on_bad_sample="skip")
    assert [s.image_id for s in found] == ["2007_000000"]
    for number, (line, expected) in enumerate(zip(skipped, BROKEN, strict=True), 2):
        assert line.startswith(f"{broken}: record {number}: ") and expected in line and "\n" not in line


def test_broken_records_end_a_stream_with_their_name(broken):
    for expected in ("image/object/mask is no PNG", "image/class/label is 3"):
        number = list(BROKEN).index(expected) + 1
        with pytest.raises(tf.errors.OpError) as error:
            list(records.elements(broken.parent, shuffle=False, first=number, class_names=NAMES).take(1))
        assert f"{broken}: record {number + 1}: " in str(error.value) and expected in str(error.value)


def test_records_that_are_no_examples_are_named(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "train.tfrecord")) as writer:
        writer.write(b"these are words")
    stops(lambda: records.samples(tmp_path, class_names=NAMES), "train.tfrecord: record 1: cannot be read as a tf.")
    stops(lambda: records.verify(tmp_path), "train.tfrecord: record 1 is no tf.train.Example")
    stops(lambda: records.class_names(tmp_path), "train.tfrecord")


def test_class_names_must_be_found_or_given(one, tmp_path):
    place = changed(copy(one, tmp_path), put("image/object/class/text"))
    stops(lambda: records.class_names(place), "3 of image/object/class/label, 0 names", "class_names=")
    found, _ = records.samples(place, class_names=NAMES[::-1])
    assert list(found[0].labels) == [2, 1, 3]  # by number, as there are no names

    def bare(feature):
        for key in ("image/object/class/text", "image/object/class/label", "image/class/text", "image/class/label"):
            del feature[key]

    stops(lambda: records.class_names(changed(tmp_path, bare)), "no class names in the records")
    place = changed(tmp_path, put("image/object/class/label", int64=[2, 2, 3]))
    stops(lambda: records.class_names(place), "two names for one number among dog, cat")


def test_an_image_turned_by_exif_is_refused_from_other_tools(one, tmp_path):
    exif = Image.Exif()
    exif[images.ORIENTATION] = 3
    turned = put("image/encoded", bytes=[picture("JPEG", exif=exif)])
    stops(lambda: records.samples(changed(copy(one, tmp_path), turned), class_names=NAMES), "EXIF orientation 3")


def test_wrong_workers_are_refused(one):
    for options in ({"worker": 2, "workers": 2}, {"worker": -1}, {"first": -1}, {"seed": -1}):
        stops(lambda: records.elements(one, **options), "expected 0 <= worker < workers")


def mutated(record, rng):
    """The record with a few bytes changed, left out or put in, often such as protobuf's lengths and tags are."""
    record = bytearray(record)
    for _ in range(rng.integers(1, 5)):
        at = rng.integers(len(record))
        new = rng.choice([0, 1, 8, 10, 18, 26, 127, 255, at % 256], rng.integers(0, 3))
        record[at:at + rng.integers(0, 3)] = bytes(new.tolist())
    return bytes(record)


def mutants_give_samples_or_one_line(record, place, count):
    rng = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(place / "train.tfrecord")) as writer:
        writer.write(record)
        for _ in range(count):
            writer.write(mutated(record, rng))
    found, skipped = records.samples(place, class_names=NAMES, on_bad_sample="skip")
    assert len(found) + len(skipped) == count + 1 and len(skipped) > count / 10 and len(found) > count / 100
    assert not any("\n" in line for line in skipped)
    for sample in found:
        assert sample.boxes.shape == (len(sample.labels), 4) and np.isfinite(sample.boxes).all()
        assert ((sample.labels >= 1) & (sample.labels <= 3)).all()
        assert sample_data.masks(sample).shape == (len(sample.labels), *sample.size)


def test_mutated_records_give_samples_or_one_line(one, tmp_path):
    mutants_give_samples_or_one_line(raw(one / "train-00000-of-00001.tfrecord")[0], tmp_path, 100)


@pytest.mark.slow
def test_ten_thousand_mutated_records_give_samples_or_one_line(one, tmp_path):
    mutants_give_samples_or_one_line(raw(one / "train-00000-of-00001.tfrecord")[0], tmp_path, 10_000)


def test_mutated_files_give_samples_or_one_line(one, tmp_path):
    whole = (one / "train-00000-of-00001.tfrecord").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(20):
        (tmp_path / "train.tfrecord").write_bytes(mutated(whole, rng))
        stops(lambda: records.samples(tmp_path, class_names=NAMES), str(tmp_path))


# Real data.

REAL = pathlib.Path(os.environ.get("KERAS_CNNS_DATA", ""))
real = pytest.mark.skipif(not os.environ.get("KERAS_CNNS_DATA"), reason="KERAS_CNNS_DATA is not set")


@real
def test_voc_comes_back_to_the_bit(tmp_path):
    samples, _ = voc.samples(REAL / "voc" / "VOCdevkit", 2012, "trainval")
    found = round_trip(samples, tmp_path, voc.CLASSES, shards=3)
    for before, after in zip(samples, found, strict=True):
        assert pathlib.Path(before.source).read_bytes() == after.source


@real
@pytest.mark.slow
def test_coco_with_masks_and_joints_comes_back_and_the_garden_reads_it(tmp_path, garden):
    coco = json.loads((REAL / "coco/annotations/person_keypoints_val2017.json").read_text())
    samples = []
    for image in coco["images"]:
        size = image["height"], image["width"]
        found = [each for each in coco["annotations"] if each["image_id"] == image["id"]]
        boxes = np.array([each["bbox"] for each in found], "float64").reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [coco_mask.frPyObjects(each["segmentation"], *size) for each in found]
        samples.append(Sample(
            str(image["id"]), str(REAL / "coco/val2017" / image["file_name"]), size, boxes.astype("float32"),
            np.ones(len(found), "int32"), np.array([each["iscrowd"] for each in found], bool),
            {key: [each[key] for each in found] for key in ("area", "iscrowd", "id")},
            [coco_mask.merge(mask) if isinstance(mask, list) else mask for mask in masks],
            np.array([each["keypoints"] for each in found], "float32").reshape(-1, 17, 3), about=image))
    paths, _ = records.write(samples, tmp_path, ["person"], shards=1, progress=False)
    for before, after in zip(samples, records.samples(tmp_path)[0], strict=True):
        same(before, after)
    decoder = garden.decoder.TfExampleDecoder(include_mask=True)
    for sample, record in zip(samples, raw(paths[0]), strict=True):
        found = decoder.decode(record)
        assert found["source_id"] == sample.image_id
        np.testing.assert_array_equal(found["groundtruth_is_crowd"], sample.ignored)
        np.testing.assert_array_equal(found["groundtruth_instance_masks"], sample_data.masks(sample))
        np.testing.assert_allclose(found["groundtruth_area"], sample.details["area"], rtol=1e-6)
