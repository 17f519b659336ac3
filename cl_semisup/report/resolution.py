"""How well a suite that asks for `resolve` knows the difference of each loss to the baseline."""

from collections.abc import Sequence

from cl_semisup.report import wording
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.results.naming import RunNames
from cl_semisup.search.resolution import Comparison
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Resolve


def resolution_table(runs: Sequence[Run], compared: Sequence[Comparison], search: Resolve, baseline: str) -> Table:
    """A row a task and loss."""
    names = RunNames(list(runs))
    columns = (
        LOSS,
        Column("task", numeric=False),
        Column(f"vs {baseline}", "paired difference in points; its 95 % interval holds at every look"),
        Column("repetitions", "pairs that it took"),
        Column("resolved", f"is the interval at most {search.points:g} points to either side?", numeric=False),
    )
    rows = []
    for one in sorted(compared, key=lambda one: (names.tasks(one.run)[0], names.losses[one.run.id])):
        entries = (
            Entry(names.losses[one.run.id], names.losses[one.run.id]),
            Entry(names.tasks(one.run)[0]),
            Entry(wording.format_points(one.difference), one.difference.mean),
            Entry(str(one.difference.n), one.difference.n),
            Entry("yes" if one.resolved else "open" if one.open else "no, at the cap"),
        )
        rows.append(entries)
    return Table(f"differences resolved to {search.points:g} points", columns, tuple(rows))


NOTES = [
    "Repetitions were added until each interval was narrow enough. Intervals of that table hold at every look (a"
    " confidence sequence, 95 %), so stopping early does not spoil them; the t-intervals of the other tables would.",
]
