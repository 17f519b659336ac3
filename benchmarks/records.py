"""How long packed records take to read, and how large they are.

python benchmarks/records.py         a minute on a core; writes benchmarks/results/records.md

10,000 records are copies of published ones with other repetitions, and so other ids. Reading means: every record is
parsed, and checked against its id and its types, as `report` does it.
"""

import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.results import pack_index, packed, records
from cl_semisup.suite.run import Run

COUNT = 10_000
LIMIT_SECONDS = 1.0
PUBLISHED = _common.ROOT / "results" / "published"


def make() -> list[packed.Row]:
    """The rows of COUNT records."""
    read = list(records.read_folder(PUBLISHED))
    rows = []
    for number, record in enumerate(islice(cycle(read), COUNT)):
        run = Run.from_dict(record["run"] | {"repetition": number})
        rows.append(packed.row(record | {"id": run.id, "run": run.as_dict()}, {}))
    return rows


def main() -> int:
    _common.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = packed.path_of(Path(name), "many")
        write_seconds, content = _common.timed(lambda: packed.to_bytes(make()), time.process_time)
        records.write_bytes(path, content, Path(name))

        def read() -> None:
            pack_index._indices.clear()  # as a command begins: nothing of a pack is in memory
            assert sum(1 for _ in records.read_folder(Path(name))) == COUNT

        seconds = min(_common.repeated(read, least=5, most=5, clock=time.process_time))
    published = [path.stat().st_size for path in PUBLISHED.glob("records/*.parquet")]
    about = f"""`{_common.command_line()}`, {_common.machine()}. Reading is parsing and checking every record, as
`report` does it; processor seconds, the best of 5 readings."""
    rows = [
        [f"{COUNT:,} records", f"{seconds:.2f}", f"{len(content) / 1e6:.1f}"],
        [f"published, {len(published)} suites", "", f"{sum(published) / 1e6:.1f}"],
    ]
    table = _common.table(["packed", "seconds to read", "MB"], rows)
    values = {"count": COUNT, "seconds": seconds, "bytes": len(content), "pack_seconds": write_seconds}
    _common.save("records", _common.page("Packed records", about, table), values)
    return int(seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
