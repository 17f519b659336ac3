"""How a suite asks for a search: what it stands for, and what is refused with its place."""

from collections.abc import Callable

import pytest

from cl_semisup.errors import SuiteError
from cl_semisup.suite import search as searches
from cl_semisup.suite.search import Edge, Race, Resolve
from cl_semisup.suite.suite import Suite

Parse = Callable[[str], Suite]
RATE = "learning_rate: 0.1"
RESOLVED = "repetitions: {resolve: 1.0, max: 12}\nbaseline: nt_xent"


def test_an_edge_stands_for_the_runs_of_its_full_grid(parse: Parse, text: str) -> None:
    asked = parse(text.replace(RATE, "learning_rate: {edge: [0.01, 10], per_decade: 2}"))
    grid = parse(text.replace(RATE, "learning_rate: [0.01, 0.03162, 0.1, 0.3162, 1, 3.162, 10]"))
    assert [run.id for run in asked.runs] == [run.id for run in grid.runs]
    assert asked.search == Edge(("learning_rate",), (0.01, 0.03162, 0.1, 0.3162, 1.0, 3.162, 10.0), 2, 0.9)
    assert grid.search is None


def test_batch_sizes_are_whole_and_settings_of_losses_have_edges_too(parse: Parse, text: str) -> None:
    sizes = parse(text.replace("batch_size: 128", "batch_size: {edge: [8, 512], per_decade: 4}")).search
    assert isinstance(sizes, Edge)
    assert sizes.values == (8, 14, 25, 45, 80, 142, 253, 450)
    weight = "[nt_xent, clop: {weight: {edge: [0.01, 100], per_decade: 1, share: 0.8}}]"
    asked = parse(text.replace("[nt_xent, clop]", weight))
    assert asked.search == Edge(("loss", "clop", "weight"), (0.01, 0.1, 1.0, 10.0, 100.0), 1, 0.8)
    assert len([run for run in asked.runs if run.epochs]) == 6


@pytest.mark.parametrize(
    ("old", "values", "axis"),
    [
        ("learning_rate: 0.1", "learning_rate: %s[0.1, 1]%s", ("learning_rate",)),
        ("[nt_xent, clop]", "[nt_xent: {temperature: %s[0.1, 0.5]%s}]", ("loss", "nt_xent", "temperature")),
        ("epochs: 1", "epochs: 1\noptimizer: %s[sgd, {sgd: {momentum: 0.5}}]%s", ("optimizer",)),
    ],
)
def test_a_race_stands_for_the_runs_of_its_full_grid(
    parse: Parse, text: str, old: str, values: str, axis: tuple[str, ...]
) -> None:
    text = text.replace("repetitions: 1", "repetitions: 1\ntune_repetitions: 6")
    raced = parse(text.replace(old, values % ("{best: ", "}")))
    assert raced.search == Race(axis)
    assert raced.runs == parse(text.replace(old, values % ("", ""))).runs


