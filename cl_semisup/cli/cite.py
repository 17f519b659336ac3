"""`cite SUITE`: BibTeX of every loss, data set, encoder, probe, view and optimizer that a suite uses."""

import argparse
from pathlib import Path

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.text import show, visible

HELP = "BibTeX of everything that a suite uses"


def add_arguments(command: argparse.ArgumentParser) -> None:
    text = "a suite's YAML file, or the name of one that comes along (`list suites`)"
    command.add_argument("suite", type=Path, help=text).completer = arguments.complete_suite  # type: ignore[attr-defined]
    arguments.add_reading(command)


def run(options: argparse.Namespace) -> int:
    from cl_semisup.citation import suite_sources

    found = suite_sources.of_runs(arguments.read_suite(options).runs)
    show(found.bibtex().rstrip("\n"))
    if found.without:
        show(f"Name no source: {visible(', '.join(found.without))}.", error=True)
    for source in found.unknown:
        show(f"arXiv:{visible(source.name)}: our table of sources lacks it. Look its title up.", error=True)
    for source in found.unchecked:
        show(f"{visible(source.name)}: we could not check the title {visible(source.title)!r}.", error=True)
    return OK
