"""The packed records of a results folder, by the paths that they would have as files of their own.

A record in a file of its own counts before a packed one, so a run that is done again needs no new pack. Of packs that
hold the same run, the one with the later `started_at` counts.
"""

import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from cl_semisup.results.packed import SUFFIX, Pack, Packed
from cl_semisup.system import files

KEPT_FOLDERS = 4  # results folders whose packs stay in memory
LOOK_SECONDS = 1.0  # after which the files are looked at again, if their folder seems unchanged


def holds(record: Path) -> bool:
    """Is this record, named by the path of its own file, in a pack?"""
    return find(record) is not None


def find(record: Path) -> Packed | None:
    """A packed record by the path of its own file; None if no pack has it."""
    results, *name = os.fspath(record).rsplit(os.sep, 4)
    if len(name) < 4:  # it has no folder, or is that of the file system
        results, name = ".", [results, *name]
    return _index(results or os.sep).rows.get("/".join(name))


def rows(results: Path) -> dict[str, Packed]:
    """All packed records of a results folder, by the paths below it that they would have as files of their own."""
    return _index(os.fspath(results)).rows


@dataclass
class _Index:
    """Every packed record of a results folder, and what the folder looked like."""

    stamp: object
    packs: dict[Path, tuple[object, Pack]]
    rows: dict[str, Packed]
    looked: float


_indices: "OrderedDict[str, _Index]" = OrderedDict()


def _index(results: str) -> _Index:
    """Of one `stat` while nothing has changed: the folder's time changes when a file is renamed into it."""
    known = _indices.get(results)
    folder = _state(f"{results}/records")
    now = time.monotonic()
    if known and known.stamp == folder and now - known.looked < LOOK_SECONDS:
        return known
    root = Path(results)
    found = [] if folder is None else [path for path in files.entries(root, root / "records") if _is_pack(path)]
    stamps = {path: _state(path) for path in found}
    if known and {path: stamp for path, (stamp, _) in known.packs.items()} == stamps:
        known.stamp, known.looked = folder, now
        return known
    before = known.packs if known else {}
    packs = {
        path: before[path] if path in before and before[path][0] == stamp else (stamp, Pack.read(root, path))
        for path, stamp in stamps.items()
    }
    rows: dict[str, Packed] = {}
    for _, pack in packs.values():
        for number, name in enumerate(pack.names()):
            one = Packed(pack, number)
            if name not in rows or rows[name].started_at < one.started_at:
                rows[name] = one
    _indices[results] = _Index(folder, packs, rows, now)
    while len(_indices) > KEPT_FOLDERS:
        _indices.popitem(last=False)
    return _indices[results]


def _state(path: Path | str) -> tuple[int, int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _is_pack(path: Path) -> bool:
    return path.suffix == SUFFIX and not path.name.startswith(".")
