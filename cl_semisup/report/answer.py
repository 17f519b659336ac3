"""The answer to a suite's question in sentences: over all tasks, then by task, then which runs broke.

What is not above the untrained network leads nothing. Losses with the same mean lead together.
"""

import math
from collections import Counter
from collections.abc import Sequence

from cl_semisup.report import ranking, wording
from cl_semisup.report.ranking import OverallRanking
from cl_semisup.report.wording import format_points, pluralize
from cl_semisup.results.leaderboard import Board, Row, leads

NOT_ABOVE = "not above the untrained network, or has collapsed or diverged"
NOT_ABOVE_CHANCE = "not above chance, or has collapsed or diverged"  # where the untrained network has not all its runs
MAX_TASKS_ONE_BY_ONE = 6  # with more tasks, the answer only counts on how many each loss leads
SAME = 1e-12  # difference of two means of the same numbers, added in another order


def sentences(boards: Sequence[Board], overall: OverallRanking | None) -> list[str]:
    """Over all tasks, then by task (or leaders counted), then broken runs."""
    found = [_over_all(overall)] if overall else []
    found += [_leading(board) for board in boards] if len(boards) <= MAX_TASKS_ONE_BY_ONE else [_leaders(boards)]
    broken = Counter[str]()
    for board in boards:
        for row in board.trained_rows:
            broken[row.loss] += sum(row.status_counts.get(word, 0) for word in ("collapsed", "diverged", "failed"))
    if counts := ", ".join(f"{loss} {n}" for loss, n in sorted(broken.items()) if n):
        found.append(f"Runs that collapsed, diverged or failed: {counts}.")
    return found


def _over_all(overall: OverallRanking) -> str:
    """`Over all 6 tasks: clop has the best mean rank, 1.2 [1.0, 1.8]; not told apart from supcon.`"""
    best, where = overall.standings[0], f"Over all {overall.tasks} tasks: "
    first = [one for one in overall.standings if abs(one.mean_rank.mean - best.mean_rank.mean) <= SAME]
    if not (named := [one for one in first if not one.weak]):
        return f"{where}no loss leads. {best.loss} has the best mean rank, but is {NOT_ABOVE}."
    losses = [one.loss for one in named]
    has = "has" if len(losses) == 1 else "have"
    text = f"{where}{_and(losses)} {has} the best mean rank, {wording.format_mean_ci(named[0].mean_rank)}"
    if best.ranks is None:
        return f"{text}; with {pluralize(overall.units, 'paired unit')} that is not resolvable."
    tied = [one.loss for one in overall.standings if one.ranks and one.ranks[0] == 1 and one.loss not in losses]
    unranked = f" Not ranked, as runs are missing or failed: {', '.join(overall.unranked)}." if overall.unranked else ""
    comparison = f"not told apart from {', '.join(tied)}" if tied else "better than all others"
    everyone = len(losses) == len(overall.standings)
    return f"{text}.{unranked}" if everyone else f"{text}; {comparison}.{unranked}"


def _leaders(boards: Sequence[Board]) -> str:
    """`Best mean: clop on 7 tasks, supcon on 3, clop and supcon on 1.`"""
    leaders = Counter[str]()
    for board in boards:
        first = _first(board)
        if first and first[0].complete:
            leaders[_and([row.loss for row in first if leads(board, row)])] += 1
    nobody = leaders.pop("", 0)
    ordered = sorted(leaders.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{losses} on {pluralize(n, 'task')}" for losses, n in ordered]
    texts += [f"no loss above the untrained network on {pluralize(nobody, 'task')}"] if nobody else []
    return f"Best mean: {', '.join(texts)}." if texts else "No task has all its runs yet."


def _leading(board: Board) -> str:
    """`digits, labels 2%: dhel leads with 98.7 ± 2.1 %; ...`"""
    if not (first := _first(board)):
        return f"{board.task}: no loss has all its runs yet."
    leading = [row for row in first if leads(board, row)]
    score = f"{wording.format_percent((leading or first)[0].scores[board.score])} % {board.score}"
    if not leading:
        below = NOT_ABOVE if board.floor_scores is not None else NOT_ABOVE_CHANCE
        return f"{board.task}: no loss leads. {first[0].loss} has the best mean, {score}, but is {below}."
    verb = "leads" if len(leading) == 1 else "lead"
    text = f"{board.task}: {_and([row.loss for row in leading])} {verb} with {score}"
    return f"{text}; {_second_clause(board, leading)}." if len(leading) < len(_with_mean(board)) else f"{text}."


def _second_clause(board: Board, leading: Sequence[Row]) -> str:
    ranks, first = ranking.rank_intervals(board), leading[0]
    losses = [row.loss for row in leading]
    if not ranks:
        text = f"with {pluralize(board.repetitions, 'repetition')} that is not resolvable"
        if board.baseline in losses or all(row.loss != board.baseline for row in _with_mean(board)):
            return text
        return f"{format_points(first.difference)} points on {board.baseline}; {text}"
    tied = [loss for loss, (best, _) in ranks.items() if best == 1 and loss not in losses]
    if not tied:
        every = "every other loss" if all(row.complete for row in board.trained_rows) else "every other finished loss"
        return f"better than {every} (p < .05, paired, Holm-corrected)"
    return f"not told apart from {', '.join(tied)}"


def _with_mean(board: Board) -> list[Row]:
    return [row for row in board.trained_rows if not math.isnan(row.scores[board.score].mean)]


def _first(board: Board) -> list[Row]:
    """The rows with the highest mean: several if they are equal, none if no loss has all its runs."""
    rows = _with_mean(board)
    means = [row.scores[board.score].mean for row in rows]
    return [row for row, mean in zip(rows, means, strict=True) if means[0] - mean <= SAME]


def _and(losses: Sequence[str]) -> str:
    """`a`, or `a and b`, or `a, b and c`."""
    return " and ".join([", ".join(losses[:-1]), losses[-1]] if len(losses) > 1 else losses)
