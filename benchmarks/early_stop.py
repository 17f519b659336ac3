"""Would early stopping have stopped a run that ended ok, and what does it save? On all published trainings.

    python benchmarks/early_stop.py                 # trains again what is published without curves; does not evaluate
    python benchmarks/early_stop.py --folder DIR    # keep what is known; another call goes on
    python benchmarks/early_stop.py --minutes 9     # train for so long, then write what is known
    python benchmarks/early_stop.py --curves DIR    # judge the stored curves of this results folder, too

Writes results/early_stop.md and early_stop.json. Published curves are judged as they are, by a harsher rule, which does
not ask whether the loss stands at its value for one point. The limits of the rule were chosen on these curves. Records
without curves are evidence of their own: each training is done again, with early stopping; on the processor that made a
record it is the same to the bit until it stops. Those that ended ok come in the order of risk, by turns the one whose
projections ended nearest to a single point and the one with the largest learning rate. Data that are not on this
machine are left out.
"""

import json
import sys
import time
from collections import Counter
from itertools import chain, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.errors import InputError
from cl_semisup.execution import training_groups
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.results import records, verdict
from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run
from cl_semisup.training.loop import Diverged

PUBLISHED = _common.ROOT / "results" / "published"
FOLDERS = {"features": "suites/data"}  # where the data of a published suite lie, if not in `data`
BROKE_BY_ITSELF = -1  # instead of the last step
Records = dict[str, Record]


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--folder", type=Path, help="for what is known; by default a temporary one")
    parser.add_argument("--minutes", type=float, default=1e6, help="for training")
    parser.add_argument("--curves", type=Path, nargs="*", default=[], help="more results folders with curves")
    options = parser.parse_args()
    published = {record["id"]: record for record in records.read_folder(PUBLISHED)}
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        trainings = ordered(published)
        known = train_again(trainings, folder / "last_steps.jsonl", time.monotonic() + 60 * options.minutes)
    save(trainings, published, known, stored([PUBLISHED, *options.curves]))


def stored(folders: list[Path]) -> str:
    """What the rule would have done to the runs of results folders whose curves are there, in words."""
    count: Counter[str] = Counter()
    saved = 0.0
    for folder in folders:
        for record in records.read_folder(folder):
            run = Run.from_dict(record["run"])
            history = records.read_curves(records.path_of(folder, run)).get("history") if run.epochs else None
            if not history or record["status"] not in ("ok", "collapsed"):
                continue
            loss, stds, total = history["loss"], history["feature_std"], len(history["loss"])
            hopeless = (n for n in range(1, total) if verdict.hopeless(loss[:n], stds[:n], lambda: None, True))
            point = next(hopeless, total)
            count[record["status"]] += 1
            count[f"{record['status']}, stopped"] += point < total
            saved += (1 - point / total) * (record["status"] == "collapsed")
    return (
        f" Of {count['ok']:,} runs with stored curves that ended ok, the harsher rule would have stopped"
        f" {count['ok, stopped']}; of {count['collapsed']:,} that collapsed it stops {count['collapsed, stopped']},"
        f" which saves {100 * saved / max(count['collapsed'], 1):.0f} % of the steps of these."
    )


def ordered(published: Records) -> list[TrainingGroup]:
    """Trainings without curves: those that broke first, then those where the rule might be wrong; long ones last."""
    runs = [Run.from_dict(one["run"]) for one in published.values() if one["run"]["epochs"]]
    has_curves = {run.id for run in runs if records.read_curves(records.path_of(PUBLISHED, run)).get("history")}
    trainings = [one for one in training_groups.group(runs) if one.runs[0].id not in has_curves]
    first = {training.id: published[training.runs[0].id] for training in trainings}
    broke = [one for one in trainings if first[one.id]["status"] != "ok"]
    ok = [one for one in trainings if first[one.id]["status"] == "ok"]
    nearest = sorted(ok, key=lambda one: first[one.id]["diagnostics"].get("projection_feature_std", 1.0))
    largest = sorted(ok, key=lambda one: -(one.runs[0].learning_rate or 0.0))
    turns = chain(*zip_longest(nearest, largest))
    distinct = {one.id: one for one in [*broke, *turns] if one is not None}
    return sorted(distinct.values(), key=lambda one: first[one.id]["cost"].get("train_seconds", 0.0) > 10)


