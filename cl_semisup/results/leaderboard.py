"""The board of every task, from the run table: pairing by repetition, intervals, verdicts. Never torch.

    task     what losses are compared on: data set, label budget, and whatever else a suite varies
    config   what a loss is tuned over: learning rate, batch size, optimizer, schedule
    cell     one (task, loss, config), with one run a repetition
    board    the table of a task: a row a loss, in its tuned config

A loss is tuned by the mean validation score of its configs (see `validation_score`), and the test scores of the tuned
config are reported: of the same repetitions, or of fresh ones if the suite has `tune_repetitions`. A diverged run
counts with chance level, 1 / classes; a failed or missing run leaves its cell without a mean. Runs under
different protocols (see `protocol`) are never on one board.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from cl_semisup.results import records
from cl_semisup.results.run_table import RunTable
from cl_semisup.results.statistics import MeanCI, difference, mean_ci, mean_ci_if_complete, paired_difference
from cl_semisup.results.validation import VALIDATION_SCORES, validation_score
from cl_semisup.results.verdict import gain_verdict
from cl_semisup.suite.run import UNTRAINED

UNFINISHED_STATUSES = ("missing", "stale", "other protocol")  # of runs that are still to do
STATUSES = (*records.STATUSES, *UNFINISHED_STATUSES)  # best first


@dataclass(frozen=True, eq=False)
class Cell:
    """One (loss, config) of a task; `runs` holds the columns of `RunTable.frame` for its runs, by repetition."""

    loss: str
    config: str
    learning_rate: float
    batch_size: float
    runs: Mapping[str, np.ndarray] = field(repr=False)

    def repetition_scores(self, score: str) -> np.ndarray:
        """(R,) the score of every run: chance for a diverged one, NaN for one that failed or is missing."""
        status = self.runs["status"]
        scores = self.runs[score].astype(float) if score in self.runs else np.full(len(status), math.nan)
        values = np.where((status == "ok") | (status == "collapsed"), scores, math.nan)
        return np.where(status == "diverged", self.runs["chance"].astype(float), values)

    def of_repetitions(self, first: int, end: float = math.inf) -> "Cell":
        """The same with the runs of repetitions from `first` to below `end`."""
        if first == 0 and math.isinf(end):
            return self
        kept = (self.runs["repetition"] >= first) & (self.runs["repetition"] < end)
        return replace(self, runs={name: values[kept] for name, values in self.runs.items()})

    def score_ci(self, score: str) -> MeanCI:
        """Over all repetitions."""
        return mean_ci_if_complete(self.repetition_scores(score))

    def metric_ci(self, column: str) -> MeanCI:
        """Of a diagnostic or cost, over the runs that have it."""
        values = self.runs[column].astype(float) if column in self.runs else np.array([])
        return mean_ci(values[~np.isnan(values)])

    def metric_mean(self, column: str) -> float:
        return self.metric_ci(column).mean


@dataclass(frozen=True, eq=False)
class Row:
    """A loss on the board of a task, in its tuned config.

    `cells` are its configs, in the repetitions that tune; `repetition_scores`, `scores` and `diagnostics` are of
    `reported_cell`, the tuned one in the repetitions that are reported. `winners_curse` is the score of the first minus
    that of the second, undefined where all repetitions tune and are reported. `difference` is to the baseline, paired
    by repetition. `status_counts` is over all runs of the loss on this board,
    `worst_config_score` the mean score of its worst config, and `relative_time` as the function below computes it.
    """

    loss: str
    tuned_cell: Cell = field(repr=False)
    reported_cell: Cell = field(repr=False)
    cells: tuple[Cell, ...] = field(repr=False)
    repetition_scores: np.ndarray = field(repr=False)
    scores: dict[str, MeanCI]
    diagnostics: dict[str, MeanCI]
    difference: MeanCI
    winners_curse: MeanCI
    verdict: str
    status_counts: dict[str, int]
    worst_config_score: float
    relative_time: float

    @property
    def pretrained_on(self) -> str:
        """What the encoder's first weights have seen; "" for random weights."""
        seen = self.reported_cell.runs.get("pretrained_on", ())
        return next((str(text) for text in seen if text), "")

    @property
    def complete(self) -> bool:
        """Is no run left to do that could change this row?"""
        has_all = len(self.repetition_scores) > 0 and not np.isnan(self.repetition_scores).any()
        return has_all and self.status_counts.keys().isdisjoint(UNFINISHED_STATUSES)


