"""Arguments that several commands share, and the numbers they accept."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from cl_semisup.text import show

if TYPE_CHECKING:
    from cl_semisup.results.snapshot import SuiteSnapshot
    from cl_semisup.suite.suite import Suite

WATCH_SECONDS = 30.0


def add_suite(command: argparse.ArgumentParser, positional: bool = True) -> None:
    """Add the suite, its results folder, and the options of `add_reading`."""
    if positional:
        command.add_argument("suite", type=Path, help="a suite's YAML file")
    command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add_reading(command)


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
    from cl_semisup.suite import suite

    load_plugins(options)
    found = suite.read(options.suite, options.data_dir)
    for note in found.notes:
        show(note, error=True)
    return found


def snapshot_of(options: argparse.Namespace) -> "SuiteSnapshot":
    """The suite's snapshot in the results folder if the file has not changed since; else made from the file."""
    from cl_semisup.results import snapshot

    load_plugins(options)
    file, data_dir = options.suite, options.data_dir
    if stored := snapshot.current(options.results, file, data_dir):
        return stored
    if not file.suffix:
        return snapshot.load(options.results, str(file))
    try:
        suite = read_suite(options)
        if suite.search is None:
            return snapshot.SuiteSnapshot.of(suite, data_dir)
        from cl_semisup.scheduling.rounds import Rounds

        return Rounds(options.results, suite, data_dir).snapshot()
    except ModuleNotFoundError as error:  # a suite is read with torch, a report is made without
        if error.name != "torch" or not (stored := snapshot.current(options.results, file, data_dir, own_only=False)):
            raise
        rule = "its runs cannot be compared with the suite's file without torch"
        show(f"{stored.folder(options.results) / 'suite.json'}: {rule}. They are believed.", error=True)
        return stored


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