def test_a_ladder_hits_powers_of_ten_and_ends_at_or_below_the_highest(parse: Parse) -> None:
    values = searches.ladder(0.001, 100, 8)
    assert len(values) == 41
    assert {0.001, 0.01, 0.1, 1.0, 10.0, 100.0} <= set(values)
    assert searches.ladder(0.01, 50, 2)[-1] == 31.62


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (RATE, "learning_rate: {edge: []}", "s.yaml:6:23: learning_rate.edge: must be two numbers, the lowest and"),
        (RATE, "learning_rate: {edge: [1]}", "Got [1]. Write [0.001, 100]."),
        (RATE, "learning_rate: {edge: 3}", "must be two numbers, the lowest and the highest value. Got 3."),
        (RATE, "learning_rate: {edge: [low, 3]}", "must be two numbers above 0 (its ladder is logarithmic). Got ['low', 3]"),
        (RATE, "learning_rate: {edge: [0, 3]}", "must be two numbers above 0 (its ladder is logarithmic). Got [0, 3]"),
        (RATE, "learning_rate: {edge: [.nan, .inf]}", "must be two numbers above 0"),
        (RATE, "learning_rate: {edge: [true, 3]}", "must be two numbers above 0"),
        (RATE, "learning_rate: {edge: [3, 1]}", "must not be an empty range: the first number is the lowest. Got [3, 1]"),
        (RATE, "learning_rate: {edge: [3, 3]}", "must not be an empty range"),
        (RATE, "learning_rate: {edge: [1e-300, 1e300]}", "must be between 1e-100 and 1e+100. Got [1e-300, 1e+300]"),
        (RATE, "learning_rate: {edge: [1e-60, 1e60]}", "must hold 400 values at most. Got 961 at per_decade 8. Narrow"),
        (RATE, f"learning_rate: {{edge: [1, 1{400 * '0'}]}}", "must be a number of at most 100 characters. Got 401"),
        (RATE, "learning_rate: {edge: [1, 1.1]}", "must hold three values at least. Got 1 at per_decade 8. Widen"),
        (RATE, "learning_rate: {edge: [1, 9], per_decade: 0}", "6:43: learning_rate.per_decade: must be a whole number from 1"),
        (RATE, "learning_rate: {edge: [1, 9], per_decade: 2.5}", "must be a whole number from 1 to 32 (rungs from one"),
        (RATE, "learning_rate: {edge: [1, 9], share: 0}", "learning_rate.share: must be a number above 0 and at most 1"),
        (RATE, "learning_rate: {edge: [1, 9], per_dekade: 4}", "s.yaml:6:31: learning_rate.per_dekade: unknown key 'per_dekade'. Did you mean 'per_decade'?"),
        (RATE, "learning_rate: [0.1, {edge: [1, 9]}]", "6:22: learning_rate[1]: must stand alone: an edge is searched"),
        (RATE, "learning_rate: {edge: [1.0e+12, 1.0e+14]}", "Every rung of the search must be a value that this setting"),
        ("epochs: 1", "epochs: {edge: [1, 100]}", "9:9: epochs: has no edge: only learning_rate, batch_size and the"),
        ("[nt_xent, clop]", "[clop: {initial: {edge: [1, 9]}}]", "losses[0].clop.initial:"),
        ("batch_size: 128", "batch_size: {edge: [64, 1e5]}", "7:13: batch_size: must not exceed the data: digits has"),
        ("repetitions: 1", "repetitions: {edge: [1, 9]}", "repetitions: has no edge"),
        ("repetitions: 1", "repetitions: {resolve: 1.0}", "repetitions.resolve: needs a baseline, to which differences"),
        ("repetitions: 1", "repetitions: {resolve: 0}\nbaseline: nt_xent", "must be a number of percentage points above 0"),
        ("repetitions: 1", "repetitions: {resolve: 1, max: 2}\nbaseline: nt_xent", "must be a whole number from 4 to 1000"),
        (RATE, "learning_rate: {resolve: 1.0}", "learning_rate: is what repetitions may do. Got it elsewhere."),
        (RATE, "learning_rate: {edge: {low: 1, high: 9}}", "6:23: learning_rate.edge: must be two numbers, the lowest and"),
        (RATE, "learning_rate: {best: {a: 1}}", "6:23: learning_rate.best: must be a list of two values or more."),
        (RATE, "learning_rate: {edge: [1, 9], best: [1, 2]}", "must be the only search here. Got edge and best. Keep"),
        ("repetitions: 1", "repetitions: {max: 9, resolve: {a: 1}}\nbaseline: nt_xent", "must be a number of percentage"),
        (RATE, "learning_rate: {best: 0.1}", "6:23: learning_rate.best: must be a list of two values or more. Got 0.1."),
        (RATE, "learning_rate: {best: [0.1]}", "learning_rate.best: must be a list of two values or more. Got [0.1]."),
        (RATE, "learning_rate: {best: [0.1, 1], of: 3}", "learning_rate.of: unknown key 'of'"),
        (RATE, "learning_rate: [{best: [0.1, 1]}]", "learning_rate[0]: must stand alone: all values of a race are in its"),
        (RATE, "learning_rate: {best: [0.1, 1]}", "6:16: learning_rate: a race needs `tune_repetitions`, at least 6 (with"),
        (RATE, "learning_rate: {best: [0.1, 1]}\ntune_repetitions: 5", "7:19: tune_repetitions: must be 0, or for a race at"),
        (RATE, "learning_rate: {edge: [1, 9]}\ntune_repetitions: 6", "7:19: tune_repetitions: must be 0 where the suite"),
        (RATE, "learning_rate: {best: [0.1, -1]}", "learning_rate[1]: must be greater than 0"),
        ("epochs: 1", "epochs: {best: [1, 2]}", "epochs: cannot be raced: only learning_rate, batch_size, optimizer,"),
        (
            f"{RATE}\nbatch_size: 128",
            "learning_rate: {edge: [1, 9]}\nbatch_size: {edge: [8, 64]}",
            "7:13: batch_size: must be the only search of its suite. Got another at learning_rate. Write a value or a",
        ),
    ],
)  # fmt: skip
def test_what_is_no_search_is_told_with_its_place(parse: Parse, text: str, old: str, new: str, message: str) -> None:
    assert old in text
    with pytest.raises(SuiteError) as error:
        parse(text.replace(old, new))
    assert message in str(error.value)
    assert "1 problem(s)" in str(error.value)


