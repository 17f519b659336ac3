"""The leaderboard as Markdown that pastes into GitHub; text from suites and records cannot break a table or a page."""

import re

from cl_semisup.report import tables
from cl_semisup.report.fine_tuning import fine_tuning_table
from cl_semisup.report.published_table import published_table
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.tables import Table
from cl_semisup.results.leaderboard import Board
from cl_semisup.text import one_line, visible

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$@])")


def page(data: ReportData) -> str:
    """Question, answer, a table a task, ranking, stability, new images, fine-tuning, geometry, CKA, notes, origin."""
    parts = [f"# {escape(data.suite.name)}", "", escape(data.suite.question), ""]
    parts += [f"- {escape(sentence)}" for sentence in data.answer]
    parts += ["", escape(data.progress), ""]
    for board in data.boards:
        parts += _section(tables.board_table(board))
    if data.searched:
        for table in (*data.searched.tables, *data.searched.maps):
            parts += _section(table)
    if data.overall_ranking:
        parts += _section(tables.overall_table(data.overall_ranking, data.suite.score, data.suite.baseline))
    if data.published:
        parts += _section(published_table(data.published, data.suite.score))
    for task, metrics in data.stability.items():
        parts += _section(tables.stability_table(task, metrics))
    for table in (table for board in data.boards for table in _details(data, board) if table):
        parts += _section(table)
    parts += ["## How to read this", "", *(f"- {note_text(note)}" for note in data.notes), ""]
    parts += ["## Where it comes from", "", *(f"- {name}: {code(value)}" for name, value in data.origin), ""]
    return "\n".join(parts)


def _details(data: ReportData, board: Board) -> list[Table | None]:
    """The further tables of a task, in their order; None where there is nothing to tell."""
    broken, similarity = data.breakdown.get(board.task), data.similarity.get(board.task)
    references = [board.baseline] if board.baseline else []
    return [
        tables.breakdown_table(board.task, broken, board.baseline) if broken else None,
        data.new_images.get(board.task),
        fine_tuning_table(board),
        tables.geometry_table(board),
        tables.similarity_table(board, similarity, references) if similarity else None,
        data.updates.get(board.task),
    ]


def _section(table: Table) -> list[str]:
    return [f"## {escape(table.caption)}", "", *lines(table), ""]


def lines(table: Table) -> list[str]:
    """A table in GitHub Flavored Markdown."""
    heads = [escape(column.name) for column in table.columns]
    rules = ["---:" if column.numeric else ":---" for column in table.columns]
    rows = [[escape(entry.text) for entry in row] for row in table.rows]
    return [f"| {' | '.join(row)} |" for row in (heads, rules, *rows)]


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\1", one_line(text))


def note_text(note: str) -> str:
    """A note with its `commands` kept as code and the rest escaped."""
    pieces = note.split("`")
    return "".join(code(piece) if i % 2 else _spaced(piece) for i, piece in enumerate(pieces))


def _spaced(piece: str) -> str:
    """Escaped, with the spaces at its ends, which `escape` would drop."""
    return SPECIAL.sub(r"\\\1", visible(re.sub(r"\s+", " ", piece)))


def code(text: str) -> str:
    """Text as code, also if it contains backticks."""
    text = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
