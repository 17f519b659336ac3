"""`run SUITE` (the default command): run what a suite asks and make its leaderboard."""

import argparse
import math
import threading
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_semisup.cli import arguments, engine, report
from cl_semisup.cli.exit_codes import SOME_FAILED
from cl_semisup.engines import torchrun

if TYPE_CHECKING:
    from cl_semisup.results.snapshot import SuiteSnapshot
    from cl_semisup.suite.run import Run
    from cl_semisup.suite.suite import Suite

HELP = "run what a suite asks and make its leaderboard (the default command)"


def add_arguments(command: argparse.ArgumentParser, everything: bool) -> None:
    """`--help` shows what most people need; `--help-all` (`everything`) also shows the groups below."""
    command.usage = "benchmark.py [run] SUITE [options]"
    arguments.add_suite(command)
    add = command.add_argument
    add("--device", default="auto", help="cpu, cuda, cuda:1 or mps; by default the fastest there is")
    add("--workers", type=arguments.positive, help="runs at once; default: one a core, or one a GPU")
    redo = "do again: failed runs, runs whose code has changed (stale), or all"
    add("--redo", choices=("none", "failed", "stale", "all"), default="none", help=redo)
    arguments.add_watch(command, "update the report while runs finish, at most every SECONDS (30)")
    add("--help-all", action="help", help="show all options, also those for speed, limits and clusters")
    for title, options in GROUPS.items():
        group = command.add_argument_group(title if everything else None)
        for name, keywords in options.items():
            group.add_argument(name, **keywords if everything else keywords | {"help": argparse.SUPPRESS})


GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "speed": {
        "--threads": {
            "type": arguments.positive,
            "help": "threads of a worker; by default 1 on a CPU. Others change the last digits",
        },
        "--fill-gpu": {
            "action": "store_true",
            "help": "as many runs at once as fit in the GPU's memory, judged by the peak of the first one, at most "
            "--workers; not tried on a GPU",
        },
        "--compile": {
            "action": "store_true",
            "help": "compile the encoder, for long runs on a GPU (not tried on one); on a CPU it gains nothing",
        },
        "--no-channels-last": {"action": "store_true", "help": "keep the network's default memory layout"},
        "--plain": {
            "action": "store_true",
            "help": "reference mode: switch off everything that only serves speed (shared trainings, forks, autocast, "
            "kernels, fused steps), to compare with",
        },
    },
    "limits": {
        "--run-timeout": {
            "type": arguments.seconds,
            "default": math.inf,
            "metavar": "SECONDS",
            "help": "a run that takes longer than this has failed; by default there is no limit",
        },
        "--checkpoint-seconds": {
            "type": arguments.seconds,
            "default": 60.0,
            "metavar": "SECONDS",
            "help": "time between two saved states of a long run; default: 60",
        },
        "--no-wait": {
            "action": "store_true",
            "help": "leave when only runs that other commands work on are left; by default wait for them",
        },
    },
    "clusters (docs/scaling.md)": {
        "--engine": {
            "choices": ("local", "ray"),
            "default": "local",
            "help": "what executes runs: processes of this machine, or a Ray cluster",
        },
        "--address": {"help": "of a Ray cluster; by default the one of this machine, else one is started here"},
        "--run-cpus": {
            "type": arguments.share,
            "default": 1.0,
            "metavar": "N",
            "help": "CPUs of a run on a cluster; default: 1",
        },
        "--run-gpus": {
            "type": arguments.share,
            "metavar": "N",
            "help": "GPUs of a run on a cluster, 0.25 for instance; by default 1 if it runs on a GPU",
        },
        "--print-sbatch": {
            "action": "store_true",
            "help": "print a SLURM script that runs the suite as an array on a shared results folder, and stop",
        },
    },
}


def run(options: argparse.Namespace) -> int:
    from cl_semisup.engines import fork_server
    from cl_semisup.results.snapshot import SuiteSnapshot
    from cl_semisup.scheduling import scheduler

    elsewhere = options.engine != "local" or options.plain or options.print_sbatch or torchrun.started()
    if not elsewhere:
        if done := finished(options):
            _prepare_folder(options.results, done)
            print(_count(done, 0))
            return report.make(options.results, done)
        fork_server.start_early(options.device)
    suite = arguments.read_suite(options)
    snapshot = SuiteSnapshot.of(suite, options.data_dir)
    _prepare_folder(options.results, snapshot)
    todo = scheduler.missing(options.results, snapshot.runs, options.redo)
    if options.print_sbatch:
        return engine.print_sbatch(options, suite, todo)
    print(_count(snapshot, len(todo)), flush=True)
    failed = 0
    if todo:
        threading.Thread(target=import_module, args=["cl_semisup.report"]).start()  # takes a second; workers train
        with _live_report(options, snapshot.name):
            failed = _execute(options, suite, todo)
    return max(report.make(options.results, snapshot), SOME_FAILED if failed else 0)


def finished(options: argparse.Namespace) -> "SuiteSnapshot | None":
    """The suite's snapshot if this code has read the file before and every run has its record: then no torch is needed.

    Plug-ins are no part of this code, so a suite that needs them is read again.
    """
    from cl_semisup.results import snapshot
    from cl_semisup.scheduling import scheduler

    if options.plugin:
        return None
    stored = snapshot.current(options.results, options.suite, options.data_dir)
    asked = (str(options.suite), options.data_dir, snapshot.code_hash())
    if not stored or (stored.file, stored.data_dir, stored.code) != asked:
        return None
    return None if scheduler.missing(options.results, stored.runs, options.redo) else stored


def _prepare_folder(results: Path, snapshot: "SuiteSnapshot") -> None:
    """Make the results folder ready for a suite."""
    from cl_semisup.results import records
    from cl_semisup.scheduling import cleanup

    records.check_writable(results)
    cleanup.results(results, snapshot.runs)
    snapshot.save(results)


def _count(snapshot: "SuiteSnapshot", left: int) -> str:
    return f"{snapshot.name}: {len(snapshot.runs)} runs, {len(snapshot.runs) - left} done, {left} to run."


def _live_report(options: argparse.Namespace, name: str) -> AbstractContextManager[None]:
    """With `--watch`: the process that updates the report while runs finish."""
    if options.watch is None:
        return nullcontext()
    from cl_semisup.report import live

    return live.watch_in_background(options.results, name, options.watch)


def _execute(options: argparse.Namespace, suite: "Suite", todo: list["Run"]) -> int:
    """Run what is missing; the number of runs that failed."""
    from cl_semisup.scheduling import order, prepare, scheduler

    prepare.datasets(suite, todo)
    chosen = engine.choose(options, suite, len(todo))
    patience = scheduler.PATIENCE if options.no_wait else math.inf
    if options.plain:
        return scheduler.run_all(options.results, todo, chosen, share=False, patience=patience).failed
    length = order.expected(options.results, suite)
    return scheduler.run_all(options.results, todo, chosen, patience=patience, length=length).failed
