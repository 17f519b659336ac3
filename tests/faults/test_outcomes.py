"""Numbers that are none, memory that runs out, losses that want to leave: each is a record that says so."""

from collections.abc import Callable

import pytest
import torch

from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.suite.run import Run

Asked = Callable[..., Run]


@pytest.mark.parametrize(
    ("fault", "step", "words"),
    [
        ("nan", 20, "the loss is not finite at step 20, though the projections are"),
        ("nan_gradient", 20, "the loss is not finite at step 21, and neither are the projections"),
        ("nan_gradient", 21, "the gradient of encoder.1.weight and "),
    ],
)
def test_a_run_without_numbers_says_at_which_step_whence_and_what_was_last_well(
    asked: Asked, fault: str, step: int, words: str
) -> None:
    record, curves = Executor(Machine("cpu", "data"))(asked(fault, at=step, times=1000))
    assert record["status"] == "diverged"
    assert record["reason"].startswith(words)
    assert record["resolved"]["diverged_at_step"] in (step, step + 1)
    last = record["resolved"]["last_good"]
    assert last == {name: values[-1] for name, values in curves["history"].items()}
    assert step - 2 <= last["step"] <= step  # within one logging interval
    assert record["scores"] == {}


def test_memory_that_runs_out_is_a_failure_with_its_peak(asked: Asked) -> None:
    record, curves = Executor(Machine("cpu", "data"))(asked("memory", at=5))
    assert record["status"] == "failed"
    assert record["reason"].startswith("out of memory (peak ")
    assert record["reason"].endswith("tried to allocate 3 TiB")
    assert record["cost"]["peak_memory_bytes"] > 0
    assert "OutOfMemoryError" in curves["traceback"]


def test_memory_that_runs_out_on_a_cpu_is_told_by_torchs_words(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object, **__: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    monkeypatch.setattr(torch.Tensor, "backward", run_out)
    record, _ = Executor(Machine("cpu", "data"))(asked("none"))
    assert record["reason"].startswith("out of memory (peak ")


def test_a_loss_that_wants_to_leave_has_failed(asked: Asked) -> None:
    record, _ = Executor(Machine("cpu", "data"))(asked("exit"))
    assert (record["status"], record["reason"]) == ("failed", "SystemExit: a loss wants to leave")


def test_features_that_are_no_numbers_end_as_diverged(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    from cl_semisup.training import loop

    train = loop.train

    def spoil(parts: loop.TrainingSetup, **rest: object) -> None:
        train(parts, **rest)  # type: ignore[arg-type]
        with torch.no_grad():
            next(parts.model.projector.parameters()).fill_(float("inf"))

    monkeypatch.setattr(loop, "train", spoil)
    record, _ = Executor(Machine("cpu", "data"))(asked("none"))
    assert record["status"] == "diverged"
    assert record["reason"] == "a feature after training is not finite at step 88"
    assert record["resolved"]["last_good"]["step"] == 87
