"""`export SUITE --to PROGRAM DIR`: a suite's records for another program."""

import argparse
from pathlib import Path

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.text import show, visible

HELP = "write records for TensorBoard or Weights & Biases (offline)"


def add_arguments(command: argparse.ArgumentParser) -> None:
    arguments.add_suite(command)
    command.add_argument("folder", type=Path, metavar="DIR", help="where to write")
    command.add_argument("--to", choices=("tensorboard", "wandb"), required=True, help="for which program")


def run(options: argparse.Namespace) -> int:
    from cl_semisup.report import exporters

    count = exporters.export(options.to, options.results, arguments.snapshot_of(options), options.folder)
    show(f"{count} run(s) written for {options.to} to {visible(options.folder)}.")
    return OK
