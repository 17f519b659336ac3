"""Records -> tables: pairing by repetition, intervals, verdicts. Needs pandas and scipy, never torch.

    task     what losses are compared on: data set, label budget, and whatever else a suite varies
    config   what a loss is tuned over: learning rate, batch size, optimizer, schedule
    cell     one (task, loss, config), with one run a repetition

A loss is tuned by the mean validation score of its configs (images held out of the training part) and reported by the
test scores of the config so chosen. A diverged run counts with chance level, 1 / classes; a failed or missing run leaves
its cell without a mean.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cl_semisup import protocol, records
from cl_semisup.run import UNTRAINED, Run

CONFIG = ("learning_rate", "batch_size", "optimizer", "schedule")
VALIDATION = "linear_top1_validation"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over repetitions with the half-width of its 95 % t-interval (NaN for a single one)."""

    mean: float
    half: float
    n: int


def estimate(values: Iterable[float]) -> Estimate:
    """Student's t-interval; bootstrap intervals of 3 to 5 values cover far less than they say."""
    x = np.asarray(list(values), dtype=float)
    n = len(x)
    if n == 0:
        return Estimate(math.nan, math.nan, 0)
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * x.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(x.mean()), float(half), n)


def gather(results: Path, runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run asked for, with or without a record; sorted by what was asked, so files' order cannot matter.

    Columns: id, task, dataset, labels, loss, the config's keys, config, repetition, status (missing and stale
    included), reason, fingerprint, every score, diagnostic and cost, and the record's path.
    """
    runs = sorted(runs, key=lambda run: run.id)
    names, flat = loss_names(runs), [_flat(run) for run in runs]
    shown_config = [key for key in ("optimizer", "schedule") if len({f.get(key) for f in flat if key in f}) > 1]
    varied = _varied([f for run, f in zip(runs, flat, strict=True) if run.epochs])
    rows, scores = [], set[str]()
    for run, asked in zip(runs, flat, strict=True):
        row = {key: asked[key] for key in CONFIG if key in asked}
        row |= {"id": run.id, "dataset": run.cell[0], "labels": budget(run), "loss": names[run.id]}
        row["task"] = ", ".join([run.cell[0], f"labels {row['labels']}", *(f"{k}={asked.get(k)}" for k in varied)])
        row["config"] = _config(run, asked, shown_config)
        row |= {"repetition": run.repetition, "epochs": run.epochs}
        record, found = _found(results, run)
        scores |= record.get("scores", {}).keys()
        rows.append(row | found)
    order = ["dataset", "task", "loss", "learning_rate", "batch_size", "config", "repetition", "id"]
    frame = pd.DataFrame(rows)
    for column in (c for c in ("learning_rate", "batch_size") if c not in frame):
        frame[column] = math.nan
    frame = frame.sort_values(order, ignore_index=True)
    frame.attrs["scores"] = sorted(scores)
    return frame


def budget(run: Run) -> str:
    """The label budget as people write it: `2%` of each class, or `4/class`."""
    return f"{100 * run.label_fraction:g}%" if run.label_fraction is not None else f"{run.labels_per_class}/class"


def loss_names(runs: Iterable[Run]) -> dict[str, str]:
    """Run id -> its loss, with those settings that tell it from the suite's other losses of the same name."""
    runs = list(runs)
    flat = {run.id: _flatten(run.loss[run.cell[1]]) for run in runs}
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_name.setdefault(run.cell[1], []).append(flat[run.id])
    differing = {name: _varied(settings) for name, settings in by_name.items()}
    found = {}
    for run in runs:
        name, settings = run.cell[1], flat[run.id]
        shown = ", ".join(f"{key}={settings[key]}" for key in differing[name] if key in settings)
        found[run.id] = f"{name}({shown})" if shown else name
    return found


