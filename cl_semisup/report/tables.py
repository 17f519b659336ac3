"""The tables of a report: columns with their meaning, entries as text and as the value behind it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_semisup.report import tuning, wording
from cl_semisup.report.breakdown import DEFINITIONS, Broken
from cl_semisup.report.ranking import OverallRanking, against_baseline, interquartile_mean, rank_intervals
from cl_semisup.report.similarity import Similarity
from cl_semisup.report.stability import Stability
from cl_semisup.report.wording import format_interval, format_mean_ci, format_number, format_percent, format_points
from cl_semisup.results.leaderboard import Board, Row, leads
from cl_semisup.results.statistics import MeanCI
from cl_semisup.suite.run import UNTRAINED


@dataclass(frozen=True)
class Column:
    """A column's heading, its meaning, whether it holds numbers, and the column of the CSV with the same values.

    A terminal too narrow for all columns leaves out those of the highest `optional` first, and never those of 0.
    """

    name: str
    meaning: str = ""
    numeric: bool = True
    optional: int = 0
    csv_name: str = ""


@dataclass(frozen=True)
class Entry:
    """The text of a table's cell, and the value that it is sorted by."""

    text: str
    value: float | str = math.nan


@dataclass(frozen=True)
class Table:
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]


ENERGY = ("energy_joules", "cpu_joules", "gpu_joules", "co2_kg", "grams_co2_per_kwh")
LOSS = Column("loss", "the loss", numeric=False, csv_name="loss")


def board_table(board: Board) -> Table:
    """The leaderboard of one task. Every column names its CSV column, see `csv_rows`; a test compares the two."""
    ranks, comparisons = _ranks(board), against_baseline(board)
    columns: list[Column] = [LOSS]
    entries: list[Callable[[Row], Entry]] = [lambda row: _text(row.loss)]

    def add(name: str, meaning: str, entry: Callable[[Row], Entry], csv_name: str = "", **options: Any) -> None:
        columns.append(Column(name, meaning, csv_name=csv_name, **options))
        entries.append(entry)

    if ranks:
        meaning = "the ranks that the loss may have, with 95 % for all together (paired t-tests, Holm)"
        add("rank", meaning, lambda row: _rank(ranks.get(row.loss)), "rank")
    for i, name in enumerate(board.rows[0].scores if board.rows else ()):
        meaning = f"{name}, mean ± half of its 95 % interval, percent"
        add(f"{name} %", meaning, _score(name), name, optional=2 if i else 0)
        if i == 0:
            meaning = "mean of the middle half of the repetitions, which an outlier hardly moves, percent"
            add("IQM %", meaning, _iqm, optional=3)
        if i == 0 and board.baseline:
            meaning = f"difference to {board.baseline}, paired by repetition, points; with 6 pairs or more its verdict"
            add(f"vs {board.baseline}", meaning, lambda row: _difference(row, board, comparisons), "difference")
    if any(row.pretrained_on for row in board.rows):
        meaning = "what the weights that the encoder began with have seen: such a row is not from scratch"
        add("pretrained on", meaning, lambda row: _text(row.pretrained_on), "pretrained_on", numeric=False)
    add("tuned", tuning.chosen_by(board.validation), _config, "config", numeric=False)
    if board.tune_repetitions:
        meaning = (
            "score in the repetitions that chose the config minus that in the fresh ones, points; Welch's interval"
        )
        add("winner's curse", meaning, lambda row: _mean_ci(row.winners_curse, wording.format_points), "winners_curse")
    meaning = "largest learning rate of the tuned config as the optimizer sees it, after the scaling rule"
    add("peak lr", meaning, _metric("effective_learning_rate", ".4g"), "effective_learning_rate", optional=2)
    add("steps", "steps of the optimizer in a run of the tuned config", _metric("steps", ".0f"), "steps", optional=2)
    meaning = "how the runs of the tuned config ended"
    add("verdict", meaning, lambda row: _text(row.verdict), "verdict", numeric=False)
    add("runs", "how all runs of the loss ended", _status_counts, "runs", numeric=False)
    add("worst %", "mean score of the worst config", _worst_config, "worst", optional=1)
    meaning = "training seconds of a run of the tuned config"
    add("s/run", meaning, _seconds_or_joules("train_seconds"), "train_seconds", optional=1)
    if board.baseline:
        meaning = f"training time of an image relative to {board.baseline} at the same batch size, on the same machine"
        add("time", meaning, lambda row: _number(row.relative_time, wording.format_ratio), "relative_time", optional=1)
    if _tells_energy(board):
        meaning = "joules of training and evaluating a run of the tuned config, estimated from the machine's counters"
        add("J/run", meaning, _seconds_or_joules("energy_joules"), "energy_joules", optional=1)
        meaning = "what these joules stand for, by the factor that the notes name"
        add("kg CO2/run", meaning, _metric("co2_kg", ".2g"), "co2_kg", optional=2)
    rows = tuple(tuple(entry(row) for entry in entries) for row in board.rows)
    return Table(board.task, tuple(columns), rows)


