"""`submit RESULTS --suite S FILE`: pack results into an archive, or a folder for a pull request, for others."""

import argparse
from pathlib import Path

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.errors import InputError
from cl_semisup.system import installation
from cl_semisup.text import show, visible

HELP = "pack a suite's results for others to check"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("results", type=Path, help="the results folder")
    command.add_argument("--suite", type=Path, required=True, help="the suite's YAML file, or its name")
    command.add_argument("file", type=Path, metavar="FILE", help="a new .zip, or a folder")
    arguments.add_reading(command)


def run(options: argparse.Namespace) -> int:
    from cl_semisup.scheduling import suite_run
    from cl_semisup.submission import archive
    from cl_semisup.suite import suite as suites

    if options.file.resolve() == options.results.resolve():
        got = f"Got {str(options.file)!r}. Name another one."
        raise InputError(f"FILE: must not be the folder of results, whose packed records it would replace. {got}")
    if options.file.suffix != ".zip":
        arguments.check_folder("FILE", options.file)
    arguments.load_plugins(options)
    snapshot = suite_run.snapshot_of(options.results, options.suite, options.data_dir)
    text = suites.read_text(installation.locate(snapshot.file))
    count = archive.pack(options.results, snapshot, text, options.plugin, options.file)
    show(f"{count} of {len(snapshot.runs)} runs packed into {visible(options.file)}.")
    if count < len(snapshot.runs):
        show("`verify` will name the missing ones: run the suite to its end first.", error=True)
    return OK
