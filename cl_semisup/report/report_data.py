"""The content of a report, before it is written in any format: answer, boards, notes, origin of the numbers."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from cl_semisup.report import answer, breakdown, published, ranking, stability, tuning, wording
from cl_semisup.report.breakdown import Broken
from cl_semisup.report.new_images import NOTE as NEW_IMAGES_NOTE
from cl_semisup.report.new_images import new_images_table
from cl_semisup.report.published import Comparison
from cl_semisup.report.ranking import OverallRanking
from cl_semisup.report.search_result import SearchResult, search_result
from cl_semisup.report.similarity import Similarity, similarity
from cl_semisup.report.stability import Stability
from cl_semisup.report.tables import Table
from cl_semisup.report.updates import updates_table
from cl_semisup.report.wording import pluralize
from cl_semisup.results import leaderboard
from cl_semisup.results.leaderboard import STATUSES, UNFINISHED_STATUSES, Board, status_counts
from cl_semisup.results.run_table import RunTable, gather
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.results.verdict import MIN_PAIRS

SIMILARITY_NOTE = (
    "CKA (linear, unbiased) is 1 where the features of two networks differ by a rotation and a scale at most, and about"
    " 0 where they have nothing in common. To another loss it is paired by repetition, so both networks began with the"
    " same weights; between repetitions they did not, and every two are compared, without an interval."
)
PUBLISHED_NOTE = (
    "Published numbers stand as their source has them; most are of one training. A number is inside if it, with its own"
    " interval where it has one, meets the 95 % interval of our mean. Ours is the tuned config of the cells that the"
    " number speaks of, at the last epoch."
)


@dataclass(frozen=True)
class ReportData:
    """Everything that terminal, Markdown, LaTeX and HTML show of a suite's records."""

    suite: SuiteSnapshot
    results: Path
    run_table: RunTable

    @classmethod
    def read(cls, results: Path, suite: SuiteSnapshot) -> "ReportData":
        return cls(suite, results, gather(results, suite.runs, data_dir=suite.data_folder))

    @cached_property
    def boards(self) -> list[Board]:
        suite, table = self.suite, self.run_table
        if self.searched and self.searched.lost:
            table = replace(table, frame=table.frame[~table.frame["id"].isin(self.searched.lost)])
        return leaderboard.boards(table, suite.score, suite.baseline, suite.tune_repetitions)

    @cached_property
    def main_boards(self) -> list[Board]:
        """The board of every task's most common protocol; statistics over tasks use only these."""
        return list({board.base_task: board for board in reversed(self.boards)}.values())[::-1]

    @cached_property
    def overall_ranking(self) -> OverallRanking | None:
        return None if self.suite.search else ranking.rank_overall(self.main_boards)

    @cached_property
    def searched(self) -> SearchResult | None:
        """What the suite's search has found; None if it has no search."""
        return search_result(self.results, self.suite)

    @cached_property
    def stability(self) -> dict[str, list[Stability]]:
        """Task -> stability metrics of its losses, of tasks whose whole grid runs in all reported repetitions."""
        if self.suite.in_rounds:
            return {}
        return {board.task: metrics for board in self.boards if (metrics := stability.stability(board))}

    @cached_property
    def breakdown(self) -> dict[str, dict[str, dict[str, Broken]]]:
        """Task -> loss -> definition -> share of broken runs, of tasks in which runs collapsed or diverged."""
        if self.suite.in_rounds:
            return {}
        return {board.task: broken for board in self.boards if (broken := breakdown.breakdown(board))}

    @cached_property
    def similarity(self) -> dict[str, Similarity]:
        """Task -> CKA between losses, of tasks whose runs were probed for it."""
        return {board.task: cka for board in self.boards if (cka := similarity(board, self.results))}

    @cached_property
    def new_images(self) -> dict[str, Table]:
        """Task -> scores with intervals for new test images, of tasks whose records say which images are right."""
        return {board.task: table for board in self.boards if (table := new_images_table(board, self.results))}

    @cached_property
    def updates(self) -> dict[str, Table]:
        """Task -> similarity of updates, of tasks whose runs were probed for it."""
        return {board.task: table for board in self.boards if (table := updates_table(board, self.results))}

    @cached_property
    def published(self) -> list[Comparison]:
        """The published numbers that the suite repeats, beside ours."""
        return published.compare(self.main_boards, self.suite.published, self.suite.score)

    @cached_property
    def status_counts(self) -> dict[str, int]:
        """How all runs ended; a floor run is on several boards and counts once."""
        best: dict[str, str] = {}
        for run_id, status in zip(self.run_table.frame["id"], self.run_table.frame["status"], strict=True):
            best[run_id] = min(best.get(run_id, status), status, key=STATUSES.index)
        return status_counts(best.values())

    @property
    def command(self) -> str:
        """The command that runs what is missing and writes the report again."""
        return self.suite.command(self.results)

    @cached_property
    def answer(self) -> list[str]:
        """The question answered in sentences: over all tasks, then by task (or leaders counted), then broken runs."""
        return answer.sentences(self.boards, self.overall_ranking)

    @cached_property
    def progress(self) -> str:
        """`152 runs: ok 144, diverged 8`"""
        counts = self.status_counts
        return f"{pluralize(sum(counts.values()), 'run')}: {wording.format_status_counts(counts)}"

    @cached_property
    def notes(self) -> list[str]:
        """How to read the tables and what their numbers mean."""
        repetitions = max((board.repetitions for board in self.boards), default=0)
        notes = [_interval_note(repetitions), *self._tuning_notes]
        notes.append(
            f"Losses are ordered by {self.suite.score}, percent of the test images at the last epoch. {self._chance}"
            "A diverged run counts as chance; a failed or missing one leaves a dash and how many of how many are there."
        )
        notes.append(
            "Verdicts: weak = not above the untrained network; unresolved = above it on average, with too few pairs for"
            " the interval to say so; collapsed = the embeddings are"
            " nearly one point or one direction; diverged = the loss or a gradient was no longer a number;"
            " floor = untrained."
        )
        if any(board.baseline for board in self.boards):
            notes.append(_pairs_note(repetitions))
        if seen := sorted({row.pretrained_on for board in self.boards for row in board.rows} - {""}):
            notes.append(_pretrained_note(seen))
        if self.overall_ranking:
            notes.append(_standing_note(self.overall_ranking))
        if self.new_images:
            notes.append(NEW_IMAGES_NOTE)
        if self.similarity:
            notes.append(SIMILARITY_NOTE)
        if self.published:
            notes.append(PUBLISHED_NOTE)
        if self.searched:
            notes += self.searched.notes
        notes += _energy_note(self.run_table.frame)
        return notes + self._unfinished_notes

    @property
    def _tuning_notes(self) -> list[str]:
        """How configs were chosen, by each `validation` of the suite."""
        found = dict.fromkeys(board.validation for board in self.boards)
        score, scores, several = self.suite.score, self.run_table.scores, len(found) > 1
        notes = [tuning.tuning_note(scores, score, validation, several) for validation in found]
        chosen = any(not math.isnan(row.winners_curse.mean) for board in self.boards for row in board.rows)
        return notes + ([tuning.curse_note(n, chosen)] if (n := self.suite.tune_repetitions) else [])

    @property
    def _chance(self) -> str:
        chances = sorted({round(100 * c, 1) for c in self.run_table.frame["chance"].dropna()})
        return f"Chance is {', '.join(f'{c:g}' for c in chances)} %. " if chances else ""

    @property
    def _unfinished_notes(self) -> list[str]:
        """Runs that are missing, stale or under another protocol, and what to do."""
        notes, counts = [], self.status_counts
        if missing := counts.get("missing"):
            notes.append(f"{pluralize(missing, 'run')} missing: run `{self.command}`; finished runs are kept.")
        if stale := counts.get("stale"):
            reasons = self.run_table.frame.loc[self.run_table.frame["status"] == "stale", "reason"]
            why = "; ".join(sorted(set(reasons)))
            notes.append(f"{pluralize(stale, 'stale run')} left out ({why}): run `{self.command} --redo stale`.")
        tasks = [board.task for board in self.boards if board.task.endswith("]")]
        if tasks:
            notes.append(f"Runs under different protocols are not ranked together: {'; '.join(tasks)}.")
        return notes

    @cached_property
    def origin(self) -> list[tuple[str, str]]:
        """Where the numbers come from: (name, value); different values with the number of records that have them."""
        frame = self.run_table.frame.drop_duplicates("id")
        frame = frame[~frame["status"].isin(UNFINISHED_STATUSES)]
        entries = [("command", self.command), ("suite", f"{self.suite.file} (hash {self.suite.text_hash})")]
        for column in ("device", "machine", "precision", "package", "torch", "python", "commit", "protocol"):
            entries.append((column, _tally(frame, column)))
        return [(name, value) for name, value in entries if value]


