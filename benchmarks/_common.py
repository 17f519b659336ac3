"""Shared by all benchmarks: command lines, timing, memory, runs of suites, and result files with tables."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
COMMAND = (sys.executable, str(ROOT / "benchmark.py"))


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is the script's docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


# time and memory ----------------------------------------------------------------------------------------------------


def timed(
    work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter, device: str = "cpu"
) -> tuple[float, Any]:
    """(seconds, result) of one call; on a GPU its kernels have ended before the clock is read again."""
    began = clock()
    result = work()
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
    return clock() - began, result


def repeated(
    work: Callable[[], Any],
    *,
    least: int,
    most: int,
    enough: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    device: str = "cpu",
) -> list[float]:
    """Seconds of each call: `least` calls, then more until they have taken `enough` seconds or there are `most`."""
    seconds: list[float] = []
    while len(seconds) < most and (len(seconds) < least or sum(seconds) < enough):
        seconds.append(timed(work, clock, device)[0])
    return seconds


def peak_memory() -> float:
    """Bytes of the largest resident set of this process so far."""
    import resource

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size * (1.0 if platform.system() == "Darwin" else 1024.0)


# subprocesses -------------------------------------------------------------------------------------------------------


def run_json(*words: str, python: str = sys.executable, **environment: str) -> Any:
    """Runs a Python script in a process of its own; the last line that it prints must be JSON."""
    command, variables = [python, *words], os.environ | environment
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
    return json.loads(done.stdout.splitlines()[-1])


def run_suite(suite: str, folder: Path, *words: str, **environment: str) -> tuple[float, list[dict[str, Any]]]:
    """Runs a suite, given as YAML or JSON text, in a folder; returns the seconds of the command and all records."""
    file = folder / "suite.yaml"
    folder.mkdir(exist_ok=True)
    file.write_text(suite)
    command = [*COMMAND, str(file), "--results", str(folder), *words]
    seconds, _ = timed(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)
    )
    paths = [path for path in folder.glob("records/*/*/*.json") if not path.name.endswith(".curves.json")]
    return seconds, [json.loads(path.read_text()) for path in paths]


def save_random_images(folder: Path, shape: Sequence[int], train: int, test: int) -> None:
    """random.npz for the data set `arrays`: random images of that shape with ten classes in turn."""
    import numpy

    random = numpy.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", train), ("test", test)):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, *shape), dtype=numpy.uint8)
        arrays[f"{part}_labels"] = numpy.arange(count) % 10
    numpy.savez(folder / "random.npz", **arrays)


# machine and versions -----------------------------------------------------------------------------------------------


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Processor, cores that this process may use, and the GPU if there is one."""
    description = f"{processor()}, {cores()} cores"
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        description += f", {sys.modules['torch'].cuda.get_device_name()}"
    return description


def processor() -> str:
    """The processor's name, or its architecture where the system has no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def commit() -> str:
    """The commit of this checkout, with a + if files had changed since at the first call."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "-uno") else "")


def command_line() -> str:
    """The command that runs this script."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


# tables and files ---------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: bool = False) -> str:
    """A Markdown table; with `numbers` all columns except the first are aligned to the right."""
    lines = [header, ["---", *["---:" if numbers else "---"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(format_cell, line)) + " |" for line in lines)


def format_cell(value: Any) -> str:
    """Three digits of a small float, all digits before the point of a large one."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def write(name: str, about: str, rows: Sequence[Mapping[str, Any]], packages: Sequence[str] = ("torch",)) -> str:
    """Writes rows with the same keys, machine, versions and command to results/<name>; returns the Markdown."""
    versions = {"python": platform.python_version(), **{name: installed_version(name) for name in packages}}
    made = {"command": command_line(), "machine": machine(), "versions": versions, "commit": commit()}
    told = ", ".join(f"{package} {number}" for package, number in versions.items())
    origin = f"`{made['command']}` on {made['machine']}; {told}; commit {made['commit']}."
    figures = table(list(rows[0]), [list(row.values()) for row in rows])
    text = page(name.replace("_", " ").capitalize(), about, origin, figures)
    save(name, text, {**made, "rows": list(rows)})
    return text


def page(title: str, *paragraphs: str) -> str:
    """Markdown with an empty line between title and paragraphs."""
    return "\n\n".join([f"# {title}", *paragraphs]) + "\n"


def save(name: str, markdown: str | None, data: Any = None) -> None:
    """Writes results/<name>.md and <name>.json; either may be None and is then left as it is."""
    RESULTS.mkdir(exist_ok=True)
    if markdown is not None:
        (RESULTS / f"{name}.md").write_text(markdown, "utf-8")
    if data is not None:
        (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def load(name: str) -> dict[str, Any]:
    """The data of results/<name>.json; {} if the file is missing."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else {}
