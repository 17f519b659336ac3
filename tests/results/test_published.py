"""The published results: every record is whole, and every figure of the findings stands in a table made from them."""

import re
from pathlib import Path

import pytest

from cl_semisup.results import protocol, records, snapshot
from cl_semisup.suite import suite

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "published"
SUITES = sorted(path.parent.name for path in PUBLISHED.glob("*/suite.json"))
FILES = {name: snapshot.load(PUBLISHED, name).file for name in SUITES}
FIGURE = re.compile(r"[+\u2212]?\d+\.\d ± \d+\.\d")


def test_there_are_published_results() -> None:
    assert "stability" in SUITES


@pytest.mark.parametrize("name", SUITES)
def test_every_run_of_a_published_suite_has_a_record(name: str) -> None:
    asked = snapshot.load(PUBLISHED, name)
    found = records.read_all(PUBLISHED, asked.runs)
    missing = [run.id for run in asked.runs if run.id not in found]
    assert not missing
    assert {found[run.id]["status"] for run in asked.runs} <= {"ok", "collapsed", "diverged"}
    outdated = {piece for run in asked.runs for piece in protocol.stale_parts(found[run.id])}
    assert not outdated, f"the code of {outdated} changed since: run again, or see plugins.EQUIVALENT_VERSIONS"
    assert {run.id for run in suite.read(ROOT / FILES[name]).runs} == {run.id for run in asked.runs}, (
        "the suite changed: run it again"
    )


def _from_tables(text: str) -> int:
    """How many figures a text has; each must stand in a table of a suite that the text names."""
    named = "".join((PUBLISHED / n / "leaderboard.md").read_text() for n in SUITES if FILES[n] in text)
    figures = FIGURE.findall(text)
    astray = [figure for figure in figures if figure not in named]
    assert not astray, f"in no published table of the suites that this text names: {astray}; {text[:60]!r}"
    return len(figures)


def test_every_figure_of_the_findings_stands_in_a_published_table() -> None:
    sections = re.split(r"^## ", (ROOT / "results" / "README.md").read_text(), flags=re.MULTILINE)[1:]
    assert sum(map(_from_tables, sections)) >= 50


def test_every_figure_on_the_first_screen_stands_in_a_published_table() -> None:
    _, _, shown = (ROOT / "README.md").read_text().partition("<!-- result: suites/")
    assert _from_tables("suites/" + shown.partition("<!-- end of result -->")[0]) >= 25
