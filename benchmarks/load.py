"""How the benchmark bears size: 10,000 cells in one suite, and 500 runs in one worker.

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

from cl_semisup.execution.execute import Executor, failed  # noqa: E402
from cl_semisup.execution.machine import Machine  # noqa: E402
from cl_semisup.results import leaderboard, records  # noqa: E402
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
LIMITS = {"check": 5.0, "start": 10.0}  # processor seconds, of 10,000 cells
MEMORY = 1e9  # bytes
GROWTH = 1.6  # the exponent of a time over the number of cells: 1 is linear, 2 quadratic
SOAK = 500  # runs in one worker
CHEAP = "evaluation: {linear: false}\nscore: knn_top1\n"


def text(cells: int) -> str:
    return SUITE.format(rates=", ".join(f"{i / 1e4:g}" for i in range(1, cells // 100 + 1)))


def command(*words: str, folder: Path, until: str = "") -> tuple[float, float]:
    """Processor seconds of a command, until a line of its output starts so or to its end; its largest size in bytes."""
    process = subprocess.Popen(
        [sys.executable, "benchmark.py", *words, "--results", str(folder / "results")],
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
    began = time.process_time()
    step()
    return time.process_time() - began


def steps(asked: Suite, results: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What a command does with a suite's runs, one by one, records there."""
    runs = asked.runs
    yield "conduct.missing", lambda: scheduler.missing(results, runs)
    yield "conduct.missing, stale", lambda: scheduler.missing(results, runs, "stale")
    yield "sweep.results", lambda: cleanup.remove_leftovers(results, runs)
    yield "records.find", lambda: records.find(results, runs)
    yield "selection.save", lambda: SuiteSnapshot.of(asked).save(results)
    yield "leaderboard.gather", lambda: leaderboard.gather(results, runs)


def fill(asked: Suite, results: Path) -> None:
    """A record for every run, as if all had been executed."""
    for number, run in enumerate(asked.runs):
        record, _ = failed(run, Machine("cpu", "data"), "")
        score = 0.5 + 0.4 * (number * 7919 % 1000) / 1000
        scores = {"linear_top1": score, "linear_top1_validation": score, "knn_top1": score}
        path = records.path_of(results, run)
        path.parent.mkdir(parents=True, exist_ok=True)  # records.write would flush every one of them to the disk
        made = record | {"status": "ok", "scores": scores, "resolved": {"classes": 10, "device": "cpu"}}
        path.write_text(json.dumps(made))


def soak(runs: int) -> list[float]:
    """Resident bytes of a worker after every run."""
    asked = suite.parse(text(100).replace("repetitions: 50", f"repetitions: {runs // 2}") + CHEAP, "load.yaml")
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident, (asked.runs[-runs:],))  # type: ignore[no-any-return]


def _resident(runs: tuple[Any, ...]) -> list[float]:
    import torch

    torch.set_num_threads(1)
    execute, found = Executor(Machine("cpu", "data")), []
    for run in runs:
        execute(run)
        found.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096.0)
    return found


def exponent(seconds: list[float]) -> float:
    """How a time grows with size, from the smallest to the largest."""
    return math.log(seconds[-1] / seconds[0]) / math.log(SIZES[-1] / SIZES[0])


def sizes(folder: Path) -> tuple[dict[str, list[float]], float]:
    """Step -> seconds for each of SIZES, and the largest memory of a command at the last of them."""
    found: dict[str, list[float]] = {}
    memory = 0.0
    for cells in SIZES:
        file, results = folder / "load.yaml", folder / str(cells) / "results"
        file.write_text(text(cells))
        for name, words, until in (("check", ["check", str(file)], ""), ("start", [str(file)], "Running ")):
            seconds, size = command(*words, folder=results.parent, until=until)
            found.setdefault(name, []).append(seconds)
            memory = max(memory, size)
        parsed: list[Suite] = []
        found.setdefault("suite.read", []).append(timed(lambda f=file, p=parsed: p.append(suite.read(f))))
        fill(parsed[0], results)
        for name, step in steps(parsed[0], results):
            found.setdefault(name, []).append(timed(step))
        seconds, size = command("report", str(file), folder=results.parent)
        found.setdefault("report", []).append(seconds)
        memory = max(memory, size)
    return found, memory


def page(found: dict[str, list[float]], memory: float, resident: list[float]) -> tuple[str, list[str]]:
    """The figures as Markdown, and what breaks a limit."""
    wrong = [f"{name} takes {found[name][-1]:.1f} s" for name, most in LIMITS.items() if found[name][-1] > most]
    wrong += [f"{name} grows too fast" for name, t in found.items() if t[-1] > 1 and exponent(t) > GROWTH]
    wrong += [f"a command needs {memory / 1e9:.2f} GB"] if memory > MEMORY else []
    settled = resident[len(resident) // 10]
    grown = (resident[-1] - settled) / settled
    wrong += [f"a worker grows by {100 * grown:.0f} %"] if grown > 0.1 else []
    lines = ["# Load", "", f"`python benchmarks/load.py` on {os.cpu_count()} cores, {platform.machine()}.", ""]
    lines += ["Processor seconds: what it takes on a core of its own, whatever else the machine does.", ""]
    lines += [
        "| processor seconds for cells | " + " | ".join(f"{n:,}" for n in SIZES) + " | exponent |",
        "|---|" + "---|" * 4,
    ]
    lines += [f"| {n} | {' | '.join(f'{t:.2f}' for t in ts)} | {exponent(ts):.2f} |" for n, ts in found.items()]
    lines += ["", f"Largest memory of a command: {memory / 1e6:.0f} MB."]
    lines += [f"A worker after {len(resident) // 10} runs: {settled / 1e6:.0f} MB; after {len(resident)}: "]
    lines[-1] += f"{resident[-1] / 1e6:.0f} MB."
    lines += ["", "Limits: " + ("; ".join(wrong) if wrong else "all kept.")]
    return "\n".join(lines) + "\n", wrong


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        found, memory = sizes(Path(name))
    visible_labels, wrong = page(found, memory, soak(SOAK))
    print(visible_labels)
    records.write_text(ROOT / "benchmarks" / "results" / "load.md", visible_labels)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
