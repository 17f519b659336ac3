"""Where a setting stops working: bracket and bisect on a ladder of values, for any oracle that says how a rung does.

Of the rungs tried, the best is the one with the highest score. A rung is good if its run ended ok, keeps a share of the
best one's score above chance, and has at least half of its gain over the untrained network: a single run has no
interval that could tell whether it is weak, and near the untrained network a comparison with 0 is a toss of a coin.

The stable region is the stretch of good rungs around the best one; its ends are the two edges. A single rung that falls
short of the score between good ones is taken for noise and does not end it; one that collapsed or diverged does.

    1. a coarse ladder (one rung a decade), or what a neighbouring search has found: its best rung, its edges and the
       rungs beyond them
    2. while the outermost rung tried is good: further out, in steps that double, to the end of the ladder
    3. every change between good and bad is bisected until the two rungs are next to each other
    4. the rungs just inside both edges; and where the rung beyond one only falls short of the score, the next one

Where the verdicts are not monotone, there are more than two changes. Step 3 narrows all of them, which fills in the
stretch in doubt; the rungs that contradict the region are reported as exceptions.

What is asked next is a function of the outcomes so far. So an interrupted search goes on, and a second process asks the
same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

MIN_LIFT = 0.5  # of the best rung's gain over the untrained network; halfway is where verdicts are surest
BROKEN = ("diverged", "collapsed")


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


def verdicts(outcomes: Mapping[int, Outcome], share: float) -> dict[int, str]:
    """Rung -> `good`, or why not: diverged, collapsed, weak (too near the untrained network), low (below the share)."""
    sound = {rung: one for rung, one in outcomes.items() if one.status == "ok"}
    best = max(sound.values(), key=lambda one: one.gain, default=Outcome("ok"))
    judged = {}
    for rung, one in outcomes.items():
        weak = one.lift <= 0 or one.lift < MIN_LIFT * best.lift
        judged[rung] = one.status if rung not in sound else "weak" if weak else "good"
        if judged[rung] == "good" and one.gain < share * best.gain:
            judged[rung] = "low"
    return judged


def region(outcomes: Mapping[int, Outcome], share: float) -> Region:
    """The stable region among the rungs tried so far."""
    tried, judged = tuple(sorted(outcomes)), verdicts(outcomes, share)
    good = {rung for rung, verdict in judged.items() if verdict == "good"}
    if not good:
        return Region(-1, -1, -1, (), tried)
    best = max(sorted(good), key=lambda rung: outcomes[rung].gain)
    low, high = (_end(best, tried[::step], judged) for step in (-1, 1))
    outside = {rung for rung in good if not low <= rung <= high}
    inside = {rung for rung in tried if low <= rung <= high} - good
    return Region(low, high, best, tuple(sorted(outside | inside)), tried)


def _end(best: int, tried: tuple[int, ...], judged: Mapping[int, str]) -> int:
    """The last good rung from the best one on, in the order of `tried`, past single ones that only fall short."""
    end = best
    beyond = tried[tried.index(best) + 1 :]
    for i, rung in enumerate(beyond):
        if judged[rung] == "good":
            end = rung
            continue
        after = beyond[i + 1] if i + 1 < len(beyond) else None
        passable = judged[rung] not in BROKEN and after is not None and judged[after] == "good"
        if not (passable and after is not None and abs(after - end) == 2):
            break
    return end


def first_rungs(ladder: Ladder, neighbour: Region | None = None) -> tuple[int, ...]:
    """What a search tries first."""
    if neighbour is None or not neighbour.found:
        return ladder.every(ladder.coarse)
    low, high = neighbour.low, neighbour.high
    near = {low - 1, low, neighbour.best, high, high + 1}
    return tuple(sorted(rung for rung in near if 0 <= rung < ladder.count))


def next_rungs(outcomes: Mapping[int, Outcome], ladder: Ladder) -> tuple[int, ...]:
    """What to try next; () when the edges are found and checked, or when even half the coarse spacing finds none."""
    tried, judged = sorted(outcomes), verdicts(outcomes, ladder.share)
    good = {rung for rung, verdict in judged.items() if verdict == "good"}
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
        for edge, step in ((found.low, -1), (found.high, 1)):
            if judged.get(edge + step) in ("weak", "low") and 0 <= edge + 2 * step < ladder.count:
                wanted.add(edge + 2 * step)
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
