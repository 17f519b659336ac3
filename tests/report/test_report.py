"""Ranks, stability metrics, and every form of the report: what is claimed, what is escaped, that bytes repeat."""

import csv
import importlib.util
import io
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cl_semisup import report
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.report import (
    comparison,
    export,
    html,
    latex,
    markdown,
    ranking,
    stability,
    svg,
    tables,
    terminal,
    wording,
)
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import leaderboard, statistics
from cl_semisup.results.leaderboard import Board
from cl_semisup.results.run_table import gather
from cl_semisup.results.statistics import MeanCI
from cl_semisup.suite.run import Run
from tests.helpers.records import curves, grid, run, select, write

NASTY = "<script>alert(1)</script>|_$&\n=1"


def boards_of(results: Path, runs: list[Run], baseline: str = "nt_xent") -> list[Board]:
    return leaderboard.boards(gather(results, runs), "linear_top1", baseline)


def fill(results: Path, runs: list[Run], score: Any) -> None:
    """Write every run's record with `score(run)`, or as diverged where that is None."""
    for one in runs:
        found = score(one)
        write(results, one, found or 0.0, "diverged" if found is None else "ok")


# Which losses the data tell apart ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_p_value_is_the_paired_t_tests(seed: int) -> None:
    random = np.random.RandomState(seed)
    a, b = random.normal(size=8), random.normal(0.5, size=8)
    assert ranking.p_value(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_equal_losses_are_never_told_apart_and_a_constant_gain_always() -> None:
    assert ranking.p_value(np.zeros(8)) == 1.0
    assert ranking.p_value(np.full(8, 0.1)) == 0.0


def losses_with(results: Path, gains: dict[str, float], repetitions: int, noise: float = 0.01) -> Board:
    random = np.random.RandomState(1)
    runs = grid(gains, repetitions)
    levels = random.normal(0.5, 0.05, size=repetitions)
    for one in sorted(runs, key=lambda r: (r.loss_name, r.repetition)):
        gain = gains.get(one.loss_name, -0.3)
        write(results, one, levels[one.repetition] + gain + random.normal(0, noise))
    return boards_of(results, runs)[0]


def test_losses_that_the_data_cannot_separate_share_a_rank(tmp_path: Path) -> None:
    found = losses_with(tmp_path, {"supcon": 0.2, "clop": 0.2, "nt_xent": 0.0}, repetitions=8)
    assert ranking.rank_intervals(found) == {"supcon": (1, 2), "clop": (1, 2), "nt_xent": (3, 3)}
    assert ranking.against_baseline(found) == {"supcon": "better", "clop": "better"}


def test_a_loss_whose_scores_scatter_has_a_wide_interval_and_no_good_rank(tmp_path: Path) -> None:
    runs = grid(["supcon", "clop", "nt_xent"], 8)
    random = np.random.RandomState(3)
    noise = {"nt_xent": 0.2}
    for one in sorted(runs, key=lambda r: (r.loss_name, r.repetition)):
        mean = {"supcon": 0.6, "clop": 0.5, "nt_xent": 0.55}.get(one.loss_name, 0.1)
        write(tmp_path, one, float(np.clip(mean + random.normal(0, noise.get(one.loss_name, 0.01)), 0, 1)))
    found = ranking.rank_intervals(boards_of(tmp_path, runs)[0])
    assert found == {"supcon": (1, 2), "nt_xent": (1, 3), "clop": (2, 3)}


def test_a_loss_that_learnt_nothing_has_no_rank(tmp_path: Path) -> None:
    found = losses_with(tmp_path, {"supcon": 0.2, "clop": 0.1, "nt_xent": -0.3}, repetitions=8)
    assert found.row_of("nt_xent").verdict == "weak"
    table = tables.board_table(found)
    at = [column.name for column in table.columns].index("rank")
    assert {row[0].text: row[at].text for row in table.rows} == {
        "supcon": "1", "clop": "2", "nt_xent": wording.DASH, "untrained": wording.DASH
    }  # fmt: skip


def test_below_six_pairs_nothing_is_ranked_however_clear_it_looks(tmp_path: Path) -> None:
    found = losses_with(tmp_path, {"supcon": 0.4, "nt_xent": 0.0}, repetitions=5)
    assert ranking.rank_intervals(found) == {}
    assert ranking.against_baseline(found) == {}
    assert [column.name for column in tables.board_table(found).columns][1] != "rank"


def blocks(seed: int, datasets: int = 3, tasks: int = 2, losses: int = 4, repetitions: int = 5) -> list[np.ndarray]:
    random = np.random.RandomState(seed)
    return [random.randint(0, 12, size=(tasks, losses, repetitions)) / 12 for _ in range(datasets)]


@pytest.mark.parametrize("seed", range(10))
def test_mean_ranks_share_ties_like_scipys(seed: int) -> None:
    made = blocks(seed)
    expected = [
        np.mean([stats.rankdata(-task[:, repetition]) for task in block], axis=0)
        for block in made
        for repetition in range(block.shape[2])
    ]
    assert ranking._unit_ranks(made) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("seed", range(10))
def test_the_interquartile_mean_is_scipys_trimmed_mean(seed: int) -> None:
    made = blocks(seed)
    for loss in range(4):
        units = [block[:, loss, repetition] for block in made for repetition in range(block.shape[2])]
        found = ranking._iqm(units)
        assert found.mean == pytest.approx(stats.trim_mean(np.concatenate(units), 0.25))
        without = [stats.trim_mean(np.concatenate(units[:i] + units[i + 1 :]), 0.25) for i in range(len(units))]
        error = math.sqrt((len(units) - 1) * np.var(without))
        assert found.ci_half_width == pytest.approx(error * stats.t.ppf(0.975, len(units) - 1))


@pytest.mark.parametrize("seed", range(5))
def test_a_win_rate_counts_pairs_and_half_of_ties(seed: int) -> None:
    made = blocks(seed)
    for loss in range(4):
        scores = [(a > b) + (a == b) / 2 for x in made for t in x for a, b in zip(t[loss], t[1], strict=True)]
        found = ranking._win_rate(made, loss, 1, 15)
        assert found.value == pytest.approx(np.mean(scores))
        assert found.low <= found.value <= found.high
    assert ranking._win_rate([made[0] * 0 + np.arange(4)[None, :, None]], 3, 1, 5).low < 0.6  # five wins of five


@pytest.mark.parametrize("seed", range(5))
def test_friedmans_test_is_scipys(seed: int) -> None:
    scores = np.random.RandomState(seed).randint(0, 8, size=(12, 4))  # ties included
    found = ranking.friedman(np.array([stats.rankdata(-row) for row in scores]), list("abcd"))
    assert found is not None
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)


