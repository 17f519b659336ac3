"""How long one waits for each command, in a process of its own.

    python benchmarks/start_up.py

Medians of 5; `first record` is a whole suite of one short run on two workers, so it holds torch's import in a worker.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record  # noqa: E402

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
"""


def seconds(*words: str) -> float:
    """Of a command's wall time, the median."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return median(taken)


def main() -> None:
    command = str(ROOT / "benchmark.py")
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "one.yaml"
        suite.write_text(ONE_RUN)
        fresh = (f"import shutil, subprocess, sys; shutil.rmtree({folder!r} + '/results', ignore_errors=True); "
                 f"sys.exit(subprocess.call([sys.executable, {command!r}, {str(suite)!r}, "
                 f"'--results', {folder!r} + '/results']))")  # fmt: skip
        kept = ("--results", f"{folder}/results")
        rows = [
            {"command": what, "seconds": round(seconds(*words), 2)}
            for what, words in {
                "python -c 'import torch'": ("-c", "import torch"),
                "benchmark.py --help": (command, "--help"),
                "benchmark.py list losses": (command, "list", "losses"),
                "benchmark.py SUITE, two runs to do: the first record and the leaderboard": ("-c", fresh),
                "benchmark.py SUITE, nothing to do": (command, str(suite), *kept),
                "benchmark.py report SUITE": (command, "report", str(suite), *kept),
            }.items()
        ]
    print(_record.write("start_up", f"Wall time of commands, medians of {TIMES}.", rows))


if __name__ == "__main__":
    main()
