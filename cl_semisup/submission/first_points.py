"""The first point of each curve, computed again: one in forty of a training's steps.

It refuses a curve that is scaled, shuffled, turned round or invented. What follows a first point is proved by nothing
but a run that is done again (rerun.py).
"""

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cl_semisup.errors import InputError
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import TrainingGroup, group
from cl_semisup.results import records
from cl_semisup.results.records import Record
from cl_semisup.submission.curve_form import OF_BATCHES
from cl_semisup.submission.verify import Problem, describe
from cl_semisup.suite.run import Run
from cl_semisup.system import files
from cl_semisup.training.loop import Diverged

SECONDS = 60  # of all first points together; those that are not ready then are not checked, and a note says so
# Of a value: other processors round otherwise, which the steps up to a first point carry on, gradients more than losses
TOLERANCE = {"loss": 0.01}
WIDE = 0.05  # of all other curves
LEAST = 0.05  # a smaller value counts as large as this one for the tolerance
FILE = "first_points.jsonl"
MAX_BYTES = 10**8
Points = Mapping[str, Mapping[str, float]]  # run id -> name of a curve -> its first value


def trainings(runs: Iterable[Run], found: Mapping[str, Record], seed: int) -> list[TrainingGroup]:
    """Those whose first point is known to be that of such steps, in a random order."""
    told = [run for run in runs if run.id in found and run.epochs and run.scenario is None]
    groups = group(run for run in told if found[run.id]["status"] == "ok")
    random.Random(seed).shuffle(groups)
    return groups


def compute(groups: Iterable[TrainingGroup], data_dir: str, folder: Path) -> None:
    """Write the first point of each training, as soon as it is known."""
    executor = Executor(Machine("cpu", data_dir, points=1))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        for training in groups:
            with suppress(Diverged, InputError, MemoryError):  # it has no first point here
                history = asdict(executor.train_only(training))
                file.write(json.dumps({training.runs[0].id: {name: history[name][0] for name in OF_BATCHES}}) + "\n")
                file.flush()


def read(folder: Path) -> Points:
    """What `compute` has written, a last line that is cut off left out."""
    points: dict[str, Mapping[str, float]] = {}
    with suppress(FileNotFoundError, ValueError):
        for line in files.read(folder, folder / FILE, MAX_BYTES).splitlines():
            points |= json.loads(line)
    return points


def compare(folder: Path, groups: Iterable[TrainingGroup], points: Points) -> tuple[int, list[Problem]]:
    """The number of trainings whose first point is known, and the runs in the folder of records that tell another."""
    known = [(training.runs, points[training.runs[0].id]) for training in groups if training.runs[0].id in points]
    told = ((run, first, records.read_curves(records.path_of(folder, run))) for runs, first in known for run in runs)
    texts = ((run, _difference(curves["history"], first)) for run, first, curves in told)
    return len(known), [Problem("curves", f"{describe(run)}: {text}") for run, text in texts if text]


def _difference(history: Mapping[str, Sequence[Any]], first: Mapping[str, float]) -> str:
    for name, value in first.items():
        told = history[name][0] if history.get(name) else None
        share = TOLERANCE.get(name, WIDE)
        if type(told) is not float or not math.isclose(told, value, rel_tol=share, abs_tol=share * LEAST):
            return f"{name} begins with {told!r}, and with {value:.5g} when the first steps are done again"
    return ""
