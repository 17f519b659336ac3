"""The leaderboard for a terminal: aligned columns, about 110 wide; files hold what does not fit."""

import textwrap

from cl_semisup.report import tables, wording
from cl_semisup.report.published_table import published_table
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.tables import Table
from cl_semisup.text import one_line

WIDTH = 110
MIN_LOSS_WIDTH = 16  # characters of a loss that are always shown


def text(data: ReportData) -> str:
    """Question, answer, a table a task, notes."""
    parts = [*wrapped([data.suite.question]), "", *wrapped(data.answer), one_line(data.progress)]
    for board in data.boards:
        parts += ["", *lines(tables.board_table(board))]
    for table in data.searched.tables if data.searched else ():
        parts += ["", *lines(table)]
    if data.overall_ranking:
        parts += ["", *lines(tables.overall_table(data.overall_ranking, data.suite.score, data.suite.baseline))]
    if data.published:
        parts += ["", *lines(published_table(data.published, data.suite.score))]
    return "\n".join([*parts, "", *wrapped(data.notes)])


def lines(table: Table, width: int = WIDTH) -> list[str]:
    """A table's lines; to fit, optional columns are left out, then long names of losses are shortened."""
    columns = list(range(len(table.columns)))
    optional = sorted((column.optional, i) for i, column in enumerate(table.columns) if column.optional)
    while optional and _excess(_widths(table, columns), width) > 0:
        columns.remove(optional.pop()[1])
    widths = _widths(table, columns)
    widths[0] = max(min(widths[0], MIN_LOSS_WIDTH), widths[0] - max(_excess(widths, width), 0))
    rows = [[one_line(table.columns[i].name) for i in columns]]
    rows += [[one_line(row[i].text) for i in columns] for row in table.rows]
    numeric = [table.columns[i].numeric for i in columns]
    rows = [[wording.ellipsize(row[0], widths[0]), *row[1:]] for row in rows]
    body = ["  ".join(_aligned(row, widths, numeric)).rstrip() for row in rows]
    return [one_line(table.caption), body[0], "-" * len(max(body, key=len)), *body[1:]]


def _excess(widths: list[int], width: int) -> int:
    """By how many characters a row of these columns is too long."""
    return sum(widths) + 2 * (len(widths) - 1) - width


def _widths(table: Table, columns: list[int]) -> list[int]:
    texts = ([table.columns[i].name, *(row[i].text for row in table.rows)] for i in columns)
    return [max(len(one_line(text)) for text in column) for column in texts]


def _aligned(row: list[str], widths: list[int], numeric: list[bool]) -> list[str]:
    return [f"{text:>{w}}" if right else f"{text:<{w}}" for text, w, right in zip(row, widths, numeric, strict=True)]


def wrapped(notes: list[str]) -> list[str]:
    wrapper = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    return [line for note in notes for line in wrapper.wrap(one_line(note))]
