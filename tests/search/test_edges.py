"""Searches for edges against losses that are known: how near they come, and how many runs they take."""

from collections.abc import Callable

import numpy as np
import pytest

from cl_semisup.search import edges
from cl_semisup.search.edges import Ladder, Outcome, Region

LADDER = Ladder(count=41, per_decade=8, share=0.9)  # 0.001 to 100 at 8 rungs a decade
Gain = Callable[[float], float | None]  # of a rung; None where the loss breaks
Table = Callable[[np.ndarray], dict[int, Outcome]]  # outcomes of all rungs for given noise
Maker = Callable[[np.random.Generator, Ladder], tuple[Table, int, int]]


def alone(ask: Callable[[int], Outcome], neighbour: Region = edges.NOTHING) -> Region:
    """What a search of one repetition finds."""
    return edges.region(edges.search([ask], LADDER, neighbour)[0], LADDER)


def made_loss(random: np.random.Generator, ladder: Ladder = LADDER) -> tuple[Gain, int, int]:
    """A loss that learns between two cliffs, best somewhere between them, and its true edges."""
    scale = ladder.count / LADDER.count
    while True:
        low = random.uniform(-6, 34) * scale
        high = low + random.uniform(4, 36) * scale
        peak, drop = random.uniform(low, high), random.choice([0.0, 0.05, 0.08])

        def gain(
            rung: float, low: float = low, high: float = high, peak: float = peak, drop: float = drop
        ) -> float | None:
            side = high - peak if rung > peak else peak - low
            return 0.8 * (1 - drop * abs(rung - peak) / side) if low <= rung <= high else None

        if inside := [rung for rung in range(ladder.count) if gain(rung) is not None]:
            return gain, inside[0], inside[-1]


def sound(gain: float) -> Outcome:
    """A run that ended ok, where the untrained network has 0.3 above chance."""
    return Outcome("ok", gain, gain - 0.3)


def oracle(gain: Gain, noise: np.ndarray) -> Callable[[int], Outcome]:
    def ask(rung: int) -> Outcome:
        value = gain(rung)
        return Outcome("diverged") if value is None else sound(value + noise[rung])

    return ask


def cliff(random: np.random.Generator, ladder: Ladder) -> tuple[Table, int, int]:
    """A loss that learns between two cliffs: its outcomes for given noise, and its true edges."""
    gain, low, high = made_loss(random, ladder)
    return lambda noise: {rung: oracle(gain, noise)(rung) for rung in range(ladder.count)}, low, high


def slow_loss(random: np.random.Generator, ladder: Ladder) -> tuple[Table, int, int]:
    """A loss whose scores rise and fall over a decade and more: its outcomes for given noise, and its true edges."""
    scale = ladder.count / LADDER.count
    rise, fall, slope = random.uniform(2, 18) * scale, random.uniform(22, 44) * scale, random.uniform(1, 3)
    floor, best = random.uniform(0.6, 0.75), random.uniform(0.78, 0.9)
    rungs = np.arange(ladder.count)
    clean = floor + (best - floor) / (1 + np.exp((rise - rungs) / slope)) / (1 + np.exp((rungs - fall) / slope))

    def table(noise: np.ndarray) -> dict[int, Outcome]:
        return {rung: Outcome("ok", score, score - floor) for rung, score in enumerate(clean + noise)}

    top = clean.max()
    good = np.nonzero(clean >= max(ladder.share * top, floor + edges.MIN_LIFT * (top - floor)))[0]
    return table, int(good[0]), int(good[-1])


def searches(made: Maker, number: int, deviation: float, ladder: Ladder = LADDER) -> dict[str, float]:
    """Of so many losses in three repetitions each: the share of edges within one rung of the truth, by search and by
    the full grid, and the runs of the search as a share of the grid's."""
    random = np.random.default_rng(0)
    right: dict[str, list[bool]] = {"search": [], "grid": []}
    runs = 0
    for _ in range(number):
        table, low, high = made(random, ladder)
        whole = [table(random.normal(0, deviation, ladder.count)) for _ in range(3)]
        found = edges.search([one.__getitem__ for one in whole], ladder)
        for name, tables in (("search", found), ("grid", whole)):
            region = edges.fit(tables, ladder).region
            right[name] += [abs(region.low - low) <= 1, abs(region.high - high) <= 1]
        runs += sum(map(len, found))
    return {name: float(np.mean(hits)) for name, hits in right.items()} | {"runs": runs / number / 3 / ladder.count}


