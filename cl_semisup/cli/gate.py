"""`gate SUITE`: find changes of losses, training or outcomes since a stored reference."""

import argparse
from pathlib import Path

from cl_semisup.cli import arguments
from cl_semisup.system import installation

HELP = "find changes since a stored reference (docs/gate.md)"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.usage = f"{installation.COMMAND[-1]} gate SUITE [options]"
    add = command.add_argument
    add("suite", type=Path, help="the gate's suite; its reference lies beside it")
    add("--reference", type=Path, metavar="FILE", help="default: SUITE with .reference.json")
    add("--update", action="store_true", help="measure the reference anew; needs --reason")
    add("--reason", metavar="TEXT", help="why the reference changes; kept in its history")
    add("--history", action="store_true", help="how figures changed over updates, and at which commits")
    add("--tiers", nargs="+", choices=("function", "trajectory", "outcome"), help="these only")
    add("--json", type=Path, metavar="FILE", help="every check as JSON")
    add("--junit", type=Path, metavar="FILE", help="the verdict as JUnit XML")
    add("--html", type=Path, metavar="FILE", help="the verdict or the history with its curves")
    add("--workers", type=arguments.positive_int, help="processes for whole runs; by default one a core")
    arguments.add_reading(command)


def run(options: argparse.Namespace) -> int:
    from cl_semisup.gate import command

    arguments.load_plugins(options)
    return command.run(options)
