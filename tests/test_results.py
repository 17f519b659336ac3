"""The published results: every record is whole, and every figure of the findings stands in a table made from them."""

import re
from pathlib import Path

import pytest

from cl_semisup import records, selection, suite

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "results" / "published"
SUITES = sorted(path.parent.name for path in PUBLISHED.glob("*/suite.json"))
FIGURE = re.compile(r"[+\u2212]?\d+\.\d ± \d+\.\d")


def test_there_are_published_results() -> None:
    assert "stability" in SUITES


@pytest.mark.parametrize("name", SUITES)
def test_every_run_of_a_published_suite_has_a_record(name: str) -> None:
    asked = selection.load(PUBLISHED, name)
    found = records.find(PUBLISHED, asked.runs)
    missing = [run.id for run in asked.runs if run.id not in found]
    assert not missing
    assert {found[run.id]["status"] for run in asked.runs} <= {"ok", "collapsed", "diverged"}
    (file,) = (ROOT / "suites").glob(f"*/{name}.yaml")
    assert {run.id for run in suite.read(file).runs} == {run.id for run in asked.runs}, (
        "the suite changed: run it again"
    )


def test_every_figure_of_the_findings_stands_in_a_published_table() -> None:
    tables = {name: (PUBLISHED / name / "leaderboard.md").read_text() for name in SUITES}
    sections = re.split(r"^## ", (ROOT / "results" / "README.md").read_text(), flags=re.MULTILINE)[1:]
    checked = 0
    for section in sections:
        table = "".join(tables[name] for name in SUITES if f"small/{name}.yaml" in section)
        for figure in FIGURE.findall(section):
            assert figure in table, f"{figure} is in no table of the suites that this section names: {section[:60]}"
            checked += 1
    assert checked >= 20
