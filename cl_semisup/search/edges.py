"""Where a setting stops working: bracket and bisect on a ladder of values, for any oracle that says how a rung does.

A rung is good if its run ended ok, above the untrained network, and keeps a share of the best score among the rungs
that were tried. The stable region is the stretch of good rungs around the best one; its ends are the two edges.

    1. a coarse ladder (one rung a decade), or what a neighbouring search has found: its best rung, its edges and the
       rungs beyond them
    2. while the outermost rung tried is good: further out, in steps that double, to the end of the ladder
    3. every change between good and bad is bisected until the two rungs are next to each other
    4. the rungs just inside both edges

Where the verdicts are not monotone, there are more than two changes. Step 3 narrows all of them, which fills in the
stretch in doubt; the rungs beyond the first bad one are reported as islands and do not move the edge.

What is asked next is a function of the outcomes so far. So an interrupted search goes on, and a second process asks the
same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Outcome:
    """How a rung did: `ok`, or why not (diverged, collapsed, weak), and its score above chance, a fraction."""

    verdict: str
    gain: float


@dataclass(frozen=True)
class Ladder:
    """Rungs 0 to count - 1.

    Args:
        coarse: rungs between two of the first ones that a search tries
        share: of the best gain that a good rung keeps
    """

    count: int
    coarse: int
    share: float = 0.9

    def every(self, step: int) -> tuple[int, ...]:
        """Every so many rungs, and both ends."""
        return tuple(sorted({*range(0, self.count, step), self.count - 1}))


@dataclass(frozen=True)
class Region:
    """What a search has found.

    Args:
        low, high: the edges; -1 if no rung is good
        best: the rung of the best score; -1 if none is good
        islands: good rungs outside of the stable region: the verdicts are not monotone
        tried: all rungs that were asked
    """

    low: int
    high: int
    best: int
    islands: tuple[int, ...]
    tried: tuple[int, ...]

    @property
    def found(self) -> bool:
        return self.best >= 0


def good_rungs(outcomes: Mapping[int, Outcome], share: float) -> list[int]:
    """The good ones among the rungs tried, ascending."""
    sound = {rung: one.gain for rung, one in outcomes.items() if one.verdict == "ok"}
    best = max(sound.values(), default=0.0)
    return sorted(rung for rung, gain in sound.items() if gain >= share * best)


def region(outcomes: Mapping[int, Outcome], share: float) -> Region:
    """The stable region among the rungs tried so far."""
    tried, good = tuple(sorted(outcomes)), set(good_rungs(outcomes, share))
    if not good:
        return Region(-1, -1, -1, (), tried)
    best = max(sorted(good), key=lambda rung: outcomes[rung].gain)
    low = high = at = tried.index(best)
    while low > 0 and tried[low - 1] in good:
        low -= 1
    while high < len(tried) - 1 and tried[high + 1] in good:
        high += 1
    inside = set(tried[low : high + 1])
    return Region(tried[low], tried[high], tried[at], tuple(sorted(good - inside)), tried)


def first_rungs(ladder: Ladder, neighbour: Region | None = None) -> tuple[int, ...]:
    """What a search tries first."""
    if neighbour is None or not neighbour.found:
        return ladder.every(ladder.coarse)
    low, high = neighbour.low, neighbour.high
    near = {low - 1, low, neighbour.best, high, high + 1}
    return tuple(sorted(rung for rung in near if 0 <= rung < ladder.count))


def next_rungs(outcomes: Mapping[int, Outcome], ladder: Ladder) -> tuple[int, ...]:
    """What to try next; () when the edges are found and checked, or when even half the coarse spacing finds none."""
    tried, good = sorted(outcomes), set(good_rungs(outcomes, ladder.share))
    if not good:
        for step in (ladder.coarse, max(ladder.coarse // 2, 1)):
            if left := tuple(rung for rung in ladder.every(step) if rung not in outcomes):
                return left
        return ()
    wanted = {(a + b) // 2 for a, b in pairwise(tried) if (a in good) != (b in good) and b - a > 1}
    wanted |= _further_out(tried, good, ladder.count)
    if not wanted:
        found = region(outcomes, ladder.share)
        wanted = {rung for rung in (found.low + 1, found.high - 1) if found.low < rung < found.high}
    return tuple(sorted(wanted - outcomes.keys()))


def _further_out(tried: list[int], good: set[int], count: int) -> set[int]:
    """Beyond the outermost rungs tried, as long as these are good."""
    wanted = set[int]()
    if tried[-1] in good and tried[-1] < count - 1:
        wanted.add(min(tried[-1] + 2 * _gap(tried, -2), count - 1))
    if tried[0] in good and tried[0] > 0:
        wanted.add(max(tried[0] - 2 * _gap(tried, 0), 0))
    return wanted


def _gap(tried: list[int], at: int) -> int:
    return tried[at + 1] - tried[at] if len(tried) > 1 else 1


def search(ask: Callable[[int], Outcome], ladder: Ladder, neighbour: Region | None = None) -> Region:
    """The whole search, with an oracle that answers at once."""
    outcomes: dict[int, Outcome] = {}
    rungs: Iterable[int] = first_rungs(ladder, neighbour)
    while rungs:
        outcomes |= {rung: ask(rung) for rung in rungs}
        rungs = next_rungs(outcomes, ladder)
    return region(outcomes, ladder.share)
