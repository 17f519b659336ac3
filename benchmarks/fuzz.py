"""The long form of the fuzz tests: generated suites, records, data, losses, files of a results folder, texts, answers.

python benchmarks/fuzz.py                          10,000 cases of every kind; of whole commands one for each twenty
python benchmarks/fuzz.py suites --examples 20000

All kinds run in one process, one after the other, a thousand cases each, and again with other cases until there are as
many as were asked for. Results go to benchmarks/results/fuzz.json and fuzz.md, after each of these rounds; rows of
kinds that were not asked for stay.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

ROUND = 1000  # cases of each kind before the next kind
FILES = {path.stem.removeprefix("test_fuzz_"): path for path in sorted(_common.ROOT.glob("tests/*/test_fuzz_*.py"))}
ABOUT = (
    "Generated cases, handed to the package in one process. A case is *refused* if a message says why, and *accepted* "
    "if it is read as what it claims to be, or does no harm. A *crash* is any other error, a wrong answer, or output "
    "with a raw control character. A case that takes longer than 30 s *hangs*. *Slowest* and *memory* (above that "
    "before the case) are those of the worst case, without the few that import a module. A row names the commit that "
    "it is of."
)


def run(paths: list[Path]) -> bool:
    """Generate as many cases as FUZZ in the environment says, and count them; whether all tests passed."""
    import pytest

    words = ["-m", "fuzz", "-n", "0", "--timeout", "0", "-p", "no:cacheprovider", f"--rootdir={_common.ROOT}"]
    memory = Path("/dev/shm")  # a disk would be what is measured
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        return pytest.main([*words, f"--basetemp={folder}/tests", *map(str, paths)]) == pytest.ExitCode.OK


def rows() -> list[dict[str, Any]]:
    """One row for each kind of the cases that have been counted."""
    from tests.helpers import fuzzing  # only now, so that pytest has seen its plug-ins before

    return [
        {
            "cases": kind,
            "number": tally.cases,
            "refused": tally.refused,
            "accepted": tally.accepted,
            "crashes": tally.crashes,
            "hangs": tally.hangs,
            "slowest s": round(tally.seconds, 2),
            "memory MB": round(tally.memory / 1e6, 1),
            "commit": _common.commit(),
        }
        for kind, tally in fuzzing.TALLIES.items()
    ]


def main() -> int:
    parser = _common.parser(__doc__)
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"{', '.join(FILES)}; all unless given")
    parser.add_argument("--examples", type=int, default=10_000)
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(FILES):
        parser.error(f"unknown {sorted(unknown)}. Known: {', '.join(FILES)}.")
    _common.commit()  # before this changes a file
    os.environ["FUZZ"] = str(min(ROUND, options.examples))  # before the tests are imported, which read it
    before = _common.load("fuzz")
    rows_before = before.get("rows", []) if options.kinds else []
    kept = {row["cases"]: {**row, "commit": row.get("commit", before["commit"])} for row in rows_before}
    passed, results = True, list[dict[str, Any]]()
    for _ in range(0, options.examples, ROUND):
        passed = run([FILES[kind] for kind in options.kinds or FILES]) and passed
        results = [*(kept | {row["cases"]: row for row in rows()}).values()]
        print(_common.write("fuzz", ABOUT, results, packages=("hypothesis", "pyyaml", "pillow", "numpy")), flush=True)
    return 0 if passed and not any(row["crashes"] or row["hangs"] for row in results) else 1


if __name__ == "__main__":
    sys.exit(main())
