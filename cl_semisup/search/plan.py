"""The runs that a search asks for, as far as finished runs decide it: the same for every process that reads the folder.

A plan is made anew from the records each time. Nothing else is kept, so a killed search loses nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from cl_semisup.search.edges import NOTHING, Ladder, Outcome, Region, first_rungs, next_rungs, region
from cl_semisup.search.lines import Line, lines
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.search.racing import plan_race
from cl_semisup.search.resolution import plan_repetitions
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Edge, Race, Search

OutcomeOf = Callable[[Run], Outcome | None]


@dataclass(frozen=True)
class Plan:
    """The runs asked so far, those of the present round included; `finished` if no further round follows."""

    runs: tuple[Run, ...]
    finished: bool


def plan(runs: Sequence[Run], search: Search, outcomes: Outcomes, baseline: str, tune_repetitions: int = 0) -> Plan:
    """The runs of the full grid that a search asks for; a race takes the first `tune_repetitions`."""
    if isinstance(search, Edge):
        return plan_edges(runs, search, outcomes.outcome)
    if isinstance(search, Race):
        requested, finished = plan_race(runs, search, outcomes.validation_of, tune_repetitions)
    else:
        requested, finished = plan_repetitions(runs, search, outcomes.score_of, baseline)
    return Plan(tuple(requested), finished)


def plan_edges(runs: Sequence[Run], search: Edge, outcome_of: OutcomeOf) -> Plan:
    """All runs off the ladder, and the rungs of every line that its search asks for."""
    found, others = lines(runs, search)
    incomplete = [line for line in found if len(line.runs) < len(search.values)]  # of a loss with a list of its own
    others += [run for line in incomplete for run in line.runs.values()]
    found = [line for line in found if line not in incomplete]
    requested = {run.id: run for run in others}
    finished = True
    ladder, neighbours = Ladder.of(search), dict[str, Region | None]()
    for (chain, _), group in groupby(found, key=lambda line: (line.chain, line.neighbour)):
        neighbour = neighbours.get(chain, NOTHING)
        if neighbour is None:  # what this one starts from is not known yet
            finished = False
            continue
        members = list(group)
        neighbours[chain], complete = _follow(members, ladder, neighbour, outcome_of, requested)
        finished &= complete
    return Plan(tuple(run for run in runs if run.id in requested), finished)


def _follow(
    members: Sequence[Line], ladder: Ladder, neighbour: Region, outcome_of: OutcomeOf, requested: dict[str, Run]
) -> tuple[Region | None, bool]:
    """Ask for the runs of a loss in all repetitions, as far as outcomes decide it.

    Returns:
        what the first repetition found before the others began, from which the next neighbour starts; None while that
        is not known; and whether nothing is missing
    """
    tables: list[dict[int, Outcome]] = [{} for _ in members]
    alone = None
    while any(wanted := next_rungs(tables, ladder, neighbour)):
        if alone is None and not first_rungs(tables[0], ladder, neighbour):
            alone = region(tables[0], ladder)
        missing = False
        for line, table, rungs in zip(members, tables, wanted, strict=True):
            for rung in sorted(rungs):
                run = line.runs[rung]
                requested[run.id] = run
                if (outcome := outcome_of(run)) is None:
                    missing = True
                else:
                    table[rung] = outcome
        if missing:
            return alone, False
    return alone or region(tables[0], ladder), True
