"""`list [KIND]`: what a suite can name, with the first line of its docstring and, if it is no part of this package, its
file or the installed package that it comes from; the suites that come along, with their questions.

Losses are listed in groups, the core first (see `plugins.groups`), with their papers (`cite` has the titles).
"""

import argparse
from collections.abc import Iterable

from cl_semisup import plugins
from cl_semisup.citation.sources import of_plugin
from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.plugins import groups
from cl_semisup.system import installation
from cl_semisup.text import show, visible

HELP = "losses, data sets, encoders ... and suites that can be named"
FOLDERS = {"probes" if folder == "evaluation" else folder: folder for folder in plugins.FOLDERS}
SUITES = "suites"


def add_arguments(command: argparse.ArgumentParser) -> None:
    choices = (*FOLDERS, SUITES, "evaluation")  # the last is the old word for probes
    command.add_argument("kind", nargs="?", choices=choices, metavar="KIND", help=", ".join([*FOLDERS, SUITES]))
    arguments.add_plugin(command)


def run(options: argparse.Namespace) -> int:
    arguments.load_plugins(options)
    choice = {"evaluation": "probes"}.get(options.kind, options.kind)
    for kind in [choice] if choice else [*FOLDERS, SUITES]:
        if kind == SUITES:
            _show("suites", [(name, installation.question(name)) for name in installation.suites()])
        elif kind == "losses":
            for group, names in groups.of_losses().items():
                _show(f"losses, {group}", _described("losses", names))
        else:
            _show(kind, _described(FOLDERS[kind], plugins.names(FOLDERS[kind])))
    return OK


def _described(folder: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """Name and one line of each."""
    origins = {name: plugins.origin(folder, name) for name in names}
    return [
        (name, plugins.summary(folder, name) + _papers(folder, name) + (f" (from {origin})" if origin else ""))
        for name, origin in origins.items()
    ]


def _papers(folder: str, name: str) -> str:
    """Papers and years of a loss, in brackets."""
    papers = [source.short for source in of_plugin(folder, name) if folder == "losses" and source.is_arxiv]
    return f" ({'; '.join(papers)})" if papers else ""


def _show(title: str, lines: list[tuple[str, str]]) -> None:
    show(f"{title}:")
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        show(f"  {visible(name):{width}}  {visible(text)}")
