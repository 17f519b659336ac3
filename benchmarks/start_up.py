"""Wall time of each command, in a process of its own.

    python benchmarks/start_up.py

Medians of 5 runs. The suite of one short run on two workers includes the import of torch in a worker.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

TIMES = 5
ONE_RUN = """\
question: How long until the first record?
datasets: digits
losses: nt_xent
label_fraction: 0.1
learning_rate: 0.1
batch_size: 256
repetitions: 1
epochs: 1
validation: all
"""


def seconds(*words: str) -> float:
    """The median wall time of a command."""
    run = partial(subprocess.run, [sys.executable, *words], check=True, capture_output=True)
    return median(_common.repeated(run, least=TIMES, most=TIMES))


def main() -> None:
    command = _common.COMMAND[1]
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "one.yaml"
        suite.write_text(ONE_RUN)
        fresh = (f"import shutil, subprocess, sys; shutil.rmtree({folder!r} + '/results', ignore_errors=True); "
                 f"sys.exit(subprocess.call([sys.executable, {command!r}, {str(suite)!r}, "
                 f"'--results', {folder!r} + '/results']))")  # fmt: skip
        results = ("--results", f"{folder}/results")
        rows = [
            {"command": what, "seconds": round(seconds(*words), 2)}
            for what, words in {
                "python -c 'import torch'": ("-c", "import torch"),
                "benchmark.py --help": (command, "--help"),
                "benchmark.py list losses": (command, "list", "losses"),
                "benchmark.py SUITE, two runs to do: the first record and the leaderboard": ("-c", fresh),
                "benchmark.py SUITE, nothing to do": (command, str(suite), *results),
                "benchmark.py report SUITE": (command, "report", str(suite), *results),
            }.items()
        ]
    print(_common.write("start_up", f"Wall time of commands, medians of {TIMES}.", rows))


if __name__ == "__main__":
    main()
