"""The leaderboard for a terminal: aligned columns, about 110 wide; files hold what has no room."""

import textwrap

from cl_semisup.report import table, wording
from cl_semisup.report.findings import Findings
from cl_semisup.report.table import Table

WIDTH = 110
NARROWEST = 16  # letters of a loss that are always shown


def text(findings: Findings) -> str:
    """Question, answer, a table a task, notes."""
    parts = [*_wrapped([findings.chosen.question]), "", *_wrapped(findings.answer), findings.progress]
    for board in findings.boards:
        parts += ["", *lines(table.of_board(board))]
    if findings.overall:
        parts += ["", *lines(table.of_overall(findings.overall, findings.chosen.score, findings.chosen.baseline))]
    return "\n".join([*parts, "", *_wrapped(findings.notes)])


def lines(shown: Table, width: int = WIDTH) -> list[str]:
    """A table's lines; to fit, optional columns go, the last first, and then the ends of long first entries."""
    kept = list(range(len(shown.columns)))
    optional = sorted((column.optional, i) for i, column in enumerate(shown.columns) if column.optional)
    while optional and _excess(_widths(shown, kept), width) > 0:
        kept.remove(optional.pop()[1])
    widths = _widths(shown, kept)
    widths[0] = max(min(widths[0], NARROWEST), widths[0] - max(_excess(widths, width), 0))
    rows = [[shown.columns[i].name for i in kept]] + [[row[i].text for i in kept] for row in shown.rows]
    numeric = [shown.columns[i].numeric for i in kept]
    body = ["  ".join(_aligned([wording.cut(row[0], widths[0]), *row[1:]], widths, numeric)).rstrip() for row in rows]
    return [shown.caption, body[0], "-" * len(max(body, key=len)), *body[1:]]


def _excess(widths: list[int], width: int) -> int:
    """How many letters a row of these columns is too long."""
    return sum(widths) + 2 * (len(widths) - 1) - width


def _widths(shown: Table, kept: list[int]) -> list[int]:
    return [max([len(shown.columns[i].name), *(len(row[i].text) for row in shown.rows)]) for i in kept]


def _aligned(row: list[str], widths: list[int], numeric: list[bool]) -> list[str]:
    return [f"{text:>{w}}" if right else f"{text:<{w}}" for text, w, right in zip(row, widths, numeric, strict=True)]


def _wrapped(notes: list[str]) -> list[str]:
    wrapper = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    return [line for note in notes for line in wrapper.wrap(note)]