def _tally(frame: pd.DataFrame, column: str) -> str:
    """`cpu (150), cuda (2)`; a single value has no count."""
    counts = Counter(str(value) for value in frame[column].dropna()) if column in frame else Counter[str]()
    if len(counts) < 2:
        return next(iter(counts), "")
    return ", ".join(f"{value} ({n})" for value, n in sorted(counts.items()))


def _interval_note(repetitions: int) -> str:
    if repetitions < 2:
        return "n = 1 repetition: there is no interval, and no difference can be told from chance."
    return f"n = {repetitions} repetitions; ± is half of the 95 % t-interval of their mean."


def _pairs_note(repetitions: int) -> str:
    text = "Differences to the baseline are paired: a repetition has the same labels, first weights and views for all."
    if repetitions < MIN_PAIRS:
        few = f"With {pluralize(repetitions, 'pair')} no difference is resolvable ({MIN_PAIRS} are needed)"
        return f"{text} {few}, which is not 'no difference'."
    text += " They say better or worse where a paired t-test does, Holm-corrected over the losses, p < .05."
    ranks = "A rank is 1 + how many losses are better by such tests of all pairs"
    return f"{text} {ranks}: one that scatters can have a better rank than one with a higher mean."


def _pretrained_note(seen: list[str]) -> str:
    rule = "they are not from scratch, and 'untrained' is the network as it was loaded"
    rule += ". Encoders with other first weights have tables of their own"
    return f"Rows began with weights that have seen {', '.join(seen)}: {rule}."


