"""Who dropped out of a race, when and by how much."""

import math
from collections.abc import Sequence
from dataclasses import replace

from cl_semisup.report import wording
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.results.naming import RunNames
from cl_semisup.results.statistics import mean_ci
from cl_semisup.search.confidence import confidence_sequence
from cl_semisup.search.racing import Config, RaceResult, level_of
from cl_semisup.suite.run import Run


def race_tables(runs: Sequence[Run], found: Sequence[RaceResult], repetitions: int) -> list[Table]:
    """A table a task: every config of every loss, those that stayed first."""
    names = RunNames(list(runs))
    columns = (
        LOSS,
        Column("config", numeric=False),
        Column("race", "a sign a repetition: o took part, . did not; x dropped after that", numeric=False),
        Column("validation %", "mean validation score ± half of its 95 % interval, of the repetitions it ran in"),
        Column(
            "behind the leader",
            "paired difference in these repetitions, points, with the interval that decides the race",
        ),
        Column("outcome", numeric=False),
    )
    tasks: dict[str, list[tuple[Entry, ...]]] = {}
    for result in sorted(found, key=lambda one: names.losses[one.configs[0].run.id]):
        ordered = ranked(result)
        leader = ordered[0]
        for one in ordered:
            loss = names.losses[one.run.id]
            entries = (
                Entry(loss, loss),
                Entry(names.config(one.run)),
                Entry(_picture(one, repetitions)),
                Entry(wording.format_percent(mean_ci(one.scores)), _mean(one)),
                Entry(*behind(one, leader, len(ordered))),
                Entry(outcome(one, leader, result)),
            )
            tasks.setdefault(names.tasks(one.run)[0], []).append(entries)
    return [Table(f"{task}: race for the best config", columns, tuple(rows)) for task, rows in tasks.items()]


def ranked(result: RaceResult) -> list[Config]:
    """Who stayed before who dropped late before who dropped early, each by mean score; so the leader first."""
    return sorted(result.configs, key=lambda one: (-(one.dropped or math.inf), -_mean(one)))


def _mean(config: Config) -> float:
    return sum(config.scores) / len(config.scores) if config.scores else math.nan


def _picture(config: Config, repetitions: int) -> str:
    """`oooox...`"""
    ran = "o" * len(config.scores)
    return (f"{ran[:-1]}x" if config.dropped else ran).ljust(repetitions, ".")


def behind(config: Config, leader: Config, configs: int) -> tuple[str, float]:
    """Points behind the leader of so many configs, in the repetitions that both ran in, as text and number."""
    if config is leader:
        return wording.DASH, math.nan
    pairs = zip(config.scores, leader.scores, strict=False)
    difference = confidence_sequence([a - b for a, b in pairs], level_of(configs))
    if math.isinf(difference.ci_half_width):  # too few repetitions for any
        difference = replace(difference, ci_half_width=math.nan)
    return wording.format_points(difference), difference.mean


def outcome(config: Config, leader: Config, result: RaceResult) -> str:
    """Chosen, dropped when, or not told apart."""
    if config.dropped:
        return f"dropped after {config.dropped}"
    if result.open:
        return "open"
    return "chosen" if config is leader else "not told apart"


NOTES = (
    "A race drops a config when the interval of its difference to the leader, which holds at every look and for all"
    " rivals at once, lies below 0: the truly best config stays with 95 %. It goes by validation scores. The"
    " winner alone runs in the fresh repetitions that the leaderboard reports.",
)
