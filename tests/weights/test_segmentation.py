"""torchvision's segmentation weights, of an environment that KERAS_CNNS_TORCHVISION names as in test_carry.py."""

import keras
import numpy as np

from keras_cnns import create_model, weights
from tests.weights import donors


@donors.needs_torchvision
def test_fcn_resnet50_answers_as_torchvisions_at_three_sizes(tmp_path):
    donors.run_torch("torch_segmentation.py", tmp_path / "donor.npz")
    with np.load(tmp_path / "donor.npz") as file:
        donor = dict(file)
    (tmp_path / "donor.npz").unlink()
    state = {key.removeprefix("state/"): donor.pop(key) for key in [*donor] if key.startswith("state/")}
    tensors = {key for key in state if not key.endswith("num_batches_tracked")}
    one, both = (create_model(name, (None, None, 3)) for name in ("fcn_resnet50", "fcn_resnet50_aux"))
    report = weights.transfer(both, state)
    assert set(report.carried) == tensors and not report.left_out and not report.kept and not report.notes
    report = weights.transfer(one, state)
    assert set(report.left_out) == {key for key in tensors if key.startswith("aux_classifier.")}
    for network, heads in ((one, ("predictions",)), (both, ("predictions", "aux1"))):
        differences = {}
        for i in range(3):
            found = keras.Model(network.input, {name: network.get_layer(name).input for name in heads})(
                donor[f"{i}/pixels"])
            for name in heads:
                want = donor[f"{i}/{name}"]
                difference = np.abs(np.array(found[name]) - want).max() / np.abs(want).max()
                assert want.std() > 0.1 and difference < 1e-4
                differences[want.shape[1:3]] = max(difference, differences.get(want.shape[1:3], 0.0))
        donors.record(network.name, "torchvision", "largest difference of a logit to the largest logit",
                      f"{max(differences.values()):.1e}", ", ".join(f"{h}x{w}" for h, w in differences))
    headless = create_model("fcn_resnet50", (32, 32, 3), None)
    assert {key.split(".")[0] for key in weights.transfer(headless, state).left_out} == {"classifier", "aux_classifier"}
    other = create_model("fcn_resnet50", (32, 32, 3), 5)
    assert weights.transfer(other, state, new_head=True).kept == ("score_fr/kernel", "score_fr/bias")
