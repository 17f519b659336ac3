"""One file a run: written atomically, checked when read. Where the file exists, the run is over.

<results>/records/<data set>/<loss>/<id>.json           the record: settings, scores, cost
<results>/records/<data set>/<loss>/<id>.curves.json    curves, spectrum, embedding plot and the like, for reports
<results>/records/<suite>.parquet                       the records of a suite in one file, curves included (packed.py)

Records are found by the path of their own file, wherever they are; a file of its own counts before a packed record.

Records may come from strangers: a record is read only if it is a regular file of a sane size, every field has the right
type, and it belongs to the run of its file name. Nothing is read or written through a link below the results folder.
"""

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cl_semisup.errors import InputError, ResultsError
from cl_semisup.results import diagnostic_ranges, pack_index, record_size
from cl_semisup.results.numbers import is_number
from cl_semisup.results.packed import Packed
from cl_semisup.suite import renamed
from cl_semisup.suite.run import Run, digest
from cl_semisup.suite.run import problem as run_problem
from cl_semisup.system import files
from cl_semisup.text import show, visible

SCHEMA = 3  # 1 had the old words of suite/renamed.py; from 3 on a record holds all that submission/required.py names
WORDS = 2  # the first schema with today's words
MAX_RECORD_BYTES = 500_000  # of a record that is read; it has about 5,000
MAX_CURVES_BYTES = 4_000_000  # of its curves; they have about 50,000
ROUNDING = 1e-6  # by which a score may lie outside of [0, 1]
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


def exists(path: Path) -> bool:
    """Is there a record, packed or not? A link or a pipe in its place counts too: reading it says what is wrong."""
    return os.path.lexists(path) or pack_index.holds(path)


def mtime(path: Path) -> int | None:
    """When the record, or the pack that holds it, was written (ns); None if there is none."""
    try:
        return os.lstat(path).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        packed = pack_index.find(path)
        return None if packed is None else os.lstat(packed.pack.path).st_mtime_ns


def file_of(path: Path) -> Path:
    """The file that holds a record: its own, or a pack."""
    if not os.path.lexists(path) and (packed := pack_index.find(path)):
        return packed.pack.path
    return path


def write(results: Path, run: Run, record: Record, curves: dict[str, Any]) -> Path:
    """Write the curves, then the record; after a crash there is either no record or a whole one."""
    path = path_of(results, run)
    write_text(curves_path(path), to_json(curves, indent=None), results)
    write_text(path, to_json(record), results)
    return path


def to_json(value: Any, indent: int | None = 1) -> str:
    """JSON with sorted keys; NaN and infinity are refused, since they are not JSON."""
    return json.dumps(value, sort_keys=True, indent=indent, allow_nan=False, ensure_ascii=False) + "\n"


def cannot_hold(record: Record) -> str:
    """Why a record could not be read again if it was written; "" if it can be."""
    try:
        content = encoded(to_json(record))
        if len(content) > MAX_RECORD_BYTES:
            return f"must be at most {MAX_RECORD_BYTES} bytes. Got {len(content)}."
        return _problem(files.parse_json(content), record["id"])
    except (ValueError, TypeError, RecursionError) as error:
        return f"must be JSON. Got {error}."


def write_text(path: Path, text: str, root: Path | None = None) -> None:
    write_bytes(path, encoded(text), root)


def encoded(text: str) -> bytes:
    """The bytes of a text file; in JSON a byte of a file name that is no UTF-8 becomes an escape of JSON."""
    return text.encode("utf-8", "backslashreplace")


def write_bytes(path: Path, content: bytes, root: Path | None = None) -> None:
    """Write atomically, through no link below `root`. Without a root it is a file of the user's own, no device."""
    if root is None and path.exists() and not path.is_file():
        raise InputError(f"{path}: must be a regular file, or none yet. Got something else. Name another file.")
    try:
        files.write(root or path.parent, path, content)
    except OSError as error:
        raise ResultsError(_explain(path, error)) from error


def read(path: Path) -> Record:
    """Read a record; ResultsError says what is wrong with the file."""
    if not os.path.lexists(path) and (packed := pack_index.find(path)):
        return _read_packed(packed)
    try:
        record: Any = files.read_json(_results_of(path), path, MAX_RECORD_BYTES)
    except (OSError, ValueError) as error:
        what = f"must be a record in JSON: {files.reason(error)}"
        raise ResultsError(f"{path}: {what}. Delete it; the run is then done again.") from None
    if problem := _problem(record, path.stem):
        raise ResultsError(f"{path}: {problem} Delete it; the run is then done again.")
    return record if record["schema"] >= WORDS else _upgraded(record)


