"""Tuning and reporting apart: the first repetitions choose the config of each loss, which alone runs in the others."""

from collections.abc import Sequence

from cl_semisup.results import leaderboard
from cl_semisup.results.run_table import gather
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import cell, task_and_loss


def requested(runs: Sequence[Run], tune_repetitions: int, outcomes: Outcomes) -> tuple[Run, ...]:
    """The runs that are needed as far as finished ones decide it: all that tune, and of the others the chosen configs.

    Leaderboards choose in the same way from the same records. A loss has no further runs before all its configs are
    done in the repetitions that tune. The untrained network runs in all repetitions.
    """
    tuning = [run for run in runs if run.repetition < tune_repetitions]
    waiting = {task_and_loss(run) for run in tuning if not outcomes.is_done(run)}
    ready = [run for run in tuning if run.epochs and task_and_loss(run) not in waiting]
    table = gather(outcomes.results, ready, data_dir=outcomes.data.data_dir)
    boards = leaderboard.boards(table, outcomes.score)
    chosen_ids = {run_id for board in boards for row in board.rows for run_id in row.tuned_cell.runs["id"]}
    chosen = {cell(run) for run in ready if run.id in chosen_ids}
    return tuple(run for run in runs if run.repetition < tune_repetitions or not run.epochs or cell(run) in chosen)
