"""Records -> tables: pairing by repetition, intervals, verdicts. Needs pandas and scipy, never torch.

    task     what losses are compared on: data set, label budget, and whatever else a suite varies
    config   what a loss is tuned over: learning rate, batch size, optimizer, schedule
    cell     one (task, loss, config), with one run a repetition
    board    the table of a task: a line a loss, in its tuned config

A loss is tuned by the mean validation score of its configs (images held out of the training part) and reported by the
test scores of the config so chosen. A diverged run counts with chance level, 1 / classes; a failed or missing run
leaves its cell without a mean. Runs under different protocols (see `protocol`) are never on one board.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cl_semisup.results import protocol, records
from cl_semisup.results.verdict import of_gain
from cl_semisup.suite.run import UNTRAINED, Run

VALIDATION = "linear_top1_validation"
CONFIDENCE = 0.95
UNFINISHED = ("missing", "stale", "other protocol")  # runs still to do before the suite's question is answered
ENDINGS = ("ok", "collapsed", "diverged", "failed", *UNFINISHED)


@dataclass(frozen=True)
class Estimate:
    """A mean over repetitions with the half-width of its 95 % t-interval (NaN for a single one)."""

    mean: float = math.nan
    half: float = math.nan
    n: int = 0


def estimate(values: Iterable[float]) -> Estimate:
    """Student's t-interval; bootstrap intervals of 3 to 5 values cover far less than they say."""
    x = np.asarray(list(values), dtype=float)
    n = len(x)
    if n == 0:
        return Estimate()
    half = _quantile(n) * x.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(x.mean()), float(half), n)


def complete(values: np.ndarray) -> Estimate:
    """Over all repetitions; without a mean as long as one lacks (NaN), `n` says how many there are."""
    there = values[~np.isnan(values)]
    return estimate(there) if len(there) == len(values) else Estimate(n=len(there))


@cache
def _quantile(n: int) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))


@dataclass(frozen=True)
class Gathered:
    """One row a (task, run asked for), with or without a record, in an order that files and suites cannot move.

    Columns of `frame`: id, task (with its protocol where there are several), asked_task (without), dataset, labels,
    budget, loss, config, learning_rate, batch_size, repetition, epochs, status (missing, stale and other protocol
    included), reason, path (below the results folder), protocol, chance, device, machine, torch, commit, every score,
    diagnostic and cost. `protocols` holds the settings behind a protocol.
    """

    frame: pd.DataFrame
    scores: tuple[str, ...]
    diagnostics: tuple[str, ...]
    protocols: dict[str, dict[str, Any]]


def gather(results: Path, runs: Iterable[Run], as_they_are: bool = False) -> Gathered:
    """Read the records of these runs and name what they have in common and what not.

    A record whose code has changed since counts as not done, and a task's protocols are kept apart; with
    `as_they_are` neither is.
    """
    runs = sorted(runs, key=lambda run: run.id)
    naming = _Naming(runs)
    rows, scores, diagnostics, protocols = [], set[str](), set[str](), dict[str, dict[str, Any]]()
    for run in runs:
        record, found = _found(results, run, as_they_are)
        scores |= record.get("scores", {}).keys()
        diagnostics |= record.get("diagnostics", {}).keys()
        if "protocol" in found:
            protocols[found["protocol"]] = _comparable(record)
        rows += [naming.row(run) | {"task": task, "asked_task": task} | found for task in naming.tasks(run)]
    frame = pd.DataFrame(rows, columns=None if rows else list(_SORTED))
    frame = frame.sort_values(list(_SORTED), ignore_index=True)
    for column in ("protocol", "chance", "device", "machine", "torch", "commit"):
        if column not in frame:
            frame[column] = math.nan
    frame = frame if as_they_are else _split_protocols(frame, protocols)
    return Gathered(frame, tuple(sorted(scores)), tuple(sorted(diagnostics)), protocols)


_SORTED = ("dataset", "budget", "task", "loss", "learning_rate", "batch_size", "config", "repetition", "id")


