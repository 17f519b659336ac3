"""A suite's runs through an engine: what is done is left alone, what is missing is claimed, run and written."""

import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from cl_semisup import protocol, records
from cl_semisup.execution.claims import Claims
from cl_semisup.records import Record
from cl_semisup.run import Run

POLL_SECONDS = 1.0  # how often the runs of another command on the same folder are looked for


class Engine(Protocol):
    """What executes runs: this machine's workers, or a cluster."""

    slots: int

    def submit(self, run: Run) -> None: ...
    def next(self) -> tuple[Run, Record, dict[str, Any]]: ...
    def cancel(self) -> None: ...


@dataclass
class Outcome:
    """How a command's runs ended: statuses of those it executed, and how many others had done before or meanwhile."""

    statuses: Counter[str] = field(default_factory=Counter)
    found: int = 0

    @property
    def failed(self) -> int:
        return self.statuses["failed"]


def missing(results: Path, runs: Iterable[Run], redo: str = "none") -> list[Run]:
    """Runs without a record, and those whose record is to be redone: none, failed, stale or all."""
    wanted = []
    for run in runs:
        path = records.path_of(results, run)
        if redo == "all" or not path.exists():
            wanted.append(run)
        elif redo == "failed" and records.read(path)["status"] == "failed":
            wanted.append(run)
        elif redo == "stale" and protocol.stale(records.read(path)):
            wanted.append(run)
    return wanted


def conduct(results: Path, todo: list[Run], engine: Engine) -> Outcome:
    """Execute the runs; records are written here and nowhere else, so an engine needs no shared folder.

    A run that another command has claimed is left to it and waited for. Any exception stops the engine; finished
    records stay.
    """
    outcome, claims = Outcome(), Claims(results)
    before = {run.id: _stamp(records.path_of(results, run)) for run in todo}
    waiting, elsewhere, flying = deque(todo), deque[Run](), 0
    bar = tqdm(total=len(todo), unit="run", disable=None, dynamic_ncols=True, mininterval=0.5)
    number, width = 0, len(str(len(todo)))
    try:
        while waiting or elsewhere or flying:
            while waiting and flying < engine.slots:
                run = waiting.popleft()
                if not claims.take(run.id):
                    elsewhere.append(run)
                elif _stamp(records.path_of(results, run)) != before[run.id]:
                    claims.release(run.id)  # another command has finished it since
                    outcome.found += 1
                    number += 1
                    bar.update()
                else:
                    engine.submit(run)
                    flying += 1
            if flying:
                run, record, curves = engine.next()
                flying -= 1
                records.write(results, run, record, curves)
                (results / "checkpoints" / f"{run.id}.pt").unlink(missing_ok=True)
                claims.release(run.id)
                outcome.statuses[record["status"]] += 1
                number += 1
                bar.update()
                with bar.external_write_mode(file=sys.stdout):
                    print(f"[{number:{width}}/{len(todo)}] {line(record)}", flush=True)
            elif elsewhere:
                time.sleep(POLL_SECONDS)
            waiting.extend(elsewhere)
            elsewhere.clear()
    finally:
        bar.close()
        engine.cancel()
        claims.release_all()
    return outcome


def line(record: Record) -> str:
    """One finished run in a line."""
    run, scores, cost = Run.from_dict(record["run"]), record["scores"], record["cost"]
    dataset, loss = run.cell
    budget = f"{run.label_fraction:g}" if run.label_fraction is not None else f"{run.labels_per_class}/class"
    asked = f"{dataset} {loss} labels={budget} r={run.repetition}"
    if run.epochs:
        asked += f" lr={run.learning_rate:g} bs={run.batch_size}"
    found = "  ".join(f"{name} {100 * scores[name]:.1f}" for name in ("knn_top1", "linear_top1") if name in scores)
    seconds = cost.get("train_seconds", 0.0) + cost.get("evaluation_seconds", 0.0)
    reason = f": {record['reason']}" if record["reason"] else ""
    return f"{asked}  {found or '-'}  {seconds:.1f} s  {record['status']}{reason}"


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