def train_again(trainings: list[TrainingGroup], file: Path, deadline: float) -> dict[str, int]:
    """The last step of every training that the file knows, after doing more of them until the deadline."""
    known: dict[str, int] = dict(map(json.loads, file.read_text("utf-8").splitlines())) if file.exists() else {}
    executors: dict[str, Executor | None] = {}
    with file.open("a", encoding="utf-8") as kept:
        for training in trainings:
            if time.monotonic() > deadline:
                break
            name = training.runs[0].dataset_name
            if name not in executors:
                executors[name] = _executor(training.runs[0])
            executor = executors[name]
            if training.id in known or executor is None:
                continue
            try:
                known[training.id] = executor.train_only(training).step[-1]
            except Diverged:
                known[training.id] = BROKE_BY_ITSELF
            kept.write(json.dumps([training.id, known[training.id]]) + "\n")
            kept.flush()
    return known


def _executor(run: Run) -> Executor | None:
    """What trains on a run's data; None if they are not here."""
    folder = _common.ROOT / FOLDERS.get(run.dataset_name, "data")
    executor = Executor(Machine("cpu", str(folder), early_stop=True))
    try:
        executor.data(run)
    except InputError:
        return None
    return executor


def save(trainings: list[TrainingGroup], published: Records, known: dict[str, int], others: str) -> None:
    """Write the table: a row for each data set and status."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for training in trainings:
        for run in training.runs:
            record = published[run.id]
            row = rows.setdefault(
                (run.dataset_name, record["status"]),
                {
                    "data set": run.dataset_name,
                    "ended": record["status"],
                    "runs": 0,
                    "trained again": 0,
                    "stopped": 0,
                    "seconds": 0.0,
                    "saved": 0.0,
                },
            )
            row["runs"] += 1
            if training.id in known:
                seconds = record["cost"].get("train_seconds", 0.0) / record["cost"].get("trained_for", 1)
                steps = record["resolved"].get("steps", 0)
                done = known[training.id] + 1 if known[training.id] != BROKE_BY_ITSELF else steps
                row["trained again"] += 1
                row["stopped"] += done < steps
                row["seconds"] += seconds
                row["saved"] += seconds * (1 - done / steps) if steps else 0.0
    ordered_rows = [rows[key] for key in sorted(rows)]
    for row in ordered_rows:
        row["saved"] = f"{100 * row['saved'] / row['seconds']:.0f} %" if row["seconds"] else ""
        row["seconds"] = round(row["seconds"])
    _common.write("early_stop", about(ordered_rows, others), ordered_rows)


def about(rows: list[dict[str, Any]], others: str) -> str:
    """What the table shows, in words."""
    ok, broke = ([row for row in rows if (row["ended"] == "ok") == wanted] for wanted in (True, False))
    again, wrong = (sum(row[name] for row in ok) for name in ("trained again", "stopped"))
    broken, stopped = (sum(row[name] for row in broke) for name in ("trained again", "stopped"))
    return (
        f"{again + broken:,} of the {sum(row['runs'] for row in rows):,} runs that are published without curves were"
        " trained again."
        f" Of {again:,} that ended ok, early stopping would have stopped {wrong};"
        f" of {broken:,} that diverged or collapsed it stops {stopped}.{others}"
        " `seconds` are the published training times of what was trained again, `saved` the share of them that is not"
        " needed; what breaks by a value that is not finite ends by itself and saves nothing."
    )


if __name__ == "__main__":
    main()
