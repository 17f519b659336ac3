"""The table of runs that fine-tune: what else learns from the same labels, and the paired differences."""

from cl_semisup.report import wording
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.results.leaderboard import Board
from cl_semisup.results.statistics import MeanCI, paired_difference

FINE_TUNED, LINEAR = "finetune_top1_labelled", "linear_top1_labelled"
BESIDE = {  # what the fine-tuned network is compared with -> its column
    LINEAR: "linear",
    "finetune_scratch_top1_labelled": "from scratch",
    "finetune_head_top1_labelled": "head alone",
    "finetune_last_top1_labelled": "last block",
    "finetune_lora_top1_labelled": "low rank",
}


def fine_tuning_table(board: Board) -> Table | None:
    """Fine-tuning beside what else learns from the same labels, and the differences, paired by repetition."""
    rows = [row for row in board.rows if row.scores.get(FINE_TUNED, MeanCI()).n]
    names = [name for name in BESIDE if any(row.scores.get(name, MeanCI()).n for row in rows)]
    if not rows or not names:
        return None
    columns = [LOSS, Column("fine-tuned %", "the whole network, trained further on the visible labels")]
    columns += [Column(f"{BESIDE[name]} %", name) for name in names]
    columns += [Column(f"- {BESIDE[name]}", "fine-tuned minus it, points, paired by repetition") for name in names]
    entries = []
    for row in rows:
        ours = row.reported_cell.repetition_scores(FINE_TUNED)
        found = [row.scores.get(name, MeanCI()) for name in (FINE_TUNED, *names)]
        gains = [paired_difference(ours, row.reported_cell.repetition_scores(name)) for name in names]
        percents = [Entry(wording.format_percent(one), one.mean) for one in found]
        entries.append(
            (Entry(row.loss, row.loss), *percents, *(Entry(wording.format_points(one), one.mean) for one in gains))
        )
    return Table(f"Fine-tuning beside the same labels otherwise, {board.task}", tuple(columns), tuple(entries))