@pytest.mark.parametrize(("made", "deviation"), [("cliff", 0.0), ("cliff", 0.01), ("slow", 0.005), ("slow", 0.01)])
def test_edges_of_three_repetitions_are_within_a_rung_in_99_percent_with_a_third_of_the_runs(
    made: str, deviation: float
) -> None:
    """`benchmarks/search_simulated.py` does the same with 10,000 searches."""
    found = searches({"cliff": cliff, "slow": slow_loss}[made], 250, deviation)
    assert found["search"] >= 0.99
    assert found["search"] >= found["grid"] - 0.01
    assert found["runs"] <= 0.35
    if not deviation:
        assert found["search"] == found["grid"] == 1


def test_without_noise_a_search_finds_what_the_full_grid_finds() -> None:
    random = np.random.default_rng(1)
    for _ in range(300):
        gain, low, high = made_loss(random)
        ask = oracle(gain, np.zeros(LADDER.count))
        grid = edges.region({rung: ask(rung) for rung in range(LADDER.count)}, LADDER)
        found = alone(ask)
        assert (found.low, found.high) == (grid.low, grid.high) == (low, high)


MEANING = {
    "o": sound(0.8),
    "p": sound(0.736),
    "~": sound(0.71),
    "-": sound(0.64),
    "w": sound(0.5),
    "x": Outcome("diverged"),
    "c": Outcome("collapsed"),
}


def outcomes(signs: str) -> dict[int, Outcome]:
    """`.` not tried, `o` best, `p` 92 %, `~` 89 %, `-` 80 %, `w` less than half of the best gain over the floor."""
    return {rung: MEANING[sign] for rung, sign in enumerate(signs) if sign != "."}


@pytest.mark.parametrize(
    ("signs", "asked"),
    [
        ("x...x...o...x", {7, 9}),  # the best level first
        ("x...x..ooo..x", {5, 10}),  # both changes are bisected at once
        ("x...xooox...x", set()),  # edges found, and the rungs just inside and beyond them are there
        ("x..xoooo-...x", set()),  # the same where the rung beyond clearly falls short
        ("x..xoooo~...x", {9}),  # where it is near the bar, the next one is tried
        ("...xooo......", {8}),  # the outermost is good: further out, twice the last step
        ("...xooo.o....", {12}),  # and twice that again
        ("o", set()),
        ("x...x...x...x", {2, 6, 10}),  # nothing is good: half the spacing
        ("x.x.x.x.x.x.x", set()),  # and then it ends
    ],
)
def test_what_is_asked_next(signs: str, asked: set[int]) -> None:
    assert edges.next_rungs([outcomes(signs)], Ladder(len(signs), 4)) == [asked]


@pytest.mark.parametrize(
    ("count", "per_decade", "step"), [(41, 8, 8), (25, 8, 8), (17, 8, 5), (13, 4, 4), (9, 4, 2), (3, 8, 1), (2, 8, 1)]
)
def test_a_search_begins_with_a_rung_a_decade_and_on_a_short_ladder_with_more(
    count: int, per_decade: int, step: int
) -> None:
    ladder = Ladder(count, per_decade)
    assert edges.next_rungs([{}], ladder) == [ladder.every(step)]


def test_other_repetitions_begin_around_what_the_first_has_found() -> None:
    first = outcomes("x...xooooox..x")
    around = {5, 6, 7} | {4, 5, 9, 10}  # the best level, and both sides of both edges
    assert edges.next_rungs([first, {}, {}], Ladder(14, 4)) == [set(), around, around]


def test_edges_move_to_where_most_repetitions_have_them() -> None:
    """The first repetition breaks at rung 20, the others at 26, and so does the loss."""

    def asks(last: int) -> Callable[[int], Outcome]:
        return lambda rung: sound(0.8) if 5 <= rung <= last else Outcome("diverged")

    tables = edges.search([asks(20), asks(26), asks(26)], LADDER)
    together = edges.fit(tables, LADDER)
    assert (together.region.low, together.region.high) == (5, 26)
    assert [one.high for one in together.regions] == [20, 26, 26]
    assert all({26, 27} <= table.keys() for table in tables)
    assert any(25 in table for table in tables)


