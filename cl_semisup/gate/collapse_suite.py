"""The suite of the collapse experiment: YAML text -> checked Experiment.

Its keys are `question`, `descents` (a list of grids over `dynamics.Descent`), `minimisers` (losses) and `repetitions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from cl_semisup.config import grid, yaml_source
from cl_semisup.config.grid import GridValue, Problem
from cl_semisup.errors import InputError, SuiteError, described, stops_process, unknown
from cl_semisup.gate import dynamics
from cl_semisup.gate.dynamics import Descent
from cl_semisup.plugins import PluginField
from cl_semisup.suite import suite
from cl_semisup.suite.axes import SuiteHeader

KEYS = ("question", "descents", "minimisers", "repetitions")


@dataclass(frozen=True)
class Experiment:
    """A checked collapse suite: `descents` without their repetitions, `minimisers` as named losses."""

    file: str
    question: str
    descents: tuple[Descent, ...]
    minimisers: tuple[dict[str, dict[str, Any]], ...]
    repetitions: int


def is_collapse_suite(path: Path) -> bool:
    """Has the file the key `descents`? A file that cannot be read is left to the ordinary suite reader's messages."""
    try:
        data = yaml_source.parse(suite.read_text(path), str(path)).data
    except InputError:
        return False
    return isinstance(data, Mapping) and "descents" in data


def read(path: Path) -> Experiment:
    """A checked experiment; raises SuiteError with all faults and their places in the file."""
    return parse(suite.read_text(path), str(path))


def parse(text: str, file: str) -> Experiment:
    """The same of a file's text."""
    source = yaml_source.parse(text, file)
    faults: list[Problem] = []
    data = source.data
    for key in data:
        if key not in KEYS:
            at: yaml_source.YamlPath = (key,) if isinstance(key, str | int) else ()
            faults.append(Problem(at, f"{unknown('key', key, KEYS)}.", of_key=True))
    question: Any = None
    if "question" in data:
        question = _one(data["question"], grid.annotations(SuiteHeader)["question"], "question", faults)
    else:
        faults.append(Problem((), "needs 'question' (what it asks). Got nothing. Add 'question: ...'."))
    repetitions = _one(data.get("repetitions", 2), Annotated[int, Interval(ge=1, le=100)], "repetitions", faults)
    descents = _descents(data["descents"], faults)
    kind: Any = Annotated[Any, PluginField("losses")]
    losses = grid.expand(data.get("minimisers", ["nt_xent"]), kind, ("minimisers",), faults)
    faults += filter(None, map(_unfit, losses))
    if faults:
        raise SuiteError(f"{source.where(f.path, f.of_key)}: {f.text}" for f in faults)
    minimisers = tuple(option.value for option in losses)
    return Experiment(file, question, tuple(dict.fromkeys(descents)), minimisers, repetitions)


def _one(node: Any, annotation: Any, key: str, faults: list[Problem]) -> Any:
    """The one value of a key; None where it is wrong."""
    if isinstance(node, list):
        faults.append(Problem((key,), "must be one value, not a grid. Got a list. Write one value."))
        return None
    values = grid.expand(node, annotation, (key,), faults)
    return values[0].value if values else None


def _descents(node: Any, faults: list[Problem]) -> list[Descent]:
    """All descents of a list of grids, or of one."""
    if node in (None, []):
        faults.append(Problem(("descents",), "must have a descent, or nothing is claimed of any. Got none. Add one."))
    descents = []
    for index, grids in enumerate(node) if isinstance(node, list) else [(None, node)]:
        place: yaml_source.YamlPath = ("descents",) if index is None else ("descents", index)
        for row in grid.mapping(grids, Descent, place, faults, grid.defaults(Descent)):
            descent = Descent(**row)
            if descent.weight and descent.classes > descent.dim:
                rule = f"must not exceed dim, here {descent.dim}, where prototypes have a weight"
                faults.append(Problem((*place, "classes"), f"{rule}. Got {descent.classes}. Lower it."))
            descents.append(descent)
    return descents


def _unfit(loss: GridValue) -> Problem | None:
    """Why a loss cannot move free embeddings, which have no network, found by a step of it."""
    try:
        dynamics.minimise(loss.value, images=5, dim=8, steps=1)
    except BaseException as error:  # a user's own plug-in may raise anything
        if stops_process(error):
            raise
        got = f"Got {next(iter(loss.value))!r}: {described(error).splitlines()[0]}"
        return Problem(loss.path, f"must be a loss of two views alone. {got} Name another.")
    return None
