"""One copy of a data set for all workers. A CPU's shared memory stands in for a GPU's: real processes map it."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.multiprocessing import reductions

from cl_semisup.engines import held_data, local
from cl_semisup.engines.held_data import NO_ROOM, OWN_CODE, HeldData
from cl_semisup.engines.local import LocalEngine
from cl_semisup.errors import ProcessMustStop
from cl_semisup.execution import shared_data
from cl_semisup.execution.data import load_images, nbytes, to_device
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine, runs_that_fit
from cl_semisup.execution.training_groups import single_run
from cl_semisup.execution.workers import Workers
from cl_semisup.suite.run import Run
from tests.gpu import trials

DIGITS, OTHERS = {"digits": {}}, {"subspaces": {}}
CPU = torch.device("cpu")
GIB = 2**30
MakeEngine = Callable[..., LocalEngine]


def run(repetition: int = 0, dataset: dict[str, Any] = DIGITS) -> Run:
    return replace(trials.run(), dataset=dataset, repetition=repetition, batch_size=64)


@pytest.fixture
def make_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeEngine]:
    """`make_engine(workers)`: an engine whose workers share every data set."""
    monkeypatch.setattr(shared_data, "can_share", lambda machine: True)
    monkeypatch.setattr(shared_data, "WORTH", 1)
    engines = []

    def make(workers: int = 2) -> LocalEngine:
        engines.append(LocalEngine(Machine("cpu", "data"), workers))
        return engines[-1]

    yield make
    for engine in engines:
        engine.cancel()


def records_of(engine: LocalEngine, runs: list[Run]) -> list[dict[str, Any]]:
    for one in runs:
        engine.submit(single_run(one))
    found: dict[str, Any] = {}
    while len(found) < len(runs):
        found |= {training.id: record for training, ((record, _),) in engine.results(60)}
    return [found[one.id] for one in runs]


def told(records: list[dict[str, Any]]) -> list[str]:
    return [record["resolved"].get("shared_data", "") for record in records]


def only(engine: LocalEngine) -> Any:
    (held,) = engine.held._held.values()
    return held


def test_two_workers_read_one_copy_and_find_the_scores_of_two_copies(make_engine: MakeEngine) -> None:
    engine, runs = make_engine(), [run(repetition) for repetition in range(4)]
    shared = records_of(engine, runs)
    assert told(shared) == ["yes"] * 4
    assert only(engine).size == engine.held.size() == nbytes(load_images(DIGITS, "data"))
    machine = Machine("cpu", "data")
    assert [record["scores"] for record in shared] == [Executor(machine)(one)[0]["scores"] for one in runs]
    only(engine).data.train_images.zero_()  # every worker sees it, so it is the same memory
    blind = records_of(engine, [run(4), run(5)])
    assert told(blind) == ["yes"] * 2
    assert [record["scores"] for record in blind] != [Executor(machine)(run(n))[0]["scores"] for n in (4, 5)]


def test_a_worker_that_dies_takes_nothing_and_its_successor_reads_the_same_copy(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert told(records_of(engine, [run(0), run(1)])) == ["yes"] * 2
    first, (victim, *_) = only(engine), engine._workers
    assert victim.process.pid
    os.kill(victim.process.pid, signal.SIGKILL)
    assert told(records_of(engine, [run(n) for n in range(2, 6)])) == ["yes"] * 4
    assert only(engine) is first
    assert victim not in engine.held.readers
    assert not engine.held.refusal


def test_memory_is_free_once_no_worker_reads_it_and_none_will(make_engine: MakeEngine) -> None:
    engine = make_engine()
    records_of(engine, [run(0), run(1)])
    assert [name for _, name in engine.held._held] == [repr(DIGITS)]
    for n in range(0, 40, 2):  # until both workers have had one of them
        records_of(engine, [run(n, OTHERS), run(n + 1, OTHERS)])
        if len(engine.held._held) == 1:
            break
    assert [name for _, name in engine.held._held] == [repr(OTHERS)]
    engine.cancel()
    assert engine.held.give(reader()) == "the command stops"
    assert not engine.held._held
    assert not engine.held.readers


def test_a_mapping_with_other_contents_is_told_and_every_worker_has_its_own_copy(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_handle = shared_data.handle_of

    def wrong(data: Any) -> shared_data.Handle:
        handle = make_handle(data)
        return replace(handle, sums={**handle.sums, "train_images": 1})

    monkeypatch.setattr(held_data, "handle_of", wrong)
    engine = make_engine()
    found = records_of(engine, [run(n) for n in range(3)])
    reason = "the mapped memory has other contents"
    assert set(told(found)) == {f"no: {reason}"}
    assert {record["status"] for record in found} <= {"ok", "collapsed"}
    assert capsys.readouterr().err == f"Each worker has a copy of the data of its own: {reason}\n"
    assert told(records_of(engine, [run(0, OTHERS)])) == [f"no: {reason}"]
    assert not engine.held._held


def test_a_driver_without_handles_is_told_once(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(data: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: operation not supported\nCUDA kernel errors might be ...")

    monkeypatch.setattr(held_data, "handle_of", refuse)
    found = records_of(make_engine(), [run(0), run(1)])
    assert set(told(found)) == {"no: AcceleratorError: CUDA error: operation not supported"}
    assert len(capsys.readouterr().err.splitlines()) == 1


# rules, without processes --------------------------------------------------------------------------------------------


class Reader(SimpleNamespace):
    """A worker's side that the rules look at."""

    __hash__ = object.__hash__


def reader(dataset: dict[str, Any] = DIGITS) -> Any:
    return Reader(machine=Machine("cpu", "data"), training=single_run(run(dataset=dataset)))


