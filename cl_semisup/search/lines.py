"""The runs of a search in lines: a line differs in the searched setting alone, so its runs are the rungs of a ladder.

A chain is the lines that a search goes through one after the other, from neighbour to neighbour: the first repetition
of the smallest batch size, that of the next batch size, and so on; every other repetition starts from the first.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

from cl_semisup.search.edges import Ladder
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Edge


@dataclass(frozen=True)
class Line:
    """One (task, loss, batch size, repetition).

    Args:
        chain: what the lines of a chain have in common
        neighbour: the value that tells the lines of a repetition apart, the batch size
        repetition: its number
        runs: rung -> run
    """

    chain: str
    neighbour: float
    repetition: int
    runs: dict[int, Run]

    @property
    def run(self) -> Run:
        """Any of its runs: they differ in the searched setting alone."""
        return next(iter(self.runs.values()))


def value_of(run: Run, axis: tuple[str, ...]) -> float | None:
    """The value of the searched setting in a run; None if the run, of another loss, does not have it."""
    try:
        value = reduce(getitem, axis[1:], getattr(run, axis[0]))
    except (KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) else None


def neighbour_axis(search: Edge) -> str:
    """The other axis of a map of edges."""
    return "learning_rate" if search.axis == ("batch_size",) else "batch_size"


def lines(runs: Iterable[Run], search: Edge) -> tuple[list[Line], list[Run]]:
    """The lines of a search by chain, neighbour and repetition, and the runs that are on none: they are all needed.

    A chain has all rungs that a search begins with; a loss with a value of its own that is a rung's too is on none.
    """
    rungs = {value: rung for rung, value in enumerate(search.values)}
    grouped: dict[tuple[str, float, int], dict[int, Run]] = {}
    others = []
    for run in runs:
        value = value_of(run, search.axis)
        if not run.epochs or value not in rungs:
            others.append(run)
            continue
        neighbour = getattr(run, neighbour_axis(search))
        key = (chain(run, search), float(neighbour), run.repetition)
        grouped.setdefault(key, {})[rungs[value]] = run
    found = [Line(*key, members) for key, members in sorted(grouped.items(), key=lambda item: item[0])]
    tried: dict[str, set[int]] = {}
    for line in found:
        tried.setdefault(line.chain, set()).update(line.runs)
    searched = {chain for chain, known in tried.items() if known >= Ladder.of(search).first}
    others += [run for line in found if line.chain not in searched for run in line.runs.values()]
    return [line for line in found if line.chain in searched], others


def chain(run: Run, search: Edge) -> str:
    """What a run shares with the others of its chain."""
    left_out = ("repetition", neighbour_axis(search))
    settings: dict[str, Any] = {key: getattr(run, key) for key in Run.__dataclass_fields__ if key not in left_out}
    if len(search.axis) > 1:  # the run itself must stay as it is
        settings[search.axis[0]] = deepcopy(settings[search.axis[0]])
    reduce(getitem, search.axis[:-1], settings).pop(search.axis[-1])
    return repr(settings)
