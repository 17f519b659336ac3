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


def oracle(gain: Gain, noise: np.ndarray) -> Callable[[int], Outcome]:
    def ask(rung: int) -> Outcome:
        value = gain(rung)
        return Outcome("diverged", 0.0) if value is None else Outcome("ok", value + noise[rung])

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


def outcomes(signs: str) -> dict[int, Outcome]:
    """`.` not tried, `o` best, `p` 92 %, `-` 80 %, `x` diverged, `w` weak."""
    meaning = {"o": ("ok", 0.8), "p": ("ok", 0.736), "-": ("ok", 0.64), "x": ("diverged", 0.0), "w": ("weak", 0.79)}
    return {rung: Outcome(*meaning[sign]) for rung, sign in enumerate(signs) if sign != "."}


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
        return Outcome("ok", 0.8 if rung < 20 else 0.78) if rung < 20 or 30 <= rung < 35 else Outcome("collapsed", 0.0)

    found = edges.search(ask, LADDER)
    assert (found.low, found.high) == (0, 19)
    assert found.islands
    assert min(found.islands) == 30
    assert max(found.islands) == 34
    assert {19, 20, 29, 30, 34, 35} <= set(found.tried)  # every change is narrowed to neighbours


def test_every_edge_is_checked_one_rung_beyond_and_one_below() -> None:
    random = np.random.default_rng(2)
    for _ in range(200):
        gain, low, high = made_loss(random)
        tried = edges.search(oracle(gain, np.zeros(LADDER.count)), LADDER).tried
        for edge in (low, high):
            near = {rung for rung in (edge - 1, edge, edge + 1) if 0 <= rung < LADDER.count}
            assert near <= set(tried)


@pytest.mark.parametrize("verdict", ["diverged", "collapsed", "weak"])
def test_a_loss_that_works_nowhere_has_no_edge(verdict: str) -> None:
    found = edges.search(lambda _: Outcome(verdict, 0.5), LADDER)
    assert not found.found
    assert len(found.tried) == 11  # one rung every half decade


def test_a_loss_that_works_everywhere_reaches_both_ends() -> None:
    found = edges.search(lambda _: Outcome("ok", 0.8), LADDER)
    assert (found.low, found.high) == (0, 40)
    assert len(found.tried) == 8  # one a decade, and one inside each end


def test_a_good_rung_keeps_its_share_of_the_best_score() -> None:
    assert edges.good_rungs(outcomes("op-xw"), 0.9) == [0, 1]
    assert edges.good_rungs(outcomes("op-xw"), 0.95) == [0]
    assert edges.good_rungs(outcomes("op-xw"), 0.79) == [0, 1, 2]


def test_a_neighbours_edges_are_found_again_with_few_runs() -> None:
    def ask(rung: int) -> Outcome:
        return Outcome("ok", 0.8) if 10 <= rung <= 30 else Outcome("diverged", 0.0)

    first = edges.search(ask, LADDER)
    again = edges.search(ask, LADDER, first)
    assert (again.low, again.high) == (first.low, first.high) == (10, 30)
    assert len(again.tried) <= 7


@pytest.mark.parametrize("shift", [-14, -5, -1, 1, 5, 9])
def test_a_neighbour_whose_edges_lie_elsewhere_does_not_mislead(shift: int) -> None:
    first = Region(low=15, high=25, best=20, islands=(), tried=())

    def ask(rung: int) -> Outcome:
        return Outcome("ok", 0.8) if 15 + shift <= rung <= 25 + shift else Outcome("diverged", 0.0)

    found = edges.search(ask, LADDER, first)
    assert (found.low, found.high) == (15 + shift, 25 + shift)
