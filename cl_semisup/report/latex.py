r"""The leaderboard as LaTeX tables (booktabs), to \input into a paper; the best mean of a column is not made bold.

Bold would claim an order that the intervals may not support; significant differences are in the column `rank`.
"""

import unicodedata

from cl_semisup.report import tables
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.tables import Table
from cl_semisup.text import one_line

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "[": "{[}",  # at the beginning of a row it would be an argument of the line break before it, as would `*`
    "*": "{*}",
    "-": "-{}",  # two would become a dash
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    '"': r"{\ttfamily\char34}",  # straight, which no other font of pdflatex's first encoding has
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": r"$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "÷": r"$\div$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "—": "---",
    "…": r"\ldots{}",
}
KNOWN = frozenset("£§©®¡¿ßæÆœŒøØåÅłŁıŠš")  # beside ASCII and accents, to pdflatex without further packages
ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")


def document(data: ReportData) -> str:
    """A table environment a task, then the overall ranking; the notes as comments."""
    all_tables = [tables.board_table(board) for board in data.boards]
    if data.overall_ranking:
        all_tables.append(tables.overall_table(data.overall_ranking, data.suite.score, data.suite.baseline))
    head = [r"% needs \usepackage{booktabs}", *(f"% {one_line(note)}" for note in data.notes)]
    return "\n".join([*head, *(line for table in all_tables for line in environment(table)), ""])


def environment(table: Table) -> list[str]:
    """One table environment."""
    layout = "".join("r" if column.numeric else "l" for column in table.columns)
    rows = [[escape(entry.text) for entry in row] for row in table.rows]
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.caption)}}}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        _row([escape(column.name) for column in table.columns]),
        r"\midrule",
        *(_row(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line; a letter that pdflatex does not have is told by its number."""
    return "".join(map(_letter, one_line(text)))


def _letter(letter: str) -> str:
    if letter in SPECIAL:
        return SPECIAL[letter]
    parts = unicodedata.normalize("NFD", letter)
    has_accent = letter < "\u0180" and len(parts) == 2 and parts[0].isascii() and parts[1] in ACCENTS
    return letter if letter.isascii() or letter in KNOWN or has_accent else f"{{[}}U+{ord(letter):04X}]"


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
