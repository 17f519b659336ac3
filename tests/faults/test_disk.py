"""A full disk stops a benchmark with a message: no file is half written, and with space it goes on."""

import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from cl_semisup.errors import ResultsError
from cl_semisup.results import records
from cl_semisup.scheduling import scheduler
from cl_semisup.suite.run import Run
from cl_semisup.training import state_file
from cl_semisup.training.checkpoint import Checkpoint
from tests.execution.test_execution import InProcess

MakeRun = Callable[..., Run]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, if the system lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a small disk; test_records.py has a fake one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_benchmark_and_with_space_it_goes_on(small: Path, faulty_run: MakeRun) -> None:
    runs = [faulty_run("none", at=at) for at in range(6)]
    with pytest.raises(ResultsError, match=r"No space left on device\. (Free some space|Check the results folder)"):
        scheduler.run_all(small, runs, InProcess())
    done = [records.read(path) for path in records.all_paths(small)]
    assert 0 < len(done) < len(runs)
    assert not list(small.rglob(".tmp-*"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
    counts = scheduler.run_all(small, scheduler.missing(small, runs), InProcess())
    assert counts.statuses == {"ok": len(runs) - len(done)}
    assert scheduler.missing(small, runs) == []


def test_a_full_disk_costs_the_state_and_not_the_run(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint(small / "states" / "run.pt", interval=0)
    checkpoint.save({"step": 1, "weights": torch.zeros(10)})
    checkpoint.save({"step": 2, "weights": torch.zeros(100_000)})
    assert "no state is kept: No space left on device. The run goes on." in capsys.readouterr().err
    state = checkpoint.load(torch.device("cpu"))
    assert state is not None
    assert state["step"] == 1
    assert [path.name for path in (small / "states").iterdir()] == ["run.pt"]


def test_a_damaged_or_foreign_state_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.pt"
    checkpoint = Checkpoint(path, interval=0, code_version="me")
    checkpoint.save({"step": 1})
    whole = path.read_bytes()
    evil = pickle.dumps(_Evil())
    state_file.write(path, evil, b"")  # with a valid signature
    forged = path.read_bytes()
    flipped = bytes([*whole[:100], whole[100] ^ 1, *whole[101:]])
    for content in (b"", whole[:20], whole[:-1], flipped, forged):
        path.write_bytes(content)
        assert checkpoint.load(torch.device("cpu")) is None
    assert not (tmp_path / "ran").exists()
    path.write_bytes(whole)
    assert checkpoint.load(torch.device("cpu")) is not None
    assert Checkpoint(path, interval=0, code_version="another").load(torch.device("cpu")) is None


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)
