"""`export SUITE --to PROGRAM DIR`: records for another program; `export FILE --to onnx DIR`: a kept network."""

import argparse
from pathlib import Path

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.errors import InputError
from cl_semisup.text import show, visible

HELP = "records as one file or for other programs; networks"
PROGRAMS = ("tensorboard", "wandb", "mlflow")
FILES = ("parquet", "json", "csv")
NETWORKS = ("onnx", "hf")
SUFFIX = ".safetensors"  # of kept networks


def add_arguments(command: argparse.ArgumentParser) -> None:
    arguments.add_suite(command)
    command.add_argument("folder", type=Path, metavar="DIR", help="where to write")
    text = "records of a suite; for onnx and hf SUITE is a kept network"
    command.add_argument("--to", choices=(*FILES, *PROGRAMS, *NETWORKS), required=True, help=text)
    text = "with parquet and DIR the results folder: remove the files of the records that are in the packed one"
    command.add_argument("--move", action="store_true", help=text)


def run(options: argparse.Namespace) -> int:
    if options.move and (options.to != "parquet" or options.folder.resolve() != options.results.resolve()):
        rule = "goes with --to parquet into the folder of --results"
        got = f"--to {options.to} {str(options.folder)!r} with --results {str(options.results)!r}"
        raise InputError(f"--move: {rule}. Got {got}. Name the same folder.")
    arguments.check_folder("DIR", options.folder)
    if options.to in NETWORKS:
        return _network(options)
    if options.to in FILES:
        return _files(options)
    from cl_semisup.report import exporters

    count = exporters.export(options.to, options.results, arguments.snapshot_of(options), options.folder)
    show(f"{count} run(s) written for {options.to} to {visible(options.folder)}.")
    return OK


def _files(options: argparse.Namespace) -> int:
    """Records as files, which need no other program."""
    from cl_semisup.report import export
    from cl_semisup.results import packing

    suite, folder = arguments.snapshot_of(options), options.folder
    if options.to == "json":
        show(f"{packing.unpack(options.results, suite.runs, folder)} record(s) written to {visible(folder)}.")
        return OK
    if options.to == "csv":
        path, count = export.write_runs(options.results, suite, folder)
        show(f"{count} record(s) written to {visible(path)}.")
        return OK
    packed = packing.pack(options.results, suite.name, suite.runs, folder)
    show(f"{packed.count} record(s) packed into {visible(packed.path)}.")
    if options.move:
        removed = packing.remove_packed(folder, suite.runs, packed.path)
        show(f"{removed} record(s) removed that had files of their own.")
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
