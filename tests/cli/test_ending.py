"""The command ends with its own exit code, with a word and soon, whatever the file of a plug-in does to its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.test_plugin_workers import LOSS

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys\nfrom cl_semisup.cli import command, ending\nending.WAIT_SECONDS = 0.5\ncommand()"
LEFT = "A thread or an exit handler of a plug-in has not ended after 0.5 s: left alone."


def listed(folder: Path, imports: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """`list losses` with a plug-in whose file does this when it is imported."""
    (folder / "own.py").write_text(LOSS.replace("IMPORT", imports).replace("CALL", "pass"))
    command = [sys.executable, "-c", PROGRAM, "list", "losses", "--plugin", "own.py", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=100, check=False, env=environment
    )


@pytest.mark.parametrize(
    "exit",
    [
        "os._exit(0)",
        "from os import _exit; _exit(0)",
        "import warnings; warnings.showwarning = lambda *_: os._exit(0); warnings.warn('x')",
        "raise SystemExit(0)",
        "sys = __import__('sys'); sys.exit()",
    ],
)
def test_a_file_that_ends_its_process_is_told_and_is_no_success(tmp_path: Path, exit: str) -> None:
    done = listed(tmp_path, exit)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "own.py:6: the plug-in cannot be loaded. SystemExit" in done.stderr


@pytest.mark.parametrize(
    "left",
    [
        "import threading, time; threading.Thread(target=lambda: time.sleep(1000)).start()",
        "import atexit, time; atexit.register(lambda: time.sleep(1000))",
    ],
)
def test_what_a_plug_in_leaves_running_is_not_waited_for(tmp_path: Path, left: str) -> None:
    done = listed(tmp_path, left)
    assert done.returncode == 0
    assert "  own  A user's own loss." in done.stdout
    assert done.stderr.strip() == LEFT


def test_a_handler_at_the_exit_changes_no_exit_code(tmp_path: Path) -> None:
    (tmp_path / "none.py").touch()
    done = listed(tmp_path, "import atexit; atexit.register(lambda: os._exit(0))", "--plugin", "none.py")
    assert done.returncode == 2
    assert "none.py: a plug-in" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no alarms")
def test_a_timer_that_a_file_starts_is_stopped(tmp_path: Path) -> None:
    waits = "import atexit, signal, time; signal.alarm(1); atexit.register(time.sleep, 1.5)"
    done = listed(tmp_path, waits)
    assert (done.returncode, done.stderr.strip()) == (0, LEFT)
