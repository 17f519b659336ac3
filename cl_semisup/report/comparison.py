"""Two results folders, or two losses of a suite, side by side, paired."""

from pathlib import Path

import numpy as np
import pandas as pd

from cl_semisup.errors import InputError, unknown
from cl_semisup.report import ranking, terminal, wording
from cl_semisup.report.findings import Findings
from cl_semisup.report.ranking import LEAST_UNITS
from cl_semisup.report.table import Column, Entry, Table
from cl_semisup.results import leaderboard, records
from cl_semisup.results.leaderboard import Board, Estimate, Gathered, differing, estimate
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite.run import UNTRAINED, Run


def folders(a: Path, b: Path, score: str = "linear_top1") -> str:
    """The runs that both folders hold, by (task, loss): mean scores and the difference B - A.

    Paired by run; a repetition's runs are averaged first, since they are not independent, and the t-interval is over
    repetitions. Records are taken as they are, stale or not: comparing code before and after a change is the use.
    """
    asked_a, asked_b = _runs(a), _runs(b)
    shared = [run for run_id, run in asked_a.items() if run_id in asked_b]
    head = [f"A: {a}, {wording.count(len(asked_a), 'run')}", f"B: {b}, {wording.count(len(asked_b), 'run')}"]
    if not shared:
        return "\n".join([*head, "No run is in both."])
    found_a, found_b = (leaderboard.gather(folder, shared, as_they_are=True) for folder in (a, b))
    columns = (
        Column("loss", "", numeric=False),
        Column("runs", ""),
        Column(f"A {score} %", ""),
        Column("B", ""),
        Column("B - A", ""),
        Column("ended otherwise", "", numeric=False),
    )
    tables = []
    for task in dict.fromkeys(found_a.frame["asked_task"]):
        rows = _folder_rows(found_a, found_b, task, score)
        tables += ["", *terminal.lines(Table(task, columns, tuple(rows)))]
    head.append(f"In both: {wording.count(len(shared), 'run')}.")
    return "\n".join([*head, *_protocol_note(found_a, found_b), *tables])


def _runs(folder: Path) -> dict[str, Run]:
    if not (folder / "records").is_dir():
        raise InputError(
            f"{folder}: must be a folder of results. Got no {folder / 'records'}. To compare losses, add --suite."
        )
    found = (Run.from_dict(records.read(path)["run"]) for path in records.every(folder))
    return {run.id: run for run in found}


def _folder_rows(a: Gathered, b: Gathered, task: str, score: str) -> list[tuple[Entry, ...]]:
    rows = []
    of_task = a.frame[a.frame["asked_task"] == task].drop_duplicates("id")
    for loss, group in of_task.groupby("loss", sort=True):
        other = b.frame.drop_duplicates("id").set_index("id").loc[list(group["id"])].reset_index()
        first, second = (_counted(rows_of, score) for rows_of in (group, other))
        both = ~np.isnan(first) & ~np.isnan(second)
        repetition = group["repetition"].to_numpy()
        means = [[x[both & (repetition == r)].mean() for r in sorted(set(repetition[both]))] for x in (first, second)]
        mine, theirs, gain = (estimate(x) for x in (means[0], means[1], np.subtract(means[1], means[0])))
        moved = int((group["status"].to_numpy() != other["status"].to_numpy()).sum())
        texts = [wording.percent(mine), wording.percent(theirs), wording.points(gain)]
        changed = wording.count(moved, "run") if moved else wording.DASH
        rows.append((Entry(str(loss)), Entry(str(int(both.sum()))), *map(Entry, texts), Entry(changed)))
    return rows


def _counted(rows: pd.DataFrame, score: str) -> np.ndarray:
    return leaderboard.Cell("", "", 0, 0, {str(name): rows[name].to_numpy() for name in rows}).counted(score)


def _protocol_note(a: Gathered, b: Gathered) -> list[str]:
    """Which settings of the two differ, if the runs were not made under the same protocols."""
    if set(a.protocols) == set(b.protocols):
        return []
    every = a.protocols | b.protocols
    found = ["Not under the same protocol, so a difference need not come from the losses:"]
    for word, one, other in (("A", a, b), ("B", b, a)):
        for name in sorted(set(one.protocols) - set(other.protocols)):
            found.append(f"  {word}: {differing(every, sorted(every), name)}")
    return found


def methods(results: Path, chosen: SuiteSnapshot, a: str, b: str) -> str:
    """Two losses of a suite on every task, each in its tuned config, paired by repetition."""
    boards = Findings.of(results, chosen).boards
    known = sorted({line.loss for board in boards for line in board.lines if line.loss != UNTRAINED})
    for name in (a, b):
        if name not in known:
            raise InputError(f"compare: {unknown('loss of this suite', name, known)}.")
    columns = (
        Column("task", "", numeric=False),
        Column(f"{a} %", ""),
        Column(f"{b} %", ""),
        Column(f"{b} - {a}", ""),
        Column("pairs", ""),
        Column("p (Holm)", ""),
    )
    p_values = [_p(board, a, b) for board in boards]
    adjusted = iter(ranking.holm([p for p in p_values if p is not None]))
    rows = []
    for board, p in zip(boards, p_values, strict=True):
        first, second = _score(board, a), _score(board, b)
        found = _difference(board, a, b)
        told = "not resolvable" if p is None else f"{next(adjusted):.3g}"
        texts = [wording.percent(first), wording.percent(second), wording.points(found), str(found.n), told]
        rows.append((Entry(board.task), *map(Entry, texts)))
    shown = terminal.lines(Table(f"{chosen.name}: {a} and {b}", columns, tuple(rows)))
    few = f"Below {LEAST_UNITS} pairs nothing is resolvable, which is not 'no difference'."
    return "\n".join([*shown, f"Each tuned on the validation part; {chosen.score}. {few}"])


def _score(board: Board, loss: str) -> Estimate:
    return next((line.scores[board.score] for line in board.lines if line.loss == loss), Estimate())


def _values(board: Board, loss: str) -> np.ndarray:
    return next((line.values for line in board.lines if line.loss == loss), np.array([]))


def _difference(board: Board, a: str, b: str) -> Estimate:
    return leaderboard.paired(_values(board, b), _values(board, a))


def _p(board: Board, a: str, b: str) -> float | None:
    first, second = _values(board, a), _values(board, b)
    if len(first) != len(second) or len(first) < LEAST_UNITS or np.isnan(first).any() or np.isnan(second).any():
        return None
    return ranking.p_value(second - first)
