"""What the search of a suite has found, as tables and notes."""

from dataclasses import dataclass
from pathlib import Path

from cl_semisup.report import edges, race, resolution
from cl_semisup.report.edges import EdgeLine, EdgeRow
from cl_semisup.report.tables import Table
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.search.racing import RaceResult, losing_settings, races
from cl_semisup.search.resolution import compare
from cl_semisup.suite.search import Edge, Race


@dataclass(frozen=True)
class SearchResult:
    """The tables that answer the search, the maps of what was tried, how to read them, and whether rounds follow.

    `lines` and `rows` of a search for edges and `races` are what pictures show. Runs with the ids in `lost` are on no
    leaderboard.
    """

    tables: tuple[Table, ...]
    maps: tuple[Table, ...]
    notes: tuple[str, ...]
    finished: bool
    lines: tuple[EdgeLine, ...] = ()
    rows: tuple[EdgeRow, ...] = ()
    races: tuple[RaceResult, ...] = ()
    lost: frozenset[str] = frozenset()


def search_result(results: Path, suite: SuiteSnapshot) -> SearchResult | None:
    """The result of the runs that were asked so far; None without a search."""
    if suite.search is None:
        return None
    outcomes = Outcomes(results, suite.score, suite.data_folder)
    counts = f"The search asked for {len(suite.runs)} of the {suite.grid_runs} runs of its full grid."
    if isinstance(suite.search, Race):
        repetitions = suite.tune_repetitions
        racing = [run for run in suite.runs if run.repetition < repetitions]
        found = races(racing, suite.search, outcomes.validation_of, repetitions)
        return SearchResult(
            tuple(race.race_tables(suite.runs, found, repetitions)),
            (),
            (counts, *race.NOTES),
            finished=not any(one.open for one in found) and len(racing) < len(suite.runs),
            races=tuple(found),
            lost=losing_settings(suite.runs, suite.search, found),
        )
    if not isinstance(suite.search, Edge):
        compared = compare(suite.runs, suite.search, outcomes.score_of, suite.baseline)
        table = resolution.resolution_table(suite.runs, compared, suite.search, suite.baseline)
        done = not any(one.open for one in compared)
        return SearchResult((table,), (), (counts, *resolution.NOTES), done)
    lines = edges.edge_lines(suite.runs, suite.search, outcomes)
    rows = edges.edge_rows(lines, suite.search, suite.baseline)
    tasks = dict.fromkeys(row.task for row in rows)
    return SearchResult(
        tuple(
            edges.edge_table(task, [row for row in rows if row.task == task], suite.search, suite.baseline)
            for task in tasks
        ),
        tuple(edges.map_table(task, [line for line in lines if line.task == task], suite.search) for task in tasks),
        (counts, *edges.notes(rows, suite.search)),
        finished=not any(line.open for line in lines),
        lines=tuple(lines),
        rows=tuple(rows),
    )