def test_a_repetition_that_has_gone_on_alone_does_not_decide_alone() -> None:
    """The first collapses from rung 30 on; the others are good to the end, which they have not tried when it is found."""

    def asks(gap: range) -> Callable[[int], Outcome]:
        return lambda rung: Outcome("collapsed") if rung in gap else sound(0.8)

    tables = edges.search([asks(range(30, 41)), asks(range(0)), asks(range(0))], LADDER)
    found = edges.fit(tables, LADDER)
    assert (found.region.high, found.regions[0].high) == (40, 29)
    few = [outcomes("ooooooxxxxxx"), outcomes("oooooo"), outcomes("oooooo")]
    assert edges.fit(few, Ladder(12, 4)).region.high == 11


def test_luck_at_the_best_level_of_one_repetition_is_weighed_against_the_whole_plateau() -> None:
    """A level that rests on rungs 5 to 7 alone would be 0.86, and 0.76 at rung 12 too low."""

    def table(near_best: float) -> dict[int, Outcome]:
        plateau = {rung: sound(near_best if 5 <= rung <= 7 else 0.8) for rung in range(12)}
        return plateau | {12: sound(0.76), 13: sound(0.7)}

    lucky = edges.fit([table(0.86), table(0.81), table(0.81)], Ladder(14, 3)).words[0]
    assert (lucky[12], lucky[13]) == ("good", "low")


def test_verdicts_that_are_not_monotone_are_told_and_filled_in() -> None:
    def ask(rung: int) -> Outcome:
        return sound(0.8 if rung < 20 else 0.78) if rung < 20 or 30 <= rung < 35 else Outcome("collapsed")

    found = alone(ask)
    assert (found.low, found.high) == (0, 19)
    assert min(found.exceptions) == 30
    assert max(found.exceptions) == 34
    assert {19, 20, 29, 30, 34, 35} <= set(found.tried)  # every change is narrowed to neighbours


def test_every_repetition_tries_the_rungs_that_are_not_monotone() -> None:
    """Good again at rungs 30 to 34, in all repetitions and in the first alone."""
    for islands in ((30, 30, 30), (30, 41, 41)):

        def asks(island: int) -> Callable[[int], Outcome]:
            good = {*range(20), *range(island, 35)}
            return lambda rung: sound(0.8) if rung in good else Outcome("collapsed")

        tables = edges.search([asks(island) for island in islands], LADDER)
        found = edges.fit(tables, LADDER).region
        assert (found.low, found.high) == (0, 19)
        assert bool(found.exceptions) == (islands[1] == 30)
        assert set(found.exceptions) <= set.intersection(*(set(table) for table in tables))


def test_every_edge_is_checked_one_rung_beyond_and_one_below() -> None:
    random = np.random.default_rng(2)
    for _ in range(200):
        gain, low, high = made_loss(random)
        tried = alone(oracle(gain, np.zeros(LADDER.count))).tried
        for edge in (low, high):
            near = {rung for rung in (edge - 1, edge, edge + 1) if 0 <= rung < LADDER.count}
            assert near <= set(tried)


@pytest.mark.parametrize("outcome", [Outcome("diverged"), Outcome("collapsed"), Outcome("ok", 0.5, -0.01)])
def test_a_loss_that_works_nowhere_has_no_edge(outcome: Outcome) -> None:
    found = alone(lambda _: outcome)
    assert not found.found
    assert len(found.tried) == 11  # one rung every half decade


def test_a_loss_that_works_everywhere_reaches_both_ends() -> None:
    found = alone(lambda _: sound(0.8))
    assert (found.low, found.high) == (0, 40)
    assert len(found.tried) == 9  # one a decade, one more at the best level, and one inside each end


@pytest.mark.parametrize(("share", "good"), [(0.9, "op"), (0.95, "o"), (0.79, "op-"), (0.1, "op-")])
def test_a_good_rung_keeps_its_share_and_half_of_the_gain(share: float, good: str) -> None:
    (judged,) = edges.fit([outcomes("op-wxc")], Ladder(6, 2, share)).words
    assert "".join("op-wxc"[rung] for rung, verdict in judged.items() if verdict == "good") == good
    assert [judged[rung] for rung in (3, 4, 5)] == ["weak", "diverged", "collapsed"]


