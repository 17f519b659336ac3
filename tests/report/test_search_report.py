"""What a report says of a search: edges, differences, the map of what was tried, and what is still open."""

import math
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from cl_semisup import report
from cl_semisup.report import edges, live, open_runs, search_figures
from cl_semisup.report.edges import EdgeLine
from cl_semisup.report.report_data import ReportData
from cl_semisup.report.search_result import SearchResult
from cl_semisup.results import snapshot
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling.rounds import Rounds
from cl_semisup.search.edges import Outcome
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Edge
from cl_semisup.suite.suite import Suite
from tests.helpers.records import write

Parse = Callable[[str], Suite]
HIGHEST = {"nt_xent": 1.0, "clop": 0.1, "supcon": 1e9, "vicreg": 0.0}


@pytest.fixture
def suite(parse: Parse, text: str) -> Suite:
    text = text.replace("learning_rate: 0.1", "learning_rate: {edge: [0.001, 100], per_decade: 2}")
    text = text.replace("[nt_xent, clop]", "[nt_xent, clop, supcon, vicreg]")
    return parse(text.replace("repetitions: 1", "repetitions: 3\nbaseline: nt_xent"))


def train(results: Path, run: Run) -> None:
    """nt_xent reaches 1, 3.162 and 10 in its repetitions, clop a tenth; supcon works everywhere, vicreg nowhere."""
    if not run.epochs:
        write(results, run, 0.3)
        return
    rate, highest = run.learning_rate or 0.0, HIGHEST[run.loss_name] * 10 ** (run.repetition / 2)
    write(results, run, 0.8 if rate > 0.005 else 0.45, "diverged" if rate > highest * 1.01 else "ok")


def search(results: Path, suite: Suite, rounds: int = 99) -> SuiteSnapshot:
    for number, todo in enumerate(Rounds(results, suite)):
        for run in todo:
            train(results, run)
        if number + 1 == rounds:
            break
    return Rounds(results, suite).snapshot()


def test_edges_are_in_decades_and_paired_by_repetition(tmp_path: Path, suite: Suite) -> None:
    done = search(tmp_path, suite)
    data = ReportData.read(tmp_path, done)
    assert isinstance(done.search, Edge)
    outcomes = edges.Outcomes(tmp_path, "linear_top1", "data")
    rows = {
        row.loss: row
        for row in edges.edge_rows(edges.edge_lines(done.runs, done.search, outcomes), done.search, "nt_xent")
    }
    pseudo = [3 * 0.5 - 2 * without for without in (0.5, 0.0, 0.0)]  # two repetitions agree up to the lower of two
    assert rows["nt_xent"].high.mean == pytest.approx(0.5, abs=1e-3)
    assert rows["nt_xent"].high.ci_half_width == pytest.approx(
        4.3027 * statistics.stdev(pseudo) / math.sqrt(3), rel=1e-3
    )
    assert rows["clop"].difference.mean == pytest.approx(-1, abs=1e-3)
    assert rows["clop"].difference.ci_half_width == pytest.approx(0, abs=1e-3)  # paired, though both scatter
    assert rows["nt_xent"].width.mean == pytest.approx(2.5, abs=1e-3)
    assert (rows["supcon"].at_top, rows["supcon"].bound) == (True, "≥ ")
    assert (rows["vicreg"].high.n, rows["vicreg"].width.mean) == (0, 0.0)
    assert data.searched is not None
    assert data.searched.finished
    (table,) = data.searched.tables
    texts = {row[0].text: [entry.text for entry in row] for row in table.rows}
    names = [column.name for column in table.columns]
    assert names[:4] == ["loss", "batch size", "largest learning_rate", "vs nt_xent, decades"]
    assert texts["clop"][2:6] == ["0.316 ×÷ 27", "−1.00 ± 0.00", "0.01", "1.50 ± 1.43"]  # noqa: RUF001
    assert texts["supcon"][2].startswith("≥ 100")
    assert texts["vicreg"][2:7] == ["—", "—", "—", "0.00 ± 0.00", "0/3"]


