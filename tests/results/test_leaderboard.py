"""Records to boards: pairing, tuning, what counts as what, and intervals that cover what they say."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cl_semisup.report import tables
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import leaderboard
from cl_semisup.results.leaderboard import Board, Row
from cl_semisup.results.run_table import gather
from cl_semisup.results.statistics import mean_ci
from cl_semisup.results.validation import validation_score
from tests.helpers.records import run, select, write


def board(results: Path, runs: list, baseline: str = "") -> Board:  # type: ignore[type-arg]
    (only,) = leaderboard.boards(gather(results, runs), "linear_top1", baseline)
    return only


def row_of(board: Board, loss: str) -> Row:
    row = board.row_of(loss)
    assert row is not None
    return row


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_interval_is_students(n: int) -> None:
    x = np.random.RandomState(n).normal(size=n)
    low, high = stats.t.interval(0.95, n - 1, loc=x.mean(), scale=stats.sem(x))
    found = mean_ci(x)
    assert (found.mean - found.ci_half_width, found.mean + found.ci_half_width) == pytest.approx((low, high))


def test_the_interval_of_five_covers_the_mean_95_times_in_100() -> None:
    draws = np.random.RandomState(0).normal(0.7, 0.05, size=(4000, 5))
    covered = [abs(found.mean - 0.7) <= found.ci_half_width for found in map(mean_ci, draws)]
    assert 0.93 < np.mean(covered) < 0.97


def test_a_single_repetition_has_no_interval() -> None:
    found = mean_ci([0.4])
    assert found.mean == 0.4
    assert math.isnan(found.ci_half_width)


def test_a_loss_is_tuned_on_validation_and_not_on_test(tmp_path: Path) -> None:
    good, lucky = run(learning_rate=0.1), run(learning_rate=1.0)
    write(tmp_path, good, 0.6, validation=0.9)
    write(tmp_path, lucky, 0.8, validation=0.5)
    found = board(tmp_path, [good, lucky]).rows[0]
    assert found.tuned_cell.config == "lr 0.1, batch 64"
    assert found.scores["linear_top1"].mean == 0.6
    assert found.worst_config_score == 0.6


def test_a_board_of_projections_is_tuned_on_their_own_validation_score() -> None:
    assert validation_score("linear_top1_labelled") == "linear_top1_validation"
    assert validation_score("projection_knn_top1") == "projection_linear_top1_validation"
    config = dict(loss="nt_xent", learning_rate=1.0, batch_size=64.0)
    cells = [
        leaderboard.Cell(
            config=str(at),
            runs={
                "status": np.array(["ok"]),
                "chance": np.array([0.1]),
                **{name: np.array([value]) for name, value in scores.items()},
            },
            **config,
        )
        for at, scores in enumerate(
            [
                {"linear_top1_validation": 0.9, "projection_linear_top1_validation": 0.2},
                {"linear_top1_validation": 0.9, "projection_linear_top1_validation": 0.7},
            ]
        )
    ]
    assert leaderboard.tune(cells, validation_score("projection_linear_top1")).config == "1"
    assert leaderboard.tune(cells, validation_score("linear_top1")).config == "0"


def test_a_diverged_run_counts_as_chance(tmp_path: Path) -> None:
    runs = [run(repetition=r) for r in range(2)]
    write(tmp_path, runs[0], 0.5)
    write(tmp_path, runs[1], status="diverged")
    found = board(tmp_path, runs).rows[0]
    assert found.scores["linear_top1"].mean == pytest.approx((0.5 + 0.1) / 2)
    assert found.verdict == "diverged"
    assert found.status_counts == {"ok": 1, "diverged": 1}


@pytest.mark.parametrize("status", ["failed", "missing"])
def test_there_is_no_mean_over_a_missing_cell(tmp_path: Path, status: str) -> None:
    runs = [run(repetition=r) for r in range(3)]
    for one in runs[:2]:
        write(tmp_path, one, 0.5)
    if status == "failed":
        write(tmp_path, runs[2], status="failed")
    found = board(tmp_path, runs).rows[0]
    assert math.isnan(found.scores["linear_top1"].mean)
    assert found.scores["linear_top1"].n == 2
    assert not found.complete
    assert found.verdict == {"failed": "failed", "missing": "unfinished"}[status]


def test_a_loss_with_an_untried_config_is_unfinished(tmp_path: Path) -> None:
    runs = [run(learning_rate=0.1), run(learning_rate=1.0)]
    write(tmp_path, runs[0], 0.5)
    found = board(tmp_path, runs).rows[0]
    assert found.verdict == "unfinished"
    assert not found.complete


def test_differences_are_paired_by_repetition(tmp_path: Path) -> None:
    """The repetitions differ by far more than the losses; pairs cancel that, whichever file was read first."""
    levels = [0.3, 0.9, 0.5, 0.7]
    runs = []
    for repetition, level in enumerate(levels):
        for loss, gain in (("nt_xent", 0.0), ("supcon", 0.02)):
            runs.append(run(loss, repetition))
            write(tmp_path, runs[-1], level + gain)
    found = row_of(board(tmp_path, runs[::-1], "nt_xent"), "supcon")
    assert found.difference.mean == pytest.approx(0.02)
    assert found.difference.ci_half_width == pytest.approx(0.0, abs=1e-9)
    assert found.scores["linear_top1"].ci_half_width > 0.3
    assert found.difference.n == 4


def test_the_floor_stands_last_on_the_board_of_every_length_of_training(tmp_path: Path) -> None:
    runs = [run(epochs=epochs) for epochs in (5, 50)]
    floor = runs[0].untrained()
    write(tmp_path, runs[0], 0.5)
    write(tmp_path, runs[1], 0.6)
    write(tmp_path, floor, 0.9)
    found = leaderboard.boards(gather(tmp_path, [*runs, floor]), "linear_top1")
    assert [[one.loss for one in one_board.rows] for one_board in found] == [["nt_xent", "untrained"]] * 2


@pytest.mark.parametrize(("repetitions", "doubtful"), [(3, "unresolved"), (6, "weak")])
def test_what_is_not_above_the_floor_is_weak_where_the_pairs_suffice(
    tmp_path: Path, repetitions: int, doubtful: str
) -> None:
    """supcon is far above, nt_xent above on average with 0 in its interval, dcl below."""
    gains = {"supcon": (0.40, 0.41), "nt_xent": (0.10, -0.08), "dcl": (-0.02, 0.01)}
    runs = [run(loss, r) for loss in gains for r in range(repetitions)]
    for one in runs:
        write(tmp_path, one, 0.5 + gains[one.loss_name][one.repetition % 2])
        write(tmp_path, one.untrained(), 0.5)
    floors = list({one.untrained().id: one.untrained() for one in runs}.values())
    found = {row.loss: row.verdict for row in board(tmp_path, runs + floors).rows}
    assert found == {"supcon": "ok", "nt_xent": doubtful, "dcl": "weak", "untrained": "floor"}


def test_runs_under_different_protocols_are_on_different_boards(tmp_path: Path) -> None:
    runs = [run(loss, r) for loss in ("nt_xent", "supcon") for r in range(2)]
    for one in runs:
        odd = one.loss_name == "supcon" and one.repetition == 1
        write(tmp_path, one, 0.5, precision="bfloat16" if odd else "float32")
    found = leaderboard.boards(gather(tmp_path, runs), "linear_top1")
    names = [one.task.partition("[")[2] for one in found]
    assert names == ["precision=float32]", "precision=bfloat16]"]
    assert math.isnan(row_of(found[0], "supcon").scores["linear_top1"].mean)
    assert row_of(found[0], "supcon").status_counts == {"ok": 1, "other protocol": 1}
    assert [one.loss for one in found[1].rows] == ["supcon"]


def test_a_stale_record_is_not_mixed_in(tmp_path: Path) -> None:
    runs = [run(repetition=r) for r in range(2)]
    write(tmp_path, runs[0], 0.5)
    write(tmp_path, runs[1], 0.9, plugins={})
    found = board(tmp_path, runs).rows[0]
    assert found.status_counts == {"ok": 1, "stale": 1}
    assert math.isnan(found.scores["linear_top1"].mean)


def test_boards_go_by_the_number_of_labels_and_not_by_their_spelling(tmp_path: Path) -> None:
    runs = [run(label_fraction=f) for f in (0.1, 0.02, 1.0)]
    for one in runs:
        write(tmp_path, one)
    found = leaderboard.boards(gather(tmp_path, runs), "linear_top1")
    assert [one.labels for one in found] == ["2%", "10%", "100%"]


def test_losses_of_one_name_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    runs = [run(params={"temperature": t, "same": 1}) for t in (0.1, 0.5)] + [run("clop", params={"weight": 1})]
    names = [one.loss for one in board(tmp_path, runs).rows]
    assert names == ["clop", "nt_xent(temperature=0.1)", "nt_xent(temperature=0.5)"]


def test_what_a_base_implies_goes_without_saying_unless_it_tells_losses_apart(tmp_path: Path) -> None:
    def names(*bases: dict[str, Any]) -> list[str]:
        return sorted(one.loss for one in board(tmp_path, [run("clop", params={"base": base}) for base in bases]).rows)

    cold, warm = {"nt_xent": {"temperature": 0.1}}, {"nt_xent": {"temperature": 0.5}}
    assert names(warm, {"supcon": {"temperature": 0.2}}) == ["clop(base=nt_xent)", "clop(base=supcon)"]
    apart = ["clop(base=nt_xent, base.nt_xent.temperature=0.1)", "clop(base=nt_xent, base.nt_xent.temperature=0.5)"]
    assert names(cold, warm, {"supcon": {}}) == [*apart, "clop(base=supcon)"]
    assert names({"nt_xent": {}}, warm) == ["clop", "clop(base.nt_xent.temperature=0.5)"]


def test_views_of_a_data_sets_own_go_without_saying_and_others_are_said(tmp_path: Path) -> None:
    ours, theirs = run(), run(dataset={"glyphs": {}}, views={"flip": 0.0, "rotation": 15.0})
    tasks = [one.task for one in leaderboard.boards(gather(tmp_path, [ours, theirs]), "linear_top1")]
    assert tasks == ["digits, labels 10%", "glyphs, labels 10%"]
    strong = run(dataset={"glyphs": {}}, views={"flip": 0.0, "rotation": 45.0})
    tasks = [one.task for one in leaderboard.boards(gather(tmp_path, [ours, theirs, strong]), "linear_top1")]
    of_glyphs = [f"glyphs, labels 10%, views.rotation={angle}" for angle in (15.0, 45.0)]
    assert tasks == ["digits, labels 10%", *of_glyphs]


def test_the_order_of_runs_and_files_moves_nothing(tmp_path: Path) -> None:
    runs = [run(loss, r, learning_rate=lr) for loss in ("nt_xent", "clop") for r in range(3) for lr in (0.1, 1.0)]
    frames = []
    for name, ordered in (("a", runs), ("b", runs[::-1])):
        for one in ordered:
            write(tmp_path / name, one, 0.5 + 0.01 * one.repetition)
        frames.append(gather(tmp_path / name, ordered).frame)
    assert frames[0].equals(frames[1])


def test_no_record_at_all_is_a_board_of_dashes(tmp_path: Path) -> None:
    found = board(tmp_path, [run(), run("supcon")], "nt_xent")
    assert [one.verdict for one in found.rows] == ["unfinished"] * 2


def test_a_losss_time_is_relative_to_the_baseline_at_the_same_batch_size(tmp_path: Path) -> None:
    speeds = {("nt_xent", 64): 1000.0, ("nt_xent", 256): 4000.0, ("supcon", 64): 500.0}
    runs = [run(loss, r, batch_size=batch) for loss, batch in speeds for r in range(3)]
    for one in runs:
        speed = speeds[one.loss_name, one.batch_size or 0] * (1, 1, 0.01)[one.repetition]  # a slow moment moves nothing
        write(tmp_path, one, cost={"images_per_second": speed})
    found = board(tmp_path, runs, "nt_xent")
    assert row_of(found, "supcon").relative_time == pytest.approx(2.0)
    assert row_of(found, "nt_xent").relative_time == pytest.approx(1.0)


def test_times_of_different_machines_are_not_compared(tmp_path: Path) -> None:
    ours, theirs = run("nt_xent"), run("supcon")
    write(tmp_path, ours, cost={"images_per_second": 1000.0})
    write(tmp_path, theirs, cost={"images_per_second": 500.0}, made={"machine": "another"})
    assert math.isnan(row_of(board(tmp_path, [ours, theirs], "nt_xent"), "supcon").relative_time)
    write(tmp_path, theirs, cost={"images_per_second": 500.0}, device="cuda:0")  # of the same machine
    assert math.isnan(row_of(board(tmp_path, [ours, theirs], "nt_xent"), "supcon").relative_time)
    write(tmp_path, theirs)  # not timed
    assert math.isnan(row_of(board(tmp_path, [ours, theirs], "nt_xent"), "supcon").relative_time)


def test_rows_whose_encoder_has_seen_other_data_say_so(tmp_path: Path) -> None:
    told = {"timm": {"model": "resnet18", "weights": "w.pt", "pretrained_on": "ImageNet-1k"}}
    runs = [run(loss, encoder=told) for loss in ("nt_xent", "supcon")]
    for one in runs:
        write(tmp_path, one, 0.6)
    found = board(tmp_path, runs)
    assert {row.pretrained_on for row in found.rows} == {"ImageNet-1k"}
    table = tables.board_table(found)
    (column,) = [n for n, column in enumerate(table.columns) if column.name == "pretrained on"]
    assert [row[column].text for row in table.rows] == ["ImageNet-1k", "ImageNet-1k"]
    assert {row["pretrained_on"] for row in tables.csv_rows(found)} == {"ImageNet-1k"}


def test_encoders_with_other_first_weights_are_never_on_one_board(tmp_path: Path) -> None:
    seen = [{"timm": {"model": "m", "weights": "w.pt", "pretrained_on": text}} for text in ("ImageNet-1k", "CIFAR")]
    runs = [run(encoder=encoder) for encoder in (*seen, {"timm": {"model": "m", "weights": ""}})]
    for one in runs:
        write(tmp_path, one, 0.6)
    found = leaderboard.boards(gather(tmp_path, runs), "linear_top1", "")
    assert sorted(row.pretrained_on for one in found for row in one.rows) == ["", "CIFAR", "ImageNet-1k"]
    assert len(found) == 3


def test_weights_of_which_the_suite_says_nothing_are_no_scratch(tmp_path: Path) -> None:
    one = run(encoder={"checkpoint": {"file": "w.pt", "arch": {"mlp": {"width": 4}}}})
    path = write(tmp_path, one, 0.6)
    record = json.loads(path.read_text())
    record["resolved"]["weights"] = {"file": "w.pt", "hash": "0" * 12}
    path.write_text(json.dumps(record))
    assert board(tmp_path, [one]).rows[0].pretrained_on == "not said"
    scratch = board(tmp_path / "r", [run()])
    assert "pretrained on" not in [column.name for column in tables.board_table(scratch).columns]
    assert "pretrained_on" not in tables.csv_rows(scratch)[0]
    suite = select([one])
    assert any(
        "have seen not said: they are not from scratch" in note for note in ReportData.read(tmp_path, suite).notes
    )


def test_times_of_other_batch_sizes_do_not_enter_a_ratio(tmp_path: Path) -> None:
    """Larger batches are faster: most of the baseline's runs are, and must not count for a loss at batch 64."""
    speeds = {("nt_xent", 64): 1000.0, ("nt_xent", 256): 4000.0, ("nt_xent", 512): 8000.0, ("supcon", 64): 500.0}
    runs = [run(loss, r, batch_size=batch) for loss, batch in speeds for r in range(3)]
    for one in runs:
        write(tmp_path, one, cost={"images_per_second": speeds[one.loss_name, one.batch_size or 0]})
    assert row_of(board(tmp_path, runs, "nt_xent"), "supcon").relative_time == pytest.approx(2.0)


