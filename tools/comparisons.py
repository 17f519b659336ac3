"""Make docs/findings/comparisons.md, all comparisons under one correction: `python tools/comparisons.py`."""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cl_semisup.report.markdown import escape  # noqa: E402
from cl_semisup.report.ranking import holm, p_value  # noqa: E402
from cl_semisup.report.report_data import ReportData  # noqa: E402
from cl_semisup.report.wording import format_p, format_points  # noqa: E402
from cl_semisup.results import snapshot  # noqa: E402
from cl_semisup.results.statistics import CONFIDENCE, MeanCI  # noqa: E402
from cl_semisup.results.verdict import MIN_PAIRS  # noqa: E402

PAGE = ROOT / "docs" / "findings" / "comparisons.md"
PUBLISHED = ROOT / "results" / "published"
TEXT = """\
# All comparisons under one correction

Every published suite compares its losses with its baseline, paired by repetition, by the score that the suite names. A
table corrects its own p-values; who reads all tables reads many more. Here are all {count} comparisons with {pairs}
pairs or more of all {suites} suites, corrected together by Holm's method: {raw} have a raw p below .05, {kept} stay
below it after the correction. The findings say *clearly* only of these. Made by `python tools/comparisons.py`.

| suite | task | loss | over | difference, points | raw p | corrected p |
| :--- | :--- | :--- | :--- | ---: | ---: | ---: |
"""


@dataclass(frozen=True)
class Comparison:
    """A loss and the baseline of its board."""

    suite: str
    task: str
    loss: str
    baseline: str
    difference: MeanCI
    p: float


def comparisons() -> list[Comparison]:
    """Of all published suites, in their order."""
    found = []
    for path in sorted(PUBLISHED.glob("*/suite.json")):
        data = ReportData.read(PUBLISHED, snapshot.load(PUBLISHED, path.parent.name))
        for board in data.boards if not data.suite.search else []:
            base = board.row_of(board.baseline)
            for row in board.trained_rows:
                if base and row is not base and row.complete and row.difference.n >= MIN_PAIRS:
                    p = p_value(row.repetition_scores - base.repetition_scores)
                    found.append(Comparison(data.suite.name, board.task, row.loss, base.loss, row.difference, p))
    return found


def page(found: list[Comparison]) -> str:
    """Those of all comparisons that stay significant, the smallest p first."""
    corrected = holm([one.p for one in found])
    by_p = sorted(zip(corrected, found, strict=True), key=lambda pair: pair[1].p)
    kept = [(c, one) for c, one in by_p if c < 1 - CONFIDENCE]
    rows = [
        f"| {escape(one.suite)} | {escape(one.task)} | {escape(one.loss)} | {escape(one.baseline)} |"
        f" {format_points(one.difference)} | {format_p(one.p)} | {format_p(c)} |"
        for c, one in kept
    ]
    head = TEXT.format(
        count=len(found), pairs=MIN_PAIRS, suites=len({one.suite for one in found}),
        raw=sum(one.p < 1 - CONFIDENCE for one in found), kept=len(kept),
    )  # fmt: skip
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(comparisons()), encoding="utf-8")
    print(PAGE)
