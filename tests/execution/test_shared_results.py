"""The control of fine-tuning is trained once for all losses of a repetition, and every record is what it would be alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cl_semisup import plugins
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.evaluation import _finetuning as finetuning
from cl_semisup.evaluation import finetune as probe
from cl_semisup.execution.data import subset
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.shared_results import SharedResults
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

Parse = Callable[[str], Suite]
FINE_TUNED = "probes: {finetune: {epochs: 1}}\nvalidation: all\n"
LOSS = """\
from dataclasses import dataclass


@dataclass(frozen=True)
class MyLoss:
    \"\"\"L = 0. Source: None. Difference: None\"\"\"

    def __call__(self, z1, z2, labels=None):
        return (z1.sum() + z2.sum()) * 0
"""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the weights that trainings of the probe start from. The user's cache is empty."""
    starts: list[str] = []

    def watched(start: finetuning.Start, *given: Any) -> finetuning.Classifier:
        starts.append(start.name)
        return finetuning.fine_tune(start, *given)

    monkeypatch.setattr(probe, "fine_tune", watched)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return starts


def _run(suite: Suite, loss: str) -> Run:
    return next(run for run in suite.runs if run.loss_name == loss)


def test_the_losses_of_a_repetition_share_one_control(parse: Parse, text: str, trained: list[str]) -> None:
    executor, suite = Executor(Machine("cpu", "data", native=False)), parse(text + FINE_TUNED)
    few = subset(executor.data(suite.runs[0]), np.arange(150))
    controls, counts = [], []
    for loss in ("nt_xent", "clop"):
        trained.clear()
        record, _ = executor(_run(suite, loss), few)
        assert record["status"] in ("ok", "collapsed"), record["reason"]
        found = record["scores"] | record["diagnostics"]
        controls.append({name: value for name, value in found.items() if name.startswith("finetune_scratch")})
        counts.append(trained.count("initial"))
        assert "trained" in trained
        assert "finetune_scratch_seconds" in record["cost"]
    assert controls[0] == controls[1]
    assert len(controls[0]) == 5
    assert counts[0] > 0
    assert counts[1] == 0


def _computed(run: Run, machine: Machine, width: int = 3, std: float = 1.0, what: str = "x", label: int = 0) -> bool:
    """Whether a result that is 0.1 is computed, and not found."""

    def encoder() -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(4, width)

    calls: list[int] = []

    def compute() -> dict[str, float]:
        calls.append(1)
        return {"top1": 0.1}

    views = ViewMaker(Views(), torch.zeros(1), torch.full((1,), std))
    shared = SharedResults(encoder, views, run, machine, torch.device("cpu"))
    assert shared(what, {"labels": torch.tensor([label])}, compute) == {"top1": 0.1}
    return bool(calls)


@pytest.mark.usefixtures("trained")
def test_a_result_is_found_if_all_that_decides_it_is_the_same(parse: Parse, text: str, tmp_path: Path) -> None:
    run, machine = _run(parse(text), "nt_xent"), Machine("cpu", "data", native=False)
    assert _computed(run, machine)
    assert not _computed(run, machine)
    assert not _computed(replace(run, learning_rate=0.7, epochs=9), machine)
    differs: list[dict[str, Any]] = [{"width": 5}, {"std": 2.0}, {"what": "y"}, {"label": 1}]
    for other in differs:
        assert _computed(run, machine, **other)
    assert _computed(run, replace(machine, threads=2))
    assert _computed(run, replace(machine, plain=True))
    assert _computed(run, replace(machine, plain=True))
    for kept in (tmp_path / "cache").rglob("*.npz"):
        kept.write_bytes(b"no archive")
    assert _computed(run, machine)
    assert not _computed(run, machine)


@pytest.mark.usefixtures("forget_plugins", "trained")
def test_a_run_with_a_loss_of_the_users_own_reads_results_and_leaves_none(
    parse: Parse, text: str, tmp_path: Path
) -> None:
    (tmp_path / "my_loss.py").write_text(LOSS)
    plugins.add(tmp_path / "my_loss.py")
    suite, machine = parse(text.replace("clop", "my_loss")), Machine("cpu", "data", native=False)
    assert _computed(_run(suite, "my_loss"), machine)
    assert _computed(_run(suite, "nt_xent"), machine)
    assert not _computed(_run(suite, "my_loss"), machine)
