#!/usr/bin/env python3
"""How long a report takes and how much memory it needs, over the number of records; cost should grow linearly.

    python benchmarks/report.py 500 2000 10000

Records are made up, in a temporary folder, in a process of their own; curves lie beside every record as in a real run.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record  # noqa: E402  (the checkout is on the path only now)

ABOUT = """From records to every form of the report, in one process, imports included; then the page in a browser.
Records are made up, 8 losses on a grid of 5 learning rates, with curves as large as real ones."""
REPETITIONS, RATES, BUDGETS, LOSSES = 5, (0.03, 0.1, 0.3, 1.0, 3.0), (0.01, 0.02, 0.1, 0.2, 1.0), 8


def fill(results: Path, count: int) -> int:
    """Write about `count` records and the snapshot of their suite; return their number."""
    from tests.helpers.records import curves, grid, select, write

    datasets = max(1, round(count / (REPETITIONS * len(RATES) * len(BUDGETS) * LOSSES)))
    budgets = BUDGETS if count >= 1000 else BUDGETS[:2]
    losses = [f"loss_{i}" for i in range(LOSSES)]
    choices = [{f"set_{i}": {}} for i in range(datasets)]
    runs = grid(["nt_xent", *losses[1:]], REPETITIONS, learning_rate=RATES, label_fraction=budgets, dataset=choices)
    for one in runs:
        score = 0.5 + int(one.id[:2], 16) / 1000
        write(results, one, score, "diverged" if one.learning_rate == RATES[-1] else "ok", curves=curves())
    select(runs).save(results)
    return len(runs)


def measure(results: Path) -> None:
    """Make the report and print its cost as JSON, imports included; to be run in a process of its own."""
    began = time.perf_counter()
    from cl_semisup import report
    from cl_semisup.results import snapshot

    written = report.make(results, snapshot.load(results, "made"))
    seconds, busy = time.perf_counter() - began, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = next(path for path in written.files if path.suffix == ".html").stat().st_size / 1e6
    measurements = {"seconds": seconds, "CPU seconds": busy, "peak MiB": peak, "report.html MB": size}
    print(json.dumps({name: round(value, 2) for name, value in measurements.items()}))


def load_seconds(page: Path) -> float | None:
    """Seconds until a headless Chromium has loaded and laid out the page, median of 3; None without one."""
    from tests.report.test_report_browser import CHROMIUM, DRIVER, driven

    if not (CHROMIUM and DRIVER):
        return None
    script = "document.body.getBoundingClientRect(); return performance.getEntriesByType('navigation')[0].loadEventEnd"
    with tempfile.TemporaryDirectory() as profile, driven(Path(profile)) as browser:
        times = []
        for _ in range(3):
            browser.open(page)
            times.append(browser.run(script) / 1000)
    return round(sorted(times)[1], 2)


def main() -> None:
    rows = []
    for size in [int(word) for word in sys.argv[1:]] or [500, 2000, 10_000]:
        with tempfile.TemporaryDirectory() as folder:
            count = fill(Path(folder), size)
            environment = os.environ | {"REPORT_RESULTS": folder}
            done = subprocess.run([sys.executable, __file__], env=environment, check=True, stdout=subprocess.PIPE)
            page_opens = load_seconds(Path(folder) / "made" / "report.html")
            rows.append({"records": count, **json.loads(done.stdout), "page opens in s": page_opens})
            print(rows[-1], file=sys.stderr, flush=True)
    print(_record.write("report", ABOUT, rows, ("pandas", "numpy", "scipy", "jinja2")))


if __name__ == "__main__":
    if "REPORT_RESULTS" in os.environ:
        measure(Path(os.environ["REPORT_RESULTS"]))
    else:
        main()
