"""The command line as its user meets it: what it does, and one line where it cannot."""

import io
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cnns import cli
from keras_cnns.data import synthetic
from keras_cnns.models import create_model


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return synthetic.write_voc(tmp_path_factory.mktemp("data") / "VOCdevkit", train=6, val=4)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, voc):
    """A folder of a run of two epochs, made by the command."""
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    status = cli.main(["train", "faster_rcnn_resnet18", "--data", f"voc:{voc}", "--input-size", "64", "--batch", "3",
                       "--epochs", "2", "--output", str(folder), "--validation-split", "val",
                       "--learning-rate", "1e-6"])  # hardly a change: every class stays likely
    assert status == 0
    return folder


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory, run_folder):
    folder = tmp_path_factory.mktemp("saved_models")
    assert cli.main(["export", str(run_folder), str(folder / "shapes"), "--score-threshold", "0.01"]) == 0
    return folder


def refused(capsys, *arguments, status=2):
    """The one line of an error."""
    assert cli.main(list(map(str, arguments))) == status
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if line.startswith("keras-cnns:")]
    assert len(lines) == 1 and "Traceback" not in output.err
    return lines[0]


def test_models_are_listed(capsys):
    assert cli.main(["models", "resnet18*"]) == 0
    output = capsys.readouterr().out
    assert "resnet18_a: classification, 2015" in output and "plain18" not in output
    assert "weights='imagenet'" in output and "keras-cnns evaluate resnet18 --weights imagenet" in output


def test_data_are_counted_and_drawn(capsys, voc, tmp_path):
    assert cli.main(["data", "check", f"voc:{voc}", "--sheet", str(tmp_path / "sheet.png")]) == 0
    output = capsys.readouterr().out
    assert "6 good images, 0 broken samples" in " ".join(output.split())
    assert all(name in output for name in synthetic.CLASSES) and f"{tmp_path / 'sheet.png'}: 6 of the images." in output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 6 * 246 + 6


def test_the_sheet_lies_in_the_working_folder(capsys, monkeypatch, tmp_path, voc):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "check", f"voc:{voc}:2012", "--split", "val", "--limit", "3"]) == 0
    assert "3 good images" in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in tmp_path.iterdir()] == ["contact_sheet.png"]