def _read_packed(packed: Packed) -> Record:
    """A record that is packed obeys the rules of one in a file of its own."""
    try:
        if (length := packed.record_length) > MAX_RECORD_BYTES:
            raise ValueError(f"{length} bytes, more than the {MAX_RECORD_BYTES} that are read")
        record = packed.record()
        problem = _problem(record, packed.id, packed.run()[1])
        if not problem and not packed.is_in_place(record["run"]):
            problem = "stands under another data set or loss than it says."
    except ValueError as error:
        problem = f"must be a record in JSON: {error}."
    if problem:
        remedy = "Remove the file, or fetch it again"
        raise ResultsError(f"{packed.pack.path}: {packed.id}: {problem} {remedy}.")
    return record if record["schema"] >= WORDS else _upgraded(record)


def _upgraded(record: Record) -> Record:
    """A record of an earlier schema in today's words; its id and the fingerprint of its protocol stay."""
    resolved, protocol = record["resolved"], record["protocol"]
    if "last_good" in resolved:
        resolved = resolved | {"last_good": renamed.upgrade_measures(resolved["last_good"])}
    return record | {
        "schema": WORDS,
        "run": renamed.upgrade(record["run"]),
        "resolved": resolved,
        "diagnostics": renamed.upgrade_measures(record["diagnostics"]),
        "protocol": protocol | {"settings": renamed.upgrade(protocol["settings"])},
    }


