"""A suite from its file to its results folder: the steps that the command line and `cl_semisup.run` share."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from cl_semisup.results import records, snapshot
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling import cleanup
from cl_semisup.system import installation
from cl_semisup.text import show

if TYPE_CHECKING:
    from cl_semisup.scheduling.budget import Budget
    from cl_semisup.scheduling.rounds import Rounds
    from cl_semisup.scheduling.scheduler import Engine
    from cl_semisup.suite.suite import Suite


def read(file: Path, data_dir: str | None) -> "Suite":
    """The checked suite of a file; its notes are shown."""
    from cl_semisup.suite import suite

    found = suite.read(file, data_dir)
    for note in found.notes:
        show(note, error=True)
    return found


def snapshot_of(results: Path, file: Path, data_dir: str | None) -> SuiteSnapshot:
    """The suite's snapshot in the results folder if the file has not changed since; else made from the file.

    `file` may also be the name of a suite that has run here, or else of one that comes along.
    """
    if stored := snapshot.current(results, file, data_dir):
        return stored
    if not file.suffix and (snapshot.exists(results, str(file)) or installation.locate(file) == file):
        return snapshot.load(results, str(file))
    try:
        from cl_semisup.scheduling.rounds import Rounds  # only now: it needs torch

        return Rounds(results, read(file, data_dir), data_dir).snapshot()
    except ModuleNotFoundError as error:  # a suite is read with torch, a report is made without
        if error.name != "torch" or not (stored := snapshot.current(results, file, data_dir, own_only=False)):
            raise
        rule = "its runs cannot be compared with the suite's file without torch"
        show(f"{stored.folder(results) / 'suite.json'}: {rule}. They are believed.", error=True)
        return stored


def prepare_folder(results: Path, suite: SuiteSnapshot) -> None:
    """Check that the folder is this suite's and writable; remove what stopped commands left; keep the snapshot."""
    snapshot.require_own_folder(results, suite)
    records.check_writable(results)
    cleanup.remove_leftovers(results, suite.runs)
    suite.save(results)
    snapshot.require_own_folder(results, suite)  # another command may have begun at the same time


def execute(
    results: Path,
    suite: "Suite",
    rounds: "Rounds",
    engine: "Engine",
    plain: bool = False,
    no_wait: bool = False,
    budget: "Budget | None" = None,
) -> SuiteSnapshot:
    """Execute missing runs, of a search round by round, and write their records; the snapshot of all that were asked.

    Args:
        plain: train every run on its own, for the reference mode
        no_wait: leave runs that other commands work on to them
        budget: the time that there is; runs are then in the order of their value
    """
    from cl_semisup.scheduling import order, scheduler

    rounds.at_once = budget.slots if budget else 0
    timeout = scheduler.WAIT_TIMEOUT_SECONDS if no_wait else math.inf
    if plain:
        scheduler.run_rounds(results, rounds, engine, share=False, wait_timeout=timeout, budget=budget)
    else:
        seconds = order.expected_seconds(results, suite)
        scheduler.run_rounds(results, rounds, engine, wait_timeout=timeout, expected_seconds=seconds, budget=budget)
    return rounds.snapshot()