@pytest.mark.parametrize(("k", "q"), [(3, 2.343), (5, 2.728), (10, 3.164)])  # Demsar 2006, table 5
def test_the_critical_difference_is_the_published_one(k: int, q: float) -> None:
    ranks = np.tile(np.arange(1.0, k + 1), (14, 1))
    found = ranking.friedman(ranks, [str(i) for i in range(k)])
    assert found is not None
    assert found.critical_difference == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 14)), rel=1e-3)


def test_friedmans_test_waits_for_ten_data_sets() -> None:
    assert ranking.friedman(np.tile([1.0, 2.0, 3.0], (9, 1)), list("abc")) is None


def many_tasks(results: Path, datasets: int, repetitions: int, gains: dict[str, float]) -> list[Board]:
    random = np.random.RandomState(0)
    runs = grid(gains, repetitions, dataset=[{f"set{i}": {}} for i in range(datasets)], label_fraction=[0.1, 1.0])
    for one in sorted(runs, key=lambda r: r.id):
        write(results, one, 0.5 + gains.get(one.loss_name, -0.2) + random.normal(0, 0.01))
    return boards_of(results, runs)


def test_a_loss_that_always_wins_is_first_over_all_tasks(tmp_path: Path) -> None:
    found = ranking.rank_overall(many_tasks(tmp_path, 2, 3, {"supcon": 0.3, "nt_xent": 0.0, "clop": 0.0}))
    assert found is not None
    first = found.standings[0]
    assert (first.loss, first.ranks) == ("supcon", (1, 1))
    assert (first.mean_rank.mean, first.mean_rank.ci_half_width) == (1, 0)
    assert [one.ranks for one in found.standings[1:]] == [(2, 3), (2, 3)]  # nothing separates them
    assert first.win_rate is not None
    assert first.win_rate.value == 1
    assert found.units == 6


def test_a_loss_that_learnt_nothing_on_any_task_has_no_rank_over_them(tmp_path: Path) -> None:
    found = ranking.rank_overall(many_tasks(tmp_path, 2, 3, {"supcon": 0.3, "nt_xent": -0.3}))
    assert found is not None
    table = tables.overall_table(found, "linear_top1", "")
    assert [(row[0].text, row[1].text) for row in table.rows] == [("supcon", "1"), ("nt_xent", wording.DASH)]


def test_below_six_units_no_rank_is_given_over_tasks(tmp_path: Path) -> None:
    found = ranking.rank_overall(many_tasks(tmp_path, 1, 5, {"supcon": 0.3, "nt_xent": 0.0}))
    assert found is not None
    assert [one.ranks for one in found.standings] == [None, None]


@pytest.mark.parametrize(("datasets", "there"), [(9, False), (10, True)])
def test_a_critical_difference_diagram_comes_with_ten_data_sets(tmp_path: Path, datasets: int, there: bool) -> None:
    runs = grid(["nt_xent", "supcon", "clop"], 1, dataset=[{f"set{i}": {}} for i in range(datasets)])
    fill(tmp_path, runs, lambda one: 0.5 + len(one.loss_name) / 100)
    found = report.make(tmp_path, select(runs))
    page = next(path for path in found.files if path.suffix == ".html").read_text("utf-8")
    assert ("mean ranks with critical difference" in page) is there
    assert (f"over {datasets} data sets. A bar reaches" in page) is there


def best_ranks(board: Board) -> dict[str, int]:
    return {loss: low for loss, (low, _) in ranking.rank_intervals(board).items()}


def test_turning_all_scores_round_turns_the_ranks_round(tmp_path: Path) -> None:
    gains = {"supcon": 0.2, "clop": 0.1, "nt_xent": 0.0}
    one = losses_with(tmp_path / "one", gains, repetitions=8)
    other = losses_with(tmp_path / "other", {loss: -gain for loss, gain in gains.items()}, repetitions=8)
    assert best_ranks(one) == {"supcon": 1, "clop": 2, "nt_xent": 3}
    assert best_ranks(other) == {"supcon": 3, "clop": 2, "nt_xent": 1}


def test_a_loss_without_all_runs_is_listed_and_not_ranked(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon", "clop"], 2, label_fraction=[0.1, 1.0])
    fill(tmp_path, [one for one in runs if one.loss_name != "clop" or one.label_fraction == 0.1], lambda one: 0.5)
    found = ranking.rank_overall(boards_of(tmp_path, runs))
    assert found is not None
    assert found.unranked == ("clop",)
    assert {one.loss for one in found.standings} == {"nt_xent", "supcon"}


# Stability -------------------------------------------------------------------------------------------------------

RATES = (0.001, 0.01, 0.1, 1.0, 10.0)
CURVES = {  # loss -> score at each learning rate; None diverged. Chance is .1
    "flat": [0.70, 0.72, 0.72, 0.72, 0.70],
    "cliff": [0.70, 0.74, 0.76, 0.10, None],
    "peaky": [0.10, 0.40, 0.78, 0.40, 0.10],
    "gone": [None, None, None, None, None],
}


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, stability.Stability]:
    results = tmp_path_factory.mktemp("stability")
    runs = grid(CURVES, 2, learning_rate=RATES)
    fill(results, runs, lambda one: CURVES[one.loss_name][RATES.index(one.learning_rate)] if one.epochs else 0.3)
    (board,) = boards_of(results, runs)
    return {found.loss: found for found in stability.stability(board)}


