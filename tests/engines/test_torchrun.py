"""The command on several processes: the same records as on one; failures are reported; a stopped training goes on."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup.engines import torchrun
from cl_semisup.errors import InputError
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.results import records
from cl_semisup.suite import suite
from cl_semisup.system import owner
from cl_semisup.training import state_file
from cl_semisup.training.state_file import DIGEST_BYTES

ROOT = Path(__file__).parents[2]
SUITE = """\
question: Is it the same on two processes?
datasets: digits
encoder: {mlp: {width: 16, layers: 1}}
losses: [LOSSES]
label_fraction: 0.1
learning_rate: 0.1
batch_size: 127
repetitions: 1
epochs: EPOCHS
validation: all
"""
FAULTY = '''\
from dataclasses import dataclass

from torch import distributed


@dataclass(frozen=True)
class Faulty:
    """A loss that fails in the second process alone.

    Source: none
    Difference: None
    """

    def __call__(self, z1, z2, labels=None):
        if distributed.get_rank() == 1:
            raise ValueError("a fault of one process")
        return (z1 - z2).square().mean()
'''


def launch(suite_file: Path, results: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command on two processes of this machine."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.Popen(
        [*start, "benchmark.py", str(suite_file), "--results", str(results), "--device", "cpu", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )


def write_suite(folder: Path, losses: str, epochs: int = 1) -> Path:
    file = folder / "s.yaml"
    file.write_text(SUITE.replace("LOSSES", losses).replace("EPOCHS", str(epochs)))
    return file


def every_record(results: Path) -> dict[str, dict[str, Any]]:
    """Loss -> record."""
    return {path.parent.name: records.read(path) for path in records.all_paths(results)}


def test_two_processes_write_the_records_of_one_and_report_a_failure_of_either(tmp_path: Path) -> None:
    plugin = tmp_path / "faulty.py"
    plugin.write_text(FAULTY)
    results = tmp_path / "results"
    process = launch(write_suite(tmp_path, "nt_xent, faulty"), results, "--plugin", str(plugin))
    output = process.communicate(timeout=240)[0]
    assert process.returncode != 0, output  # a run has failed
    by_loss = every_record(results)
    assert by_loss["faulty"]["status"] == "failed"
    assert by_loss["faulty"]["reason"] == "process 1 of 2: ValueError: a fault of one process"
    if "nt_xent" not in by_loss:  # the other process did not come back from the exchange that it was in
        assert "Start the same command again to go on." in output
        again = launch(write_suite(tmp_path, "nt_xent, faulty"), results, "--plugin", str(plugin))
        assert again.communicate(timeout=240)[0]
        by_loss = every_record(results)
    there = by_loss["nt_xent"]
    (run,) = (r for r in suite.read(write_suite(tmp_path, "nt_xent")).runs if r.epochs)
    here, curves = Executor(Machine("cpu", "data"))(run)
    assert (there["id"], there["status"], there["protocol"]) == (here["id"], "ok", here["protocol"])
    assert there["resolved"].pop("processes") == 2
    assert there["resolved"] == here["resolved"]
    assert there["scores"] == pytest.approx(here["scores"], abs=0.01)
    history = records.read_curves(records.path_of(results, run))["history"]
    assert history["loss"] == pytest.approx(curves["history"]["loss"], rel=1e-4)
    assert not list((results / "checkpoints").glob("*"))


def test_a_stopped_training_saves_its_state_on_all_processes_and_goes_on_from_it(tmp_path: Path) -> None:
    suite_file, results = write_suite(tmp_path, "nt_xent", epochs=30), tmp_path / "results"
    process = launch(suite_file, results, "--checkpoint-seconds", "0.2")
    end = time.monotonic() + 120
    while saved_step(results) <= LOGGED and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert "Stopped by SIGTERM" in output
    assert "nt_xent" not in every_record(results)
    assert saved_step(results) > LOGGED
    mark(results)
    again = launch(suite_file, results)
    output = again.communicate(timeout=200)[0]
    assert again.returncode == 0, output
    record = every_record(results)["nt_xent"]
    assert record["status"] == "ok"
    (path,) = (path for path in records.all_paths(results) if path.parent.name == "nt_xent")
    history = records.read_curves(path)["history"]
    assert history["loss"][0] == MARK  # as in the state from which it went on
    assert history["step"][-1] == record["resolved"]["steps"] - 1


def test_a_killed_process_ends_the_command_soon_and_without_a_record(tmp_path: Path) -> None:
    suite_file, results = write_suite(tmp_path, "nt_xent", epochs=2000), tmp_path / "results"
    process = launch(suite_file, results, "--checkpoint-seconds", "0.2")
    end = time.monotonic() + 120
    while saved_step(results) == 0 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    (rank1,) = _processes(process.pid, "RANK=1")
    os.kill(rank1, signal.SIGKILL)
    output = process.communicate(timeout=90)[0]
    assert process.returncode != 0, output
    assert "nt_xent" not in every_record(results)
    assert saved_step(results) > 0


def _processes(parent: int, variable: str) -> list[int]:
    """Children of a process that were started with an environment variable of that value."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            is_child = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and variable.encode() in path.read_bytes().split(b"\0"):
                pids.append(int(path.parent.name))
        except OSError:
            continue
    return pids


LOGGED = 20  # steps after which the curves of this training have a point
MARK = 42.0


def saved_step(results: Path) -> int:
    """How far the state on disk is; 0 without one."""
    states = list(results.glob("checkpoints/*.pt"))
    return int(_state(states[0])["step"]) if states else 0


def mark(results: Path) -> None:
    """Change one number in the state on disk; it is then in the record of the run that goes on from it."""
    (path,) = results.glob("checkpoints/*.pt")
    state, payload = _state(path), io.BytesIO()
    state["history"]["loss"][0] = MARK
    torch.save(state, payload)
    state_file.write(path, payload.getvalue(), owner.key())


def _state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(path.read_bytes()[DIGEST_BYTES:]), weights_only=True)
    return state


def test_a_process_knows_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert torchrun.device_of_process("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torchrun.device_of_process("auto") == torchrun.device_of_process("cuda") == "cuda:1"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="--nproc-per-node must not exceed the GPUs of a machine, 1. Got at least 2"):
        torchrun.device_of_process("auto")
    with pytest.raises(InputError, match="--device: under torchrun must be auto, cpu or cuda. Got 'cuda:0'"):
        torchrun.device_of_process("cuda:0")


def test_a_single_process_of_torchrun_is_a_command_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # set by another program
    assert torchrun.processes() == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not torchrun.is_distributed()