def cells(frame: pd.DataFrame, score: str) -> pd.DataFrame:
    """One row a cell: estimates of the score, the mean validation score that tunes, and how its runs ended."""
    rows = []
    for (task, loss, config), group in frame.groupby(["task", "loss", "config"], sort=False):
        first = group.iloc[0]
        values = counted(group, score)
        complete = values.notna().all()
        found = estimate(values.dropna())
        row = {"task": task, "loss": loss, "config": config, "learning_rate": first.learning_rate}
        row |= {"batch_size": first.batch_size, "mean": found.mean if complete else math.nan}
        row |= {"half": found.half if complete else math.nan, "n": found.n, "of": len(group)}
        validation = counted(group, VALIDATION) if VALIDATION in group else values * math.nan
        row |= {"validation": validation.mean() if validation.notna().all() else math.nan}
        rows.append(row | {"verdicts": verdicts(group.status)})
    return pd.DataFrame(rows)


def counted(group: pd.DataFrame, score: str) -> pd.Series:
    """The score of every run by repetition: chance for a diverged one, NaN for one that failed or is missing."""
    values = group[score].where(group.status.isin(["ok", "collapsed"])) if score in group else group.repetition * math.nan
    values = values.where(group.status != "diverged", group.chance) if "chance" in group else values
    return values.set_axis(group.repetition)


def leaderboard(frame: pd.DataFrame, score: str, baseline: str = "") -> pd.DataFrame:
    """One row a (task, loss), tuned on validation, best first; the untrained floor last.

    Columns: task, loss, config, every score's mean and half-width, n, of, difference to the baseline (paired by
    repetition) with half-width, verdict of the tuned cell, verdicts of all cells, worst cell's mean, cost.
    """
    rows = []
    for task, of_task in frame.groupby("task", sort=False):
        grid = cells(of_task, score)
        tuned = {loss: _tune(group) for loss, group in grid.groupby("loss", sort=False)}
        chosen = {
            loss: of_task[(of_task.loss == loss) & (of_task.config == cell.config)] for loss, cell in tuned.items()
        }
        reference = next((counted(g, score) for loss, g in chosen.items() if _plain(loss) == baseline), None)
        floor = next((counted(g, score) for loss, g in chosen.items() if loss == UNTRAINED), None)
        of_losses = []
        for loss, cell in tuned.items():
            group, all_cells = chosen[loss], grid[grid.loss == loss]
            row = {"task": task, "loss": loss, "config": cell.config, "n": cell.n, "of": cell.of}
            for name in score_names(frame):
                found = estimate(counted(group, name).dropna())
                full = found.n == cell.of
                row |= {name: found.mean if full else math.nan, f"{name}_half": found.half if full else math.nan}
            row |= _difference(counted(group, score), None if _plain(loss) == baseline else reference)
            row["verdict"] = _verdict(group, counted(group, score), floor)
            row["verdicts"] = verdicts(of_task[of_task.loss == loss].status)
            row["worst"] = all_cells["mean"].min() if all_cells["mean"].notna().all() else math.nan
            row["effective_rank"] = group["effective_rank"].mean() if "effective_rank" in group else math.nan
            row["train_seconds"] = group["train_seconds"].mean() if "train_seconds" in group else math.nan
            of_losses.append(row)
        of_losses.sort(key=lambda r: (r["loss"] == UNTRAINED, -np.nan_to_num(r[score], nan=-1.0), r["loss"]))
        rows += of_losses
    return pd.DataFrame(rows)


def score_names(frame: pd.DataFrame) -> list[str]:
    """The scores that the records hold, the validation score apart: it tunes and does not compare."""
    return sorted(set(frame.attrs["scores"]) - {VALIDATION})


def verdicts(statuses: Iterable[str]) -> str:
    """`ok 10, diverged 2`: how many runs ended how."""
    counts = pd.Series(list(statuses)).value_counts()
    known = ["ok", "collapsed", "diverged", "failed", "stale", "missing"]
    return ", ".join(f"{status} {counts[status]}" for status in known if status in counts)


