"""Make docs/findings/comparisons.md, all comparisons under one correction: `python tools/comparisons.py`."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cl_semisup.report.markdown import escape  # noqa: E402
from cl_semisup.report.ranking import p_value  # noqa: E402
from cl_semisup.report.report_data import ReportData  # noqa: E402
from cl_semisup.report.wording import format_p, format_points  # noqa: E402
from cl_semisup.results import snapshot  # noqa: E402
from cl_semisup.results.statistics import CONFIDENCE, MeanCI, holm  # noqa: E402
from cl_semisup.results.verdict import MIN_PAIRS  # noqa: E402

PAGE = ROOT / "docs" / "findings" / "comparisons.md"
PUBLISHED = ROOT / "results" / "published"
TEXT = """\
# All comparisons under one correction

Every published suite compares its losses with its baseline, paired by repetition, by the score that the suite names. A
table corrects its own p-values; who reads all tables reads many more. Here are all {count} comparisons with {pairs}
pairs or more of all {suites} suites, corrected together by Holm's method: {raw} have a raw p below .05, {kept} stay
below it after the correction. The findings say *clearly* only of these. Made by `python tools/comparisons.py`.

{clear}

## Equal within {margin} points

A difference that is not told apart from 0 need not be small. Of the same comparisons these {equal} lie within {margin}
points either way, by two one-sided paired t-tests, corrected together by Holm's method. The findings say *equal* only
of these.

{same}
"""
HEAD = """\
| suite | task | loss | over | difference, points | raw p | corrected p |
| :--- | :--- | :--- | :--- | ---: | ---: | ---: |
"""
MARGIN = 0.02  # what the noise of 360 test images comes to


@dataclass(frozen=True)
class Comparison:
    """A loss and the baseline of its board."""

    suite: str
    task: str
    loss: str
    baseline: str
    difference: MeanCI
    p: float  # that there is no difference
    p_apart: float  # that it is MARGIN or more


def comparisons() -> list[Comparison]:
    """Of all published suites, in their order."""
    found = []
    for path in sorted(PUBLISHED.glob("*/suite.json")):
        data = ReportData.read(PUBLISHED, snapshot.load(PUBLISHED, path.parent.name))
        for board in data.boards if not data.suite.search else []:
            base = board.row_of(board.baseline)
            for row in board.trained_rows:
                if base and row is not base and row.complete and row.difference.n >= MIN_PAIRS:
                    differences = row.repetition_scores - base.repetition_scores
                    ps = p_value(differences), p_apart(differences)
                    found.append(Comparison(data.suite.name, board.task, row.loss, base.loss, row.difference, *ps))
    return found


def p_apart(differences: np.ndarray) -> float:
    """p of the larger of two one-sided paired t-tests, that the mean is at most -MARGIN and at least MARGIN."""
    n, room = len(differences), MARGIN - abs(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    return float(special.stdtr(n - 1, -room / error)) if error else float(room <= 0)


def page(found: list[Comparison]) -> str:
    """Those of all comparisons that stay significant, and those that are equal, the smallest p first."""
    clear, equal = _kept(found, [one.p for one in found]), _kept(found, [one.p_apart for one in found])
    return TEXT.format(
        count=len(found), pairs=MIN_PAIRS, suites=len({one.suite for one in found}), kept=len(clear),
        raw=sum(one.p < 1 - CONFIDENCE for one in found), clear=HEAD + "\n".join(clear),
        margin=f"{100 * MARGIN:g}", equal=len(equal), same=HEAD + "\n".join(equal),
    )  # fmt: skip


def _kept(found: list[Comparison], ps: list[float]) -> list[str]:
    """The rows of a table: comparisons whose p is still small after the correction of all."""
    rows = sorted(zip(ps, holm(ps), found, strict=True), key=lambda row: row[0])
    return [
        f"| {escape(one.suite)} | {escape(one.task)} | {escape(one.loss)} | {escape(one.baseline)} |"
        f" {format_points(one.difference)} | {format_p(p)} | {format_p(corrected)} |"
        for p, corrected, one in rows
        if corrected < 1 - CONFIDENCE
    ]


if __name__ == "__main__":
    PAGE.write_text(page(comparisons()), encoding="utf-8")
    print(PAGE)
