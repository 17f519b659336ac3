"""Workers die, hang and are stopped: runs go on from their states, to the bit, or fail with a reason."""

import importlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cl_semisup.engines import pool
from cl_semisup.engines.local import LocalEngine
from cl_semisup.errors import EngineError
from cl_semisup.execution import stop, training_groups
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import single_run
from cl_semisup.gate import execute as gate_execute
from cl_semisup.results import records
from cl_semisup.scheduling import scheduler
from cl_semisup.suite.run import Run
from tests.faults.conftest import FAULTY

Engine = Callable[..., LocalEngine]
MakeRun = Callable[..., Run]
STEPS = 88


def outcome(record: dict[str, Any], curves: dict[str, Any]) -> dict[str, Any]:
    """What must be the same to the last bit, whatever happened during the run."""
    names = ("status", "reason", "resolved", "scores", "diagnostics")
    return {key: record[key] for key in names} | curves


def undisturbed(run: Run, folder: Path) -> dict[str, Any]:
    (folder / "faults" / "faults").write_bytes(b"." * 1000)  # as if all faults had happened
    return outcome(*Executor(Machine("cpu", "data"))(run))


def calls(folder: Path) -> int:
    return (folder / "faults" / "calls").stat().st_size


def test_a_run_goes_on_to_the_bit_after_kill_9_of_its_worker(
    tmp_path: Path, faulty_run: MakeRun, engine: Engine
) -> None:
    run, results = faulty_run("kill", at=30), tmp_path / "results"
    (results / "checkpoints").mkdir(parents=True)
    state = f"{training_groups.group([run])[0].id}.99.tmp"  # half-written by a killed worker
    (results / "checkpoints" / state).touch()
    assert scheduler.run_all(results, [run], engine()).statuses == {"ok": 1}
    assert STEPS < calls(tmp_path) < STEPS + 10  # the killed step is repeated, and not those before it
    path = records.path_of(results, run)
    assert outcome(records.read(path), records.read_curves(path)) == undisturbed(run, tmp_path)
    assert not list((results / "checkpoints").iterdir())


def test_sigterm_saves_states_and_the_next_start_goes_on_to_the_bit(
    tmp_path: Path, faulty_run: MakeRun, engine: Engine, machine: Machine
) -> None:
    run, results = faulty_run("sigterm", at=30), tmp_path / "results"
    object.__setattr__(machine, "checkpoint_seconds", 1e9)  # only the signal makes it save a state
    start_time = time.monotonic()
    with pytest.raises(stop.Stopped) as stopped:
        scheduler.run_all(results, [run], engine())
    assert stopped.value.exit_code == 143
    assert [path.name for path in (results / "checkpoints").iterdir()] == [f"{training_groups.group([run])[0].id}.pt"]
    assert scheduler.missing(results, [run]) == [run]
    assert time.monotonic() - start_time < 60
    scheduler.run_all(results, [run], engine())
    path = records.path_of(results, run)
    assert STEPS <= calls(tmp_path) < STEPS + 10
    assert outcome(records.read(path), records.read_curves(path)) == undisturbed(run, tmp_path)


def test_a_second_ctrl_c_ends_the_command_at_once(tmp_path: Path, faulty_run: MakeRun, engine: Engine) -> None:
    run, presses = faulty_run("hang"), list[float]()

    def press() -> None:
        while not (tmp_path / "faults" / "faults").exists():
            time.sleep(0.05)
        for _ in range(2):
            presses.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(stop.ECHO_SECONDS + 0.3)

    threading.Thread(target=press).start()
    with pytest.raises(stop.Stopped) as stopped:
        scheduler.run_all(tmp_path / "results", [run], engine())
    assert stopped.value.exit_code == 130
    assert time.monotonic() - presses[1] < scheduler.GRACE_SECONDS / 2


def test_the_same_ctrl_c_passed_on_by_a_wrapper_is_one() -> None:
    with stop.Request() as request:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert request.number == signal.SIGINT


def test_a_run_that_takes_too_long_has_failed_and_its_worker_is_replaced(faulty_run: MakeRun, engine: Engine) -> None:
    slow = engine(limit=3)
    slow.submit(single_run(faulty_run("hang")))
    ((_, ((record, _),)),) = slow.results(250)
    assert (record["status"], record["reason"]) == ("failed", "took longer than the limit of 3 s")
    slow.limit = math.inf
    slow.submit(single_run(faulty_run("none")))
    ((_, ((record, _),)),) = slow.results(250)
    assert record["status"] == "ok"


def test_a_run_that_kills_every_worker_fails_with_the_signal(
    tmp_path: Path, faulty_run: MakeRun, engine: Engine, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_ATTEMPTS", 2)
    object.__setattr__(machine, "checkpoint_seconds", 1e9)
    run, results = faulty_run("kill", times=1000), tmp_path / "results"
    assert scheduler.run_all(results, [run], engine()).statuses == {"failed": 1}
    reason = records.read(records.path_of(results, run))["reason"]
    assert reason.startswith("the worker process died 2 times, the last time by signal SIGKILL")


def test_workers_that_never_start_stop_the_command_and_fail_no_run(
    tmp_path: Path, faulty_run: MakeRun, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_FAILED_STARTS", 2)
    run, results = faulty_run("none"), tmp_path / "results"
    object.__setattr__(machine, "threads", -1)  # torch refuses it
    with pytest.raises(EngineError, match="no worker process can be started: 2 died, the last by exit code 1"):
        scheduler.run_all(results, [run], LocalEngine(machine, 1, [FAULTY]))
    assert scheduler.missing(results, [run]) == [run]


def test_records_do_not_depend_on_the_number_of_workers(tmp_path: Path, faulty_run: MakeRun, engine: Engine) -> None:
    runs = [faulty_run("none", at=at) for at in range(4)]
    outcomes = []
    for workers in (1, 2):
        results = tmp_path / str(workers)
        scheduler.run_all(results, runs, engine(workers=workers))
        paths = [records.path_of(results, run) for run in runs]
        outcomes.append([(outcome(records.read(path), {}), records.read(path)["versions"]) for path in paths])
    assert outcomes[0] == outcomes[1]


def test_a_signal_during_an_import_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch aborts the process if an exception interrupts one of its imports."""
    body = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nWHOLE = sum(range(1000))\n"
    (tmp_path / "interrupted_import.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with stop.at_once():
        module = importlib.import_module("interrupted_import")
        with pytest.raises(stop.Stopped, match="SIGINT"):
            time.sleep(60)
    assert module.WHOLE == 499500


def test_a_signal_ends_the_workers_of_a_gate(faulty_run: MakeRun) -> None:
    execute_ = gate_execute.in_workers("data", 1, [FAULTY])
    with stop.at_once(), pytest.raises(stop.Stopped, match="SIGTERM"):
        execute_([faulty_run("sigterm", at=5)])
    assert not multiprocessing.active_children()