def _tune(group: pd.DataFrame) -> Any:
    """The cell with the best mean validation score; without validation scores, the first of the suite's grid."""
    best = group["validation"].idxmax() if group["validation"].notna().any() else group.index[0]
    return group.loc[best]


def _difference(values: pd.Series, reference: pd.Series | None) -> dict[str, float]:
    """Mean and half-width of the difference to the baseline, repetition by repetition."""
    if reference is None:
        return {"difference": math.nan, "difference_half": math.nan, "pairs": 0}
    found = estimate((values - reference).dropna())
    return {"difference": found.mean, "difference_half": found.half, "pairs": found.n}


def _verdict(group: pd.DataFrame, values: pd.Series, floor: pd.Series | None) -> str:
    """The worst ending of the tuned cell's runs; `weak` if all is well but it is not above the untrained floor."""
    for status in ("missing", "stale", "failed", "diverged", "collapsed"):
        if (group.status == status).any():
            return {"missing": "unfinished", "stale": "unfinished"}.get(status, status)
    if group.loss.iloc[0] == UNTRAINED:
        return "floor"
    if floor is not None:
        gain = estimate((values - floor).dropna())
        if gain.n and gain.mean - np.nan_to_num(gain.half) <= 0:
            return "weak"
    return "ok"


def _found(results: Path, run: Run) -> tuple[records.Record, dict[str, Any]]:
    """A run's record ({} without one) and what it adds to the run's row."""
    path = records.path_of(results, run)
    if not path.exists():
        return {}, {"status": "missing", "reason": "", "path": str(path)}
    record = records.read(path)
    row = {"status": record["status"], "reason": record["reason"], "path": str(path)}
    row |= {"fingerprint": record["protocol"]["fingerprint"], "classes": record["resolved"].get("classes")}
    if changed := protocol.stale(record):
        return record, row | {"status": "stale", "reason": f"{', '.join(changed)} changed since"}
    row["chance"] = 1 / row["classes"] if row["classes"] else math.nan
    return record, row | record["scores"] | record["diagnostics"] | record["cost"]


def _plain(loss: str) -> str:
    return loss.partition("(")[0]


def _flat(run: Run) -> dict[str, Any]:
    """What was asked, one level deep: `optimizer` and `schedule` as text, the rest dotted."""
    asked = run.as_dict()
    flat = {key: asked.pop(key) for key in ("learning_rate", "batch_size") if key in asked}
    for key in ("optimizer", "schedule"):
        if key in asked:
            flat[key] = ", ".join(f"{k}={v}" for k, v in sorted(_flatten(asked.pop(key)).items()))
    for key in ("loss", "dataset", "label_fraction", "labels_per_class", "repetition"):
        asked.pop(key, None)
    return flat | _flatten(asked)


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"base": {"nt_xent": {"temperature": 0.5}}} -> {"base": "nt_xent", "base.nt_xent.temperature": 0.5}"""
    flat: dict[str, Any] = {}
    for key, inside in value.items():
        name = f"{prefix}{key}"
        if not isinstance(inside, Mapping):
            flat[name] = inside
        elif len(inside) == 1 and isinstance(next(iter(inside.values())), Mapping):
            flat[name] = next(iter(inside))
            flat |= _flatten(inside, f"{name}.")
        else:
            flat |= _flatten(inside, f"{name}.")
    return flat


def _varied(settings: list[dict[str, Any]]) -> list[str]:
    """The keys whose value is not the same everywhere."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return sorted(key for key in keys if len({repr(one.get(key)) for one in settings}) > 1 and key not in CONFIG)


def _config(run: Run, asked: Mapping[str, Any], shown: Iterable[str]) -> str:
    """What a loss is tuned over, without what the whole suite shares."""
    if not run.epochs:
        return UNTRAINED
    return ", ".join([f"lr {run.learning_rate:g}", f"batch {run.batch_size}", *(str(asked[key]) for key in shown)])
