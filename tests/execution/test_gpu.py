"""What the executor and the engines do on a GPU, with stand-ins for the driver: lost GPUs, neighbours, several GPUs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cl_semisup import cli, device
from cl_semisup.engines import local
from cl_semisup.engines.local import LocalEngine
from cl_semisup.engines.sharing import Sharing
from cl_semisup.execution import execute
from cl_semisup.execution.execute import Executor, all_of
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import TrainingGroup, single_run
from cl_semisup.plugins.user_file import UserFile
from cl_semisup.scheduling import scheduler
from cl_semisup.suite.suite import Suite
from tests.engines.test_pool import FakePool, FakeWorker
from tests.helpers import records as record_maker

Parse = Callable[[str], Suite]


def group(parse: Parse, text: str) -> TrainingGroup:
    """One training and three runs, which differ in their probes."""
    run = parse(text).runs[-1]
    runs = tuple(replace(run, probes={"knn": {"k": k}}) for k in (1, 2, 3))
    return TrainingGroup(run.id, runs)


def lose_the_gpu(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three runs, the second one's probe or the training itself costs the process its GPU."""
    state = SimpleNamespace(lost=False)
    measure, fit = execute.evaluation.measure, execute.Trainer._fit

    def lose() -> None:
        state.lost = True
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    def measuring(features: Any, probes: Any) -> Any:
        return lose() if when == "probe" and probes == {"knn": {"k": 2}} else measure(features, probes)

    monkeypatch.setattr(execute.evaluation, "measure", measuring)
    monkeypatch.setattr(execute.Trainer, "_fit", lambda *a: lose() if when == "training" else fit(*a))
    monkeypatch.setattr(device, "is_lost", lambda _: state.lost)


def test_runs_after_a_lost_gpu_have_no_result_instead_of_anothers_reason(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_gpu("probe", monkeypatch)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("the GPU is lost"))
    executor = Executor(Machine("cpu", "data"))
    results = executor.run_group(group(parse, text))
    assert [record["status"] for record, _ in results] == ["ok", "failed"]
    assert "device-side assert triggered" in results[1][0]["reason"]
    assert executor.device_lost