def results(shared: str) -> Any:
    return (({"resolved": {"shared_data": shared}}, {}),)


def test_the_first_reader_that_dies_ends_sharing_and_a_later_one_does_not() -> None:
    held, first = HeldData("data"), reader()
    held.give(first)
    held.lost(first, "signal SIGSEGV\nmore")
    assert held.give(first) == held.refusal == "a worker that read them died by signal SIGSEGV"
    held = HeldData("data")
    held.give(first)
    held.answered(first, first.training, results("yes"))
    held.lost(first, "signal SIGKILL")
    assert isinstance(held.give(first), shared_data.Handle)


def test_a_reader_keeps_its_data_until_it_has_finished_a_training_on_others() -> None:
    held, one = HeldData("data"), reader()
    held.give(one)
    held.answered(one, one.training, results("yes"))
    held.drop_unused([one], [])
    assert held.size()
    others = single_run(run(dataset=OTHERS))
    held.drop_unused([one], [others])
    assert held.size()
    held.answered(one, others, results(""))
    held.drop_unused([one], [one.training])
    assert held.size(), "a training that waits needs them"
    held.drop_unused([one], [others])
    assert not held.size()


def test_code_of_the_users_own_never_reads_shared_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_data.protocol, "uses_users_own", lambda runs: True)
    assert HeldData("data").give(reader()) == OWN_CODE
    copy = replace(to_device(load_images(DIGITS, "data"), CPU), shared="yes")
    asked: list[Any] = []
    machine = Machine("cpu", "data")
    execute = Executor(machine, held_by_command=lambda images: (asked.append(images), copy if not asked[1:] else "")[1])
    assert execute.data(run()) is copy
    execute.run_group(single_run(replace(run(), epochs=0)))  # which is one with such code
    assert len(asked) == 2, "the shared copy was forgotten before the user's code ran"
    assert execute.data(run()) is not copy


def test_data_that_do_not_fit_on_the_gpu_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_images(DIGITS, "data")
    on_host = to_device(images, CPU)
    monkeypatch.setattr(held_data, "to_device", lambda images, device: on_host)
    elsewhere = Reader(machine=Machine("meta", "data"), training=single_run(run()))
    held = HeldData("data")
    assert held.give(elsewhere) == NO_ROOM

    def full(images: Any, device: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(held_data, "to_device", full)
    assert held.give(reader()) == NO_ROOM
    assert not held.refusal
    assert not held.size()


def test_files_that_have_changed_since_the_command_read_them_are_read_again() -> None:
    images = load_images(DIGITS, "data")
    handle = shared_data.handle_of(to_device(images, CPU))
    assert isinstance(shared_data.opened(lambda: handle, images, CPU), shared_data.Data)
    other = replace(handle, facts={**handle.facts, "content_hash": "other"})
    assert shared_data.opened(lambda: other, images, CPU) == "the files of the data set have changed"


def test_a_gpu_that_is_lost_by_a_mapping_ends_the_worker_and_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    images = load_images(DIGITS, "data")
    reason = shared_data.opened(fail, images, CPU)
    assert reason == "CUDA error: an illegal memory access was encountered"
    monkeypatch.setattr(shared_data, "is_lost", lambda device: True)
    with pytest.raises(ProcessMustStop):
        shared_data.opened(fail, images, CPU)


def test_a_gpus_memory_does_not_wait_for_readers_that_were_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tuple(f"argument {n}" for n in range(15))
    counted: list[Any] = []
    monkeypatch.setattr(reductions, "reduce_tensor", lambda tensor: (reductions.rebuild_cuda_tensor, given))
    monkeypatch.setattr(
        torch.UntypedStorage, "_release_ipc_counter_cuda", lambda *given: counted.append(given), raising=False
    )
    data = to_device(load_images(DIGITS, "data"), CPU)
    handle = shared_data.handle_of(data)
    names = ("ref_counter_handle", "ref_counter_offset")
    code = reductions.rebuild_cuda_tensor.__code__
    wanted = tuple(given[code.co_varnames.index(name)] for name in names)
    assert counted == [wanted] * len(handle.tensors)


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "size"),
    [
        ("cuda", 8, 1, 2 * GIB // 7 + 1),  # 293 MiB: CIFAR-10 has 176, Tiny ImageNet 1,290
        ("cuda", 2, 1, 2 * GIB),
        ("cuda", 16, 2, 2 * GIB // 7 + 1),
        ("cuda", 2, 2, 0),
        ("cuda:1", 1, 1, 0),
        ("cpu", 8, 1, 0),
        ("mps", 8, 1, 0),
    ],
)
def test_data_are_shared_where_two_gib_of_copies_are_saved(device: str, workers: int, gpus: int, size: int) -> None:
    machine = Machine(device, "data")
    assert shared_data.worth_from(machine, workers, gpus) == size
    assert shared_data.worth_from(replace(machine, plain=True), workers, gpus) == 0
    images = load_images(DIGITS, "data")
    bytes_ = nbytes(images)
    assert shared_data.is_large(images, replace(machine, share_from=bytes_))
    assert not shared_data.is_large(images, replace(machine, share_from=bytes_ + 1))
    assert not shared_data.is_large(images, machine)


def test_shared_data_count_once_where_the_number_of_workers_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "free_memory", lambda device: 24 * GIB)
    engine = local.local_engine(Workers(("cuda:0",), 8, measured=True), Machine("cuda:0", "data"))
    assert engine.sharing
    monkeypatch.setattr(engine.held, "size", lambda: 3 * GIB)
    peak = GIB  # of what a worker has for itself
    assert engine.sharing.fitting(peak) == runs_that_fit(21 * GIB, peak) == 10
    assert runs_that_fit(24 * GIB, peak + 3 * GIB) == 3, "with copies"
