"""`compare A B`: two results folders, or two losses of a suite, side by side."""

import argparse
from pathlib import Path

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.text import show

HELP = "two results folders, or two losses of a suite, side by side"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", help="a results folder, or a loss as its leaderboard names it")
    command.add_argument("b", help="what it is compared with")
    command.add_argument("--suite", type=Path, help="the suite that the two losses are in")
    arguments.add_suite(command, positional=False)
    text = "what two folders are compared by; default: linear_top1"
    command.add_argument("--score", default="linear_top1", help=text)


def run(options: argparse.Namespace) -> int:
    from cl_semisup.report import comparison

    if options.suite:
        show(comparison.losses(options.results, arguments.snapshot_of(options), options.a, options.b))
    else:
        show(comparison.folders(Path(options.a), Path(options.b), options.score))
    return OK
