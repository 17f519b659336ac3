"""The overhead of an engine for each run, and predicted times on a cluster: the numbers of docs/scaling.md.

    python benchmarks/engines.py            some five minutes on two quiet cores: 10,000 runs an engine, then the check
    python benchmarks/engines.py --quick    the same with 500 runs
    python benchmarks/engines.py --check    only the check of the model: a small suite, predicted and measured
    python benchmarks/engines.py --predict  only the predictions of docs/scaling.md, from results/engines.json

The first two write results/engines.md and the table in docs/scaling.md. Overhead is measured with runs that name a
missing encoder: they fail at once without training, and their records are written as usual. The check compares the wall
time of a small suite on 1 and 2 workers with a prediction from its first runs.
"""

import contextlib
import io
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.engines.local import LocalEngine
from cl_semisup.execution.machine import Machine, Need
from cl_semisup.execution.training_groups import Finished, TrainingGroup
from cl_semisup.scheduling import scheduler
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run

RUNS, QUICK = 10_000, 500
SMALL, FIRST = 16, 5  # runs of the suite whose wall time is predicted, and how many of them the prediction uses
GPUS = (1, 8, 64, 512)
DOLLARS = 2.0  # a GPU hour, assumed
MINUTES = {  # of one CIFAR-100 run on one GPU: ResNet-18, 200 epochs, batch 512; assumptions, see docs/scaling.md
    "published": 87.1,
    "computed": 50_000 * 200 * 2 * 3 * 2 * 0.56e9 / (0.3 * 312e12) / 60,
}
SUITE = """\
question: What does an engine cost?
name: engines
datasets: digits
encoder: {encoder}
losses: nt_xent
label_fraction: 0.1
learning_rate: [{rates}]
batch_size: 128
repetitions: {repetitions}
epochs: {epochs}
validation: all
"""
DOCUMENT = _common.ROOT / "docs" / "scaling.md"
MARKS = ("<!-- benchmarks/engines.py writes this table -->\n", "<!-- until here -->")


def make_runs(rates: int, repetitions: int, encoder: str, epochs: int) -> list[Run]:
    """The trained runs of a suite with `rates` cells."""
    grid = ", ".join(f"{i / 1e4:g}" for i in range(1, rates + 1))
    text = SUITE.format(rates=grid, repetitions=repetitions, encoder=encoder, epochs=epochs)
    return [run for run in suite.parse(text, "engines.yaml").runs if run.epochs]


def local(workers: int) -> scheduler.Engine:
    return LocalEngine(Machine("cpu", "data"), workers)


def ray(workers: int) -> scheduler.Engine:
    from cl_semisup.engines import ray_engine

    ray_engine.connect("local")
    return ray_engine.RayEngine(Machine("cpu", "data"), Need(1, 0), workers)


ENGINES: dict[str, Callable[[int], scheduler.Engine]] = {"local": local, "ray": ray}


class TimedEngine:
    """An engine that records the times of its first and last result."""

    def __init__(self, engine: scheduler.Engine):
        self.engine, self.first, self.last = engine, math.nan, math.nan

    @property
    def slots(self) -> int:
        return self.engine.slots

    def submit(self, training: TrainingGroup) -> None:
        self.engine.submit(training)

    def results(self, seconds: float) -> list[Finished]:
        finished = self.engine.results(seconds)
        if finished:
            self.last = time.perf_counter()
            self.first = self.last if math.isnan(self.first) else self.first
        return finished

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        return self.engine.cancel(seconds)


class Times(NamedTuple):
    """Seconds until the first result, from there to the last, and of the whole."""

    first: float
    rest: float
    whole: float


