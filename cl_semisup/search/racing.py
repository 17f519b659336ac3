"""The best config of each loss by a race over repetitions: who is clearly worse than the leader is dropped.

All configs of a loss on a task begin with the same repetitions. After each further one, the leader is the config with
the best mean validation score, and a config is dropped if the interval of its paired difference to the leader lies
below 0. The intervals hold at every look, and for all pairs of a best config with its K - 1 rivals at once (level
1 - 0.05 / (K - 1) each): so the config whose true mean is best stays in the race with 95 %. Who is not dropped gets all
repetitions of the race. Of these, the config with the best mean wins, and alone runs in the repetitions that are
reported, which are fresh: a score that won is too high (the winner's curse).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from statistics import fmean

from cl_semisup.results.statistics import CONFIDENCE
from cl_semisup.search.confidence import confidence_sequence
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import FIRST_REPETITIONS, Race, cell, task, task_and_loss

ScoreOf = Callable[[Run], float | None]


@dataclass(frozen=True)
class Config:
    """A config in its race.

    Args:
        run: any of its runs
        scores: validation scores of the repetitions that it ran in
        dropped: repetitions after which it was dropped; 0 if it was not
    """

    run: Run
    scores: tuple[float, ...]
    dropped: int


@dataclass(frozen=True)
class RaceResult:
    """The race of one loss on one task: its configs, the repetitions asked for of each, and whether it is over."""

    configs: tuple[Config, ...]
    requested: tuple[int, ...]
    open: bool


def level_of(configs: int) -> float:
    """Of the interval of one rival's difference, so that those of all rivals hold together."""
    return 1 - (1 - CONFIDENCE) / max(configs - 1, 1)


def race(scores: Sequence[Callable[[int], float | None]], repetitions: int) -> tuple[list[list[float]], list[int], int]:
    """Scores by config, when each was dropped (0: not), and the repetition that is open (`repetitions`: none).

    `scores` gives each config's validation score in a repetition, None while it is not known.
    """
    level = level_of(len(scores))
    known: list[list[float]] = [[] for _ in scores]
    dropped = [0] * len(scores)
    for n in range(repetitions):
        running = [i for i, when in enumerate(dropped) if not when]
        values = {i: scores[i](n) for i in running}
        if any(value is None for value in values.values()):
            return known, dropped, n
        for i, value in values.items():
            known[i].append(math.nan if value is None else value)
        if n + 1 < FIRST_REPETITIONS:
            continue
        leader = max(running, key=lambda i: fmean(known[i]))
        for i in running:
            ahead = confidence_sequence([a - b for a, b in zip(known[leader], known[i], strict=True)], level)
            if i != leader and ahead.mean - ahead.ci_half_width > 0:
                dropped[i] = n + 1
    return known, dropped, repetitions


def races(runs: Iterable[Run], search: Race, score_of: ScoreOf, repetitions: int) -> list[RaceResult]:
    """The race of every loss of every task as far as finished runs decide it."""
    groups: dict[str, dict[str, dict[int, Run]]] = {}
    for run in runs:
        if run.epochs:
            config = repr((run.loss, run.learning_rate, run.batch_size, run.optimizer, run.schedule))
            groups.setdefault(_competitors(run, search), {}).setdefault(config, {})[run.repetition] = run
    return [_run_race(list(configs.values()), score_of, repetitions) for configs in groups.values()]


def _run_race(configs: Sequence[dict[int, Run]], score_of: ScoreOf, repetitions: int) -> RaceResult:
    def scores(members: dict[int, Run]) -> Callable[[int], float | None]:
        return lambda n: score_of(members[n]) if n in members else None

    known, dropped, at = race([scores(members) for members in configs], repetitions)
    going_on = repetitions if at == repetitions else max(at + 1, FIRST_REPETITIONS)
    return RaceResult(
        tuple(
            Config(next(iter(members.values())), tuple(values), when)
            for members, values, when in zip(configs, known, dropped, strict=True)
        ),
        tuple(when or going_on for when in dropped),
        at < repetitions,
    )


def winner(result: RaceResult) -> Config:
    """Of those that stayed, the config with the best mean; the first of the suite's grid where there are no scores."""
    staying = [one for one in result.configs if not one.dropped]
    scored = [one for one in staying if one.scores and not math.isnan(fmean(one.scores))]
    return max(scored, key=lambda one: fmean(one.scores)) if scored else staying[0]


def plan_race(runs: Sequence[Run], search: Race, score_of: ScoreOf, repetitions: int) -> tuple[list[Run], bool]:
    """The runs asked for, and whether all races are over, which take the first `repetitions` of the suite.

    The untrained network runs in all repetitions.
    """
    found = races((run for run in runs if run.repetition < repetitions), search, score_of, repetitions)
    wanted = {cell(one.run): n for result in found for one, n in zip(result.configs, result.requested, strict=True)}
    won = {cell(winner(result).run) for result in found if not result.open}

    def is_requested(run: Run) -> bool:
        if run.repetition >= repetitions:
            return not run.epochs or cell(run) in won
        return not run.epochs or run.repetition < wanted[cell(run)]

    return list(filter(is_requested, runs)), not any(result.open for result in found)


def losing_settings(runs: Iterable[Run], search: Race, found: Iterable[RaceResult]) -> frozenset[str]:
    """Ids of the runs of losses whose settings lost a race between settings: they are compared no further."""
    if search.axis[0] != "loss":
        return frozenset()
    ended = [result for result in found if not result.open]
    won = {task_and_loss(winner(result).run) for result in ended}
    raced = {task_and_loss(one.run) for result in ended for one in result.configs}
    return frozenset(run.id for run in runs if run.epochs and task_and_loss(run) in raced - won)


def _competitors(run: Run, search: Race) -> str:
    """What the configs of one race have in common: the task, and the loss without the setting that is raced."""
    loss = {"loss": run.loss}
    if search.axis[0] == "loss":
        loss = deepcopy(loss)
        try:
            reduce(getitem, search.axis[:-1], loss).pop(search.axis[-1])
        except (KeyError, TypeError, AttributeError):  # another loss, which does not have the setting
            return task_and_loss(run)
    return task(run) + repr(loss["loss"])
