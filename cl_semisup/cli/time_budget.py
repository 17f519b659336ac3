"""The option `--budget` of `run`: what the time is enough for, and what it leaves open."""

import argparse
import time
from typing import TYPE_CHECKING

from cl_semisup.engines import torchrun
from cl_semisup.text import show

if TYPE_CHECKING:
    from cl_semisup.results.snapshot import SuiteSnapshot
    from cl_semisup.scheduling.budget import Budget
    from cl_semisup.suite.run import Run
    from cl_semisup.suite.suite import Suite


def make(options: argparse.Namespace, suite: "Suite", todo: list["Run"], slots: int, began: float) -> "Budget | None":
    """The time that a command has, which began then; None without the option.

    On a cluster, whose devices are elsewhere, finished runs alone tell what to expect.
    """
    if options.budget is None:
        return None
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.scheduling import estimate
    from cl_semisup.scheduling.budget import Budget
    from cl_semisup.scheduling.progress import format_duration

    device = choose_device(options.device) if options.engine == "local" and not torchrun.is_distributed() else None
    expected = estimate.expected(options.results, suite, todo, device)
    show(f"Budget: {format_duration(options.budget)}. A run begins only while it is expected to end in time.")
    return Budget(options.budget, expected, slots, began, time.monotonic)


def show_open(options: argparse.Namespace, snapshot: "SuiteSnapshot", budget: "Budget") -> None:
    """What the budget left open, as a table."""
    from cl_semisup.report import open_runs
    from cl_semisup.report.search_result import search_result
    from cl_semisup.scheduling import scheduler
    from cl_semisup.scheduling.progress import format_duration

    left = scheduler.missing(options.results, snapshot.runs)
    words = format_duration(budget.seconds), format_duration(budget.rest(left))
    searched = search_result(options.results, snapshot)
    show("\n" + open_runs.text(snapshot, {run.id for run in left}, *words, searched))
