"""The contents of a gate suite: losses, named so that a changed default keeps the name, and their cells."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cl_semisup import losses, plugins
from cl_semisup.config import grid, yaml_source
from cl_semisup.errors import InputError
from cl_semisup.gate import function
from cl_semisup.gate.function import BuildLoss
from cl_semisup.results import protocol
from cl_semisup.suite import renamed, suite
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import require_none
from cl_semisup.suite.suite import Suite

AXES = {"learning_rate": "lr", "batch_size": "batch", "label_fraction": "labels", "labels_per_class": "per class"}


@dataclass(frozen=True)
class Plan:
    """A checked gate suite.

    Args:
        suite: the suite
        suite_hash: hash of the file's content, without comments and order of keys
        cells: loss -> cell -> its runs, one for each repetition, in order
    """

    suite: Suite
    suite_hash: str
    cells: dict[str, dict[str, list[Run]]]

    @property
    def runs(self) -> list[Run]:
        return [run for cells in self.cells.values() for runs in cells.values() for run in runs]

    @property
    def plugin_versions(self) -> dict[str, str]:
        """Version of every plug-in file that the suite uses."""
        versions: dict[str, str] = {}
        for run in self.runs:
            versions |= protocol.versions(run)
        return dict(sorted(versions.items()))

    def build_loss(self, loss: str) -> BuildLoss:
        """A function that builds the loss for the fixed inputs of the exact tiers."""
        run = next(iter(self.cells[loss].values()))[0]
        (name, params) = next(iter(run.loss.items()))
        setting = {"dim": function.DIM, "classes": function.CLASSES, "seed": 0, "images": 24}
        return partial(losses.build, name, **setting, **params)


def read(path: Path, data_dir: str | None = None) -> Plan:
    """The plan of a suite file; raises the errors of any suite file."""
    text = suite.read_text(path)
    return make_plan(suite.parse(text, str(path), data_dir), text)


def make_plan(suite: Suite, text: str) -> Plan:
    """The plan of a suite that was parsed from `text`."""
    require_none(suite.search, suite.file, "a gate")
    if suite.tune_repetitions:
        rule = "a gate compares all runs of a grid"
        raise InputError(f"{suite.file}: tune_repetitions: {rule}. Got {suite.tune_repetitions}. Leave it out.")
    cells: dict[str, dict[str, list[Run]]] = {}
    trained_runs = [run for run in suite.runs if run.epochs]
    for run in trained_runs:
        cells.setdefault(loss_name(run.loss), {}).setdefault(cell_name(run, trained_runs), []).append(run)
    duplicates = [
        f"{loss}, {cell}"
        for loss, loss_cells in cells.items()
        for cell, runs in loss_cells.items()
        if len(runs) > len({run.repetition for run in runs})
    ]
    if duplicates:
        rule = "a gate tells cells apart by data set, encoder, optimizer, learning rate, batch size and labels only"
        raise InputError(f"{suite.file}: {rule}. Got several for {duplicates[0]}. Vary nothing else.")
    settings = renamed.first_words(yaml_source.parse(text, suite.file).data)
    if settings.get("validation") == "all":  # what suites had before there was a choice
        del settings["validation"]
    data = json.dumps(settings, sort_keys=True)
    return Plan(suite, hashlib.sha256(data.encode()).hexdigest()[:16], cells)


def loss_name(named_loss: Mapping[str, Mapping[str, Any]]) -> str:
    """`clop(base=supcon, weight=5)`: plug-in and settings that are not defaults, nested losses included."""
    (name, params) = next(iter(named_loss.items()))
    defaults = grid.defaults(plugins.load("losses", name))
    words = [f"{key}={_format_setting(value)}" for key, value in params.items() if value != defaults.get(key)]
    return f"{name}({', '.join(words)})" if words else name


def _format_setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return loss_name(value) if len(value) == 1 else json.dumps(value, sort_keys=True)
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell_name(run: Run, all_runs: list[Run]) -> str:
    """`lr 0.1, batch 64`: learning rate, batch size, and every other axis that varies among `all_runs`."""
    words = [f"{AXES[key]} {getattr(run, key):g}" for key in ("learning_rate", "batch_size")]
    for key in ("label_fraction", "labels_per_class"):
        if getattr(run, key) is not None and len({getattr(other, key) for other in all_runs}) > 1:
            words.append(f"{AXES[key]} {getattr(run, key):g}")
    for key in ("dataset", "encoder", "optimizer"):
        if len({next(iter(getattr(other, key))) for other in all_runs}) > 1:
            words.append(next(iter(getattr(run, key))))
    return ", ".join(words)
