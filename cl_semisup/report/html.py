"""One self-contained HTML page: works offline and without scripts, loads nothing, prints, follows the theme."""

import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cl_semisup.report import tables, wording
from cl_semisup.report.figures import MAX_BROKEN_CURVES, PALETTE, Figures, read_broken_curves, read_curves
from cl_semisup.report.fine_tuning import fine_tuning_table
from cl_semisup.report.heatmap import heatmaps
from cl_semisup.report.published_table import published_table
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.search_figures import search_figures
from cl_semisup.report.stability import budget_slopes
from cl_semisup.report.tables import Column, Entry, Table
from cl_semisup.results import records
from cl_semisup.results.leaderboard import Board
from cl_semisup.results.validation import validation_score
from cl_semisup.suite.run import UNTRAINED
from cl_semisup.text import visible_lines

FOLDER = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(data: ReportData, reload_seconds: float = 0.0) -> str:
    """The whole report as HTML; with `reload_seconds` the page says that runs go on, and reloads itself.

    The policy forbids every request; a reload is a navigation, which it allows.
    """
    boards = data.boards
    losses = sorted({row.loss for board in boards for row in board.rows}, key=lambda loss: (loss == UNTRAINED, loss))
    figures = Figures(losses)
    overall, suite = data.overall_ranking, data.suite
    rows = row_anchors(boards)
    return _template().render(
        policy=POLICY,
        style=(FOLDER / "page.css").read_text("utf-8"),
        script=(FOLDER / "page.js").read_text("utf-8"),
        suite=suite,
        data=data,
        losses=[(loss, figures.index[loss], figures.swatch(loss)) for loss in losses],
        index=figures.index,
        palette=PALETTE,
        overall=tables.overall_table(overall, suite.score, suite.baseline) if overall else None,
        published=published_table(data.published, suite.score) if data.published else None,
        friedman=figures.critical_difference(overall.friedman) if overall and overall.friedman else None,
        searched=search_figures(suite, data.searched, figures.index),
        over_budget=[figures.over_budget(group) for group in _budgets(data.main_boards)],
        sections=[_section(board, data, figures, rows) for board in boards],
        slopes=_slopes(data),
        runs=(runs := _runs(data)),
        anchors=_first_rows(runs),
        code=_split_code,
        max_broken=MAX_BROKEN_CURVES,
        reload_seconds=math.ceil(reload_seconds),
    )


@cache
def _template() -> Any:
    return environment().get_template("page.html.j2")


def environment() -> Any:
    """Of templates whose texts come from strangers: escaped, with control characters visible."""
    import jinja2  # only here, since nothing else needs it

    loader = jinja2.FileSystemLoader(FOLDER)
    found = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )
    found.filters |= {"visible": _visible, "breakable": _breakable}
    return found


def _visible(value: Any) -> Any:
    """Text before it is escaped; what is HTML already stays."""
    return visible_lines(value) if type(value) is str else value


def _breakable(name: str) -> Any:
    """Escaped, with the places where a line may end: a phone breaks a loss's name there and not inside a word."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"[_(,=]", r"\g<0><wbr>", str(escape(_visible(name)))))


def anchors(names: Iterable[str], prefix: str = "") -> dict[str, str]:
    """Name -> a part of a link, which stays as long as no other name is written alike."""
    found: dict[str, str] = {}
    for name in names:
        wanted = anchor = prefix + (re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:100] or "loss")
        number = 1
        while anchor in found.values():
            anchor = f"{wanted}-{(number := number + 1)}"
        found[name] = anchor
    return found


def row_anchors(boards: Iterable[Board]) -> dict[tuple[str, str], str]:
    """(task, loss) -> the anchor of the loss's row on the board of the task."""
    rows = {f"{board.task} {row.loss}": (board.task, row.loss) for board in boards for row in board.rows}
    return {rows[text]: anchor for text, anchor in anchors(sorted(rows), "row-").items()}


