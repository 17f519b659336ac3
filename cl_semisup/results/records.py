"""One file a run: written atomically, checked when read. Where the file exists, the run is over.

<results>/records/<data set>/<loss>/<id>.json           the record: settings, scores, cost
<results>/records/<data set>/<loss>/<id>.curves.json    curves, spectrum, embedding plot and the like, for reports

Records may come from strangers: a record is read only if it is a regular file of a sane size, every field has the right
type, and it belongs to the run of its file name. Nothing is written through a link that leads out of the folder.
"""

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cl_semisup.errors import ResultsError
from cl_semisup.suite import renamed
from cl_semisup.suite.run import Run, digest

SCHEMA = 2  # 1 had the old words of suite/renamed.py
MAX_VALUE = 1e100  # of any number in a record: its square is finite, so statistics cannot overflow
MAX_BYTES = 16_000_000  # of a file that is read; a record has about 5,000, curves about 50,000
STATUSES = ("ok", "collapsed", "diverged", "failed")
Record = dict[str, Any]


def path_of(results: Path, run: Run) -> Path:
    """The path of a run's record, whether it exists or not."""
    dataset, loss = run.dataset_name, run.loss_name
    if not (dataset.isidentifier() and loss.isidentifier()):
        raise ResultsError(f"a run of {dataset!r} and {loss!r} has no record: names of plug-ins are plain words.")
    return results / f"records/{dataset}/{loss}/{run.id}.json"


def curves_path(record: Path) -> Path:
    return record.with_suffix(".curves.json")


def write(results: Path, run: Run, record: Record, curves: dict[str, Any]) -> Path:
    """Write the curves, then the record; after a crash there is either no record or a whole one."""
    path = path_of(results, run)
    stay_inside(results, path)
    write_json(curves_path(path), curves, indent=None)
    write_json(path, record)
    return path


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write JSON with sorted keys, atomically; NaN and infinity are refused, since they are not JSON."""
    write_text(path, json.dumps(value, sort_keys=True, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write atomically: flush a temporary file in the same folder to disk, rename it, flush the folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".tmp-{path.stem}.")
        try:
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # names may be no UTF-8
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise ResultsError(_explain(path, error)) from error


def stay_inside(results: Path, path: Path) -> None:
    """Raise ResultsError if a link leads out of the results folder, which may come from a stranger."""
    if not path.parent.resolve().is_relative_to(results.resolve()):
        raise ResultsError(f"{path}: must lie in {results}. Got a link to {path.parent.resolve()}. Remove the link.")


def read(path: Path) -> Record:
    """Read a record; ResultsError says what is wrong with the file."""
    try:
        record: Any = _read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(
            f"{path}: must be a record in JSON: {error}. Delete it; the run is then done again."
        ) from None
    if problem := _problem(record, path):
        raise ResultsError(f"{path}: {problem} Delete it; the run is then done again.")
    return record if record["schema"] == SCHEMA else _upgraded(record)


def _upgraded(record: Record) -> Record:
    """A record of an earlier schema in today's words; its id and the fingerprint of its protocol stay."""
    resolved, protocol = record["resolved"], record["protocol"]
    if "last_good" in resolved:
        resolved = resolved | {"last_good": renamed.upgrade_measures(resolved["last_good"])}
    return record | {
        "schema": SCHEMA,
        "run": renamed.upgrade(record["run"]),
        "resolved": resolved,
        "diagnostics": renamed.upgrade_measures(record["diagnostics"]),
        "protocol": protocol | {"settings": renamed.upgrade(protocol["settings"])},
    }


def read_curves(path: Path) -> dict[str, Any]:
    """The curves beside a record; {} if there are none."""
    try:
        curves = _read_json(curves_path(path))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(curves, dict):
        return {}
    return curves | ({"history": renamed.upgrade_measures(curves["history"])} if "history" in curves else {})


def _read_json(path: Path) -> Any:
    """The value in a regular file of a sane size, no link or pipe; its numbers are finite and its text is valid."""
    for part in (path, path.parent, path.parent.parent):  # the folders of the loss and of the data set
        if part.is_symlink():
            raise ValueError(f"{part} is a link")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        raise ValueError(f"it is no file, or larger than {MAX_BYTES} bytes")
    text = path.read_text("utf-8")
    value = json.loads(text, parse_constant=_refuse_constant)
    if "\\ud" in text.lower():  # may hold half a surrogate pair, which cannot be encoded
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is no number")


