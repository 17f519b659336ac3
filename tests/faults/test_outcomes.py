"""Values that are not finite, memory that runs out, losses that raise SystemExit: each becomes a record."""

import re
from collections.abc import Callable

import pytest
import torch

from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

MakeRun = Callable[..., Run]


@pytest.mark.parametrize(
    ("fault", "step", "reason"),
    [
        ("nan", 20, "the loss is not finite at step 20, though the projections are"),
        ("nan_gradient", 20, "the loss is not finite at step 21, and neither are the projections"),
        ("nan_gradient", 21, "the gradient of encoder.1.weight and "),
        ("strict", 20, "the loss is not finite at step 21: it raised _LinAlgError: linalg.cholesky: "),
    ],
)
def test_a_diverged_run_names_the_step_the_place_and_the_last_good_values(
    faulty_run: MakeRun, fault: str, step: int, reason: str
) -> None:
    record, curves = Executor(Machine("cpu", "data"))(faulty_run(fault, at=step, times=1000))
    assert record["status"] == "diverged"
    assert record["reason"].startswith(reason)
    assert record["resolved"]["diverged_at_step"] in (step, step + 1)
    last = record["resolved"]["last_good"]
    assert last == {name: values[-1] for name, values in curves["history"].items()}
    assert step - 2 <= last["step"] <= step  # within one logging interval
    assert record["scores"] == {}


@pytest.mark.parametrize("loss", ["lorac", "orthogonality", "targeted_supcon"])
def test_a_loss_that_refuses_numbers_beyond_all_bounds_has_diverged(
    parse: Callable[[str], Suite], text: str, loss: str
) -> None:
    hot = text.replace("learning_rate: 0.1", "learning_rate: 1e8").replace("nt_xent, clop", loss)
    hot = hot.replace("label_fraction: 0.1", "label_fraction: 0.5")
    record, _ = Executor(Machine("cpu", "data"))(parse(hot + "score: knn_top1\nprobes: {linear: false}\n").runs[-1])
    assert record["status"] == "diverged"
    assert re.match(r"the loss is not finite at step \d: it raised (_LinAlg|Value)Error: ", record["reason"])


def test_a_loss_that_cannot_be_computed_from_sound_numbers_has_failed(faulty_run: MakeRun) -> None:
    record, _ = Executor(Machine("cpu", "data"))(faulty_run("error", at=5))
    assert record["status"] == "failed"
    assert record["reason"].startswith("_LinAlgError: linalg.cholesky: ")


def test_memory_that_runs_out_is_a_failure_with_its_peak(faulty_run: MakeRun) -> None:
    record, curves = Executor(Machine("cpu", "data"))(faulty_run("memory", at=5))
    assert record["status"] == "failed"
    assert record["reason"].startswith("out of memory (peak ")
    assert record["reason"].endswith("tried to allocate 3 TiB")
    assert record["cost"]["peak_memory_bytes"] > 0
    assert "OutOfMemoryError" in curves["traceback"]


def test_memory_that_runs_out_on_a_cpu_is_recognised_by_torchs_message(
    faulty_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object, **__: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    monkeypatch.setattr(torch.Tensor, "backward", run_out)
    record, _ = Executor(Machine("cpu", "data"))(faulty_run("none"))
    assert record["reason"].startswith("out of memory (peak ")


def test_a_loss_that_raises_system_exit_has_failed(faulty_run: MakeRun) -> None:
    record, _ = Executor(Machine("cpu", "data"))(faulty_run("exit"))
    assert (record["status"], record["reason"]) == ("failed", "SystemExit: a loss wants to leave")


def test_a_run_with_features_that_are_not_finite_has_diverged(
    faulty_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cl_semisup.training import loop

    train = loop.train

    def spoil(parts: loop.TrainingSetup, **rest: object) -> loop.TrainingEnd:
        outcome = train(parts, **rest)  # type: ignore[arg-type]
        with torch.no_grad():
            next(parts.model.projector.parameters()).fill_(float("inf"))
        return outcome

    monkeypatch.setattr(loop, "train", spoil)
    record, _ = Executor(Machine("cpu", "data"))(faulty_run("none"))
    assert record["status"] == "diverged"
    assert record["reason"] == "a feature after training is not finite at step 88"
    assert record["resolved"]["last_good"]["step"] == 87
