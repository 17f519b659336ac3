"""The effect of the C kernels on training times and, through rounding, on scores.

    python benchmarks/kernels.py            2 cores, five minutes

A suite on digits runs twice: with the kernels, and without them as on a machine without a C compiler. Runs are paired:
they have the same images, initial weights, views and labels. Training amplifies rounding, so the scores of single runs
differ, as between two processors; their mean must not.
"""

import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

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


def train(folder: Path, **environment: str) -> dict[str, dict[str, Any]]:
    """The records of the suite's trained runs by their ids."""
    _, records = _common.run_suite(SUITE, folder, "--device", "cpu", **environment)
    return {record["id"]: record for record in records if record["run"]["epochs"]}


def rows(with_kernels: dict[str, dict[str, Any]], without: dict[str, dict[str, Any]]) -> Iterator[dict[str, str]]:
    assert with_kernels.keys() == without.keys()
    assert all(record["resolved"].get("native") for record in with_kernels.values()), "there is no C compiler here"
    assert not any("native" in record["resolved"] for record in without.values())
    pairs = [(with_kernels[name], without[name]) for name in sorted(without)]
    for score in SCORES:
        differences = [100 * (a["scores"][score] - b["scores"][score]) for a, b in pairs]
        half_width = stats.t.ppf(0.975, len(pairs) - 1) * stdev(differences) / math.sqrt(len(pairs))
        mean_without = 100 * mean(b["scores"][score] for _, b in pairs)
        yield {
            "what": f"{score}, points",
            "without": f"{mean_without:.2f}",
            "with - without": f"{mean(differences):+.2f} ± {half_width:.2f}",
            "of a single run": f"{stdev(differences):.2f}",
        }
    seconds = [[record["cost"]["train_seconds"] for record in pair] for pair in pairs]
    speedups = [b / a for a, b in seconds]
    yield {
        "what": "training, seconds",
        "without": f"{median(b for _, b in seconds):.2f}",
        "with - without": f"{median(speedups):.2f} times as fast",
        "of a single run": f"{min(speedups):.2f} to {max(speedups):.2f} times",
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        compared = list(rows(train(Path(folder, "with")), train(Path(folder, "without"), CC="no-compiler")))
    about = "SimCLR and SupCon on digits, 60 repetitions each, paired: means with 95 % t-intervals, and the standard "
    about += "deviation of a pair's difference."
    print(_common.write("kernels", about, compared, ("torch", "numpy")))


if __name__ == "__main__":
    main()