def test_a_training_that_loses_the_gpu_is_the_failure_of_all_its_runs(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_gpu("training", monkeypatch)
    executor = Executor(Machine("cpu", "data"))
    results = executor.run_group(group(parse, text))
    assert ["device-side assert" in record["reason"] for record, _ in results] == [True] * 3
    assert executor.device_lost


def test_an_ordinary_failure_keeps_the_worker(parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = replace(parse(text).runs[-1], batch_size=10_000)
    executor = Executor(Machine("cpu", "data"))
    assert executor(run)[0]["status"] == "failed"
    assert not executor.device_lost


def test_the_pool_gives_the_runs_that_are_left_to_another_worker() -> None:
    runs = tuple(record_maker.run(epochs=5, repetition=n) for n in range(3))
    training = TrainingGroup("t", runs)
    sent: list[tuple[Any, ...]] = []
    pool = FakePool(FakeWorker)
    pool._send = lambda worker, training: sent.append(training.runs)  # type: ignore[method-assign]
    answers: list[Any] = [(("first", {}), ("second", {})), (("third", {}),)]
    pool._receive = lambda worker: (  # type: ignore[method-assign]
        pool._on_answer(worker, answers.pop(0)) if worker.training else setattr(worker, "ready", True)
    )
    pool.submit(training)
    ((finished, results),) = pool.results(60)
    assert sent == [runs, runs[2:]]
    assert (finished, [record for record, _ in results]) == (training, ["first", "second", "third"])


class Worker:
    """A local worker without a process."""

    def __init__(self, machine: Machine, own_plugins: tuple[UserFile, ...]):
        self.machine, self.ready, self.training, self.killed = machine, True, None, False
        self.start_time = 0.0

    def kill(self) -> None:
        self.killed = True


def engine_with_workers(count: int, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    monkeypatch.setattr(local, "LocalWorker", Worker)
    engine = LocalEngine(Machine(devices[0], "data"), count, devices=devices)
    for number in range(count):
        engine._workers.append(engine._start_worker())
        engine._workers[-1].training = single_run(record_maker.run(epochs=5, repetition=number))
    return engine


def test_workers_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_with_workers(5, ("cuda:0", "cuda:1"), monkeypatch)
    assert [worker.machine.device for worker in engine._workers] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    engine._workers.pop(1)
    assert engine._start_worker().machine.device == "cuda:1"


OUT_OF_MEMORY: Any = (({"status": "failed", "reason": "out of memory (peak 3.00 GiB): CUDA out of memory."}, {}),)


def test_a_run_without_memory_beside_others_is_done_again_once_beside_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_with_workers(3, ("cuda:0",), monkeypatch)
    worker, *others = engine._workers
    training = worker.training
    assert engine._wants_another_try(worker, OUT_OF_MEMORY)
    assert (engine.slots, list(engine._queue), engine._workers) == (2, [(training, 1)], others)
    others[0].training = training
    assert not engine._wants_another_try(others[0], OUT_OF_MEMORY)  # the second time it is the run's own fault


@pytest.mark.parametrize(
    ("count", "devices", "results"),
    [
        (1, ("cuda:0",), OUT_OF_MEMORY),  # alone on the GPU
        (2, ("cuda:0", "cuda:1"), OUT_OF_MEMORY),  # each has one of its own
        (2, ("cpu",), OUT_OF_MEMORY),
        (2, ("cuda:0",), (({"status": "failed", "reason": "ValueError: out of range"}, {}),)),
        (2, ("cuda:0",), (({"status": "ok", "reason": ""}, {}),)),
    ],
)
def test_other_ends_of_a_run_are_its_result(
    count: int, devices: tuple[str, ...], results: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_with_workers(count, devices, monkeypatch)
    assert not engine._wants_another_try(engine._workers[0], results)


def test_cuda_means_all_gpus_of_the_machine_and_a_number_means_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert all_of("cuda") == ("cuda:0", "cuda:1", "cuda:2")
    assert (all_of("cuda:1"), all_of("cpu"), all_of("mps")) == (("cuda:1",), ("cpu",), ("mps",))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert all_of("cuda") == ("cuda",)


def test_by_default_each_gpu_has_a_worker_first_and_the_cores_are_divided(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    engines: list[LocalEngine] = []
    monkeypatch.setattr(execute, "choose_device", lambda device: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("cl_semisup.execution.machine.usable_cores", lambda root: 16)
    monkeypatch.setattr(
        scheduler, "run_rounds", lambda _, __, engine, **___: (engines.append(engine), scheduler.RunCounts())[1]
    )
    monkeypatch.setattr(local, "free_memory", lambda device: 80 * 2**30)
    cli.main([str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r")])
    (engine,) = engines
    assert engine.sharing
    assert (engine.slots, engine.devices) == (2, ("cuda:0", "cuda:1"))
    assert engine.machine.threads == 16 // engine.sharing.most


def test_a_worker_that_is_no_longer_needed_ends_with_its_training(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_with_workers(2, ("cuda:0",), monkeypatch)
    engine.sharing = Sharing(1, 2, lambda peak: 1)
    worker, other = engine._workers
    run = record_maker.run(epochs=5)
    record = {"status": "ok", "run": run.as_dict(), "cost": {"peak_memory_bytes": 1, "images_per_second": 1.0}}
    assert engine._taken(worker, ((record, {}),))
    assert engine._workers == [other]


def test_a_share_of_a_gpu_limits_a_workers_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *limit: limits.append(limit))
    Executor(Machine("cuda", "data"))
    assert limits == []
    Executor(Machine("cuda", "data", gpu_share=0.25))
    assert limits == [(0.25, torch.device("cuda"))]
