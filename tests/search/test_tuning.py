"""Tuning and reporting apart: which runs are asked for, which are reported, and by how much the first were too high."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cl_semisup.errors import InputError, SuiteError
from cl_semisup.gate.plan import make_plan
from cl_semisup.report import markdown, tuning
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import leaderboard, statistics
from cl_semisup.results.run_table import gather
from cl_semisup.scheduling.rounds import Rounds
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from tests.helpers import records as record_maker

Parse = Callable[[str], Suite]
BEST = {"nt_xent": 1.0, "clop": 0.1}


@pytest.fixture
def written(text: str) -> str:
    text = text.replace("learning_rate: 0.1", "learning_rate: [0.1, 1, 10]")
    return text.replace("repetitions: 1", "repetitions: 3") + "tune_repetitions: 2\nbaseline: nt_xent\n"


@pytest.fixture
def suite(parse: Parse, written: str) -> Suite:
    return parse(written)


def score(run: Run) -> float:
    """Higher by 10 points in the repetitions that tune; other noise has no reason either."""
    base = 0.5 + 0.01 * ((len(run.loss_name) + 1) * (run.repetition + 1) % 7)
    return base + (0.1 if run.repetition < 2 else 0.0)


def train(results: Path, run: Run) -> None:
    right = not run.epochs or run.learning_rate == BEST[run.loss_name]
    record_maker.write(results, run, score(run), validation=0.8 if right else 0.6)


def rounds(results: Path, suite: Suite, finish: Callable[[Path, Run], None] = train) -> list[list[Run]]:
    done = []
    for todo in Rounds(results, suite):
        for run in todo:
            finish(results, run)
        done.append(list(todo))
    return done


def trained(runs: list[Run]) -> set[tuple[str, float | None, int]]:
    return {(run.loss_name, run.learning_rate, run.repetition) for run in runs if run.epochs}


def test_the_first_repetitions_choose_and_only_the_chosen_configs_run_in_fresh_ones(
    tmp_path: Path, suite: Suite
) -> None:
    first, second = rounds(tmp_path, suite)
    every = {(loss, rate, n) for loss in BEST for rate in (0.1, 1, 10) for n in (0, 1)}
    assert trained(first) == every
    assert trained(second) == {(loss, rate, n) for loss, rate in BEST.items() for n in (2, 3, 4)}
    assert len([run for run in first if not run.epochs]) == 5


def test_repetitions_that_tune_are_the_first_of_as_many_and_move_no_id(parse: Parse, written: str) -> None:
    plain = written.replace("repetitions: 3", "repetitions: 5").replace("tune_repetitions: 2\n", "")
    assert parse(written).runs == parse(plain).runs


def test_a_loss_waits_for_its_own_configs_only(tmp_path: Path, suite: Suite) -> None:
    for run in next(iter(Rounds(tmp_path, suite))):
        if run.loss_name != "clop" or run.learning_rate != 10:
            train(tmp_path, run)
    assert {name for name, _, n in trained(list(Rounds(tmp_path, suite).snapshot().runs)) if n >= 2} == {"nt_xent"}


def test_a_failed_run_keeps_no_loss_waiting(tmp_path: Path, suite: Suite) -> None:
    def fail(results: Path, run: Run) -> None:
        if run.loss_name == "clop" and run.learning_rate == 10:
            record_maker.write(results, run, status="failed")
        else:
            train(results, run)

    assert trained(rounds(tmp_path, suite, fail)[1]) >= {("clop", 0.1, n) for n in (2, 3, 4)}


def test_fresh_repetitions_are_reported_and_the_winners_curse_is_the_unpaired_difference(
    tmp_path: Path, suite: Suite
) -> None:
    asked = [run for done in rounds(tmp_path, suite) for run in done]
    (board,) = leaderboard.boards(gather(tmp_path, asked), "linear_top1", "nt_xent", tune_repetitions=2)
    for row in board.trained_rows:
        chosen = [run for run in asked if run.loss_name == row.loss and run.learning_rate == BEST[row.loss]]
        before, after = ([score(r) for r in chosen if (r.repetition < 2) == tunes] for tunes in (True, False))
        assert row.repetition_scores.tolist() == after
        assert row.winners_curse.mean == pytest.approx(np.mean(before) - np.mean(after))
        interval = stats.ttest_ind(before, after, equal_var=False).confidence_interval(0.95)
        assert row.winners_curse.ci_half_width == pytest.approx((interval.high - interval.low) / 2)
    base = next(row for row in board.rows if row.loss == "nt_xent")
    other = next(row for row in board.rows if row.loss == "clop")
    paired = other.repetition_scores - base.repetition_scores
    assert other.difference.mean == pytest.approx(paired.mean())
    assert other.difference.n == 3


@pytest.mark.parametrize(
    ("values", "others", "expected"),
    [([], [1.0, 2.0], (np.nan, np.nan)), ([1.0], [0.5, 0.5], (0.5, np.nan)), ([1.0, 1.0], [0.5, 0.5], (0.5, 0.0))],
)
def test_a_difference_of_few_or_equal_values_is_defined_or_a_dash(
    values: list[float], others: list[float], expected: tuple[float, float]
) -> None:
    found = statistics.difference(np.array(values), np.array(others))
    np.testing.assert_equal((found.mean, found.ci_half_width), expected)


def test_reports_say_how_configs_were_chosen_and_show_the_curse(tmp_path: Path, suite: Suite) -> None:
    rounds(tmp_path, suite)
    page = markdown.page(ReportData.read(tmp_path, Rounds(tmp_path, suite).snapshot()))
    assert "winner's curse" in page
    assert "training images that trained neither the network nor the probe" in page
    assert "The first 2 repetitions chose the configs and are not reported" in page


def test_where_nothing_could_be_validated_nothing_has_won(tmp_path: Path, parse: Parse, written: str) -> None:
    """As with one label a class and `validation: labelled`. The chance of a diverged run chooses nothing."""

    def untuned(results: Path, run: Run) -> None:
        record_maker.write(results, run, score(run), "diverged" if run.learning_rate == 10 else "ok")

    suite = parse(written + "validation: labelled\n")
    asked = [run for done in rounds(tmp_path, suite, untuned) for run in done]
    (board,) = leaderboard.boards(gather(tmp_path, asked), "linear_top1", "nt_xent", tune_repetitions=2)
    assert all(np.isnan(row.winners_curse.mean) for row in board.rows)
    assert {row.reported_cell.learning_rate for row in board.trained_rows} == {0.1}  # the first of the grid
    page = markdown.page(ReportData.read(tmp_path, Rounds(tmp_path, suite).snapshot()))
    assert "each loss stands in the first config of the grid, untuned" in page
    assert "The first 2 repetitions were to choose the configs and are not reported." in page
    assert "by so much a table" not in page


@pytest.mark.parametrize("validation", ["all", "held\\_out", "labelled"])
def test_settings_of_validation_that_are_compared_have_tables_of_their_own(
    tmp_path: Path, parse: Parse, text: str, validation: str
) -> None:
    suite = parse(text + "validation: [all, held_out, labelled]\n")
    for run in suite.runs:
        record_maker.write(tmp_path, run)
    page = markdown.page(ReportData.read(tmp_path, Rounds(tmp_path, suite).snapshot()))
    assert f"## digits, labels 10%, validation={validation}\n" in page


def test_a_word_of_a_stranger_chooses_nothing() -> None:
    assert tuning.chosen_by("by luck") == "config chosen by validation"
    assert "No record has a validation score" in tuning.tuning_note((), "linear_top1", "labelled")


def test_a_search_decides_itself_and_a_gate_compares_all(parse: Parse, written: str) -> None:
    with pytest.raises(SuiteError, match="tune_repetitions: must be 0 where the suite searches"):
        parse(written.replace("[0.1, 1, 10]", "{edge: [0.001, 100]}"))
    with pytest.raises(InputError, match="tune_repetitions: a gate compares all runs of a grid. Got 2."):
        make_plan(parse(written), written)
