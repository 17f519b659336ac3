"""The rounds of a search: the same runs and answers for any number of commands, kills and finished grids."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from cl_semisup.report.edges import EdgeLine, edge_lines
from cl_semisup.report.report_data import ReportData
from cl_semisup.results import records
from cl_semisup.scheduling.rounds import Rounds
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Edge
from cl_semisup.suite.suite import Suite
from tests.helpers import records as record_maker

Parse = Callable[[str], Suite]
RATE = "learning_rate: 0.1"
EDGES = {("nt_xent", 64): 3.0, ("nt_xent", 256): 2.0, ("clop", 64): 0.2, ("clop", 256): 0.5}  # upper ones


@pytest.fixture
def suite(parse: Parse, text: str) -> Suite:
    text = text.replace("learning_rate: 0.1", "learning_rate: {edge: [0.001, 100], per_decade: 4}")
    return parse(text.replace("batch_size: 128", "batch_size: [64, 256]").replace("repetitions: 1", "repetitions: 3"))


def train(results: Path, run: Run) -> None:
    """Write the record of a run whose loss learns up to a known edge, which moves by a rung with the repetition."""
    if not run.epochs:
        record_maker.write(results, run, 0.3)
        return
    assert run.learning_rate is not None
    assert run.batch_size is not None
    edge = EDGES[run.loss_name, run.batch_size] * 1.8 ** (run.repetition - 1)
    status = "diverged" if run.learning_rate > edge else "ok"
    record_maker.write(results, run, 0.25 if run.learning_rate < 0.005 else 0.8, status)


def search(results: Path, suite: Suite, order: Callable[[list[Run]], list[Run]] = list) -> list[list[str]]:
    """Do all rounds; the ids of each."""
    done = []
    for todo in Rounds(results, suite):
        for run in order(todo):
            train(results, run)
        done.append([run.id for run in todo])
    return done


def found(results: Path, suite: Suite) -> list[EdgeLine]:
    assert isinstance(suite.search, Edge)
    outcomes = Outcomes(results, suite.score, suite.data_dir)
    return edge_lines(Rounds(results, suite).snapshot().runs, suite.search, outcomes)


def test_edges_are_found_with_less_than_half_of_a_coarse_grid(tmp_path: Path, suite: Suite) -> None:
    rounds = search(tmp_path, suite)
    assert sum(map(len, rounds)) < 0.5 * len(suite.runs)
    assert isinstance(suite.search, Edge)
    for line in found(tmp_path, suite):
        assert not line.open
        edge = EDGES[line.loss, int(line.neighbour)] * 1.8 ** (line.repetition - 1)
        assert line.region.high == max(i for i, value in enumerate(suite.search.values) if value <= edge)
        assert suite.search.values[line.region.low] == 0.005623


def test_the_order_within_a_round_changes_nothing(tmp_path: Path, suite: Suite) -> None:
    def shuffled(runs: list[Run]) -> list[Run]:
        return random.Random(0).sample(runs, len(runs))

    assert search(tmp_path / "a", suite) == search(tmp_path / "b", suite, shuffled)


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path, parse: Parse, text: str) -> None:
    """Also after every single run."""
    text = text.replace("[nt_xent, clop]", "clop").replace("batch_size: 128", "batch_size: 64")
    suite = parse(text.replace("learning_rate: 0.1", "learning_rate: {edge: [0.001, 100], per_decade: 4}"))
    whole = search(tmp_path / "whole", suite)
    done: list[str] = []
    while todo := next(iter(Rounds(tmp_path / "killed", suite)), None):
        train(tmp_path / "killed", todo[-1])
        done.append(todo[-1].id)
    assert sorted(done) == sorted(one for ids in whole for one in ids)
    assert found(tmp_path / "killed", suite) == found(tmp_path / "whole", suite)


def test_two_commands_on_one_folder_ask_the_same(tmp_path: Path, suite: Suite) -> None:
    """Each does every other run of a round and finds those of the other."""
    alone = search(tmp_path / "alone", suite)
    one, other = iter(Rounds(tmp_path / "both", suite)), iter(Rounds(tmp_path / "both", suite))
    together = []
    while todo := next(one, None):
        assert next(other) == todo
        for run in todo:
            train(tmp_path / "both", run)
        together.append([run.id for run in todo])
    assert next(other, None) is None
    assert together == alone


def test_the_records_of_a_grid_are_found_and_nothing_is_repeated(tmp_path: Path, suite: Suite) -> None:
    search(tmp_path / "search", suite)
    for run in suite.runs:
        train(tmp_path / "grid", run)
    assert search(tmp_path / "grid", suite) == []
    assert found(tmp_path / "grid", suite) == found(tmp_path / "search", suite)


@pytest.mark.parametrize("status", ["failed", "stale"])
def test_a_run_that_decides_nothing_stops_its_line_alone(tmp_path: Path, suite: Suite, status: str) -> None:
    first = next(iter(Rounds(tmp_path, suite)))
    bad = next(run for run in first if run.epochs and run.learning_rate == 1.0 and run.loss_name == "clop")
    if status == "failed":
        record_maker.write(tmp_path, bad, status="failed", reason="no memory")
    else:
        record_maker.write(tmp_path, bad, plugins={"losses/clop": "old"})
    search(tmp_path, suite)
    lines = found(tmp_path, suite)
    assert {line.open for line in lines if line.loss == "nt_xent"} == {False}
    assert {line.open for line in lines if line.loss == "clop"} == {True}  # the others start from the first
    todo = next(iter(Rounds(tmp_path, suite, redo=status)))
    assert todo == [bad]


def test_redo_all_decides_by_new_records_alone(tmp_path: Path, suite: Suite) -> None:
    before = search(tmp_path, suite)
    again = []
    for todo in Rounds(tmp_path, suite, redo="all"):
        for run in todo:
            train(tmp_path, run)
        again.append([run.id for run in todo])
    assert again == before


def test_the_snapshot_lists_the_runs_that_were_asked(tmp_path: Path, suite: Suite) -> None:
    rounds = search(tmp_path, suite)
    snapshot = Rounds(tmp_path, suite).snapshot()
    assert {run.id for run in snapshot.runs} == {one for ids in rounds for one in ids}
    assert snapshot.grid_runs == len(suite.runs) == 255
    assert len(list(records.all_paths(tmp_path))) == len(snapshot.runs)


def test_a_suite_without_search_has_one_round(tmp_path: Path, parse: Parse, text: str) -> None:
    plain = parse(text)
    (todo,) = Rounds(tmp_path, plain)
    assert todo == list(plain.runs)


def test_losses_without_the_searched_setting_run_once(tmp_path: Path, parse: Parse, text: str) -> None:
    weight = "[nt_xent, clop: {weight: {edge: [0.01, 100], per_decade: 2}}]"
    suite = parse(text.replace("[nt_xent, clop]", weight))
    for todo in Rounds(tmp_path, suite):
        for run in todo:
            weight_of = run.loss.get("clop", {}).get("weight", 0.0)
            record_maker.write(tmp_path, run, 0.8 if run.epochs else 0.3, "collapsed" if weight_of > 4 else "ok")
    (line,) = found(tmp_path, suite)
    assert line.loss == "clop"
    assert suite.search is not None
    assert isinstance(suite.search, Edge)
    assert suite.search.values[line.region.high] == 3.162
    names = [run.loss_name for run in Rounds(tmp_path, suite).snapshot().runs]
    assert names.count("nt_xent") == 1


def test_repetitions_go_on_until_the_difference_is_resolved(tmp_path: Path, parse: Parse, text: str) -> None:
    asked = text.replace("repetitions: 1", "repetitions: {resolve: 2.0, max: 20}\nbaseline: nt_xent")
    suite = parse(asked.replace("[nt_xent, clop]", "[nt_xent, clop, vicreg]"))
    noise = random.Random(0)
    rounds = 0
    for todo in Rounds(tmp_path, suite):
        rounds += 1
        for run in todo:
            spread = {"clop": 0.004, "vicreg": 0.2}.get(run.loss_name, 0.0)
            record_maker.write(tmp_path, run, 0.6 + noise.uniform(-spread, spread))
    names = [run.loss_name for run in Rounds(tmp_path, suite).snapshot().runs if run.epochs]
    assert rounds > 5
    assert 4 <= names.count("clop") <= 8  # resolved
    assert names.count("vicreg") == names.count("nt_xent") == 20  # at the cap, with the baseline of every repetition


def test_a_race_drops_clear_losers_and_its_winner_alone_runs_in_fresh_repetitions(
    tmp_path: Path, parse: Parse, text: str
) -> None:
    asked = text.replace(RATE, "learning_rate: {best: [0.01, 0.1, 1]}\ntune_repetitions: 8")
    suite = parse(asked.replace("repetitions: 1", "repetitions: 3"))
    noise, rounds = random.Random(1), 0
    for todo in Rounds(tmp_path, suite):
        rounds += 1
        for run in todo:
            validation = 0.6 if run.learning_rate == 0.01 else 0.8 + noise.uniform(-0.02, 0.02)
            validation += 0.01 * (run.learning_rate == 1.0)
            record_maker.write(tmp_path, run, 0.7, validation=validation)
    snapshot = Rounds(tmp_path, suite).snapshot()
    for name in ("clop", "nt_xent"):
        ran = {
            rate: [run.repetition for run in snapshot.runs if run.loss_name == name and run.learning_rate == rate]
            for rate in (0.01, 0.1, 1.0)
        }
        assert 4 <= len(ran[0.01]) <= 6
        assert sorted(map(len, (ran[0.1], ran[1.0]))) == [8, 11]
        assert max(ran.values(), key=len) == list(range(11))
    assert [run.repetition for run in snapshot.runs if not run.epochs] == list(range(11))
    assert rounds >= 6  # four repetitions, one after the other, and the fresh ones
    (board,) = ReportData.read(tmp_path, snapshot).boards
    assert [len(row.repetition_scores) for row in board.rows] == [3, 3, 3]
    assert all(not math.isnan(row.winners_curse.mean) for row in board.trained_rows)


def test_of_a_race_between_settings_of_a_loss_the_winner_alone_is_on_the_board(
    tmp_path: Path, parse: Parse, text: str
) -> None:
    asked = text.replace("[nt_xent, clop]", "[nt_xent, clop: {weight: {best: [0.1, 1, 10]}}]\ntune_repetitions: 6")
    suite = parse(asked.replace("repetitions: 1", "repetitions: 2"))
    for todo in Rounds(tmp_path, suite):
        for run in todo:
            best = run.loss_name == "clop" and run.loss["clop"]["weight"] == 1
            record_maker.write(tmp_path, run, 0.7, validation=0.8 if best else 0.6 + 0.001 * (run.repetition % 2))
    data = ReportData.read(tmp_path, Rounds(tmp_path, suite).snapshot())
    (board,) = data.boards
    assert sorted(row.loss for row in board.rows) == ["clop(weight=1)", "nt_xent", "untrained"]
    assert data.searched is not None
    assert data.searched.finished
    assert len(data.searched.lost) > 0
