"""What a suite's repetitions will be able to tell apart, said before they run: from the spread of finished runs."""

import math
from collections.abc import Collection
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import median

from cl_semisup import plugins
from cl_semisup.errors import ResultsError
from cl_semisup.results import records
from cl_semisup.results.naming import budget
from cl_semisup.results.packed import Packed
from cl_semisup.scheduling.progress import format_duration
from cl_semisup.search import power
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import Resolve
from cl_semisup.suite.suite import Suite

PUBLISHED = Path("results/published")
MAX_RECORDS = 3000  # that are read, a few seconds
MAX_TASKS = 4  # that are told
POINT = 0.01


def describe(results: Path, suite: Suite) -> list[str]:
    """A sentence for each data set and label budget; [] where too little is known or nothing is compared."""
    trained = [run for run in suite.runs if run.epochs]
    repetitions = len({run.repetition for run in trained})
    if len({repr(run.loss) for run in trained}) < 2:
        return []
    tasks: dict[tuple[str, str], list[Run]] = {}
    for run in trained:
        tasks.setdefault((run.dataset_name, budget(run)), []).append(run)
    lines = []
    tasks = dict(list(tasks.items())[:MAX_TASKS])
    read = cache(partial(_records, budgets=frozenset(labels for _, labels in tasks), score=suite.score))
    for (dataset, labels), runs in tasks.items():
        for folder in (results, PUBLISHED):
            found = [one for one in read(folder, dataset) if budget(one[0]) == labels]
            spread = power.spread([(run, score) for run, score, _ in found], suite.baseline)
            if spread and spread.deviation > 0:
                seconds = _seconds([record for _, _, record in found], runs)
                lines.append(_sentence(f"{dataset}, labels {labels}", spread, suite, repetitions, seconds, folder))
                break
    return lines


def _records(
    folder: Path, dataset: str, budgets: Collection[str], score: str
) -> list[tuple[Run, float, records.Record]]:
    """The trained runs of a data set with these label budgets that ended ok, with their scores."""
    found = []
    if not dataset.isidentifier() or dataset not in plugins.paths("datasets"):
        return []
    for where in islice(records.all_found(folder, dataset), MAX_RECORDS):
        with suppress(ResultsError):  # the report says what is wrong with such a record
            if isinstance(where, Packed) and _is_other(where, budgets):
                continue
            record = records.read_found(where)
            run = Run.from_dict(record["run"])
            if run.epochs and record["status"] == "ok" and score in record["scores"] and budget(run) in budgets:
                found.append((run, float(record["scores"][score]), record))
    return found


def _is_other(packed: Packed, budgets: Collection[str]) -> bool:
    """Is a packed record certainly of another label budget? Its settings are read faster than the whole."""
    with suppress(ValueError):  # reading it says what is wrong
        run, problem = packed.run()
        return not problem and budget(Run.from_dict(run)) not in budgets
    return False


def _seconds(found: list[records.Record], runs: list[Run]) -> float:
    """About how long one repetition of these runs takes, one after the other, from seconds an epoch of such records."""
    costs = [(record["cost"], record["run"]["epochs"]) for record in found]
    training = median(cost.get("train_seconds", 0.0) / epochs for cost, epochs in costs)
    evaluation = median(cost.get("evaluation_seconds", 0.0) for cost, _ in costs)
    first = min(run.repetition for run in runs)
    return sum(run.epochs * training + evaluation for run in runs if run.repetition == first)


def _sentence(task: str, spread: power.Spread, suite: Suite, repetitions: int, seconds: float, folder: Path) -> str:
    whom = f"to {suite.baseline}" if suite.baseline else "between losses"
    text = f"{task}: differences {whom} scatter by {100 * spread.deviation:.1f} points"
    text += f" ({spread.comparisons} comparisons in {folder})."
    if isinstance(suite.search, Resolve):
        points = suite.search.points
        text += f" For intervals of {points:g} points to either side at every look, expect some"
        pairs = power.pairs_for_width(points / 100, spread.deviation)
        return f"{text} {pairs} repetitions, at most {suite.search.repetitions}."
    smallest = power.resolvable(spread.deviation, repetitions)
    if math.isinf(smallest):
        text += " With 1 repetition no difference can be resolved"
    else:
        text += f" With {repetitions} repetitions a difference below {100 * smallest:.1f} points is not resolved"
    needed = power.repetitions_for(POINT, spread.deviation)
    more = "more than " if needed >= power.MAX_REPETITIONS else ""
    return (
        f"{text} (80 % power, paired t-test). 1 point needs {more}{needed} repetitions,"
        f" about {format_duration(needed * seconds)} of computing."
    )