def _energy_note(frame: pd.DataFrame) -> list[str]:
    """What the joules of these runs count; [] if no machine told any."""
    if "energy_joules" not in frame or frame["energy_joules"].isna().all():
        return []
    factors = ", ".join(f"{grams:g}" for grams in sorted(set(frame["grams_co2_per_kwh"].dropna())))
    parts = {"cpu_joules": "processor packages and memory", "gpu_joules": "GPU"}
    counted = " and of ".join(words for name, words in parts.items() if name in frame and frame[name].notna().any())
    text = f"Joules are an estimate: counters of the {counted}, which count for the whole machine, divided among the"
    text += " processes by their processor time (a GPU's evenly); nothing else that draws power is in them. A training"
    return [f"{text} that several runs share counts in each. CO2 is at {factors} g a kWh (docs/records.md)."]


def _standing_note(overall: OverallRanking) -> str:
    where = pluralize(overall.datasets, "data set")
    these = "these data sets" if overall.datasets > 1 else "this data set"
    text = f"Over all tasks ({where}): ranks are means over tasks; their intervals speak of new repetitions on {these}."
    if overall.units < MIN_PAIRS:
        units = f"{pluralize(overall.units, 'paired unit')} (data set and repetition)"
        text += f" {units} cannot order losses; {MIN_PAIRS} are needed."
    return text
