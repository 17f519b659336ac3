"""What a command with a budget left open, loss by loss."""

from collections.abc import Set as AbstractSet

from cl_semisup.report import terminal, wording
from cl_semisup.report.search_result import SearchResult
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.results.naming import RunNames
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite.run import Run


def text(suite: SuiteSnapshot, left: AbstractSet[str], budget: str, rest: str, searched: SearchResult | None) -> str:
    """A table of the runs that are not done, and what to expect of the rest.

    Args:
        left: ids of the runs that are not done
        budget, rest: the time that there was, and that the open runs will take, in words
        searched: the result of the suite's search, if it has one
    """
    goes_on = searched is not None and not searched.finished
    if not left and not goes_on:
        return f"Everything was done within the budget of {budget}."
    lines = terminal.lines(open_table(suite, left, budget)) if left else []
    more = " Its search is not finished: which runs follow depends on these." if goes_on else ""
    sentence = f"{wording.pluralize(len(left), 'run')} open, about {rest}.{more} The same command goes on."
    return "\n".join([*lines, *terminal.wrapped([sentence])])


def open_table(suite: SuiteSnapshot, left: AbstractSet[str], budget: str) -> Table:
    """A row for each loss of each task with open runs."""
    names = RunNames(list(suite.runs))
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in suite.runs:
        for task in names.tasks(run):
            groups.setdefault((task, names.losses[run.id]), []).append(run)
    columns = (
        LOSS,
        Column("task", numeric=False),
        Column("done", "runs with a record, of those that the suite asks for"),
        Column("repetitions", "that are complete, of those asked for"),
        Column("open", "runs that were not begun, since they were not expected to end in time, or that were left"),
    )
    rows = []
    for (task, loss), runs in sorted(groups.items()):
        open_ = [run for run in runs if run.id in left]
        repetitions = {run.repetition for run in runs}
        complete = repetitions - {run.repetition for run in open_}
        if open_:
            rows.append(
                (
                    Entry(loss, loss),
                    Entry(task),
                    Entry(f"{len(runs) - len(open_)} of {len(runs)}", len(runs) - len(open_)),
                    Entry(f"{len(complete)} of {len(repetitions)}", len(complete)),
                    Entry(str(len(open_)), len(open_)),
                )
            )
    return Table(f"open after the budget of {budget}", columns, tuple(rows))
