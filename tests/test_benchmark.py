"""The grid of detectors as its user meets it."""

import json
import types

import pytest

from keras_cnns import cli
from keras_cnns.cli import benchmark, grid
from keras_cnns.cli.grid import Cell
from keras_cnns.data import synthetic
from keras_cnns.errors import InputError

NUMBERS = {"keras_ms": 50.0, "saved_model_ms": 55.0, "tflite_ms": 40.0, "multiply_adds": 2 * 10**9,
           "parameters": 5 * 10**6, "memory_mib": 120.5}
CELLS = {
    Cell("ssd", "mobilenet_v1", 300): NUMBERS,
    Cell("ssd", "resnet101", 300): NUMBERS | {"keras_ms": 90.0, "multiply_adds": 7 * 10**9},
    Cell("ssd", "mobilenet_v1", 600): NUMBERS | {"keras_ms": 45.0, "multiply_adds": 8 * 10**9},
    Cell("faster_rcnn", "mobilenet_v1", 300, 50): NUMBERS | {"keras_ms": 70.0, "multiply_adds": 9 * 10**9},
    Cell("faster_rcnn", "mobilenet_v1", 300, 300): NUMBERS | {"keras_ms": 95.0, "multiply_adds": 12 * 10**9},
    Cell("faster_rcnn", "resnet101", 300, 300): {"error": "ran out of memory"},
    Cell("rfcn", "mobilenet_v1", 300, 50): NUMBERS | {"keras_ms": 72.0, "multiply_adds": 8 * 10**9},
    Cell("rfcn", "mobilenet_v1", 300, 300): NUMBERS | {"keras_ms": 75.0, "multiply_adds": 8 * 10**9},
}


def options(**given):
    chosen = dict(detectors=["ssd", "rfcn"], backbones=["mobilenet_v1", "vgg16"], sizes=[64, 96], proposals=[10, 50],
                  cells=None, data="synthetic:4")
    return types.SimpleNamespace(**chosen | given)


def test_a_grid_is_every_detector_on_every_backbone_and_proposals_only_of_those_that_make_any():
    cells = benchmark.asked_cells(options())
    assert len(cells) == len(set(cells)) == 2 * 2 + 2 * 2 * 2
    assert cells[0] == Cell("ssd", "mobilenet_v1", 64) and cells[-1].name == "rfcn vgg16 96 50"
    assert benchmark.asked_cells(options(cells=["rfcn * 64 50", "ssd vgg16 *"])) == [
        Cell("ssd", "vgg16", 64), Cell("ssd", "vgg16", 96), Cell("rfcn", "mobilenet_v1", 64, 50),
        Cell("rfcn", "vgg16", 64, 50)]
    for wrong in ("yolo_v1", "ssd300_vgg16"):
        with pytest.raises(InputError, match="not of the grid"):
            benchmark.asked_cells(options(detectors=[wrong]))
    with pytest.raises(InputError, match="resnet5000"):  # before hours of others
        benchmark.asked_cells(options(backbones=["mobilenet_v1", "resnet5000"]))
    with pytest.raises(InputError, match="by features="):
        benchmark.asked_cells(options(backbones=["nin"]))


def test_what_was_measured_is_read_again_and_the_last_of_a_cell_counts(tmp_path):
    file, (one, other, *_) = tmp_path / "new" / "cells.jsonl", CELLS
    on_two, on_eight = ({"data": "synthetic:4", "threads": threads} for threads in (2, 8))
    for cell, numbers, about in ((one, {"error": "x"}, on_two), (one, NUMBERS, on_two), (other, NUMBERS, on_eight)):
        benchmark.write_cell(file, cell, numbers, about)
    assert benchmark.read_cells(file, on_two) == {one: NUMBERS} and benchmark.read_cells(file, {}) == {}
    file.write_text("[1]\n")
    with pytest.raises(InputError, match="not of this command"):
        benchmark.read_cells(file, on_two)


def test_the_text_says_where_the_papers_order_holds_and_where_not():
    lines = "\n".join(benchmark.compared(CELLS))
    assert "Multiply-adds: SSD takes less than Faster R-CNN, in 2 of 2 pairs." in lines
    assert ("Keras' time: smaller images take less, in 0 of 1 pairs; not ssd mobilenet_v1 300 / ssd mobilenet_v1 600."
            in lines)
    assert "Keras' time: fewer proposals of Faster R-CNN take less, in 1 of 1 pairs." in lines
    assert "Multiply-adds: R-FCN takes less than Faster R-CNN, in 2 of 2 pairs." in lines
    assert ("Keras' time: R-FCN takes less than Faster R-CNN, in 1 of 2 pairs; not rfcn mobilenet_v1 300 50 / "
            "faster_rcnn mobilenet_v1 300 50." in lines)
    assert "hardly count; rfcn mobilenet_v1 300 50 takes 0.96 of rfcn mobilenet_v1 300 300." in lines
    assert "MobileNet, Inception v2, ResNet-101, Inception-ResNet v2, in 1 of 1 pairs." in lines
    assert "Rank correlation of multiply-adds and Keras' time: 0.33." in lines