def budget(run: Run) -> str:
    """The label budget as people write it: `2%` of each class, or `4/class`."""
    return f"{100 * run.label_fraction:g}%" if run.label_fraction is not None else f"{run.labels_per_class}/class"


class _Naming:
    """What to call the data sets, losses, tasks and configs of a set of runs: only what differs is said."""

    def __init__(self, runs: Sequence[Run]):
        self.flat = {run.id: flatten(_rest(run)) for run in runs}
        trained = [run for run in runs if run.epochs]
        of_datasets: dict[str, list[dict[str, Any]]] = {}
        for run in trained:
            of_datasets.setdefault(repr(run.dataset), []).append(self.flat[run.id])
        # by data set, for each has views of its own that go without saying
        self.varied = {dataset: _varied(flats) for dataset, flats in of_datasets.items()}
        self.names = {key: _names(runs, key) for key in ("dataset", "loss")}
        self.optimizers = _names(trained, "optimizer")
        self.many_optimizers = len(set(self.optimizers.values())) > 1
        self.schedule = _varied([run.schedule or {} for run in trained])
        self.of_floor: dict[str, dict[str, None]] = {}
        for run in trained:
            self.of_floor.setdefault(self._task(run, but="epochs"), {})[self._task(run)] = None

    def tasks(self, run: Run) -> list[str]:
        """The task of a run; a floor run stands on the boards of all epochs."""
        return [self._task(run)] if run.epochs else sorted(self.of_floor.get(self._task(run, but="epochs"), {}))

    def row(self, run: Run) -> dict[str, Any]:
        return {
            "id": run.id,
            "dataset": self.names["dataset"][run.id],
            "labels": budget(run),
            "budget": float(run.label_fraction if run.label_fraction is not None else run.labels_per_class or 0),
            "loss": self.names["loss"][run.id],
            "config": self._config(run),
            "learning_rate": run.learning_rate if run.learning_rate is not None else math.nan,
            "batch_size": run.batch_size if run.batch_size is not None else math.nan,
            "repetition": run.repetition,
            "epochs": run.epochs,
        }

    def _task(self, run: Run, but: str = "") -> str:
        settings = [
            f"{key}={self.flat[run.id].get(key)}" for key in self.varied.get(repr(run.dataset), ()) if key != but
        ]
        return ", ".join([self.names["dataset"][run.id], f"labels {budget(run)}", *settings])

    def _config(self, run: Run) -> str:
        """What a loss is tuned over, without what the whole suite shares."""
        if not run.epochs:
            return UNTRAINED
        words = [f"lr {run.learning_rate:g}", f"batch {run.batch_size}"]
        if self.many_optimizers:
            words.append(self.optimizers[run.id])
        return ", ".join(words + [f"{key} {(run.schedule or {})[key]}" for key in self.schedule])


def _rest(run: Run) -> dict[str, Any]:
    """What is neither a task's data and labels, nor the loss, nor what the loss is tuned over."""
    named = {"dataset", "label_fraction", "labels_per_class", "loss", "repetition"}
    tuned = {"learning_rate", "batch_size", "optimizer", "schedule"}
    asked = {key: getattr(run, key) for key in Run.__dataclass_fields__ if key not in named | tuned}
    return {key: value for key, value in asked.items() if value is not None}


def _names(runs: Iterable[Run], key: str) -> dict[str, str]:
    """Run id -> the plug-in's name, with those settings that tell it from the others of the same name."""
    settings: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        (name, params) = next(iter(getattr(run, key).items()))
        settings.setdefault(name, {})[run.id] = flatten(params)
    found: dict[str, str] = {}
    for name, of_runs in settings.items():
        varied = _varied(list(of_runs.values()))
        telling = _telling(varied, list(of_runs.values()))
        short = {run_id: _shown(name, flat, telling) for run_id, flat in of_runs.items()}
        apart = len(set(short.values())) == len({repr(flat) for flat in of_runs.values()})
        found |= short if apart else {run_id: _shown(name, flat, varied) for run_id, flat in of_runs.items()}
    return found


