"""How a metric changed over the updates of a reference, and its change points.

A change point is the best split of the series into two levels, if their means differ by more than CHANGE_POINT_Z
standard errors; both sides are then searched in turn. Metrics of the exact tiers have no noise: any change counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CHANGE_POINT_Z = 4.0
EXACT_NOISE = 1e-6  # relative noise of metrics without a standard error: they are stored with six digits
SPARK_CHARACTERS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class MetricSeries:
    """A metric of a loss over all updates that have it.

    Args:
        loss, metric: names
        values, errors: the metric and its standard error at each update
        change_points: indices at which a new level begins
        updates, commits: description and commit of each update
    """

    loss: str
    metric: str
    values: tuple[float, ...]
    errors: tuple[float, ...]
    change_points: tuple[int, ...]
    updates: tuple[str, ...]
    commits: tuple[str, ...]

    def describe(self, index: int) -> str:
        """The update in words, with the command that lists the commits since the update before it."""
        before, here = self.commits[max(index - 1, 0)], self.commits[index]
        log = f"; git log {before}..{here}" if before and here and before != here else ""
        return f"{self.values[index]:.5g} at {self.updates[index]}{log}"


def all_series(history: Sequence[dict[str, Any]]) -> list[MetricSeries]:
    """One series for every metric of every loss."""
    keys = dict.fromkeys(
        (loss, metric) for entry in history for loss, metrics in entry["figures"].items() for metric in metrics
    )
    series = []
    for loss, metric in keys:
        entries = [entry for entry in history if metric in entry["figures"].get(loss, {})]
        pairs = [entry["figures"][loss][metric] for entry in entries]
        values, errors = zip(*pairs, strict=True)
        noise = max(max(error, EXACT_NOISE * abs(value)) for value, error in pairs)
        updates = tuple(f"{e['at'][:10]} {e['commit'] or 'no commit'} ({e['reason']})" for e in entries)
        commits = tuple(entry["commit"] for entry in entries)
        points = tuple(change_points(values, noise))
        series.append(MetricSeries(loss, metric, values, errors, points, updates, commits))
    return series


def change_points(values: Sequence[float], noise: float, offset: int = 0) -> list[int]:
    """Indices (plus `offset`) at which a new level begins; `noise` is the standard error of one value."""
    if len(values) < 2:
        return []
    scores = [_split_z(values, split, noise) for split in range(1, len(values))]
    split = max(range(len(scores)), key=scores.__getitem__) + 1
    if scores[split - 1] <= CHANGE_POINT_Z:
        return []
    before, after = values[:split], values[split:]
    return [*change_points(before, noise, offset), offset + split, *change_points(after, noise, offset + split)]


def text(all_series: Sequence[MetricSeries]) -> str:
    """One line for each metric with its curve, first and last value; below it one line for each change point."""
    lines = []
    for series in all_series:
        curve = f"{sparkline(series.values)}  {series.values[0]:.5g} -> {series.values[-1]:.5g}"
        lines.append(f"{series.loss}, {series.metric}: {curve}" + ("" if series.change_points else "  no step"))
        lines += [f"    step to {series.describe(index)}" for index in series.change_points]
    return "\n".join(lines)


def sparkline(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return "".join(SPARK_CHARACTERS[round((v - low) / (high - low) * 7) if high > low else 3] for v in values)


def _split_z(values: Sequence[float], split: int, noise: float) -> float:
    """|difference of the means before and after the split| in standard errors."""
    before, after = values[:split], values[split:]
    difference = abs(sum(after) / len(after) - sum(before) / len(before))
    error = noise * (1 / len(before) + 1 / len(after)) ** 0.5
    return difference / error if error else math.inf if difference else 0.0
