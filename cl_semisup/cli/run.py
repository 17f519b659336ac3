"""`run SUITE` (the default command): execute a suite's runs and make its leaderboard."""

import argparse
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_semisup.cli import arguments, engine, export, report, time_budget
from cl_semisup.cli.exit_codes import SOME_FAILED
from cl_semisup.engines import torchrun
from cl_semisup.system import installation
from cl_semisup.text import show, visible

if TYPE_CHECKING:
    from cl_semisup.results.snapshot import SuiteSnapshot
    from cl_semisup.scheduling.budget import Budget
    from cl_semisup.scheduling.rounds import Rounds
    from cl_semisup.suite.run import Run
    from cl_semisup.suite.suite import Suite

MAX_NAMED_FAILURES = 10
MAX_REASON_LENGTH = 300  # characters
HELP = "run a suite and make its leaderboard (the default command)"


def add_arguments(command: argparse.ArgumentParser, help_all: bool) -> None:
    """Add all options. `--help` shows those that most people need, `--help-all` those of `_add_advanced` as well."""
    command.usage = f"{installation.COMMAND[-1]} [run] SUITE [options]"
    arguments.add_suite(command)
    add = command.add_argument
    add("--device", default="auto", help="cpu, cuda, cuda:1 or mps; default: the fastest")
    add("--workers", type=arguments.positive_int, help="runs at once; default: one a core; on a GPU what pays")
    redo = "do again: failed runs, runs whose code or data have changed (stale), or all"
    add("--redo", choices=("none", "failed", "stale", "all"), default="none", help=redo)
    budget = "begin only what is expected to end in this time, the most valuable first: 2h, 90m, 45s"
    add("--budget", type=arguments.duration, metavar="TIME", help=budget)
    arguments.add_watch(command, "update the report while runs finish, at most every SECONDS (30)")
    add("--help-all", action="help", help="show all options, also those for speed, limits and clusters")
    _add_advanced(command, help_all)


def _add_advanced(command: argparse.ArgumentParser, help_all: bool) -> None:
    """Add the options that only `--help-all` shows, in groups."""

    def new_group(title: str) -> Callable[..., Any]:
        add = command.add_argument_group(title if help_all else None).add_argument
        return lambda name, text, **keywords: add(name, help=text if help_all else argparse.SUPPRESS, **keywords)

    add = new_group("speed")
    text = "threads of a worker; by default 1 on a CPU. Others change the last digits"
    add("--threads", text, type=arguments.positive_int)
    text = "as many runs at once as fit in the GPU's memory, judged by the peak of the first one, at most --workers"
    add("--fill-gpu", f"{text}; not tried on a GPU", action="store_true")
    text = "compile the encoder, for long runs on a GPU (not tried on one); on a CPU it gains nothing"
    add("--compile", text, action="store_true")
    add("--no-channels-last", "keep the network's default memory layout", action="store_true")
    text = "reference mode: switch off everything that only serves speed (shared trainings, forks, autocast, kernels"
    add("--plain", f"{text}, fused steps), to compare with", action="store_true")

    add = new_group("limits")
    text = "a run that takes longer than this has failed; by default there is no limit"
    add("--run-timeout", text, type=arguments.positive_seconds, default=math.inf, metavar="SECONDS")
    text = "time between two saved states of a long run; default: 60"
    add("--checkpoint-seconds", text, type=arguments.positive_seconds, default=60.0, metavar="SECONDS")
    text = "train to the end also what has collapsed or diverged beyond return (docs/search.md)"
    add("--no-early-stop", text, action="store_true")
    text = "leave when only runs that other commands work on are left; by default wait for them"
    add("--no-wait", text, action="store_true")

    add = new_group("other programs (docs/records.md)")
    text = f"log finished runs to {', '.join(export.PROGRAMS)} as they come; offline, in <results>/<suite>/PROGRAM"
    add("--log-to", text, choices=export.PROGRAMS)

    add = new_group("clusters (docs/scaling.md)")
    text = "what executes runs: processes of this machine, or a Ray cluster"
    add("--engine", text, choices=("local", "ray"), default="local")
    add("--address", "of a Ray cluster; by default the one of this machine, else one is started here")
    text = "CPUs of a run on a cluster; default: 1"
    add("--run-cpus", text, type=arguments.resource_count, default=1.0, metavar="N")
    text = "GPUs of a run on a cluster, 0.25 for instance; by default 1 if it runs on a GPU"
    add("--run-gpus", text, type=arguments.resource_count, metavar="N")
    text = "print a SLURM script that runs the suite as an array on a shared results folder, and stop"
    add("--print-sbatch", text, action="store_true")


