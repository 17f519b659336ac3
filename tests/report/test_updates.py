"""The table of similar updates: the probe's cosines, and those between losses, paired by repetition."""

from pathlib import Path
from typing import Any

from cl_semisup.report import html, markdown
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.updates import updates_table
from tests.helpers import records as made

UPDATES: dict[str, list[Any]] = {  # a repetition each, of two images
    "nt_xent": [[[3, 4], [1, 0]], [[1, 0], [0, 1]]],
    "clop": [[[4, 3], [0, 5]], [[1, 0], [0, 1]]],  # cosines 0.48 and 1 to those above
}


def write(results: Path, updates: dict[str, list[Any]]) -> ReportData:
    runs = []
    for loss, repetitions in updates.items():
        for r, rows in enumerate(repetitions):
            runs.append(made.run(loss, r))
            measures = {"update_similarity": 0.5 + r / 10, "update_similarity_untrained": 0.25}
            made.write(results, runs[-1], diagnostics=measures, curves={"updates": rows})
    return ReportData.read(results, made.select(runs))


def test_updates_of_a_loss_are_compared_with_a_gradient_step_and_with_the_baseline(tmp_path: Path) -> None:
    data = write(tmp_path, UPDATES)
    table = updates_table(data.boards[0], tmp_path)
    assert table is not None
    assert [column.name for column in table.columns][1:4] == ["similarity", "similarity_untrained", "similarity_random"]
    found = {row[0].text: [entry.text for entry in row[1:]] for row in table.rows}
    assert found["nt_xent"] == ["0.55 \u00b1 0.64", "0.25 \u00b1 0.00", "\u2014", "itself"]
    assert found["clop"][3] == "0.74 \u00b1 3.30"  # the mean of 0.48 and 1, and 12.706 times their standard error
    assert "Similarity of updates" in markdown.page(data)
    assert "Similarity of updates" in html.page(data)


def test_updates_that_cannot_be_compared_have_a_dash(tmp_path: Path) -> None:
    data = write(tmp_path, UPDATES | {"clop": [UPDATES["clop"][0], "damaged"]})
    table = updates_table(data.boards[0], tmp_path)
    assert table is not None
    assert {row[0].text: row[4].text for row in table.rows}["clop"] == "\u2014"


def test_without_the_probe_there_is_no_table(tmp_path: Path) -> None:
    run = made.run("nt_xent")
    made.write(tmp_path, run)
    assert updates_table(ReportData.read(tmp_path, made.select([run])).boards[0], tmp_path) is None