def csv_rows(board: Board, similarity: Similarity | None = None) -> list[dict[str, Any]]:
    """The leaderboard of one task for programs, in full precision; scores are fractions in [0, 1]."""
    ranks, comparisons = _ranks(board), against_baseline(board)
    rows = []
    for row in board.rows:
        cell = row.reported_cell
        values: dict[str, Any] = {"task": board.task, "dataset": board.dataset, "labels": board.labels}
        low, high = ranks.get(row.loss, (None, None))
        values |= {"loss": row.loss, "rank": low, "rank_high": high, "config": cell.config}
        values |= {"learning_rate": cell.learning_rate, "batch_size": cell.batch_size}
        values |= {name: cell.metric_mean(name) for name in ("effective_learning_rate", "steps")}
        for name, score in row.scores.items():
            values |= {name: score.mean, f"{name}_half": score.ci_half_width, f"{name}_n": score.n}
        values |= {"repetitions": len(row.repetition_scores), "baseline": board.baseline}
        values |= {"difference": row.difference.mean, "difference_half": row.difference.ci_half_width}
        values |= {"pairs": row.difference.n, "verdict": row.verdict, "against_baseline": comparisons.get(row.loss, "")}
        if board.tune_repetitions:
            curse = row.winners_curse
            values |= {"winners_curse": curse.mean, "winners_curse_half": curse.ci_half_width}
        values |= {"pretrained_on": row.pretrained_on} if any(r.pretrained_on for r in board.rows) else {}
        values |= {"runs": wording.format_status_counts(row.status_counts), "worst": row.worst_config_score}
        values["relative_time"] = row.relative_time
        values |= {name: cell.metric_mean(name) for name in ("train_seconds", "peak_memory_bytes")}
        values |= {name: cell.metric_mean(name) for name in ENERGY} if _tells_energy(board) else {}
        for name, diagnostic in row.diagnostics.items():
            values |= {name: diagnostic.mean, f"{name}_half": diagnostic.ci_half_width}
        if similarity:
            cka = similarity.between.get((row.loss, board.baseline), MeanCI())
            values |= {"cka_to_baseline": cka.mean, "cka_to_baseline_half": cka.ci_half_width}
            values["cka_between_repetitions"] = similarity.within[row.loss]
        rows.append(values)
    return rows


def _text(text: str) -> Entry:
    return Entry(text, text)


def _number(value: float, format_value: Callable[[float], str] = format_number) -> Entry:
    return Entry(format_value(value), value)


def _mean_ci(value: MeanCI, format_value: Callable[[MeanCI], str] = format_mean_ci) -> Entry:
    return Entry(format_value(value), value.mean)


def _ranks(board: Board) -> dict[str, tuple[int, int]]:
    """Of the losses that are above the untrained network; the others have a place in no order."""
    ranks = rank_intervals(board)
    return {row.loss: ranks[row.loss] for row in board.rows if row.loss in ranks and leads(board, row)}