def read_curves(path: Path) -> dict[str, Any]:
    """The curves beside a record; {} if there are none, or, with a line that says so, if they cannot be read."""
    results, packed = _results_of(path), None
    if not os.path.lexists(path):  # curves that lie beside no record are of another record than the packed one
        packed = pack_index.find(path)
    path = curves_path(path)
    try:
        curves = packed.curves(MAX_CURVES_BYTES) if packed else files.read_json(results, path, MAX_CURVES_BYTES)
        if not isinstance(curves, dict):
            raise ValueError(f"must be a mapping. Got {type(curves).__name__}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        place = packed.pack.path if packed else path
        show(f"{visible(place)}: curves are left out: {visible(files.reason(error))}.", error=True)
        return {}
    return curves | ({"history": renamed.upgrade_measures(curves["history"])} if "history" in curves else {})


def _results_of(path: Path) -> Path:
    """The results folder of a record or its curves."""
    return path.parents[min(3, len(path.parents) - 1)]


def look_up(results: Path, runs: Iterable[Run]) -> Iterator[tuple[Run, Path | Packed | None]]:
    """Every run with what holds its record, or None where it has none; each folder of records is listed once."""
    refuse_links(results, *FOLDERS)
    packed, listed = pack_index.rows(results), dict[tuple[str, str], set[str]]()
    for run in runs:
        place = run.dataset_name, run.loss_name
        if place not in listed:
            listed[place] = {path.name for path in files.entries(results, path_of(results, run).parent)}
        name = f"{run.id}.json"
        yield run, path_of(results, run) if name in listed[place] else packed.get("/".join(("records", *place, name)))


def read_each(results: Path, runs: Iterable[Run]) -> Iterator[tuple[Run, Record | None]]:
    """Every run with its record, or None where it has none."""
    return ((run, read_found(found) if found else None) for run, found in look_up(results, runs))


def read_found(found: Path | Packed) -> Record:
    """Read what `look_up` has found; ResultsError says what is wrong with it."""
    return read(found) if isinstance(found, Path) else _read_packed(found)


def read_folder(results: Path) -> Iterator[Record]:
    """All records of a results folder, sorted by data set, loss and id."""
    return map(read_found, all_found(results))


def all_found(results: Path, dataset: str = "") -> Iterator[Path | Packed]:
    """What holds each record of a results folder, or of one data set in it, in that order."""
    packed, own = pack_index.rows(results), {path.relative_to(results).as_posix(): path for path in own_paths(results)}
    both = packed | own
    return (both[name] for name in sorted(both) if not dataset or name.split("/")[1] == dataset)


def read_all(results: Path, runs: Iterable[Run]) -> dict[str, Record]:
    """Run id -> record, of the runs that have one."""
    return {run.id: record for run, record in read_each(results, runs) if record}


def failures(results: Path, runs: Iterable[Run]) -> list[tuple[Run, str]]:
    """(run, reason) of the failed ones among these runs."""
    return [(run, one["reason"]) for run, one in read_each(results, runs) if one and one["status"] == "failed"]


def all_paths(results: Path) -> Iterator[Path]:
    """The paths of all records in a results folder, sorted; those of packed ones too, where no file lies."""
    folder = os.fspath(results)
    packed = {f"{folder}/{name}" if folder != "." else name for name in pack_index.rows(results)}
    return map(Path, sorted({*map(os.fspath, own_paths(results)), *packed}))  # paths compare slowly


def own_paths(results: Path) -> Iterator[Path]:
    """The paths of the records that have files of their own, sorted."""
    refuse_links(results, *FOLDERS)
    paths = sorted((results / "records").glob("*/*/*.json"))
    return (path for path in paths if not path.name.endswith(".curves.json") and not path.name.startswith("."))


def check_writable(results: Path) -> None:
    """Make the folder and try to write in it; ResultsError says why it fails."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results) as file:
            file.write(b"x" * 65536)
            file.flush()
    except OSError as error:
        raise ResultsError(_explain(results, error)) from error
    refuse_links(results, "*", *FOLDERS)  # those of checkpoints, claims and suites too


FOLDERS = ("records", "records/*", "records/*/*")
OF_ONE_ATTEMPT = ("cost", "started_at", "finished_at")  # what another attempt at the same run may give otherwise


def refuse_links(results: Path, *patterns: str) -> None:
    """ResultsError where a folder of the results is a link: it would lead out of them, so nothing in it is read."""
    for path in (path for pattern in patterns for path in results.glob(pattern) if path.is_symlink()):
        raise ResultsError(f"{path}: must not be a link. Got one to {os.readlink(path)}. Remove the link.")


MEASURED = ("scores", "diagnostics", "cost")  # parts whose members are columns of tables, beside those that follow
# fmt: off
COLUMNS = frozenset((
    "id", "dataset", "labels", "budget", "loss", "config", "learning_rate", "batch_size", "repetition", "epochs",
    "task", "base_task", "status", "reason", "path", "started_at", "chance", "device", "precision", "machine",
    "torch", "python", "package", "commit", "protocol", "pretrained_on", "validation",
    "effective_learning_rate", "steps"
))
# fmt: on
PARTS = ("run", "resolved", "scores", "diagnostics", "cost", "protocol", "versions")


def _problem(record: Any, name: str, packed_run: str | None = None) -> str:
    """The first broken rule of a record, or ""; unknown fields are ignored.

    `packed_run` is what packed.py found wrong with the run, whose id it has compared too.
    """
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
    if record["id"] != name:
        return f"holds the record {record['id']!r}, which belongs in another file."
    if packed_run is None and digest(renamed.first_words(record["run"])) != record["id"]:
        return "is about another run than its name says."
    wrong = run_problem(record["run"]) if packed_run is None else packed_run
    return wrong or measures_problem(record) or _problem_inside(record)


def measures_problem(record: Record) -> str:
    """The first broken rule of the numbers that a record holds."""
    names = [name for part in MEASURED for name in record[part]]
    if too_large := record_size.problem(record, len(names)):
        return too_large
    if len(set(names)) < len(names) or not COLUMNS.isdisjoint(names):
        name = next((name for name in names if name in COLUMNS), files.twice(names))
        return f"needs a name of its own for each measure. Got {name!r:.40}, which is something else too."
    for name, value in record["scores"].items():
        if not (type(value) in (int, float) and -ROUNDING <= value <= 1 + ROUNDING):
            return f"needs a fraction in [0, 1] as scores.{name}. Got {value!r:.40}."
    for part in ("diagnostics", "cost"):
        for name, value in record[part].items():
            undefined = value is None and part == "diagnostics"
            if not undefined and not is_number(value):
                return f"needs a number as {part}.{name}. Got {value!r:.40}."
    return diagnostic_ranges.problem(record["diagnostics"])


def _problem_inside(record: Record) -> str:
    """The first broken rule of the other parts that reports compute with."""
    if not isinstance(record["versions"].get("plugins"), dict):
        return "needs the versions of its plug-ins."
    settings = record["protocol"].get("settings")
    if not isinstance(settings, dict) or "version" not in settings:
        return "needs the settings of its protocol."
    if not isinstance(settings.get("probed_data", {}), dict):
        return "needs hashes by their data sets as the probed data of its protocol."
    resolved = record["resolved"]
    for name in ("effective_learning_rate", "steps"):  # columns of tables
        if not is_number(value := resolved.get(name, 0)):
            return f"needs a number as resolved.{name}. Got {value!r:.40}."
    if not isinstance(resolved.get("last_good", {}), dict):
        return "needs measures by their names as resolved.last_good."
    classes = resolved.get("classes", 2)
    return "" if type(classes) is int and 0 < classes < 2**31 else f"needs a number of classes. Got {classes!r:.40}."


def _explain(path: Path, error: OSError) -> str:
    remedy = {
        errno.ENOSPC: "Free some space and start again; finished runs are kept.",
        errno.EDQUOT: "Free some of your quota and start again; finished runs are kept.",
        errno.EROFS: "Name a writable folder with --results.",
        errno.EACCES: "Name a writable folder with --results.",
        errno.EPERM: "Name a writable folder with --results.",
        errno.ELOOP: "Remove the link.",
        errno.EISDIR: "Remove this folder.",
        errno.ENOTDIR: "Name a folder, not a file, with --results.",
        errno.EEXIST: "Name a folder, not a file, with --results.",
    }.get(error.errno or 0, "Start again; finished runs are kept.")
    return f"{path}: results cannot be written: {error.strerror or error}. {remedy}"
