"""What every form of the leaderboard shows: columns with their meaning, entries as text and as the value behind it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cl_semisup.report import wording
from cl_semisup.report.ranking import Overall, against_baseline, interquartile, shared_ranks
from cl_semisup.report.similarity import Similarity
from cl_semisup.report.stability import Stability
from cl_semisup.results.leaderboard import Board, Estimate, Line
from cl_semisup.suite.run import UNTRAINED


@dataclass(frozen=True)
class Column:
    """A column's heading, what it means, whether it holds numbers.

    A terminal too narrow for all leaves out columns of the highest `optional` first, and never those of 0.
    """

    name: str
    meaning: str
    numeric: bool = True
    optional: int = 0


@dataclass(frozen=True)
class Entry:
    """A cell's text, and the value that it is sorted by."""

    text: str
    value: float | str = math.nan


@dataclass(frozen=True)
class Table:
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]


def of_board(board: Board) -> Table:
    """The leaderboard of one task."""
    ranks, sides = shared_ranks(board), against_baseline(board)
    parts: list[tuple[Column, Callable[[Line], Entry]]] = [(Column("loss", "the loss", numeric=False), _loss)]
    if ranks:
        meaning = (
            "1 + how many losses are significantly better (paired t-tests, Holm); shared where nothing tells apart"
        )
        parts.append((Column("rank", meaning), lambda line: _rank(ranks.get(line.loss))))
    names = list(board.lines[0].scores) if board.lines else []
    for i, name in enumerate(names):
        column = Column(f"{name} %", f"{name}, mean ± half of its 95 % interval, percent", optional=2 if i else 0)
        parts.append((column, _score(name)))
        if i == 0:
            meaning = "mean of the middle half of the repetitions, which an outlier hardly moves, percent"
            parts.append((Column("IQM %", meaning, optional=3), _iqm))
        if i == 0 and board.baseline:
            meaning = f"difference to {board.baseline}, paired by repetition, points; with 6 pairs or more its verdict"
            parts.append((Column(f"vs {board.baseline}", meaning), lambda line: _difference(line, board, sides)))
    parts += [
        (Column("tuned", "config chosen on the validation part", numeric=False), _config),
        (Column("verdict", "how the runs of the tuned config ended", numeric=False), _verdict),
        (Column("runs", "how all runs of the loss ended", numeric=False), _ended),
        (Column("worst %", "mean score of the worst config", optional=1), _worst),
        (Column("s/run", "training seconds of a run of the tuned config", optional=1), _seconds),
    ]
    if board.baseline:
        meaning = f"training time of an image relative to {board.baseline} at the same batch size, on the same machine"
        parts.append((Column("time", meaning, optional=1), _pace))
    rows = tuple(tuple(make(line) for _, make in parts) for line in board.lines)
    return Table(board.task, tuple(column for column, _ in parts), rows)


def _loss(line: Line) -> Entry:
    return Entry(line.loss, line.loss)


def _rank(rank: int | None) -> Entry:
    return Entry(wording.DASH if rank is None else str(rank), math.nan if rank is None else float(rank))


def _score(name: str) -> Callable[[Line], Entry]:
    return lambda line: Entry(wording.percent(line.scores[name], len(line.values)), line.scores[name].mean)


def _iqm(line: Line) -> Entry:
    value = float(interquartile(line.values)) if len(line.values) else math.nan
    return Entry(wording.plain(100 * value, ".1f"), value)


def _difference(line: Line, board: Board, sides: dict[str, str]) -> Entry:
    if line.loss == board.baseline:
        return Entry("baseline", 0.0)
    side = f" {sides[line.loss]}" if sides.get(line.loss) in ("better", "worse") else ""
    return Entry(wording.points(line.difference) + side, line.difference.mean)


def _config(line: Line) -> Entry:
    text = wording.DASH if line.loss == UNTRAINED else line.cell.config
    return Entry(text, text)


def _verdict(line: Line) -> Entry:
    return Entry(line.verdict, line.verdict)