def _section(board: Board, data: ReportData, figures: Figures, rows: dict[tuple[str, str], str]) -> dict[str, Any]:
    """Everything that the page shows of one task."""
    stability, curves = data.stability.get(board.task), read_curves(board, data.results)
    broken, broken_names = read_broken_curves(board, data.results)
    breakdown = data.breakdown.get(board.task)
    similarity, losses = data.similarity.get(board.task), [row.loss for row in board.rows]
    references = sorted(losses, key=lambda loss: loss != board.baseline)  # the baseline first
    return {
        "task": board.task,
        "board": tables.board_table(board),
        "anchors": {row.loss: rows[board.task, row.loss] for row in board.rows},
        "scores": figures.scores(board),
        "heatmaps": [] if data.suite.search else heatmaps(board),
        "stability": tables.stability_table(board.task, stability) if stability else None,
        "breakdown": tables.breakdown_table(board.task, breakdown, board.baseline) if breakdown else None,
        "new_images": data.new_images.get(board.task),
        "fine_tuning": fine_tuning_table(board),
        "geometry": tables.geometry_table(board),
        "similarity": tables.similarity_table(board, similarity, references) if similarity else None,
        "updates": data.updates.get(board.task),
        "curves": figures.curves(curves),
        "broken": figures.curves(broken),
        "broken_names": broken_names,
        "spectrum": figures.spectrum(board, curves),
        "embeddings": figures.embeddings(board, curves),
        "cost": figures.cost(board),
    }


def _budgets(boards: list[Board]) -> list[list[Board]]:
    """Groups of two or more boards that differ only in the label budget."""
    groups: dict[str, list[Board]] = {}
    for board in boards:
        groups.setdefault(board.base_task.replace(f"labels {board.labels}", "labels", 1), []).append(board)
    return [group for group in groups.values() if len(group) > 1]


def _slopes(data: ReportData) -> list[tuple[str, list[tuple[str, str]]]]:
    """(data set, (loss, gain for ten times the labels))"""
    return [
        (dataset, [(loss, wording.format_points(gain)) for loss, gain in slopes.items()])
        for dataset, slopes in budget_slopes(data.main_boards).items()
    ]


def _runs(data: ReportData) -> Table:
    """Every run of the suite, with a link to its record."""
    frame = data.run_table.frame
    tuned_by = dict.fromkeys(validation_score(data.suite.score, board.validation) for board in data.boards)
    scores = [name for name in (data.suite.score, *tuned_by) if name in frame]
    columns = [Column(name, numeric=False) for name in ("task", "loss", "config")]
    columns += [Column("repetition"), Column("ended", numeric=False), *(Column(f"{name} %") for name in scores)]
    joules = [Column("J")] if "energy_joules" in frame else []
    columns += [Column("train s"), *joules, Column("record", numeric=False)]
    rows = []
    for row in frame.to_dict("records"):
        status = f"{row['status']}: {row['reason']}" if row["reason"] else row["status"]
        texts = [row["task"], row["loss"], row["config"], str(row["repetition"]), status]
        texts += [wording.format_number(100 * row[name], ".1f") for name in scores]
        costs = ["train_seconds"] + ["energy_joules"] * len(joules)
        texts += [wording.format_seconds(row.get(name, math.nan)) for name in costs]
        link = "" if row["status"] == "missing" else _link(data.results, row["path"])
        rows.append((*map(Entry, texts), Entry(row["id"], link)))
    return Table("Every run", tuple(columns), tuple(rows))


def _first_rows(runs: Table) -> set[int]:
    """Rows that a link to a run leads to: an untrained run is on several boards."""
    rows = {row[-1].text: number for number, row in reversed([*enumerate(runs.rows)])}
    return set(rows.values())


def _link(results: Path, path: str) -> str:
    """From a suite's page to the file that holds a record."""
    return quote(f"../{records.file_of(results / path).relative_to(results).as_posix()}")


def _split_code(note: str) -> list[tuple[bool, str]]:
    """The pieces of a note: (is it a command between backticks, its text)."""
    return [(i % 2 == 1, piece) for i, piece in enumerate(note.split("`")) if piece]