def run(options: argparse.Namespace) -> int:
    from cl_semisup.engines import fork_server
    from cl_semisup.scheduling import suite_run
    from cl_semisup.scheduling.rounds import Rounds

    began = time.monotonic()
    if options.log_to:
        from cl_semisup.report import exporters

        exporters.require(options.log_to)
    if options.engine == "local" and not (options.plain or options.print_sbatch or torchrun.is_distributed()):
        if finished := finished_snapshot(options):
            suite_run.prepare_folder(options.results, finished)
            _print_counts(options, finished, 0)
            return _finish(options, finished)
        fork_server.start_early(options.device)
    suite = arguments.read_suite(options)
    rounds = Rounds(options.results, suite, options.data_dir, options.redo)
    snapshot = rounds.snapshot()
    suite_run.prepare_folder(options.results, snapshot)
    todo = rounds.todo(snapshot)
    if options.print_sbatch:
        return engine.print_sbatch(options, suite, todo)
    _print_counts(options, snapshot, len(todo))
    if suite.keep != "none" and (lacking := _without_network(options.results, snapshot.runs, todo)):
        again = "`--redo all` trains them again"
        show(f"keep: {lacking} finished runs have no network, since they were trained without `keep`; {again}.")
    budget = None
    if todo:
        threading.Thread(target=import_module, args=["cl_semisup.report"]).start()  # takes a second; workers train
        with _live_report(options, snapshot.name), _live_log(options, snapshot.name):
            snapshot, budget = _execute(options, suite, rounds, began)
    code = _finish(options, snapshot)
    if budget:
        time_budget.show_open(options, snapshot, budget)
    return code


def _without_network(results: Path, runs: Iterable["Run"], todo: list["Run"]) -> int:
    """The number of trained runs that are done and whose weights were not kept."""
    from cl_semisup.execution import keep

    left = {run.id for run in todo}
    return sum(bool(run.epochs) and run.id not in left and not keep.path_of(results, run).exists() for run in runs)


def _finish(options: argparse.Namespace, snapshot: "SuiteSnapshot") -> int:
    """Make the report; as long as a run of the suite is failed, say which, why and what to do."""
    from cl_semisup.results import records
    from cl_semisup.scheduling import progress

    code = report.make(options.results, snapshot)
    failed = records.failures(options.results, snapshot.runs)
    if not failed:
        return code
    show(f"\n{len(failed)} of {len(snapshot.runs)} runs failed:")
    for run, reason in failed[:MAX_NAMED_FAILURES]:
        show(f"  {progress.describe_run(run)}: {visible(reason)[:MAX_REASON_LENGTH]}")
    if more := failed[MAX_NAMED_FAILURES:]:
        show(f"  ... and {len(more)} more.")
    redo = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    redo.add_argument("--redo")
    words = [*redo.parse_known_args(options.arguments)[1], "--redo", "failed"]
    show(f"To do them again: {visible(shlex.join([*installation.COMMAND, *words]))}")
    return SOME_FAILED


def finished_snapshot(options: argparse.Namespace) -> "SuiteSnapshot | None":
    """The suite's snapshot if this code has read the file before and every run has its record: then no torch is needed.

    A user's own plug-ins are not part of this code, so a suite with such plug-ins is read again.
    """
    from cl_semisup.results import protocol, snapshot
    from cl_semisup.scheduling import scheduler

    if options.plugin:
        return None
    stored = snapshot.current(options.results, options.suite, options.data_dir)
    if not stored or (stored.file, stored.data_dir) != (str(options.suite), options.data_dir):
        return None
    if stored.in_rounds or protocol.uses_users_own(stored.runs):  # whether more follow is read from the suite's file
        return None
    todo = scheduler.missing(options.results, stored.runs, options.redo, stored.data_folder)
    return None if todo else stored


def _print_counts(options: argparse.Namespace, snapshot: "SuiteSnapshot", left: int) -> None:
    from cl_semisup.scheduling import scheduler

    kind = "runs"
    if snapshot.in_rounds:
        so_far = "of this search so far" if snapshot.search else "so far"
        kind = f"runs {so_far} (its full grid has {snapshot.grid_runs})"
    show(f"{visible(snapshot.name)}: {len(snapshot.runs)} {kind}, {len(snapshot.runs) - left} done, {left} to run.")
    if options.redo in ("none", "failed") and (stale := scheduler.describe_stale(options.results, snapshot)):
        show(stale)


def _live_report(options: argparse.Namespace, name: str) -> AbstractContextManager[None]:
    """With `--watch`, a process that updates the report while runs finish."""
    if options.watch is None:
        return nullcontext()
    from cl_semisup.report import live

    return live.watch_in_background(options.results, name, options.watch)


def _live_log(options: argparse.Namespace, name: str) -> AbstractContextManager[None]:
    """With `--log-to`, a process that hands finished runs to another program."""
    if options.log_to is None:
        return nullcontext()
    from cl_semisup.report.exporters import live

    return live.in_background(options.results, name, options.log_to)


def _execute(
    options: argparse.Namespace, suite: "Suite", rounds: "Rounds", began: float
) -> tuple["SuiteSnapshot", "Budget | None"]:
    """Execute the missing runs, of a search round by round; the snapshot of all that were asked."""
    from cl_semisup.scheduling import describe, prepare, suite_run

    first = rounds.todo(rounds.snapshot())
    prepare.datasets(suite, list(suite.runs) if suite.in_rounds else first)
    for line in describe.in_short(suite):
        show(line)
    chosen = engine.choose(options, suite, len(suite.runs) if suite.in_rounds else len(first))
    budget = time_budget.make(options, suite, first, chosen.slots, began)
    return suite_run.execute(options.results, suite, rounds, chosen, options.plain, options.no_wait, budget), budget
