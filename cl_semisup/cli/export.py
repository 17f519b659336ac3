"""`export SUITE --to PROGRAM DIR`: records for another program; `export FILE --to onnx DIR`: a kept network."""

import argparse
from pathlib import Path

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.errors import InputError
from cl_semisup.text import show, visible

HELP = "records for TensorBoard or W&B; networks for ONNX or HF"
RECORDS = ("tensorboard", "wandb")
NETWORKS = ("onnx", "hf")
SUFFIX = ".safetensors"  # of kept networks


def add_arguments(command: argparse.ArgumentParser) -> None:
    arguments.add_suite(command)
    command.add_argument("folder", type=Path, metavar="DIR", help="where to write")
    text = "records of a suite for the first two; else SUITE is a kept network"
    command.add_argument("--to", choices=(*RECORDS, *NETWORKS), required=True, help=text)


def run(options: argparse.Namespace) -> int:
    if options.to in NETWORKS:
        return _network(options)
    from cl_semisup.report import exporters

    count = exporters.export(options.to, options.results, arguments.snapshot_of(options), options.folder)
    show(f"{count} run(s) written for {options.to} to {visible(options.folder)}.")
    return OK


def _network(options: argparse.Namespace) -> int:
    if options.suite.suffix != SUFFIX:
        rule = "a network is a file that a suite with `keep: encoder` has written"
        raise InputError(f"--to {options.to}: {rule}. Got {str(options.suite)!r}. Name <results>/kept/<id>{SUFFIX}.")
    from cl_semisup.execution import export_network

    arguments.load_plugins(options)
    path = export_network.export(options.to, options.suite, options.folder)
    show(f"The network is written to {visible(path)}.")
    return OK
