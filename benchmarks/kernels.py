"""What the kernels in C do to training times and, by their rounding, to scores.

    python benchmarks/kernels.py            2 cores, five minutes

The same suite on digits twice, with the kernels and, as on a machine without a C compiler, without them. Runs are
paired: the same images, first weights, views and labels. Small differences grow in training, so single scores move, as
they do between two processors; what must not move is their mean.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from scipy import stats

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record  # noqa: E402

SCORES = ("linear_top1", "linear_top1_labelled", "knn_top1")
SUITE = """\
question: Do the kernels move scores?
datasets: digits
encoder: convnet
losses: [nt_xent, supcon]
label_fraction: 0.2
learning_rate: 0.5
batch_size: 64
repetitions: 60
epochs: 8
"""


def records(folder: str, compiler: str) -> dict[str, dict[str, Any]]:
    """Of the trained runs, by their ids."""
    file = Path(folder) / "kernels.yaml"
    file.write_text(SUITE)
    results = Path(folder) / (compiler or "with")
    command = [sys.executable, str(ROOT / "benchmark.py"), str(file), "--results", str(results), "--device", "cpu"]
    environment = os.environ | ({"CC": compiler} if compiler else {})
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    paths = [path for path in results.glob("records/*/*/*.json") if not path.name.endswith(".curves.json")]
    found = {path.stem: json.loads(path.read_text()) for path in paths}
    return {name: record for name, record in found.items() if record["run"]["epochs"]}


def rows(ours: dict[str, dict[str, Any]], without: dict[str, dict[str, Any]]) -> Iterator[dict[str, str]]:
    assert ours.keys() == without.keys()
    assert all(record["resolved"].get("native") for record in ours.values()), "there is no C compiler here"
    assert not any("native" in record["resolved"] for record in without.values())
    pairs = [(ours[name], without[name]) for name in sorted(ours)]
    for score in SCORES:
        apart = [100 * (a["scores"][score] - b["scores"][score]) for a, b in pairs]
        half = stats.t.ppf(0.975, len(apart) - 1) * stdev(apart) / math.sqrt(len(apart))
        level = 100 * mean(b["scores"][score] for _, b in pairs)
        yield {
            "what": f"{score}, points",
            "without": f"{level:.2f}",
            "with - without": f"{mean(apart):+.2f} ± {half:.2f}",
            "of a single run": f"{stdev(apart):.2f}",
        }
    seconds = [[record["cost"]["train_seconds"] for record in pair] for pair in pairs]
    faster = [b / a for a, b in seconds]
    yield {
        "what": "training, seconds",
        "without": f"{median(b for _, b in seconds):.2f}",
        "with - without": f"{median(faster):.2f} times as fast",
        "of a single run": f"{min(faster):.2f} to {max(faster):.2f} times",
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = list(rows(records(folder, ""), records(folder, "no-compiler")))
    about = "SimCLR and SupCon on digits, 60 repetitions each, paired: means with 95 % t-intervals, and the standard "
    about += "deviation of a pair's difference."
    print(_record.write("kernels", about, found, ("torch", "numpy")))


if __name__ == "__main__":
    main()