def test_the_area_is_that_of_the_retention_curve(metrics: dict[str, stability.Stability]) -> None:
    for loss, scores in CURVES.items():
        values = np.array([0.1 if s is None else s for s in scores])
        kept = (values - 0.1) / max(values.max() - 0.1, 1e-9) if values.max() > 0.3 else values * 0
        by_hand = sum((a + b) / 2 for a, b in pairwise(kept)) / (len(RATES) - 1)
        assert metrics[loss].lr_auc.mean == pytest.approx(by_hand), loss


def test_a_loss_that_collapses_everywhere_is_not_called_stable(metrics: dict[str, stability.Stability]) -> None:
    gone = metrics["gone"]
    assert (gone.lr_auc.mean, gone.min_retention.mean, gone.stable_decades.mean) == (0, 0, 0)
    assert math.isnan(gone.largest_learning_rate.mean)
    assert gone.broken_share.value == 1
    assert gone.score_range.mean == 0  # so a range alone says nothing


def test_nothing_is_retained_where_nothing_was_learnt(tmp_path: Path) -> None:
    """Flat, above chance, but below the untrained network: that is no stability."""
    runs = grid(["nt_xent"], 2, learning_rate=RATES)
    fill(tmp_path, runs, lambda one: 0.25 if one.epochs else 0.3)
    (found,) = stability.stability(boards_of(tmp_path, runs)[0])
    assert (found.lr_auc.mean, found.min_retention.mean) == (0, 0)


def test_a_collapsed_runs_luck_is_no_stability(tmp_path: Path) -> None:
    runs = grid(["nt_xent"], 2, learning_rate=[0.1, 1.0])
    for one in runs:
        write(tmp_path, one, 0.7 if one.epochs else 0.3, "collapsed" if one.learning_rate == 1.0 else "ok")
    (found,) = stability.stability(boards_of(tmp_path, runs)[0])
    assert found.min_retention.mean == 0
    assert found.lr_auc.mean == pytest.approx(0.5)
    assert found.broken_share.value == 0.5


def test_the_common_area_does_not_reward_low_and_flat(metrics: dict[str, stability.Stability]) -> None:
    assert metrics["flat"].lr_auc_common.mean == pytest.approx(metrics["flat"].lr_auc.mean * 0.62 / 0.68)


def test_the_stable_region_has_a_largest_rate_and_a_width(metrics: dict[str, stability.Stability]) -> None:
    flat, cliff = metrics["flat"], metrics["cliff"]
    assert flat.stable_decades.mean == pytest.approx(4)
    assert flat.beyond_grid
    kept = (0.70 - 0.1) / 0.66, (0.74 - 0.1) / 0.66  # at .001 and .01
    first = (0.95 - kept[0]) / (kept[1] - kept[0])  # of the decade between them, in which the line crosses .95
    last = 0.05  # of the decade from .1, which keeps all, to 1, which keeps nothing
    assert cliff.largest_learning_rate.mean == pytest.approx(-1 + last)
    assert not cliff.beyond_grid
    assert cliff.stable_decades.mean == pytest.approx(2 - first + last)


def test_a_gap_ends_the_stable_region() -> None:
    rates, group = np.array([0.001, 0.01, 0.1, 1.0]), [np.arange(4)]
    stretches = stability.stable_stretches(np.array([1.0, 1.0, 0.0, 1.0]), rates, group)
    assert stretches == [pytest.approx((-3, -1.95)), pytest.approx((-0.05, 0))]
    assert stability.stable_stretches(np.full(4, 0.9), rates, group) == []


def test_the_smaller_retention_of_two_batch_sizes_counts() -> None:
    rates, groups = np.array([0.1, 1.0, 0.1, 1.0]), [np.array([0, 1]), np.array([2, 3])]
    assert stability.stable_stretches(np.array([1.0, 1.0, 0.5, 1.0]), rates, groups) == [pytest.approx((-0.1, 0))]


def test_one_run_below_the_floor_does_not_zero_a_loss(tmp_path: Path) -> None:
    """In one of six repetitions all runs are at chance: the thresholds still speak of the other five."""
    runs = grid(["nt_xent"], 6, learning_rate=RATES)
    fill(tmp_path, runs, lambda one: 0.3 if not one.epochs else 0.1 if one.repetition == 0 else 0.7)
    (found,) = stability.stability(boards_of(tmp_path, runs)[0])
    assert found.min_retention.mean == found.lr_auc.mean == 1
    assert found.largest_learning_rate.mean == 1
    assert found.beyond_grid


