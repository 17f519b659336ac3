"""The runs that a search asks for, as far as finished runs decide it: the same for every process that reads the folder.

A plan is made anew from the records each time. Nothing else is kept, so a killed search loses nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cl_semisup.search.edges import Ladder, Outcome, Region, first_rungs, next_rungs, region
from cl_semisup.search.lines import Line, lines
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.search.racing import plan_race
from cl_semisup.search.resolution import plan_repetitions
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Edge, Race, Search

OutcomeOf = Callable[[Run], Outcome | None]


@dataclass(frozen=True)
class Searched:
    """A line as far as it is searched; `finished` says whether its edges are found and checked."""

    line: Line
    outcomes: dict[int, Outcome]
    region: Region
    finished: bool


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
        asked, finished = plan_race(runs, search, outcomes.validation_of, tune_repetitions)
    else:
        asked, finished = plan_repetitions(runs, search, outcomes.score_of, baseline)
    return Plan(tuple(asked), finished)


def plan_edges(runs: Sequence[Run], search: Edge, outcome_of: OutcomeOf) -> Plan:
    """All runs off the ladder, and the rungs of every line that its search asks for."""
    found, others = lines(runs, search)
    asked = {run.id: run for run in others}
    finished = True
    for one in follow(found, search, outcome_of):
        if isinstance(one, Run):
            asked[one.id] = one
        else:
            finished &= one.finished
    return Plan(tuple(run for run in runs if run.id in asked), finished)


def follow(found: Iterable[Line], search: Edge, outcome_of: OutcomeOf) -> Iterable[Run | Searched]:
    """The runs that the lines ask for, and each line as far as it is searched."""
    ladder = Ladder(len(search.values), search.per_decade, search.share)
    regions: dict[tuple[str, float, int], Region] = {}
    previous: Line | None = None
    for line in sorted(found, key=lambda line: (line.chain, line.repetition != 0, line.neighbour, line.repetition)):
        neighbour, ready = None, True
        if line.repetition:
            neighbour = regions.get((line.chain, line.neighbour, 0))
            ready = neighbour is not None
        elif previous and previous.chain == line.chain:
            neighbour = regions.get((line.chain, previous.neighbour, 0))
            ready = neighbour is not None
        if not line.repetition:
            previous = line
        if not ready:
            yield Searched(line, {}, region({}, search.share), finished=False)
            continue
        outcomes: dict[int, Outcome] = {}
        rungs, complete = first_rungs(ladder, neighbour), True
        while rungs and complete:
            for rung in rungs:
                run = line.runs[rung]
                yield run
                if (outcome := outcome_of(run)) is None:
                    complete = False
                else:
                    outcomes[rung] = outcome
            rungs = next_rungs(outcomes, ladder) if complete else ()
        searched = region(outcomes, search.share)
        if complete:
            regions[line.chain, line.neighbour, line.repetition] = searched
        yield Searched(line, outcomes, searched, complete)
