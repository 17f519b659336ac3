"""What a report says, before it is written in any form: the answer, the boards, the notes, the numbers' origin."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from cl_semisup.report import ranking, stability, wording
from cl_semisup.report.ranking import LEAST_UNITS, Overall
from cl_semisup.report.similarity import Similarity, similarity
from cl_semisup.report.stability import Stability
from cl_semisup.results import leaderboard
from cl_semisup.results.leaderboard import UNFINISHED, VALIDATION, Board, Gathered, Line, endings
from cl_semisup.results.snapshot import SuiteSnapshot

SIMILARITY_NOTE = (
    "CKA (linear, unbiased) is 1 where the features of two networks differ by a rotation and a scale at most, and about"
    " 0 where they have nothing in common. To another loss it is paired by repetition, so both networks began with the"
    " same weights; between repetitions they did not, and every two are compared, without an interval."
)
TOLD_ONE_BY_ONE = 6  # tasks; of more, an answer tells who leads how often


@dataclass(frozen=True)
class Findings:
    """Everything that terminal, Markdown, LaTeX and HTML show of a suite's records."""

    chosen: SuiteSnapshot
    results: Path
    gathered: Gathered

    @classmethod
    def of(cls, results: Path, chosen: SuiteSnapshot) -> "Findings":
        return cls(chosen, results, leaderboard.gather(results, chosen.runs))

    @cached_property
    def boards(self) -> list[Board]:
        return leaderboard.boards(self.gathered, self.chosen.score, self.chosen.baseline)

    @cached_property
    def one_a_task(self) -> list[Board]:
        """The boards of every task's most common protocol: what may be joined over tasks."""
        return list({board.asked_task: board for board in reversed(self.boards)}.values())[::-1]

    @cached_property
    def overall(self) -> Overall | None:
        return ranking.overall(self.one_a_task)

    @cached_property
    def stability(self) -> dict[str, list[Stability]]:
        """Task -> figures of merit, of tasks with a grid."""
        found = {board.task: stability.stability(board) for board in self.boards}
        return {task: figures for task, figures in found.items() if figures}

    @cached_property
    def similarity(self) -> dict[str, Similarity]:
        """Task -> CKA between losses, of tasks whose runs were probed for it."""
        found = {board.task: similarity(board, self.results) for board in self.boards}
        return {task: alike for task, alike in found.items() if alike}

    @cached_property
    def ended(self) -> dict[str, int]:
        """How all runs asked for ended, each counted once though a floor run stands on several boards."""
        order = {ending: i for i, ending in enumerate(leaderboard.ENDINGS)}
        best: dict[str, str] = {}
        for run_id, status in zip(self.gathered.frame["id"], self.gathered.frame["status"], strict=True):
            best[run_id] = min(best.get(run_id, status), status, key=order.__getitem__)
        return endings(best.values())

    @property
    def command(self) -> str:
        """What makes the report again, running what is missing."""
        where = "" if self.results == Path("results") else f" --results {self.results}"
        return f"python benchmark.py {self.chosen.file}{where}"

    @cached_property
    def answer(self) -> list[str]:
        """The question answered in sentences: over all tasks, on each (or how often who leads), what went wrong."""
        sentences = [_over_all(self.overall)] if self.overall else []
        if len(self.boards) <= TOLD_ONE_BY_ONE:
            sentences += [_leading(board) for board in self.boards]
        else:
            sentences.append(_leaders(self.boards))
        broken = Counter[str]()
        for board in self.boards:
            for line in board.trained:
                count = sum(line.ended.get(ending, 0) for ending in ("collapsed", "diverged", "failed"))
                if count:
                    broken[line.loss] += count
        if broken:
            words = ", ".join(f"{loss} {n}" for loss, n in sorted(broken.items()))
            sentences.append(f"Runs that collapsed, diverged or failed: {words}.")
        return sentences

    @cached_property
    def progress(self) -> str:
        """`152 runs: ok 144, diverged 8`"""
        return f"{wording.count(sum(self.ended.values()), 'run')}: {wording.endings(self.ended)}"

    @cached_property
    def notes(self) -> list[str]:
        """How to read the tables; every claim that a number makes is said here."""
        score, repetitions = self.chosen.score, max((board.repetitions for board in self.boards), default=0)
        found = [_interval_note(repetitions), _tuning_note(self.gathered.scores)]
        found.append(
            f"Losses are ordered by {score}, percent of the test images at the last epoch. {self._chance}"
            "A diverged run counts as chance; a failed or missing one leaves a dash and how many of how many are there."
        )
        found.append(
            "Verdicts: weak = not above the untrained network; unresolved = above it on average, with too few pairs for"
            " the interval to say so; collapsed = the embeddings are"
            " nearly one point or one direction; diverged = the loss or a gradient was no longer a number;"
            " floor = untrained."
        )
        if any(board.baseline for board in self.boards):
            found.append(_pairs_note(repetitions))
        if self.overall:
            found.append(_standing_note(self.overall))
        if self.similarity:
            found.append(SIMILARITY_NOTE)
        found += self._open_notes
        return found

    @property
    def _chance(self) -> str:
        chances = sorted({round(100 * c, 1) for c in self.gathered.frame["chance"].dropna()})
        return f"Chance is {', '.join(f'{c:g}' for c in chances)} %. " if chances else ""

    @property
    def _open_notes(self) -> list[str]:
        """Runs that are missing, stale or under another protocol, and what to do."""
        found = []
        if missing := self.ended.get("missing"):
            found.append(f"{wording.count(missing, 'run')} missing: run `{self.command}`; finished runs are kept.")
        if stale := self.ended.get("stale"):
            reasons = self.gathered.frame.loc[self.gathered.frame["status"] == "stale", "reason"]
            why = "; ".join(sorted(set(reasons)))
            found.append(f"{wording.count(stale, 'stale run')} left out ({why}): run `{self.command} --redo stale`.")
        tasks = [board.task for board in self.boards if board.task.endswith("]")]
        if tasks:
            found.append(f"Runs under different protocols are not ranked together: {'; '.join(tasks)}.")
        return found

    @cached_property
    def origin(self) -> list[tuple[str, str]]:
        """Where the numbers come from: (word, value), each value as many records hold it."""
        frame = self.gathered.frame.drop_duplicates("id")
        frame = frame[~frame["status"].isin(UNFINISHED)]
        found = [("command", self.command), ("suite", f"{self.chosen.file} (hash {self.chosen.text_hash})")]
        for name, column in (("device", "device"), ("machine", "machine"), ("precision", "precision")):
            found.append((name, _tally(frame, column)))
        for name in ("package", "torch", "python", "commit", "protocol"):
            found.append((name, _tally(frame, name)))
        return [(name, value) for name, value in found if value]


