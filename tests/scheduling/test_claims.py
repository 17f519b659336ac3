"""A lease has one holder, on any file system; it is free again after its holder crashed, and never before."""

import errno
import fcntl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cl_semisup.errors import ResultsError
from cl_semisup.scheduling import claims, scheduler
from cl_semisup.scheduling.claims import Claims
from cl_semisup.suite.suite import Suite
from tests.execution.test_execution import InProcess

OTHER_HOST = "another-machine/1 4711"


@pytest.fixture(autouse=True)
def a_file_system_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(fcntl, "lockf", fail)


def lease(results: Path, name: str, holder: str, generation: int = 0) -> Path:
    path = results / "claims" / f"{name}.{generation}.lease"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(holder)
    return path


def test_a_claim_has_one_holder_and_leaves_nothing(tmp_path: Path) -> None:
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("x")
    assert not other.take("x")
    assert not one.take("x")
    assert other.take("y")
    one.release("x")
    assert other.take("x")
    other.release_all()
    assert not list((tmp_path / "claims").iterdir())


def test_many_at_once_over_leases_left_by_a_crash_give_every_one_to_one(tmp_path: Path) -> None:
    names = [f"run{i}" for i in range(40)]
    for name in names[::2]:
        lease(tmp_path, name, f"{claims.host_id()} {2**22 + 1}")  # above the largest process number of Linux
    claimants = [Claims(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(len(claimants)) as pool:
        taken = list(pool.map(lambda one: [name for name in names if one.take(name)], claimants))
    assert sorted(name for some in taken for name in some) == sorted(names)
    for one in claimants:
        one.release_all()
    assert not list((tmp_path / "claims").iterdir())


def test_a_lease_of_another_machine_is_free_when_its_heartbeats_stop_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.02)
    path, waiting = lease(tmp_path, "x", OTHER_HOST), Claims(tmp_path)
    deadline = time.monotonic() + 20 * 0.02  # more than three times the time after which a holder counts as gone
    while time.monotonic() < deadline:
        last_heartbeat = time.monotonic()
        path.touch()
        assert not waiting.take("x")
        time.sleep(0.02)
    while not waiting.take("x"):
        time.sleep(0.005)
    assert time.monotonic() - last_heartbeat >= claims.MAX_MISSED_HEARTBEATS * 0.02 - 0.02
    assert not Claims(tmp_path).take("x")


def test_a_lease_that_names_no_holder_is_judged_by_its_heartbeats(tmp_path: Path) -> None:
    lease(tmp_path, "x", "")  # its holder has not written yet, or found no space
    assert not Claims(tmp_path).take("x")


def test_a_holder_that_slept_takes_nothing_from_its_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper, successor, third = Claims(tmp_path), Claims(tmp_path), Claims(tmp_path)
    assert sleeper.take("x")
    assert not successor.take("x")
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.0)
    time.sleep(0.001)
    assert successor.take("x")
    monkeypatch.undo()
    sleeper.release("x")
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ["x.1.lease"]
    assert third.take("x")  # the first holder has done the work: its record is there
    third.release("x")
    successor.release("x")
    assert not list((tmp_path / "claims").iterdir())


def test_a_command_keeps_its_leases_alive_while_it_works(
    tmp_path: Path, parse: Any, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.0)
    suite: Suite = parse(text)
    mtimes = []

    class Slow(InProcess):
        def results(self, seconds: float) -> Any:
            (path,) = (tmp_path / "claims").iterdir()
            mtimes.append(path.stat().st_mtime_ns)
            time.sleep(0.01)
            return super().results(seconds) if len(mtimes) == 3 else []

    counts = scheduler.run_all(tmp_path, list(suite.runs[:1]), Slow())
    assert counts.done == 1
    assert len(set(mtimes)) == 3


def test_a_folder_that_takes_no_leases_is_told(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("")
    with pytest.raises(ResultsError, match=r"x cannot be claimed: .*\. Check the results folder\."):
        Claims(tmp_path).take("x")
