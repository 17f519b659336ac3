"""The cost of size: 10,000 cells in one suite, and 500 runs in one worker.

python benchmarks/load.py            some five minutes on a core; writes benchmarks/results/load.md
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cl_semisup.execution.execute import Executor, failed_record  # noqa: E402
from cl_semisup.execution.machine import Machine  # noqa: E402
from cl_semisup.results import records  # noqa: E402
from cl_semisup.results.run_table import gather  # noqa: E402
from cl_semisup.results.snapshot import SuiteSnapshot  # noqa: E402
from cl_semisup.scheduling import cleanup, scheduler  # noqa: E402
from cl_semisup.suite import suite  # noqa: E402
from cl_semisup.suite.suite import Suite  # noqa: E402

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
"""
SIZES = (2500, 10_000)
LIMITS = {"check": 5.0, "start": 10.0}  # processor seconds, for 10,000 cells
MAX_MEMORY = 1e9  # bytes
MAX_EXPONENT = 1.6  # of time as a power of the number of cells: 1 is linear, 2 quadratic
SOAK_RUNS = 500  # runs in one worker
CHEAP_PROBES = "probes: {linear: false}\nscore: knn_top1\n"


def text(cells: int) -> str:
    return SUITE.format(rates=", ".join(f"{i / 1e4:g}" for i in range(1, cells // 100 + 1)))


def command(*arguments: str, folder: Path, until: str = "") -> tuple[float, float]:
    """Processor seconds and peak memory in bytes of a command, up to the first line that starts with `until`."""
    process = subprocess.Popen(
        [sys.executable, "benchmark.py", *arguments, "--results", str(folder / "results")],
        cwd=ROOT,
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


def timed(step: Callable[[], Any]) -> float:
    start_time = time.process_time()
    step()
    return time.process_time() - start_time


def steps(suite: Suite, results: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What a command does with a suite whose runs all have records, step by step."""
    runs = suite.runs
    yield "scheduler.missing", lambda: scheduler.missing(results, runs)
    yield "scheduler.missing, stale", lambda: scheduler.missing(results, runs, "stale")
    yield "cleanup.remove_leftovers", lambda: cleanup.remove_leftovers(results, runs)
    yield "records.read_all", lambda: records.read_all(results, runs)
    yield "snapshot.save", lambda: SuiteSnapshot.of(suite).save(results)
    yield "leaderboard.gather", lambda: gather(results, runs)


def fill(suite: Suite, results: Path) -> None:
    """A record for every run, as if all had been executed."""
    for number, run in enumerate(suite.runs):
        record, _ = failed_record(run, Machine("cpu", "data"), "")
        score = 0.5 + 0.4 * (number * 7919 % 1000) / 1000
        scores = {"linear_top1": score, "linear_top1_validation": score, "knn_top1": score}
        path = records.path_of(results, run)
        path.parent.mkdir(parents=True, exist_ok=True)  # records.write would flush every one of them to the disk
        filled = record | {"status": "ok", "scores": scores, "resolved": {"classes": 10, "device": "cpu"}}
        path.write_text(json.dumps(filled))


def soak(runs: int) -> list[float]:
    """Resident bytes of a worker after every run."""
    parsed = suite.parse(text(100).replace("repetitions: 50", f"repetitions: {runs // 2}") + CHEAP_PROBES, "load.yaml")
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident, (parsed.runs[-runs:],))  # type: ignore[no-any-return]


def _resident(runs: tuple[Any, ...]) -> list[float]:
    import torch

    torch.set_num_threads(1)
    execute, sizes = Executor(Machine("cpu", "data")), []
    for run in runs:
        execute(run)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096.0)
    return sizes


def exponent(seconds: list[float]) -> float:
    """How a time grows with size, from the smallest to the largest."""
    return math.log(seconds[-1] / seconds[0]) / math.log(SIZES[-1] / SIZES[0])


def sizes(folder: Path) -> tuple[dict[str, list[float]], float]:
    """Step -> seconds for each of SIZES, and the largest memory of a command at the last of them."""
    times: dict[str, list[float]] = {}
    memory = 0.0
    for cells in SIZES:
        file, results = folder / "load.yaml", folder / str(cells) / "results"
        file.write_text(text(cells))
        for name, arguments, until in (("check", ["check", str(file)], ""), ("start", [str(file)], "Running ")):
            seconds, size = command(*arguments, folder=results.parent, until=until)
            times.setdefault(name, []).append(seconds)
            memory = max(memory, size)
        parsed: list[Suite] = []
        times.setdefault("suite.read", []).append(timed(lambda f=file, p=parsed: p.append(suite.read(f))))
        fill(parsed[0], results)
        for name, step in steps(parsed[0], results):
            times.setdefault(name, []).append(timed(step))
        seconds, size = command("report", str(file), folder=results.parent)
        times.setdefault("report", []).append(seconds)
        memory = max(memory, size)
    return times, memory


def page(times: dict[str, list[float]], memory: float, resident: list[float]) -> tuple[str, list[str]]:
    """The numbers as Markdown, and what exceeds a limit."""
    wrong = [f"{name} takes {times[name][-1]:.1f} s" for name, limit in LIMITS.items() if times[name][-1] > limit]
    wrong += [f"{name} grows too fast" for name, t in times.items() if t[-1] > 1 and exponent(t) > MAX_EXPONENT]
    wrong += [f"a command needs {memory / 1e9:.2f} GB"] if memory > MAX_MEMORY else []
    settled = resident[len(resident) // 10]
    growth = (resident[-1] - settled) / settled
    wrong += [f"a worker grows by {100 * growth:.0f} %"] if growth > 0.1 else []
    lines = ["# Load", "", f"`python benchmarks/load.py` on {os.cpu_count()} cores, {platform.machine()}.", ""]
    lines += ["Processor seconds: what it takes on a core of its own, whatever else the machine does.", ""]
    lines += [
        "| processor seconds for cells | " + " | ".join(f"{n:,}" for n in SIZES) + " | exponent |",
        "|---|" + "---|" * 4,
    ]
    lines += [f"| {n} | {' | '.join(f'{t:.2f}' for t in ts)} | {exponent(ts):.2f} |" for n, ts in times.items()]
    lines += ["", f"Largest memory of a command: {memory / 1e6:.0f} MB."]
    lines += [f"A worker after {len(resident) // 10} runs: {settled / 1e6:.0f} MB; after {len(resident)}: "]
    lines[-1] += f"{resident[-1] / 1e6:.0f} MB."
    lines += ["", "Limits: " + ("; ".join(wrong) if wrong else "all kept.")]
    return "\n".join(lines) + "\n", wrong


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        times, memory = sizes(Path(name))
    content, wrong = page(times, memory, soak(SOAK_RUNS))
    print(content)
    records.write_text(ROOT / "benchmarks" / "results" / "load.md", content)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
