"""How long packed records take to read, and how large they are, beside a file a record.

python benchmarks/records.py         a minute on a core; writes benchmarks/results/records.md

10,000 records are copies of published ones with other repetitions, and so other ids. Reading means: every record is
parsed, and checked against its id and its types, as `report` does it.
"""

import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.results import pack_index, packing, records, snapshot
from cl_semisup.suite.run import Run

COUNT = 10_000
LIMIT_SECONDS = 1.0
PUBLISHED = _common.ROOT / "results" / "published"


def make(folder: Path) -> list[Run]:
    """Write COUNT records, each a file of its own with its curves."""
    paths = sorted(records.all_paths(PUBLISHED))
    read = [(records.read(path), records.read_curves(path)) for path in paths]
    runs = []
    for number, (record, curves) in enumerate(islice(cycle(read), COUNT)):
        run = Run.from_dict(record["run"] | {"repetition": number})
        records.write(folder, run, record | {"id": run.id, "run": run.as_dict()}, curves)
        runs.append(run)
    return runs


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def forget() -> None:
    """As a command begins: nothing of a pack is in memory."""
    pack_index._indices.clear()


def main() -> int:
    _common.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        own, there = Path(name) / "own", Path(name) / "packed"
        runs = make(own)
        write_seconds, done = _common.timed(lambda: packing.pack(own, "many", runs, there))

        def read_packed() -> int:
            forget()
            return sum(1 for _ in records.read_folder(there))

        packed_seconds = min(_common.repeated(read_packed, least=5, most=5))
        own_seconds = min(_common.repeated(lambda: sum(1 for _ in records.read_folder(own)), least=2, most=2))
        rows = [
            ["a file a record", own_seconds, size(own), 2 * COUNT],
            ["one packed file", packed_seconds, size(there), 1],
        ]
        assert done.count == COUNT
    published = [*PUBLISHED.glob("records/*.parquet")]
    suites = [path.stem for path in published]
    count = len({run.id for suite in suites for run in snapshot.load(PUBLISHED, suite).runs})
    about = f"""`{_common.command_line()}`, {_common.machine()}. Reading is parsing and checking every record, as
`report` does it: the best of 5 readings of the packed file, and of 2 of the others. Sizes include curves."""
    heads = [f"{COUNT:,} records", "seconds to read", "MB", "files"]
    cells = [[name, f"{seconds:.2f}", f"{bytes_ / 1e6:.1f}", f"{files:,}"] for name, seconds, bytes_, files in rows]
    megabytes = sum(path.stat().st_size for path in published) / 1e6
    end = f"""Packing took {write_seconds:.1f} s. The {count:,} published records of {len(published)} suites are
{megabytes:.1f} MB in {len(published)} files."""
    values = {
        "count": COUNT,
        "own_seconds": own_seconds,
        "packed_seconds": packed_seconds,
        "own_bytes": rows[0][2],
        "packed_bytes": rows[1][2],
        "pack_seconds": write_seconds,
        "limit_seconds": LIMIT_SECONDS,
    }
    _common.save("records", _common.page("Packed records", about, _common.table(heads, cells), end), values)
    return int(packed_seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
