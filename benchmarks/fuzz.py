"""The long form of the fuzz tests: generated suites, records, data files and loss files.

python benchmarks/fuzz.py                          10,000 examples of every fuzz test
python benchmarks/fuzz.py suites --examples 20000
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

# kind -> (test, its input in words, requested examples for each example that it runs)
TESTS = {
    "suites": [
        ("test_any_text_is_a_suite_or_a_list_of_problems", "texts as suites", 1),
        ("test_any_file_is_checked_without_a_traceback_and_without_writing", "files to the command `check`", 20),
    ],
    "records": [
        ("test_a_tampered_record_is_refused_or_harmless", "records with odd values anywhere", 1),
        ("test_a_cut_or_garbled_record_is_never_read_as_one", "records cut and garbled", 1),
    ],
    "data": [
        ("test_a_damaged_archive_is_read_whole_or_refused", "damaged `.npz`", 1),
        ("test_a_damaged_image_is_decoded_to_its_size_or_refused", "damaged images of seven formats", 1),
    ],
    "losses": [("test_any_file_is_a_loss_or_told_in_words", "files as losses", 1)],
}
ABOUT = "Examples that hypothesis made; a test passes if every one is handled, or refused in words, as its name says."


def rows(kind: str, examples: int) -> list[dict[str, Any]]:
    """One row for each fuzz test of a kind."""
    (file,) = _common.ROOT.glob(f"tests/*/test_fuzz_{kind}.py")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        names = [f"{file}::{name}" for name, _, _ in TESTS[kind]]
        words = [sys.executable, "-m", "pytest", "-n", "0", "--timeout", "0", f"--junitxml={report}", *names]
        subprocess.run(words, cwd=_common.ROOT, env=os.environ | {"FUZZ": str(examples)}, check=False)
        cases = {case.get("name"): case for case in ElementTree.parse(report).iter("testcase")}
    return [
        {
            "given": what,
            "examples": examples // share,
            "failed": len(cases[name].findall("failure") + cases[name].findall("error")),
            "seconds": float(cases[name].get("time", "nan")),
        }
        for name, what, share in TESTS[kind]
    ]


def main() -> int:
    parser = _common.parser(__doc__)
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"{', '.join(TESTS)}; all unless given")
    parser.add_argument("--examples", type=int, default=10_000)
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(TESTS):
        parser.error(f"unknown {sorted(unknown)}. Known: {', '.join(TESTS)}.")
    results = [row for kind in options.kinds or TESTS for row in rows(kind, options.examples)]
    print(_common.write("fuzz", ABOUT, results, packages=("hypothesis", "pyyaml", "pillow", "numpy")))
    return 1 if any(row["failed"] for row in results) else 0


if __name__ == "__main__":
    sys.exit(main())