def _rank(ranks: tuple[int, int] | None) -> Entry:
    return Entry(wording.DASH) if ranks is None else Entry(wording.format_ranks(ranks), sum(ranks) / 2)


def _score(name: str) -> Callable[[Row], Entry]:
    return lambda row: Entry(format_percent(row.scores[name], len(row.repetition_scores)), row.scores[name].mean)


def _percent(value: float) -> Entry:
    return Entry(format_number(100 * value, ".1f"), value)


def _iqm(row: Row) -> Entry:
    return _percent(float(interquartile_mean(row.repetition_scores)) if len(row.repetition_scores) else math.nan)


def _difference(row: Row, board: Board, comparisons: dict[str, str]) -> Entry:
    if row.loss == board.baseline:
        return Entry("baseline", 0.0)
    outcome = f" {comparisons[row.loss]}" if comparisons.get(row.loss) in ("better", "worse") else ""
    return Entry(format_points(row.difference) + outcome, row.difference.mean)


def _config(row: Row) -> Entry:
    return _text(wording.DASH if row.loss == UNTRAINED else row.reported_cell.config)


def _status_counts(row: Row) -> Entry:
    return _text(wording.format_status_counts(row.status_counts))


def _seconds_or_joules(column: str) -> Callable[[Row], Entry]:
    return lambda row: _number(row.reported_cell.metric_mean(column), wording.format_seconds)


def _tells_energy(board: Board) -> bool:
    return any(not math.isnan(row.reported_cell.metric_mean("energy_joules")) for row in board.rows)


def _metric(column: str, spec: str) -> Callable[[Row], Entry]:
    return lambda row: _number(row.reported_cell.metric_mean(column), lambda value: format_number(value, spec))


def _worst_config(row: Row) -> Entry:
    single = row.loss == UNTRAINED or len(row.cells) < 2
    return Entry(wording.DASH) if single else _percent(row.worst_config_score)


def overall_table(overall: OverallRanking, score: str, baseline: str) -> Table:
    """The standings over all tasks."""
    columns = [
        LOSS,
        Column("rank", "the places that the loss may have in the order of mean ranks (paired t-tests, Holm)"),
        Column("mean rank", "mean over tasks and repetitions of the rank there"),
        Column(f"mean {score} %", "mean over tasks"),
        Column("IQM %", "interquartile mean over tasks and repetitions, jackknife interval"),
    ]
    if baseline:
        meaning = "share of (task, repetition) above the baseline, ties half; Wilson's interval over repetitions"
        columns.append(Column(f"wins over {baseline} %", meaning))
    rows = []
    for s in overall.standings:
        row = [_text(s.loss), _rank(None if s.weak else s.ranks), _mean_ci(s.mean_rank)]
        row += [Entry(f"{100 * s.mean:.1f}", s.mean), _mean_ci(s.iqm, format_percent)]
        if baseline:
            wins = s.win_rate.value if s.win_rate else 0.5
            row.append(Entry(format_interval(s.win_rate, ".0f", 100) if s.win_rate else "baseline", wins))
        rows.append(tuple(row))
    for loss in overall.unranked:
        rows.append((_text(loss), *[Entry(wording.DASH)] * (len(columns) - 2), Entry("runs missing or failed")))
    return Table(f"All {overall.tasks} tasks", tuple(columns), tuple(rows))


STABILITY_COLUMNS = (
    LOSS,
    Column("area", "share of the best score kept over log learning rate, mean over batch sizes; 1 is best"),
    Column("vs baseline", "area minus the baseline's, of the same repetitions: how far apart the two can be"),
    Column("common area", "the same against the best score of any loss: low but flat does not win"),
    Column("largest lr", "largest learning rate that keeps 95 % of the best score at every batch size, interpolated"),
    Column("stable decades", "longest stretch of such learning rates, in decades"),
    Column("worst kept", "smallest share of the best score kept anywhere on the grid"),
    Column("spread", "best minus worst score of the grid, points"),
    Column("untuned %", "mean score of the grid: a config chosen blindly"),
    Column("tuning gain", "tuned minus untuned score, points"),
    Column("broken %", "share of runs collapsed or diverged, Wilson's interval"),
)