def test_areas_are_compared_with_the_baselines_by_repetition(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    runs = grid(["nt_xent", "supcon"], 6, learning_rate=[0.1, 1.0])
    level = random.normal(0.6, 0.05, size=6)
    fall = {"nt_xent": 0.2, "supcon": 0.1}
    fill(
        tmp_path,
        runs,
        lambda o: level[o.repetition] - (fall[o.loss_name] if o.learning_rate == 1 else 0) if o.epochs else 0.2,
    )
    found = {one.loss: one for one in stability.stability(boards_of(tmp_path, runs)[0])}
    mean = level.mean() - 0.1
    assert found["supcon"].lr_auc_difference.mean == pytest.approx((0.2 - 0.1) / mean / 2)
    assert found["supcon"].lr_auc_difference.ci_half_width < 0.02  # what both have in common has gone
    assert math.isnan(found["nt_xent"].lr_auc_difference.mean)


def test_tuning_gain_is_tuned_minus_the_mean_of_the_grid(metrics: dict[str, stability.Stability]) -> None:
    assert metrics["peaky"].untuned_score.mean == pytest.approx(np.mean([0.1, 0.4, 0.78, 0.4, 0.1]))
    assert metrics["peaky"].tuning_gain.mean == pytest.approx(0.78 - metrics["peaky"].untuned_score.mean)


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (3, 12), (12, 12), (1, 1)])
def test_the_share_of_broken_runs_has_wilsons_interval(hits: int, n: int) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    found = statistics.wilson_interval(hits, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_sensitivity_to_labels_is_the_gain_for_ten_times_as_many(tmp_path: Path) -> None:
    runs = grid(["nt_xent"], 3, label_fraction=[0.01, 0.1, 1.0])
    fill(tmp_path, runs, lambda one: 0.5 + 0.1 * math.log10(one.label_fraction) + 0.05 * one.repetition)
    found = stability.budget_slopes(boards_of(tmp_path, runs))
    assert found["digits"]["nt_xent"].mean == pytest.approx(0.1)
    assert found["digits"]["nt_xent"].ci_half_width == pytest.approx(0, abs=1e-9)


# What a report says ----------------------------------------------------------------------------------------------


def data_of(results: Path, runs: list[Run], **changes: Any) -> ReportData:
    return ReportData.read(results, select(runs, **changes))


def test_few_repetitions_are_said_to_resolve_nothing(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 3)
    fill(tmp_path, runs, lambda one: 0.9 if one.loss_name == "supcon" else 0.5)
    text = " ".join(terminal.text(data_of(tmp_path, runs)).split())
    assert "With 3 pairs no difference is resolvable (6 are needed), which is not 'no difference'." in text
    assert "supcon leads with 90.0 ± 0.0 % linear_top1; +40.0 ± 0.0 points on nt_xent; with 3 repetitions" in text


def test_a_single_repetition_says_that_it_has_no_interval(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 1)
    fill(tmp_path, runs, lambda one: 0.5)
    text = terminal.text(data_of(tmp_path, runs))
    assert "n = 1 repetition: there is no interval" in text
    assert "±" not in text.partition("n = 1")[0]


def test_missing_and_stale_runs_come_with_the_command_that_makes_them(tmp_path: Path) -> None:
    runs = grid(["nt_xent"], 3)
    for one in runs[:-1]:
        write(tmp_path, one, 0.5, plugins={} if one == runs[-2] else {**_versions(one)})
    text = " ".join(terminal.text(data_of(tmp_path, runs)).split())
    where = f"python benchmark.py suites/made.yaml --results {tmp_path}"
    assert f"1 run missing: run `{where}`" in text
    assert "1 stale run left out (" in text
    assert f"run `{where} --redo stale`." in text
    assert "— 1/3" in text


def _versions(one: Run) -> dict[str, str]:
    from cl_semisup.results import protocol

    return protocol.versions(one)


@pytest.mark.parametrize(
    ("status", "best", "untrained"),
    [("collapsed", 0.23, 0.1), ("ok", 0.3, 0.3), ("ok", 0.3, 0.9), ("collapsed", 0.5, 0.9)],
)
@pytest.mark.parametrize("repetitions", [2, 6])
def test_a_loss_that_is_not_above_the_untrained_network_leads_nothing(
    tmp_path: Path, status: str, best: float, untrained: float, repetitions: int
) -> None:
    runs = grid(["nt_xent", "supcon"], repetitions, label_fraction=[0.01, 0.1])
    for one in runs:
        score = best if one.loss_name == "nt_xent" else best - 0.05
        write(tmp_path, one, score if one.epochs else untrained, status if one.epochs else "ok")
    answer = data_of(tmp_path, runs).answer
    assert not any("leads with" in sentence for sentence in answer), answer
    assert sum("no loss leads. nt_xent has the best mean" in sentence for sentence in answer) == 3


@pytest.mark.parametrize("floor", ["missing", "failed", "in one repetition"])
@pytest.mark.parametrize(("best", "leads"), [(0.1, False), (0.07, False), (0.12, True)])
def test_a_loss_at_chance_leads_nothing_where_the_untrained_network_has_not_run(
    tmp_path: Path, floor: str, best: float, leads: bool
) -> None:
    runs = grid(["nt_xent", "supcon"], 2)
    for one in runs:
        if one.epochs:
            write(tmp_path, one, best if one.loss_name == "nt_xent" else best - 0.05)
        elif floor == "failed" or (floor == "in one repetition" and one.repetition == 0):
            write(tmp_path, one, 0.05, "failed" if floor == "failed" else "ok")
    (sentence,) = [text for text in data_of(tmp_path, runs).answer if "nt_xent" in text]
    assert ("nt_xent leads with" in sentence) is leads, sentence
    assert leads or ("no loss leads. nt_xent has the best mean, " in sentence and "is not above chance, or" in sentence)


@pytest.mark.parametrize("repetitions", [1, 2, 8])
def test_losses_with_the_same_mean_lead_together(tmp_path: Path, repetitions: int) -> None:
    """Scores of few test images are often equal; the first of the alphabet has not won."""
    runs = grid(["nt_xent", "supcon", "clop"], repetitions)
    scores = [0.7, 0.8, 0.9][:repetitions] + [0.8] * (repetitions - 3)
    fill(tmp_path, runs, lambda one: scores[one.repetition] if one.loss_name != "nt_xent" and one.epochs else 0.3)
    (sentence,) = data_of(tmp_path, runs).answer
    assert "clop and supcon lead with" in sentence
    assert "not told apart from" not in sentence
    assert ("better than every other loss" in sentence) is (repetitions == 8)


def test_losses_that_are_all_equal_are_all_named(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon", "clop"], 6, label_fraction=[i / 20 for i in range(1, 9)])
    fill(tmp_path, runs, lambda one: 0.9 if one.epochs else 0.3)
    assert data_of(tmp_path, runs).answer == [
        "Over all 8 tasks: clop, nt_xent and supcon have the best mean rank, 2.00 ± 0.00.",
        "Best mean: clop, nt_xent and supcon on 8 tasks.",
    ]


def test_of_losses_with_the_same_mean_only_those_above_the_untrained_network_lead(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 3)
    for one in runs:
        write(tmp_path, one, 0.5 if one.epochs else 0.3, "collapsed" if one.loss_name == "nt_xent" else "ok")
    answer = data_of(tmp_path, runs).answer
    assert "supcon leads with 50.0" in answer[0]
    assert "nt_xent lead" not in answer[0]


def test_the_tasks_without_a_leader_are_counted(tmp_path: Path) -> None:
    runs = grid(["nt_xent"], 2, label_fraction=[i / 20 for i in range(1, 9)])
    for one in runs:
        write(tmp_path, one, 0.5 if one.label_fraction == 0.05 and one.epochs else 0.3)
    assert (
        "Best mean: nt_xent on 1 task, no loss above the untrained network on 7 tasks."
        in data_of(tmp_path, runs).answer
    )


def test_the_answer_stays_short_over_many_tasks(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 2, label_fraction=[0.01, 0.02, 0.1, 0.2], dataset=[{"a": {}}, {"b": {}}])
    fill(tmp_path, runs, lambda one: 0.9 if one.loss_name == "supcon" else 0.5)
    answer = data_of(tmp_path, runs).answer
    assert answer == [
        "Over all 8 tasks: supcon has the best mean rank, 1.00 ± 0.00; with 4 paired units that is not resolvable.",
        "Best mean: supcon on 8 tasks.",
    ]


def test_better_than_every_loss_is_not_claimed_while_one_is_unfinished(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    runs = grid(["nt_xent", "supcon", "clop"], 8)
    fill(tmp_path, runs[:-1], lambda one: random.normal(0.9 if one.loss_name == "supcon" else 0.5, 0.01))
    assert "better than every other finished loss" in data_of(tmp_path, runs).answer[0]


def test_what_went_wrong_is_in_the_answer(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 2)
    fill(tmp_path, runs, lambda one: None if one.loss_name == "supcon" else 0.5)
    found = data_of(tmp_path, runs)
    assert "Runs that collapsed, diverged or failed: supcon 2." in found.answer
    assert found.progress == "6 runs: ok 4, diverged 2"


def test_a_protocol_of_its_own_does_not_keep_tasks_from_being_joined(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 2, label_fraction=[0.1, 1.0])
    for one in runs:
        odd = one.label_fraction == 0.1 and one.loss_name == "supcon"
        write(tmp_path, one, 0.5, precision="bfloat16" if odd else "float32")
    found = data_of(tmp_path, runs)
    assert len(found.boards) == 3
    assert found.main_boards == [found.boards[0], found.boards[2]]
    assert {row.loss for row in found.main_boards[0].trained_rows} == {"nt_xent", "supcon"}
    assert any(note.startswith("Runs under different protocols are not ranked together") for note in found.notes)


def test_the_terminal_table_is_at_most_110_wide(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "a_loss_with_a_rather_long_name"], 6, learning_rate=[0.1, 1.0])
    fill(tmp_path, runs, lambda one: 0.5)
    text = terminal.text(data_of(tmp_path, runs))
    assert max(map(len, text.splitlines())) <= 110


def test_numbers_are_worded_without_claiming_more_than_there_is() -> None:
    assert wording.format_percent(MeanCI(0.922, 0.018, 3), 3) == "92.2 ± 1.8"
    assert wording.format_percent(MeanCI(0.922, math.nan, 1), 1) == "92.2"
    assert wording.format_percent(MeanCI(n=4), 5) == "— 4/5"
    assert wording.format_points(MeanCI(-0.004, 0.02, 3)) == f"{wording.MINUS}0.4 ± 2.0"
    assert wording.format_points(MeanCI(-1e-9, math.nan, 1)) == "0.0"


# Files -----------------------------------------------------------------------------------------------------------


def made(results: Path, ordered: list[Run]) -> dict[str, bytes]:
    for one in ordered:
        slope = 1 + len(one.loss_name) / 10
        score = 0.4 + 0.3 * (one.learning_rate == 0.1) + 0.01 * one.repetition + slope / 100
        diverges = one.learning_rate == 1.0 and one.loss_name == "vicreg"
        precision = "bfloat16" if one.label_fraction == 1.0 else "float32"  # two protocols, in an order of their own
        write(results, one, score, "diverged" if diverges else "ok", curves=curves(20, 50, slope), precision=precision)
    found = report.make(results, select(ordered))
    return {path.name: path.read_bytes() for path in found.files} | {"text": found.text.encode()}


def test_the_same_records_print_the_same_bytes_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = grid(["nt_xent", "vicreg", "clop"], 2, learning_rate=[0.1, 1.0], label_fraction=[0.1, 1.0])
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    first = made(Path("results"), runs)
    monkeypatch.chdir(tmp_path / "two")
    second = made(Path("results"), runs[::-1])
    assert first.keys() >= {"leaderboard.md", "leaderboard.csv", "leaderboard.tex", "report.html"}
    assert first == second


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The files of a suite whose question, loss settings, reasons and origin are all hostile text."""
    results = tmp_path_factory.mktemp("nasty")
    runs = [run("nt_xent", r, params={"base": NASTY if odd else "plain"}) for r in range(2) for odd in (0, 1)]
    for one in runs:
        write(results, one, 0.5, "collapsed", reason=NASTY, curves=curves(5, 20))
    suite = select(runs, question=NASTY, file=f"suites/`{NASTY}`.yaml")
    texts = [path for path in report.make(results, suite).files if path.suffix != ".parquet"]
    return results, {path.name: path.read_text("utf-8") for path in texts}


def test_no_text_of_a_suite_or_a_record_becomes_html(nasty: tuple[Path, dict[str, str]]) -> None:
    page = nasty[1]["report.html"]
    assert "<script>alert" not in page
    assert page.count("<script>") == 1  # the report's own
    assert "&lt;script&gt;alert(1)" in page


def test_a_loss_cannot_be_named_like_a_tag(tmp_path: Path) -> None:
    """A plug-in's name is a plain word, since it is a folder's too; what is hostile is in settings, as above."""
    with pytest.raises(ResultsError, match=r"a run of 'digits' and '<script>' has no record"):
        report.make(tmp_path, select([run("<script>")]))


def test_markdown_tables_survive_hostile_text(nasty: tuple[Path, dict[str, str]]) -> None:
    text = nasty[1]["leaderboard.md"]
    shown_as_code = re.compile(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)")
    assert "<script>" not in shown_as_code.sub("", text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert widths[0] == widths[1] == widths[2] > 5


def test_latex_special_characters_are_escaped(nasty: tuple[Path, dict[str, str]]) -> None:
    body = [line for line in nasty[1]["leaderboard.tex"].splitlines() if not line.startswith("%")]
    hostile = [line for line in body if "alert" in line]
    assert hostile
    for line in hostile:
        cells = re.split(r"(?<!\\)&", line)
        assert len(cells) == len(re.split(r"(?<!\\)&", hostile[0]))
        assert not re.search(r"(?<!\\)[_#<>|]", line.replace(r"\\", ""))
    assert latex.escape("50% of a_b & {c} \\ $x$ ± 1") == (r"50\% of a\_b \& \{c\} \textbackslash{} \$x\$ $\pm$ 1")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("[1, 2]", "{[}1, 2]"),  # after the `\\\\` of the row before, it would be the argument of a line break
        ("*x", "{*}x"),
        ("a--b", "a-{}-{}b"),
        ("\"x'`", r"{\ttfamily\char34}x\textquotesingle{}\textasciigrave{}"),
        ("≤ 1 ≥", r"$\leq$ 1 $\geq$"),
        ("Müller, Łódź", "Müller, Łódź"),
        ("ąα中", "{[}U+0105]{[}U+03B1]{[}U+4E2D]"),  # unknown to pdflatex without further packages
    ],
)
def test_latex_prints_what_the_table_says_and_compiles(text: str, escaped: str) -> None:
    assert latex.escape(text) == escaped


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=x", "\n=1+1", " \r\n @x", "\u2028+1"])
def test_a_spreadsheet_runs_no_formula_of_ours(text: str) -> None:
    cell = export.plain_cell(text)
    assert cell.isprintable() and not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert cell.startswith("'") and cell.endswith(text[-1])


def test_plain_text_stays_as_it_is() -> None:
    assert export.plain_cell("clop") == "clop"


def test_the_csv_holds_full_precision_fractions(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 2)
    fill(tmp_path, runs, lambda one: 1 / 3)
    (row, *_) = csv.DictReader(io.StringIO(export.csv(data_of(tmp_path, runs))))
    assert float(row["linear_top1"]) == 1 / 3
    assert row["linear_top1_n"] == "2"


@pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow: pip install 'cl-semisup[parquet]'"
)
def test_parquet_holds_what_the_csv_holds(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 3)
    fill(tmp_path, runs[:-1], lambda one: 1 / 3)
    files = {path.name: path for path in report.make(tmp_path, select(runs)).files}
    found, text = pd.read_parquet(files["leaderboard.parquet"]), pd.read_csv(files["leaderboard.csv"])
    assert list(found) == list(text)
    assert found["loss"].tolist() == text["loss"].tolist()
    assert found["linear_top1"].tolist() == pytest.approx(text["linear_top1"].tolist(), nan_ok=True)
    assert not list((tmp_path / "made").glob(".tmp-*"))


def test_code_in_markdown_holds_backticks() -> None:
    assert markdown.code("a`b``c") == "```a`b``c```"
    assert markdown.code("`") == "`` ` ``"


def test_the_page_may_ask_the_network_for_nothing(nasty: tuple[Path, dict[str, str]]) -> None:
    page = nasty[1]["report.html"]
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in page.replace("&#39;", "'")
    assert "http://" not in page
    assert "https://" not in page


def test_links_to_records_lead_to_them(nasty: tuple[Path, dict[str, str]]) -> None:
    results, texts = nasty
    links = re.findall(r'href="(\.\./records[^"]+)"', texts["report.html"])
    assert len(links) == 4
    assert all((results / "made" / link).resolve().is_file() for link in links)


def test_a_suite_without_any_record_has_a_report(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 3, learning_rate=[0.1, 1.0], label_fraction=[0.1, 1.0])
    found = report.make(tmp_path, select(runs))
    assert "no loss has all its runs yet" in found.text
    assert "— 0/3" in found.text


def test_the_report_of_500_runs_is_under_3_megabytes(tmp_path: Path) -> None:
    losses = [f"loss_{i}" for i in range(8)]
    runs = grid(losses, 3, learning_rate=[0.03, 0.1, 0.3, 1.0, 3.0], label_fraction=[0.02, 0.1, 0.2, 1.0])
    for one in runs:
        write(tmp_path, one, 0.5 + 0.01 * one.repetition, curves=curves())
    made_files = report.make(tmp_path, select(runs)).files
    size = next(path for path in made_files if path.name == "report.html").stat().st_size
    assert len(runs) > 480
    assert size < 3_000_000


# Pictures --------------------------------------------------------------------------------------------------------


def test_a_line_breaks_where_a_value_is_not_finite() -> None:
    drawn = svg.line([(0, 0), (1, 1), (2, math.nan), (3, 3)])
    assert 'd="M0.0 0.0L1.0 1.0M3.0 3.0"' in drawn


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 1000, True, [1, 10, 100, 1000]),
        (2, 3, True, [2, 2.2, 2.4, 2.6, 2.8, 3]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, log: bool, expected: list[float]) -> None:
    assert svg.Scale(low, high, 0, 100, log).ticks() == pytest.approx(expected)


@pytest.mark.parametrize("log", [False, True])
def test_many_values_are_placed_as_one_is(log: bool) -> None:
    scale, values = svg.Scale(0.5, 80.0, 10, 390, log), [0.5, 1.0, 3.0, 80.0, 100.0]
    assert scale.all(values) == pytest.approx([scale(v) for v in values])
    assert (scale(0.5), scale(80.0)) == (10, 390)


def test_a_span_of_nothing_or_of_one_value_is_not_empty() -> None:
    for values in ([], [0.0], [5.0], [math.nan, math.inf]):
        low, high = svg.span(values)
        assert low < high
    low, high = svg.span([0.0, -1.0, 3.0], log=True)
    assert 0 < low < 3 < high


HOSTILE_CURVES: list[dict[str, Any]] = [
    {"history": "no", "singular_values": "no", "picture": []},
    {"history": {"step": ["<script>"], "loss": [None], "effective_rank": [1e400], "gradient_norm": {}}},
    {"history": {"step": [0, 1], "loss": [10**400, 1]}, "singular_values": [0.0, 0.0]},
    {"singular_values": [math.nan], "picture": {"x": [0.1], "y": [0.1], "label": ["%s<script>"]}},
    {"picture": {"x": [0.1, 0.2], "y": [0.1], "label": [1, 2]}},
    {"picture": {"x": [], "y": [], "label": []}},
    {"projection_picture": {"x": [0.1], "y": [], "label": [1], "prototypes": {"x": "<script>"}}},
]


@pytest.mark.parametrize("curves", HOSTILE_CURVES, ids=range(len(HOSTILE_CURVES)))
def test_curves_that_are_no_numbers_are_left_out(tmp_path: Path, curves: dict[str, Any]) -> None:
    write(tmp_path, run(), 0.5, curves=curves)
    path = next(path for path in report.make(tmp_path, select([run()])).files if path.suffix == ".html")
    page = path.read_text("utf-8")
    assert page.count("<script>") == 1
    assert "No pictures are stored beside the records." in page


def test_prototypes_are_ringed_among_the_projections(tmp_path: Path) -> None:
    seen = curves()
    ring = {"x": [0.2, 2.0, 0.0], "y": [-0.3, 0.0, 0.0], "label": [1, 13, -1]}
    seen["projection_picture"] = seen["picture"] | {"prototypes": ring}
    hostile = seen["picture"] | {"prototypes": {"x": [0.1], "y": [0.1], "label": ["<script>"]}}
    write(tmp_path, run("clop"), 0.5, curves=seen)
    write(tmp_path, run("supcon"), 0.5, curves=curves() | {"projection_picture": hostile})
    (path,) = (
        path for path in report.make(tmp_path, select([run("clop"), run("supcon")])).files if path.suffix == ".html"
    )
    page = path.read_text("utf-8")
    assert page.count("projections and prototypes</figcaption>") == 2
    assert re.findall(r'class="ring ([^"]*)"', page) == ["c1", "c3", ""]
    assert re.findall(r"<title>(prototype[^<]*)</title>", page) == [
        "prototype of class 1",
        "prototype of class 13",
        "prototype",
    ]
    ends = [float(x) for x in re.findall(r'class="ring[^>]*><circle cx="([^"]+)"', page)]
    assert ends == [109.2, 192.0, 100.0]  # the farthest is at the edge, with equal scales


def test_curves_with_more_points_than_are_drawn_are_told_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = grid(["nt_xent", "vicreg"], 1)
    many = list(range(20_001))  # each of its own class: a path each
    plot = {"x": many, "y": many, "label": many}
    long = {"history": {"step": many, "loss": many}, "singular_values": many, "picture": plot}
    written = [write(tmp_path, one, 0.5, curves=curves(30, 30) | long) for one in runs]
    found = report.make(tmp_path, select(runs))
    page = next(path for path in found.files if path.suffix == ".html").read_text("utf-8")
    assert len(page) < 200_000
    told = f"{written[0].with_suffix('.curves.json')}: curves of more than 20000 points are not drawn. Got 20001."
    assert capsys.readouterr().err.splitlines().count(told) == 1


def test_curves_of_runs_that_diverged_are_shown_though_another_config_was_chosen(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "vicreg"], 2, learning_rate=[0.1, 1.0, 10.0])
    for one in runs:
        hot = one.loss_name == "vicreg" and (one.learning_rate or 0) > 0.5
        write(tmp_path, one, 0.5, "diverged" if hot else "ok", curves=curves(5, 5))
    found = report.make(tmp_path, select(runs))
    page = next(path for path in found.files if path.suffix == ".html").read_text("utf-8")
    assert "<p>The first 3 of each loss: vicreg at lr 1, batch 64; vicreg at lr 10, batch 64.</p>" in page
    drawn = page.partition("elsewhere on the grid")[2].partition("</details>")[0]
    assert drawn.count('<path class="thin" fill="none"') == 3 * 3  # three runs in each of three pictures
    assert "nt_xent" not in drawn


# Side by side ----------------------------------------------------------------------------------------------------


def test_two_folders_are_compared_run_by_run(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 4)
    fill(tmp_path / "a", runs, lambda one: 0.5 + 0.1 * one.repetition)
    fill(tmp_path / "b", runs[:-1], lambda one: 0.5 + 0.1 * one.repetition + 0.03 * (one.loss_name == "supcon"))
    text = comparison.folders(tmp_path / "a", tmp_path / "b")
    assert "In both: 11 runs." in text
    assert re.search(r"^nt_xent .* 0\.0 ± 0\.0", text, re.MULTILINE)
    assert re.search(r"^supcon +3 .*\+3\.0 ± 0\.0", text, re.MULTILINE)


def test_folders_under_different_protocols_say_which_setting_differs(tmp_path: Path) -> None:
    for name, precision in (("a", "float32"), ("b", "bfloat16")):
        write(tmp_path / name, run(), 0.5, precision=precision)
    text = comparison.folders(tmp_path / "a", tmp_path / "b")
    assert "A: precision=float32" in text
    assert "B: precision=bfloat16" in text


def test_a_folder_without_records_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a folder of results"):
        comparison.folders(tmp_path, tmp_path)


def test_two_losses_are_compared_on_every_task(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 6, label_fraction=[0.1, 1.0])
    random = np.random.RandomState(0)
    fill(tmp_path, runs, lambda one: 0.5 + 0.2 * (one.loss_name == "supcon") + random.normal(0, 0.01))
    text = comparison.losses(tmp_path, select(runs), "nt_xent", "supcon")
    assert text.count("digits, labels") == 2
    assert "not resolvable" not in text.rpartition("\n")[0]
    with pytest.raises(InputError, match=r"unknown loss of this suite 'supcn'. Did you mean 'supcon'\?"):
        comparison.losses(tmp_path, select(runs), "supcn", "supcon")


def test_two_losses_with_few_pairs_are_not_resolvable(tmp_path: Path) -> None:
    runs = grid(["nt_xent", "supcon"], 3)
    fill(tmp_path, runs, lambda one: 0.9 if one.loss_name == "supcon" else 0.5)
    assert "not resolvable" in comparison.losses(tmp_path, select(runs), "nt_xent", "supcon")


def test_collapse_of_dimensions_and_of_classes_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    runs = [run(loss, r) for loss in ("nt_xent", "clop") for r in range(3)]
    for one in runs:
        made = {"effective_rank": 10.0 + one.repetition, "nc1": 0.5, "unheard_of": 1.0}
        write(tmp_path, one, diagnostics=made)
    (board,) = leaderboard.boards(gather(tmp_path, runs), "linear_top1")
    shown = tables.geometry_table(board)
    assert shown is not None
    assert [column.name for column in shown.columns] == ["loss", "effective_rank", "nc1"]
    assert shown.rows[0][1].text == "11.00 ± 2.48"  # t(0.975, 2) / sqrt(3) of a standard deviation of 1
    assert {"effective_rank", "effective_rank_half", "nc1", "unheard_of"} <= set(tables.csv_rows(board)[0])


CSV_ONLY = {"task", "dataset", "labels", "learning_rate", "batch_size", "repetitions", "baseline", "difference_half"}
CSV_ONLY |= {"pairs", "against_baseline", "peak_memory_bytes", "rank_high"}
TABLE_ONLY = {"IQM %"}


def test_the_csv_and_the_table_have_the_same_columns_with_the_same_values(tmp_path: Path) -> None:
    """Whoever adds a column to one of the two adds it to the other, or names it above."""
    board = losses_with(tmp_path, {"supcon": 0.2, "clop": 0.1, "nt_xent": 0.0}, repetitions=6)
    shown, rows = tables.board_table(board), tables.csv_rows(board)
    assert {column.name for column in shown.columns if not column.csv_name} == TABLE_ONLY
    others = CSV_ONLY | set(board.rows[0].diagnostics) | {f"{name}_half" for name in board.rows[0].diagnostics}
    others |= {f"{name}_{end}" for name in board.rows[0].scores for end in ("half", "n")}
    assert rows[0].keys() == {column.csv_name for column in shown.columns if column.csv_name} | others
    for entries, row in zip(shown.rows, rows, strict=True):
        for column, entry in zip(shown.columns, entries, strict=True):
            if column.csv_name and entry.text not in ("baseline", wording.DASH):
                assert entry.value == pytest.approx(row[column.csv_name], nan_ok=True), column.name


def test_the_interquartile_mean_stands_beside_the_mean_and_needs_every_repetition(tmp_path: Path) -> None:
    runs = [run("nt_xent", r) for r in range(4)] + [run("clop", r) for r in range(4)]
    for one, score in zip(runs, (0.5, 0.6, 0.7, 0.96, 0.5, 0.6, 0.7), strict=False):
        write(tmp_path, one, score)
    (board,) = leaderboard.boards(gather(tmp_path, runs), "linear_top1")
    shown = tables.board_table(board)
    at = [column.name for column in shown.columns].index("IQM %")
    assert {row[0].text: row[at].text for row in shown.rows} == {"nt_xent": "65.0", "clop": "—"}


def test_joules_stand_in_tables_and_csv_where_a_machine_told_them_and_old_records_have_a_dash(tmp_path: Path) -> None:
    runs = [run(loss, r) for loss in ("nt_xent", "clop") for r in range(2)]
    for one in runs:
        joules = {"energy_joules": 30.0 + one.repetition, "cpu_joules": 30.0 + one.repetition}
        told = joules | {"co2_kg": 1e-5, "grams_co2_per_kwh": 436.0}
        write(tmp_path, one, cost=told if one.loss_name == "clop" else {})
    data = ReportData.read(tmp_path, select(runs))
    (board,) = data.boards
    shown = tables.board_table(board)
    names = [column.name for column in shown.columns]
    texts = {row[0].text: [row[names.index(name)].text for name in ("J/run", "kg CO2/run")] for row in shown.rows}
    assert texts == {"clop": ["30.5", "1e-05"], "nt_xent": ["—", "—"]}
    by_loss = {row["loss"]: row for row in tables.csv_rows(board)}
    assert by_loss["clop"]["energy_joules"] == 30.5 and math.isnan(by_loss["nt_xent"]["energy_joules"])
    (note,) = (note for note in data.notes if "Joules are an estimate" in note)
    assert "counters of the processor packages and memory, which" in note and "CO2 is at 436 g a kWh" in note
    assert "30.5" in html.page(data) and "kg CO2/run" in markdown.page(data)


def test_without_joules_there_is_no_column_for_them(tmp_path: Path) -> None:
    board = losses_with(tmp_path, {"clop": 0.1, "nt_xent": 0.0}, repetitions=2)
    assert not {"J/run", "kg CO2/run"} & {column.name for column in tables.board_table(board).columns}
    assert "energy_joules" not in tables.csv_rows(board)[0]


def test_a_learning_rate_has_the_factor_of_its_interval_unless_it_rounds_to_one() -> None:
    def text(half_width: float) -> str:
        return wording.format_learning_rate(MeanCI(math.log10(0.3), half_width, 5))

    assert [text(width) for width in (math.nan, 0.0, 0.02)] == ["0.3"] * 3
    assert [text(width) for width in (0.03, 0.3, 1.49, 1.5)] == [
        f"0.3 {wording.TIMES_OR_OVER} {factor}" for factor in ("1.1", "2", "31", "over 30")
    ]
