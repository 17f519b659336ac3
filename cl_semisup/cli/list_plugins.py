"""`list [KIND]`: what a suite can name, each with the first line of its docstring."""

import argparse

from cl_semisup import plugins
from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK

HELP = "what a suite can name: losses, datasets, encoders, optimizers, probes"
FOLDERS = {"probes" if folder == "evaluation" else folder: folder for folder in plugins.FOLDERS}


def add_arguments(command: argparse.ArgumentParser) -> None:
    words = (*FOLDERS, "evaluation")  # the last is the old word for probes
    command.add_argument("what", nargs="?", choices=words, metavar="{" + ",".join(FOLDERS) + "}")
    arguments.add_plugin(command)


def run(options: argparse.Namespace) -> int:
    arguments.load_plugins(options)
    wanted = {"evaluation": "probes"}.get(options.what, options.what)
    for word in [wanted] if wanted else FOLDERS:
        folder = FOLDERS[word]
        print(f"{word}:")
        width = max(map(len, plugins.names(folder)), default=0)
        for name in plugins.names(folder):
            print(f"  {name:{width}}  {plugins.summary(folder, name)}")
    return OK