def read_all(results: Path, runs: Iterable[Run]) -> dict[str, Record]:
    """Run id -> record, of the runs that have one."""
    paths = {run.id: path_of(results, run) for run in runs}
    return {run_id: read(path) for run_id, path in paths.items() if path.exists()}


def failures(results: Path, runs: Iterable[Run]) -> list[tuple[Run, str]]:
    """(run, reason) of the failed ones among these runs."""
    existing = ((run, path) for run in runs if (path := path_of(results, run)).exists())
    return [(run, record["reason"]) for run, path in existing if (record := read(path))["status"] == "failed"]


def all_paths(results: Path) -> Iterator[Path]:
    """The paths of all records in a results folder, sorted."""
    files = sorted((results / "records").glob("*/*/*.json"))
    return (path for path in files if not path.name.endswith(".curves.json") and not path.name.startswith("."))


def check_writable(results: Path) -> None:
    """Make the folder and try to write in it; ResultsError says why it fails."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results) as file:
            file.write(b"x" * 65536)
            file.flush()
        for path in results.iterdir():  # folders of records, checkpoints, claims and suites
            stay_inside(results, path / "file")
    except OSError as error:
        raise ResultsError(_explain(results, error)) from error


PARTS = ("run", "resolved", "scores", "diagnostics", "cost", "protocol", "versions")


def _problem(record: Any, path: Path) -> str:
    """The first broken rule of a record, or ""; unknown fields are ignored."""
    if not isinstance(record, dict) or type(record.get("schema")) is not int:
        return "must be a record with a schema number."
    if record["schema"] > SCHEMA:
        return f"has schema {record['schema']}, made by a newer version; this one reads up to {SCHEMA}."
    for kind, keys in ((str, ("id", "status", "reason")), (dict, PARTS)):
        for key in keys:
            if not isinstance(record.get(key), kind):
                return f"needs {key!r} as {kind.__name__}. Got {type(record.get(key)).__name__}."
    if record["status"] not in STATUSES:
        return f"needs a status of {', '.join(STATUSES)}. Got {record['status']!r}."
    if record["id"] != path.stem:
        return f"holds the record {record['id']!r}, which belongs in another file."
    if digest(renamed.first_words(record["run"])) != record["id"]:
        return "is about another run than its name says."
    return _problem_inside(record)


def _problem_inside(record: Record) -> str:
    """The first broken rule of the parts that reports compute with."""
    for part in ("scores", "diagnostics", "cost"):
        for name, value in record[part].items():
            undefined = value is None and part == "diagnostics"
            if not undefined and not (type(value) in (int, float) and abs(value) <= MAX_VALUE):
                return f"needs a number as {part}.{name}. Got {value!r:.40}."
    if not isinstance(record["versions"].get("plugins"), dict):
        return "needs the versions of its plug-ins."
    settings = record["protocol"].get("settings")
    if not isinstance(settings, dict) or "version" not in settings:
        return "needs the settings of its protocol."
    classes = record["resolved"].get("classes", 2)
    return "" if type(classes) is int and 0 < classes < 2**31 else f"needs a number of classes. Got {classes!r:.40}."


def _flush_folder(folder: Path) -> None:
    """Make a rename durable. A file system that cannot do it loses durability, not atomicity."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explain(path: Path, error: OSError) -> str:
    remedy = {
        errno.ENOSPC: "Free some space and start again; finished runs are kept.",
        errno.EDQUOT: "Free some of your quota and start again; finished runs are kept.",
        errno.EROFS: "Name a writable folder with --results.",
        errno.EACCES: "Name a writable folder with --results.",
        errno.EPERM: "Name a writable folder with --results.",
        errno.ENOTDIR: "Name a folder, not a file, with --results.",
        errno.EEXIST: "Name a folder, not a file, with --results.",
    }.get(error.errno or 0, "Start again; finished runs are kept.")
    return f"{path}: results cannot be written: {error.strerror or error}. {remedy}"
