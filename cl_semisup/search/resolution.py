"""As many repetitions as it takes: until every difference to the baseline is known to so many points."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cl_semisup.results.statistics import MeanCI
from cl_semisup.search.confidence import confidence_sequence
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import FIRST_REPETITIONS, Resolve, task

ScoreOf = Callable[[Run], float | None]


@dataclass(frozen=True)
class Comparison:
    """A loss beside the baseline of its task, in the repetitions that both have.

    Args:
        run: any of the loss's runs
        difference: mean and half-width of an interval that holds at every look, fractions
        resolved: is the interval narrow enough?
        repetitions: that are asked for
        open: are runs of these missing?
    """

    run: Run
    difference: MeanCI
    resolved: bool
    repetitions: int
    open: bool


def compare(runs: Iterable[Run], search: Resolve, score_of: ScoreOf, baseline: str) -> list[Comparison]:
    """Every loss of every task with its baseline, one repetition after the other as long as that is needed.

    A loss goes on alone: when its difference is resolved, no run of it is added. The baseline goes on as far as any.
    """
    by_task: dict[str, dict[str, dict[int, Run]]] = {}
    for run in runs:
        if run.epochs:
            by_task.setdefault(task(run), {}).setdefault(repr(run.loss), {})[run.repetition] = run
    found = []
    for losses in by_task.values():
        base = next((members for members in losses.values() if members[0].loss_name == baseline), None)
        for members in losses.values():
            if base is not None and members is not base:
                found.append(_compare(members, base, search, score_of))
    return found


def _compare(members: dict[int, Run], base: dict[int, Run], search: Resolve, score_of: ScoreOf) -> Comparison:
    differences: list[float] = []
    for n in range(search.repetitions):
        both = n in members and n in base  # a report knows the runs that were asked, and not the whole grid
        own, other = (score_of(members[n]), score_of(base[n])) if both else (None, None)
        if own is None or other is None:
            requested = max(n + 1, FIRST_REPETITIONS)
            return Comparison(members[0], confidence_sequence(differences), False, requested, open=True)
        differences.append(own - other)
        interval = confidence_sequence(differences)
        if n + 1 >= FIRST_REPETITIONS and interval.ci_half_width <= search.points / 100:
            return Comparison(members[0], interval, True, n + 1, open=False)
    interval = confidence_sequence(differences) if differences else MeanCI(math.nan, math.inf, 0)
    return Comparison(members[0], interval, False, search.repetitions, open=False)


def plan_repetitions(runs: Sequence[Run], search: Resolve, score_of: ScoreOf, baseline: str) -> tuple[list[Run], bool]:
    """The runs asked for, and whether all differences are resolved or at the cap."""
    compared = compare(runs, search, score_of, baseline)
    wanted: dict[tuple[str, str], int] = {}
    of_task: dict[str, int] = {}
    for one in compared:
        name = task(one.run)
        wanted[name, repr(one.run.loss)] = one.repetitions
        of_task[name] = max(of_task.get(name, 0), one.repetitions)
    most = max(of_task.values(), default=search.repetitions)
    requested = []
    for run in runs:
        name = task(run)
        number = wanted.get((name, repr(run.loss)), of_task.get(name, FIRST_REPETITIONS)) if run.epochs else most
        if run.repetition < number:
            requested.append(run)
    return requested, not any(one.open for one in compared)
