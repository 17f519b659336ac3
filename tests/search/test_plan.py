"""Which runs a search asks for, from what is known: edges loss by loss, repetitions until differences are resolved."""

from collections.abc import Callable

import pytest

from cl_semisup.search import lines, plan, resolution
from cl_semisup.search.edges import Outcome
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import FIRST_REPETITIONS, Edge, Resolve
from cl_semisup.suite.suite import Suite

Parse = Callable[[str], Suite]
HIGHEST = {"nt_xent": 1.0, "clop": 0.1}


def outcome(run: Run) -> Outcome:
    good = 0.005 < (run.learning_rate or 0) <= HIGHEST[run.loss_name]
    return Outcome("ok", 0.8, 0.5) if good else Outcome("diverged")


def test_edges_are_asked_for_until_those_of_all_losses_are_known(parse: Parse, text: str) -> None:
    suite = parse(text.replace("learning_rate: 0.1", "learning_rate: {edge: [0.001, 100], per_decade: 4}"))
    assert isinstance(suite.search, Edge)
    done: dict[str, Outcome] = {}
    known = lambda run: done.get(run.id)  # noqa: E731
    while not (asked := plan.plan_edges(suite.runs, suite.search, known)).finished:
        new = [run for run in asked.runs if run.id not in done and run.epochs]
        assert new  # an unfinished search asks for something
        done |= {run.id: outcome(run) for run in new[:1]}  # one by one, so that losses end at different times
    assert [run for run in asked.runs if not run.epochs] == [run for run in suite.runs if not run.epochs]
    trained = [run.id for run in asked.runs if run.epochs]
    assert set(trained) == done.keys()
    assert len(trained) < 0.8 * len([run for run in suite.runs if run.epochs])


@pytest.mark.parametrize(
    ("other", "count"),
    [
        ("{clop: {base: supcon}}", 1),
        ("{clop: {base: supcon, weight: [1, 10]}}", 2),
        ("supcon", 1),
    ],
)
def test_a_loss_with_a_value_of_its_own_is_on_no_ladder_and_is_needed(
    other: str, count: int, parse: Parse, text: str
) -> None:
    searched = "{clop: {weight: {edge: [0.01, 100], per_decade: 2}}}"
    suite = parse(text.replace("losses: [nt_xent, clop]", f"losses: [{searched}, {other}]"))
    assert isinstance(suite.search, Edge)
    asked = plan.plan_edges(suite.runs, suite.search, lambda run: None)
    assert len([run for run in asked.runs if run.epochs]) == 5 + count
    for runs, rungs in ((suite.runs, range(9)), (asked.runs, range(0, 9, 2))):  # a report knows what was requested
        (line,), _ = lines.lines(runs, suite.search)
        assert sorted(line.runs) == list(rungs)


def test_one_finished_loss_does_not_finish_the_others(parse: Parse, text: str) -> None:
    suite = parse(text.replace("learning_rate: 0.1", "learning_rate: {edge: [0.001, 100], per_decade: 4}"))
    assert isinstance(suite.search, Edge)
    names = list(dict.fromkeys(run.loss_name for run in suite.runs if run.epochs))
    for known in names:
        asked = plan.plan_edges(
            suite.runs, suite.search, lambda run, known=known: outcome(run) if run.loss_name == known else None
        )
        assert not asked.finished
        assert {run.loss_name for run in asked.runs if run.epochs} == set(names)


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_repetitions_go_on_until_the_difference_is_resolved(noise: float, parse: Parse, text: str) -> None:
    suite = parse(text.replace("repetitions: 1", "repetitions: {resolve: 1.0, max: 30}\nbaseline: nt_xent"))
    assert isinstance(suite.search, Resolve)
    asked, finished = resolution.plan_repetitions(suite.runs, suite.search, lambda run: None, "nt_xent")
    assert not finished
    repetitions = {run.repetition for run in asked if run.epochs}
    assert repetitions == set(range(FIRST_REPETITIONS))
    assert {run.loss_name for run in asked if run.epochs} == {"nt_xent", "clop"}

    def score(run: Run) -> float:
        return 0.8 + 0.05 * (run.loss_name == "clop") + noise * (run.repetition % 2) * (run.loss_name == "clop")

    (compared,) = resolution.compare(suite.runs, suite.search, score, "nt_xent")
    assert compared.resolved and not compared.open
    assert compared.difference.mean == pytest.approx(0.05, abs=2 * noise + 1e-12)
    assert FIRST_REPETITIONS <= compared.repetitions <= 12


def test_a_report_that_knows_fewer_runs_of_one_side_has_an_open_difference(parse: Parse, text: str) -> None:
    suite = parse(text.replace("repetitions: 1", "repetitions: {resolve: 1.0, max: 30}\nbaseline: nt_xent"))
    assert isinstance(suite.search, Resolve)
    for missing in ("nt_xent", "clop"):
        runs = [run for run in suite.runs if run.loss_name != missing or run.repetition < 2]
        (compared,) = resolution.compare(runs, suite.search, lambda run: 0.5, "nt_xent")
        assert compared.open and compared.repetitions == FIRST_REPETITIONS
