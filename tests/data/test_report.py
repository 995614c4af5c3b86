"""Oddities of a data set: each is told, with its file; and nothing is told of a sound one."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_cnns import cli
from keras_cnns.cli import data
from keras_cnns.data import report, synthetic, voc
from keras_cnns.data.samples import LabelImage, Sample

NAMES = ["cat", "dog", "hen"]
SOUND = dict(broken=[], odd_sizes=[], tiny_objects=[], duplicates=[], unused=[])


def picture(seed, height=50, width=60):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8"))


def sample(folder, name, image, boxes=((5, 5, 30, 40),), labels=(1,), **more):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image) if isinstance(image, bytes) else image.save(path)
    size = (0, 0) if isinstance(image, bytes) else image.size[::-1]
    return Sample(path.stem, str(path), size, np.array(boxes, "float32").reshape(-1, 4), np.array(labels, "int32"),
                  **{"ignored": np.zeros(len(labels), bool), **more})


def told(samples, names=NAMES, **options):
    return report.report(samples, names, progress=False, **options)


def test_of_a_sound_set_only_numbers_are_told(tmp_path):
    samples = [sample(tmp_path, "a.png", picture(1), [(5, 5, 30, 40), (6, 5, 30, 40)], [1, 2]),
               sample(tmp_path, "b.png", picture(2, 40, 50), [(5, 5, 30, 40)], [3], ignored=np.array([True])),
               sample(tmp_path, "c.png", picture(3, 80, 90), [], [])]
    good, found = told(samples)
    assert good == samples and found._replace(counts=0, sizes=0) == report.Report(0, 0, **SOUND)
    assert found.counts == [("cat", 1, 0, 1), ("dog", 1, 0, 1), ("hen", 1, 1, 1)]
    assert found.sizes == "smallest 50 x 40, median 60 x 50, largest 90 x 80 pixels (width x height)"


def test_an_object_is_counted_as_often_as_it_is_there_and_an_image_once(tmp_path):
    boxes = [(i, 5, 30, 40) for i in range(4)]
    _, found = told([sample(tmp_path, "a.png", picture(1), boxes, [1, 1, 1, 2]),
                     sample(tmp_path, "b.png", picture(2), boxes[:1], [1])])
    assert found.counts == [("cat", 4, 0, 2), ("dog", 1, 0, 1), ("hen", 0, 0, 0)] and found.unused == ["hen"]


def test_pixels_of_a_segmentation_are_counted(tmp_path):
    labels = np.full((50, 60), 255, "uint8")
    labels[:10, :20], labels[20:22, :5] = 1, 2
    Image.fromarray(labels).save(tmp_path / "labels.png")
    segmented = dict(segmentation=LabelImage(str(tmp_path / "labels.png")))
    _, found = told([sample(tmp_path, "a.png", picture(1), [], [], **segmented),
                     sample(tmp_path, "b.png", picture(2), [], [], **segmented)])
    assert found.counts == [("cat", 0, 0, 2, 400), ("dog", 0, 0, 2, 20), ("hen", 0, 0, 0, 0)]
    assert found.unused == ["hen"]


def test_classes_of_whole_images_are_counted_with_or_without_names(tmp_path):
    samples = [sample(tmp_path, f"{i}.png", picture(i), [], [], label=label) for i, label in enumerate((0, 2, 2))]
    assert told(samples)[1].counts == [("cat", 0, 0, 1), ("dog", 0, 0, 0), ("hen", 0, 0, 2)]
    assert told(samples, None)[1].counts == [("0", 0, 0, 1), ("1", 0, 0, 0), ("2", 0, 0, 2)]
    assert told(samples, None)[1].unused == ["1"]


def test_broken_images_and_what_the_reader_left_out_are_told(tmp_path):
    broken = sample(tmp_path, "broken.png", b"no image")
    other = sample(tmp_path, "other.png", picture(1))._replace(size=(60, 50))
    labels = sample(tmp_path, "labels.png", picture(2), segmentation=LabelImage(str(tmp_path / "nowhere.png")))
    sound = sample(tmp_path, "sound.png", picture(3))
    good, found = told([broken, other, labels, sound], skipped=["a.xml: no XML"])
    assert [each.image_id for each in good] == ["sound"] and found.broken[0] == "a.xml: no XML"
    for line, text in zip(found.broken[1:], ("broken.png: no JPEG", "other.png: image is 60 x 50", "nowhere.png")):
        assert text in line and "\n" not in line
    assert len(found.broken) == 4


@pytest.mark.parametrize("height, width, odd", [
    (31, 60, True), (60, 31, True), (32, 32, False), (32, 128, False), (32, 129, True), (200, 40, True), (1, 1, True)])
def test_odd_sizes_are_told(tmp_path, height, width, odd):
    _, found = told([sample(tmp_path, "a.png", picture(1, height, width), [], [])])
    assert found.odd_sizes == [f"{tmp_path}/a.png: {width} x {height} pixels"] * odd


def test_tiny_objects_are_told(tmp_path):
    boxes = [(5, 5, 9, 40), (5, 5, 8.5, 40), (5, 5, 30, 6)]
    _, found = told([sample(tmp_path, "a.png", picture(1), boxes, [1, 1, 1])])
    assert found.tiny_objects == [f"{tmp_path}/a.png: object 2 is 3.5 pixels at its narrowest",
                                  f"{tmp_path}/a.png: object 3 is 1 pixels at its narrowest"]


def test_images_of_the_same_bytes_or_the_same_pixels_are_told_once_each(tmp_path):
    first = sample(tmp_path, "a.png", picture(1))
    copy = sample(tmp_path, "b.png", pathlib.Path(first.source).read_bytes())
    again = sample(tmp_path, "c.bmp", picture(1))
    reshaped = Image.fromarray(np.asarray(picture(1)).reshape(60, 50, 3))
    other = sample(tmp_path, "d.png", reshaped)  # the same numbers, another image
    _, found = told([first, copy, again, other])
    assert found.duplicates == [f"{tmp_path}/b.png: the same bytes as {tmp_path}/a.png",
                                f"{tmp_path}/c.bmp: the same pixels as {tmp_path}/a.png"]


def test_objects_of_the_same_class_and_box_are_told(tmp_path):
    box = (5, 5, 30, 40)
    _, found = told([sample(tmp_path, "a.png", picture(1), [box, (5, 5, 30, 41), box, box], [1, 1, 2, 1])])
    assert found.duplicates == [f"{tmp_path}/a.png: object 4 has the class and box of object 1"]


def test_of_nothing_nothing_is_told():
    good, found = told([])
    assert good == [] and found.sizes == "no images" and found.unused == NAMES and not found.broken


# By the command.

def objects(*boxes):
    return "".join(
        f"<object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax>"
        f"<ymax>{box[3]}</ymax></bndbox></object>" for name, *box in boxes)


@pytest.fixture
def odd(tmp_path):
    """A folder with one of each oddity, and what is said of it, by the file."""
    root = tmp_path / "VOC2012"
    for part in ("Annotations", "JPEGImages"):
        (root / part).mkdir(parents=True)

    def put(name, image, *boxes, size=(60, 50)):
        if image is not None:
            picture(*image).save(root / f"JPEGImages/{name}.png")
        if boxes != (None,):
            (root / f"Annotations/{name}.xml").write_text(
                f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects(*boxes)}"
                "</annotation>")

    box = ("cat", 5, 5, 30, 40)
    put("broken", (1,), box)
    image = root / "JPEGImages/broken.png"
    image.write_bytes(image.read_bytes()[:900])
    put("first", (2,), box)
    put("long", (3, 40, 400), box, size=(400, 40))
    put("lonely", None, box)
    put("more", (4,), None)
    put("outside", (5,), ("cat", 5, 5, 90, 40))
    put("same_bytes", (2,), box)
    put("same_pixels", (2,), box)
    Image.open(root / "JPEGImages/same_pixels.png").save(root / "JPEGImages/same_pixels.png", compress_level=0)
    put("tiny", (6,), ("dog", 5, 5, 6, 40))
    put("twice", (7,), box, ("dog", 1, 1, 9, 9), box)
    put("wrong", (8,), box, size=(61, 50))
    (root / "Annotations/words.xml").write_text("words")
    (root / "labels.txt").write_text("cat\ndog\nhen\n")
    return root


EXPECTED = {
    "broken:": ["words.xml: annotation is no XML", "lonely.jpg: image is missing", "outside.xml: object 1 (cat): box",
                "broken.png: image is truncated", "wrong.png: image is 60 x 50 pixels, its annotation says 61 x 50"],
    "of odd size:": ["long.png: 400 x 40 pixels"],
    "tiny objects:": ["tiny.png: object 1 is 2 pixels"],
    "duplicates:": ["same_bytes.png: the same bytes as", "same_pixels.png: the same pixels as",
                    "twice.png: object 3 has the class and box of object 1"],
    "classes without anything:": ["hen"],
    "images without an annotation:": ["more.png"]}


def test_each_oddity_is_told_with_its_file(odd, tmp_path, capsys):
    arguments = ["data", "check", f"voc:{odd}", "--sheet", str(tmp_path / "sheet.png")]
    assert cli.main(arguments) == 2  # broken samples, and the default is to stop
    output = capsys.readouterr()
    assert "5 broken samples" in output.err and output.err.count("\n") == 1
    lines = output.out.splitlines()
    for heading, expected in EXPECTED.items():
        assert f"{len(expected)} {heading}" in lines
        at = lines.index(f"{len(expected)} {heading}") + 1
        block = lines[at:at + len(expected)]
        for text in expected:
            assert sum(text in line for line in block) == 1
        assert all(line.startswith("  ") for line in block)
    assert cli.main([*arguments, "--on-bad-sample", "skip"]) == 0
    assert capsys.readouterr().err == ""


def test_a_sound_set_has_the_status_0(tmp_path, capsys):
    root = synthetic.write_voc(tmp_path / "kit", train=4, val=1)
    assert cli.main(["data", "check", f"voc:{root}", "--sheet", str(tmp_path / "sheet.png")]) == 0
    output = capsys.readouterr()
    assert output.err == "" and "0 broken" in output.out and "0 images without an annotation" in output.out
    assert "4 good images" in " ".join(output.out.split())


def test_the_sum_of_images_is_of_images_and_not_of_classes(tmp_path, capsys):
    sample_of_two = synthetic.samples(1)[0]._replace(
        boxes=np.array([[1, 1, 20, 20], [30, 30, 60, 60]], "float32"), labels=np.array([1, 2], "int32"),
        ignored=np.zeros(2, bool), details={})
    voc.write([sample_of_two], tmp_path / "kit", synthetic.CLASSES)
    cli.main(["data", "check", f"voc:{tmp_path / 'kit'}", "--split", "all", "--sheet", str(tmp_path / "sheet.png")])
    row = next(line for line in capsys.readouterr().out.splitlines() if " all " in line)
    assert row.split()[1::2] == ["all", "2", "0", "1"]


def test_more_lines_than_one_reads_are_counted(tmp_path, capsys):
    for number in range(25):
        sample(tmp_path, f"set/cat/{number:02d}.png", picture(number, 20, 20))
    assert cli.main(["data", "check", f"folder:{tmp_path / 'set'}", "--sheet", str(tmp_path / "sheet.png")]) == 0
    output = capsys.readouterr().out
    assert "25 of odd size:" in output and "... and 5 more" in output and "19.png: 20" in output
    assert "20.png: 20" not in output


def test_a_set_without_one_good_sample_is_refused(tmp_path, capsys):
    sample(tmp_path, "set/cat/a.png", b"no image")
    assert cli.main(["data", "check", f"folder:{tmp_path / 'set'}", "--on-bad-sample", "skip"]) == 2
    output = capsys.readouterr()
    assert "no usable sample" in output.err and "a.png" in output.out


# The sheet.

def tiles(path, width=240, gap=6):
    """How many pictures are in each row of a sheet on white."""
    sheet = np.asarray(Image.open(path).convert("L")) < 250
    columns = (sheet.shape[1] - gap) // (width + gap)
    assert sheet.shape[1] == columns * (width + gap) + gap
    inked = np.flatnonzero(sheet.any(1))
    tops = [y for y in inked if y == inked[0] or not sheet[y - 1].any()]
    rows = [sum(sheet[y + 8, gap + i * (width + gap):gap + (i + 1) * (width + gap)].any() for i in range(columns))
            for y in tops]
    return rows


@pytest.mark.parametrize("count, rows", [(1, [1]), (6, [6]), (7, [6, 1]), (24, [6] * 4), (30, [6] * 4), (50, [6] * 4)])
def test_the_sheet_has_a_picture_of_each_sample_up_to_24(tmp_path, count, rows):
    for number in range(count):
        Image.new("RGB", (60, 50), (10 + number, 0, 0)).save(tmp_path / f"{number:03d}.png")
    (tmp_path / "labels.tsv").write_text("".join(f"{number:03d}.png\tcat\n" for number in range(count)))
    assert cli.main(["data", "check", f"folder:{tmp_path}", "--sheet", str(tmp_path / "new/sheet.png")]) == 0
    assert tiles(tmp_path / "new/sheet.png") == rows


def test_a_very_long_image_makes_no_very_long_sheet(tmp_path):
    for name, size in (("a", (4, 3000)), ("b", (3000, 4)), ("c", (1, 1)), ("d", (60, 50))):
        sample(tmp_path, f"set/cat/{name}.png", Image.new("RGB", size, "red"))
    assert cli.main(["data", "check", f"folder:{tmp_path / 'set'}", "--sheet", str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 246 + 6, 480 + 12)


def test_all_that_is_told_of_a_sample_is_drawn(tmp_path):
    black = Image.new("RGB", (60, 50))
    Image.fromarray(np.full((50, 60), 3, "uint8")).save(tmp_path / "labels.png")
    plain = sample(tmp_path, "a.png", black, [], [])
    joints = np.zeros((1, 2, 3), "float32")
    joints[0, 0] = (50, 40, 2)
    cases = [plain._replace(segmentation=LabelImage(str(tmp_path / "labels.png"))), plain._replace(label=0),
             sample(tmp_path, "a.png", black), sample(tmp_path, "a.png", black, keypoints=joints),
             sample(tmp_path, "a.png", black, masks=LabelImage(str(tmp_path / "labels.png"), {3: 1}))]
    pictures = [np.asarray(data.tile(each, NAMES)) for each in [plain, *cases]]
    assert all(each.shape == (200, 240, 3) for each in pictures) and not pictures[0].any()
    assert len({each.tobytes() for each in pictures}) == 6
    assert pictures[4][160, 200].any() and not pictures[3][160, 200].any()  # the joint, four times as large


def test_a_sheet_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file/sheet.png", tmp_path / "sheet.nonsense", tmp_path):
        assert cli.main(["data", "check", "synthetic:2", "--sheet", str(place)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(place) in error and "name a .png file" in error


def test_names_of_any_kind_can_be_told(tmp_path, capsys):
    for name in ("[red]", "[", ":smile:", "ä\u200b\u6587", "a\u0301"):
        sample(tmp_path, f"set/{name}/a.png", picture(1))
    assert cli.main(["data", "check", f"folder:{tmp_path / 'set'}", "--sheet", str(tmp_path / "sheet.png")]) == 0
    output = capsys.readouterr().out
    assert "[red]" in output and ":smile:" in output and "4 duplicates" in output
