"""The runs of a suite and their records in one pandas table, a row a (task, run)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cl_semisup.errors import ResultsError
from cl_semisup.results import protocol, records
from cl_semisup.results.data_hashes import DataHashes
from cl_semisup.results.naming import RunNames, budget, flatten, varied_keys
from cl_semisup.suite.run import Run

NOT_SAID = "not said"  # what weights have seen, where the suite names a file and no more
SORT_KEYS = ("dataset", "budget", "task", "loss", "learning_rate", "batch_size", "config", "repetition", "id")
COLUMNS = (*SORT_KEYS, "base_task", "labels", "epochs", "pretrained_on", "status", "reason", "path")  # always there


@dataclass(frozen=True)
class RunTable:
    """One row a (task, run), with or without a record; the order depends on neither files nor the suite.

    Columns of `frame`: id, task (with its protocol if there are several), base_task (without), dataset, labels,
    budget, loss, config, learning_rate, batch_size, repetition, epochs, validation, status (missing, stale and
    other protocol included), pretrained_on, reason, path (below the results folder), protocol, chance,
    effective_learning_rate (the largest that the optimizer sees), steps, device, machine, torch, commit, every score,
    diagnostic and cost. `protocols` maps a protocol's fingerprint to its settings.
    """

    frame: pd.DataFrame
    scores: tuple[str, ...]
    diagnostics: tuple[str, ...]
    protocols: dict[str, dict[str, Any]]


def gather(results: Path, runs: Iterable[Run], ignore_protocol: bool = False, data_dir: str = "") -> RunTable:
    """Read the records of these runs; those of other data than `data_dir` holds now are stale.

    Stale records count as not done, and a task with several protocols is split into several tasks;
    `ignore_protocol` switches both off.
    """
    runs = sorted(runs, key=lambda run: run.id)
    names, data = RunNames(runs), DataHashes(data_dir)
    rows, scores, diagnostics, protocols = [], set[str](), set[str](), dict[str, dict[str, Any]]()
    for run, found in records.read_each(results, runs):
        record, columns = _columns(results, run, found, None if ignore_protocol else data)
        scores |= record.get("scores", {}).keys()
        diagnostics |= record.get("diagnostics", {}).keys()
        if "protocol" in columns:
            protocols[columns["protocol"]] = _task_protocol(record)
        rows += [_run_columns(run, names) | {"task": t, "base_task": t} | columns for t in names.tasks(run)]
    frame = pd.DataFrame(rows, columns=None if rows else list(COLUMNS))
    frame = frame.sort_values(list(SORT_KEYS), ignore_index=True)
    _require_once(frame)
    required = ("protocol", "chance", "device", "machine", "torch", "commit")
    frame[[column for column in required if column not in frame]] = math.nan
    frame = frame if ignore_protocol else _split_protocols(frame, protocols)
    return RunTable(frame, tuple(sorted(scores)), tuple(sorted(diagnostics)), protocols)


def differing_settings(protocols: Mapping[str, Mapping[str, Any]], among: Sequence[str], name: str) -> str:
    """`precision=bfloat16`: the settings of protocol `name` that are not the same in all protocols of `among`."""
    flat = {key: flatten(protocols[key]) for key in among}
    return ", ".join(f"{key}={flat[name].get(key)}" for key in varied_keys(list(flat.values())))


def _require_once(frame: pd.DataFrame) -> None:
    """ResultsError where two runs of other ids are one: a stranger may write 1 for 1.0, and a row would count twice."""
    again = frame.duplicated([key for key in SORT_KEYS if key != "id"] + ["labels", "epochs"], keep=False)
    if again.any():
        first, second = frame.loc[again, "id"].iloc[:2]
        raise ResultsError(
            f"the runs {first} and {second} are one run in other words. Delete the record of one of them."
        )


def _run_columns(run: Run, names: RunNames) -> dict[str, Any]:
    """What a row says of the run itself."""
    return {
        "id": run.id,
        "dataset": names.datasets[run.id],
        "labels": budget(run),
        "budget": float(run.label_fraction if run.label_fraction is not None else run.labels_per_class or 0),
        "loss": names.losses[run.id],
        "config": names.config(run),
        "learning_rate": run.learning_rate if run.learning_rate is not None else math.nan,
        "batch_size": run.batch_size if run.batch_size is not None else math.nan,
        "repetition": run.repetition,
        "epochs": run.epochs,
        "validation": run.validated_by,
        "pretrained_on": _pretrained_on(run, weights=False),
    }


def _pretrained_on(run: Run, weights: bool) -> str:
    """What the encoder's first weights have seen, as the suite says; "" for random weights.

    `weights` tells whether a record says that they are from a file.
    """
    (settings,) = run.encoder.values()
    text = settings.get("pretrained_on", "")
    return text if isinstance(text, str) and text else NOT_SAID if weights else ""


def _columns(
    results: Path, run: Run, record: records.Record | None, data: DataHashes | None
) -> tuple[records.Record, dict[str, Any]]:
    """A run's record ({} without one) and the columns that it fills; without `data` no record is stale."""
    path = records.path_of(results, run)
    columns: dict[str, Any] = {"status": "missing", "reason": "", "path": path.relative_to(results).as_posix()}
    if record is None:
        return {}, columns
    if data and (changed := protocol.stale_parts(record, data)):
        return record, columns | {"status": "stale", "reason": f"{', '.join(changed)} changed since"}
    resolved, versions = record["resolved"], record["versions"]
    columns |= {"pretrained_on": _pretrained_on(run, bool(resolved.get("weights")))}
    columns |= {"status": record["status"], "reason": record["reason"], "started_at": record.get("started_at", "")}
    columns["chance"] = 1 / resolved["classes"] if resolved.get("classes") else math.nan
    columns |= {key: resolved.get(key, math.nan) for key in ("effective_learning_rate", "steps")}
    columns |= {"device": resolved.get("device", ""), "precision": resolved.get("precision", "")}
    columns |= {key: str(versions.get(key, "")) for key in ("machine", "torch", "python", "package")}
    columns["commit"] = str(versions.get("commit", "")) + ("" if versions.get("clean") else "+changes")
    if record["status"] != "failed":  # a run may fail before its data are known, and its scores count for nothing
        columns["protocol"] = protocol.fingerprint(_task_protocol(record))
    return record, columns | record["scores"] | record["diagnostics"] | record["cost"]


def _task_protocol(record: records.Record) -> dict[str, Any]:
    """The protocol without the epochs: they are part of the task, and an untrained run has none."""
    return {key: value for key, value in record["protocol"]["settings"].items() if key != "epochs"}


def _split_protocols(frame: pd.DataFrame, protocols: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A task of its own for every protocol within a task; there, runs under another protocol are still to do."""
    parts = []
    for task, group in frame.groupby("task", sort=False):
        counts = group["protocol"].value_counts()
        ordered = sorted(counts.index, key=lambda name: (-counts[name], name))
        if len(ordered) < 2:
            parts.append(group)
            continue
        for number, name in enumerate(ordered):
            part = group.copy()
            under_other = part["protocol"].notna() & (part["protocol"] != name)
            part.loc[under_other, "reason"] = "made under another protocol"
            part.loc[under_other, "status"] = "other protocol"
            losses = set(part.loc[part["protocol"] == name, "loss"])
            if number:  # the most common protocol keeps every loss, the others only the losses that have runs
                part = part[part["loss"].isin(losses)].copy()
            part["task"] = f"{task} [{differing_settings(protocols, ordered, name)}]"
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else frame
