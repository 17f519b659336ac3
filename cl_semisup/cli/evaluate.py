"""`evaluate FILE ...`: score features that are there already, or those of an encoder on a data set."""

import argparse
from pathlib import Path
from typing import Any

from cl_semisup.cli import arguments
from cl_semisup.cli.exit_codes import OK
from cl_semisup.errors import InputError
from cl_semisup.system import installation
from cl_semisup.text import show, visible

HELP = "score stored features or an encoder, with intervals"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.usage = f"{installation.COMMAND[-1]} evaluate FILE ... [options]"
    add = command.add_argument
    text = ".npz, .safetensors or .parquet, or a kept network (docs/evaluate.md)"
    add("files", nargs="*", type=Path, metavar="FILE", help=text)
    text = "an encoder instead of files, `{vit: {layers: 2}}`"
    add("--encoder", metavar="NAME", help=text)
    add("--dataset", metavar="NAME", help="its data set, or whose label draws files use")
    text = "1%%, 0.01 or 5/class; default: 1, 5, 10 a class, 1, 10, 100 %%"
    add("--budgets", nargs="+", metavar="BUDGET", help=text)
    add("--repetitions", type=arguments.positive_int, default=5, metavar="N", help="draws of labels; default: 5")
    add("--test-fraction", type=float, metavar="SHARE", help="of one matrix; default: 0.2")
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    text = "also write the tables: .md, .csv or .json"
    add("--output", action="append", default=[], type=Path, metavar="FILE", help=text)
    add("--device", default="auto", help="of the encoder")
    arguments.add_reading(command)


def run(options: argparse.Namespace) -> int:
    import cl_semisup as cl
    from cl_semisup.execution import memory

    memory.return_large_blocks()
    arguments.load_plugins(options)
    if any(path.suffix not in (".md", ".csv", ".json") for path in options.output):
        raise InputError(f"--output: must end in .md, .csv or .json. Got {options.output}. Rename it.")
    if bool(options.files) == bool(options.encoder):
        raise InputError("evaluate: needs files of features, or --encoder with --dataset. Got both or neither.")
    shared: dict[str, Any] = {
        "budgets": options.budgets,
        "repetitions": options.repetitions,
        "results": options.results,
    }
    if options.encoder:
        if not options.dataset:
            raise InputError("--dataset: must name the images for --encoder. Got none. Name a data set.")
        encoder, dataset = (_named(getattr(options, word), word) for word in ("encoder", "dataset"))
        options_of_encoder = {"data_dir": options.data_dir, "device": options.device}
        evaluation = cl.evaluate_encoder(encoder, dataset, **options_of_encoder, **shared)
    else:
        shared |= {"data_dir": options.data_dir, "device": options.device, "dataset": options.dataset}
        evaluation = cl.evaluate(options.files, test_fraction=options.test_fraction, **shared)
    show(evaluation.text())
    for path in options.output:
        evaluation.save(path)
        show(visible(path))
    return OK


def _named(text: str, word: str) -> Any:
    """A plug-in in YAML or JSON: a name, or a mapping of its name to its settings."""
    from cl_semisup.config import yaml_source

    return yaml_source.parse(text, f"--{word}").data
