"""A static board: a page a suite and an index over suites x losses. Opens from disk, loads nothing, needs no server.

DIR/index.html                 losses x tasks: rank group, verdict and cost; search
DIR/<suite>/index.html         the suite's report; `#run-<id>` is a run
DIR/records/<suite>.parquet    the records that the pages are made from (docs/records.md)
DIR/badges/<suite>/<loss>.svg  rank groups of a loss

DIR is a folder of results of its own. Ranks are shown as the report has them, with what data cannot tell apart; where
nothing is resolvable, the index has a dash.
"""

import importlib.util
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from cl_semisup.report import html, tables
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import packing, records
from cl_semisup.results.leaderboard import Board
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite.run import UNTRAINED
from cl_semisup.text import visible

NOT_RANKED = "—"
BADGE_COLOR = "#2f5d8a"


@dataclass(frozen=True)
class Square:
    """A loss on a task: texts of the suite's own table."""

    rank: str
    score: str
    verdict: str
    seconds: str


@dataclass(frozen=True)
class TaskColumn:
    """A task of a suite: loss -> what its table says."""

    suite: str
    task: str
    squares: dict[str, Square]


def make(results: Sequence[tuple[Path, SuiteSnapshot]], to: Path) -> list[Path]:
    """Write the board of these suites, each with the folder of its records; the files that were written."""
    written, columns, suites = list[Path](), list[TaskColumn](), list[SuiteSnapshot]()
    for folder, suite in results:
        if importlib.util.find_spec("pyarrow"):
            packing.pack(folder, suite.name, suite.runs, to)
        else:
            packing.unpack(folder, suite.runs, to)
        data = ReportData.read(to, suite)
        written.append(_write(to, to / suite.name / "index.html", html.page(data)))
        own = [_column(suite.name, board) for board in data.main_boards]
        for loss in _losses(own):
            ranks = [column.squares[loss].rank for column in own if loss in column.squares]
            path = to / "badges" / suite.name / f"{slug(loss)}.svg"
            written.append(_write(to, path, badge(f"{loss} on {suite.name}", ", ".join(ranks))))
        columns += own
        suites.append(suite)
    return [_write(to, to / "index.html", _index(suites, columns)), *written]


def slug(text: str) -> str:
    """A loss's name as a file's name and an anchor."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:100] or "loss"


def badge(name: str, ranks: str) -> str:
    """`clop on fractions | rank 1-3`, as SVG without fonts or images of others."""
    left, right = visible(name), f"rank {visible(ranks)}"
    a, b = 7 * len(left) + 14, 7 * len(right) + 14
    label = escape(f"{left}: {right}")
    text = 'font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" fill="#fff"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{a + b}" height="20" role="img" aria-label="{label}">'
        f"<title>{label}</title>"
        f'<rect width="{a}" height="20" fill="#444"/><rect x="{a}" width="{b}" height="20" fill="{BADGE_COLOR}"/>'
        f'<text x="7" y="14" {text}>{escape(left)}</text><text x="{a + 7}" y="14" {text}>{escape(right)}</text></svg>\n'
    )


def _column(suite: str, board: Board) -> TaskColumn:
    table = tables.board_table(board)
    names = [column.name for column in table.columns]
    score = next((i for i, name in enumerate(names) if name.startswith(f"{board.score} ")), None)
    places = {"rank": _place(names, "rank"), "verdict": _place(names, "verdict"), "seconds": _place(names, "s/run")}
    squares = {}
    for row in table.rows:
        texts = {key: row[at].text if at is not None else NOT_RANKED for key, at in places.items()}
        squares[row[0].text] = Square(score=row[score].text if score is not None else NOT_RANKED, **texts)
    return TaskColumn(suite, board.task, squares)


def _place(names: Sequence[str], name: str) -> int | None:
    return names.index(name) if name in names else None


def _losses(columns: Iterable[TaskColumn]) -> list[str]:
    found = {loss for column in columns for loss in column.squares}
    return sorted(found, key=lambda loss: (loss == UNTRAINED, loss))


def _index(suites: Sequence[SuiteSnapshot], columns: Sequence[TaskColumn]) -> str:
    text: str = _template().render(
        policy=html.POLICY,
        style=(html.FOLDER / "site.css").read_text("utf-8"),
        script=(html.FOLDER / "site.js").read_text("utf-8"),
        suites=suites,
        columns=columns,
        losses=[(loss, slug(loss)) for loss in _losses(columns)],
        slug=slug,
    )
    return text


@cache
def _template() -> Any:
    return html.environment().get_template("site.html.j2")


def _write(root: Path, path: Path, text: str) -> Path:
    records.write_text(path, text, root)
    return path
