"""Every probe measures a network that was trained on a GPU."""

from typing import Any

import pytest

from tests.gpu import imitated, trials

FEW_STEPS: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 1, "batch_size": 24, "head": True, "last": True, "lora": 2},
    "linear_augmented": {"epochs": 1, "batch_size": 24},
    "linear_sgd": {"epochs": 1},
    "linear": {"max_iterations": 20, "layer": "both"},
    "linear_layers": {"blocks": 2},
    "lidar": {"views": 3, "images": 16},
    "loranpac": {"width": 32},
    "shifted_test": {"datasets": [{"digits": {}}]},
    "transfer": {"datasets": [{"digits": {}}, {"glyphs": {}}], "images": 32},
}
CHEAP = ("convnet", {"width": 4, "blocks": 2})


def probes() -> dict[str, dict[str, Any]]:
    """All but the one that reads twelve data sets from disk; its classifiers are those of `transfer`."""
    return {name: FEW_STEPS.get(name, {}) for name in trials.names("evaluation") if name != "simclr12"}


@pytest.mark.parametrize("device", ["cuda:0", "mps:0"])
def test_every_probe_measures_what_was_trained_on_a_gpu(device: str) -> None:
    run = trials.run(probes=probes(), encoder=dict([CHEAP]))
    with imitated.gpu(device):
        record, curves = trials.execute(run, device)
    trials.require_ok(record, curves)
    on_cpu, _ = trials.execute(run, "cpu", native=False)
    assert record["scores"].keys() == on_cpu["scores"].keys()
    for name, value in on_cpu["scores"].items():  # the imitation computes on the CPU, from the same draws
        assert record["scores"][name] == pytest.approx(value, abs=2 / trials.TEST), name