def test_data_are_converted(capsys, voc, tmp_path):
    assert cli.main(["data", "convert", f"voc:{voc}", f"coco:{tmp_path / 'coco'}", "--limit", "4"]) == 0
    assert f"coco:{tmp_path / 'coco'}: 4 images written." in capsys.readouterr().out
    assert len(list((tmp_path / "coco/train2017").iterdir())) == 4
    assert "is there already" in refused(capsys, "data", "convert", f"voc:{voc}", f"coco:{tmp_path / 'coco'}")
    assert "Accepted: voc:PATH" in refused(capsys, "data", "convert", f"voc:{voc}", tmp_path / "new")
    assert "Accepted: voc:PATH" in refused(capsys, "data", "convert", tmp_path, f"coco:{tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()


def test_a_broken_image_stops_the_conversion_or_is_left_out(capsys, tmp_path):
    root = synthetic.write_voc(tmp_path / "VOCdevkit", train=3, val=1)
    image = sorted(root.rglob("*.jpg"))[0]
    image.write_bytes(image.read_bytes()[:500])
    (root / f"VOC2012/Annotations/{sorted(root.rglob('*.jpg'))[1].stem}.xml").write_text("words")
    for kind in ("voc", "coco", "records"):
        call = ["data", "convert", f"voc:{root}", f"{kind}:{tmp_path / kind}"]
        assert "no XML" in refused(capsys, *call)
        assert cli.main([*call, "--on-bad-sample", "skip"]) == 0
        output = capsys.readouterr()
        assert f"{tmp_path / kind}: 1 images written." in output.out
        assert output.err.count("skipped") == 2 and image.name in output.err


def test_what_would_be_lost_is_not_converted(capsys, tmp_path):
    Image.new("RGB", (60, 50)).save(tmp_path / "a.png")
    (tmp_path / "labels.tsv").write_text("a.png\t3\n")
    for target in (f"voc:{tmp_path / 'x'}", f"coco:{tmp_path / 'x'}"):
        assert "no place for the samples' label" in refused(capsys, "data", "convert", f"folder:{tmp_path}", target)
    assert "labels.txt" in refused(capsys, "data", "convert", f"folder:{tmp_path}", f"records:{tmp_path / 'x'}")
    assert not (tmp_path / "x").exists()


def test_names_of_files_that_cannot_be_printed_are_told_all_the_same(monkeypatch, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/[/b]")
    try:
        os.makedirs(path)
    except OSError:
        pytest.skip("this file system wants UTF-8")
    with open(f"{path}/a.png", "wb") as file:
        Image.new("RGB", (20, 20)).save(file)
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")  # a terminal's
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["data", "check", f"folder:{tmp_path}", "--sheet", str(tmp_path / "sheet.png")]) == 0
    stream.flush()
    assert "caf\\udce9/[/b]/a.png: 20 x 20 pixels" in stream.buffer.getvalue().decode()


def test_a_run_leaves_its_network_labels_and_numbers(run_folder):
    assert {"network.keras", "labels.txt", "history.json", "settings.json", "checkpoint"} <= {
        p.name for p in run_folder.iterdir()}
    assert "AP50" in (run_folder / "history.json").read_text()
    assert keras.saving.load_model(run_folder / "network.keras").name == "faster_rcnn_resnet18"


def test_on_another_backbone(capsys, tmp_path):
    words = ["train", "localizer", "--data", "synthetic:2", "--input-size", "32", "--batch", "2", "--epochs", "1",
             "--output", str(tmp_path / "run")]
    on = ["--backbone", "resnet20_cifar", "--features", "conv4_x", "--dtype-policy", "mixed_bfloat16"]
    assert cli.main([*words, *on]) == 0
    network = keras.saving.load_model(tmp_path / "run" / "network.keras", compile=False)
    assert network.get_layer("cls_score").input.shape[-1] == 64
    assert network.get_layer("conv1_conv").compute_dtype == "bfloat16" and network.output["reg"].dtype == "float32"
    assert "other options" in refused(capsys, *words)
    assert "has its paper's own" in refused(capsys, "train", "rcnn_alexnet", "--data", "synthetic:2", *on[:-2])
    assert "in stages, in float32" in refused(capsys, "train", "rcnn_alexnet", "--data", "synthetic:2", *on[-2:])
    assert "'ssd' takes a backbone" in refused(
        capsys, "train", "ssd300_vgg16", "--data", "synthetic:2", "--output", tmp_path / "other", *on)


@pytest.mark.slow
def test_training_goes_without_a_warning(tmp_path, voc):
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-m", "keras_cnns.cli", "train", "faster_rcnn_resnet18", "--data",
         f"voc:{voc}", "--input-size", "64", "--batch", "2", "--epochs", "1", "--limit", "2", "--output",
         str(tmp_path / "run")], capture_output=True, text=True, cwd=pathlib.Path(cli.__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "arning" not in done.stderr + done.stdout


def test_evaluate_prints_both_forms_and_coco(capsys, run_folder, voc):
    assert cli.main(["evaluate", str(run_folder), "--data", f"voc:{voc}"]) == 0
    output = capsys.readouterr().out
    assert "mean" in output and "AP50" in output and "AR100" in output


@pytest.mark.slow
def test_a_network_of_masks_is_trained_evaluated_and_drawn(capsys, tmp_path):
    folder, picture = tmp_path / "run", tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(picture)
    assert cli.main(["train", "mask_rcnn_resnet18", "--data", "synthetic:4", "--input-size", "96", "--epochs", "1",
                     "--batch", "2", "--output", str(folder)]) == 0
    call = ["evaluate", str(folder), "--data", "synthetic:3", "--split", "val"]
    assert cli.main([*call, "--confusion", str(tmp_path / "c.png"), "--curves", str(tmp_path / "pr.png")]) == 0
    output = capsys.readouterr().out
    assert "COCO, bbox: AP" in output and "COCO, segm: AP" in output and "pr.png: precision over recall" in output
    for name in ("c.png", "pr.png"):
        with Image.open(tmp_path / name) as drawn:
            assert drawn.width > 100
    assert cli.main(["predict", str(folder), str(picture), "--output", str(tmp_path), "--score-threshold", "0.01"]) == 0
    with Image.open(picture) as drawn:
        assert drawn.size == (120, 90)


def test_predict_draws_pictures(capsys, run_folder, voc, tmp_path):
    images = sorted(voc.rglob("*.jpg"))[:2]
    assert cli.main(["predict", str(run_folder), *map(str, images), "--output", str(tmp_path / "p"),
                     "--score-threshold", "0.01"]) == 0
    for image in images:
        with Image.open(tmp_path / "p" / f"{image.stem}.png") as picture, Image.open(image) as original:
            assert picture.size == original.size and (np.array(picture) != np.array(original)).any()


def test_export_serve_and_query(capfd, saved_models, voc, tmp_path):
    from keras_cnns.serving.server import Server

    images = sorted(voc.rglob("*.jpg"))[:2]
    with Server(saved_models, port=0) as server:
        assert cli.main(["query", f"127.0.0.1:{server.port}", "shapes", *map(str, images), "--score-threshold", "0.01",
                         "--labels", str(saved_models / "shapes" / "1" / "assets.extra" / "labels.txt")]) == 0
        output = capfd.readouterr().out
        assert any(name in output for name in synthetic.CLASSES)
        assert "Servable not found" in refused(capfd, "query", f"127.0.0.1:{server.port}", "nothing", images[0])
        (tmp_path / "text.jpg").write_text("hello")
        assert "text.jpg" in refused(capfd, "query", f"127.0.0.1:{server.port}", "shapes", tmp_path / "text.jpg")


def test_a_tflite_file_is_exported(run_folder, tmp_path):
    assert cli.main(["export", str(run_folder), str(tmp_path / "a.tflite")]) == 0
    assert (tmp_path / "a.tflite").stat().st_size > 1e6


@pytest.mark.parametrize("data, says", [
    ("voc:/nowhere", "/nowhere"), ("imagenet", "Accepted: voc:PATH"), ("voc:", "Accepted"),
    ("synthetic:x", "Accepted")])
def test_data_that_are_not_there_are_named(capsys, data, says):
    assert says in refused(capsys, "data", "check", data)
    assert says in refused(capsys, "data", "convert", data, "coco:nowhere")


def test_an_unknown_model_is_answered_with_the_known_ones(capsys, voc):
    assert "resnet18" in refused(capsys, "train", "resnet_18", "--data", f"voc:{voc}")


def test_a_bad_sample_stops_or_is_skipped_and_listed(capsys, tmp_path):
    root = synthetic.write_voc(tmp_path / "VOCdevkit", train=3, val=1)
    images = sorted(root.rglob("*.jpg"))
    images[0].write_bytes(images[0].read_bytes()[:500])
    call = ["data", "check", f"voc:{root}", "--sheet", str(tmp_path / "sheet.png")]
    assert "1 broken samples" in refused(capsys, *call)
    assert cli.main([*call, "--on-bad-sample", "skip"]) == 0
    assert images[0].name in capsys.readouterr().out
    arguments = ["train", "faster_rcnn_resnet18", "--data", f"voc:{root}", "--input-size", "64", "--batch", "2",
                 "--epochs", "1", "--output", str(tmp_path / "run")]
    assert images[0].name in refused(capsys, *arguments)
    assert not (tmp_path / "run").exists()  # found before anything was begun
    assert cli.main([*arguments, "--on-bad-sample", "skip"]) == 0
    output = capsys.readouterr()
    assert "1 samples were skipped" in output.out and images[0].name in output.out


def test_a_network_that_is_not_there_is_named(capsys, tmp_path, voc):
    assert str(tmp_path) in refused(capsys, "evaluate", tmp_path, "--data", f"voc:{voc}")
    (tmp_path / "network.keras").write_text("this is no network")
    assert "cannot be loaded" in refused(capsys, "evaluate", tmp_path, "--data", f"voc:{voc}")


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A folder of two classes, dark images and bright ones."""
    root = tmp_path_factory.mktemp("classes")
    for split, count in (("train", 8), ("test", 4)):
        for name, low in (("dark", 0), ("bright", 155)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = np.random.default_rng(i).integers(low, low + 100, (32, 32, 3)).astype("uint8")
                Image.fromarray(image).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, classes):
    """A folder of a classifier's run, made by the command."""
    folder = tmp_path_factory.mktemp("runs") / "classes"
    assert cli.main(["train", "lenet5_dense", "--data", f"folder:{classes}", "--batch", "2", "--epochs", "6",
                     "--output", str(folder), "--validation-split", "test"]) == 0
    return folder


def test_a_classifier_is_trained_evaluated_and_asked(capsys, classifier, classes, tmp_path):
    assert "top5" in (classifier / "history.json").read_text()
    call = ["evaluate", str(classifier), "--data", f"folder:{classes}", "--split", "test"]
    assert cli.main([*call, "--confusion", str(tmp_path / "new/c.png")]) == 0
    output = capsys.readouterr().out
    assert "top-1" in output and "bright" in output and f"{tmp_path}/new/c.png: the confusion" in output
    with Image.open(tmp_path / "new/c.png") as picture:
        assert picture.width > 100
    assert cli.main([*call, "--views", "10"]) == 0 and "10 views" in capsys.readouterr().out
    images = [str(classes / f"test/{name}/0.png") for name in ("dark", "bright")]
    assert cli.main(["predict", str(classifier), *images]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[1] for line in lines if line.startswith("\t")][::2] == ["dark", "bright"]
    assert "the best of 2 classes" in lines[0] and images[0] in lines[0]
    (tmp_path / "a.jpg").write_text("hello")
    assert "a.jpg" in refused(capsys, "predict", classifier, tmp_path / "a.jpg")


def test_a_classifier_slides_over_images_and_is_exported_so(capsys, classifier, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(classifier, folder)
    (folder / "labels.txt").write_text("bright\nbackground\n")
    noise = np.random.default_rng(0).integers(0, 100, (80, 96, 3)).astype("uint8")
    noise[8:40, 60:92] += 155
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.fromarray(noise[:, :50]).save(tmp_path / "dark.png")
    assert cli.main(["predict", str(folder), str(tmp_path / "a.png"), str(tmp_path / "dark.png"), "--slide", "--output",
                     str(tmp_path / "p"), "--score-threshold", "0.9"]) == 0
    assert "a.png: 1 objects" in (output := capsys.readouterr().out) and "dark.png: 0 objects" in output
    assert cli.main(["export", str(folder), str(tmp_path / "saved/bright"), "--slide", "80", "96"]) == 0
    assert (tmp_path / "saved/bright/1/assets.extra/labels.txt").read_text().split() == ["bright"]


def test_several_classes_an_image_have_average_precisions(capsys, voc, tmp_path):
    folder = tmp_path / "run"
    assert cli.main(["train", "lenet5_dense", "--data", f"voc:{voc}", "--batch", "3", "--epochs", "1", "--output",
                     str(folder)]) == 0
    assert cli.main(["evaluate", str(folder), "--data", f"voc:{voc}"]) == 0
    assert "mean" in capsys.readouterr().out
    assert "one class an image" in refused(capsys, "evaluate", folder, "--data", f"voc:{voc}", "--confusion", "c.png")


def test_what_a_classifier_cannot_be_asked_is_told(capsys, run_folder, classifier, voc, classes, tmp_path):
    data = "--data", f"folder:{classes}"
    assert "for classifiers" in refused(capsys, "evaluate", run_folder, "--data", f"voc:{voc}", "--views", "10")
    assert "for detectors" in refused(capsys, "evaluate", classifier, *data, "--curves", tmp_path / "c.png")
    assert "--slide is for classifiers" in refused(capsys, "export", run_folder, tmp_path / "a", "--slide", 64, 64)
    for words in (("evaluate", classifier, *data), ("predict", classifier, tmp_path / "a.png", "--slide")):
        assert "is given no regions" in refused(capsys, *words, "--proposals", "selective_search")
    assert "dark" in refused(capsys, "evaluate", classifier, "--data", f"voc:{voc}")  # the classes it knows
    assert "not one box" in refused(capsys, "train", "faster_rcnn_resnet18", *data)
    assert "too small" in refused(capsys, "train", "lenet5", *data, "--input-size", "20", "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_predict_names_a_file_that_is_no_image(capsys, run_folder, tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    assert "a.jpg" in refused(capsys, "predict", run_folder, tmp_path / "a.jpg", "--output", tmp_path / "p")


def test_a_folder_without_models_is_not_served(capsys, tmp_path):
    assert str(tmp_path) in refused(capsys, "serve", tmp_path, "--port", "0")


def test_a_server_that_is_not_there_is_named(capsys, tmp_path, voc):
    image = next(voc.rglob("*.jpg"))
    assert "127.0.0.1:1" in refused(capsys, "query", "127.0.0.1:1", "shapes", image, status=1)


def test_every_command_has_help(capsys):
    for command in ("models", "data", "data check", "data convert", "train", "evaluate", "predict", "export", "serve",
                    "query", "benchmark", "benchmark grid"):
        with pytest.raises(SystemExit) as end:
            cli.main([*command.split(), "--help"])
        assert end.value.code == 0 and "usage" in capsys.readouterr().out


def test_a_wrong_call_is_answered_in_one_line(capsys):
    for call in (["nonsense"], ["train"], ["data"], ["data", "check"], ["data", "convert", "synthetic"],
                 ["data", "check", "synthetic", "--limit", "0"], ["data", "--data", "synthetic"],
                 ["data", "check", "synthetic", "--on-bad-sample", "ignore"]):
        with pytest.raises(SystemExit) as end:
            cli.main(call)
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "--help" in error


def test_predict_refuses_two_images_of_one_name(capsys, run_folder, voc):
    image = next(voc.rglob("*.jpg"))
    assert "one name" in refused(capsys, "predict", run_folder, image, image)


def test_a_network_is_not_evaluated_on_other_classes(capsys, tmp_path):
    create_model("faster_rcnn_resnet18", (64, 64, 3), 2).save(tmp_path / "network.keras")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert "cat, dog" in refused(capsys, "evaluate", tmp_path, "--data", "synthetic:2")


def test_help_is_quick_and_needs_no_tensorflow():
    program = "import sys; from keras_cnns import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n" \
              "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
