"""How the command ends when it cannot go on: a word and an exit code, never a traceback."""

import errno
import os
import signal

import pytest

from cl_semisup import cli
from cl_semisup.errors import EngineError

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_anything_runs_leaves_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, number: signal.Signals, code: int
) -> None:
    monkeypatch.setattr(cli, "_run", lambda _: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    assert cli.main(["run", "s.yaml"]) == code
    assert f"Stopped by {number.name}. Finished runs are kept" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_a_command_that_keeps_nothing_does_not_say_so(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(cli, "_gate", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["gate", "s.yaml"]) == 143
    assert capsys.readouterr().err == "\nStopped by SIGTERM.\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device. Finished runs are kept."),
        (EngineError("no worker process can be started: 10 died"), "no worker process can be started: 10 died"),
    ],
)
def test_a_machine_that_cannot_go_on_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: Exception, words: str
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_list", fail)
    assert cli.main(["list"]) == cli.NO_RESULTS
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("word", ["0", "-1", "nan", "soon"])
def test_a_time_limit_is_a_time(capsys: Capture, word: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "s.yaml", "--run-timeout", word])
    assert stop.value.code == cli.BAD_INPUT
    assert f"must be a number of seconds above 0. Got '{word}'." in capsys.readouterr().err
