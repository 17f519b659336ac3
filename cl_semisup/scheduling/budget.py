"""A command that may take so long and no longer: what it begins, and in which order.

A training begins only while it is expected to end in time, by the seconds of finished runs like it or of a few measured
steps; those that this command finishes correct the expectation. Nothing that has begun is stopped.

The order is that of value. Repetitions come one after the other, so that every cell has something before any has two;
in each, the untrained networks first, by which the others are judged, then the configs whose validation scores lead.
Edges are searched one loss after the other, since two that are found are worth more than four that are half found.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import fmean

from cl_semisup.execution import training_groups
from cl_semisup.execution.training_groups import RunResults, TrainingGroup
from cl_semisup.scheduling.progress import cost_key
from cl_semisup.search.lines import chain
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Edge, Search, cell

Expected = Callable[[TrainingGroup], float]  # seconds, 0 where nothing is known: beginning one will tell


class Budget:
    """The time that a command has.

    Args:
        expected: seconds of a training and the evaluations of its runs
        slots: trainings at once
        began: when the command began, by `clock`
    """

    def __init__(
        self,
        seconds: float,
        expected: Expected,
        slots: int = 1,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.seconds, self.slots, self.clock = seconds, slots, clock
        self.deadline = (clock() if began is None else began) + seconds
        self._expected = expected
        self._measured: defaultdict[str, list[float]] = defaultdict(list)

    @property
    def over(self) -> bool:
        return self.clock() >= self.deadline

    def expected(self, training: TrainingGroup) -> float:
        """Seconds of a training and the evaluation of its runs."""
        measured = self._measured.get(_key(training))
        return fmean(measured) if measured else self._expected(training)

    def fits(self, training: TrainingGroup) -> bool:
        """Is it expected to end in time if it begins now?"""
        return not self.over and self.clock() + self.expected(training) <= self.deadline

    def rest(self, runs: Iterable[Run]) -> float:
        """Seconds that these runs will take."""
        return sum(map(self.expected, training_groups.group(runs))) / self.slots

    def learn(self, training: TrainingGroup, results: RunResults) -> None:
        """Correct the expectation by a training that has finished. One that broke early says nothing of others."""
        sound = [record for record, _ in results if record["status"] in ("ok", "collapsed")]
        if len(sound) == len(results) and not any("stopped_at_step" in record["resolved"] for record in sound):
            seconds = max(record["cost"].get("train_seconds", 0.0) for record in sound)
            seconds += sum(record["cost"].get("evaluation_seconds", 0.0) for record in sound)
            self._measured[_key(training)].append(seconds)


def _key(training: TrainingGroup) -> str:
    """Trainings with the same key cost about the same."""
    return f"{len(training.runs)} {cost_key(training.runs[0])}"


def first_of(
    todo: Iterable[Run], at_once: int, search: Search | None, score_of: Callable[[Run], float | None]
) -> list[Run]:
    """What is worth most of the runs of a round, in its order: whole groups, until there are `at_once` runs.

    A group is a repetition; of edges, the lines of one loss in a repetition. `score_of` gives validation scores.
    """
    todo = list(todo)
    scores: dict[str, list[float]] = defaultdict(list)
    groups: dict[tuple[int, bool, str], list[Run]] = {}
    for run in todo:
        line = chain(run, search) if isinstance(search, Edge) and run.epochs else ""
        groups.setdefault((run.repetition, bool(run.epochs), line), []).append(run)
        if run.epochs and cell(run) not in scores:
            earlier = (score_of(_with(run, n)) for n in range(run.repetition))
            scores[cell(run)] = [score for score in earlier if score is not None]
    chosen: list[Run] = []
    for group in sorted(groups, key=lambda key: key[:2]):  # lines keep the suite's order
        if len(chosen) >= at_once:
            break
        chosen += sorted(groups[group], key=lambda run: -fmean(scores.get(cell(run)) or [0.0]))
    return chosen


def _with(run: Run, repetition: int) -> Run:
    return replace(run, repetition=repetition)
