"""What a record says of where it was made: versions, machine, commit."""

import platform
import subprocess
from functools import cache
from typing import Any

import torch

from cl_semisup.plugins import PACKAGE
from cl_semisup.version import __version__


@cache
def environment() -> dict[str, Any]:
    """Versions, machine and commit of this process."""
    commit, clean = _commit()
    return {
        "package": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "commit": commit,
        "clean": clean,
    }


def _commit() -> tuple[str, bool]:
    """The checkout's commit and whether the package in it is unchanged; ("", False) outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD"), not git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return "", False