def test_equal_numbers_have_equal_ranks():
    assert benchmark.rank_correlation([1, 2, 2, 9], [10, 20, 20, 21]) == pytest.approx(1)
    assert benchmark.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert benchmark.rank_correlation([1, 2, 3], [7, 7, 7]) == 0


def test_the_report_is_a_table_a_picture_and_a_page_that_needs_no_net(tmp_path, capsys):
    benchmark.report(CELLS, tmp_path, 2)
    output = capsys.readouterr().out
    assert "mobilenet_v1" in output and "300: failed" in output and "AP@0.5" not in output
    rows = (tmp_path / "grid.csv").read_text().splitlines()
    assert rows[0].startswith("detector,backbone,size,proposals,run,\"Keras, ms\"") and len(rows) == 1 + len(CELLS)
    assert rows[1].split(",")[:5] == ["ssd", "mobilenet_v1", "300", "", ""]
    assert "| faster_rcnn | mobilenet_v1 | 300 | 50 |" in (tmp_path / "grid.md").read_text()
    page = (tmp_path / "grid.html").read_text()
    facts = json.loads(page.split("const facts = ")[1].split(";\n")[0])
    assert len(facts["cells"]) == len(CELLS) and facts["up"] == "multiply_adds"
    assert page.replace("http://www.w3.org/2000/svg", "").count("http") == 0
    assert (tmp_path / "grid.png").stat().st_size > 2000 and not (tmp_path / "grid_ap.png").exists()
    some = {cell: found | {"AP50": 0.5} if i == 1 else found for i, (cell, found) in enumerate(CELLS.items())}
    benchmark.report(some, tmp_path, 2)
    assert (tmp_path / "grid_ap.png").exists() and "grid_ap.png" in capsys.readouterr().out


def test_runs_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="no folder of a run"):
        benchmark.cells_of_run(tmp_path, options(), synthetic.CLASSES)
    settings = {"model": "ssd300_resnet18", "classes": list(synthetic.CLASSES), "input_shape": [96, 96, 3]}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="finished run"):
        benchmark.cells_of_run(tmp_path, options(), synthetic.CLASSES)
    (tmp_path / "network.keras").touch()
    made = (tmp_path / "network.keras").stat().st_mtime
    assert benchmark.cells_of_run(tmp_path, options(), synthetic.CLASSES) == [
        Cell("ssd", "resnet18", 96, None, str(tmp_path), made)]
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "options": {"backbone": "vgg16"}}))
    assert benchmark.cells_of_run(tmp_path, options(), synthetic.CLASSES)[0].backbone == "vgg16"
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "input_shape": [96, 128, 3]}))
    with pytest.raises(InputError, match="96x128; a grid's are squares"):
        benchmark.cells_of_run(tmp_path, options(), synthetic.CLASSES)
    (tmp_path / "settings.json").write_text('{"model": "ssd300_resnet18"}')
    with pytest.raises(InputError, match="no folder of a run .'classes'"):
        benchmark.cells_of_run(tmp_path, options(), synthetic.CLASSES)
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="its classes are disc"):
        benchmark.cells_of_run(tmp_path, options(), ["disc"])


def test_a_peak_of_memory_is_seen():
    if not grid.PROCESS.exists():
        pytest.skip("tells nothing here")
    before = grid.memory("VmRSS")
    grid.reset_peak()
    bytearray(200 * 2**20)
    assert 150 * 2**10 < grid.memory("VmHWM") - before < 260 * 2**10
    assert grid.memory("VmRSS") - before < 100 * 2**10


@pytest.mark.slow
def test_two_cells_are_measured_once(tmp_path, capsys):
    command = ["benchmark", "grid", "--data", "synthetic:4", "--detectors", "ssd", "faster_rcnn", "--backbones",
               "mobilenet_v1_025", "--sizes", "128", "--proposals", "10", "--threads", "2", "--output", str(tmp_path)]
    assert cli.main(command) == 0
    lines = (tmp_path / "cells.jsonl").read_text().splitlines()
    found = [json.loads(line)["numbers"] for line in lines]
    assert len(found) == 2
    for numbers in found:
        assert all(numbers[key] > 0 for key in NUMBERS)
    assert cli.main(command) == 0
    assert (tmp_path / "cells.jsonl").read_text().splitlines() == lines
    assert "SSD takes less than Faster R-CNN" in capsys.readouterr().out
