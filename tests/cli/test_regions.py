"""`--proposals`: who takes them, and how many."""

import argparse

import keras
import numpy as np
import pytest

from keras_cnns import cli
from keras_cnns.cli import regions
from keras_cnns.data import synthetic
from keras_cnns.errors import InputError
from keras_cnns.models import create_model
from keras_cnns.serving.server import Server


def options(*words):
    parser = argparse.ArgumentParser()
    regions.arguments(parser)
    return parser.parse_args(words)


def test_samples_get_as_many_proposals_as_the_network_takes(tmp_path):
    samples = synthetic.samples(2)
    np.savez(tmp_path / "boxes.npz", **{s.image_id: s.boxes[:1] + np.arange(1500)[:, None] / 100 for s in samples})
    given = options("--proposals", str(tmp_path / "boxes.npz"))
    found = regions.proposed(given, "fast_rcnn_resnet18", samples)
    assert [len(s.proposals) for s in found] == [1000, 1000]
    assert regions.proposed(options(), "fast_rcnn_resnet18", samples) is samples
    with pytest.raises(InputError, match="rfcn_resnet18 is given no regions"):
        regions.proposed(given, "rfcn_resnet18", samples)


@pytest.mark.slow
def test_a_client_sends_its_regions_with_the_image(tmp_path, capsys):
    """Fast R-CNN through every door of the command line: exported, cut by SVD, served, asked; and as TFLite."""
    keras.utils.set_random_seed(0)
    network = create_model("fast_rcnn_resnet18", (96, 96, 3), 5)
    head = network.get_layer("roi_head")
    head.set_weights([30 * w if w.ndim == 2 and w.shape[-1] in (6, 24) else w for w in head.get_weights()])
    run, image, sample = tmp_path / "run", tmp_path / "one.jpg", synthetic.samples(1)[0]
    run.mkdir()
    network.save(run / "network.keras")
    (run / "labels.txt").write_text("".join(f"{name}\n" for name in synthetic.CLASSES))
    image.write_bytes(sample.source)
    rows = np.concatenate([sample.boxes, sample.boxes * 0.9, sample.boxes * 0.8])[:40]
    np.savez(tmp_path / "boxes.npz", one=rows)
    cut = "--max-proposals", "40", "--svd", "16", "8"
    assert cli.main(["export", str(run), str(tmp_path / "models" / "fast"), *cut]) == 0
    assert cli.main(["export", str(run), str(tmp_path / "fast.tflite"), *cut]) == 0
    assert (tmp_path / "models" / "fast" / "1" / "saved_model.pb").exists() and (tmp_path / "fast.tflite").exists()
    with Server(tmp_path / "models", port=0) as server:
        call = ["query", f"127.0.0.1:{server.port}", "fast", str(image), "--score-threshold", "0.05"]
        capsys.readouterr()
        assert cli.main([*call, "--proposals", str(tmp_path / "boxes.npz")]) == 0
        output = capsys.readouterr().out
        assert " objects (class" in output and not output.startswith(f"{image}: 0")
        assert cli.main(call) == 2 and "(--max-proposals), to a model that takes such" in capsys.readouterr().err
    assert cli.main(["export", str(run), str(tmp_path / "again"), "--svd", "16", "100000"]) == 2
    assert "from 1 to" in capsys.readouterr().err
    create_model("rfcn_resnet18", (96, 96, 3), 5).save(run / "network.keras")
    assert cli.main(["export", str(run), str(tmp_path / "again"), "--max-proposals", "40"]) == 2
    assert "is given no regions" in capsys.readouterr().err
