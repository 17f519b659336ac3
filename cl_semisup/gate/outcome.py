"""The outcome tier: the results of whole runs, compared with the reference repetition by repetition.

A repetition fixes initial weights, batches, views and labels, so the same repetition of unchanged code differs only by
rounding. Because of this pairing a few repetitions suffice. For every loss and quantity,

    D_r = mean over cells of (current - reference) of repetition r
    t = mean_r D / (s / sqrt(n)),  s = max(sd_r D, margin / 4)

moved           p < a / 2 after Holm over all losses and quantities, and |mean D| > margin / 2
same            the 99 % interval of mean D is no wider than the margin to either side
inconclusive    neither: more repetitions are needed

The tier has two looks. The first takes half of the repetitions; losses that are then inconclusive get the other half.
With a = 1 % for both looks together the chance of any false alarm stays below 1 % for a run of the gate, whatever the
number of losses. The lower bound of s prevents that a few equal differences look certain.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from cl_semisup.gate.gate_check import CHANGED, INCONCLUSIVE, SAME, GateCheck, round_for_storage
from cl_semisup.results.records import Record
from cl_semisup.results.statistics import holm
from cl_semisup.suite.run import Run

FALSE_ALARM_RATE = 0.01  # chance of any false alarm in a run of the gate
LOOKS = 2
SCORE_MARGIN = 0.01  # one point
LOSS_MARGIN = 0.005  # of the final loss
RATE_MARGIN = 1.0  # one of the suite's learning rates
STABLE_RATES = "stable learning rates"
FINAL_LOSS = "final loss"
RunSummary = dict[str, Any]  # {"status": str, "loss": float | None, "scores": {name: float}}
CellSummaries = Mapping[str, list[RunSummary]]  # cell -> one for each repetition
RunSummaries = dict[str, dict[str, list[RunSummary]]]  # loss -> cell -> one for each repetition
Cells = Mapping[str, Mapping[str, list[Run]]]  # loss -> cell -> one run for each repetition
Execute = Callable[[Sequence[Run]], Mapping[str, RunSummary]]  # runs -> run id -> summary


def summarize(record: Record, curves: Mapping[str, Any]) -> RunSummary:
    """Status, scores and mean loss of the last tenth of training; the reason of a failed run."""
    losses = curves.get("history", {}).get("loss", [])
    last = losses[-max(1, len(losses) // 10) :]
    failed = record["status"] == "failed"
    loss = round_for_storage(float(np.mean(last))) if last and None not in last and not failed else None
    scores = {name: round_for_storage(value) for name, value in sorted(record["scores"].items())}
    summary = {"status": record["status"], "loss": loss, "scores": scores}
    return summary | ({"reason": record["reason"]} if failed else {})


def measure(all_cells: Cells, execute: Execute, start: int, stop: int) -> RunSummaries:
    """Repetitions [start, stop) of all cells."""
    summaries = execute([r for cells in all_cells.values() for runs in cells.values() for r in runs[start:stop]])
    return {
        loss: {cell: [summaries[run.id] for run in runs[start:stop]] for cell, runs in cells.items()}
        for loss, cells in all_cells.items()
    }


def run_checks(all_cells: Cells, reference: RunSummaries, execute: Execute) -> tuple[list[GateCheck], RunSummaries]:
    """Checks after both looks, and all summaries."""
    repetitions = max((len(runs) for cells in all_cells.values() for runs in cells.values()), default=0)
    half = max(min(3, repetitions), math.ceil(repetitions / 2))
    current = measure(all_cells, execute, 0, half)
    first_checks = compare(reference, current)
    open_losses = {check.loss for check in first_checks if check.status == INCONCLUSIVE}
    if not open_losses or half == repetitions:
        return first_checks, current
    open_cells = {loss: cells for loss, cells in all_cells.items() if loss in open_losses}
    for loss, cells in measure(open_cells, execute, half, repetitions).items():
        current[loss] = {cell: current[loss][cell] + summaries for cell, summaries in cells.items()}
    second_checks = compare(reference, {loss: current[loss] for loss in open_losses}, tests=len(first_checks))
    final = [check for check in first_checks if check.loss not in open_losses or check.status == CHANGED]
    decided = {(check.loss, check.quantity) for check in final}
    return final + [check for check in second_checks if (check.loss, check.quantity) not in decided], current


def compare(reference: RunSummaries, current: RunSummaries, tests: int = 0) -> list[GateCheck]:
    """Checks of one look; `tests` is the size of the family of tests if it is larger than what is compared."""
    rows = [(loss, *row) for loss in current for row in _paired_quantities(reference.get(loss, {}), current[loss])]
    results = [paired_t_test(differences, margin) for *_, differences, margin in rows]
    p_values = holm([result.p for result in results], tests)
    checks = []
    for (loss, quantity, before, after, _, margin), test, p in zip(rows, results, p_values, strict=True):
        if p < FALSE_ALARM_RATE / LOOKS and abs(test.mean) > margin / 2:
            status = CHANGED
        else:
            status = SAME if test.ci_half_width <= margin else INCONCLUSIVE
        note = f"{test.mean:+.3g} +- {test.ci_half_width:.2g} (99 %), margin {margin:g}, n = {test.n}"
        checks.append(GateCheck("outcome", loss, "", quantity, before, after, status, test.t, note=note))
    return checks + [check for loss in current for check in _new_failures(loss, reference.get(loss, {}), current[loss])]


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test: mean difference, half its 99 % interval, t, two-sided p, number of pairs."""

    mean: float
    ci_half_width: float
    t: float
    p: float
    n: int


