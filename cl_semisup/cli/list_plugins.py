"""`list [KIND]`: what a suite can name, each with the first line of its docstring."""

import argparse

from cl_semisup import plugins
from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.text import show, visible

HELP = "list losses, datasets, encoders, optimizers, probes and views"
FOLDERS = {"probes" if folder == "evaluation" else folder: folder for folder in plugins.FOLDERS}


def add_arguments(command: argparse.ArgumentParser) -> None:
    choices = (*FOLDERS, "evaluation")  # the last is the old word for probes
    command.add_argument("kind", nargs="?", choices=choices, metavar="{" + ",".join(FOLDERS) + "}")
    arguments.add_plugin(command)


def run(options: argparse.Namespace) -> int:
    arguments.load_plugins(options)
    choice = {"evaluation": "probes"}.get(options.kind, options.kind)
    for kind in [choice] if choice else FOLDERS:
        folder = FOLDERS[kind]
        show(f"{kind}:")
        width = max(map(len, plugins.names(folder)), default=0)
        for name in plugins.names(folder):
            show(f"  {visible(name):{width}}  {visible(plugins.summary(folder, name))}")
    return OK
