"""The share of a suite's wall time that is not training: start-up, data, evaluation, writing, tables.

    python benchmarks/suite_overhead.py        ten minutes

Suites on digits on all cores with the default probes: of 100 epochs, with 54 and 18 runs for each core at three
learning rates and 4 at one; of 8 epochs, with 24 runs for each core. The seconds of training and evaluation come from
the records. The rest of all cores' wall time is start-up, idling and tables, some seconds in a suite of any size.
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common


def measure(epochs: int, repetitions: int, workers: int, rates: tuple[float, ...] = (0.1,)) -> dict[str, object]:
    """A row for one suite of a loss and the untrained network, which has one run for each repetition."""
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
        "validation": "all",
    }
    with tempfile.TemporaryDirectory() as folder:
        wall, records = _common.run_suite(json.dumps(suite), Path(folder), "--workers", str(workers))
    costs = [record["cost"] for record in records]
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
    workers = _common.cores()
    rows = [
        measure(100, 18 * workers, workers, (0.03, 0.1, 0.3)),
        measure(100, 6 * workers, workers, (0.03, 0.1, 0.3)),
        measure(100, 4 * workers, workers),
        measure(8, 24 * workers, workers),
    ]
    about = f"Where the time of a suite on digits goes, {workers} processes."
    print(_common.write("suite_overhead", about, rows))


if __name__ == "__main__":
    main()