def _telling(varied: Iterable[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Without what goes without saying: settings of a base that are the same wherever that base is."""
    values = {word: {repr(flat[word]) for flat in settings if word in flat} for word in varied}
    return [word for word in varied if "." not in word or len(values[word]) > 1]


def _shown(name: str, flat: Mapping[str, Any], words: Iterable[str]) -> str:
    values = {word: flat[word] for word in words if word in flat}
    shown = ", ".join(
        f"{word}={value:g}" if isinstance(value, float) else f"{word}={value}" for word, value in values.items()
    )
    return f"{name}({shown})" if shown else name


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"base": {"nt_xent": {"temperature": 0.5}}} -> {"base": "nt_xent", "base.nt_xent.temperature": 0.5}"""
    flat: dict[str, Any] = {}
    for key, inside in value.items():
        name = f"{prefix}{key}"
        if not isinstance(inside, Mapping):
            flat[name] = inside
        elif len(inside) == 1 and isinstance(next(iter(inside.values())), Mapping):
            flat[name] = next(iter(inside))
            flat |= flatten(inside, f"{name}.")
        else:
            flat |= flatten(inside, f"{name}.")
    return flat


def _varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose value is not the same everywhere."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return sorted(key for key in keys if len({repr(one.get(key)) for one in settings}) > 1)


def _found(results: Path, run: Run, as_they_are: bool) -> tuple[records.Record, dict[str, Any]]:
    """A run's record ({} without one) and what it adds to the run's row."""
    path = records.path_of(results, run)
    row: dict[str, Any] = {"status": "missing", "reason": "", "path": path.relative_to(results).as_posix()}
    if not path.exists():
        return {}, row
    record = records.read(path)
    if not as_they_are and (changed := protocol.stale(record)):
        return record, row | {"status": "stale", "reason": f"{', '.join(changed)} changed since"}
    resolved, versions = record["resolved"], record["versions"]
    row |= {"status": record["status"], "reason": record["reason"], "started_at": record.get("started_at", "")}
    row["chance"] = 1 / resolved["classes"] if resolved.get("classes") else math.nan
    row |= {"device": resolved.get("device", ""), "precision": resolved.get("precision", "")}
    row |= {key: str(versions.get(key, "")) for key in ("machine", "torch", "python", "package")}
    row["commit"] = str(versions.get("commit", "")) + ("" if versions.get("clean") else "+changes")
    if record["status"] != "failed":  # a run may fail before it knows its data; it counts for nothing anyway
        row["protocol"] = protocol.fingerprint(_comparable(record))
    return record, row | record["scores"] | record["diagnostics"] | record["cost"]


def _comparable(record: records.Record) -> dict[str, Any]:
    """The protocol without the epochs: they are part of the task, and a floor run has none."""
    return {key: value for key, value in record["protocol"]["settings"].items() if key != "epochs"}


def _split_protocols(frame: pd.DataFrame, protocols: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A board of its own for every protocol met in a task; what was done under another one is open there."""
    parts = []
    for task, group in frame.groupby("task", sort=False):
        found = group["protocol"].value_counts()
        ordered = sorted(found.index, key=lambda name: (-found[name], name))
        if len(ordered) < 2:
            parts.append(group)
            continue
        for number, name in enumerate(ordered):
            part = group.copy()
            away = part["protocol"].notna() & (part["protocol"] != name)
            part.loc[away, "reason"] = "made under another protocol"
            part.loc[away, "status"] = "other protocol"
            here = set(part.loc[part["protocol"] == name, "loss"])
            if number:  # the most common protocol keeps every loss, the others those that they have runs of
                part = part[part["loss"].isin(here)].copy()
            part["task"] = f"{task} [{differing(protocols, ordered, name)}]"
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else frame


def differing(protocols: Mapping[str, Mapping[str, Any]], among: Sequence[str], name: str) -> str:
    """`precision=bfloat16`: the settings of one protocol that are not those of the others."""
    flat = {key: flatten(protocols[key]) for key in among}
    return ", ".join(f"{key}={flat[name].get(key)}" for key in _varied(list(flat.values())))


@dataclass(frozen=True, eq=False)
class Cell:
    """One (loss, config) of a task; `runs` holds the columns of `Gathered.frame` for its runs, by repetition."""

    loss: str
    config: str
    learning_rate: float
    batch_size: float
    runs: Mapping[str, np.ndarray] = field(repr=False)

    def counted(self, score: str) -> np.ndarray:
        """(R,) the score of every run: chance for a diverged one, NaN for one that failed or is missing."""
        status = self.runs["status"]
        scores = self.runs[score].astype(float) if score in self.runs else np.full(len(status), math.nan)
        values = np.where((status == "ok") | (status == "collapsed"), scores, math.nan)
        return np.where(status == "diverged", self.runs["chance"].astype(float), values)

    def estimate(self, score: str) -> Estimate:
        """Over all repetitions."""
        return complete(self.counted(score))

    def known(self, column: str) -> Estimate:
        """Of a diagnostic or cost, over the runs that have it."""
        values = self.runs[column].astype(float) if column in self.runs else np.array([])
        return estimate(values[~np.isnan(values)])

    def mean_of(self, column: str) -> float:
        return self.known(column).mean


@dataclass(frozen=True, eq=False)
class Line:
    """A loss on the board of a task, in its tuned config.

    `difference` is to the baseline, paired by repetition. `ended` counts the endings of all runs of the loss here,
    `worst` is the mean score of its worst config, `values` holds the tuned config's score by repetition. `pace` is its
    training time relative to the baseline's (see the function).
    """

    loss: str
    cell: Cell = field(repr=False)
    cells: tuple[Cell, ...] = field(repr=False)
    values: np.ndarray = field(repr=False)
    scores: dict[str, Estimate]
    diagnostics: dict[str, Estimate]
    difference: Estimate
    verdict: str
    ended: dict[str, int]
    worst: float
    pace: float

    @property
    def complete(self) -> bool:
        """Is nothing left to run that could change this line?"""
        return not np.isnan(self.values).any() and not any(ending in self.ended for ending in UNFINISHED)


@dataclass(frozen=True, eq=False)
class Board:
    """A task's lines, best first, those without a mean after them, the untrained floor last.

    `task` names the protocol too where a task has several; `asked_task` does not.
    """

    task: str
    asked_task: str
    dataset: str
    budget: float
    labels: str
    score: str
    baseline: str
    lines: tuple[Line, ...]

    @property
    def trained(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.loss != UNTRAINED)

    @property
    def repetitions(self) -> int:
        return max((len(line.values) for line in self.lines), default=0)


def boards(gathered: Gathered, score: str, baseline: str = "") -> list[Board]:
    """The board of every task, in the order of data sets and label budgets."""
    shown = [name for name in gathered.scores if name != VALIDATION]
    shown = [score, *(name for name in shown if name != score)]
    groups = gathered.frame.groupby("task", sort=False)
    return [_board(group, shown, gathered.diagnostics, baseline) for _, group in groups]


def _board(group: pd.DataFrame, shown: Sequence[str], diagnostics: Sequence[str], baseline: str) -> Board:
    of_loss = _cells(group)
    tuned = {loss: tune(cells) for loss, cells in of_loss.items()}
    score = shown[0]
    base = next((loss for loss in sorted(tuned) if loss.partition("(")[0] == baseline), "")
    floor = tuned[UNTRAINED].counted(score) if UNTRAINED in tuned else None
    lines = []
    for loss, cell in tuned.items():
        values = cell.counted(score)
        ended = endings(status for one in of_loss[loss] for status in one.runs["status"])
        means = [one.estimate(score).mean for one in of_loss[loss]]
        line = Line(
            loss=loss,
            cell=cell,
            cells=of_loss[loss],
            values=values,
            scores={name: cell.estimate(name) for name in shown},
            diagnostics={name: cell.known(name) for name in diagnostics},
            difference=paired(values, tuned[base].counted(score)) if base and loss != base else Estimate(),
            verdict="unfinished" if any(e in ended for e in UNFINISHED) else verdict(cell, score, floor),
            ended=ended,
            worst=float(min(means)) if not np.isnan(means).any() else math.nan,
            pace=pace(cell, of_loss.get(base, ())),
        )
        lines.append(line)
    lines.sort(key=lambda line: (line.loss == UNTRAINED, -np.nan_to_num(line.scores[score].mean, nan=-1.0), line.loss))
    first = group.iloc[0]
    return Board(
        str(first.task), first.asked_task, first.dataset, first.budget, first["labels"], score, base, tuple(lines)
    )


def _cells(group: pd.DataFrame) -> dict[str, tuple[Cell, ...]]:
    """Loss -> its cells, in the frame's order; NumPy from here on, since pandas is slow in small pieces."""
    columns: dict[str, np.ndarray] = {str(name): group[name].to_numpy() for name in group}
    places: dict[tuple[str, str], list[int]] = {}
    for place, key in enumerate(zip(columns["loss"], columns["config"], strict=True)):
        places.setdefault(key, []).append(place)
    found: dict[str, tuple[Cell, ...]] = {}
    for (loss, config), at in places.items():
        runs = {name: values[at] for name, values in columns.items()}
        cell = Cell(loss, config, float(runs["learning_rate"][0]), float(runs["batch_size"][0]), runs)
        found[loss] = (*found.get(loss, ()), cell)
    return found


def tune(cells: Sequence[Cell]) -> Cell:
    """The cell with the best mean validation score; without validation scores, the first of the suite's grid."""
    validation = [cell.estimate(VALIDATION).mean for cell in cells]
    return cells[0] if np.isnan(validation).all() else cells[int(np.nanargmax(validation))]


def paired(values: np.ndarray, reference: np.ndarray) -> Estimate:
    """The difference of two losses, repetition by repetition; no mean while a pair lacks."""
    if len(values) != len(reference):
        return Estimate()
    return complete(values - reference)


def pace(cell: Cell, baseline: Sequence[Cell]) -> float:
    """Median training time of an image over that of the baseline at the same batch size, where all ran on one machine.

    Views, network and all that the loss asks for are in it. NaN without such runs.
    """
    own = _times(cell)
    reference = [timed for other in baseline if other.batch_size == cell.batch_size for timed in _times(other)]
    machines = {where for where, _ in [*own, *reference]}
    if not own or not reference or len(machines) > 1:
        return math.nan
    return float(np.median([time for _, time in own]) / np.median([time for _, time in reference]))


def _times(cell: Cell) -> list[tuple[str, float]]:
    """(machine and device, seconds an image) of every run that was timed."""
    if "images_per_second" not in cell.runs:
        return []
    where = zip(cell.runs["machine"], cell.runs["device"], strict=True)
    speeds = cell.runs["images_per_second"].astype(float)
    return [(f"{machine} {device}", 1 / s) for (machine, device), s in zip(where, speeds, strict=True) if s > 0]


def endings(statuses: Iterable[str]) -> dict[str, int]:
    """`{"ok": 10, "diverged": 2}`: how many runs ended how, best endings first."""
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    return {ending: counts[ending] for ending in ENDINGS if ending in counts}


def verdict(cell: Cell, score: str, floor: np.ndarray | None) -> str:
    """The worst ending of the cell's runs; if all is well, how it stands to the untrained floor, by pairs."""
    statuses = set(cell.runs["status"])
    if not statuses.isdisjoint(UNFINISHED):
        return "unfinished"
    for status in ("failed", "diverged", "collapsed"):
        if status in statuses:
            return status
    if cell.loss == UNTRAINED:
        return "floor"
    if floor is not None:
        gain = paired(cell.counted(score), floor)
        return of_gain(gain.mean, gain.half, gain.n)
    return "ok"
