"""What every benchmark writes: a table for people and the same figures as JSON, with machine, versions and command."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def write(name: str, about: str, rows: Sequence[Mapping[str, Any]], packages: Sequence[str] = ("torch",)) -> str:
    """Write results/<name>.md and .json; the Markdown comes back. Rows are dictionaries with the same keys."""
    made = {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in packages}},
        "commit": commit(),
    }
    versions = ", ".join(f"{package} {number}" for package, number in made["versions"].items())
    head = list(rows[0])
    lines = [
        f"# {name.replace('_', ' ').capitalize()}",
        "",
        about,
        "",
        f"`{made['command']}` on {made['machine']}; {versions}; commit {made['commit']}.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(_cell(row[key]) for key in head) + " |" for row in rows),
    ]
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps({**made, "rows": list(rows)}, indent=1) + "\n")
    return text


def machine() -> str:
    """Processor, cores that this process may use, and the GPU if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{processor()}, {cores} cores"
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        found += f", {sys.modules['torch'].cuda.get_device_name()}"
    return found


def processor() -> str:
    """Its name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit of this checkout, with a + where files have changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "-uno") else "")


def _cell(value: Any) -> str:
    """Three digits of a small figure, all of a large one."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
