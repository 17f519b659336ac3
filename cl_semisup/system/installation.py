"""Where this package lies: in a checkout, or installed. The suites that come along, and the command that runs it.

In a checkout the suites lie in `suites/` beside the package; the wheel brings the same files inside it.
"""

import os
import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
IN_CHECKOUT = not (PACKAGE / "suites").is_dir()
HOME = PACKAGE.parent if IN_CHECKOUT else PACKAGE  # the folder that holds `suites/`
COMMAND = ("python", "benchmark.py") if IN_CHECKOUT else ("cl-semisup",)
_QUESTION = re.compile(r"^question: *(?:>-?\n)?((?:.*\n)(?:[ \t]+.*\n)*)", re.MULTILINE)


@cache
def suites() -> dict[str, Path]:
    """Name -> file of every suite that comes along, such as `quickstart` and `small/fractions`."""
    folder = HOME / "suites"
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def question(name: str) -> str:
    """The question of a suite that comes along, on one line; read without checking the suite."""
    found = _QUESTION.search(suites()[name].read_text("utf-8"))
    return " ".join(found.group(1).split()) if found else ""


def locate(suite: str | Path) -> Path:
    """The file of a suite: the path itself, or, where no such file is, that of the suite that comes along."""
    path = Path(suite)
    return path if os.path.isfile(path) else suites().get(path.as_posix(), path)


def data_dir(suite: str | Path, folder: str) -> str:
    """Where a suite reads its data. One that comes along may name a folder that does too, such as `suites/data`."""
    path = locate(suite)
    brought = HOME / folder
    if Path(folder).is_absolute() or os.path.isdir(folder) or not os.path.isdir(brought):
        return folder
    return str(brought) if path.resolve().is_relative_to(HOME.resolve() / "suites") else folder