def paired_t_test(differences: Sequence[float], margin: float) -> PairedTest:
    """Test of differences against 0; their standard deviation counts as margin / 4 if it is smaller."""
    n, mean = len(differences), float(np.mean(differences))
    if not np.any(differences):
        return PairedTest(0.0, 0.0, 0.0, 1.0, n)
    if n < 2:
        return PairedTest(mean, math.inf, 0.0, 1.0, n)
    error = max(float(np.std(differences, ddof=1)), margin / 4) / math.sqrt(n)
    t = mean / error
    return PairedTest(mean, float(stats.t.ppf(0.995, n - 1)) * error, t, float(2 * stats.t.sf(abs(t), n - 1)), n)


Row = tuple[str, float, float, list[float], float]  # quantity, reference, current, differences by repetition, margin


def _paired_quantities(reference: CellSummaries, current: CellSummaries) -> Iterable[Row]:
    cells = [cell for cell in current if cell in reference]
    n = min((min(len(current[cell]), len(reference[cell])) for cell in cells), default=0)
    if not n:
        return
    old, new = ({cell: summaries[cell][:n] for cell in cells} for summaries in (reference, current))
    for score in sorted(
        {name for side in (old, new) for runs in side.values() for run in runs for name in run["scores"]}
    ):
        before, after = (_scores(runs, score) for runs in (old, new))
        yield score, _mean(before), _mean(after), list((after - before).mean(axis=0)), SCORE_MARGIN
    complete = [cell for cell in cells if None not in [run["loss"] for run in (*old[cell], *new[cell])]]
    if complete:
        before, after = (np.array([[run["loss"] for run in runs[c]] for c in complete]) for runs in (old, new))
        scale = np.maximum(np.abs(before).mean(axis=1, keepdims=True), 1e-12)
        yield FINAL_LOSS, _mean(before), _mean(after), list(((after - before) / scale).mean(axis=0)), LOSS_MARGIN
    before, after = stable_rates(old, n), stable_rates(new, n)
    yield STABLE_RATES, _mean(before), _mean(after), list(after - before), RATE_MARGIN


def stable_rates(cells: CellSummaries, n: int) -> np.ndarray:
    """(n,) number of learning rates, from the smallest up, before a run is not ok; mean over the grid's other axes."""
    return np.mean([ok.sum(axis=0) for _, ok in _ok_up_to_rate(cells, n)], axis=0)


def largest_stable_rate(cells: CellSummaries) -> float:
    """The largest learning rate up to which all runs of a loss are ok; 0 if there is none."""
    n = min(map(len, cells.values()))
    return min(max([0.0, *rates[ok.all(axis=1)]]) for rates, ok in _ok_up_to_rate(cells, n))


def _ok_up_to_rate(cells: CellSummaries, n: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """For each setting of the other axes: (rates,) ascending, and (rates, n) bool: all runs up to this rate are ok."""
    groups: dict[str, list[tuple[float, list[RunSummary]]]] = {}
    for cell, runs in cells.items():
        rate, _, other_axes = cell.partition(", ")
        groups.setdefault(other_axes, []).append((float(rate.removeprefix("lr ")), runs))
    for group in groups.values():
        ordered = sorted(group, key=lambda pair: pair[0])
        ok = np.array([[run["status"] == "ok" for run in runs[:n]] for _, runs in ordered])
        yield np.array([rate for rate, _ in ordered]), np.cumprod(ok, axis=0).astype(bool)


def _new_failures(loss: str, reference: CellSummaries, current: CellSummaries) -> Iterable[GateCheck]:
    """Cells with a run that fails and did not before; no statistics are needed."""
    for cell, runs in current.items():
        for before, run in zip(reference.get(cell, []), runs, strict=False):
            if run["status"] == "failed" and before["status"] != "failed":
                note = run.get("reason", "failed")
                yield GateCheck("outcome", loss, cell, "status", None, None, CHANGED, note=note)
                break


def _scores(cells: CellSummaries, name: str) -> np.ndarray:
    """(cells, n); a run without the score, diverged or failed, counts as 0: its features are of no use."""
    return np.array([[run["scores"].get(name) or 0.0 for run in runs] for runs in cells.values()], dtype=float)


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