def _ended(line: Line) -> Entry:
    text = wording.endings(line.ended)
    return Entry(text, text)


def _worst(line: Line) -> Entry:
    if line.loss == UNTRAINED or len(line.cells) < 2:
        return Entry(wording.DASH)
    return Entry(wording.plain(100 * line.worst, ".1f"), line.worst)


def _seconds(line: Line) -> Entry:
    value = line.cell.mean_of("train_seconds")
    return Entry(wording.seconds(value), value)


def _pace(line: Line) -> Entry:
    return Entry(wording.times(line.pace), line.pace)


def of_overall(found: Overall, score: str, baseline: str) -> Table:
    """The standings over all tasks."""
    columns = [
        Column("loss", "the loss", numeric=False),
        Column("rank", "1 + how many losses have a mean rank whose interval lies wholly above; shared otherwise"),
        Column("mean rank", "mean over tasks of the rank there, 95 % bootstrap interval"),
        Column(f"mean {score} %", "mean over tasks"),
        Column("IQM %", "interquartile mean over tasks and repetitions, 95 % bootstrap interval"),
    ]
    if baseline:
        columns.append(Column(f"wins over {baseline} %", "share of (task, repetition) above the baseline, ties half"))
    rows = []
    for s in found.standings:
        row = [Entry(s.loss, s.loss), _rank(s.rank), Entry(wording.bounded(s.mean_rank), s.mean_rank.value)]
        row += [Entry(f"{100 * s.mean:.1f}", s.mean), Entry(wording.bounded(s.iqm, ".1f", 100), s.iqm.value)]
        if baseline:
            wins = s.win_rate.value if s.win_rate else 0.5
            row.append(Entry(wording.bounded(s.win_rate, ".0f", 100) if s.win_rate else "baseline", wins))
        rows.append(tuple(row))
    for loss in found.unranked:
        rows.append((Entry(loss, loss), *[Entry(wording.DASH)] * (len(columns) - 2), Entry("runs missing or failed")))
    return Table(f"All {found.tasks} tasks", tuple(columns), tuple(rows))


STABILITY_COLUMNS = (
    Column("loss", "the loss", numeric=False),
    Column("area", "share of the best score kept over log learning rate, mean over batch sizes; 1 is best"),
    Column("common area", "the same against the best score of any loss: low but flat does not win"),
    Column("largest lr", "largest learning rate that keeps 95 % of the best score at every batch size"),
    Column("stable decades", "longest run of such learning rates, in decades"),
    Column("worst kept", "smallest share of the best score kept anywhere on the grid"),
    Column("spread", "best minus worst score of the grid, points"),
    Column("untuned %", "mean score of the grid: a config chosen blindly"),
    Column("tuning gain", "tuned minus untuned score, points"),
    Column("broken %", "share of runs collapsed or diverged, Wilson's interval"),
)


def of_stability(task: str, found: Sequence[Stability]) -> Table:
    """The figures of merit of one task."""
    rows = []
    for s in found:
        largest = s.largest_learning_rate
        rows.append(
            (
                Entry(s.loss, s.loss),
                Entry(wording.with_half(s.area), s.area.mean),
                Entry(wording.with_half(s.common_area), s.common_area.mean),
                Entry(("≥ " if s.beyond_grid else "") + wording.rate(largest, s.area.n), largest.mean),
                Entry(wording.with_half(s.width_decades), s.width_decades.mean),
                Entry(wording.with_half(s.worst), s.worst.mean),
                Entry(wording.percent(s.spread), s.spread.mean),
                Entry(wording.percent(s.untuned), s.untuned.mean),
                Entry(wording.points(s.tuning_gain), s.tuning_gain.mean),
                Entry(wording.bounded(s.broken_share, ".0f", 100), s.broken_share.value),
            )
        )
    return Table(f"Stability on {task}", STABILITY_COLUMNS, tuple(rows))