@dataclass(frozen=True, eq=False)
class Board:
    """A task's rows, best first, then those without a mean, the untrained floor last.

    `task` names the protocol too if a task has several; `base_task` does not. `validation` is what chose the configs.
    """

    task: str
    base_task: str
    dataset: str
    budget: float
    labels: str
    score: str
    baseline: str
    rows: tuple[Row, ...]
    validation: str = "all"
    tune_repetitions: int = 0

    @property
    def trained_rows(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.loss != UNTRAINED)

    @property
    def repetitions(self) -> int:
        return max((len(row.repetition_scores) for row in self.rows), default=0)

    def row_of(self, loss: str) -> Row | None:
        return next((row for row in self.rows if row.loss == loss), None)

    @property
    def floor_scores(self) -> np.ndarray | None:
        """The untrained network's scores by repetition, if it has all its runs."""
        floor = self.row_of(UNTRAINED)
        return floor.repetition_scores if floor and floor.complete else None


def leads(board: Board, row: Row) -> bool:
    """Whether the row's score means something: some run has not broken down, and it is above the untrained network.

    Where that has not all its runs, chance stands for it.
    """
    if {*row.reported_cell.runs["status"]} <= {"collapsed", "diverged", "failed"}:
        return False
    floor = board.floor_scores
    if floor is None or len(floor) != len(row.repetition_scores):
        return row.verdict != "weak" and not row.scores[board.score].mean <= row.reported_cell.metric_mean("chance")
    gain = paired_difference(row.repetition_scores, floor)
    return gain_verdict(gain.mean, gain.ci_half_width, gain.n) != "weak"


def boards(table: RunTable, score: str, baseline: str = "", tune_repetitions: int = 0) -> list[Board]:
    """The board of every task, in the order of data sets and label budgets.

    `tune_repetitions` many repetitions choose configs, and the others are reported; 0 does both in all of them.
    """
    scores = [score, *(name for name in table.scores if name not in (score, *VALIDATION_SCORES))]
    groups = table.frame.groupby("task", sort=False)
    return [_board(group, scores, table.diagnostics, baseline, tune_repetitions) for _, group in groups]


def _board(
    group: pd.DataFrame, scores: Sequence[str], diagnostics: Sequence[str], baseline: str, tune_repetitions: int
) -> Board:
    all_cells, score, first = _cells(group), scores[0], group.iloc[0]
    end = tune_repetitions or math.inf
    cells = {loss: tuple(cell.of_repetitions(0, end) for cell in found) for loss, found in all_cells.items()}
    name = validation_score(score, first.validation)
    tuned = {loss: tune(configs, name) for loss, configs in cells.items()}
    reported = {
        loss: all_cells[loss][cells[loss].index(cell)].of_repetitions(tune_repetitions) for loss, cell in tuned.items()
    }
    base = next((loss for loss in sorted(tuned) if loss.partition("(")[0] == baseline), "")
    rows = []
    for loss, cell in reported.items():
        before, own_scores = tuned[loss].repetition_scores(score), cell.repetition_scores(score)
        floor, base_scores = (_paired(reported.get(name), cell, score) for name in (UNTRAINED, base))
        counts = status_counts(status for config in all_cells[loss] for status in config.runs["status"])
        means = [config.score_ci(score).mean for config in cells[loss]]
        is_finished = len(own_scores) and counts.keys().isdisjoint(UNFINISHED_STATUSES)
        row = Row(
            loss=loss,
            tuned_cell=tuned[loss],
            reported_cell=cell,
            cells=cells[loss],
            repetition_scores=own_scores,
            scores={name: cell.score_ci(name) for name in scores},
            diagnostics={name: cell.metric_ci(name) for name in diagnostics},
            difference=MeanCI() if base_scores is None or loss == base else paired_difference(own_scores, base_scores),
            winners_curse=difference(before, own_scores)
            if tune_repetitions and is_validated(cells[loss], name)
            else MeanCI(),
            verdict=verdict(cell, score, floor) if is_finished else "unfinished",
            status_counts=counts,
            worst_config_score=float(np.min(means)),
            relative_time=relative_time(cell, cells.get(base, ())),
        )
        rows.append(row)
    rows.sort(key=lambda row: (row.loss == UNTRAINED, -np.nan_to_num(row.scores[score].mean, nan=-1.0), row.loss))
    named = str(first.task), first.base_task, first.dataset, first.budget, first["labels"], score, base
    return Board(*named, tuple(rows), first.validation, tune_repetitions)


