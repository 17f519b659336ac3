"""Where each loss stops learning: edges in decades, paired over repetitions, and the map of what was tried."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import getitem

from cl_semisup.report import wording
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.results.naming import RunNames
from cl_semisup.results.statistics import MeanCI, mean_ci
from cl_semisup.search.edges import Ladder, Outcome, Region, next_rungs, region, verdicts
from cl_semisup.search.lines import lines, neighbour_axis
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Edge

SIGNS = {"good": "o", "low": "-", "weak": "w", "collapsed": "c", "diverged": "x"}
LEGEND = (
    "Rungs: . not tried, o good, - below its share of the best score, w too near the untrained network, c collapsed,"
    " x diverged, ? not done; [ ] hold the stable region."
)


@dataclass(frozen=True)
class EdgeLine:
    """One repetition of a loss at one batch size: what was tried and found."""

    task: str
    loss: str
    neighbour: float
    repetition: int
    outcomes: dict[int, Outcome]
    waiting: tuple[int, ...]  # rungs that were asked and are not done
    region: Region
    open: bool


@dataclass(frozen=True)
class EdgeRow:
    """A loss at one batch size, over repetitions; edges are log10 of the setting, differences and widths are decades.

    Args:
        high, low: the edges, over the repetitions with a stable region; `n` counts them
        difference: of the upper edge to the baseline's in the same repetition; NaN where both reach the ladder's end
        bound: `≥` or `≤` if one of the two reaches the ladder's end in some repetition
        width: from edge to edge, 0 without a stable region
        at_top, at_bottom: repetitions whose region reaches the end of the ladder: the true edge may lie beyond
        not_monotone: repetitions with good rungs outside the stable region
        tried, rungs: runs, and those of the full grid
        open: repetitions that are not finished
    """

    task: str
    loss: str
    neighbour: float
    repetitions: int
    high: MeanCI
    low: MeanCI
    difference: MeanCI
    bound: str
    width: MeanCI
    at_top: int
    at_bottom: int
    not_monotone: int
    tried: int
    rungs: int
    open: int


def edge_lines(runs: Sequence[Run], search: Edge, outcomes: Outcomes) -> list[EdgeLine]:
    """Every line of a search, by task, loss, batch size and repetition."""
    found = lines(runs, search)[0]
    alike = {id(line): _at_first_rung(line.run, search) for line in found}
    names = RunNames(list(alike.values()))
    ladder = Ladder(len(search.values), search.per_decade, search.share)
    made = []
    for line in found:
        run = alike[id(line)]
        known = {rung: one for rung, member in line.runs.items() if (one := outcomes.outcome(member))}
        waiting = tuple(sorted(line.runs.keys() - known.keys()))
        open_ = bool(waiting or next_rungs(known, ladder))
        (task,) = names.tasks(run)
        made.append(
            EdgeLine(
                task,
                names.losses[run.id],
                line.neighbour,
                line.repetition,
                known,
                waiting,
                region(known, search.share),
                open_,
            )
        )
    return sorted(made, key=lambda one: (one.task, one.loss, one.neighbour, one.repetition))


def _at_first_rung(run: Run, search: Edge) -> Run:
    """The run at the ladder's first value, so that the name of its loss does not depend on the rung."""
    settings = {search.axis[0]: copy.deepcopy(getattr(run, search.axis[0]))}
    reduce(getitem, search.axis[:-1], settings)[search.axis[-1]] = search.values[0]
    return replace(run, **settings)


def edge_rows(found: Sequence[EdgeLine], search: Edge, baseline: str) -> list[EdgeRow]:
    """Figures of merit of every loss at every batch size."""
    cells: dict[tuple[str, str, float], list[EdgeLine]] = {}
    for one in found:
        cells.setdefault((one.task, one.loss, one.neighbour), []).append(one)
    bases = {
        (task, neighbour): group
        for (task, loss, neighbour), group in cells.items()
        if loss.partition("(")[0] == baseline
    }
    return [_row(group, search, bases.get((group[0].task, group[0].neighbour))) for group in cells.values()]


def _row(group: Sequence[EdgeLine], search: Edge, base: Sequence[EdgeLine] | None) -> EdgeRow:
    logs = [math.log10(value) for value in search.values]
    done = [one for one in group if not one.open]
    stable = [one.region for one in done if one.region.found]
    highs = {one.repetition: logs[one.region.high] for one in done if one.region.found}
    difference, bound = MeanCI(), ""
    if base is not None and base is not group:
        theirs = {one.repetition: logs[one.region.high] for one in base if one.region.found and not one.open}
        pairs = [(highs[n], theirs[n]) for n in sorted(highs.keys() & theirs.keys())]
        own_end, other_end = (any(pair[side] == logs[-1] for pair in pairs) for side in (0, 1))
        if not (own_end and other_end):
            difference = mean_ci(own - other for own, other in pairs)
        bound = "≥ " if own_end else "≤ " if other_end else ""
    return EdgeRow(
        task=group[0].task,
        loss=group[0].loss,
        neighbour=group[0].neighbour,
        repetitions=len(group),
        high=mean_ci(highs.values()),
        low=mean_ci(logs[one.low] for one in stable),
        difference=difference,
        bound=bound,
        width=mean_ci(logs[r.high] - logs[r.low] if r.found else 0.0 for r in (one.region for one in done)),
        at_top=sum(one.high == len(logs) - 1 for one in stable),
        at_bottom=sum(one.low == 0 for one in stable),
        not_monotone=sum(bool(one.exceptions) for one in stable),
        tried=sum(len(one.outcomes) for one in group),
        rungs=len(logs) * len(group),
        open=sum(one.open for one in group),
    )