def test_all_formats_show_the_edges_and_the_map_of_what_was_tried(tmp_path: Path, suite: Suite) -> None:
    done = search(tmp_path, suite)
    made = report.make(tmp_path, done)
    assert "edges of learning_rate" in made.text
    assert "A region narrower than a factor of 3.16 may have been missed" in " ".join(made.text.split())
    texts = {path.name: path.read_text("utf-8") for path in made.files if path.suffix in (".md", ".html")}
    for text in texts.values():
        assert f"The search asked for {len(done.runs)} of the {done.grid_runs} runs of its full grid." in text
        assert "rungs tried" in text.replace("\\", "")
    maps = texts["leaderboard.md"].replace("\\", "")
    assert "| nt_xent | 128 | 0 | ww[ooooo]xxxx |" in maps
    assert "| nt_xent | 128 | 1 | .w[oo.ooo]xx. |" in maps
    assert "<title>nt_xent, repetition 0: stable from 0.01 to 1</title>" in texts["report.html"]
    assert "vicreg, repetition 2: no stable region" in texts["report.html"]
    assert "no grid to be stable on" not in texts["report.html"]


def edge_line(known: dict[int, Outcome], search: Edge, waiting: tuple[int, ...] = (), repetition: int = 0) -> EdgeLine:
    fitted = edges.fit([known], edges.Ladder.of(search))
    return EdgeLine("t", "l<", 64.0, repetition, known, fitted.words[0], waiting, fitted.region, open=bool(waiting))


def test_the_map_has_a_sign_for_every_rung() -> None:
    from tests.search.test_edges import outcomes

    search = Edge(("learning_rate",), tuple(10.0**i for i in range(9)), 1, 0.9)
    known = outcomes("w-oo.pc.x")
    line = edge_line(known, search, (7,))
    assert edges.rungs_text(line, search) == "w-[oo.o]c?x"


def test_a_search_that_goes_on_is_told_as_open_and_watched(
    tmp_path: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path, suite, rounds=2)
    unfinished = snapshot.load(tmp_path, suite.name)
    data = ReportData.read(tmp_path, unfinished)
    assert data.searched is not None
    assert not data.searched.finished
    assert "open" in data.searched.tables[0].rows[0][-3].text
    seen = []

    def go_on(left: int) -> bool:
        seen.append(left)
        return left > 0

    monkeypatch.setattr(live.time, "sleep", lambda _: search(tmp_path, suite))  # meanwhile it is done
    monkeypatch.setattr(live.report, "make", lambda *_, **__: None)
    live.watch(tmp_path, unfinished, 1.0, go_on)
    assert seen == [1, 0]  # every run of the second round is done, and the third is to come


def test_losses_with_more_and_with_fewer_repetitions_share_a_board(tmp_path: Path, parse: Parse, text: str) -> None:
    asked = text.replace("repetitions: 1", "repetitions: {resolve: 3.0, max: 9}\nbaseline: nt_xent")
    suite = parse(asked.replace("[nt_xent, clop]", "[nt_xent, clop, supcon]"))
    for todo in Rounds(tmp_path, suite):
        for run in todo:
            odd = (-1) ** run.repetition
            write(tmp_path, run, {"clop": 0.61 + 0.001 * odd, "supcon": 0.5 + 0.1 * odd}.get(run.loss_name, 0.6))
    done = Rounds(tmp_path, suite).snapshot()
    data = ReportData.read(tmp_path, done)
    assert data.searched is not None
    rows = [[entry.text for entry in row] for row in data.searched.tables[0].rows]
    assert [row[0] for row in rows] == ["clop", "supcon"]
    assert rows[0][3:] == ["4", "yes"]
    assert rows[1][3:] == ["9", "no, at the cap"]
    (board,) = data.boards
    clop = board.row_of("clop")
    assert clop is not None
    assert clop.difference.n == 4
    assert clop.difference.mean == pytest.approx(0.01)
    report.make(tmp_path, done)


