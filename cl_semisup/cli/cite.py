"""`cite SUITE`: BibTeX of every loss, data set, encoder, probe, view and optimizer that a suite uses."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.text import show, visible

if TYPE_CHECKING:
    from cl_semisup.citation.suite_sources import Citations

HELP = "BibTeX of everything that a suite uses"


def add_arguments(command: argparse.ArgumentParser) -> None:
    text = "a suite's YAML file, or the name of one that comes along (`list suites`)"
    command.add_argument("suite", type=Path, help=text).completer = arguments.complete_suite  # type: ignore[attr-defined]
    arguments.add_reading(command)


def run(options: argparse.Namespace) -> int:
    found = _found(options)
    show(found.bibtex().rstrip("\n"))
    if found.without:
        show(f"Name no source: {visible(', '.join(found.without))}.", error=True)
    for source in found.unknown:
        show(f"arXiv:{visible(source.name)}: our table of sources lacks it. Look its title up.", error=True)
    for source in found.unchecked:
        show(f"{visible(source.name)}: we could not check the title {visible(source.title)!r}.", error=True)
    return OK


def _found(options: argparse.Namespace) -> "Citations":
    """The sources of a suite, or of the gate's descents. Its data sets may be missing: their names are enough."""
    from cl_semisup.citation import sources, suite_sources
    from cl_semisup.gate import collapse_suite, dynamics
    from cl_semisup.plugins.docstrings import entry
    from cl_semisup.results import protocol
    from cl_semisup.suite import suite

    arguments.load_plugins(options)
    if not collapse_suite.is_collapse_suite(options.suite):
        read = suite.read(options.suite, options.data_dir, with_data=False)
        for note in read.notes:
            show(note, error=True)
        return suite_sources.of_runs(read.runs)
    minimisers = collapse_suite.read(options.suite).minimisers
    named = {("losses", name) for loss in minimisers for name in protocol.nested_names(loss)}
    return suite_sources.of_plugins(named, {"descents": sources.named_in(entry(dynamics.__doc__ or "", "Source"))})
