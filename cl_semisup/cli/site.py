"""`site RESULTS... --to DIR`: a static board of all suites that have run in these folders."""

import argparse
from pathlib import Path

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.errors import InputError
from cl_semisup.system import files
from cl_semisup.text import show, visible

HELP = "make a static board of several suites, for any web server"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="folders of results")
    command.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="where to write; not a folder of results"
    )


def run(options: argparse.Namespace) -> int:
    from cl_semisup.report import site
    from cl_semisup.results import snapshot

    arguments.check_folder("--to", options.to)
    found = []
    for folder in options.results:
        if folder.resolve() == options.to.resolve():
            raise InputError(f"--to: must not be a folder of results. Got {str(options.to)!r}. Name another one.")
        names = [path.name for path in files.entries(folder, folder) if snapshot.exists(folder, path.name)]
        found += [(folder, snapshot.load(folder, name)) for name in names]
    if not found:
        folders = ", ".join(map(str, options.results))
        raise InputError(f"{folders}: must be folders in which suites have run. Got none. Run a suite first.")
    if twice := files.twice(suite.name for _, suite in found):
        raise InputError(f"site: each suite must be in one folder. Got {twice!r} in two. Leave one out.")
    written = site.make(found, options.to)
    show(f"{len(found)} suite(s), {len(written)} files: {visible(written[0])}")
    return OK
