"""The table of published numbers beside ours."""

from collections.abc import Sequence

from cl_semisup.report.published import Comparison
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.report.wording import format_percent

PUBLISHED_COLUMNS = (
    LOSS,
    Column("task", "data set and labels, as above", numeric=False),
    Column("config", "our tuned config of those that the number speaks of", numeric=False),
    Column("score", "what is compared", numeric=False),
    Column("published %", "as its source has it"),
    Column("ours %", "mean over repetitions and half of its 95 % interval"),
    Column("inside", "does the published number meet our interval?", numeric=False),
    Column("source", "where the number stands, and in what our recipe differs", numeric=False, optional=1),
)


def published_table(comparisons: Sequence[Comparison], score: str) -> Table:
    """Published numbers beside ours."""
    rows = []
    for one in comparisons:
        number = one.published
        text = f"{100 * number.value:.1f}" + (f" ± {100 * number.interval:.1f}" if number.interval else "")
        source = number.source + (f"; {number.remark}" if number.remark else "")
        row = (
            _text(number.loss),
            _text(one.task or "—"),
            _text(one.config or "—"),
            _text(number.score or score),
            Entry(text, number.value),
            Entry(format_percent(one.ours), one.ours.mean),
            _text(one.inside or "—"),
            _text(source),
        )
        rows.append(row)
    return Table("Published numbers beside ours", PUBLISHED_COLUMNS, tuple(rows))


def _text(text: str) -> Entry:
    return Entry(text, text)
