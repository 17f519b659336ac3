"""Published numbers beside ours: what a suite may say, which of our cells they meet, and how reports show them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cl_semisup.errors import InputError, SuiteError
from cl_semisup.report import markdown, terminal
from cl_semisup.report.published import compare
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import leaderboard, snapshot
from cl_semisup.results.run_table import gather
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite.published import Published
from cl_semisup.suite.suite import Suite
from tests.helpers.records import run, write

SOURCE = "Table 1 of a paper"


def _refused(parse: Callable[[str], Suite], text: str, entry: str) -> str:
    with pytest.raises(SuiteError) as error:
        parse(f"{text}published:\n  - {entry}\n")
    return str(error.value)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            "{loss: nt_xent, value: 78.3, source: x}",
            "published[0].value: must be less than 1 (the published score, a fraction between 0 and 1). Got 78.3",
        ),
        ("{loss: nt_xent, value: 0, source: x}", "published[0].value: must be greater than 0"),
        ("{loss: nt_xent, value: 0.5}", "published[0]: needs 'source'"),
        ("{loss: nt_xent, value: 0.5, source: ''}", "published[0].source: "),
        ("{loss: dcl, value: 0.5, source: x}", "published[0].loss: must be a loss of this suite. Got 'dcl'."),
        ("{loss: clop(base=dcl), value: 0.5, source: x}", "loss: must be a loss of this suite. Got 'clop(base=dcl)'."),
        ("{loss: nt_xent, value: 0.5, source: x, batch_size: 7}", "published[0].batch_size: must be a batch size of"),
        ("{loss: nt_xent, value: 0.5, source: x, score: top9}", "published[0].score: must be a score of this suite."),
        ("{loss: nt_xent, value: [0.5, 0.6], source: x}", "published[0]: must be one number, not a grid."),
        ("0.783", "published[0]: must be a mapping of settings"),
    ],
)
def test_a_wrong_published_number_is_refused_with_its_place(
    parse: Callable[[str], Suite], text: str, entry: str, told: str
) -> None:
    assert told in _refused(parse, text, entry)


def test_every_published_number_names_the_table_or_the_repository_where_it_was_read() -> None:
    place = re.compile(
        r"(\w+ in )?arXiv \d{4}\.\d{5}(v\d)?, table \d+"
        r"|README of [\w.-]+/[\w.-]+(@[0-9a-f]{7})?(, [\w-]+)?"
        r"|lightly documentation, CIFAR-10 benchmark, March 2023"
    )
    count = 0
    for path in sorted((Path(__file__).parents[2] / "suites" / "reference").glob("*.yaml")):
        for number in yaml.safe_load(path.read_text("utf-8"))["published"]:
            assert place.fullmatch(number["source"]), f"{path.name}: {number}"
            assert "memory" not in number.get("remark", "").replace("memory of", ""), f"{path.name}: {number}"
            count += 1
    assert count > 100


def test_a_suite_without_a_list_of_numbers_is_refused(parse: Callable[[str], Suite], text: str) -> None:
    with pytest.raises(SuiteError, match="published: must be a list of at most 1000 mappings"):
        parse(f"{text}published: 0.8\n")


def test_published_numbers_are_no_part_of_a_run(parse: Callable[[str], Suite], text: str) -> None:
    with_number = parse(f"{text}published:\n  - {{loss: nt_xent, value: 0.5, source: x}}\n")
    assert with_number.runs == parse(text).runs
    assert with_number.published == (Published("nt_xent", 0.5, "x"),)


def _results(results: Path) -> list[Any]:
    """Six repetitions at two batch sizes: about 60 % at 32, about 80 % at 256."""
    runs = []
    for batch, level in ((32, 0.6), (256, 0.8)):
        for repetition in range(6):
            one = run(repetition=repetition, batch_size=batch)
            write(results, one, score=level + 0.01 * (-1) ** repetition)
            runs.append(one)
    return runs


def _suite(runs: list[Any], *numbers: Published) -> SuiteSnapshot:
    return SuiteSnapshot("s", "s.yaml", "Does it repeat?", "", "linear_top1", "0" * 16, tuple(runs), published=numbers)


def test_a_number_meets_the_cells_that_it_speaks_of(tmp_path: Path) -> None:
    boards = leaderboard.boards(gather(tmp_path, _results(tmp_path)), "linear_top1")
    numbers = [
        Published("nt_xent", 0.605, SOURCE, batch_size=32),
        Published("nt_xent", 0.7, SOURCE, batch_size=32),
        Published("nt_xent", 0.7, SOURCE, interval=0.09, batch_size=32),
        Published("nt_xent", 0.8, SOURCE),
        Published("nt_xent", 0.8, SOURCE, dataset="cifar10"),
        Published("nt_xent", 0.4, SOURCE, score="knn_top1", label_fraction=0.1),
    ]
    found = compare(boards, numbers, "linear_top1")
    assert [one.inside for one in found] == ["yes", "no", "yes", "yes", "", "yes"]
    assert found[0].ours.mean == pytest.approx(0.6)
    assert found[0].config == "lr 0.1, batch 32"
    assert found[3].ours.mean == pytest.approx(0.8)  # of all cells the tuned one
    assert np.isnan(found[4].ours.mean)
    half = found[0].ours.ci_half_width
    (edge,) = compare(boards, [Published("nt_xent", 0.6 + 1.001 * half, SOURCE, batch_size=32)], "linear_top1")
    assert edge.inside == "no"


def test_a_number_may_name_the_settings_that_tell_losses_apart(
    tmp_path: Path, parse: Callable[[str], Suite], text: str
) -> None:
    several = text.replace("clop]", "clop: {base: [nt_xent, dcl]}]").replace("repetitions: 1", "repetitions: 2")
    entry = "  - {loss: clop(base=%s), value: 0.5, source: x}\n"
    suite = parse(several + "published:\n" + entry % "dcl" + entry % "nt_xent")
    for one in suite.runs:
        base = next(iter(one.loss[one.loss_name]["base"])) if one.loss_name == "clop" else ""
        write(tmp_path, one, score={"dcl": 0.5, "nt_xent": 0.8}.get(base, 0.3))
    found = compare(leaderboard.boards(gather(tmp_path, suite.runs), "linear_top1"), suite.published, "linear_top1")
    assert [one.ours.mean for one in found] == [0.5, 0.8]


def test_reports_show_published_ours_and_inside(tmp_path: Path) -> None:
    suite = _suite(_results(tmp_path), Published("nt_xent", 0.7, SOURCE, batch_size=32, remark="another | recipe"))
    page = markdown.page(ReportData.read(tmp_path, suite))
    assert "## Published numbers beside ours" in page
    (row,) = [line for line in page.splitlines() if "Table 1" in line]
    assert [cell.strip() for cell in row.split(" | ")][4:7] == ["70.0", "60.0 ± 1.1", "no"]
    assert r"another \| recipe" in row
    assert "Published numbers beside ours" in terminal.text(ReportData.read(tmp_path, suite))
    assert "Published" not in markdown.page(ReportData.read(tmp_path, _suite(suite.runs)))


def test_a_snapshot_keeps_the_numbers_and_a_strangers_are_checked(tmp_path: Path) -> None:
    suite = _suite(_results(tmp_path), Published("nt_xent", 0.7, SOURCE))
    suite.save(tmp_path)
    assert snapshot.load(tmp_path, "s").published == suite.published
    path = tmp_path / "s" / "suite.json"
    content = json.loads(path.read_text("utf-8"))
    for wrong in ({"loss": "nt_xent", "value": 7, "source": "x"}, {"loss": "nt_xent"}, [], {"loss": 1}, "x"):
        path.write_text(json.dumps(content | {"published": [wrong]}), "utf-8")
        with pytest.raises(InputError, match="cannot be read"):
            snapshot.load(tmp_path, "s")


def test_a_report_sets_fine_tuning_beside_the_same_labels_otherwise(tmp_path: Path) -> None:
    runs = [run(repetition=repetition) for repetition in range(6)]
    for one in runs:
        path = write(tmp_path, one)
        record, wave = json.loads(path.read_text("utf-8")), 0.01 * (-1) ** one.repetition
        for name, level in {"linear": 0.5, "finetune": 0.6 + wave, "finetune_scratch": 0.4}.items():
            record["scores"][f"{name}_top1_labelled"] = level
        path.write_text(json.dumps(record), "utf-8")
    page = markdown.page(ReportData.read(tmp_path, _suite(runs)))
    (line,) = [line for line in page.splitlines() if line.startswith("| nt") and "+20.0" in line]
    cells = [cell.strip() for cell in line.split("|")][2:-1]
    assert cells == ["60.0 ± 1.1", "50.0 ± 0.0", "40.0 ± 0.0", "+10.0 ± 1.1", "+20.0 ± 1.1"]
    assert "Fine-tuning beside" not in markdown.page(ReportData.read(tmp_path, _suite(_results(tmp_path))))
