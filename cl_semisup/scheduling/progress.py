"""What people see while a suite runs: on a terminal a bar below the finished runs, in a file or a cluster's log plain
lines alone. Both say how much is done, about how long the rest takes, and what is running."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from statistics import fmean

from tqdm import tqdm

from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run

BAR = "{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} runs{postfix}"  # a bar is cut at the terminal's width
BAR_SECONDS = 1.0  # between two looks of the bar while nothing finishes
LOG_SECONDS = 60.0  # between two lines of a log that say how far the suite is
SHOWN = 4  # running runs that are named


class Progress:
    """The progress of a command's runs; `tick` is called often and writes seldom."""

    def __init__(self, runs: Iterable[Run], clock: Callable[[], float] = time.monotonic):
        self.left = Counter(_kind(run) for run in runs)
        self.total, self.clock = self.left.total(), clock
        self.width = len(str(self.total))
        self.costs: defaultdict[str, list[float]] = defaultdict(list)
        self.running: dict[str, Run] = {}
        self.began = self.said = clock()
        self.bar = tqdm(total=self.total, disable=None, dynamic_ncols=True, bar_format=BAR, leave=False)

    @property
    def done(self) -> int:
        return self.total - self.left.total()

    def started(self, run: Run) -> None:
        self.running[run.id] = run
        self._draw()

    def found(self, run: Run) -> None:
        """Another command has done it."""
        self._one_less(run)

    def finished(self, run: Run, record: Record) -> None:
        """Print the run's line, above the bar if there is one."""
        self.running.pop(run.id, None)
        self.costs[_kind(run)].append(_spent(record))
        self._one_less(run)
        with self.bar.external_write_mode(file=sys.stdout):
            print(f"[{self.done:{self.width}}/{self.total}] {line(record)}", flush=True)

    def tick(self) -> None:
        """A moment has passed."""
        if self.clock() - self.said < (LOG_SECONDS if self.bar.disable else BAR_SECONDS):
            return
        self.said = self.clock()
        if self.bar.disable:
            print(
                f"{self.done} of {self.total} runs done in {words(self.clock() - self.began)}{self._now()}", flush=True
            )
        else:
            self._draw()

    def close(self) -> None:
        self.bar.close()

    def seconds_left(self) -> float | None:
        """The time so far, by what the runs left will cost over what those done have cost; None before the first.

        Runs cost what others like them did, or the mean of all; the ratio takes account of workers and of their start.
        """
        known = {kind: fmean(costs) for kind, costs in self.costs.items()}
        spent = sum(sum(costs) for costs in self.costs.values())
        if not spent:
            return None
        usual = spent / sum(map(len, self.costs.values()))
        to_spend = sum(known.get(kind, usual) * count for kind, count in self.left.items())
        return (self.clock() - self.began) * to_spend / spent

    def _one_less(self, run: Run) -> None:
        self.left[_kind(run)] -= 1
        self.bar.update()
        self._draw()

    def _draw(self) -> None:
        self.bar.set_postfix_str(self._now().removeprefix(", "))

    def _now(self) -> str:
        """`, about 3 minutes left, running: digits clop labels=0.1 r=0 lr=0.1 bs=64 and 3 more`"""
        left = self.seconds_left()
        text = "" if left is None else f", about {words(left)} left"
        runs = [asked(run) for run in self.running.values()]
        more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
        return text + (f", running: {'; '.join(runs[:SHOWN])}{more}" if runs else "")


def line(record: Record) -> str:
    """One finished run in a line."""
    scores = record["scores"]
    found = "  ".join(f"{name} {100 * scores[name]:.1f}" for name in ("knn_top1", "linear_top1") if name in scores)
    reason = f": {record['reason']}" if record["reason"] else ""
    run = Run.from_dict(record["run"])
    return f"{asked(run)}  {found or '-'}  {_seconds(record):.1f} s  {record['status']}{reason}"


def asked(run: Run) -> str:
    """What tells a run from the others of its suite."""
    dataset, loss = run.dataset_name, run.loss_name
    budget = f"{run.label_fraction:g}" if run.label_fraction is not None else f"{run.labels_per_class}/class"
    text = f"{dataset} {loss} labels={budget} r={run.repetition}"
    return f"{text} lr={run.learning_rate:g} bs={run.batch_size}" if run.epochs else text


def words(seconds: float) -> str:
    """`45 seconds`, `12 minutes`, `3.5 hours`"""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _kind(run: Run) -> str:
    """Runs of a kind cost about the same."""
    return repr((run.dataset, run.encoder, run.epochs, run.batch_size, run.loss_name))


def _seconds(record: Record) -> float:
    cost = record["cost"]
    return float(cost.get("train_seconds", 0.0) + cost.get("evaluation_seconds", 0.0))


def _spent(record: Record) -> float:
    """Its part of the time: of a training that several runs share, one share."""
    cost = record["cost"]
    return float(cost.get("train_seconds", 0.0) / cost.get("trained_for", 1) + cost.get("evaluation_seconds", 0.0))