def test_a_race_shows_who_dropped_when(tmp_path: Path, parse: Parse, text: str) -> None:
    asked = text.replace("learning_rate: 0.1", "learning_rate: {best: [0.01, 0.1, 1]}\ntune_repetitions: 7").replace(
        "[nt_xent, clop]", "clop"
    )
    suite = parse(asked.replace("repetitions: 1", "repetitions: 2"))
    means = {0.01: 0.6, 0.1: 0.8, 1.0: 0.79}
    for todo in Rounds(tmp_path, suite):
        for run in todo:
            odd = (-1) ** run.repetition * (0.05 if run.learning_rate == 1.0 else 0.001)
            write(tmp_path, run, 0.7, validation=means.get(run.learning_rate or 0.0, 0.3) + odd)
    done = Rounds(tmp_path, suite).snapshot()
    data = ReportData.read(tmp_path, done)
    assert data.searched is not None
    assert data.searched.finished
    racing = tuple(run for run in done.runs if run.repetition < 7)
    before = ReportData.read(tmp_path, replace(done, runs=racing)).searched
    assert before is not None and not before.finished  # all races are run, and nothing is reported yet
    (table,) = data.searched.tables
    rows = [[entry.text for entry in row] for row in table.rows]
    assert [row[1] for row in rows] == ["lr 0.1, batch 128", "lr 1, batch 128", "lr 0.01, batch 128"]
    assert [row[2] for row in rows] == ["ooooooo", "ooooooo", "ooox..."]
    assert [row[5] for row in rows] == ["chosen", "not told apart", "dropped after 4"]
    (board,) = data.boards
    assert board.trained_rows[0].reported_cell.learning_rate == 0.1
    assert list(board.trained_rows[0].reported_cell.runs["repetition"]) == [7, 8]
    made = report.make(tmp_path, done)
    assert "ooox..." in made.text
    (page,) = (path.read_text("utf-8") for path in made.files if path.suffix == ".html")
    assert "clop, lr 0.01, batch 128: dropped after 4</title>" in page
    assert "clop, lr 0.1, batch 128: chosen</title>" in page


def test_the_map_draws_every_rung_tried_the_region_and_the_fitted_edges() -> None:
    from tests.search.test_edges import outcomes

    search = Edge(("learning_rate",), tuple(10.0**i for i in range(9)), 1, 0.9)
    lines = [edge_line(outcomes(signs), search, (), n) for n, signs in enumerate(("w-oo.pc.x", "w-oopx..x"))]
    rows = edges.edge_rows(lines, search, "")
    image = search_figures.edge_figure("t", lines, rows, search, {"l<": 3}).image
    ElementTree.fromstring(image)  # well formed, also with strange names
    assert image.count('class="region"') == 2
    assert [image.count(shape) for shape in ("a3 3 0 1 0 6 0", "l6 6m0 -6l-6 6", "h7m-3.5 -3.5v7")] == [4, 3, 1]
    upright = re.findall(r'stroke="currentColor" d="M([0-9.]+) [0-9.]+V', image)
    scale = search_figures.svg.Scale(1.0, 1e8, search_figures.LEFT, search_figures.WIDTH - 20, log=True)
    assert [float(x) for x in upright] == pytest.approx([scale(1e2), scale(1e4)], abs=0.1)


def test_a_budget_ends_with_nothing_open_only_if_the_search_has_ended() -> None:
    suite, nothing = cast("Any", None), set[str]()
    ended, goes_on = (SearchResult((), (), (), finished=finished) for finished in (True, False))
    for searched in (None, ended):
        assert open_runs.text(suite, nothing, "2 h", "", searched) == "Everything was done within the budget of 2 h."
    told = " ".join(open_runs.text(suite, nothing, "2 h", "0 seconds", goes_on).split())
    assert told.startswith("0 runs open, about 0 seconds. Its search is not finished: which runs follow depends on")
