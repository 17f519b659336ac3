"""Arguments that several commands share, and the numbers they accept."""

import argparse
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cl_semisup.errors import InputError
from cl_semisup.system import installation

if TYPE_CHECKING:
    from cl_semisup.results.snapshot import SuiteSnapshot
    from cl_semisup.suite.suite import Suite

WATCH_SECONDS = 30.0


def add_suite(command: argparse.ArgumentParser, positional: bool = True) -> None:
    """Add the suite, its results folder, and the options of `add_reading`."""
    if positional:
        text = "a suite's YAML file, or the name of one that comes along (`list suites`)"
        command.add_argument("suite", type=Path, help=text).completer = complete_suite  # type: ignore[attr-defined]
    command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add_reading(command)


def complete_suite(prefix: str, **_: object) -> list[str]:
    """What a shell may complete this to: suites that come along, and files (argcomplete)."""
    files = (
        [str(path) + "/" * path.is_dir() for path in sorted(Path().glob(f"{prefix}*"))] if ".." not in prefix else []
    )
    return [name for name in installation.suites() if name.startswith(prefix)] + files


def add_reading(command: argparse.ArgumentParser) -> None:
    """Add the options that change how a suite is read; every command that reads a suite has them."""
    command.add_argument("--data-dir", metavar="DIR", help="folder of data sets; overrides the suite's data_dir")
    add_plugin(command)


def add_plugin(command: argparse.ArgumentParser) -> None:
    text = "a loss, data set, encoder, optimizer, probe or view of your own, one file; its code is run"
    command.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE", help=text)


def add_watch(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--watch", nargs="?", const=WATCH_SECONDS, type=positive_seconds, metavar="SECONDS", help=text)


def read_suite(options: argparse.Namespace) -> "Suite":
    """The checked suite of these options."""
    from cl_semisup.scheduling import suite_run

    load_plugins(options)
    return suite_run.read(options.suite, options.data_dir)


def snapshot_of(options: argparse.Namespace) -> "SuiteSnapshot":
    """The suite's snapshot in the results folder if the file has not changed since; else made from the file."""
    from cl_semisup.scheduling import suite_run

    load_plugins(options)
    return suite_run.snapshot_of(options.results, options.suite, options.data_dir)


def load_plugins(options: argparse.Namespace) -> None:
    """Register the files of `--plugin`; this runs their code."""
    from cl_semisup import plugins

    for path in options.plugin:
        plugins.add(path)


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1. Got {text!r}.")
    return int(text)


def positive_seconds(text: str) -> float:
    """A number of seconds above 0."""
    return _above_zero(text, "of seconds ")


UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """`2h`, `90m` or `45s` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"must be a time above 0 with its unit, like 2h, 90m or 45s. Got {text!r}.")
    return float(found[1]) * UNITS[found[2]]


def resource_count(text: str) -> float:
    """CPUs or GPUs of a run: whole, or a fraction below 1."""
    number = _above_zero(text)
    if number > 1 and number % 1:
        raise argparse.ArgumentTypeError(f"must be a whole number or below 1. Got {text!r}.")
    return number


def _above_zero(text: str, unit: str = "") -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"must be a number {unit}above 0. Got {text!r}.")
    return number


def check_folder(option: str, path: Path) -> None:
    """InputError where files shall be written into what is there and is no folder, and into a link to nowhere."""
    if os.path.lexists(path) and not os.path.isdir(path):
        found = "a file" if os.path.exists(path) else "a link to nowhere"
        raise InputError(f"{option}: must be a folder, or none yet. Got {found}, {str(path)!r}. Name another one.")
