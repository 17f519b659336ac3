"""What share of a suite's wall time is not training: start-up, data, evaluation, writing, tables.

    python benchmarks/suite_overhead.py        ten minutes

Suites of digits on every core with the default probes: of 100 epochs 54 and 18 runs a core at three learning rates, and
4 at one; of 8 epochs 24. Of the wall time of all cores, training is what the records say; evaluation too; the rest is
start-up, idling and tables, some seconds however long the suite is.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record  # noqa: E402


def measure(epochs: int, repetitions: int, workers: int, rates: tuple[float, ...] = (0.1,)) -> dict[str, object]:
    """One suite of a loss and the untrained network, which has one run a repetition."""
    runs = repetitions * len(rates)
    suite = {
        "question": "What is not training?",
        "datasets": "digits",
        "losses": "nt_xent",
        "label_fraction": 0.1,
        "learning_rate": list(rates),
        "batch_size": 64,
        "repetitions": repetitions,
        "epochs": epochs,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "overhead.yaml"
        file.write_text(json.dumps(suite))
        command = [sys.executable, str(ROOT / "benchmark.py"), str(file), "--results", folder]
        began = time.perf_counter()
        subprocess.run([*command, "--workers", str(workers)], check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - began
        costs = [json.loads(path.read_text())["cost"] for path in Path(folder).glob("records/*/*/*.json")
                 if not path.name.endswith(".curves.json")]  # fmt: skip
    training = sum(cost.get("train_seconds", 0.0) for cost in costs)
    evaluation = sum(cost.get("evaluation_seconds", 0.0) for cost in costs)
    whole = wall * workers
    return {
        "suite": f"{runs} runs of {epochs} epochs, and {len(costs) - runs} of the untrained network",
        "wall, s": round(wall, 1),
        "training": _share(training, whole),
        "evaluation": _share(evaluation, whole),
        "start-up, idle, tables": _share(whole - training - evaluation, whole),
        "evaluation of a run against its training": _share(evaluation / len(costs), training / runs),
    }


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %"


def main() -> None:
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows = [
        measure(100, 18 * workers, workers, (0.03, 0.1, 0.3)),
        measure(100, 6 * workers, workers, (0.03, 0.1, 0.3)),
        measure(100, 4 * workers, workers),
        measure(8, 24 * workers, workers),
    ]
    about = f"Where the time of a suite on digits goes, {workers} processes."
    print(_record.write("suite_overhead", about, rows))


if __name__ == "__main__":
    main()
