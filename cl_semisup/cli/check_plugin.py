"""`check-plugin FILE`: check a user's own plug-in against the contract that every one of its kind here keeps."""

import argparse
from pathlib import Path

from cl_semisup.cli.exit_codes import OK, SOME_FAILED
from cl_semisup.errors import InputError
from cl_semisup.text import guarded, show, visible

HELP = "check a plug-in of your own against the contract of its kind"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, help="the plug-in's file; its code is run")
    text = "its settings as in a suite, such as '{k: 5}'; default: its defaults"
    command.add_argument("--settings", default="{}", metavar="YAML", help=text)
    command.add_argument("--data-dir", default="data", metavar="DIR", help="folder that a data set reads from")


def run(options: argparse.Namespace) -> int:
    from cl_semisup import contract, plugins
    from cl_semisup.config import grid, yaml_source

    plugin = plugins.add(options.file)
    settings = yaml_source.parse(options.settings, "--settings").data
    if not isinstance(settings, dict):
        got = f"Got {options.settings!r}. Write '{{name: value}}'"
        raise InputError(f"--settings: must be a mapping of settings. {got}.")
    with plugins.plugin_errors(*plugin):
        grid.build(*plugin, settings)
    with guarded():
        results = contract.check(*plugin, settings, data_dir=options.data_dir)
    show(f"{visible(options.file)}: a {plugins.noun(plugin.folder)}")
    width = max(len(result.clause) for result in results)
    for result in results:
        show(f"{result.outcome:7} {result.clause.replace('_', ' '):{width}}  {visible(result.text)}")
    broken = sum(result.outcome == "broken" for result in results)
    show(f"{len(results)} clauses, {broken} broken." if broken else f"All {len(results)} clauses hold.")
    return SOME_FAILED if broken else OK
