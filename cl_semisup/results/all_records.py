"""Every record of a results folder as a row with flat columns, for programs and notebooks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from cl_semisup.config.arguments import checked
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.results import evaluation_records, records
from cl_semisup.results.naming import flatten
from cl_semisup.results.records import Record

FIRST = ("kind", "id", "status", "reason", "dataset", "loss", "features", "labels", "repetition", "protocol")


@checked
def results(folder: str | Path) -> pd.DataFrame:
    """One row a record; scores are fractions in [0, 1].

    Columns: kind (`run` or `evaluation`), id, status, reason, what was asked (flat: `loss.clop.weight`), every score,
    diagnostic and cost by its name, protocol (its fingerprint), and the versions of package and torch.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{path}: must be a folder of results. Got none. Run a suite first, or name another.")
    if not any((path / name).is_dir() for name in ("records", evaluation_records.FOLDER)):
        raise InputError(
            f"{path}: must be a folder of results, with a folder `records` or `{evaluation_records.FOLDER}`. "
            "Got a folder without them. Run a suite first, or name another: a suite's tables lie in a folder below it."
        )
    rows = [_row("run", record, record["run"]) for record in records.read_folder(path)]
    rows += [_row("evaluation", record, record["asked"]) for record in evaluation_records.read_all(path)]
    return _ordered(rows)


def frame_of(found: Iterable[Record]) -> pd.DataFrame:
    """The same of these records of runs."""
    return _ordered([_row("run", record, record["run"]) for record in found])


def _ordered(rows: list[dict[str, Any]]) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=None if rows else list(FIRST))
    first = [name for name in FIRST if name in found]
    return found[[*first, *(name for name in found if name not in first)]]


def _row(kind: str, record: Record, question: dict[str, Any]) -> dict[str, Any]:
    names = {
        key: next(iter(question[key])) for key in ("dataset", "loss", "encoder") if isinstance(question.get(key), dict)
    }
    settings = {key: value for key, value in question.items() if key not in ("views", "probes", "settings")}
    flat = {key: value for key, value in flatten(settings).items() if not isinstance(value, dict | list)}
    row: dict[str, Any] = {"kind": kind, "id": record["id"], "status": record["status"], "reason": record["reason"]}
    row |= flat | names
    measures = record["scores"] | record["diagnostics"] | record["cost"]
    if clash := sorted(row.keys() & measures.keys()):
        rule = "needs a name of its own for each measure"
        raise ResultsError(f"record {record['id']}: {rule}. Got {clash[0]!r:.40}. Delete it.")
    row |= measures
    row["protocol"] = record["protocol"].get("fingerprint", "")
    return row | {key: str(record["versions"].get(key, "")) for key in ("package", "torch", "commit")}
