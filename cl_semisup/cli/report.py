"""`report SUITE`: make the leaderboard and the report again, from the records alone."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.text import show, visible

if TYPE_CHECKING:
    from cl_semisup.results.snapshot import SuiteSnapshot

HELP = "make leaderboard and report again; nothing is run"


def add_arguments(command: argparse.ArgumentParser) -> None:
    arguments.add_suite(command)
    text = "make it again whenever runs finish, at most every SECONDS (30), until all have; an open page reloads itself"
    arguments.add_watch(command, text)


def run(options: argparse.Namespace) -> int:
    snapshot = arguments.snapshot_of(options)
    if options.watch is not None:
        from cl_semisup.report import live

        live.watch(options.results, snapshot, options.watch, lambda left: left > 0)
    return make(options.results, snapshot)


def make(results: Path, snapshot: "SuiteSnapshot") -> int:
    """Write leaderboard and report, print the tables and the names of the files."""
    from cl_semisup import report

    written = report.make(results, snapshot)
    show(written.text)
    for path in written.files:
        show(visible(path))
    return OK
