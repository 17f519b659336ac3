"""One run, one fact, one file: written atomically, read with its schema checked. A file there means the run is over.

<results>/records/<data set>/<loss>/<id>.json           the record: what was asked, what came out, at what cost
<results>/records/<data set>/<loss>/<id>.curves.json    its curves, spectrum, picture and the like, for reports

Records may come from strangers: one is read only if it is a plain file of its own, of a sane size, with every field of
the right kind, and about the run that its name says. Nothing is written through a link that leads out of the folder.
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
LARGEST = 1e100  # of any figure in a record: its square is still a number, so statistics cannot overflow
MAX_BYTES = 16_000_000  # of a file that is read; a record has some 5,000, curves some 50,000
STATUSES = ("ok", "collapsed", "diverged", "failed")
Record = dict[str, Any]


def path_of(results: Path, run: Run) -> Path:
    """Where the record of a run lies or will lie."""
    dataset, loss = run.dataset_name, run.loss_name
    if not (dataset.isidentifier() and loss.isidentifier()):
        raise ResultsError(f"a run of {dataset!r} and {loss!r} has no record: names of plug-ins are plain words.")
    return results / f"records/{dataset}/{loss}/{run.id}.json"


def curves_path(record: Path) -> Path:
    return record.with_suffix(".curves.json")


def write(results: Path, run: Run, record: Record, curves: dict[str, Any]) -> Path:
    """Write the curves, then the record; a crash at any instant leaves either no record or a whole one."""
    path = path_of(results, run)
    stay_inside(results, path)
    write_json(curves_path(path), curves, indent=None)
    write_json(path, record)
    return path


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """JSON with sorted keys, atomically; NaN and infinity are refused, since they are not JSON."""
    write_text(path, json.dumps(value, sort_keys=True, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Temporary file in the same folder, flushed to disk, renamed over the target, the folder flushed too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".tmp-{path.stem}.")
        try:
            with open(handle, "w", encoding="utf-8") as file:
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
    """Refuse to write where a link leads out of the results folder, which may have come from elsewhere."""
    if not path.parent.resolve().is_relative_to(results.resolve()):
        raise ResultsError(f"{path}: must lie in {results}. Got a link to {path.parent.resolve()}. Remove the link.")


def read(path: Path) -> Record:
    """A record, or ResultsError that says what is wrong with the file."""
    try:
        record: Any = _read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(
            f"{path}: must be a record in JSON: {error}. Delete it; the run is then done again."
        ) from None
    wrong = _fault(record, path)
    if wrong:
        raise ResultsError(f"{path}: {wrong} Delete it; the run is then done again.")
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
    """The curves beside a record; {} where there are none."""
    try:
        curves = _read_json(curves_path(path))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(curves, dict):
        return {}
    return curves | ({"history": renamed.upgrade_measures(curves["history"])} if "history" in curves else {})


def _read_json(path: Path) -> Any:
    """What a plain file of a sane size holds; a link or a pipe is none. Numbers are finite, text can be written."""
    for part in (path, path.parent, path.parent.parent):  # the folders of the loss and of the data set
        if part.is_symlink():
            raise ValueError(f"{part} is a link")
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
        raise ValueError(f"it is no file, or larger than {MAX_BYTES} bytes")
    text = path.read_text("utf-8")
    value = json.loads(text, parse_constant=_refuse_constant)
    if "\\ud" in text.lower():  # half a surrogate pair, which no file can hold, may be among these
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is no number")


def find(results: Path, runs: Iterable[Run]) -> dict[str, Record]:
    """Run id -> record, of those runs that have one."""
    found = {}
    for run in runs:
        path = path_of(results, run)
        if path.exists():
            found[run.id] = read(path)
    return found


def every(results: Path) -> Iterator[Path]:
    """The files of all records in a results folder, sorted."""
    files = sorted((results / "records").glob("*/*/*.json"))
    return (path for path in files if not path.name.endswith(".curves.json") and not path.name.startswith("."))


def writable(results: Path) -> None:
    """Make the folder and try to write in it, before anything is computed."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results) as file:
            file.write(b"x" * 65536)
            file.flush()
        for path in results.iterdir():  # records, states, claims, reports of suites
            stay_inside(results, path / "file")
    except OSError as error:
        raise ResultsError(_explain(results, error)) from error


PARTS = ("run", "resolved", "scores", "diagnostics", "cost", "protocol", "versions")


def _fault(record: Any, path: Path) -> str:
    """The first broken rule of a record; other fields than ours are left alone."""
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
    return _fault_inside(record)


def _fault_inside(record: Record) -> str:
    """The parts that reports compute with."""
    for part in ("scores", "diagnostics", "cost"):
        for name, value in record[part].items():
            missing = value is None and part == "diagnostics"
            if not missing and not (type(value) in (int, float) and abs(value) <= LARGEST):
                return f"needs a number as {part}.{name}. Got {value!r:.40}."
    if not isinstance(record["versions"].get("plugins"), dict):
        return "needs the versions of its plug-ins."
    settings = record["protocol"].get("settings")
    if not isinstance(settings, dict) or "version" not in settings:
        return "needs the settings of its protocol."
    classes = record["resolved"].get("classes", 2)
    return "" if type(classes) is int and 0 < classes < 2**31 else f"needs a number of classes. Got {classes!r:.40}."


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable; some file systems do not know how, which costs durability and not atomicity."""
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