def edge_table(task: str, rows: Sequence[EdgeRow], search: Edge, baseline: str) -> Table:
    """The edges of every loss on one task."""
    name, other = search.name, neighbour_axis(search).replace("_", " ")
    columns = [LOSS, Column(other, "the other axis")]
    columns.append(Column(f"largest {name}", "geometric mean of the upper edge over repetitions, interval as a factor"))
    if any(row.difference.n for row in rows):
        columns.append(Column(f"vs {baseline}, decades", "upper edge beside the baseline's, paired by repetition"))
    columns += [
        Column(f"smallest {name}", "geometric mean of the lower edge over repetitions"),
        Column("width, decades", "from edge to edge; 0 in a repetition without a stable region"),
        Column("stable", "repetitions with a stable region"),
        Column("not monotone", "repetitions with good rungs outside the region, or bad ones inside", optional=1),
        Column("runs", "runs that were tried, of those of the full grid", numeric=False, optional=1),
    ]
    with_difference = any(row.difference.n for row in rows)
    return Table(f"{task}: edges of {name}", tuple(columns), tuple(_entries(row, with_difference) for row in rows))


def _entries(row: EdgeRow, with_difference: bool) -> tuple[Entry, ...]:
    high = ("≥ " if row.at_top else "") + wording.format_learning_rate(row.high)
    low = ("≤ " if row.at_bottom else "") + wording.format_learning_rate(row.low)
    entries = [Entry(row.loss, row.loss), Entry(f"{row.neighbour:g}", row.neighbour)]
    entries.append(Entry(high if row.high.n else wording.DASH, row.high.mean))
    if with_difference:
        entries.append(Entry(_signed(row.difference, row.bound), row.difference.mean))
    entries.append(Entry(low if row.low.n else wording.DASH, row.low.mean))
    entries.append(Entry(wording.format_mean_ci(row.width), row.width.mean))
    unfinished = f", {row.open} open" if row.open else ""
    entries.append(Entry(f"{row.high.n}/{row.repetitions}{unfinished}", row.high.n))
    entries.append(Entry(str(row.not_monotone), row.not_monotone))
    entries.append(Entry(f"{row.tried} of {row.rungs}", row.tried))
    return tuple(entries)


def _signed(decades: MeanCI, bound: str) -> str:
    """`+0.25 ± 0.10`, `≤ −0.50`"""
    if math.isnan(decades.mean):
        return wording.DASH
    sign = "+" if decades.mean >= 0.005 else ""
    return bound + sign + wording.format_mean_ci(decades).replace("-", wording.MINUS, 1)


def map_table(task: str, found: Sequence[EdgeLine], search: Edge) -> Table:
    """Which rungs were tried and how each did, a row a repetition."""
    other = neighbour_axis(search).replace("_", " ")
    columns = (LOSS, Column(other), Column("repetition"), Column("rungs", LEGEND, numeric=False))
    rows = tuple(
        (
            Entry(one.loss, one.loss),
            Entry(f"{one.neighbour:g}", one.neighbour),
            Entry(str(one.repetition), one.repetition),
            Entry(rungs_text(one, search)),
        )
        for one in found
    )
    first, last = search.values[0], search.values[-1]
    return Table(f"{task}: rungs tried, {search.name} from {first:g} to {last:g}", columns, rows)


def rungs_text(line: EdgeLine, search: Edge) -> str:
    """`x....x--[oo....o...oo]-x.x`, a sign a rung."""
    judged, signs = verdicts(line.outcomes, search.share), []
    for rung in range(len(search.values)):
        sign = SIGNS[judged[rung]] if rung in judged else "?" if rung in line.waiting else "."
        if line.region.found:
            sign = ("[" if rung == line.region.low else "") + sign + ("]" if rung == line.region.high else "")
        signs.append(sign)
    return "".join(signs)


def notes(rows: Sequence[EdgeRow], search: Edge) -> list[str]:
    """How to read the edges."""
    factor = 10 ** (1 / search.per_decade)
    text = (
        f"An edge is the last value of {search.name} at which a run ends ok, keeps {search.share:g} of its best score"
        f" above chance and half of its best gain over the untrained network. Rungs are a factor of {factor:.3g} apart."
    )
    factors = f"{wording.TIMES_OR_OVER} is their 95 % t-interval as a factor"
    found = [text, f"Edges are means of logarithms over repetitions; {factors}."]
    if any(row.at_top or row.at_bottom for row in rows):
        found.append("≥ and ≤: in some repetition the region reaches the end of the ladder. Widen the range to see.")
    if lacking := [row for row in rows if not row.open and row.high.n < row.repetitions]:
        spacing = 10 ** (max(search.per_decade // 2, 1) / search.per_decade)
        losses = ", ".join(sorted({row.loss for row in lacking}))
        found.append(
            f"Without a stable region in some repetition: {losses}. A region narrower than a factor of {spacing:.3g}"
            " may have been missed."
        )
    if any(row.not_monotone for row in rows):
        found.append(
            "Not monotone: beyond a rung that failed, others were good. A single rung that falls short of the score is"
            " passed over, anything else ends the region; each change of verdict is narrowed to neighbouring rungs."
        )
    if any(row.open for row in rows):
        found.append("Open searches wait for runs that are missing, stale or failed; their edges are not counted.")
    return [*found, LEGEND]