GEOMETRY = {
    "effective_rank": "directions that the test features fill (Roy and Vetterli): low is dimensional collapse",
    "projection_effective_rank": "the same of the projections, where the loss works",
    "feature_std": "distance of the features from their mean, on the sphere: 0 is one point",
    "alignment": "mean squared distance of two views of an image",
    "uniformity": "of the features on the sphere, lower is more even",
    "nc1": "neural collapse 1: scatter within classes over scatter between them; 0 is collapsed",
    "nc2_simplex": "neural collapse 2: distance of the class means from a simplex; 0 is one",
    "cdnv": "variance of two classes over their squared distance, mean over pairs",
    "class_effective_rank": "effective rank within a class",
    "cka_untrained": "alikeness of the test features to the untrained network's, 1 is the same",
}


def of_geometry(board: Board) -> Table | None:
    """What the features look like at the tuned configs: dimensional and neural collapse are different columns."""
    known = [name for name in GEOMETRY if any(line.diagnostics.get(name, Estimate()).n for line in board.lines)]
    if not known:
        return None
    columns = (Column("loss", "the loss", numeric=False), *(Column(name, GEOMETRY[name]) for name in known))
    rows = [(_loss(line), *(_measured(line.diagnostics[name]) for name in known)) for line in board.lines]
    return Table(f"Geometry on {board.task}", columns, tuple(rows))


def _measured(found: Estimate) -> Entry:
    return Entry(wording.with_half(found), found.mean)


def of_similarity(board: Board, found: Similarity, against: Sequence[str]) -> Table:
    """CKA of every loss to those named in `against`, and between its own repetitions."""
    columns = [Column("loss", "the loss", numeric=False)]
    columns += [
        Column(f"CKA to {loss}", f"alikeness of the test features to {loss}'s, by repetition") for loss in against
    ]
    columns.append(
        Column("between repetitions", "CKA of the loss to itself from other first weights, labels and views")
    )
    rows = []
    for line in board.lines:
        row = [_loss(line), *(_alike(found, line, loss) for loss in against)]
        row.append(Entry(wording.plain(found.within[line.loss]), found.within[line.loss]))
        rows.append(tuple(row))
    return Table(f"Alikeness of features on {board.task}, {found.images} test images", tuple(columns), tuple(rows))


def _alike(found: Similarity, line: Line, loss: str) -> Entry:
    if line.loss == loss:
        return Entry("itself", 1.0)
    value = found.between[line.loss, loss]
    return Entry(wording.with_half(value, of=len(line.values)), value.mean)


def plain_rows(board: Board, alike: Similarity | None = None) -> list[dict[str, Any]]:
    """One flat row a line with full precision, for CSV, Parquet and programs; scores are fractions in [0, 1]."""
    ranks, sides = shared_ranks(board), against_baseline(board)
    rows = []
    for line in board.lines:
        row: dict[str, Any] = {"task": board.task, "dataset": board.dataset, "labels": board.labels, "loss": line.loss}
        row |= {"rank": ranks.get(line.loss), "config": line.cell.config}
        row |= {"learning_rate": line.cell.learning_rate, "batch_size": line.cell.batch_size}
        for name, found in line.scores.items():
            row |= {name: found.mean, f"{name}_half": found.half, f"{name}_n": found.n}
        row |= {"repetitions": len(line.values), "baseline": board.baseline, "difference": line.difference.mean}
        row |= {"difference_half": line.difference.half, "pairs": line.difference.n, "verdict": line.verdict}
        row |= {"against_baseline": sides.get(line.loss, ""), "runs": wording.endings(line.ended), "worst": line.worst}
        row["relative_time"] = line.pace
        for name in ("train_seconds", "peak_memory_bytes"):
            row[name] = line.cell.mean_of(name)
        for name, known in line.diagnostics.items():
            row |= {name: known.mean, f"{name}_half": known.half}
        if alike:
            cka = alike.between.get((line.loss, board.baseline), Estimate())
            row |= {"cka_to_baseline": cka.mean, "cka_to_baseline_half": cka.half}
            row["cka_between_repetitions"] = alike.within[line.loss]
        rows.append(row)
    return rows
