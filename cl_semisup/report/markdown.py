"""The leaderboard as Markdown that pastes into GitHub; text from suites and records cannot break a table or a page."""

import re

from cl_semisup.report import table
from cl_semisup.report.findings import Findings
from cl_semisup.report.table import Table

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$@])")


def page(findings: Findings) -> str:
    """Question, answer, a table a task, standings, stability, geometry, alikeness, notes, origin."""
    parts = [f"# {escape(findings.chosen.name)}", "", escape(findings.chosen.question), ""]
    parts += [f"- {escape(sentence)}" for sentence in findings.answer]
    parts += ["", escape(findings.progress), ""]
    for board in findings.boards:
        parts += _section(table.of_board(board))
    if findings.overall:
        parts += _section(table.of_overall(findings.overall, findings.chosen.score, findings.chosen.baseline))
    for task, figures in findings.stability.items():
        parts += _section(table.of_stability(task, figures))
    for board in findings.boards:
        if geometry := table.of_geometry(board):
            parts += _section(geometry)
        if alike := findings.similarity.get(board.task):
            parts += _section(table.of_similarity(board, alike, [board.baseline] if board.baseline else []))
    parts += ["## How to read this", "", *(f"- {note_text(note)}" for note in findings.notes), ""]
    parts += ["## Where it comes from", "", *(f"- {name}: {code(value)}" for name, value in findings.origin), ""]
    return "\n".join(parts)


def _section(shown: Table) -> list[str]:
    return [f"## {escape(shown.caption)}", "", *lines(shown), ""]


def lines(shown: Table) -> list[str]:
    """A table in GitHub's dialect."""
    heads = [escape(column.name) for column in shown.columns]
    rules = ["---:" if column.numeric else ":---" for column in shown.columns]
    rows = [[escape(entry.text) for entry in row] for row in shown.rows]
    return [f"| {' | '.join(row)} |" for row in (heads, rules, *rows)]


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def note_text(note: str) -> str:
    """A note with its `commands` kept as code and the rest escaped."""
    pieces = note.split("`")
    return "".join(code(piece) if i % 2 else _spaced(piece) for i, piece in enumerate(pieces))


def _spaced(piece: str) -> str:
    """Escaped, with the spaces at its ends, which `escape` would drop."""
    return SPECIAL.sub(r"\\\1", re.sub(r"\s+", " ", piece))


def code(text: str) -> str:
    """Text as code, whatever backticks it holds."""
    text = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
