"""How many runs share a GPU, by the memory that the first one took. The GPU is a fake one, so none is needed."""

from pathlib import Path
from typing import Any

import pytest

from cl_semisup import cli
from cl_semisup.engines.local import LocalEngine
from cl_semisup.execution import execute
from cl_semisup.execution.machine import Machine, runs_that_fit
from cl_semisup.execution.training_groups import Finished, single_run
from cl_semisup.scheduling import scheduler
from tests.helpers import records as record_maker

GIB = 2**30
MACHINE = Machine("cuda", "data")


def finished(epochs: int = 5, status: str = "ok", peak: int = 2 * GIB) -> Finished:
    run = record_maker.run(epochs=epochs)
    record: dict[str, Any] = {"status": status, "run": run.as_dict(), "cost": {"peak_memory_bytes": peak}}
    return single_run(run), ((record, {}),)


def test_runs_fit_with_their_cuda_contexts_and_some_slack() -> None:
    assert runs_that_fit(80 * GIB, 2 * GIB) == 23  # 72 GiB over 1.25 x 2 GiB and a context of 600 MiB
    assert runs_that_fit(24 * GIB, 10 * GIB) == 1
    assert runs_that_fit(1 * GIB, 10 * GIB) == 1


def test_the_first_trained_run_says_how_many_there_may_be() -> None:
    peaks: list[int] = []
    engine = LocalEngine(MACHINE, 8, slots_for_peak=lambda peak: (peaks.append(peak), 6)[1])
    assert engine.slots == 1
    engine._set_slots([finished(epochs=0), finished(status="failed")])  # an untrained run takes next to nothing
    assert engine.slots == 1
    engine._set_slots([finished(peak=3 * GIB)])
    assert (engine.slots, peaks) == (6, [3 * GIB])
    engine._set_slots([finished(peak=GIB)])
    assert (engine.slots, peaks) == (6, [3 * GIB])


@pytest.mark.parametrize(("fitting_runs", "slots"), [(100, 8), (0, 1)])
def test_there_are_at_most_max_workers_and_at_least_one(fitting_runs: int, slots: int) -> None:
    engine = LocalEngine(MACHINE, 8, slots_for_peak=lambda peak: fitting_runs)
    engine._set_slots([finished()])
    assert engine.slots == slots


def test_without_the_option_a_gpu_has_max_workers() -> None:
    engine = LocalEngine(MACHINE, 3)
    engine._set_slots([finished()])
    assert engine.slots == 3


def test_a_cpu_cannot_be_filled(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text(text)
    arguments = [str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r"), "--device", "cpu", "--fill-gpu"]
    assert cli.main(arguments) == cli.BAD_INPUT
    assert "--fill-gpu: needs an NVIDIA or AMD GPU. Got the device cpu. Leave it out." in capsys.readouterr().err


def test_the_command_asks_the_device_for_its_memory(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text(text)
    engines: list[LocalEngine] = []
    monkeypatch.setattr(execute, "choose_device", lambda device: "cuda:0")
    monkeypatch.setattr(execute, "free_memory", lambda device: 80 * GIB)
    monkeypatch.setattr(
        scheduler, "run_rounds", lambda _, __, engine, **___: (engines.append(engine), scheduler.RunCounts())[1]
    )
    cli.main([str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r"), "--fill-gpu", "--workers", "2"])
    (engine,) = engines
    assert engine.slots == 1
    engine._set_slots([finished()])
    assert engine.slots == 2
