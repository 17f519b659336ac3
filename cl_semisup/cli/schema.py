"""`schema`: the JSON Schema of suite files, for editors."""

import argparse
import json

from cl_semisup.cli.exit_codes import OK
from cl_semisup.text import show

HELP = "print the JSON Schema of suite files, for editors"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> int:
    from cl_semisup.suite import schema

    show(json.dumps(schema.schema(), indent=1))
    return OK
