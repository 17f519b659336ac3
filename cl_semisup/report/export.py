"""The leaderboard, and every run, for programs: CSV always, Parquet where pyarrow is installed."""

import importlib.util
import io
from csv import DictReader
from csv import Error as CsvError
from pathlib import Path

import pandas as pd

from cl_semisup.errors import InputError
from cl_semisup.report import tables
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import all_records, records
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.system import files
from cl_semisup.text import one_line

WIDE = "\uff1d\uff0b\uff0d\uff20"  # =+-@ in full width, which Excel takes as well
MAX_BYTES = 1_000_000_000  # of a CSV that is replaced
FORMULA_STARTS = tuple("=+-@" + WIDE)


def frame(data: ReportData) -> pd.DataFrame:
    """One row a (task, loss); scores are fractions in [0, 1]."""
    similarity = data.similarity
    return pd.DataFrame([row for board in data.boards for row in tables.csv_rows(board, similarity.get(board.task))])


def csv(data: ReportData) -> str:
    """Comma-separated; a text that a spreadsheet would run as a formula, headings too, gets a leading apostrophe."""
    return _csv(frame(data))


def write_runs(results: Path, suite: SuiteSnapshot, folder: Path) -> tuple[Path, int]:
    """Write `<folder>/<suite>.csv`: one row a record, so every score of every seed; the file and its number of rows.

    InputError if there is a file of that name with other rows: a suite of another folder may have the same name.
    """
    found = records.read_all(results, suite.runs)
    rows = all_records.frame_of([record for _, record in sorted(found.items())])
    path = folder / f"{suite.name}.csv"
    if not _ids(folder, path) <= {run.id for run in suite.runs}:
        rule = f"must be a table of the runs of {suite.name!r}, which would replace it"
        raise InputError(f"{path}: {rule}. Got other rows. Name another DIR, or remove it.")
    records.write_text(path, _csv(rows), folder)
    return path, len(rows)


def _ids(folder: Path, path: Path) -> set[str]:
    """The ids in a CSV that is there already; "" for a row without one."""
    try:
        text = files.read(folder, path, MAX_BYTES).decode()
        return {row.get("id") or "" for row in DictReader(text.splitlines())}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, CsvError):
        return {""}


def _csv(rows: pd.DataFrame) -> str:
    for column in rows.columns:
        if not pd.api.types.is_numeric_dtype(rows[column]):
            rows[column] = rows[column].map(lambda value: plain_cell(value) if isinstance(value, str) else value)
    rows.columns = [plain_cell(str(column)) for column in rows.columns]
    return rows.to_csv(index=False, lineterminator="\n")


def plain_cell(text: str) -> str:
    """One line; what a spreadsheet would run as a formula begins with an apostrophe."""
    line = one_line(text)
    return f"'{line}" if line.startswith(FORMULA_STARTS) else line


def parquet(data: ReportData) -> bytes | None:
    """The content of the file; None without pyarrow."""
    if importlib.util.find_spec("pyarrow") is None:
        return None
    content = io.BytesIO()
    frame(data).to_parquet(content, index=False)
    return content.getvalue()
