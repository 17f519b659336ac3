"""Two results folders, or two losses of a suite, side by side, paired."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from cl_semisup.errors import InputError, unknown
from cl_semisup.report import ranking, terminal
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.tables import Column, Entry, Table
from cl_semisup.report.wording import DASH, format_percent, format_points, pluralize
from cl_semisup.results import records
from cl_semisup.results.leaderboard import Board, Cell
from cl_semisup.results.run_table import RunTable, differing_settings, gather
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.results.statistics import MeanCI, holm, mean_ci, paired_difference
from cl_semisup.results.verdict import MIN_PAIRS
from cl_semisup.suite.run import UNTRAINED, Run
from cl_semisup.text import visible


def folders(a: Path, b: Path, score: str = "linear_top1") -> str:
    """The runs that both folders hold, by (task, loss): mean scores and the difference B - A.

    Paired by run; a repetition's runs are averaged first, since they are not independent, and the t-interval is over
    repetitions. Stale records count too: the comparison is for code before and after a change.
    """
    runs_a, runs_b = _runs(a), _runs(b)
    shared = [run for run_id, run in runs_a.items() if run_id in runs_b]
    head = [f"A: {visible(a)}, {pluralize(len(runs_a), 'run')}", f"B: {visible(b)}, {pluralize(len(runs_b), 'run')}"]
    if not shared:
        return "\n".join([*head, "No run is in both."])
    table_a, table_b = (gather(folder, shared, ignore_protocol=True) for folder in (a, b))
    columns = (
        Column("loss", numeric=False),
        *map(Column, ("runs", f"A {score} %", "B", "B - A")),
        Column("ended otherwise", numeric=False),
    )
    lines = []
    for task in dict.fromkeys(table_a.frame["base_task"]):
        rows = _folder_rows(table_a, table_b, task, score)
        lines += ["", *terminal.lines(Table(task, columns, tuple(rows)))]
    head.append(f"In both: {pluralize(len(shared), 'run')}.")
    return "\n".join([*head, *_protocol_note(table_a, table_b), *(lines or ["No trained run is in both."])])


def _runs(folder: Path) -> dict[str, Run]:
    if not (folder / "records").is_dir():
        raise InputError(
            f"{folder}: must be a folder of results. Got no {folder / 'records'}. To compare losses, add --suite."
        )
    runs = (Run.from_dict(record["run"]) for record in records.read_folder(folder))
    return {run.id: run for run in runs}


def _folder_rows(a: RunTable, b: RunTable, task: str, score: str) -> list[tuple[Entry, ...]]:
    rows = []
    of_task = a.frame[a.frame["base_task"] == task].drop_duplicates("id")
    for loss, group in of_task.groupby("loss", sort=True):
        other = b.frame.drop_duplicates("id").set_index("id").loc[list(group["id"])].reset_index()
        scores = [_run_scores(frame, score) for frame in (group, other)]
        both = ~np.isnan(scores).any(axis=0)
        repetition = group["repetition"].to_numpy()
        means = [[x[both & (repetition == r)].mean() for r in sorted(set(repetition[both]))] for x in scores]
        percents = [format_percent(mean_ci(x)) for x in means]
        difference = format_points(mean_ci(np.subtract(means[1], means[0])))
        changed = int((group["status"].to_numpy() != other["status"].to_numpy()).sum())
        texts = [str(loss), str(int(both.sum())), *percents, difference, pluralize(changed, "run") if changed else DASH]
        rows.append(tuple(map(Entry, texts)))
    return rows


def _run_scores(frame: pd.DataFrame, score: str) -> np.ndarray:
    return Cell("", "", 0, 0, {str(name): frame[name].to_numpy() for name in frame}).repetition_scores(score)


def _protocol_note(a: RunTable, b: RunTable) -> list[str]:
    """Which settings of the two differ, if the runs were not made under the same protocols."""
    if set(a.protocols) == set(b.protocols):
        return []
    protocols = a.protocols | b.protocols
    lines = ["Not under the same protocol, so a difference need not come from the losses:"]
    for label, one, other in (("A", a, b), ("B", b, a)):
        for name in sorted(set(one.protocols) - set(other.protocols)):
            lines.append(f"  {label}: {visible(differing_settings(protocols, sorted(protocols), name))}")
    return lines


def losses(results: Path, suite: SuiteSnapshot, a: str, b: str) -> str:
    """Two losses of a suite on every task, each in its tuned config, paired by repetition."""
    boards = ReportData.read(results, suite).boards
    known = sorted({row.loss for board in boards for row in board.rows if row.loss != UNTRAINED})
    for name in (a, b):
        if name not in known:
            raise InputError(f"compare: {unknown('loss of this suite', name, known)}.")
    columns = (Column("task", numeric=False), *map(Column, (f"{a} %", f"{b} %", f"{b} - {a}", "pairs", "p (Holm)")))
    pairs = [(_repetition_scores(board, a), _repetition_scores(board, b)) for board in boards]
    differences = [paired_difference(of_b, of_a) for of_a, of_b in pairs]
    resolvable = [one.n >= MIN_PAIRS and not math.isnan(one.mean) for one in differences]
    p_values = [ranking.p_value(of_b - of_a) for (of_a, of_b), use in zip(pairs, resolvable, strict=True) if use]
    adjusted = iter(holm(p_values))
    rows = []
    for board, difference, use in zip(boards, differences, resolvable, strict=True):
        p_text = f"{next(adjusted):.3g}" if use else "not resolvable"
        percents = [format_percent(_score(board, loss)) for loss in (a, b)]
        texts = [board.task, *percents, format_points(difference), str(difference.n), p_text]
        rows.append(tuple(map(Entry, texts)))
    lines = terminal.lines(Table(f"{suite.name}: {a} and {b}", columns, tuple(rows)))
    note = f"Below {MIN_PAIRS} pairs nothing is resolvable, which is not 'no difference'."
    return "\n".join([*lines, f"Each tuned on the validation part; {visible(suite.score)}. {note}"])


def _score(board: Board, loss: str) -> MeanCI:
    return row.scores[board.score] if (row := board.row_of(loss)) else MeanCI()


def _repetition_scores(board: Board, loss: str) -> np.ndarray:
    return row.repetition_scores if (row := board.row_of(loss)) else np.array([])
