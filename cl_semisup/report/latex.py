r"""The leaderboard as LaTeX tables (booktabs), to \input into a paper; the best mean of a column is not made bold.

Bold would claim an order that the intervals may not support; where ranks are told apart they have a column.
"""

from cl_semisup.report import table
from cl_semisup.report.findings import Findings
from cl_semisup.report.table import Table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
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
    "≥": r"$\geq$",
    "—": "---",
    "…": r"\ldots{}",
}


def document(findings: Findings) -> str:
    """A table environment a task, then the standings; the notes as comments."""
    shown = [table.of_board(board) for board in findings.boards]
    if findings.overall:
        shown.append(table.of_overall(findings.overall, findings.chosen.score, findings.chosen.baseline))
    head = [r"% needs \usepackage{booktabs}", *(f"% {_one_line(note)}" for note in findings.notes)]
    return "\n".join([*head, *(text for one in shown for text in environment(one)), ""])


def environment(shown: Table) -> list[str]:
    """One table environment."""
    layout = "".join("r" if column.numeric else "l" for column in shown.columns)
    rows = [[escape(entry.text) for entry in row] for row in shown.rows]
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(shown.caption)}}}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        _row([escape(column.name) for column in shown.columns]),
        r"\midrule",
        *(_row(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return "".join(SPECIAL.get(letter, letter) for letter in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
