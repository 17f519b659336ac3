"""How the command ends when it cannot go on: a message and an exit code, never a traceback."""

import errno
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cl_semisup import cli
from cl_semisup.errors import EngineError

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_anything_runs_ends_the_command_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, number: signal.Signals, code: int
) -> None:
    monkeypatch.setattr(cli.run, "run", lambda _: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    assert cli.main(["run", "s.yaml"]) == code
    assert f"Stopped by {number.name}. Finished runs are kept" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_a_command_that_keeps_no_runs_does_not_say_that_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(cli.gate, "run", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["gate", "s.yaml"]) == 143
    assert capsys.readouterr().err == "\nStopped by SIGTERM.\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device. Finished runs are kept."),
        (EngineError("no worker process can be started: 10 died"), "no worker process can be started: 10 died"),
    ],
)
def test_a_fault_of_the_machine_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: Exception, message: str
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(cli.list_plugins, "run", fail)
    assert cli.main(["list"]) == cli.NO_RESULTS
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "soon"])
def test_a_time_limit_is_a_number_above_zero(capsys: Capture, limit: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "s.yaml", "--run-timeout", limit])
    assert stop.value.code == cli.BAD_INPUT
    assert f"must be a number of seconds above 0. Got '{limit}'." in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("door", [["benchmark.py"], ["-m", "cl_semisup"]])
def test_ctrl_c_while_modules_are_imported_ends_the_process_without_a_traceback(
    door: list[str], tmp_path: Path
) -> None:
    (tmp_path / "argparse.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    words, root = [sys.executable, *door, "list"], Path(__file__).parents[2]
    with_signal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # these tests may run where it is ignored
    done = subprocess.run(
        words,
        check=False,
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=with_signal,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
