"""Records of evaluations of stored features: one a draw, like those of runs, in a folder and a protocol of their own.

They lie in `<results>/evaluations/<features>/<id>.json`. No suite asks for them, so no leaderboard ranks features that
came from elsewhere with runs that were trained here.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from cl_semisup.errors import ResultsError
from cl_semisup.results import records
from cl_semisup.results.records import Record
from cl_semisup.suite.run import digest
from cl_semisup.system import files

SCHEMA = 1
KIND = "evaluation"
FOLDER = "evaluations"


def write(results: Path, name: str, record: Record) -> Path:
    """Write the record of a draw; one with the same id is replaced. `name` is that of the features."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "features"
    path = results / FOLDER / plain / f"{record['id']}.json"
    records.write_text(path, records.to_json(record), results)
    return path


def read_all(results: Path) -> Iterator[Record]:
    """The records in a results folder, sorted; ResultsError names one that is damaged."""
    for folder in files.entries(results, results / FOLDER):
        for path in files.entries(results, folder):
            if path.suffix == ".json" and not path.name.startswith("."):
                yield _read(results, path)


def _read(results: Path, path: Path) -> Record:
    try:
        record = files.read_json(results, path, records.MAX_RECORD_BYTES)
        if not isinstance(record, dict) or record.get("kind") != KIND or record.get("schema") != SCHEMA:
            raise ValueError(f"must be the record of an evaluation with schema {SCHEMA}")
        for kind, keys in ((str, ("id", "status", "reason")), (dict, ("asked", *records.PARTS[1:]))):
            for key in keys:
                if not isinstance(record.get(key), kind):
                    raise ValueError(f"needs {key!r} as {kind.__name__}. Got {type(record.get(key)).__name__}")
        if not record["id"] == path.stem == digest(record["asked"]):
            raise ValueError("is about another evaluation than its name says")
        if not isinstance(record["protocol"].get("fingerprint"), str):
            raise ValueError("needs the fingerprint of its protocol as str")
        if problem := records.measures_problem(record):
            raise ValueError(problem.rstrip("."))
        return record
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: {files.reason(error)}. Delete it, and evaluate again.") from None
