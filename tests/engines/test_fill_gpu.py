"""How many runs share a GPU, by the memory that the first one took. The GPU is a fake one, so none is needed."""

from pathlib import Path
from typing import Any

import pytest

from cl_semisup import cli
from cl_semisup.engines import local
from cl_semisup.engines.local import LocalEngine
from cl_semisup.engines.sharing import Sharing
from cl_semisup.execution import execute
from cl_semisup.execution.machine import Machine, runs_that_fit
from cl_semisup.scheduling import scheduler
from tests.helpers import records as record_maker

GIB = 2**30
MACHINE = Machine("cuda", "data")


def record(epochs: int = 5, status: str = "ok", peak: int = 2 * GIB, speed: float = 100.0) -> Any:
    run = record_maker.run(epochs=epochs)
    return {
        "status": status,
        "run": run.as_dict(),
        "cost": {"peak_memory_bytes": peak, "images_per_second": speed},
    }


def test_runs_fit_with_their_cuda_contexts_and_some_slack() -> None:
    assert runs_that_fit(80 * GIB, 2 * GIB) == 23  # 72 GiB over 1.25 x 2 GiB and a context of 600 MiB
    assert runs_that_fit(24 * GIB, 10 * GIB) == 1
    assert runs_that_fit(1 * GIB, 10 * GIB) == 1


def test_the_first_trained_run_says_how_many_there_may_be() -> None:
    peaks: list[int] = []
    sharing = Sharing(1, 8, lambda peak: (peaks.append(peak), 6)[1], compare=False)
    assert sharing.slots == 1
    sharing.finished(record(epochs=0), 0.0)  # an untrained run takes next to nothing
    sharing.finished(record(status="failed"), 0.0)
    assert sharing.slots == 1
    sharing.finished(record(peak=3 * GIB), 0.0)
    assert (sharing.slots, peaks) == (6, [3 * GIB])
    sharing.finished(record(peak=GIB), 0.0)
    assert (sharing.slots, peaks) == (6, [3 * GIB])


@pytest.mark.parametrize(("fitting_runs", "slots"), [(100, 8), (0, 1)])
def test_there_are_at_most_max_workers_and_at_least_one(fitting_runs: int, slots: int) -> None:
    engine = LocalEngine(MACHINE, 8, sharing=Sharing(1, 8, lambda peak: fitting_runs, compare=False))
    assert engine.slots == 1
    assert engine.sharing
    engine.sharing.finished(record(), 0.0)
    assert engine.slots == slots


def test_without_the_option_a_gpu_has_max_workers() -> None:
    assert LocalEngine(MACHINE, 3).slots == 3


def shared(gpus: int, speed_beside_others: float, most: int = 8) -> Sharing:
    """What is settled for trainings of 100 images a second, which beside others are slower."""
    sharing = Sharing(gpus, most, lambda peak: 6)
    assert sharing.slots == gpus
    sharing.sent(gpus, 0.0)
    sharing.finished(record(speed=100.0), 0.0)
    found = sharing.slots
    sharing.sent(found - 1, 1.0)
    sharing.finished(record(speed=0.1), 1.0)  # not all workers were there when it began
    sharing.sent(found, 2.0)
    sharing.finished(record(speed=0.1), 1.5)
    for _ in range(found):
        assert not sharing.is_settled
        sharing.finished(record(speed=speed_beside_others), 3.0)
    assert sharing.is_settled
    return sharing


@pytest.mark.parametrize(
    ("gpus", "speed", "slots"),
    [(1, 60.0, 6), (1, 18.0, 1), (2, 60.0, 8), (2, 27.0, 2)],  # 6 x 60 > 100; 6 x 18 is no gain; two GPUs, at most 8
)
def test_workers_share_a_gpu_if_together_they_are_faster_than_one(gpus: int, speed: float, slots: int) -> None:
    assert shared(gpus, speed).slots == slots


def test_a_large_training_has_its_gpu_alone() -> None:
    sharing = Sharing(1, 8, lambda peak: 1)
    sharing.finished(record(peak=60 * GIB), 0.0)
    assert (sharing.slots, sharing.is_settled) == (1, True)


def test_a_cpu_cannot_be_filled(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text(text)
    arguments = [str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r"), "--device", "cpu", "--fill-gpu"]
    assert cli.main(arguments) == cli.BAD_INPUT
    assert "--fill-gpu: needs an NVIDIA or AMD GPU. Got the device cpu. Leave it out." in capsys.readouterr().err


def test_the_command_asks_the_device_for_its_memory(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text(text)
    engines: list[LocalEngine] = []
    monkeypatch.setattr(execute, "choose_device", lambda device: "cuda:0")
    monkeypatch.setattr(local, "free_memory", lambda device: 80 * GIB)
    monkeypatch.setattr(
        scheduler, "run_rounds", lambda _, __, engine, **___: (engines.append(engine), scheduler.RunCounts())[1]
    )
    cli.main([str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r"), "--fill-gpu", "--workers", "2"])
    (engine,) = engines
    assert engine.slots == 1
    assert engine.sharing
    engine.sharing.finished(record(), 0.0)
    assert engine.slots == 2
