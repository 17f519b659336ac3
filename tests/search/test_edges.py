"""Searches for edges against losses that are known: how near they come, and how many runs they take."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from cl_semisup.search import edges
from cl_semisup.search.edges import Ladder, Outcome, Region

LADDER = Ladder(count=41, coarse=8, share=0.9)  # 0.001 to 100 at 8 rungs a decade
Gain = Callable[[float], float | None]  # of a rung; None where the loss breaks


def made_loss(random: np.random.Generator) -> tuple[Gain, int, int]:
    """A loss that learns between two cliffs, best somewhere between them, and its true edges."""
    while True:
        low = random.uniform(-6, 34)
        high = low + random.uniform(4, 36)
        peak, drop = random.uniform(low, high), random.choice([0.0, 0.05, 0.08])

        def gain(
            rung: float, low: float = low, high: float = high, peak: float = peak, drop: float = drop
        ) -> float | None:
            side = high - peak if rung > peak else peak - low
            return 0.8 * (1 - drop * abs(rung - peak) / side) if low <= rung <= high else None

        if inside := [rung for rung in range(LADDER.count) if gain(rung) is not None]:
            return gain, inside[0], inside[-1]


def sound(gain: float) -> Outcome:
    """A run that ended ok, where the untrained network has 0.3 above chance."""
    return Outcome("ok", gain, gain - 0.3)


def oracle(gain: Gain, noise: np.ndarray) -> Callable[[int], Outcome]:
    def ask(rung: int) -> Outcome:
        value = gain(rung)
        return Outcome("diverged") if value is None else sound(value + noise[rung])

    return ask


def searches(number: int, deviation: float) -> Iterator[tuple[Region, int, int, bool]]:
    """Found region, true edges, and whether it is the first of its loss; the others start from it."""
    random = np.random.default_rng(0)
    for _ in range(number // 3):
        gain, low, high = made_loss(random)
        first: Region | None = None
        for _ in range(3):
            found = edges.search(oracle(gain, random.normal(0, deviation, LADDER.count)), LADDER, first)
            yield found, low, high, first is None
            first = first or found


@pytest.mark.parametrize("deviation", [0.0, 0.01])
def test_ten_thousand_searches_find_the_edges_with_a_third_of_the_runs(deviation: float) -> None:
    near, firsts, runs = [], [], []
    for found, low, high, first in searches(10_000, deviation):
        near.append(abs(found.low - low) <= 1 and abs(found.high - high) <= 1)
        runs.append(len(found.tried))
        firsts += [len(found.tried)] if first else []
    assert np.mean(near) >= 0.99
    assert np.mean(firsts) <= 0.35 * LADDER.count
    assert np.mean(runs) <= 0.22 * LADDER.count
    if not deviation:
        assert all(near)


def test_without_noise_a_search_finds_what_the_full_grid_finds() -> None:
    random = np.random.default_rng(1)
    for _ in range(300):
        gain, low, high = made_loss(random)
        ask = oracle(gain, np.zeros(LADDER.count))
        grid = edges.region({rung: ask(rung) for rung in range(LADDER.count)}, LADDER.share)
        found = edges.search(ask, LADDER)
        assert (found.low, found.high) == (grid.low, grid.high) == (low, high)


MEANING = {
    "o": sound(0.8),
    "p": sound(0.736),
    "-": sound(0.64),
    "w": sound(0.5),
    "x": Outcome("diverged"),
    "c": Outcome("collapsed"),
}


def outcomes(signs: str) -> dict[int, Outcome]:
    """`.` not tried, `o` best, `p` 92 %, `-` 80 %, `w` less than half of the best gain over the untrained network."""
    return {rung: MEANING[sign] for rung, sign in enumerate(signs) if sign != "."}


@pytest.mark.parametrize(
    ("signs", "asked"),
    [
        ("x...x...o...x", (6, 10)),  # both changes are bisected at once
        ("x...xo...ox.x", (6, 8)),  # edges found: the rungs just inside them
        ("x...xooo" + "x...x", ()),  # all rungs inside are there
        ("...xoo.......", (7,)),  # the outermost is good: further out, twice the last step
        ("...xoo.o.....", (11,)),  # and twice that again
        ("....o........", (2, 6)),
        ("o", ()),
        ("x...x...x...x", (2, 6, 10)),  # nothing is good: half the spacing
        ("x.x.x.x.x.x.x", ()),  # and then it ends
    ],
)
def test_what_is_asked_next(signs: str, asked: tuple[int, ...]) -> None:
    assert edges.next_rungs(outcomes(signs), Ladder(len(signs), 4)) == asked


def test_verdicts_that_are_not_monotone_are_told_and_filled_in() -> None:
    def ask(rung: int) -> Outcome:
        return sound(0.8 if rung < 20 else 0.78) if rung < 20 or 30 <= rung < 35 else Outcome("collapsed")

    found = edges.search(ask, LADDER)
    assert (found.low, found.high) == (0, 19)
    assert min(found.exceptions) == 30
    assert max(found.exceptions) == 34
    assert {19, 20, 29, 30, 34, 35} <= set(found.tried)  # every change is narrowed to neighbours


def test_every_edge_is_checked_one_rung_beyond_and_one_below() -> None:
    random = np.random.default_rng(2)
    for _ in range(200):
        gain, low, high = made_loss(random)
        tried = edges.search(oracle(gain, np.zeros(LADDER.count)), LADDER).tried
        for edge in (low, high):
            near = {rung for rung in (edge - 1, edge, edge + 1) if 0 <= rung < LADDER.count}
            assert near <= set(tried)


@pytest.mark.parametrize("outcome", [Outcome("diverged"), Outcome("collapsed"), Outcome("ok", 0.5, -0.01)])
def test_a_loss_that_works_nowhere_has_no_edge(outcome: Outcome) -> None:
    found = edges.search(lambda _: outcome, LADDER)
    assert not found.found
    assert len(found.tried) == 11  # one rung every half decade


def test_a_loss_that_works_everywhere_reaches_both_ends() -> None:
    found = edges.search(lambda _: sound(0.8), LADDER)
    assert (found.low, found.high) == (0, 40)
    assert len(found.tried) == 8  # one a decade, and one inside each end


@pytest.mark.parametrize(("share", "good"), [(0.9, "op"), (0.95, "o"), (0.79, "op-"), (0.1, "op-")])
def test_a_good_rung_keeps_its_share_and_half_of_the_gain(share: float, good: str) -> None:
    judged = edges.verdicts(outcomes("op-wxc"), share)
    assert "".join("op-wxc"[rung] for rung, verdict in judged.items() if verdict == "good") == good
    assert [judged[rung] for rung in (3, 4, 5)] == ["weak", "diverged", "collapsed"]


@pytest.mark.parametrize(
    ("signs", "ends", "exceptions"),
    [
        ("xooo-oooxx", (1, 7), (4,)),  # one that falls short is passed over
        ("xooowoooxx", (1, 7), (4,)),
        ("xpppcoooxx", (5, 7), (1, 2, 3)),  # one that is broken is not
        ("xppp--ooxx", (6, 7), (1, 2, 3)),  # nor are two
        ("xooo.-.oxx", (1, 3), (7,)),  # nor one whose neighbours are not known
        ("oooooooooo", (0, 9), ()),
        ("xxxxoxxxxx", (4, 4), ()),
    ],
)
def test_the_region_ends_at_a_broken_rung_or_at_two_that_fall_short(
    signs: str, ends: tuple[int, int], exceptions: tuple[int, ...]
) -> None:
    found = edges.region(outcomes(signs), 0.9)
    assert (found.low, found.high) == ends
    assert found.exceptions == exceptions


def slow_loss(random: np.random.Generator) -> tuple[Callable[[np.ndarray], dict[int, Outcome]], int, int]:
    """A loss whose scores rise and fall over a decade and more: its outcomes for given noise, and its true edges."""
    rise, fall, slope = random.uniform(2, 18), random.uniform(22, 44), random.uniform(1, 3)
    floor, best = random.uniform(0.6, 0.75), random.uniform(0.78, 0.9)
    rungs = np.arange(LADDER.count)
    clean = floor + (best - floor) / (1 + np.exp((rise - rungs) / slope)) / (1 + np.exp((rungs - fall) / slope))

    def table(noise: np.ndarray) -> dict[int, Outcome]:
        return {rung: Outcome("ok", score, score - floor) for rung, score in enumerate(clean + noise)}

    truth = edges.region(table(np.zeros(LADDER.count)), LADDER.share)
    return table, truth.low, truth.high


@pytest.mark.parametrize(("deviation", "near"), [(0.0, 0.98), (0.005, 0.98), (0.01, 0.94)])
def test_where_scores_fall_slowly_a_search_is_as_near_the_truth_as_the_grid(deviation: float, near: float) -> None:
    """One point of noise moves the edges of a full grid, too."""
    random = np.random.default_rng(0)
    searched, gridded = [], []
    for _ in range(700):
        table, low, high = slow_loss(random)
        noisy = table(random.normal(0, deviation, LADDER.count))
        for found, hits in ((edges.search(noisy.__getitem__, LADDER), searched), (edges.region(noisy, 0.9), gridded)):
            hits += [abs(found.low - low) <= 1, abs(found.high - high) <= 1]
    assert np.mean(searched) >= near
    assert np.mean(searched) >= np.mean(gridded) - 0.015


def test_a_neighbours_edges_are_found_again_with_few_runs() -> None:
    def ask(rung: int) -> Outcome:
        return sound(0.8) if 10 <= rung <= 30 else Outcome("diverged")

    first = edges.search(ask, LADDER)
    again = edges.search(ask, LADDER, first)
    assert (again.low, again.high) == (first.low, first.high) == (10, 30)
    assert len(again.tried) <= 7


@pytest.mark.parametrize("shift", [-14, -5, -1, 1, 5, 9])
def test_a_neighbour_whose_edges_lie_elsewhere_does_not_mislead(shift: int) -> None:
    first = Region(low=15, high=25, best=20, exceptions=(), tried=())

    def ask(rung: int) -> Outcome:
        return sound(0.8) if 15 + shift <= rung <= 25 + shift else Outcome("diverged")

    found = edges.search(ask, LADDER, first)
    assert (found.low, found.high) == (15 + shift, 25 + shift)