@pytest.mark.parametrize(
    ("signs", "ends", "exceptions"),
    [
        ("xooo-oooxx", (1, 7), (4,)),  # one that falls short is passed over
        ("xooowoooxx", (1, 7), (4,)),
        ("xpppcoooxx", (5, 7), (1, 2, 3)),  # the three beyond are too near the bar to outvote it
        ("xppp--ooxx", (6, 7), (1, 2, 3)),  # nor two
        ("xooo.-.oxx", (1, 3), (7,)),  # nor one whose neighbours are not known
        ("oooooooooo", (0, 9), ()),
        ("xxxxoxxxxx", (4, 4), ()),
        ("xooocooooxx", (1, 8), (4,)),  # more good ones beyond outvote one that broke
    ],
)
def test_the_region_is_the_stretch_with_the_largest_sum_of_votes(
    signs: str, ends: tuple[int, int], exceptions: tuple[int, ...]
) -> None:
    found = edges.region(outcomes(signs), Ladder(len(signs), 2))
    assert (found.low, found.high) == ends
    assert found.exceptions == exceptions


def test_a_neighbours_edges_are_found_again_with_few_runs() -> None:
    def ask(rung: int) -> Outcome:
        return sound(0.8) if 10 <= rung <= 30 else Outcome("diverged")

    first = alone(ask)
    again = alone(ask, first)
    assert (again.low, again.high) == (first.low, first.high) == (10, 30)
    assert len(again.tried) <= 8


@pytest.mark.parametrize("shift", [-14, -5, -1, 1, 5, 9])
def test_a_neighbour_whose_edges_lie_elsewhere_does_not_mislead(shift: int) -> None:
    first = Region(low=15, high=25, best=20, exceptions=(), tried=())

    def ask(rung: int) -> Outcome:
        return sound(0.8) if 15 + shift <= rung <= 25 + shift else Outcome("diverged")

    found = alone(ask, first)
    assert (found.low, found.high) == (15 + shift, 25 + shift)


def test_a_rung_that_nobody_has_tried_adds_no_vote() -> None:
    """The sum of the first stretch is 3, that of the second 2.9, and 3.8 with one more rung."""
    votes = dict(enumerate([1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 0.9]))
    region, mean = edges._fit_votes([votes], best=0)
    assert (region.low, region.high) == (0, 2)
    assert mean == votes


def levels_of(*gains: list[float]) -> tuple[int, list[float]]:
    """The best rung and levels of repetitions with these gains, on a ladder whose best level is a single rung."""
    return edges._best_levels([dict(enumerate(map(sound, own))) for own in gains], Ladder(len(gains[0]), 2))


def test_the_best_rung_is_shared_and_a_repetitions_level_is_where_the_others_are_best() -> None:
    best, levels = levels_of([0.88, 0.8], [0.7, 0.8], [0.7, 0.8])
    assert (best, levels) == (1, [0.8, 0.8, 0.8])  # the first alone would take rung 0
    best, levels = levels_of([1.2, 0.8], [0.7, 0.8], [0.7, 0.8])
    assert (best, levels) == (0, [0.8, 0.7, 0.7])  # its luck moves the shared rung and the others', never its own bar


def test_on_a_plateau_too_a_repetitions_level_is_where_the_others_are_best() -> None:
    best, levels = levels_of([0.9, 0.8, 0.8], [0.78, 0.8, 0.79], [0.78, 0.8, 0.79])
    assert best == 0
    lead = np.mean([0.9 - 2.46 / 3, 0.0, 0.8 - 2.38 / 3])  # of the first over the mean of all, on the plateau
    assert levels[0] == pytest.approx(0.8 + lead)  # of rung 1
    assert levels[1] == pytest.approx(2.46 / 3 - lead / 2)  # of rung 0


def test_regions_of_single_repetitions_name_the_shared_best_rung() -> None:
    tables = [dict(enumerate(map(sound, own))) for own in ([0.9, 0.8], [0.7, 0.8], [0.7, 0.8])]
    found = edges.fit(tables, Ladder(2, 2))
    assert [found.region.best, *(one.best for one in found.regions)] == [1, 1, 1, 1]