def test_resolve_stands_for_all_repetitions_and_wants_one_config_a_loss(parse: Parse, text: str) -> None:
    asked = parse(text.replace("repetitions: 1", RESOLVED))
    assert asked.search == Resolve(1.0, 12)
    assert {run.repetition for run in asked.runs} == set(range(12))
    with pytest.raises(SuiteError, match="compares one config of each loss with the baseline's. Got 2 of a loss"):
        parse(text.replace("repetitions: 1", RESOLVED).replace(RATE, "learning_rate: [0.1, 1]"))
    with pytest.raises(
        SuiteError, match=r"repetitions.resolve: compares losses with the baseline. Got 'nt_xent' alone."
    ):
        parse(text.replace("repetitions: 1", RESOLVED).replace("[nt_xent, clop]", "nt_xent"))
    several = text.replace("[nt_xent, clop]", "[nt_xent: {temperature: [0.1, 0.5]}, clop]")
    with pytest.raises(SuiteError, match="needs one baseline. Got 2 losses called 'nt_xent'"):
        parse(several.replace("repetitions: 1", RESOLVED))


@pytest.mark.parametrize(
    "search", [None, Resolve(1.0, 12), Race(("optimizer",)), Edge(("learning_rate",), (0.1, 1.0, 10.0), 1, 0.9)]
)
def test_a_search_survives_its_snapshot(search: searches.Search | None) -> None:
    assert searches.from_dict(searches.as_dict(search)) == search


@pytest.mark.parametrize("values", [[], [1.0], [3.0, 1.0], [0.0, 1.0], [1.0, float("inf")]])
def test_a_strangers_ladder_is_checked(values: list[float]) -> None:
    with pytest.raises(ValueError, match="its search has no ladder"):
        searches.from_dict({"axis": ["learning_rate"], "values": values, "per_decade": 1, "share": 0.9})


def test_a_search_that_tunes_nothing_contradicts_nothing(parse: Parse, text: str) -> None:
    searched = parse(text.replace(RATE, "learning_rate: {edge: [0.01, 10]}"))
    assert searches.contradictions(searched.search, searched.runs, "nt_xent") == []
    (problem,) = searches.contradictions(searched.search, searched.runs, "nt_xent", 1)
    assert problem.path == ("tune_repetitions",)
