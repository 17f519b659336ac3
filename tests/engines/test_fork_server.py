"""Workers on a CPU are forked from a server that has imported all they need; no process outlives the command."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cl_semisup import cli
from cl_semisup.engines import fork_server

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not fork_server.uses_fork_server("cpu"), reason="workers are forked on Linux only")

FORK = """\
import sys
sys.path.insert(0, {root!r})
from cl_semisup.engines import fork_server

def inspect(pipe):
    import cl_semisup, torch
    from cl_semisup.engines.fork_server import PRELOADED_MODULES
    pipe.send((sorted(set(PRELOADED_MODULES) - before), cl_semisup.__file__, torch.cuda.is_initialized()))

if __name__ == "__main__":
    context = fork_server.context("cpu")
    ours, theirs = context.Pipe()
    context.Process(target=inspect, args=(theirs,)).start()
    print(*ours.recv(), sep="\\n")
else:
    before = set(sys.modules)  # the worker has imported nothing but this file yet
"""
KILL = """\
import sys
sys.path.insert(0, {root!r})
from multiprocessing import forkserver
from cl_semisup.execution.machine import Machine
from cl_semisup.engines.worker import LocalWorker

if __name__ == "__main__":
    worker = LocalWorker(Machine("cpu", "data"), ())
    print(worker.process.pid, forkserver._forkserver._forkserver_pid, flush=True)
    if sys.argv[1] == "ready":
        worker.receive()
    print("waiting", flush=True)
    sys.stdin.read()
"""


def test_workers_have_all_they_need_of_this_package_and_no_other(tmp_path: Path) -> None:
    """The server ignores a module that cannot be imported, and each worker would be slow again."""
    (tmp_path / "cl_semisup").mkdir()
    (tmp_path / "cl_semisup" / "__init__.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "torch.py").write_text("raise SystemExit('nor this')")
    (tmp_path / "fork").mkdir()
    script = tmp_path / "fork" / "fork.py"
    script.write_text(FORK.format(root=str(ROOT)))
    command = [sys.executable, str(script)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    missing, package, cuda = process.stdout.splitlines()
    assert missing == "[]"
    assert Path(package).parent == ROOT / "cl_semisup"
    assert cuda == "False"  # else no forked process could use a GPU


@pytest.mark.parametrize("when", ["starting", "ready"])
def test_a_killed_command_leaves_no_process(tmp_path: Path, when: str) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILL.format(root=str(ROOT)))
    with subprocess.Popen(
        [sys.executable, str(script), when], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        pids = [int(word) for word in command.stdout.readline().split()]
        assert command.stdout.readline() == "waiting\n"
        command.kill()
    deadline = time.monotonic() + 60
    while any(map(_is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_fork_server_survives_signals_to_all_processes(tmp_path: Path) -> None:
    """A scheduler's SIGTERM and a terminal's Ctrl-C go to the server too; all workers would end with it."""
    fork_server.start()
    from multiprocessing import forkserver

    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    for number in fork_server.BLOCKED_SIGNALS:
        os.kill(pid, number)
    context = fork_server.context("cpu")
    process = context.Process(target=os._exit, args=(3,))  # type: ignore[attr-defined]
    process.start()
    process.join()
    assert process.exitcode == 3
    assert forkserver._forkserver._forkserver_pid == pid  # type: ignore[attr-defined]


def test_a_gpu_gets_spawned_workers_and_no_server_is_started_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fork_server.context("cuda:1").get_start_method() == "spawn"
    started: list[int] = []
    monkeypatch.setattr(fork_server, "start", lambda: started.append(1))
    monkeypatch.setattr(fork_server, "GPU_DRIVER_FILES", ("/dev/null",))  # a driver's file is there
    fork_server.start_early("auto")
    fork_server.start_early("cuda")
    assert not started
    fork_server.start_early("cpu")
    monkeypatch.setattr(fork_server, "GPU_DRIVER_FILES", ())
    fork_server.start_early("auto")
    assert len(started) == 2


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_suite_that_is_done_starts_no_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(fork_server, "start_early", started.append)
    arguments = [str(ROOT / "tests" / "tiny.yaml"), "--results", str(tmp_path), "--workers", "1"]
    assert cli.main(arguments) == 0
    assert started == ["auto"]
    assert cli.main(arguments) == 0
    assert cli.main([*arguments, "--redo", "stale"]) == 0
    assert started == ["auto"]
    assert cli.main([*arguments, "--redo", "all"]) == 0
    assert started == ["auto"] * 2


def test_two_threads_that_start_workers_leave_the_program_as_it_was() -> None:
    program, both_began = sys.modules["__main__"], threading.Barrier(2)

    def start() -> None:
        both_began.wait(10)
        for _ in range(200):
            with fork_server.no_main_module():
                assert not hasattr(sys.modules["__main__"], "__file__")

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sys.modules["__main__"] is program
