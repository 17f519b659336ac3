"""The published results: every record is whole, and every figure of the findings stands in a table made from them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cl_semisup import plugins
from cl_semisup.data import labels
from cl_semisup.report import export, markdown
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import protocol, records, snapshot
from cl_semisup.suite import suite
from cl_semisup.suite.axes import DRAW_KEYS
from cl_semisup.suite.run import Run
from tools import collapse_picture, comparisons

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "published"
SUITES = sorted(path.parent.name for path in PUBLISHED.glob("*/suite.json"))
FILES = {name: json.loads((PUBLISHED / name / "suite.json").read_text("utf-8"))["file"] for name in SUITES}
FIGURE = re.compile(r"[+\u2212]?\d+\.\d+ ± \d+\.\d+")
SHARE = re.compile(r"(?<![\d.])\d+(?= %)")
SAID_OF_NO_TABLE = {"95", "80", "97"}  # of intervals, of the power of tests, and of scores that would not be easy
FINDINGS = ROOT / "docs" / "findings"
(RESOLVED,) = re.findall(r"^\| `resolved` \| (`.*)", (ROOT / "docs" / "records.md").read_text("utf-8"), re.M)


def test_there_are_published_results() -> None:
    assert "stability" in SUITES


@pytest.mark.parametrize("name", SUITES)
def test_every_run_of_a_published_suite_has_a_record(name: str) -> None:
    asked = snapshot.load(PUBLISHED, name)
    found = records.read_all(PUBLISHED, asked.runs)
    missing = [run.id for run in asked.runs if run.id not in found]
    assert not missing
    assert {found[run.id]["status"] for run in asked.runs} <= {"ok", "collapsed", "diverged"}
    resolved = {name for record in found.values() for name in record["resolved"]}
    assert not resolved - {*re.findall(r"`(\w+)`", RESOLVED)}, "docs/records.md does not tell what these are"
    outdated = {piece for run in asked.runs for piece in protocol.stale_parts(found[run.id])}
    assert not outdated, f"the code of {outdated} changed since: run again, or see plugins.EQUIVALENT_VERSIONS"
    today = suite.read(ROOT / FILES[name])
    assert (today.baseline, today.score) == (asked.baseline, asked.score), "tables are made with another baseline"
    grid, here = {run.id for run in today.runs}, {run.id for run in asked.runs}
    assert here < grid if today.in_rounds else here == grid, "the suite changed: run it again"
    page = (PUBLISHED / name / "leaderboard.md").read_text("utf-8")
    assert f"`{FILES[name]} (hash {today.text_hash})`" in page, (
        f"make it again: python benchmark.py report {FILES[name]}"
    )
    assert "--data-dir" not in page, "the folder of one machine"


@pytest.mark.parametrize("name", SUITES)
def test_published_tables_are_those_that_todays_code_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # pages name the results folder as it was given
    given = PUBLISHED.relative_to(ROOT)
    data = ReportData.read(given, snapshot.load(given, name))
    for file, text in {"leaderboard.md": markdown.page(data), "leaderboard.csv": export.csv(data)}.items():
        written = (PUBLISHED / name / file).read_bytes().decode()
        # numpy's sums may differ in the last digits from one processor to another
        assert round_figures(text) == round_figures(written), (
            f"{file}: make it again, python benchmark.py report {FILES[name]} --results {given}"
        )


# What the findings call clear or equal -> the row of the page of all comparisons that says so; None: not of losses.
CLEAR = {
    "kNN accuracy rises clearly over SimCLR's on digits": ("long_augmentation", "clop", "nt_xent"),
    "CLOP's kNN is clearly above SimCLR's": ("long_augmentation", "clop", "nt_xent"),
}
EQUAL = {
    "is equal to SupCon within 2 points": ("trial_clients", "fedrcl", "supcon"),
    "are equal within 2 points": ("trial_clients", "fedrcl", "supcon"),
    "value and gradient equal those of the oracle": None,
}
CLEARLY = r"(?<!\*)\b[Cc]learly\b"
EQUALLY = r"(?<!\*)\b(equal(ly)?|alike|no difference|as (much|many|good|stable) as|no (more|less|better|worse) than|are the same)\b"


@pytest.mark.parametrize(("part", "said", "word"), [(0, CLEAR, CLEARLY), (1, EQUAL, EQUALLY)], ids=["clear", "equal"])
def test_clear_and_equal_are_said_only_of_what_stays_after_the_correction_of_the_whole_page(
    part: int, said: dict[str, Any], word: str
) -> None:
    table = (FINDINGS / "comparisons.md").read_text("utf-8").replace("\\", "").split("\n## ")[part]
    rows = {
        (suite_name, loss.split("(")[0], over.split("(")[0])
        for line in table.splitlines()
        if line.startswith("| ")
        for suite_name, _, loss, over in [[cell.strip() for cell in line.split("|")[1:5]]]
    }
    assert {row for row in said.values() if row} <= rows
    pages = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted(FINDINGS.glob("*.md"))]
    for page in pages:
        text = " ".join(page.read_text("utf-8").split())
        for fragment in said:
            text = text.replace(fragment, "")
        if page.name != "comparisons.md":
            assert not (found := re.search(f".{{0,50}}{word}", text)), f"{page.name}: no row shows {found.group()!r}"


def test_equivalence_is_that_of_two_one_sided_t_tests_of_scipy() -> None:
    for seed in range(5):
        x = np.random.RandomState(seed).normal(0.005, 0.02, size=6)
        low = stats.ttest_1samp(x, -comparisons.MARGIN, alternative="greater").pvalue
        high = stats.ttest_1samp(x, comparisons.MARGIN, alternative="less").pvalue
        assert comparisons.p_apart(x) == pytest.approx(max(low, high))


def round_figures(text: str) -> str:
    """The text with every number of ten and more decimals rounded to nine significant digits."""
    return re.sub(r"-?\d+\.\d{10,}(?:e-?\d+)?", lambda found: f"{float(found.group()):.9g}", text)


def test_ids_and_fingerprints_of_published_records_are_those_of_today() -> None:
    """A word of suites or records may be renamed; the hashes of a run and of its protocol stay."""
    count = 0
    for path in records.all_paths(PUBLISHED):
        record = records.read(path)
        assert Run.from_dict(record["run"]).id == path.stem
        assert protocol.fingerprint(record["protocol"]["settings"]) == record["protocol"]["fingerprint"], path
        count += 1
    assert count > 3000


def test_labels_of_published_records_are_drawn_again() -> None:
    true_labels = plugins.load("datasets", "digits")().load(ROOT / "data").train_labels
    drawn: dict[str, str] = {}
    for path in records.all_paths(PUBLISHED):
        record = records.read(path)
        if "digits" in record["run"]["dataset"]:
            key = repr({axis: record["run"].get(axis) for axis in (*DRAW_KEYS, "label_noise", "repetition")})
            if key not in drawn:
                drawn[key] = labels.of_run(true_labels, record["run"]).fingerprint
            assert drawn[key] == record["resolved"]["label_set"], path
    assert any("pair_flip" in key for key in drawn)


def _from_tables(text: str, names: Sequence[str] | None = None) -> int:
    """How many figures a text has; each must stand in a table of these suites: by default those that the text names."""
    found = [n for n in SUITES if FILES[n] in text] if names is None else names
    tables = "".join((PUBLISHED / n / "leaderboard.md").read_text() for n in found)
    figures = FIGURE.findall(text)
    astray = [figure for figure in figures if figure not in tables]
    asked = "".join((ROOT / FILES[n]).read_text() for n in found)
    known = {*re.findall(r"\d+", re.sub(r"\d*\.\d+", "", tables)), *SAID_OF_NO_TABLE}
    known |= {
        f"{100 * float(number):.0f}" for number in re.findall(r"\d+\.?\d*", asked)
    }  # label fractions and the like
    astray += [f"{share} %" for share in SHARE.findall(FIGURE.sub("", text)) if share not in known]
    assert not astray, f"in no published table of the suites that this text names: {astray}; {text[:60]!r}"
    return len(figures)


def test_every_figure_of_the_findings_stands_in_a_published_table() -> None:
    count = 0
    for page in sorted({*FINDINGS.glob("*.md")} - {comparisons.PAGE}):  # that page is made
        sections = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]
        count += sum(map(_from_tables, sections))
    assert count >= 50


def test_the_first_page_of_the_findings_is_short_and_its_figures_stand_in_published_tables() -> None:
    text = (ROOT / "results" / "README.md").read_text()
    assert len(text.split()) < 1500
    assert _from_tables(text, SUITES) >= 25


def test_what_the_findings_show_is_made_from_the_published_records() -> None:
    assert collapse_picture.picture() == collapse_picture.PICTURE.read_text("utf-8")
    found = comparisons.comparisons()
    assert comparisons.page(found) == comparisons.PAGE.read_text("utf-8")
    survive = re.search(r"(\d+) have a raw p below .05, (\d+) stay", comparisons.PAGE.read_text())
    assert survive
    said = "Of {} comparisons with a baseline {} have a raw p below .05 and [{} survive"
    wanted = said.format(len(found), *survive.groups())
    assert wanted in (ROOT / "results" / "README.md").read_text()


def test_every_figure_on_the_first_screen_stands_in_a_published_table() -> None:
    _, _, shown = (ROOT / "README.md").read_text().partition("<!-- result: suites/")
    assert _from_tables("suites/" + shown.partition("<!-- end of result -->")[0]) >= 25