def _paired(other: Cell | None, cell: Cell, score: str) -> np.ndarray | None:
    """The scores of another cell in the repetitions of `cell`: a search asks for more of some losses than of others."""
    if other is None:
        return None
    return other.repetition_scores(score)[np.isin(other.runs["repetition"], cell.runs["repetition"])]


def _cells(group: pd.DataFrame) -> dict[str, tuple[Cell, ...]]:
    """Loss -> its cells, in the frame's order; NumPy arrays, since pandas is slow on small tables."""
    columns: dict[str, np.ndarray] = {str(name): group[name].to_numpy() for name in group}
    indices: dict[tuple[str, str], list[int]] = {}
    for index, key in enumerate(zip(columns["loss"], columns["config"], strict=True)):
        indices.setdefault(key, []).append(index)
    cells: dict[str, tuple[Cell, ...]] = {}
    for (loss, config), at in indices.items():
        runs = {name: values[at] for name, values in columns.items()}
        cell = Cell(loss, config, float(runs["learning_rate"][0]), float(runs["batch_size"][0]), runs)
        cells[loss] = (*cells.get(loss, ()), cell)
    return cells


def tune(cells: Sequence[Cell], validation_score: str) -> Cell:
    """The cell with the best mean validation score; without validation scores, the first of the suite's grid.

    A search asks for some cells in a few repetitions only. They are not compared with those that have more.
    """
    most = max(len(cell.runs["status"]) for cell in cells)
    cells = [cell for cell in cells if len(cell.runs["status"]) == most]
    validation = [cell.score_ci(validation_score).mean for cell in cells]
    is_tuned = is_validated(cells, validation_score) and not np.isnan(validation).all()
    return cells[int(np.nanargmax(validation))] if is_tuned else cells[0]


def is_validated(cells: Sequence[Cell], validation_score: str) -> bool:
    """Whether any run has a validation score of its own: a diverged run's chance chooses nothing by itself."""
    return any(cell.metric_ci(validation_score).n for cell in cells)


def relative_time(cell: Cell, baseline: Sequence[Cell]) -> float:
    """Median training time of an image over the baseline's at the same batch size, if all ran on one machine.

    It includes views, network and all that the loss needs. NaN without such runs.
    """
    own = _image_seconds(cell)
    reference = [timed for other in baseline if other.batch_size == cell.batch_size for timed in _image_seconds(other)]
    machines = {machine for machine, _ in [*own, *reference]}
    if not own or not reference or len(machines) > 1:
        return math.nan
    return float(np.median([seconds for _, seconds in own]) / np.median([seconds for _, seconds in reference]))


def _image_seconds(cell: Cell) -> list[tuple[str, float]]:
    """(machine and device, seconds an image) of every run that was timed."""
    if "images_per_second" not in cell.runs:
        return []
    machines = zip(cell.runs["machine"], cell.runs["device"], strict=True)
    speeds = cell.runs["images_per_second"].astype(float)
    return [(f"{machine} {device}", 1 / s) for (machine, device), s in zip(machines, speeds, strict=True) if s > 0]


def status_counts(statuses: Iterable[str]) -> dict[str, int]:
    """`{"ok": 10, "diverged": 2}`, in the order of STATUSES."""
    counts = Counter(statuses)
    return {status: counts[status] for status in STATUSES if status in counts}


def verdict(cell: Cell, score: str, floor: np.ndarray | None) -> str:
    """The worst status of the cell's runs; if all are ok, the comparison with the untrained floor, by pairs."""
    statuses = set(cell.runs["status"])
    if not statuses.isdisjoint(UNFINISHED_STATUSES):
        return "unfinished"
    for status in ("failed", "diverged", "collapsed"):
        if status in statuses:
            return status
    if cell.loss == UNTRAINED:
        return "floor"
    if floor is not None:
        gain = paired_difference(cell.repetition_scores(score), floor)
        return gain_verdict(gain.mean, gain.ci_half_width, gain.n)
    return "ok"
