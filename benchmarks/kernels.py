"""What the kernels in C do to training times and, by their rounding, to scores.

    python benchmarks/kernels.py            2 cores, five minutes
    python benchmarks/kernels.py --single   a core, four minutes: what each kernel earns alone

The same suite on digits twice, with the kernels and, as on a machine without a C compiler, without them. Runs are
paired: the same images, first weights, views and labels. Small differences grow in training, so single scores move, as
they do between two processors; what must not move is their mean.

With `--single` a step is timed with all kernels, then with one of them left out at a time. A kernel that saves less
than a tenth of a step on every workload does not earn its code.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median, quantiles, stdev
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from scipy import stats

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _common, step  # noqa: E402
from cl_semisup.native import blocks, pairs, views  # noqa: E402
from cl_semisup.training import loop  # noqa: E402

SCORES = ("linear_top1", "linear_top1_labelled", "knn_top1")
ROUNDS = 8
WITHOUT = {"": (), "views": (views,), "blocks": (blocks,), "pairs": (pairs,), "any": (views, blocks, pairs)}
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
validation: all
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


def single_rows(folder: str) -> Iterator[dict[str, str]]:
    """For each network and batch size: milliseconds of a step, and what each kernel saves of it."""
    step.random_images(folder)
    for network in ("convnet, 8 x 8", "convnet, 32 x 32"):
        for batch_size in (64, 256):
            train = step.trainer(network, folder, batch_size=batch_size)
            spent: dict[str, list[float]] = {setting: [] for setting in WITHOUT}
            for turn in range(1 + ROUNDS):
                for setting, modules in WITHOUT.items():
                    milliseconds = timed(train, modules)
                    if turn:  # the first round pays for warming up
                        spent[setting].append(milliseconds)
            row = {"network": network, "batch": str(batch_size), "all kernels": f"{median(spent['']):.2f} ms"}
            for setting in filter(None, WITHOUT):
                saved = [100 * (1 - a / b) for a, b in zip(spent[""], spent[setting], strict=True)]
                low, _, high = quantiles(saved)
                row[f"without {setting}"] = (
                    f"{median(spent[setting]):.2f} ms: saves {median(saved):.0f} % ({low:.0f} to {high:.0f})"
                )
            yield row


def timed(train: Callable[[], int], left_out: tuple[Any, ...]) -> float:
    """Processor milliseconds of a step in a training where these kernels are left to torch."""
    with ExitStack() as stack:
        for module in left_out:
            stack.enter_context(patch.object(module, "library", SimpleNamespace(get=lambda: None)))
        began = time.process_time()
        steps = train()
        return 1e3 * (time.process_time() - began) / steps


def single() -> None:
    torch.set_num_threads(1)
    with patch.object(loop, "LOGGED_POINTS", 1), tempfile.TemporaryDirectory() as folder:
        found = list(single_rows(folder))
    about = "A training step of SimCLR, two views, one thread, float32: medians of processor time. Each of "
    about += (
        f"{ROUNDS} rounds times all settings in turn. A cell is a step without that kernel, and the share of it that "
    )
    about += "the kernel saves (median and quartiles of rounds)."
    print(_common.write("kernels_single", about, found, ("torch", "numpy")))


def main() -> None:
    if sys.argv[1:] == ["--single"]:
        single()
        return
    with tempfile.TemporaryDirectory() as folder:
        found = list(rows(records(folder, ""), records(folder, "no-compiler")))
    about = "SimCLR and SupCon on digits, 60 repetitions each, paired: means with 95 % t-intervals, and the standard "
    about += "deviation of a pair's difference."
    print(_common.write("kernels", about, found, ("torch", "numpy")))


if __name__ == "__main__":
    main()
