"""The engine that the options of `run` ask for: local processes, torchrun, a Ray cluster, or a SLURM script."""

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cl_semisup.cli.exit_codes import OK
from cl_semisup.engines import torchrun
from cl_semisup.errors import InputError
from cl_semisup.text import show

if TYPE_CHECKING:
    from cl_semisup.execution.machine import Machine
    from cl_semisup.scheduling.scheduler import Engine
    from cl_semisup.suite.run import Run
    from cl_semisup.suite.suite import Suite


def choose(options: argparse.Namespace, suite: "Suite", runs: int) -> "Engine":
    """An engine for so many runs; prints a line that says what it will do."""
    build = _torchrun if torchrun.is_distributed() else _ray if options.engine == "ray" else _local
    return build(options, suite, runs)


def _local(options: argparse.Namespace, suite: "Suite", runs: int) -> "Engine":
    from cl_semisup import native
    from cl_semisup.engines.local import local_engine
    from cl_semisup.execution import workers as local_workers
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.execution.machine import default_threads

    device = choose_device(options.device)
    if options.fill_gpu and not device.startswith("cuda"):
        raise InputError(f"--fill-gpu: needs an NVIDIA or AMD GPU. Got the device {device}. Leave it out.")
    workers = local_workers.of(device, runs, options.workers, options.fill_gpu)
    machine = _machine(options, suite, device, options.threads or default_threads(device, workers=workers.most))
    how = f"in {workers.most} worker process(es)"
    if workers.fill:
        how = "one first, to see how much memory it takes"
    elif workers.measured:
        how = f"at most {workers.most} at once if that is faster than one on each GPU, which the first ones tell"
    comma = "," if workers.measured else ""
    show(f"Running {_counted(suite, runs)} on {' '.join(workers.devices)}{comma} {how}.")
    if machine.wants_kernels() and (reason := native.missing()):
        show(f"Small networks take almost twice as long without compiled kernels: {reason}")
        machine = replace(machine, native=False)  # so that no worker tries again, which may take minutes
    return local_engine(workers, machine, options.plugin, options.run_timeout)


def _torchrun(options: argparse.Namespace, suite: "Suite", runs: int) -> "Engine":
    from cl_semisup.execution.machine import default_threads
    from cl_semisup.results import protocol

    if options.workers or options.engine != "local":
        rule = "under torchrun all processes share one training at a time"
        raise InputError(f"--workers, --engine: {rule}. Leave them out.")
    device = torchrun.device_of_process(options.device)
    machine = _machine(options, suite, device, options.threads or default_threads(device))
    show(f"Running {_counted(suite, runs)}, one at a time, on {torchrun.processes()} processes.")
    if protocol.uses_users_own(suite.runs):
        show("These processes stay: what a plug-in of your own changes in them changes the runs after it too.")
    return torchrun.TorchrunEngine(machine, options.run_timeout)


def _ray(options: argparse.Namespace, suite: "Suite", runs: int) -> "Engine":
    if suite.keep != "none":
        raise InputError(f"keep: Ray's workers share no results folder. Got {suite.keep}. Use another engine.")
    if named := next((files for run in suite.runs if (files := weight_files(run))), None):
        rule = "Ray's workers do not have files of weights, which lie on this machine"
        raise InputError(f"encoder: {rule}. Got {named[0]}. Use another engine.")
    from cl_semisup.engines import ray_engine
    from cl_semisup.execution.machine import Need

    ray_engine.connect(options.address)
    device = ray_engine.choose_device(options.device)
    need = Need(options.run_cpus, options.run_gpus or (1.0 if device == "cuda" else 0.0))
    if device == "cpu" and need.gpus:
        raise InputError(f"--run-gpus: runs on a CPU take no GPU. Got {need.gpus:g}. Leave it out.")
    threads = options.threads or (1 if device == "cpu" else math.ceil(need.cpus))
    share = min(1.0, need.gpus) if device == "cuda" else 1.0
    machine = replace(_machine(options, suite, device, threads), gpu_share=share)
    max_workers = min(runs, options.workers or runs)
    engine = ray_engine.RayEngine(machine, need, max_workers, options.plugin, options.run_timeout)
    show(f"Running {_counted(suite, runs)} on Ray, {engine.slots} at once, each with {need}.")
    return engine


def _counted(suite: "Suite", runs: int) -> str:
    return f"at most {runs}" if suite.in_rounds else str(runs)


def weight_files(run: "Run") -> tuple[str, ...]:
    """The files of weights of a run's encoder."""
    from cl_semisup.suite.input_check import build

    encoder = build("encoders", run.encoder)
    return tuple(encoder.weight_files()) if hasattr(encoder, "weight_files") else ()


def print_sbatch(options: argparse.Namespace, suite: "Suite", todo: list["Run"]) -> int:
    """Print the SLURM script of an array whose tasks execute the runs, each with this same command."""
    from cl_semisup.engines import slurm
    from cl_semisup.execution.machine import Need
    from cl_semisup.scheduling import prepare

    if options.engine != "local" or options.redo == "all":
        raise InputError("--print-sbatch: neither --engine nor --redo all goes with it. Leave them out.")
    prepare.datasets(suite, todo)
    logs = options.results.resolve() / suite.name  # it is there: the suite's snapshot lies in it
    need = Need(options.run_cpus, options.run_gpus or float(options.device.startswith("cuda")))
    program = [sys.executable, "-m", "cl_semisup"]
    if Path(sys.argv[0]).name != "__main__.py":
        program = [sys.executable, str(Path(sys.argv[0]).resolve())]
    runs = min(options.workers or slurm.DEFAULT_RUNS, max(len(todo), 1))
    show(
        slurm.script(suite.name, program, options.arguments, logs, runs, need, wait=suite.in_rounds).removesuffix("\n")
    )
    return OK


def _machine(options: argparse.Namespace, suite: "Suite", device: str, threads: int) -> "Machine":
    from cl_semisup.execution.machine import Machine
    from cl_semisup.system import owner

    return Machine(
        device=device,
        data_dir=suite.data_dir,
        channels_last=not options.no_channels_last,
        compile=options.compile,
        plain=options.plain,
        early_stop=not (options.plain or options.no_early_stop),
        checkpoints=str(options.results / "checkpoints"),
        checkpoint_seconds=options.checkpoint_seconds,
        threads=threads,
        keep=suite.keep,
        kept=str(options.results),
        question=suite.question,
        state_key=owner.key().hex(),
    )
