"""A plug-in that forks: its copy of this process ends where it would go on with what this package does."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cl_semisup import plugins
from cl_semisup.plugins import copies

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are asked for on Linux")
FILE = '''
import os, sys
from dataclasses import dataclass

made = []
AT_IMPORT

@dataclass(frozen=True)
class Own:
    """A user's own loss."""

    def __call__(self, z1, z2, labels=None):
        return 0
'''


def plugin_module(tmp_path: Path, at_import: str) -> Any:
    (tmp_path / "own.py").write_text(FILE.replace("AT_IMPORT", at_import))
    plugins.add(tmp_path / "own.py")
    return sys.modules["cl_semisup_plugin_losses_own"]


@pytest.mark.parametrize(
    "code",
    [
        "made.append(os.fork())",
        "made.append(os.fork())\nif not made[0]:\n    raise SystemExit(3)",
        "class Fork:\n    def __del__(self):\n        made.append(os.fork())\nFork()",
        "def yields():\n    made.append(os.fork())\n    yield\n    yield\nlist(yields())",
    ],
)
def test_a_copy_ends_where_the_code_that_forked_ends(tmp_path: Path, forget_plugins: None, code: str) -> None:
    (copy,) = plugin_module(tmp_path, code).made
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == copies.ENDED


def test_a_copy_does_its_own_work_first_and_may_end_by_itself(tmp_path: Path, forget_plugins: None) -> None:
    work = (
        f"made.append(os.fork())\nif not made[0]:\n    open({str(tmp_path / 'done')!r}, 'w').close()\n    os._exit(7)"
    )
    (copy,) = plugin_module(tmp_path, work).made
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 7
    assert (tmp_path / "done").exists()


def test_ended_copies_are_forgotten_and_other_children_are_not(tmp_path: Path, forget_plugins: None) -> None:
    module = plugin_module(tmp_path, "made.append(os.fork())")
    os.waitid(os.P_PID, module.made[0], os.WEXITED | os.WNOWAIT)
    other = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", ""])
    copies._forget_ended()
    with pytest.raises(ChildProcessError):
        os.waitpid(module.made[0], 0)
    assert os.waitpid(other, 0)[0] == other


def test_what_this_package_forks_itself_goes_on(tmp_path: Path, forget_plugins: None) -> None:
    plugin_module(tmp_path, "pass")
    ours: dict[str, Any] = {"__name__": "cl_semisup.contract", "os": os}
    exec("def fork():\n    return os.fork()", ours)
    exec("def goes_on(fork):\n    if not (copy := fork()):\n        os._exit(5)\n    return copy", ours)
    copy = ours["goes_on"](ours["fork"])
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 5