def stability_table(task: str, stabilities: Sequence[Stability]) -> Table:
    """The stability metrics of one task."""
    rows = []
    for s in stabilities:
        largest = wording.format_learning_rate(s.largest_learning_rate)
        row = (
            _text(s.loss),
            _mean_ci(s.lr_auc),
            _mean_ci(s.lr_auc_difference, wording.format_area_difference),
            _mean_ci(s.lr_auc_common),
            Entry(("≥ " if s.beyond_grid else "") + largest, s.largest_learning_rate.mean),
            _mean_ci(s.stable_decades),
            _mean_ci(s.min_retention),
            _mean_ci(s.score_range, format_percent),
            _mean_ci(s.untuned_score, format_percent),
            _mean_ci(s.tuning_gain, format_points),
            Entry(format_interval(s.broken_share, ".0f", 100), s.broken_share.value),
        )
        rows.append(row)
    return Table(f"Stability on {task}", STABILITY_COLUMNS, tuple(rows))


def breakdown_table(task: str, broken: Mapping[str, Mapping[str, Broken]], baseline: str) -> Table:
    """The shares of runs that broke down on one task, by several definitions."""
    paired = f"; in brackets the paired difference to {baseline}, points, and its p by sign flips" if baseline else ""
    columns = [
        LOSS,
        *(Column(f"{name} %", f"share of runs over the grid: {DEFINITIONS[name]}{paired}") for name in DEFINITIONS),
    ]
    rows = []
    for loss, by_name in broken.items():
        entries = [_broken(by_name[name]) if name in by_name else Entry(wording.DASH) for name in DEFINITIONS]
        rows.append((_text(loss), *entries))
    return Table(f"Broken runs on {task}", tuple(columns), tuple(rows))


def _broken(broken: Broken) -> Entry:
    text = f"{100 * broken.share.mean:.0f}"
    if not math.isnan(broken.p):
        text += f" ({format_points(broken.difference)}, p {wording.format_p(broken.p)})"
    return Entry(text, broken.share.mean)


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


def geometry_table(board: Board) -> Table | None:
    """Diagnostics of the features at the tuned configs; dimensional and neural collapse are different columns."""
    names = [name for name in GEOMETRY if any(row.diagnostics.get(name, MeanCI()).n for row in board.rows)]
    if not names:
        return None
    columns = (LOSS, *(Column(name, GEOMETRY[name]) for name in names))
    rows = [(_text(row.loss), *(_mean_ci(row.diagnostics[name]) for name in names)) for row in board.rows]
    return Table(f"Geometry on {board.task}", columns, tuple(rows))


def similarity_table(board: Board, similarity: Similarity, references: Sequence[str]) -> Table:
    """CKA of every loss to the losses in `references`, and between its own repetitions."""
    columns = [LOSS]
    columns += [
        Column(f"CKA to {loss}", f"alikeness of the test features to {loss}'s, by repetition") for loss in references
    ]
    columns.append(
        Column("between repetitions", "CKA of the loss to itself from other first weights, labels and views")
    )
    rows = []
    for row in board.rows:
        entries = [_text(row.loss), *(_cka(similarity, row, loss) for loss in references)]
        rows.append((*entries, _number(similarity.within[row.loss])))
    caption = f"Alikeness of features on {board.task}, {similarity.images} test images"
    return Table(caption, tuple(columns), tuple(rows))


def _cka(similarity: Similarity, row: Row, loss: str) -> Entry:
    if row.loss == loss:
        return Entry("itself", 1.0)
    cka = similarity.between[row.loss, loss]
    return Entry(format_mean_ci(cka, repetitions=len(row.repetition_scores)), cka.mean)
