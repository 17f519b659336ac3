"""One self-contained HTML page: opens offline, asks for nothing, reads without scripts, prints, follows the theme."""

import math
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cl_semisup.report import heat, table, wording
from cl_semisup.report.figures import BROKEN, PALETTE, Figures, read_broken, read_curves
from cl_semisup.report.findings import Findings
from cl_semisup.report.stability import budget_slopes
from cl_semisup.results.leaderboard import VALIDATION, Board
from cl_semisup.suite.run import UNTRAINED

FOLDER = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(findings: Findings, reload_seconds: float = 0.0) -> str:
    """The whole report as HTML text; with `reload_seconds` it says that runs go on, and an open page follows them.

    The policy forbids every request, but a page may load itself again: that is a navigation.
    """
    boards = findings.boards
    losses = sorted({line.loss for board in boards for line in board.lines}, key=lambda loss: (loss == UNTRAINED, loss))
    figures = Figures(losses)
    overall, chosen = findings.overall, findings.chosen
    return _template().render(
        policy=POLICY,
        style=(FOLDER / "page.css").read_text("utf-8"),
        script=(FOLDER / "page.js").read_text("utf-8"),
        chosen=chosen,
        findings=findings,
        losses=[(loss, figures.index[loss], figures.swatch(loss)) for loss in losses],
        index=figures.index,
        palette=PALETTE,
        overall=table.of_overall(overall, chosen.score, chosen.baseline) if overall else None,
        friedman=figures.critical_difference(overall.friedman) if overall and overall.friedman else None,
        over_budget=[figures.over_budget(group) for group in _budgets(findings.one_a_task)],
        sections=[_section(board, findings, figures) for board in boards],
        slopes=_slopes(findings),
        runs=_runs(findings),
        code=_marked_code,
        most_broken=BROKEN,
        reload_seconds=math.ceil(reload_seconds),
    )


@cache
def _template() -> Any:
    import jinja2  # only here: nothing else needs it

    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.j2")


def _section(board: Board, findings: Findings, figures: Figures) -> dict[str, Any]:
    """Everything that the page shows of one task."""
    stability, curves = findings.stability.get(board.task), read_curves(board, findings.results)
    broken, broken_names = read_broken(board, findings.results)
    alike, losses = findings.similarity.get(board.task), [line.loss for line in board.lines]
    against = sorted(losses, key=lambda loss: loss != board.baseline)  # the baseline first
    return {
        "task": board.task,
        "board": table.of_board(board),
        "scores": figures.scores(board),
        "maps": heat.maps(board),
        "stability": table.of_stability(board.task, stability) if stability else None,
        "geometry": table.of_geometry(board),
        "similarity": table.of_similarity(board, alike, against) if alike else None,
        "curves": figures.curves(curves),
        "broken": figures.curves(broken),
        "broken_names": broken_names,
        "spectrum": figures.spectrum(board, curves),
        "embeddings": figures.embeddings(board, curves),
        "cost": figures.cost(board),
    }


def _budgets(boards: list[Board]) -> list[list[Board]]:
    """Boards that differ in nothing but the label budget, two or more of them."""
    groups: dict[str, list[Board]] = {}
    for board in boards:
        groups.setdefault(board.asked_task.replace(f"labels {board.labels}", "labels", 1), []).append(board)
    return [group for group in groups.values() if len(group) > 1]


def _slopes(findings: Findings) -> list[tuple[str, list[tuple[str, str]]]]:
    found = budget_slopes(findings.one_a_task)
    return [(dataset, [(loss, wording.points(e)) for loss, e in of_loss.items()]) for dataset, of_loss in found.items()]


def _runs(findings: Findings) -> table.Table:
    """Every run asked for, with a link to its record."""
    frame, score = findings.gathered.frame, findings.chosen.score
    columns = [table.Column(name, "", numeric=False) for name in ("task", "loss", "config")]
    columns += [table.Column("repetition", ""), table.Column("ended", "", numeric=False)]
    shown = [name for name in (score, VALIDATION) if name in frame]
    columns += [table.Column(f"{name} %", "") for name in shown]
    columns += [table.Column("train s", ""), table.Column("record", "", numeric=False)]
    rows = []
    for row in frame.to_dict("records"):
        ended = f"{row['status']}: {row['reason']}" if row["reason"] else row["status"]
        entries = [table.Entry(row["task"]), table.Entry(row["loss"]), table.Entry(row["config"])]
        entries += [table.Entry(str(row["repetition"])), table.Entry(ended)]
        entries += [table.Entry(wording.plain(100 * row[name], ".1f")) for name in shown]
        entries.append(table.Entry(wording.seconds(row.get("train_seconds", math.nan))))
        link = "" if row["status"] == "missing" else quote(f"../{row['path']}")
        entries.append(table.Entry(row["id"], link))
        rows.append(tuple(entries))
    return table.Table("Every run", tuple(columns), tuple(rows))


def _marked_code(note: str) -> list[tuple[bool, str]]:
    """A note's pieces: is it a command between backticks, its text."""
    return [(i % 2 == 1, piece) for i, piece in enumerate(note.split("`")) if piece]
