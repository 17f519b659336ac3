"""What people see while a suite runs: a bar below the finished runs on a terminal, plain lines in a file or a log.

Both show how many runs are done, about how long the rest takes, and what is running.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from statistics import fmean

from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run
from cl_semisup.system.progress_bar import progress_bar
from cl_semisup.text import show, visible

BAR = "{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} runs{postfix}"  # a bar is cut at the terminal's width
BAR_SECONDS = 1.0  # between two updates of the bar while no run finishes
LOG_SECONDS = 60.0  # between two lines of a log that say how far the suite is
MAX_NAMED_RUNS = 4  # running ones that are named


class Progress:
    """The progress of a command's runs; `refresh` is called often and writes seldom."""

    def __init__(self, runs: Iterable[Run], clock: Callable[[], float] = time.monotonic):
        self.left = Counter(cost_key(run) for run in runs)
        self.total, self.clock = self.left.total(), clock
        self.width = len(str(self.total))
        self.costs: defaultdict[str, list[float]] = defaultdict(list)
        self.running: dict[str, Run] = {}
        self.start_time = self.last_output = clock()
        self.bar = progress_bar(self.total, dynamic_ncols=True, bar_format=BAR, leave=False)

    @property
    def done(self) -> int:
        return self.total - self.left.total()

    def started(self, run: Run) -> None:
        self.running[run.id] = run
        self._draw()

    def done_elsewhere(self, run: Run) -> None:
        """Another command has finished the run."""
        self._count_down(run)

    def finished(self, run: Run, record: Record) -> None:
        """Print the run's line, above the bar if there is one."""
        self.running.pop(run.id, None)
        self.costs[cost_key(run)].append(_seconds(record, record["cost"].get("trained_for", 1)))
        self._count_down(run)
        with self.bar.external_write_mode(file=sys.stdout):
            show(f"[{self.done:{self.width}}/{self.total}] {format_record(record)}")

    def refresh(self) -> None:
        """Draw the bar again, or write a line to the log, if the last time is long enough ago."""
        if self.clock() - self.last_output < (LOG_SECONDS if self.bar.disable else BAR_SECONDS):
            return
        self.last_output = self.clock()
        if self.bar.disable:
            duration = format_duration(self.clock() - self.start_time)
            show(f"{self.done} of {self.total} runs done in {duration}{self._details()}")
        else:
            self._draw()

    def close(self) -> None:
        self.bar.close()

    def seconds_left(self) -> float | None:
        """Time so far x expected cost of the runs left / cost of the finished runs; None before the first has finished.

        A run is expected to cost the mean of similar runs, or of all. The ratio accounts for the number of workers and
        for their start.
        """
        means = {key: fmean(costs) for key, costs in self.costs.items()}
        spent = sum(sum(costs) for costs in self.costs.values())
        if not spent:
            return None
        mean = spent / sum(map(len, self.costs.values()))
        to_spend = sum(means.get(key, mean) * count for key, count in self.left.items())
        return (self.clock() - self.start_time) * to_spend / spent

    def _count_down(self, run: Run) -> None:
        self.left[cost_key(run)] -= 1
        self.bar.update()
        self._draw()

    def _draw(self) -> None:
        self.bar.set_postfix_str(self._details().removeprefix(", "))

    def _details(self) -> str:
        """`, about 3 minutes left, running: digits clop labels=0.1 r=0 lr=0.1 bs=64 and 3 more`"""
        left = self.seconds_left()
        text = "" if left is None else f", about {format_duration(left)} left"
        runs = [describe_run(run) for run in self.running.values()]
        more = f" and {len(runs) - MAX_NAMED_RUNS} more" if len(runs) > MAX_NAMED_RUNS else ""
        return text + (f", running: {'; '.join(runs[:MAX_NAMED_RUNS])}{more}" if runs else "")


def format_record(record: Record) -> str:
    """A finished run in one line."""
    scores = record["scores"]
    text = "  ".join(f"{name} {100 * scores[name]:.1f}" for name in ("knn_top1", "linear_top1") if name in scores)
    reason = f": {visible(record['reason'])}" if record["reason"] else ""
    run = Run.from_dict(record["run"])
    return f"{describe_run(run)}  {text or '-'}  {_seconds(record):.1f} s  {record['status']}{reason}"


def describe_run(run: Run) -> str:
    """The settings that distinguish the run from the others of its suite."""
    dataset, loss = run.dataset_name, run.loss_name
    budget = f"{run.label_fraction:g}" if run.label_fraction is not None else f"{run.labels_per_class}/class"
    text = f"{dataset} {loss} labels={budget} r={run.repetition}"
    return visible(f"{text} lr={run.learning_rate:g} bs={run.batch_size}" if run.epochs else text)


def format_duration(seconds: float) -> str:
    """`45 seconds`, `12 minutes`, `3.5 hours`"""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def cost_key(run: Run) -> str:
    """Runs with the same key cost about the same."""
    return repr((run.dataset, run.encoder, run.epochs, run.batch_size, run.loss_name))


def _seconds(record: Record, sharing: int = 1) -> float:
    """Training and evaluation, with the run's share of a training that `sharing` runs have in common."""
    cost = record["cost"]
    return float(cost.get("train_seconds", 0.0) / sharing + cost.get("evaluation_seconds", 0.0))