def measure(engine: str, workers: int, runs: list[Run], status: str) -> Times:
    """From the start of the engine to all records on disk."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        timed_engine = TimedEngine(ENGINES[engine](workers))
        counts = scheduler.run_all(Path(folder), runs, timed_engine, share=False)
        whole = time.perf_counter() - began
    if counts.statuses != {status: len(runs)}:
        raise RuntimeError(f"all {len(runs)} runs should be {status}. Got {counts.statuses}.")
    return Times(timed_engine.first - began, timed_engine.last - timed_engine.first, whole)


def overhead(engine: str, count: int) -> dict[str, Any]:
    """A row: runs that fail at once, on 2 workers."""
    failing_runs = [replace(run, encoder={"absent": {}}) for run in make_runs(count // 50, 50, "mlp", 1)]
    times = measure(engine, 2, failing_runs, "failed")
    cost = 1000 * times.rest / (len(failing_runs) - 1)
    return row("nothing", engine, 2, len(failing_runs), times.first, 0.0, cost, times)


def check(engine: str, cost: float) -> list[dict[str, Any]]:
    """Rows: a small suite on 1 and 2 workers, predicted from its first runs on one worker."""
    small = make_runs(4, SMALL // 4, "convnet", 10)
    sample = measure(engine, 1, small[:FIRST], "ok")
    each = sample.rest / (FIRST - 1)
    return [
        row("small", engine, workers, SMALL, sample.first - each, each, cost, measure(engine, workers, small, "ok"))
        for workers in (1, 2)
    ]


def row(
    what: str, engine: str, workers: int, runs: int, start: float, each: float, cost: float, times: Times
) -> dict[str, Any]:
    predicted = wall(runs, workers, start, each, cost)
    return {
        "suite": what,
        "engine": engine,
        "workers": workers,
        "runs": runs,
        "start, s": start,
        "a run, s": each,
        "overhead, ms a run": cost,
        "predicted, s": predicted,
        "measured, s": times.whole,
        "error": f"{100 * (predicted / times.whole - 1):+.1f} %",
    }


def wall(runs: int, slots: int, start: float, each: float, cost: float) -> float:
    """The model: start, waves of equal runs, and one process that handles all records one by one; in seconds."""
    return start + math.ceil(runs / slots) * each + runs * cost / 1000


def stored_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _common.load("engines")["rows"]
    return rows


def overhead_row(rows: list[dict[str, Any]], engine: str) -> dict[str, Any]:
    return next(row for row in rows if (row["suite"], row["engine"]) == ("nothing", engine))


def predictions() -> str:
    """Wall time, GPU hours and dollars of a suite of 10,000 runs on Ray, in Markdown."""
    ray_row = overhead_row(stored_rows(), "ray")
    header = ["a run takes", "GPUs", "waves", "wall time", "GPU hours paid", "cost", "GPUs busy"]
    rows = []
    for source, minutes in MINUTES.items():
        for gpus in GPUS:
            seconds = wall(RUNS, gpus, ray_row["start, s"], 60 * minutes, ray_row["overhead, ms a run"])
            paid = gpus * seconds / 3600
            waves = math.ceil(RUNS / gpus)
            cells = [f"{minutes:.0f} min ({source})", f"{gpus}", f"{waves:,}", format_duration(seconds)]
            cells += [f"{paid:,.0f}", f"${paid * DOLLARS:,.0f}", f"{RUNS * minutes / 60 / paid:.1%}"]
            rows.append(cells)
    return _common.table(header, rows) + "\n"


def format_duration(seconds: float) -> str:
    return f"{seconds / 86400:,.1f} days" if seconds > 2 * 86400 else f"{seconds / 3600:.1f} h"


def main() -> None:
    parser = _common.parser(__doc__)
    only = parser.add_mutually_exclusive_group()
    for name in ("--quick", "--check", "--predict"):
        only.add_argument(name, action="store_true")
    options = parser.parse_args()
    if options.predict:
        print(predictions(), end="")
    elif options.check:
        for engine in ENGINES:
            for checked in check(engine, overhead_row(stored_rows(), engine)["overhead, ms a run"]):
                print(", ".join(f"{name} {value}" for name, value in checked.items()))
    else:
        load = os.getloadavg()[0]
        rows = [overhead(engine, QUICK if options.quick else RUNS) for engine in ENGINES]
        for engine in ENGINES:
            rows += check(engine, overhead_row(rows, engine)["overhead, ms a run"])
        about = f"{ABOUT} Load before it began: {load:.1f}."
        print(_common.write("engines", about, rows, ("torch", "ray")))
        before, mark, rest = DOCUMENT.read_text("utf-8").partition(MARKS[0])
        DOCUMENT.write_text(before + mark + predictions() + MARKS[1] + rest.partition(MARKS[1])[2], "utf-8")


ABOUT = (
    "From a suite to records on disk. `nothing`: runs that fail at once; `small`: a convnet on digits, 10 epochs. "
    "Predicted as start + ceil(runs / workers) x a run + runs x overhead; the overhead is that of `nothing`, start and "
    f"time of a run are those of the first {FIRST} runs on one worker."
)

if __name__ == "__main__":
    main()
