"""`check SUITE`: whether it is well formed, what its data are, how much is done, and how long the rest takes."""

import argparse

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.text import show, visible

HELP = "check a suite, tell its data and estimate the time left"


def add_arguments(command: argparse.ArgumentParser) -> None:
    arguments.add_suite(command)
    command.add_argument("--device", default="auto", help="device that the time is estimated for")
    command.add_argument("--workers", type=arguments.positive_int, help="processes that the time is estimated for")


def run(options: argparse.Namespace) -> int:
    from cl_semisup.results.snapshot import require_own_folder
    from cl_semisup.scheduling import describe, estimate, prepare, resolvable, scheduler
    from cl_semisup.scheduling.rounds import Rounds

    suite = arguments.read_suite(options)
    snapshot = Rounds(options.results, suite, options.data_dir).snapshot()
    require_own_folder(options.results, snapshot)
    prepare.check(suite)
    found = describe.in_full(suite)
    todo = scheduler.missing(options.results, snapshot.runs)
    stale = scheduler.describe_stale(options.results, snapshot)
    time_left = estimate.describe(options.results, suite, todo, options.device, options.workers)
    show(f"{visible(suite.file)}: no fault found.")  # only now: a fault may be found while a run is tried
    runs = len(snapshot.runs)
    if suite.in_rounds:
        what = (
            "A search" if suite.search else f"Configs are chosen in {suite.tune_repetitions} repetitions of their own"
        )
        show(f"{what}: so far it asks for {runs} of the {len(suite.runs)} runs of its full grid; more rounds follow.")
    show(f"{runs} runs, {runs - len(todo)} with a record, {len(todo)} to do.")
    for line in found:
        show(line)
    again = [line for line in (scheduler.describe_failed(options.results, snapshot), stale) if line]
    for line in again:
        show(line)
    if todo or not again:
        show(time_left)
    for sentence in resolvable.describe(options.results, suite):
        show(visible(sentence))
    return OK
