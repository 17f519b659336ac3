"""Times and memory at size: 10,000 cells in one suite, and 500 runs in one worker.

python benchmarks/load.py            some five minutes on a core; writes benchmarks/results/load.md
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.execution.execute import Executor, failed_record
from cl_semisup.execution.machine import Machine
from cl_semisup.results import records, run_table
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling import cleanup, scheduler
from cl_semisup.suite import suite
from cl_semisup.suite.suite import Suite

SUITE = """\
question: What do so many cells cost?
name: load
datasets: digits
encoder: {{mlp: {{width: 16, layers: 1}}}}
losses: [nt_xent, clop]
label_fraction: 0.1
learning_rate: [{rates}]
batch_size: 128
repetitions: 50
epochs: 1
validation: all
"""
SIZES = (2500, 10_000)
LIMITS = {"check": 5.0, "start": 10.0}  # processor seconds, of 10,000 cells
MEMORY = 1e9  # bytes
GROWTH = 1.6  # the exponent of a time over the number of cells: 1 is linear, 2 quadratic
SOAK = 500  # runs in one worker
CHEAP = "probes: {linear: false}\nscore: knn_top1\n"


def text(cells: int) -> str:
    return SUITE.format(rates=", ".join(f"{i / 1e4:g}" for i in range(1, cells // 100 + 1)))


def command(*words: str, folder: Path, until: str = "") -> tuple[float, float]:
    """(processor seconds, peak memory in bytes) of a command, which ends early at a line that begins with `until`."""
    process = subprocess.Popen(
        [*_common.COMMAND, *words, "--results", str(folder / "results")],
        cwd=_common.ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if until and line.startswith(until):
            process.kill()
            break
    process.stdout.close()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0


def steps(parsed: Suite, results: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, function) of each step of a command on a finished suite."""
    runs = parsed.runs
    yield "scheduler.missing", lambda: scheduler.missing(results, runs)
    yield "scheduler.missing, stale", lambda: scheduler.missing(results, runs, "stale")
    yield "cleanup.remove_leftovers", lambda: cleanup.remove_leftovers(results, runs)
    yield "records.read_all", lambda: records.read_all(results, runs)
    yield "snapshot.save", lambda: SuiteSnapshot.of(parsed).save(results)
    yield "run_table.gather", lambda: run_table.gather(results, runs)


def fill(parsed: Suite, results: Path) -> None:
    """Writes a record for every run, as if all had been executed."""
    for number, run in enumerate(parsed.runs):
        record, _ = failed_record(run, Machine("cpu", "data"), "")
        score = 0.5 + 0.4 * (number * 7919 % 1000) / 1000
        scores = {"linear_top1": score, "linear_top1_validation": score, "knn_top1": score}
        path = records.path_of(results, run)
        path.parent.mkdir(parents=True, exist_ok=True)  # faster than records.write, which flushes each to the disk
        made = record | {"status": "ok", "scores": scores, "resolved": {"classes": 10, "device": "cpu"}}
        path.write_text(json.dumps(made))


def soak(runs: int) -> list[float]:
    """Resident bytes of a worker after every run."""
    parsed = suite.parse(text(100).replace("repetitions: 50", f"repetitions: {runs // 2}") + CHEAP, "load.yaml")
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident, (parsed.runs[-runs:],))


def _resident(runs: tuple[Any, ...]) -> list[float]:
    import torch

    torch.set_num_threads(1)
    execute, resident = Executor(Machine("cpu", "data")), []
    for run in runs:
        execute(run)
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096.0)
    return resident


def exponent(seconds: list[float]) -> float:
    """Exponent of the growth of a time between the smallest and the largest size."""
    return math.log(seconds[-1] / seconds[0]) / math.log(SIZES[-1] / SIZES[0])


def sizes(folder: Path) -> tuple[dict[str, list[float]], float]:
    """Step -> seconds for each of SIZES; and the peak memory of all commands in bytes."""
    times: dict[str, list[float]] = {}
    memory = 0.0
    for cells in SIZES:
        file, results = folder / "load.yaml", folder / str(cells) / "results"
        file.write_text(text(cells))
        for name, words, until in (("check", ["check", str(file)], ""), ("start", [str(file)], "Running ")):
            seconds, size = command(*words, folder=results.parent, until=until)
            times.setdefault(name, []).append(seconds)
            memory = max(memory, size)
        seconds, parsed = _common.timed(partial(suite.read, file), time.process_time)
        times.setdefault("suite.read", []).append(seconds)
        fill(parsed, results)
        for name, step in steps(parsed, results):
            times.setdefault(name, []).append(_common.timed(step, time.process_time)[0])
        seconds, size = command("report", str(file), folder=results.parent)
        times.setdefault("report", []).append(seconds)
        memory = max(memory, size)
    return times, memory


def page(times: dict[str, list[float]], memory: float, resident: list[float]) -> tuple[str, list[str]]:
    """The results as Markdown, and the limits that are exceeded."""
    problems = [f"{name} takes {times[name][-1]:.1f} s" for name, limit in LIMITS.items() if times[name][-1] > limit]
    problems += [f"{name} grows too fast" for name, t in times.items() if t[-1] > 1 and exponent(t) > GROWTH]
    problems += [f"a command needs {memory / 1e9:.2f} GB"] if memory > MEMORY else []
    settled = resident[len(resident) // 10]
    growth = (resident[-1] - settled) / settled
    problems += [f"a worker grows by {100 * growth:.0f} %"] if growth > 0.1 else []
    header = ["processor seconds for cells", *(f"{size:,}" for size in SIZES), "exponent"]
    rows = [[name, *(f"{t:.2f}" for t in seconds), f"{exponent(seconds):.2f}"] for name, seconds in times.items()]
    text = _common.page(
        "Load",
        f"`{_common.command_line()}` on {_common.machine()}.",
        "Processor seconds: what it takes on a core of its own, whatever else the machine does.",
        _common.table(header, rows),
        f"Largest memory of a command: {memory / 1e6:.0f} MB.\nA worker after {len(resident) // 10} runs: "
        f"{settled / 1e6:.0f} MB; after {len(resident)}: {resident[-1] / 1e6:.0f} MB.",
        "Limits: " + ("; ".join(problems) if problems else "all kept."),
    )
    return text, problems


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        times, memory = sizes(Path(folder))
    markdown, problems = page(times, memory, soak(SOAK))
    print(markdown)
    _common.save("load", markdown)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
