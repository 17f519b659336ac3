"""The command line: parse, call, print; errors of the user become a message and an exit code, never a traceback."""

import argparse
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cl_semisup import __version__
from cl_semisup.errors import EngineError, InputError, ResultsError
from cl_semisup.execution import stop, torchrun

if TYPE_CHECKING:
    from cl_semisup.execution.conduct import Engine
    from cl_semisup.execution.machine import Machine
    from cl_semisup.run import Run
    from cl_semisup.selection import Selection
    from cl_semisup.suite import Suite

OK, SOME_FAILED, BAD_INPUT, NO_RESULTS = 0, 1, 2, 3
COMMANDS = ("run", "check", "report", "compare", "export", "list", "check-loss", "gate", "schema")
EPILOG = """exit codes: 0 all runs are done; 1 a run failed; 2 bad input; 3 results cannot be read or written, or no
worker starts; 130 Ctrl-C; 143 SIGTERM (a scheduler's pre-emption: put the job back in the queue).
Finished runs are never repeated: stop with Ctrl-C at any time, and start the same command again to go on. Unfinished
runs save their state and go on from it; a second Ctrl-C leaves at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; `benchmark.py SUITE` means `benchmark.py run SUITE`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in COMMANDS and not words[0].startswith("-"):
        words.insert(0, "run")
    options = _parser().parse_args(words)
    options.words = words
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        with stop.at_once(), torchrun.led():
            if torchrun.follower():
                return torchrun.follow(options.device, options.plugin) if command is _run else OK
            return command(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except (ResultsError, EngineError) as error:
        print(error, file=sys.stderr)
        return NO_RESULTS
    except stop.Stopped as error:
        kept = " Finished runs are kept; start the same command again to go on." if command is _run else ""
        print(f"\nStopped by {error}.{kept}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:  # of the machine and not of a run: a full disk, a folder that is gone
        print(f"{error.filename or 'output'}: {error.strerror or error}. Finished runs are kept.", file=sys.stderr)
        return NO_RESULTS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Benchmark contrastive losses with few labels: a suite asks, runs answer, a leaderboard compares.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cl_semisup {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, does: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, epilog=EPILOG)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.set_defaults(command=does)
        return command

    run = add("run", _run, "run what a suite asks and make its leaderboard (the default: `benchmark.py SUITE`)")
    _suite_options(run)
    run.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or mps; by default the fastest there is")
    run.add_argument("--workers", type=_positive, help="runs at once; by default one a core on a CPU, one on a GPU")
    fill = (
        "as many runs at once as the GPU's memory holds by the first one's peak, --workers at most; not tried on a GPU"
    )
    run.add_argument("--fill-gpu", action="store_true", help=fill)
    compiled = "compile the encoder, for long runs on a GPU (not tried on one); on a CPU it gains nothing"
    run.add_argument("--compile", action="store_true", help=compiled)
    run.add_argument("--no-channels-last", action="store_true", help="keep the network's default memory layout")
    plain = (
        "nothing that is there for speed alone (shared trainings, forks, autocast, fused steps, ...), to compare with"
    )
    run.add_argument("--plain", action="store_true", help=plain)
    run.add_argument("--threads", type=_positive, help="of a worker; by default 1 on a CPU. Others move last digits")
    limit = "a run that takes longer since its start has failed; by default there is no limit"
    run.add_argument("--run-timeout", type=_seconds, default=math.inf, metavar="SECONDS", help=limit)
    every = "time between two saved states of a run that takes long; default: 60"
    run.add_argument("--checkpoint-seconds", type=_seconds, default=60.0, metavar="SECONDS", help=every)
    where = "what executes runs: processes of this machine, or a Ray cluster; see docs/scaling.md"
    run.add_argument("--engine", choices=("local", "ray"), default="local", help=where)
    there = "of a Ray cluster; by default the one of this machine, else one is started here"
    run.add_argument("--address", help=there)
    run.add_argument("--run-cpus", type=_share, default=1.0, metavar="N", help="CPUs of a run on a cluster; default: 1")
    share = "GPUs of a run on a cluster, 0.25 for instance; by default 1 if it runs on a GPU"
    run.add_argument("--run-gpus", type=_share, metavar="N", help=share)
    script = "print a SLURM batch script that runs the suite as an array on a shared results folder, and stop"
    run.add_argument("--print-sbatch", action="store_true", help=script)
    leave = "leave once nothing is left but what other commands work on; by default it is waited for"
    run.add_argument("--no-wait", action="store_true", help=leave)
    redo = "do again those runs that failed, whose code has changed (stale), or all"
    run.add_argument("--redo", choices=("none", "failed", "stale", "all"), default="none", help=redo)

    _watch_option(run, "meanwhile make the report whenever runs have finished, at most every SECONDS (30)")

    check = add("check", _check, "check a suite: its runs, how many are done, the time left; nothing is run")
    _suite_options(check)
    check.add_argument("--device", default="auto", help="device that the time is estimated for")
    check.add_argument("--workers", type=_positive, help="processes that the time is estimated for")

    report = add("report", _report, "make leaderboard and report again from the records, without running anything")
    _suite_options(report)
    _watch_option(report, "make it again whenever runs finish, at most every SECONDS (30), until all have")

    export = add("export", _export, "write a suite's records for TensorBoard or Weights & Biases (offline)")
    _suite_options(export)
    export.add_argument("folder", type=Path, metavar="DIR", help="where to write")
    export.add_argument("--to", choices=("tensorboard", "wandb"), required=True, help="for which program")

    compare = add("compare", _compare, "two results folders, or two losses of a suite, side by side")
    compare.add_argument("a", help="a results folder, or a loss as its leaderboard names it")
    compare.add_argument("b", help="what it is compared with")
    compare.add_argument("--suite", type=Path, help="the suite that the two losses are in")
    compare.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    compare.add_argument(
        "--score", default="linear_top1", help="what two folders are compared by; default: linear_top1"
    )
    compare.set_defaults(plugin=[], data_dir=None)

    listing = add("list", _list, "what a suite can name: losses, datasets, encoders, optimizers, probes")
    listing.add_argument("what", nargs="?", choices=("losses", "datasets", "encoders", "optimizers", "evaluation"))
    listing.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE", help="a loss of your own")

    holds = add("check-loss", _check_loss, "hold a loss of your own to the contract that every loss here keeps")
    holds.add_argument("file", type=Path, help="the loss's file; its code is run")

    gate = add("gate", _gate, "compare losses, training and outcomes with a stored reference; see docs/gate.md")
    gate.add_argument("suite", type=Path, help="the gate's suite; its reference lies beside it")
    gate.add_argument("--reference", type=Path, metavar="FILE", help="default: SUITE with .reference.json")
    gate.add_argument("--update", action="store_true", help="measure the reference anew; needs --reason")
    gate.add_argument("--reason", metavar="TEXT", help="why the reference moves; kept in its history")
    gate.add_argument("--history", action="store_true", help="how figures moved over updates, and where they stepped")
    gate.add_argument("--tiers", nargs="+", choices=("function", "trajectory", "outcome"), help="these only")
    gate.add_argument("--json", type=Path, metavar="FILE", help="every finding as JSON")
    gate.add_argument("--junit", type=Path, metavar="FILE", help="the verdict as JUnit XML")
    gate.add_argument("--html", type=Path, metavar="FILE", help="the verdict or the history with its curves")
    gate.add_argument("--workers", type=_positive, help="processes for whole runs; by default one a core")
    gate.add_argument("--data-dir", metavar="DIR", help="folder of data sets; overrides the suite's data_dir")
    gate.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE", help="a loss of your own")

    add("schema", _schema, "print the JSON Schema of suite files, for editors")
    return parser


def _suite_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("suite", type=Path, help="a suite's YAML file")
    command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    command.add_argument("--data-dir", metavar="DIR", help="folder of data sets; overrides the suite's data_dir")
    plugin = "a loss of your own, one file; the suite names it by the file's stem. Its code is run"
    command.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE", help=plugin)


def _watch_option(command: argparse.ArgumentParser, text: str) -> None:
    text += "; an open report.html reloads itself"
    command.add_argument("--watch", nargs="?", const=30.0, type=_seconds, metavar="SECONDS", help=text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1. Got {text!r}.")
    return int(text)


def _seconds(text: str) -> float:
    return _above_zero(text, "of seconds ")


def _share(text: str) -> float:
    share = _above_zero(text)
    if share > 1 and share % 1:
        raise argparse.ArgumentTypeError(f"must be a whole number or below 1. Got {text!r}.")
    return share


def _above_zero(text: str, unit: str = "") -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"must be a number {unit}above 0. Got {text!r}.")
    return number


def _run(options: argparse.Namespace) -> int:
    from cl_semisup.execution import conduct, fork_server

    elsewhere = options.engine != "local" or options.plain or options.print_sbatch or torchrun.started()
    if not elsewhere:
        if done := _done(options):
            _open(options.results, done)
            print(_count(done, 0))
            return _make_report(options.results, done)
        fork_server.start_early(options.device)
    suite = _read_suite(options)
    asked = suite.selection()
    _open(options.results, asked)
    todo = conduct.missing(options.results, asked.runs, options.redo)
    if options.print_sbatch:
        return _print_sbatch(options, suite, todo)
    print(_count(asked, len(todo)), flush=True)
    failed = 0
    if todo:
        threading.Thread(target=import_module, args=["cl_semisup.report"]).start()  # a second's work, while others work
        with _live(options, asked.name):
            failed = _execute(options, suite, todo)
    return max(_make_report(options.results, asked), SOME_FAILED if failed else OK)


def _open(results: Path, asked: "Selection") -> None:
    """Have the results folder ready for a suite."""
    from cl_semisup import records
    from cl_semisup.execution import sweep

    records.writable(results)
    sweep.results(results, asked.runs)
    asked.save(results)


def _count(asked: "Selection", left: int) -> str:
    return f"{asked.name}: {len(asked.runs)} runs, {len(asked.runs) - left} done, {left} to run."


def _done(options: argparse.Namespace) -> "Selection | None":
    """What the suite asks, if this code has read it before and every run has its record: then no torch is needed.

    Plug-ins are no part of this code, so a suite that needs them is read again.
    """
    from cl_semisup import selection
    from cl_semisup.execution import conduct

    if options.plugin:
        return None
    found = selection.current(options.results, options.suite)
    if not found or (found.file, found.code) != (str(options.suite), selection.code_hash()):
        return None
    return None if conduct.missing(options.results, found.runs, options.redo) else found


def _live(options: argparse.Namespace, name: str) -> AbstractContextManager[None]:
    """What makes the report while runs finish, if that was asked for."""
    if options.watch is None:
        return nullcontext()
    from cl_semisup.report import live

    return live.beside(options.results, name, options.watch)


def _execute(options: argparse.Namespace, suite: "Suite", todo: list["Run"]) -> int:
    from cl_semisup.execution import conduct, order, prepare

    prepare.datasets(suite, todo)
    choose = _torchrun if torchrun.started() else _ray if options.engine == "ray" else _local
    engine = choose(options, suite, len(todo))
    patience = conduct.PATIENCE if options.no_wait else math.inf
    if options.plain:
        return conduct.conduct(options.results, todo, engine, share=False, patience=patience).failed
    length = order.expected(options.results, suite)
    return conduct.conduct(options.results, todo, engine, patience=patience, length=length).failed


def _local(options: argparse.Namespace, suite: "Suite", runs: int) -> "Engine":
    from cl_semisup import native
    from cl_semisup.execution.execute import choose_device, free_memory
    from cl_semisup.execution.local import Local
    from cl_semisup.execution.machine import default_threads, default_workers, fitting

    device = choose_device(options.device)
    machine = _machine(options, suite, device, options.threads or default_threads(device))
    if options.fill_gpu:
        if not device.startswith("cuda"):
            raise InputError(f"--fill-gpu: needs an NVIDIA or AMD GPU. Got the device {device}. Leave it out.")
        print(f"Running {runs} on {device}, one first, to see how much memory it takes.", flush=True)
        most, room = min(runs, options.workers or default_workers("cpu")), partial(fitting, free_memory(device))
        return Local(machine, most, options.plugin, options.run_timeout, room)
    workers = min(runs, options.workers or default_workers(device))
    print(f"Running {runs} on {device} in {workers} worker process(es).", flush=True)
    if machine.wants_kernels() and (reason := native.missing()):
        print(f"Small networks take almost twice as long without compiled kernels: {reason}", flush=True)
    return Local(machine, workers, options.plugin, options.run_timeout)


def _torchrun(options: argparse.Namespace, suite: "Suite", runs: int) -> "Engine":
    from cl_semisup.execution.machine import default_threads

    if options.workers or options.engine != "local":
        rule = "under torchrun all processes share one training at a time"
        raise InputError(f"--workers, --engine: {rule}. Leave them out.")
    device = torchrun.device_of_process(options.device)
    machine = _machine(options, suite, device, options.threads or default_threads(device))
    print(f"Running {runs}, one at a time, on {torchrun.processes()} processes.", flush=True)
    return torchrun.Torchrun(machine, options.run_timeout)


def _ray(options: argparse.Namespace, suite: "Suite", runs: int) -> "Engine":
    from cl_semisup.execution import ray_engine
    from cl_semisup.execution.machine import Need

    ray_engine.connect(options.address)
    device = ray_engine.choose_device(options.device)
    need = Need(options.run_cpus, options.run_gpus or (1.0 if device == "cuda" else 0.0))
    if device == "cpu" and need.gpus:
        raise InputError(f"--run-gpus: runs on a CPU take no GPU. Got {need.gpus:g}. Leave it out.")
    threads = options.threads or (1 if device == "cpu" else math.ceil(need.cpus))
    machine = _machine(options, suite, device, threads)
    engine = ray_engine.Ray(machine, need, min(runs, options.workers or runs), options.plugin, options.run_timeout)
    print(f"Running {runs} on Ray, {engine.slots} at once, each with {need}.", flush=True)
    return engine


def _print_sbatch(options: argparse.Namespace, suite: "Suite", todo: list["Run"]) -> int:
    from cl_semisup.execution import prepare, slurm
    from cl_semisup.execution.machine import Need

    if options.engine != "local" or options.redo == "all":
        raise InputError("--print-sbatch: neither --engine nor --redo all goes with it. Leave them out.")
    prepare.datasets(suite, todo)
    logs = options.results.resolve() / suite.name
    logs.mkdir(parents=True, exist_ok=True)
    need = Need(options.run_cpus, options.run_gpus or float(options.device.startswith("cuda")))
    program = [sys.executable, str(Path(sys.argv[0]).resolve())]
    runs = min(options.workers or slurm.RUNS, max(len(todo), 1))
    print(slurm.script(suite.name, program, options.words, logs, runs, need), end="")
    return OK


def _machine(options: argparse.Namespace, suite: "Suite", device: str, threads: int) -> "Machine":
    from cl_semisup.execution.machine import Machine

    return Machine(
        device=device,
        data_dir=suite.data_dir,
        channels_last=not options.no_channels_last,
        compile=options.compile,
        plain=options.plain,
        checkpoints=str(options.results / "checkpoints"),
        checkpoint_seconds=options.checkpoint_seconds,
        threads=threads,
    )


def _check(options: argparse.Namespace) -> int:
    from cl_semisup.execution import conduct, estimate

    suite = _read_suite(options)
    todo = conduct.missing(options.results, suite.runs)
    print(f"{suite.file}: no fault found.")
    print(f"{len(suite.runs)} runs, {len(suite.runs) - len(todo)} with a record, {len(todo)} to do.")
    print(estimate.sentence(options.results, suite, todo, options.device, options.workers))
    return OK


def _report(options: argparse.Namespace) -> int:
    chosen = _selection(options)
    if options.watch is not None:
        from cl_semisup import records
        from cl_semisup.report import live

        records.stay_inside(options.results, chosen.folder(options.results) / "leaderboard.md")
        live.follow(options.results, chosen, options.watch, lambda left: left > 0)
    return _make_report(options.results, chosen)


def _compare(options: argparse.Namespace) -> int:
    from cl_semisup.report import comparison

    if options.suite:
        print(comparison.methods(options.results, _selection(options), options.a, options.b))
    else:
        print(comparison.folders(Path(options.a), Path(options.b), options.score))
    return OK


def _export(options: argparse.Namespace) -> int:
    from cl_semisup import exporters

    count = exporters.export(options.to, options.results, _selection(options), options.folder)
    print(f"{count} run(s) written for {options.to} to {options.folder}.")
    return OK


def _selection(options: argparse.Namespace) -> "Selection":
    """What a suite asks for: as stored beside the results while its file is the same, else from the file."""
    from cl_semisup import selection

    _add_plugins(options)
    chosen = selection.current(options.results, options.suite)
    if chosen is None and not options.suite.suffix:
        chosen = selection.load(options.results, str(options.suite))
    if chosen is None:
        chosen = _read_suite(options).selection()
    return chosen


def _make_report(results: Path, chosen: "Selection") -> int:
    from cl_semisup import records, report

    records.stay_inside(results, chosen.folder(results) / "leaderboard.md")
    made = report.make(results, chosen)
    print(made.text)
    for path in made.files:
        print(path)
    return OK


def _list(options: argparse.Namespace) -> int:
    from cl_semisup import plugins

    _add_plugins(options)
    for folder in [options.what] if options.what else plugins.FOLDERS:
        print(f"{folder}:")
        width = max(map(len, plugins.names(folder)), default=0)
        for name in plugins.names(folder):
            print(f"  {name:{width}}  {plugins.summary(folder, name)}")
    return OK


def _check_loss(options: argparse.Namespace) -> int:
    from cl_semisup import contract, plugins

    verdicts = contract.check(plugins.add(options.file))
    width = max(len(verdict.clause) for verdict in verdicts)
    for verdict in verdicts:
        print(f"{verdict.outcome:7} {verdict.clause.replace('_', ' '):{width}}  {verdict.text}")
    broken = sum(verdict.outcome == "broken" for verdict in verdicts)
    print(f"{len(verdicts)} clauses, {broken} broken." if broken else f"All {len(verdicts)} clauses hold.")
    return SOME_FAILED if broken else OK


def _gate(options: argparse.Namespace) -> int:
    from cl_semisup.gate import command

    _add_plugins(options)
    return command.run(options)


def _schema(options: argparse.Namespace) -> int:
    import json

    from cl_semisup import suite

    print(json.dumps(suite.schema(), indent=1))
    return OK


def _read_suite(options: argparse.Namespace) -> "Suite":
    from cl_semisup import suite

    _add_plugins(options)
    return suite.read(options.suite, options.data_dir)


def _add_plugins(options: argparse.Namespace) -> None:
    from cl_semisup import plugins

    for path in options.plugin:
        plugins.add(path)
