"""`check-loss FILE`: check a user's own loss against the contract that every loss here keeps."""

import argparse
from pathlib import Path

from cl_semisup.cli.exit_codes import OK, SOME_FAILED
from cl_semisup.text import show, visible

HELP = "check a loss of your own against the contract of losses"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, help="the loss's file; its code is run")


def run(options: argparse.Namespace) -> int:
    from cl_semisup import contract, plugins

    verdicts = contract.check(plugins.add(options.file))
    width = max(len(verdict.clause) for verdict in verdicts)
    for verdict in verdicts:
        show(f"{verdict.outcome:7} {verdict.clause.replace('_', ' '):{width}}  {visible(verdict.text)}")
    broken = sum(verdict.outcome == "broken" for verdict in verdicts)
    show(f"{len(verdicts)} clauses, {broken} broken." if broken else f"All {len(verdicts)} clauses hold.")
    return SOME_FAILED if broken else OK
