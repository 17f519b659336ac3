"""Time and memory of a report by number of records; both should grow linearly.

    python benchmarks/report.py 500 2000 10000

Records are synthetic, with curves as in a real run, in a temporary folder. Each report is made in a new process.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.suite.run import Named

ABOUT = """From records to every form of the report, in one process, imports included; then the page in a browser.
Records are made up, 8 losses on a grid of 5 learning rates, with curves as large as real ones."""
REPETITIONS, RATES, BUDGETS, LOSSES = 5, (0.03, 0.1, 0.3, 1.0, 3.0), (0.01, 0.02, 0.1, 0.2, 1.0), 8


def fill(results: Path, wanted: int) -> int:
    """Writes about `wanted` records and the snapshot of their suite; returns the number of records."""
    from tests.helpers.records import curves, grid, select, write

    datasets = max(1, round(wanted / (REPETITIONS * len(RATES) * len(BUDGETS) * LOSSES)))
    budgets = BUDGETS if wanted >= 1000 else BUDGETS[:2]
    losses = [f"loss_{i}" for i in range(LOSSES)]
    named: list[Named] = [{f"set_{i}": {}} for i in range(datasets)]
    runs = grid(["nt_xent", *losses[1:]], REPETITIONS, learning_rate=RATES, label_fraction=budgets, dataset=named)
    for run in runs:
        score = 0.5 + int(run.id[:2], 16) / 1000
        write(results, run, score, "diverged" if run.learning_rate == RATES[-1] else "ok", curves=curves())
    select(runs).save(results)
    return len(runs)


def measure(results: Path) -> None:
    """Makes the report and prints its time and memory, imports included, as JSON."""
    began = time.perf_counter()
    from cl_semisup import report
    from cl_semisup.results import snapshot

    made = report.make(results, snapshot.load(results, "made"))
    seconds, busy = time.perf_counter() - began, time.process_time()
    peak = _common.peak_memory() / 2**20
    size = next(path for path in made.files if path.suffix == ".html").stat().st_size / 1e6
    figures = {"seconds": seconds, "CPU seconds": busy, "peak MiB": peak, "report.html MB": size}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


def open_seconds(page: Path) -> float | None:
    """Seconds until a headless Chromium has loaded and laid out the page, median of 3; None without one."""
    from tests.helpers.browser import CHROMIUM, DRIVER, driven

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
    for wanted in [int(word) for word in sys.argv[1:]] or [500, 2000, 10_000]:
        with tempfile.TemporaryDirectory() as folder:
            count = fill(Path(folder), wanted)
            figures = _common.run_json(__file__, REPORT_RESULTS=folder)
            page_opens = open_seconds(Path(folder) / "made" / "report.html")
            rows.append({"records": count, **figures, "page opens in s": page_opens})
            print(rows[-1], file=sys.stderr, flush=True)
    print(_common.write("report", ABOUT, rows, ("pandas", "numpy", "scipy", "jinja2")))


if __name__ == "__main__":
    if "REPORT_RESULTS" in os.environ:
        measure(Path(os.environ["REPORT_RESULTS"]))
    else:
        main()
