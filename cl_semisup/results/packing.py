"""Records in files of their own -> one packed file a suite, and back. docs/records.md."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cl_semisup.errors import InputError, ResultsError
from cl_semisup.results import packed, records
from cl_semisup.results.packed import Pack, Row
from cl_semisup.suite.run import Run
from cl_semisup.system import files


@dataclass(frozen=True)
class Packing:
    """A packed file and the number of records that the suite has in it."""

    path: Path
    count: int


def pack(results: Path, name: str, runs: Iterable[Run], folder: Path) -> Packing:
    """Write the records of a suite's runs to `<folder>/records/<name>.parquet`; records of their own stay.

    What a pack of that name holds beside them stays in it. The same records give the same bytes.
    """
    path = packed.path_of(folder, name)
    rows = {run.id: _row(results, run) for run in runs if records.exists(records.path_of(results, run))}
    if not rows:
        raise InputError(f"{results}: must hold a record of the suite {name!r}. Got none. Run the suite first.")
    others = _rows_of(folder, path) if records.exists(path) else []
    ordered = [*rows.values(), *(row for row in others if row["id"] not in rows)]
    records.write_bytes(path, packed.to_bytes(ordered), folder)
    return Packing(path, len(rows))


def unpack(results: Path, runs: Iterable[Run], folder: Path) -> int:
    """Write every record of these runs to files of its own, in the folder of results `folder`; return their number."""
    count = 0
    for run in runs:
        path = records.path_of(results, run)
        if records.exists(path):
            records.write(folder, run, records.read(path), records.read_curves(path))
            count += 1
    return count


def remove_packed(results: Path, runs: Iterable[Run], pack_path: Path) -> int:
    """Remove the own files of those records that the pack holds, equal in every part; return how many were removed.

    ResultsError, before anything is removed, if a record is not in it as it is.
    """
    pack = Pack.read(results, pack_path)
    kept = {name: number for number, name in enumerate(pack.names())}
    own = set(records.own_paths(results))
    done = [path for run in runs if (path := records.path_of(results, run)) in own]
    for path in done:
        number = kept.get(path.relative_to(results).as_posix())
        row = None if number is None else pack.row(number)
        if row is None or row != packed.row(records.read(path), records.read_curves(path)):
            raise ResultsError(f"{pack_path}: must hold {path} as it is. Got another record. Pack again.")
    for path in done:
        for file in (records.curves_path(path), path):
            files.remove(results, file)
    return len(done)


def _row(results: Path, run: Run) -> Row:
    path = records.path_of(results, run)
    return packed.row(records.read(path), records.read_curves(path))


def _rows_of(results: Path, path: Path) -> list[Row]:
    pack = Pack.read(results, path)
    return [pack.row(number) for number in range(len(pack.schemas))]
