"""The longest trainings start first, in an order that the suite and its records alone decide."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cl_semisup.execution import training_groups
from cl_semisup.execution.training_groups import Finished, TrainingGroup
from cl_semisup.scheduling import order, scheduler
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from tests.helpers import records as record_maker

Parse = Callable[[str], Suite]


def ordered(runs: list[Run], seconds: order.ExpectedSeconds) -> list[Run]:
    return [training.runs[0] for training in order.longest_first(training_groups.group(runs), seconds)]


def test_most_images_go_first_and_equals_stay_in_the_suites_order(tmp_path: Path, parse: Parse, text: str) -> None:
    """Epochs, the size of the data set and the views of the loss all count; untrained runs come last."""
    text = text.replace("epochs: 1", "epochs: [1, 4]").replace("nt_xent, clop", "nt_xent, lorac")
    suite = parse(text.replace("datasets: digits", "datasets: [digits, {subspaces: {points: 100}}]"))
    runs = ordered(list(suite.runs), order.expected_seconds(tmp_path, suite))
    digits, few = 1437, 3 * 100
    lorac_views = 3
    images = [
        run.epochs
        * (digits if run.dataset_name == "digits" else few)
        * (lorac_views if run.loss_name == "lorac" else 2)
        for run in runs
    ]
    assert images == sorted(images, reverse=True)
    assert images[-1] == 0
    untrained = [run for run, count in zip(runs, images, strict=True) if count == 0]
    assert untrained == [run for run in suite.runs if not run.epochs]


def test_finished_runs_tell_what_an_image_costs(tmp_path: Path, parse: Parse, text: str) -> None:
    """A slow loss goes before a fast one with as many images, once a run of each has finished."""
    suite = parse(text.replace("repetitions: 1", "repetitions: 2"))
    fast, slow = [[run for run in suite.runs if run.loss_name == loss] for loss in ("nt_xent", "clop")]
    record_maker.write(tmp_path, fast[0], seconds=1.0)
    assert ordered([fast[1], slow[1]], order.expected_seconds(tmp_path, suite)) == [
        fast[1],
        slow[1],
    ]  # the only rate known
    record_maker.write(tmp_path, slow[0], seconds=2.0)
    seconds = order.expected_seconds(tmp_path, suite)
    assert ordered([fast[1], slow[1]], seconds) == [slow[1], fast[1]]
    assert (seconds(fast[1]), seconds(slow[1])) == pytest.approx((1.0, 2.0))


def test_failed_and_unreadable_records_tell_nothing(tmp_path: Path, parse: Parse, text: str) -> None:
    suite = parse(text)
    first, second = (run for run in suite.runs if run.epochs)
    before = order.expected_seconds(tmp_path, suite)(second)
    record_maker.write(tmp_path, first, status="failed", seconds=1000.0)
    record_maker.write(tmp_path, second).write_text("{")
    assert order.expected_seconds(tmp_path, suite)(second) == before


class FakeEngine:
    """An engine that trains nothing; `events` has what happens, in order."""

    slots = 1

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.in_flight: list[TrainingGroup] = []

    def submit(self, training: TrainingGroup) -> None:
        self.events.append(training.runs[0])
        self.in_flight.append(training)

    def results(self, seconds: float) -> list[Finished]:
        training = self.in_flight.pop()
        return [(training, tuple(({"status": "ok", "cost": {}}, {}) for _ in training.runs))]

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        return []


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr(scheduler.records, "write", lambda results, run, *_: engine.events.append(f"wrote {run.id}"))
    monkeypatch.setattr(scheduler.Progress, "finished", lambda *_: None)
    return engine


def test_a_worker_gets_its_next_training_before_records_are_written(
    tmp_path: Path, parse: Parse, text: str, fake_engine: FakeEngine
) -> None:
    runs = [run for run in parse(text.replace("epochs: 1", "epochs: [1, 2]")).runs if run.epochs]
    scheduler.run_all(tmp_path, runs, fake_engine, expected_seconds=lambda run: run.epochs)
    first, second, third, last = sorted(runs, key=lambda run: -run.epochs)
    wrote = [f"wrote {run.id}" for run in (first, second, third, last)]
    assert fake_engine.events == [first, second, wrote[0], third, wrote[1], last, wrote[2], wrote[3]]


def test_a_finished_run_is_kept_though_the_next_cannot_start(
    tmp_path: Path, parse: Parse, text: str, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run for run in parse(text).runs if run.epochs]
    submit = fake_engine.submit
    monkeypatch.setattr(fake_engine, "submit", lambda training: submit(training) if not fake_engine.events else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scheduler.run_all(tmp_path, runs, fake_engine)
    assert fake_engine.events == [runs[0], f"wrote {runs[0].id}"]


def test_a_loss_that_says_nothing_of_its_views_is_taken_to_have_two(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = parse(text.replace("epochs: 1", "epochs: 3"))
    run = next(run for run in suite.runs if run.epochs)
    known = order._images_of(suite)(run)
    monkeypatch.setattr(training_groups, "requirements", lambda run: None)
    assert order._images_of(suite)(run) == known == 3 * 2 * 1437
