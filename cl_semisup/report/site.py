"""A static board: a page a suite and an index over suites x losses. Opens from disk, loads nothing, needs no server.

DIR/index.html                 losses x suites, and each loss on its tasks: rank group, verdict and cost; search
DIR/<suite>/index.html         the suite's report; `#row-<task>-<loss>` is a row, `#run-<id>` a run
DIR/records/<suite>.parquet    the records that the pages are made from (docs/records.md)
DIR/badges/<suite>/<loss>.svg  rank groups of a loss

DIR is a folder of results of its own. Ranks are shown as the report has them, with what data cannot tell apart; where
nothing is resolvable, the index has a dash.
"""

import importlib.util
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
    """A loss on a task: texts of the suite's own table, and the link to its row there."""

    rank: str
    score: str
    verdict: str
    seconds: str
    link: str


@dataclass(frozen=True)
class TaskColumn:
    """A task of a suite: loss -> what its table says."""

    suite: str
    task: str
    squares: dict[str, Square]


@dataclass(frozen=True)
class Cell:
    """A loss on all tasks of a suite."""

    squares: tuple[Square, ...]

    @property
    def ranks(self) -> str:
        return ", ".join(square.rank for square in self.squares)

    @property
    def verdicts(self) -> str:
        """`ok 4, diverged 1`, or `ok` where there is one verdict."""
        counts = Counter(square.verdict for square in self.squares)
        return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{word} {n}" for word, n in counts.items())

    @property
    def seconds(self) -> str:
        """`2.1 s/run`, or `1.9 to 2.3 s/run` over the tasks; "" if no run has been timed."""
        known = sorted({square.seconds for square in self.squares} - {NOT_RANKED}, key=float)
        return f"{' to '.join(dict.fromkeys((known[0], known[-1])))} s/run" if known else ""


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
        own = columns_of(data)
        for loss, anchor in html.anchors(_losses(own)).items():
            path = to / "badges" / suite.name / f"{anchor}.svg"
            written.append(_write(to, path, badge(f"{loss} on {suite.name}", _cell(own, loss).ranks)))
        columns += own
        suites.append(suite)
    return [_write(to, to / "index.html", _index(suites, columns)), *written]


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


def columns_of(data: ReportData) -> list[TaskColumn]:
    """The tasks of a suite."""
    links = html.row_anchors(data.boards)
    return [_column(data.suite.name, board, links) for board in data.main_boards]


def _column(suite: str, board: Board, links: dict[tuple[str, str], str]) -> TaskColumn:
    table = tables.board_table(board)
    names = [column.name for column in table.columns]
    score = next((i for i, name in enumerate(names) if name.startswith(f"{board.score} ")), None)
    places = {"rank": _place(names, "rank"), "verdict": _place(names, "verdict"), "seconds": _place(names, "s/run")}
    squares = {}
    for row in table.rows:
        texts = {key: row[at].text if at is not None else NOT_RANKED for key, at in places.items()}
        link = f"{quote(suite)}/index.html#{links[board.task, row[0].text]}"
        squares[row[0].text] = Square(score=row[score].text if score is not None else NOT_RANKED, link=link, **texts)
    return TaskColumn(suite, board.task, squares)


def _place(names: Sequence[str], name: str) -> int | None:
    return names.index(name) if name in names else None


def _cell(columns: Iterable[TaskColumn], loss: str) -> Cell:
    return Cell(tuple(column.squares[loss] for column in columns if loss in column.squares))


def _losses(columns: Iterable[TaskColumn]) -> list[str]:
    found = {loss for column in columns for loss in column.squares}
    return sorted(found, key=lambda loss: (loss == UNTRAINED, loss))


def _index(suites: Sequence[SuiteSnapshot], columns: Sequence[TaskColumn]) -> str:
    losses = _losses(columns)
    text: str = _template().render(
        policy=html.POLICY,
        style=(html.FOLDER / "site.css").read_text("utf-8"),
        script=(html.FOLDER / "site.js").read_text("utf-8"),
        suites=suites,
        columns=columns,
        losses=html.anchors(losses),
        matrix={
            loss: [_cell([one for one in columns if one.suite == suite.name], loss) for suite in suites]
            for loss in losses
        },
    )
    return text


@cache
def _template() -> Any:
    return html.environment().get_template("site.html.j2")


def _write(root: Path, path: Path, text: str) -> Path:
    records.write_text(path, text, root)
    return path
