"""The table for new test images: its numbers from the records' bits, and a dash where they cannot be had."""

from pathlib import Path

import numpy as np

from cl_semisup.report import html, markdown
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.tables import Table
from cl_semisup.results.right_images import pack
from cl_semisup.results.statistics import crossed_ci, mean_ci
from tests.helpers import records as made

IMAGES, REPETITIONS = 40, 4


def bits(loss: str, repetition: int) -> np.ndarray:
    return np.random.RandomState(len(loss) + 10 * repetition).rand(IMAGES) < 0.7


def write(results: Path, losses: list[str], **dataset: object) -> ReportData:
    runs = [made.run(loss, r, dataset={"digits": dataset}) for loss in losses for r in range(REPETITIONS)]
    for run in runs:
        right = bits(run.loss_name, run.repetition)
        made.write(results, run, float(right.mean()), curves={"right": pack({"linear_top1": right})})
    return ReportData.read(results, made.select(runs))


def texts(table: Table) -> dict[str, list[str]]:
    return {row[0].text: [entry.text for entry in row[1:]] for row in table.rows}


def test_scores_and_differences_have_the_intervals_of_both(tmp_path: Path) -> None:
    data = write(tmp_path, ["nt_xent", "clop"])
    (table,) = data.new_images.values()
    right = {loss: np.array([bits(loss, r) for r in range(REPETITIONS)], float) for loss in ("nt_xent", "clop")}
    both, alone = crossed_ci(right["clop"]), mean_ci(right["clop"].mean(axis=1))
    difference = crossed_ci(right["clop"] - right["nt_xent"])
    found = texts(table)
    sign = "+" if difference.mean > 0 else "\N{MINUS SIGN}"
    assert found["clop"] == [
        f"{100 * alone.mean:.1f} ± {100 * alone.ci_half_width:.1f}",
        f"{100 * both.ci_half_width:.1f}",
        f"{sign}{abs(100 * difference.mean):.1f} ± {100 * difference.ci_half_width:.1f}",
    ]
    assert found["nt_xent"][2] == "baseline"
    assert "For new test images" in markdown.page(data)
    assert "For new test images" in html.page(data)
    assert any("new test images" in note for note in data.notes)


def test_records_without_bits_have_no_table(tmp_path: Path) -> None:
    runs = [made.run("nt_xent", r) for r in range(2)]
    for run in runs:
        made.write(tmp_path, run)
    data = ReportData.read(tmp_path, made.select(runs))
    assert data.new_images == {}
    assert not any("new test images" in note for note in data.notes)


def test_a_loss_whose_bits_do_not_fit_its_score_has_a_dash(tmp_path: Path) -> None:
    data = write(tmp_path, ["nt_xent", "clop"])
    wrong = made.run("clop", 1, dataset={"digits": {}})
    made.write(tmp_path, wrong, 0.123, curves={"right": pack({"linear_top1": bits("clop", 1)})})
    (table,) = ReportData.read(tmp_path, data.suite).new_images.values()
    assert texts(table)["clop"][1:] == ["—", "—"]
    assert texts(table)["nt_xent"][1] != "—"


def test_a_diverged_run_counts_as_chance_on_every_image(tmp_path: Path) -> None:
    data = write(tmp_path, ["nt_xent", "clop"])
    made.write(tmp_path, made.run("clop", 2, dataset={"digits": {}}), status="diverged")
    (table,) = ReportData.read(tmp_path, data.suite).new_images.values()
    right = np.array([bits("clop", r) if r != 2 else np.full(IMAGES, 0.1) for r in range(REPETITIONS)], float)
    expected = f"{100 * crossed_ci(right).ci_half_width:.1f}"
    assert texts(table)["clop"][1] == expected


def test_folds_are_not_crossed_since_their_images_differ(tmp_path: Path) -> None:
    runs = [made.run("nt_xent", r, dataset={"image_folder": {"folder": "f", "folds": 2}}) for r in range(2)]
    for run in runs:
        right = bits("nt_xent", run.repetition)
        made.write(tmp_path, run, float(right.mean()), curves={"right": pack({"linear_top1": right})})
    assert ReportData.read(tmp_path, made.select(runs)).new_images == {}


def test_a_failed_run_leaves_a_dash(tmp_path: Path) -> None:
    data = write(tmp_path, ["nt_xent", "clop"])
    made.write(tmp_path, made.run("clop", 0, dataset={"digits": {}}), status="failed", reason="out of memory")
    (table,) = ReportData.read(tmp_path, data.suite).new_images.values()
    assert texts(table)["clop"][1:] == ["—", "—"]
