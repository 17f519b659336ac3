"""A command with a budget: what it begins, in which order, and what it leaves."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from cl_semisup.cli import arguments
from cl_semisup.execution.training_groups import Finished, TrainingGroup, single_run
from cl_semisup.report import open_runs
from cl_semisup.results import records
from cl_semisup.scheduling import budget, scheduler
from cl_semisup.scheduling.budget import Budget
from cl_semisup.scheduling.rounds import Rounds
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from tests.helpers import records as record_maker

Parse = Callable[[str], Suite]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Simulated:
    """An engine whose trainings end one after the other, `seconds` apart, with scores by learning rate."""

    def __init__(self, folder: Path, clock: Clock, seconds: float, slots: int = 1):
        self.folder, self.clock, self.seconds, self.slots = folder, clock, seconds, slots
        self.queue: list[TrainingGroup] = []
        self.begun: list[Run] = []

    def submit(self, training: TrainingGroup) -> None:
        self.queue.append(training)
        self.begun += training.runs

    def results(self, seconds: float) -> list[Finished]:
        training = self.queue.pop(0)
        self.clock.now += self.seconds
        made = []
        for run in training.runs:
            path = record_maker.write(
                self.folder, run, 0.3 + 0.1 * (run.learning_rate or 0), seconds=self.seconds if run.epochs else 0.0
            )
            made.append((records.read(path), {}))
            path.unlink()
        return [(training, tuple(made))]

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        return []


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90m", 5400), ("45s", 45), ("1.5h", 5400)])
def test_a_budget_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    assert arguments.duration(text) == seconds


@pytest.mark.parametrize("text", ["2", "h", "0s", "-1h", "2 h", "1d", "nan", "1e3s", "", "2h30m"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="above 0 with its unit, like 2h, 90m or 45s. Got"):
        arguments.duration(text)


def test_a_training_begins_only_if_it_is_expected_to_end_in_time_and_what_finishes_corrects_that() -> None:
    clock, training = Clock(), single_run(record_maker.run())
    made = Budget(60, lambda _: 40.0, clock=clock)
    assert made.fits(training)
    clock.now += 21
    assert not made.fits(training)
    fast = {"status": "ok", "resolved": {}, "cost": {"train_seconds": 4.0, "evaluation_seconds": 1.0}}
    broken = fast | {"resolved": {"stopped_at_step": 3}, "cost": {"train_seconds": 0.1}}
    made.learn(training, ((broken, {}),))
    assert not made.fits(training)
    made.learn(training, ((fast, {}),))
    assert made.expected(training) == 5.0
    assert made.fits(training)
    clock.now += 39
    assert made.over
    assert not made.fits(training)


def test_a_grid_is_done_repetition_by_repetition_with_the_leader_first(tmp_path: Path, parse: Parse, text: str) -> None:
    suite = parse(
        text.replace("[nt_xent, clop]", "clop").replace(": 0.1\nb", ": [0.1, 3, 1]\nb").replace("tions: 1", "tions: 4")
    )
    clock = Clock()
    engine = Simulated(tmp_path, clock, 10)
    rounds = Rounds(tmp_path, suite)
    rounds.at_once = 2
    made = Budget(75, lambda training: 10.0 if training.runs[0].epochs else 0.0, clock=clock)
    scheduler.run_rounds(tmp_path, rounds, engine, budget=made)
    done = [(run.repetition, run.learning_rate) for run in engine.begun]
    assert done[:4] == [(0, None), (0, 0.1), (0, 3.0), (0, 1.0)]
    assert done[4:] == [(1, None), (1, 3.0), (1, 1.0)]  # the rest does not end in time
    left = {run.id for run in scheduler.missing(tmp_path, suite.runs)}
    assert len(left) == len(suite.runs) - len(done)
    told = open_runs.text(rounds.snapshot(), left, "75 seconds", "1 minutes", None)
    assert "open after the budget of 75 seconds" in told
    assert "9 runs open, about 1 minutes. The same command goes on." in told
    scheduler.run_rounds(tmp_path, Rounds(tmp_path, suite), Simulated(tmp_path, clock, 10))
    assert scheduler.missing(tmp_path, suite.runs) == []
    assert open_runs.text(rounds.snapshot(), set(), "75 seconds", "", None).startswith("Everything was done within")


def test_edges_are_searched_one_loss_after_the_other(tmp_path: Path, parse: Parse, text: str) -> None:
    asked = parse(text.replace("learning_rate: 0.1", "learning_rate: {edge: [0.001, 100], per_decade: 4}"))
    rounds = Rounds(tmp_path, asked)
    rounds.at_once = 1  # with more, the next loss begins where one asks for fewer runs
    order = []
    for todo in rounds:
        for run in todo:
            record_maker.write(tmp_path, run, 0.8 if run.epochs else 0.3)
            order.append(run.loss_name)
    assert order == sorted(order, key=["untrained", "nt_xent", "clop"].index)
    whole = Rounds(tmp_path / "whole", asked)
    ids = set()
    for todo in whole:
        for run in todo:
            record_maker.write(tmp_path / "whole", run, 0.8 if run.epochs else 0.3)
            ids.add(run.id)
    assert {run.id for run in rounds.snapshot().runs} == ids  # the same answer in the end


def test_whole_groups_are_chosen_until_every_worker_has_something(parse: Parse, text: str) -> None:
    runs = list(parse(text.replace("repetitions: 1", "repetitions: 3")).runs)
    for at_once, repetitions in ((1, {0}), (2, {0}), (4, {0, 1}), (99, {0, 1, 2})):
        chosen = budget.first_of(runs, at_once, None, lambda run: None)
        assert {run.repetition for run in chosen} == repetitions
        assert len(chosen) >= min(at_once, len(runs))
