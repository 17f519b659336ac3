"""Some cells of a submission are run again: the cheapest ones, drawn at random, each over all its repetitions.

The gate's test decides (gate/outcome.py): the repetitions of a cell are paired with the told ones, so unchanged code
differs by rounding alone; a difference beyond the gate's margin at 1 % over all drawn cells is refused.
"""

import json
import math
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from scipy import stats

from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.gate import outcome
from cl_semisup.gate.gate_check import CHANGED
from cl_semisup.gate.outcome import FALSE_ALARM_RATE, FINAL_LOSS, SCORE_MARGIN, STABLE_RATES
from cl_semisup.results import records
from cl_semisup.submission.archive import Submission
from cl_semisup.submission.verify import Problem, Verified
from cl_semisup.suite.run import Run

CHEAP_SHARE = 0.5  # of the cells, the cheapest: from these the draw is
FEW = 4  # repetitions below which the gate's t-test tells nothing; then a score is refused beyond `margin`
MEMORY_BYTES = 8 * 2**30
SECONDS = 3600


def draw(verified: Verified, count: int, seed: int) -> list[list[Run]]:
    """`count` cells, each all repetitions of a config, among the cheapest by the told training time."""
    cells: dict[str, list[Run]] = defaultdict(list)
    for run in verified.runs:
        if run.epochs and run.id in verified.found:
            cells[repr({k: v for k, v in run.settings().items() if k != "repetition"})].append(run)

    def seconds(runs: Iterable[Run]) -> float:
        return sum(float(verified.found[run.id]["cost"].get("train_seconds") or 0) for run in runs)

    ordered = sorted(cells.values(), key=seconds)
    cheap = ordered[: max(count, int(CHEAP_SHARE * len(ordered)))]
    return random.Random(seed).sample(cheap, min(count, len(cheap)))


def run_again(
    submission: Submission,
    cells: list[list[Run]],
    firsts: list[TrainingGroup],
    again: Path,
    data_dir: str | None,
    run_code: bool,
) -> None:
    """Run these cells, and the first steps of these trainings, into the results folder `again`.

    This is done in a process of its own, with limits on memory and time.
    """
    words = [sys.executable, "-m", "cl_semisup.submission.rerun_process", str(submission.folder), str(again)]
    words += [str(SECONDS), str(MEMORY_BYTES), data_dir or ""]
    words += [str(path) for path in submission.plugins] if run_code else []
    asked = [[run.id for cell in cells for run in cell], [training.runs[0].id for training in firsts]]
    with suppress(subprocess.TimeoutExpired):  # what is not ready then is missing
        subprocess.run(words, check=False, timeout=SECONDS + 60, input=json.dumps(asked), text=True)


def compare(
    submission: Submission, cells: list[list[Run]], again: Path, test_images: Mapping[str, int]
) -> list[Problem]:
    """Runs that came out otherwise, or not at all. `test_images`: run id -> their number."""
    problems: list[Problem] = []
    images: dict[str, int] = {}
    submitted: outcome.RunSummaries = {}
    done: outcome.RunSummaries = {}
    for cell in cells:
        name = f"{cell[0].loss_name}, lr {cell[0].learning_rate:g}, batch {cell[0].batch_size} ({cell[0].id})"
        before, after = ([_summary(folder, run) for run in cell] for folder in (submission.folder, again))
        if any(one is None for one in after):
            problems.append(Problem("rerun", f"{name}: could not be run again within the limits"))
            continue
        if [one["status"] for one in before if one] != [one["status"] for one in after if one]:
            problems.append(Problem("rerun", f"{name}: ended otherwise when it was run again"))
        images[name] = test_images.get(cell[0].id, 0)
        key = f"lr {cell[0].learning_rate:g}, {cell[0].id}"
        submitted[name] = {key: [one for one in before if one]}
        done[name] = {key: [one for one in after if one]}
    checks = outcome.compare(submitted, done)
    for check in checks:
        count = len(next(iter(submitted[check.loss].values())))
        old, new, far = check.reference, check.current, False
        if count < FEW and check.quantity not in (FINAL_LOSS, STABLE_RATES) and old is not None and new is not None:
            far = abs(old - new) > margin(new, images[check.loss], count, len(checks))
        if check.status == CHANGED or far:
            text = f"{check.quantity} was told as {check.reference:.4g} and is {check.current:.4g} ({check.note})"
            problems.append(Problem("rerun", f"{check.loss}: {text}"))
    return problems


def margin(score: float, images: int, repetitions: int, checks: int) -> float:
    """How far a mean score over few repetitions may be off; infinity without test images.

    Other rounding may lead a training elsewhere. Scores of two trainings that are as good, with errors on independent
    images, differ by a standard deviation of sqrt(2 p (1 - p) / images); a mean's is less by the root of the
    repetitions. The margin is the gate's plus as many of these as no difference exceeds in 99 % of all comparisons of
    `checks` scores.
    """
    if not images:
        return math.inf
    deviation = math.sqrt(2 * max(score * (1 - score), 1 / images) / (images * repetitions))
    return SCORE_MARGIN + float(stats.norm.isf(FALSE_ALARM_RATE / (2 * checks))) * deviation


def _summary(folder: Path, run: Run) -> outcome.RunSummary | None:
    path = records.path_of(folder, run)
    return outcome.summarize(records.read(path), records.read_curves(path)) if records.exists(path) else None
