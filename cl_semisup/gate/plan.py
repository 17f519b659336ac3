"""What a gate suite asks for: its losses under names that a change of a default does not move, and their cells."""

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
from cl_semisup.gate.function import Build
from cl_semisup.results import protocol
from cl_semisup.suite import renamed, suite
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

AXES = {"learning_rate": "lr", "batch_size": "batch", "label_fraction": "labels", "labels_per_class": "per class"}


@dataclass(frozen=True)
class Plan:
    """A checked gate suite.

    Args:
        suite: the suite itself
        asked: hash of what its file says, comments and order of keys apart
        cells: loss -> cell -> its runs, one a repetition, in order
    """

    suite: Suite
    asked: str
    cells: dict[str, dict[str, list[Run]]]

    @property
    def runs(self) -> list[Run]:
        return [run for cells in self.cells.values() for runs in cells.values() for run in runs]

    @property
    def versions(self) -> dict[str, str]:
        """Version of every plug-in file behind the suite."""
        found: dict[str, str] = {}
        for run in self.runs:
            found |= protocol.versions(run)
        return dict(sorted(found.items()))

    def build(self, loss: str) -> Build:
        """Builds the loss for the fixed inputs of the exact tiers."""
        run = next(iter(self.cells[loss].values()))[0]
        (name, params) = next(iter(run.loss.items()))
        known = {"dim": function.DIM, "classes": function.CLASSES, "seed": 0, "images": 24}
        return partial(losses.build, name, **known, **params)


def read(path: Path, data_dir: str | None = None) -> Plan:
    """The plan of a suite's file; every fault of the file is told as for any suite."""
    return plan(suite.read(path, data_dir), Path(path).read_text("utf-8"))


def plan(asked: Suite, text: str) -> Plan:
    """The plan of a suite, whose text says what was asked."""
    cells: dict[str, dict[str, list[Run]]] = {}
    trained = [run for run in asked.runs if run.epochs]
    for run in trained:
        cells.setdefault(loss_name(run.loss), {}).setdefault(cell_name(run, trained), []).append(run)
    doubled = [
        f"{n}, {c}"
        for n, of in cells.items()
        for c, runs in of.items()
        if len(runs) > len({r.repetition for r in runs})
    ]
    if doubled:
        rule = "a gate tells cells apart by data set, encoder, optimizer, learning rate, batch size and labels only"
        raise InputError(f"{asked.file}: {rule}. Got several for {doubled[0]}. Vary nothing else.")
    data = json.dumps(renamed.first_words(yaml_source.parse(text, asked.file).data), sort_keys=True)
    return Plan(asked, hashlib.sha256(data.encode()).hexdigest()[:16], cells)


def loss_name(named: Mapping[str, Mapping[str, Any]]) -> str:
    """`clop(base=supcon, weight=5)`: the settings that are not defaults, nested losses included."""
    (name, params) = next(iter(named.items()))
    usual = grid.defaults(plugins.load("losses", name))
    words = [f"{key}={_word(value)}" for key, value in params.items() if value != usual.get(key)]
    return f"{name}({', '.join(words)})" if words else name


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return loss_name(value) if len(value) == 1 else json.dumps(value, sort_keys=True)
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell_name(run: Run, among: list[Run]) -> str:
    """`lr 0.1, batch 64`: learning rate and batch size, and the other axes where they vary."""
    words = [f"{AXES[key]} {getattr(run, key):g}" for key in ("learning_rate", "batch_size")]
    for key in ("label_fraction", "labels_per_class"):
        if getattr(run, key) is not None and len({getattr(other, key) for other in among}) > 1:
            words.append(f"{AXES[key]} {getattr(run, key):g}")
    for key in ("dataset", "encoder", "optimizer"):
        named = [next(iter(getattr(other, key))) for other in among]
        if len(set(named)) > 1:
            words.append(next(iter(getattr(run, key))))
    return ", ".join(words)
