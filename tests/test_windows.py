"""What can be tested of Windows without it: nothing needs a module or function that Python lacks there.

Not tested here: drives, junctions, locked files, and torch's own behaviour on Windows (docs/install.md).
"""

import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import pytest

from cl_semisup.engines import worker_main

ROOT = Path(__file__).parents[1]
# Libraries are imported before: they have code of their own for Windows.
WITHOUT = """
import importlib, multiprocessing.forkserver, multiprocessing.resource_tracker, os, pkgutil, signal, sys
import PIL.Image, pandas, pydantic, scipy.optimize, sklearn.datasets, sklearn.linear_model, torch, torchvision, tqdm, yaml
import jinja2, subprocess, tempfile, torch._dynamo

class Lacks:
    def find_spec(self, name, *_):
        if name in ("fcntl", "resource", "pwd", "grp", "termios"):
            raise ModuleNotFoundError(name, name=name)

for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Lacks())
for name in ("O_CLOEXEC O_NOFOLLOW O_DIRECTORY O_NONBLOCK getuid geteuid fork register_at_fork nice statvfs "
             "sched_getaffinity killpg getpgid setsid mkfifo").split():
    delattr(os, name)
for name in "pthread_sigmask SIG_BLOCK SIG_UNBLOCK SIGKILL SIGUSR1 SIGHUP".split():
    delattr(signal, name)
multiprocessing.resource_tracker._HAVE_SIGMASK = False
os.supports_dir_fd, os.supports_follow_symlinks = set(), {os.stat}

import cl_semisup
for module in pkgutil.walk_packages(cl_semisup.__path__, "cl_semisup."):
    if not module.name.endswith(("__main__", "ray_engine", "pytest_plugin")) and ".exporters." not in module.name:
        importlib.import_module(module.name)
from cl_semisup.cli import main
sys.exit(main(["list", "suites"]))
"""


def test_every_module_is_imported_without_what_windows_lacks() -> None:
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout


@pytest.mark.parametrize("bytes_", [True, False])
def test_answers_come_whole_through_pipes_of_bytes_and_of_messages(
    bytes_: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_main, "BYTE_PIPES", bytes_)
    ours, theirs = Pipe()
    worker_main.write(theirs, b"an answer")
    assert worker_main.read(ours) == b"an answer"
    theirs.close()
    assert worker_main.read(ours) == b""
