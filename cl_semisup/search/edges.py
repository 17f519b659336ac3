"""Where a setting stops working: bracket and bisect on a ladder of values, for any oracle that says how a rung does.

A loss is searched in all its repetitions together. In each, a rung is good if its run ended ok, keeps a share of the
best level's score above chance, and has at least half of that level's gain over the untrained network: a single run has
no interval that could tell whether it is weak, and near the untrained network a comparison with 0 is a toss of a coin.
Both conditions are one bar. The best level is a mean over the rungs near the best one, and which one is best is decided
by the other repetitions, so that noise that has won does not raise the bar. The mean is that of all repetitions, moved
by how far this one is above them on the plateau: so a level rests on every run there and not on three.

How far a run is from the bar is its vote: 1 at the best level and above, 0 at the bar, -1 as far below, and -1 for a
run that collapsed or diverged. Votes are averaged over the repetitions; between rungs that were tried, a repetition's
votes are interpolated, and beyond them they stay. The stable region is the stretch of rungs with the largest sum of
votes, so its ends, the edges, part the ladder with the least contradiction, and a rung on the wrong side is outvoted by
those beyond it. The edges of a full grid are the same with all rungs tried.

    1. the first repetition: a coarse ladder (one rung a decade), or what a neighbouring search has found: its best
       rung, its edges and the rungs beyond them
    2. while the outermost rung tried is in the region: further out, in steps that double, to the end of the ladder
    3. both ends of the region are bisected until the two rungs are next to each other, and so is every other change
       from a clear yes to a clear no: verdicts are not monotone there, which is told
    4. all repetitions: both edges, the rungs beyond, those of the best level, those clearly on the wrong side, and
       clear changes as in 3. The region is fitted anew to all of them, and its edges are followed, until nothing of
       this is missing; one repetition has tried the rung below, too

What is asked next is a function of the outcomes so far. So an interrupted search goes on, and a second process asks the
same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Self

import numpy as np

from cl_semisup.suite.search import Edge

MIN_LIFT = 0.5  # of the best level's gain over the untrained network; halfway is where verdicts are surest
LEVEL_RUNGS = 3  # that a best level is measured on
PLATEAU = 0.95  # of the best level: rungs on which repetitions are compared with each other
CLEAR = 1.5  # difference of two votes that contradict each other beyond noise
SURE = 0.25  # of a vote: nearer to the bar, what is beyond an edge is tried one rung on, and elsewhere it is noise


@dataclass(frozen=True)
class Outcome:
    """How a rung did.

    Args:
        status: ok, collapsed or diverged
        gain: score above chance, a fraction
        lift: score above the untrained network of the same repetition
    """

    status: str
    gain: float = 0.0
    lift: float = 0.0


Outcomes = Mapping[int, Outcome]  # of the rungs that a repetition has tried


@dataclass(frozen=True)
class Ladder:
    """Rungs 0 to count - 1.

    Args:
        per_decade: rungs in a factor of ten
        share: of the best gain that a good rung keeps
    """

    count: int
    per_decade: int
    share: float = 0.9

    @classmethod
    def of(cls, search: Edge) -> Self:
        return cls(len(search.values), search.per_decade, search.share)

    @property
    def reach(self) -> int:
        """Rungs to each side of the best one that belong to the best level: three quarters of a decade in all."""
        return 3 * self.per_decade // 8

    @property
    def coarse(self) -> int:
        """Rungs between two of the first ones that a search tries: a decade, less where the ladder is short."""
        return min(self.per_decade, max((self.count - 1) // 3, 1))

    @property
    def first(self) -> set[int]:
        """What a search begins with."""
        return self.every(self.coarse)

    def every(self, step: int) -> set[int]:
        """Every so many rungs, and both ends."""
        return {*range(0, self.count, step), self.count - 1}

    def around(self, rung: int) -> set[int]:
        """The rungs of a best level around this one."""
        return self.within(range(rung - self.reach, rung + self.reach + 1))

    def within(self, rungs: Iterable[int]) -> set[int]:
        """Those of these rungs that exist."""
        return {rung for rung in rungs if 0 <= rung < self.count}


@dataclass(frozen=True)
class Region:
    """What a search has found.

    Args:
        low, high: the edges; -1 if no rung is good
        best: the rung around which scores are best; -1 if none is good
        exceptions: good rungs outside of the region and bad ones inside: the verdicts are not monotone
        tried: all rungs that were asked
    """

    low: int
    high: int
    best: int
    exceptions: tuple[int, ...]
    tried: tuple[int, ...]

    @property
    def found(self) -> bool:
        return self.best >= 0


NOTHING = Region(-1, -1, -1, (), ())


@dataclass(frozen=True)
class Fit:
    """All repetitions of a loss together.

    Args:
        region: what fits their mean vote best
        mean: that vote, by rung tried in any of them
        regions: of each repetition, what fits its own votes best
        words: of each repetition, rung by rung: `good`, or why not: diverged, collapsed, weak (too near the untrained
            network), low (below the share of the best level)
    """

    region: Region
    mean: dict[int, float]
    regions: tuple[Region, ...]
    words: tuple[dict[int, str], ...]


def fit(tables: Sequence[Outcomes], ladder: Ladder) -> Fit:
    """The stable region of a loss from the outcomes of its repetitions, some of which may have none yet."""
    best, levels = _best_levels(tables, ladder)
    judged = [_judge(table, level, ladder.share) for table, level in zip(tables, levels, strict=True)]
    votes = [one for one, _ in judged]
    region, mean = _fit_votes(votes, best)
    regions = tuple(_fit_votes([one], best)[0] for one in votes)
    return Fit(region, mean, regions, tuple(words for _, words in judged))


def region(table: Outcomes, ladder: Ladder) -> Region:
    """The stable region of one repetition alone."""
    return fit([table], ladder).region


def _fit_votes(votes: Sequence[dict[int, float]], best: int) -> tuple[Region, dict[int, float]]:
    """The region that these votes agree on, and the mean vote of every rung tried."""
    tried = sorted(set().union(*votes))
    if not tried:
        return NOTHING, {}
    means = _mean_votes(votes, np.arange(tried[0], tried[-1] + 1))
    low, high = (end + tried[0] for end in _largest_sum(means))
    mean = {rung: float(means[rung - tried[0]]) for rung in tried}
    inside = [rung for rung in tried if low <= rung <= high]
    if not inside:
        return Region(-1, -1, -1, (), tuple(tried)), mean
    exceptions = tuple(rung for rung in tried if (mean[rung] >= 0) != (rung in inside))
    return Region(inside[0], inside[-1], best, exceptions, tuple(tried)), mean


def _best_levels(tables: Sequence[Outcomes], ladder: Ladder) -> tuple[int, list[float]]:
    """The rung around which gains are best, and the best level of every repetition.

    The rung is the best of the other repetitions, or its own if a repetition is alone, among rungs that all have tried.
    Rungs that broke have no gain. Without rungs in common a level is the best gain of the repetition.
    """
    gains = [{rung: one.gain for rung, one in table.items() if one.status == "ok"} for table in tables]
    started = [n for n, table in enumerate(tables) if table]
    shared = set.intersection(*(set(tables[n]) for n in started)) if started else set()
    around = {rung: shared & ladder.around(rung) for rung in sorted(shared)}
    enough = min(2, max(map(len, around.values()), default=0))
    means = {
        rung: [fmean(own) if (own := [gain[r] for r in near if r in gain]) else None for gain in gains]
        for rung, near in around.items()
        if len(near) >= enough and any(rung in gain for gain in gains)
    }
    if not means:
        alone = gains[started[0]] if started else {}
        highest = [max(gain.values(), default=0.0) for gain in gains]
        return max(sorted(alone), key=alone.__getitem__, default=-1), highest

    def best_of(among: Sequence[int]) -> int:
        return max(means, key=lambda rung: fmean([means[rung][n] or 0.0 for n in among]))

    best, levels = best_of(started), []
    pooled = {r: fmean(gains[n][r] for n in started) for r in shared if all(r in gains[n] for n in started)}
    top = [pooled[r] for r in around[best] if r in pooled]
    plateau = [r for r in pooled if top and pooled[r] >= PLATEAU * fmean(top)]
    for n, gain in enumerate(gains):
        rung = best_of([other for other in started if other != n] or [n])
        level, near = means[rung][n], [pooled[r] for r in around[rung] if r in pooled]
        if n in started and near and len(plateau) >= LEVEL_RUNGS:
            level = fmean(near) + fmean(gain[r] - pooled[r] for r in plateau)
        levels.append(max(gain.values(), default=0.0) if level is None else level)
    return best, levels


def _judge(table: Outcomes, level: float, share: float) -> tuple[dict[int, float], dict[int, str]]:
    """The votes of one repetition, and what is wrong with each rung."""
    floor = next((one.gain - one.lift for one in table.values() if one.status == "ok"), 0.0)
    weak = floor + MIN_LIFT * (level - floor)
    bar = max(share * level, weak)
    margin = max(level - bar, 1e-9)
    votes, words = {}, {}
    for rung, one in table.items():
        vote = -1.0 if one.status != "ok" or level <= floor else (one.gain - bar) / margin
        short = "weak" if one.gain < weak or level <= floor else "low"
        votes[rung] = vote
        words[rung] = one.status if one.status != "ok" else "good" if vote >= 0 else short
    return votes, words


def _mean_votes(votes: Sequence[dict[int, float]], rungs: np.ndarray) -> np.ndarray:
    """(rungs,) votes, averaged over the repetitions; between rungs that one has tried they are interpolated, and beyond
    its last one it votes as there: a repetition that has gone on alone does not decide alone.
    """
    each = [np.interp(rungs, at, np.clip([own[rung] for rung in at], -1, 1)) for own in votes if (at := sorted(own))]
    return np.asarray(np.mean(each, axis=0))


def _largest_sum(votes: np.ndarray) -> tuple[int, int]:
    """First and last of the neighbouring entries with the largest sum above 0; (0, -1) if there are none."""
    best, ends, total, first = 0.0, (0, -1), 0.0, 0
    for i, vote in enumerate(votes):
        if total <= 0:
            total, first = 0.0, i
        total += float(vote)
        if total > best:
            best, ends = total, (first, i)
    return ends


def next_rungs(tables: Sequence[Outcomes], ladder: Ladder, neighbour: Region = NOTHING) -> list[set[int]]:
    """What each repetition tries next; nothing when the edges are found and checked, or when there are none.

    Args:
        tables: the outcomes of each repetition, the first one's first
        neighbour: what was found where a neighbouring setting has another value
    """
    first, *others = tables
    if not any(others) and (wanted := first_rungs(first, ladder, neighbour)):
        return [wanted, *(set() for _ in others)]
    together = fit(tables, ladder)
    if not together.region.found:
        everywhere = ladder.first
    else:
        shared = sorted(set.intersection(*(set(table) for table in tables)))
        everywhere = _towards(together.region, shared, ladder) or _check(together, shared, ladder)
    return [everywhere - table.keys() for table in tables]


def first_rungs(first: Outcomes, ladder: Ladder, neighbour: Region = NOTHING) -> set[int]:
    """What the first repetition tries before all others; nothing when both its edges are between neighbours."""
    if not first:
        if not neighbour.found:
            return ladder.first
        low, high = neighbour.low, neighbour.high
        return ladder.within((low - 1, low, high, high + 1)) | _at_level(neighbour.best, (), ladder)
    alone = fit([first], ladder)
    if not alone.region.found:
        coarse = (ladder.every(step) for step in (ladder.coarse, max(ladder.coarse // 2, 1)))
        return next(filter(None, (rungs - first.keys() for rungs in coarse)), set())
    if wanted := _at_level(alone.region.best, first, ladder):
        return wanted
    tried = alone.region.tried
    return (_towards(alone.region, tried, ladder) | _changes(alone.mean, tried)) - first.keys()


def _at_level(best: int, tried: Iterable[int], ladder: Ladder) -> set[int]:
    """Rungs for the best level, if those tried are too few."""
    near, known = ladder.around(best), set(tried)
    if len(near & known) >= min(LEVEL_RUNGS, len(near)):
        return set()
    return ladder.within((best - ladder.reach, best, best + ladder.reach)) - known


def _towards(region: Region, tried: Sequence[int], ladder: Ladder) -> set[int]:
    """Rungs that bring an edge between two neighbours: half way, or further out than all that were tried."""
    wanted = {(a + b) // 2 for a, b in pairwise(tried) if a <= region.high < b or a < region.low <= b}
    if len(tried) > 1 and region.high >= tried[-1]:
        wanted.add(min(tried[-1] + 2 * (tried[-1] - tried[-2]), ladder.count - 1))
    if len(tried) > 1 and region.low <= tried[0]:
        wanted.add(max(tried[0] - 2 * (tried[1] - tried[0]), 0))
    return wanted - set(tried)


def _changes(votes: Mapping[int, float], tried: Sequence[int]) -> set[int]:
    """Half way between neighbours of which one is clearly good and the other is not."""
    clear = ((a, b) for a, b in pairwise(tried) if votes[a] * votes[b] < 0 and abs(votes[a] - votes[b]) > CLEAR)
    return {(a + b) // 2 for a, b in clear}


def _check(found: Fit, shared: Sequence[int], ladder: Ladder) -> set[int]:
    """The best level; in all repetitions both edges and the rungs beyond, two where the first is not sure; and where
    verdicts are clearly not monotone, these rungs and the changes. The rung below an edge is tried once.
    """
    region = found.region
    exceptions = {rung for rung in region.exceptions if abs(found.mean[rung]) > SURE}
    wanted = _at_level(region.best, shared, ladder) | exceptions | _changes(found.mean, shared)
    for edge, step in ((region.low, -1), (region.high, 1)):
        wanted |= {edge, edge + step} | ({edge - step} - set(region.tried))
        if found.mean.get(edge + step, -1.0) > -SURE:
            wanted.add(edge + 2 * step)
    return ladder.within(wanted)


def search(
    requirements: Sequence[Callable[[int], Outcome]], ladder: Ladder, neighbour: Region = NOTHING
) -> list[dict[int, Outcome]]:
    """The whole search, with oracles that answer at once, one a repetition; what they answered."""
    tables: list[dict[int, Outcome]] = [{} for _ in requirements]
    while any(wanted := next_rungs(tables, ladder, neighbour)):
        for table, rungs, ask in zip(tables, wanted, requirements, strict=True):
            table |= {rung: ask(rung) for rung in sorted(rungs)}
    return tables
