"""How many workers there are, which `run`, `check` and Python agree on."""

from pathlib import Path
from typing import Any

import pytest

from cl_semisup.engines import local
from cl_semisup.execution import workers
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.workers import Workers
from cl_semisup.scheduling import estimate
from cl_semisup.suite import suite

GPUS = ("cuda:0", "cuda:1")


@pytest.fixture(autouse=True)
def two_gpus_and_sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "all_of", lambda device: GPUS if device == "cuda" else (device,))
    monkeypatch.setattr(workers, "default_workers", lambda device: 16)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("cpu", 100), Workers(("cpu",), 16)),
        (("cpu", 3), Workers(("cpu",), 3)),
        (("cpu", 100, 5), Workers(("cpu",), 5)),
        (("cuda", 100), Workers(GPUS, 16, measured=True)),
        (("cuda:1", 100), Workers(("cuda:1",), 8, measured=True)),
        (("cuda", 2), Workers(GPUS, 2)),
        (("cuda", 100, 4), Workers(GPUS, 4)),
        (("cuda", 100, None, True), Workers(GPUS, 32, measured=True, fill=True)),
        (("cuda", 100, 4, True), Workers(GPUS, 4, measured=True, fill=True)),
    ],
)
def test_workers_are_those_that_a_machine_has_room_for(asked: Any, expected: Workers) -> None:
    assert workers.of(*asked) == expected


def test_an_engine_begins_with_one_worker_a_gpu_and_measures_whether_more_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "free_memory", lambda device: 80 * 2**30)
    engine = local.local_engine(workers.of("cuda", 100), Machine("cuda", "data"))
    assert (engine.slots, engine.devices) == (2, GPUS)
    assert engine.sharing
    assert (engine.sharing.most, engine.sharing.compare) == (16, True)
    assert local.local_engine(workers.of("cuda", 100, 4), Machine("cuda", "data")).slots == 4


def test_check_tells_the_time_without_sharing_and_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cl_semisup.execution import execute

    monkeypatch.setattr(execute, "choose_device", lambda name: name)
    monkeypatch.setattr(estimate, "_measure", lambda *_: None)
    monkeypatch.setattr(estimate, "_seconds", lambda *_: 100.0)
    found = suite.parse(
        "question: How long?\nepochs: 1\ndatasets: digits\nlosses: [nt_xent]\nbatch_size: 64\nlearning_rate: 0.1\nrepetitions: 15\n",
        "s.yaml",
    )
    told = {device: estimate.describe(tmp_path, found, list(found.runs), device, None) for device in ("cpu", "cuda")}
    trainings = len(found.runs)
    assert "in 16 process(es) on cpu" in told["cpu"]
    assert "If up to" not in told["cpu"]
    assert f"for {trainings} trainings in 2 process(es) on cuda" in told["cuda"]
    assert "If up to 16 at once are faster, which the first ones tell, down to" in told["cuda"]
