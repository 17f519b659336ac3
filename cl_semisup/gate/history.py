"""How a figure moved over the updates of a reference, and at which update it stepped.

A step is the best split of the series into two means, if these differ by more than FOUND standard errors; then either
side is searched in turn. Figures of the exact tiers have no noise, so any change of theirs is a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FOUND = 4.0
EXACT = 1e-6  # relative noise of figures without any: they are stored with six digits
SPARKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Series:
    """A figure of a loss over the updates that have it.

    Args:
        loss, figure: what it is of
        values, errors: at each update, with the standard error
        steps: indices at which a new level begins
        updates, commits: what was said at each update, and where
    """

    loss: str
    figure: str
    values: tuple[float, ...]
    errors: tuple[float, ...]
    steps: tuple[int, ...]
    updates: tuple[str, ...]
    commits: tuple[str, ...]

    def told(self, index: int) -> str:
        """An update in words, and the commits that lie between it and the one before."""
        before, here = self.commits[max(index - 1, 0)], self.commits[index]
        between = f"; git log {before}..{here}" if before and here and before != here else ""
        return f"{self.values[index]:.5g} at {self.updates[index]}{between}"


def series(history: Sequence[dict[str, Any]]) -> list[Series]:
    """Every figure of every loss."""
    keys = dict.fromkeys((loss, f) for entry in history for loss, of in entry["figures"].items() for f in of)
    found = []
    for loss, figure in keys:
        having = [entry for entry in history if figure in entry["figures"].get(loss, {})]
        pairs = [entry["figures"][loss][figure] for entry in having]
        values, errors = zip(*pairs, strict=True)
        noise = max(max(error, EXACT * abs(value)) for value, error in pairs)
        updates = tuple(f"{e['at'][:10]} {e['commit'] or 'no commit'} ({e['reason']})" for e in having)
        commits = tuple(entry["commit"] for entry in having)
        found.append(Series(loss, figure, values, errors, tuple(steps(values, noise)), updates, commits))
    return found


def steps(values: Sequence[float], noise: float, offset: int = 0) -> list[int]:
    """Indices at which a new level begins; `noise` is the standard error of one value."""
    if len(values) < 2:
        return []
    sizes = [_size(values, split, noise) for split in range(1, len(values))]
    split = max(range(len(sizes)), key=sizes.__getitem__) + 1
    if sizes[split - 1] <= FOUND:
        return []
    before, after = values[:split], values[split:]
    return [*steps(before, noise, offset), offset + split, *steps(after, noise, offset + split)]


def text(found: Sequence[Series]) -> str:
    """One line a figure: its course, first and last value, and its steps."""
    lines = []
    for one in found:
        course = f"{sparks(one.values)}  {one.values[0]:.5g} -> {one.values[-1]:.5g}"
        lines.append(f"{one.loss}, {one.figure}: {course}" + ("" if one.steps else "  no step"))
        lines += [f"    step to {one.told(index)}" for index in one.steps]
    return "\n".join(lines)


def sparks(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return "".join(SPARKS[round((v - low) / (high - low) * 7) if high > low else 3] for v in values)


def _size(values: Sequence[float], split: int, noise: float) -> float:
    before, after = values[:split], values[split:]
    apart = abs(sum(after) / len(after) - sum(before) / len(before))
    error = noise * (1 / len(before) + 1 / len(after)) ** 0.5
    return apart / error if error else float(apart > 0) * float("inf") if apart else 0.0
