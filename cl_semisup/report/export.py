"""The leaderboard for programs: CSV always, Parquet where pyarrow is installed."""

import importlib.util
import os
from pathlib import Path

import pandas as pd

from cl_semisup.report import table
from cl_semisup.report.findings import Findings

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def frame(findings: Findings) -> pd.DataFrame:
    """One row a (task, loss); scores are fractions in [0, 1]."""
    alike = findings.similarity
    return pd.DataFrame([row for board in findings.boards for row in table.plain_rows(board, alike.get(board.task))])


def csv(findings: Findings) -> str:
    """Comma-separated; a text that a spreadsheet would run as a formula gets a leading apostrophe."""
    shown = frame(findings)
    for column in shown.columns:
        if not pd.api.types.is_numeric_dtype(shown[column]):
            shown[column] = shown[column].map(guarded)
    return shown.to_csv(index=False, lineterminator="\n")


def guarded(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def parquet(findings: Findings, path: Path) -> bool:
    """Write it if pyarrow is there; was it?"""
    if importlib.util.find_spec("pyarrow") is None:
        return False
    temporary = path.with_name(f".tmp-{path.name}")
    frame(findings).to_parquet(temporary, index=False)
    os.replace(temporary, path)
    return True