def test_a_collapsed_run_counts_with_its_score(tmp_path: Path) -> None:
    runs = [run(repetition=r) for r in range(3)]
    for one, status in zip(runs, ("ok", "collapsed", "diverged"), strict=True):
        write(tmp_path, one, 0.6, status)
    row = row_of(board(tmp_path, runs), "nt_xent")
    assert row.repetition_scores.tolist() == pytest.approx([0.6, 0.6, 0.1])  # a diverged run counts as chance
    assert row.scores["linear_top1"].mean == pytest.approx(1.3 / 3)


@pytest.mark.parametrize(
    ("statuses", "leads"),
    [
        (["collapsed", "diverged", "failed"], False),
        (["diverged", "diverged", "diverged"], False),
        (["collapsed", "diverged", "ok"], True),
        (["ok", "ok", "ok"], True),
    ],
)
def test_a_row_whose_runs_have_all_broken_down_leads_nothing(statuses: list[str], leads: bool, tmp_path: Path) -> None:
    for repetition, status in enumerate(statuses):
        write(tmp_path, run(repetition=repetition), 0.9, status)
    (board,) = leaderboard.boards(gather(tmp_path, [run(repetition=r) for r in range(3)]), "linear_top1")
    (row,) = board.rows
    assert leaderboard.leads(board, row) is leads
