"""The outcome tier: what whole runs end with, compared with the reference repetition by repetition.

A repetition names first weights, batches, views and labels, so the same repetition of unchanged code differs by
rounding only; that pairing is what gives a few repetitions their power. For every loss and quantity,

    D_r = mean over cells of (now - then) of repetition r;  t = mean_r D / (s / sqrt(n)),  s = max(sd_r D, margin / 4)

moved           p < a / 2 after Holm over all losses and quantities, and |mean D| > margin / 2
same            the 99 % interval of mean D is no wider than the margin to either side
inconclusive    neither: more repetitions would tell

There are two looks, at half and at all of the repetitions; the second is taken for those losses alone that the first
leaves inconclusive. With a = 1 % for both looks together the chance of any false alarm stays below 1 % a run of the
gate, whatever the number of losses. The floor under s keeps a handful of equal differences from looking certain.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from cl_semisup.gate.finding import INCONCLUSIVE, MOVED, SAME, Finding, rounded
from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run

FALSE_ALARMS = 0.01  # chance of any in a run of the gate
LOOKS = 2
SCORE_MARGIN = 0.01  # one point
LOSS_MARGIN = 0.005  # of the final loss
RATE_MARGIN = 1.0  # one step of the suite's learning rates
STABLE = "stable learning rates"
FINAL_LOSS = "final loss"
Ended = dict[str, Any]  # {"status": str, "loss": float | None, "scores": {name: float}}
Outcomes = dict[str, dict[str, list[Ended]]]  # loss -> cell -> ended, one a repetition
Execute = Callable[[Sequence[Run]], Mapping[str, Ended]]  # runs -> id -> how it ended


def ended(record: Record, curves: Mapping[str, Any]) -> Ended:
    """What is kept of a run: its status, its scores and the mean loss of the last tenth of training."""
    losses = curves.get("history", {}).get("loss", [])
    last = losses[-max(1, len(losses) // 10) :]
    final = rounded(float(np.mean(last))) if last and None not in last and record["status"] != "failed" else None
    scores = {name: rounded(value) for name, value in sorted(record["scores"].items())}
    found = {"status": record["status"], "loss": final, "scores": scores}
    return found | ({"reason": record["reason"]} if record["status"] == "failed" else {})


def measure(cells: Mapping[str, Mapping[str, list[Run]]], execute: Execute, first: int, last: int) -> Outcomes:
    """Repetitions [first, last) of all cells."""
    chosen = [run for of in cells.values() for runs in of.values() for run in runs[first:last]]
    found = execute(chosen)
    return {
        loss: {cell: [found[run.id] for run in runs[first:last]] for cell, runs in of.items()}
        for loss, of in cells.items()
    }


def check(
    cells: Mapping[str, Mapping[str, list[Run]]], then: Outcomes, execute: Execute
) -> tuple[list[Finding], Outcomes]:
    """Findings of both looks, and what was measured; the second look is for the losses in doubt alone."""
    repetitions = max((len(runs) for of in cells.values() for runs in of.values()), default=0)
    half = max(min(3, repetitions), math.ceil(repetitions / 2))
    now = measure(cells, execute, 0, half)
    findings = compare(then, now)
    doubtful = {finding.loss for finding in findings if finding.verdict == INCONCLUSIVE}
    if not doubtful or half == repetitions:
        return findings, now
    again = {loss: of for loss, of in cells.items() if loss in doubtful}
    more = measure(again, execute, half, repetitions)
    for loss, of in more.items():
        now[loss] = {cell: now[loss][cell] + repeated for cell, repeated in of.items()}
    second = compare(then, {loss: now[loss] for loss in doubtful}, tests=len(findings))
    kept = [finding for finding in findings if finding.loss not in doubtful or finding.verdict == MOVED]
    known = {(finding.loss, finding.quantity) for finding in kept}
    return kept + [finding for finding in second if (finding.loss, finding.quantity) not in known], now


def compare(then: Outcomes, now: Outcomes, tests: int | None = None) -> list[Finding]:
    """Findings of one look; `tests` is the size of the family where it is larger than what is compared."""
    rows = [(loss, *tested) for loss in now for tested in _differences(then.get(loss, {}), now[loss])]
    found = [paired(differences, margin) for *_, differences, margin in rows]
    adjusted = holm([test.p for test in found], tests)
    findings = []
    for (loss, quantity, before, after, _, margin), test, p in zip(rows, found, adjusted, strict=True):
        if p < FALSE_ALARMS / LOOKS and abs(test.mean) > margin / 2:
            verdict = MOVED
        else:
            verdict = SAME if test.half_width <= margin else INCONCLUSIVE
        note = f"{test.mean:+.3g} +- {test.half_width:.2g} (99 %), margin {margin:g}, n = {test.n}"
        findings.append(Finding("outcome", loss, "", quantity, before, after, verdict, test.t, note=note))
    return findings + [failure for loss in now for failure in _failures(loss, then.get(loss, {}), now[loss])]


@dataclass(frozen=True)
class Paired:
    """A paired t-test: mean difference, half its 99 % interval, t, two-sided p, pairs."""

    mean: float
    half_width: float
    t: float
    p: float
    n: int


def paired(differences: Sequence[float], margin: float) -> Paired:
    """Test of differences against 0; equal ones are taken for no more certain than sd = margin / 4."""
    n, mean = len(differences), float(np.mean(differences))
    if not np.any(differences):
        return Paired(0.0, 0.0, 0.0, 1.0, n)
    if n < 2:
        return Paired(mean, math.inf, 0.0, 1.0, n)
    error = max(float(np.std(differences, ddof=1)), margin / 4) / math.sqrt(n)
    t = mean / error
    return Paired(mean, float(stats.t.ppf(0.995, n - 1)) * error, t, float(2 * stats.t.sf(abs(t), n - 1)), n)


def holm(p: Sequence[float], tests: int | None = None) -> list[float]:
    """Adjusted p-values: any below a is a rejection at a family-wise error of a. Source: Holm 1979"""
    count, running = max(tests or 0, len(p)), 0.0
    adjusted = [1.0] * len(p)
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        running = max(running, min(1.0, (count - rank) * p[index]))
        adjusted[index] = running
    return adjusted


Tested = tuple[str, float, float, list[float], float]  # quantity, then, now, differences by repetition, margin


def _differences(then: Mapping[str, list[Ended]], now: Mapping[str, list[Ended]]) -> Iterable[Tested]:
    cells = [cell for cell in now if cell in then]
    n = min((min(len(now[cell]), len(then[cell])) for cell in cells), default=0)
    if not n:
        return
    for score in sorted({name for cell in cells for run in then[cell][:n] for name in run["scores"]}):
        before = _table([[_score(run, score) for run in then[cell][:n]] for cell in cells])
        after = _table([[_score(run, score) for run in now[cell][:n]] for cell in cells])
        yield score, _mean(before), _mean(after), list((after - before).mean(axis=0)), SCORE_MARGIN
    both = [c for c in cells if None not in [run["loss"] for run in (*then[c][:n], *now[c][:n])]]
    if both:
        before = _table([[run["loss"] for run in then[cell][:n]] for cell in both])
        after = _table([[run["loss"] for run in now[cell][:n]] for cell in both])
        scale = np.maximum(np.abs(before).mean(axis=1, keepdims=True), 1e-12)
        yield FINAL_LOSS, _mean(before), _mean(after), list(((after - before) / scale).mean(axis=0)), LOSS_MARGIN
    before, after = stable(then, n), stable({cell: now[cell] for cell in cells}, n)
    yield STABLE, _mean(before), _mean(after), list(after - before), RATE_MARGIN


def stable(cells: Mapping[str, list[Ended]], n: int) -> np.ndarray:
    """(n,) how many learning rates in a row, from the smallest up, end sound; mean over the other axes of the grid."""
    return np.mean([sound.sum(axis=0) for _, sound in _sound(cells, n)], axis=0)


def largest_stable(cells: Mapping[str, list[Ended]]) -> float:
    """The largest learning rate up to which every run of a loss ends sound; 0 if there is none."""
    n = min(map(len, cells.values()))
    return min(max([0.0, *rates[sound.all(axis=1)]]) for rates, sound in _sound(cells, n))


def _sound(cells: Mapping[str, list[Ended]], n: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """For each setting of the other axes: (rates,) ascending; (rates, n) are the runs up to there all sound?"""
    groups: dict[str, list[tuple[float, list[Ended]]]] = {}
    for cell, runs in cells.items():
        rate, _, rest = cell.partition(", ")
        groups.setdefault(rest, []).append((float(rate.removeprefix("lr ")), runs))
    for group in groups.values():
        ordered = sorted(group, key=lambda g: g[0])
        sound = np.array([[run["status"] == "ok" for run in runs[:n]] for _, runs in ordered])
        yield np.array([rate for rate, _ in ordered]), np.cumprod(sound, axis=0).astype(bool)


def _failures(loss: str, then: Mapping[str, list[Ended]], now: Mapping[str, list[Ended]]) -> Iterable[Finding]:
    """Runs that break where they did not: no statistics are needed."""
    for cell, runs in now.items():
        for before, run in zip(then.get(cell, []), runs, strict=False):
            if run["status"] == "failed" and before["status"] != "failed":
                yield Finding("outcome", loss, cell, "status", None, None, MOVED, note=run.get("reason", "failed"))
                break


def _score(run: Ended, name: str) -> float:
    """A run without a score, diverged or failed, counts as 0: it gives nothing to use."""
    return float(run["scores"].get(name) or 0.0)


def _table(rows: list[list[Any]]) -> np.ndarray:
    return np.array(rows, dtype=float)  # (cells, n)


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
