"""Where each loss stops learning: edges in decades, paired over repetitions, and the map of what was tried."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from operator import getitem
from typing import Self

from cl_semisup.report import wording
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.results.naming import RunNames
from cl_semisup.results.statistics import MeanCI, mean_ci
from cl_semisup.search.edges import NOTHING, Fit, Ladder, Outcome, Region, first_rungs, fit, next_rungs
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
    """One repetition of a loss at one batch size: what was tried and found.

    Args:
        outcomes, words: of the rungs tried, and whether they are good
        waiting: rungs that were asked and are not done
        region: what fits this repetition alone
        open: does the search of this loss go on?
    """

    task: str
    loss: str
    neighbour: float
    repetition: int
    outcomes: dict[int, Outcome]
    words: dict[int, str]
    waiting: tuple[int, ...]
    region: Region
    open: bool


@dataclass(frozen=True)
class EdgeRow:
    """A loss at one batch size; edges are log10 of the setting, differences and widths are decades.

    Edges are fitted to all repetitions together. Intervals are those of a jackknife over the repetitions: with E the
    value of all n of them and E_i that without i, the mean of n E - (n - 1) E_i has this t-interval.

    Args:
        fitted: the region of all repetitions
        high, low: the edges; `n` counts the repetitions that have a region of their own
        difference: of the upper edge to the baseline's; NaN where both reach the ladder's end
        bound: `≥` or `≤` if one of the two reaches the ladder's end
        width: from edge to edge, 0 without a stable region
        at_top, at_bottom: the region reaches the end of the ladder: the true edge may lie beyond
        tried, rungs: runs, and those of the full grid
        open: repetitions that are not finished; while there are any, edges are those of the first repetition
    """

    task: str
    loss: str
    neighbour: float
    repetitions: int
    fitted: Region
    high: MeanCI
    low: MeanCI
    difference: MeanCI
    bound: str
    width: MeanCI
    at_top: bool
    at_bottom: bool
    tried: int
    rungs: int
    open: int


def edge_lines(runs: Sequence[Run], search: Edge, outcomes: Outcomes) -> list[EdgeLine]:
    """Every line of a search, by task, loss, batch size and repetition."""
    found = lines(runs, search)[0]
    alike = {id(line): _at_first_rung(line.run, search) for line in found}
    names = RunNames(list(alike.values()))
    ladder, made = Ladder.of(search), []
    for (_, neighbour), group in groupby(found, key=lambda line: (line.chain, line.neighbour)):
        members = list(group)
        known = [{rung: one for rung, run in line.runs.items() if (one := outcomes.outcome(run))} for line in members]
        together = fit(known, ladder)
        waiting = [tuple(sorted(line.runs.keys() - table.keys())) for line, table in zip(members, known, strict=True)]
        goes_on = any(waiting) or any(next_rungs(known, ladder))
        for n, line in enumerate(members):
            run = alike[id(line)]
            (task,) = names.tasks(run)
            settings = (task, names.losses[run.id], neighbour, line.repetition)
            made.append(EdgeLine(*settings, known[n], together.words[n], waiting[n], together.regions[n], open=goes_on))
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
    logs, ladder = [math.log10(value) for value in search.values], Ladder.of(search)
    own = _Fits.of(group, ladder)
    top = len(logs) - 1

    def high(region: Region) -> float:
        return logs[region.high] if region.found else math.nan

    def low(region: Region) -> float:
        return logs[region.low] if region.found else math.nan

    difference, bound = MeanCI(), ""
    if base is not None and base is not group:
        theirs = _Fits.of(base, ladder)
        own_end, other_end = (one.together.region.high == top for one in (own, theirs))
        if not (own_end and other_end):
            pairs = [(high(a), high(b)) for a, b in zip(own.all, theirs.all, strict=False)]
            difference = _jackknife([a - b for a, b in pairs])
        bound = "≥ " if own_end else "≤ " if other_end else ""
    stable = sum(region.found for region in own.together.regions)
    return EdgeRow(
        task=group[0].task,
        loss=group[0].loss,
        neighbour=group[0].neighbour,
        repetitions=len(group),
        fitted=own.together.region,
        high=replace(_jackknife(list(map(high, own.all))), n=stable),
        low=replace(_jackknife(list(map(low, own.all))), n=stable),
        difference=difference,
        bound=bound,
        width=_jackknife([high(one) - low(one) if one.found else 0.0 for one in own.all]),
        at_top=own.together.region.high == top,
        at_bottom=own.together.region.low == 0,
        tried=sum(len(one.outcomes) for one in group),
        rungs=len(logs) * len(group),
        open=sum(one.open for one in group),
    )


@dataclass(frozen=True)
class _Fits:
    """What fits all repetitions of a loss, and what fits all but one of them."""

    together: Fit
    without: tuple[Region, ...]

    @property
    def all(self) -> tuple[Region, ...]:
        return self.together.region, *self.without

    @classmethod
    def of(cls, group: Sequence[EdgeLine], ladder: Ladder) -> Self:
        """Of a search that goes on, the first repetition alone once it is searched."""
        tables = [one.outcomes for one in group]
        if group[0].open:
            tables = [] if first_rungs(tables[0], ladder) else tables[:1]
        without = [fit([*tables[:n], *tables[n + 1 :]], ladder).region for n in range(len(tables) * (len(tables) > 1))]
        return cls(fit(tables, ladder) if tables else Fit(NOTHING, {}, (), ()), tuple(without))


def _jackknife(values: Sequence[float]) -> MeanCI:
    """The first value, with the interval of the pseudo-values that those without one repetition give."""
    of_all, without = values[0], values[1:]
    n = len(without)
    pseudo = mean_ci(n * of_all - (n - 1) * one for one in without)
    return MeanCI(of_all, math.nan if math.isnan(pseudo.mean) else pseudo.ci_half_width, max(n, 1))


def edge_table(task: str, rows: Sequence[EdgeRow], search: Edge, baseline: str) -> Table:
    """The edges of every loss on one task."""
    name, other = search.name, neighbour_axis(search).replace("_", " ")
    columns = [LOSS, Column(other, "the other axis")]
    columns.append(Column(f"largest {name}", "geometric mean of the upper edge over repetitions, interval as a factor"))
    if any(row.difference.n for row in rows):
        columns.append(Column(f"vs {baseline}, decades", "upper edge less the baseline's, paired by repetition"))
    columns += [
        Column(f"smallest {name}", "the lower edge, fitted to all repetitions"),
        Column("width, decades", "from edge to edge; 0 without a stable region"),
        Column("stable", "repetitions with a stable region of their own"),
        Column("not monotone", "rungs that are good outside of the region, or bad inside", optional=1),
        Column("runs", "runs that were tried, of those of the full grid", numeric=False, optional=1),
    ]
    with_difference = any(row.difference.n for row in rows)
    return Table(f"{task}: edges of {name}", tuple(columns), tuple(_entries(row, with_difference) for row in rows))


def _entries(row: EdgeRow, with_difference: bool) -> tuple[Entry, ...]:
    high = ("≥ " if row.at_top else "") + wording.format_learning_rate(row.high)
    low = ("≤ " if row.at_bottom else "") + wording.format_learning_rate(row.low)
    entries = [Entry(row.loss, row.loss), Entry(f"{row.neighbour:g}", row.neighbour)]
    entries.append(Entry(high if row.fitted.found else wording.DASH, row.high.mean))
    if with_difference:
        entries.append(Entry(_signed(row.difference, row.bound), row.difference.mean))
    entries.append(Entry(low if row.fitted.found else wording.DASH, row.low.mean))
    entries.append(Entry(wording.format_mean_ci(row.width), row.width.mean))
    unfinished = f", {row.open} open" if row.open else ""
    entries.append(Entry(f"{row.high.n}/{row.repetitions}{unfinished}", row.high.n))
    entries.append(Entry(str(len(row.fitted.exceptions)), len(row.fitted.exceptions)))
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
    judged, signs = line.words, []
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
        f"A run is good if it ends ok, keeps {search.share:g} of its best level above chance and half of that level's"
        " gain over the untrained network; how far it is from that is its vote, -1 for a broken one. The stable region"
        " is the stretch with the largest sum of votes, averaged over repetitions; its ends are the edges of"
        f" {search.name}. Rungs are a factor of {factor:.3g} apart."
    )
    factors = f"{wording.TIMES_OR_OVER} is the 95 % interval of a jackknife over repetitions, as a factor"
    found = [text, f"{factors}. Brackets in the map hold what fits a repetition alone."]
    if any(row.at_top or row.at_bottom for row in rows):
        found.append("≥ and ≤: the region reaches the end of the ladder. Widen the range to see.")
    if lacking := [row for row in rows if not row.open and not row.fitted.found]:
        spacing = 10 ** (max(search.per_decade // 2, 1) / search.per_decade)
        losses = ", ".join(sorted({row.loss for row in lacking}))
        found.append(
            f"Without a stable region: {losses}. A region narrower than a factor of {spacing:.3g} may have been missed."
        )
    if any(row.fitted.exceptions for row in rows):
        found.append(
            "Not monotone: rungs outside of the region that are good on average, or bad ones inside; others outvote"
            " them. Where repetition 0 goes from a clear yes to a clear no, the change is narrowed to two rungs."
        )
    if any(row.open for row in rows):
        found.append(
            "Open searches wait for runs that are missing, stale or failed; until then their edges are those of the"
            " first repetition, if that is searched."
        )
    return [*found, LEGEND]