def _tally(frame: pd.DataFrame, column: str) -> str:
    """`cpu (150), cuda (2)`; the count only where values differ."""
    counts = Counter(str(value) for value in frame[column].dropna()) if column in frame else Counter[str]()
    if len(counts) < 2:
        return next(iter(counts), "")
    return ", ".join(f"{value} ({n})" for value, n in sorted(counts.items()))


def _interval_note(repetitions: int) -> str:
    if repetitions < 2:
        return "n = 1 repetition: there is no interval, and no difference can be told from chance."
    return f"n = {repetitions} repetitions; ± is half of the 95 % t-interval of their mean."


def _tuning_note(scores: tuple[str, ...]) -> str:
    if VALIDATION not in scores:
        return "No record has a validation score: each loss stands in the first config of the grid, untuned."
    return (
        f"Each loss stands in its config with the best mean {VALIDATION}: accuracy on training images held out of"
        " training the probe, with all their labels; never on the test images."
    )


def _pairs_note(repetitions: int) -> str:
    text = "Differences to the baseline are paired: a repetition has the same labels, first weights and views for all."
    if repetitions < LEAST_UNITS:
        few = f"With {wording.count(repetitions, 'pair')} no difference is resolvable ({LEAST_UNITS} are needed)"
        return f"{text} {few}, which is not 'no difference'."
    text += " They say better or worse where a paired t-test does, Holm-corrected over the losses, p < .05."
    ranks = "A rank is 1 + how many losses are better by such tests of all pairs"
    return f"{text} {ranks}: one that scatters can have a better rank than one with a higher mean."


def _standing_note(found: Overall) -> str:
    where = wording.count(found.datasets, "data set")
    drawn = "data sets, then repetitions" if found.datasets > 1 else "repetitions; it speaks of this data set alone"
    text = f"Over all tasks ({where}): a rank is the mean over tasks, its interval a bootstrap's that draws {drawn}."
    if found.units < LEAST_UNITS:
        units = f"{wording.count(found.units, 'paired unit')} (data set and repetition)"
        text += f" {units} cannot order losses; {LEAST_UNITS} are needed."
    return text


def _over_all(found: Overall) -> str:
    """`Over all 6 tasks: clop has the best mean rank, 1.2 [1.0, 1.8]; not told apart from supcon.`"""
    first = found.standings[0]
    text = f"Over all {found.tasks} tasks: {first.loss} has the best mean rank, {wording.bounded(first.mean_rank)}"
    if first.rank is None:
        return f"{text}; with {wording.count(found.units, 'paired unit')} that is not resolvable."
    level = [one.loss for one in found.standings[1:] if one.rank == 1]
    left_out = f" Not ranked, as runs are missing or failed: {', '.join(found.unranked)}." if found.unranked else ""
    apart = f"not told apart from {', '.join(level)}" if level else "its interval lies above all others"
    return f"{text}; {apart}.{left_out}"


def _leaders(boards: list[Board]) -> str:
    """`Best mean: clop on 7 tasks, supcon on 3.`"""
    leaders = Counter(board.trained[0].loss for board in boards if board.trained and board.trained[0].complete)
    words = ", ".join(f"{loss} on {wording.count(n, 'task')}" for loss, n in sorted(leaders.items(), key=_most_first))
    return f"Best mean: {words}." if words else "No task has all its runs yet."


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _leading(board: Board) -> str:
    """`digits, labels 2%: dhel leads with 98.7 ± 2.1 %; ...`"""
    lines = [line for line in board.trained if not math.isnan(line.scores[board.score].mean)]
    if not lines:
        return f"{board.task}: no loss has all its runs yet."
    first = lines[0]
    text = f"{board.task}: {first.loss} leads with {wording.percent(first.scores[board.score])} % {board.score}"
    if len(lines) == 1:
        return f"{text}."
    return f"{text}; {_second_clause(board, first, lines)}."


def _second_clause(board: Board, first: Line, lines: list[Line]) -> str:
    ranks = ranking.shared_ranks(board)
    if not ranks:
        words = f"with {wording.count(board.repetitions, 'repetition')} that is not resolvable"
        base = next((line for line in lines if line.loss == board.baseline), None)
        if base is None or base is first:
            return words
        return f"{wording.points(first.difference)} points on {board.baseline}; {words}"
    level = [loss for loss, rank in ranks.items() if rank == 1 and loss != first.loss]
    if not level:
        others = "every other loss" if all(line.complete for line in board.trained) else "every other finished loss"
        return f"better than {others} (p < .05, paired, Holm-corrected)"
    return f"not told apart from {', '.join(level)}"
