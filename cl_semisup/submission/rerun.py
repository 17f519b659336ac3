"""Some cells of a submission are run again: the cheapest ones, drawn at random, each over all its repetitions.

The gate's test decides (gate/outcome.py): the repetitions of a cell are paired with the told ones, so unchanged code
differs by rounding alone; a difference beyond the gate's margin at 1 % over all drawn cells is refused.

Curves of the same seed have the noise of their batches in common. So the first half of a told curve of losses must be
nearer to the one that comes out than one of its points is to the next: a curve that is shifted by a point is not.
"""

import json
import math
import os
import random
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.gate import outcome
from cl_semisup.gate.gate_check import CHANGED
from cl_semisup.gate.outcome import FALSE_ALARM_RATE, FINAL_LOSS, SCORE_MARGIN, STABLE_RATES
from cl_semisup.results import records
from cl_semisup.submission.archive import Submission
from cl_semisup.submission.verify import Problem, Verified, describe
from cl_semisup.suite.run import Run

HOME = Path(__file__).parents[2]  # the folder of this package
CHEAP_SHARE = 0.5  # of the cells, the cheapest: from these the draw is
FAR = (
    0.4  # of a step from point to point; other kernels and memory layouts moved 18 curves by 0.12 at most, a shift by 1
)
MIN_POINTS = 3
SAME = 0.05  # of a step at every point: then the training is the same but for rounding, and so are its scores
SAME_IMAGES = 3  # test images that rounding may turn, beside the margin
STILL = 1e-4  # of a loss: smaller steps are rounding
FASTER = 30.0  # than here, seconds of a thread of a processor: no two machines that run this differ so much
LONG_SECONDS = 10.0  # of the same: in a shorter training what a new process does once weighs too much
FEW = 4  # repetitions below which the gate's t-test tells nothing; then a score is refused beyond `margin`
UNTRAINED = 2  # runs without training that are done again too: the floor that every loss is compared with
MEMORY_BYTES = 8 * 2**30
SECONDS = 3600


def draw(verified: Verified, count: int, seed: int) -> list[list[Run]]:
    """`count` cells, each all repetitions of a config, among the cheapest by the told times, and an untrained one."""
    cells: dict[str, list[Run]] = defaultdict(list)
    for run in verified.runs:
        if run.id in verified.found:
            cells[repr({k: v for k, v in run.settings().items() if k != "repetition"})].append(run)
    trained = [cell for cell in cells.values() if cell[0].epochs]
    untrained = [cell[:UNTRAINED] for cell in cells.values() if not cell[0].epochs]

    def seconds(runs: Iterable[Run]) -> float:
        return sum(float(verified.found[run.id]["cost"].get("train_seconds") or 0) for run in runs)

    ordered = sorted(trained, key=seconds)
    cheap = ordered[: max(count, int(CHEAP_SHARE * len(ordered)))]
    drawn = random.Random(seed)
    chosen = drawn.sample(cheap, min(count, len(cheap)))
    return chosen + (drawn.sample(untrained, 1) if untrained and chosen else [])


def run_again(
    submission: Submission,
    cells: list[list[Run]],
    firsts: list[TrainingGroup],
    again: Path,
    data_dir: str | None,
    run_code: bool,
) -> None:
    """Run these cells, and the first steps of these trainings, into the results folder `again`.

    This is done in a process of its own, with limits on memory and time. It imports this very package, whatever lies in
    the current folder.
    """
    words = [sys.executable, "-m", "cl_semisup.submission.rerun_process", str(submission.folder), str(again)]
    words += [str(SECONDS), str(MEMORY_BYTES), data_dir or ""]
    words += [str(path) for path in submission.plugins] if run_code else []
    asked = [[run.id for cell in cells for run in cell], [training.runs[0].id for training in firsts]]
    path = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    with suppress(subprocess.TimeoutExpired):  # what is not ready then is missing
        subprocess.run(words, check=False, timeout=SECONDS + 60, input=json.dumps(asked), text=True, env=environment)


def compare(
    submission: Submission, cells: list[list[Run]], again: Path, test_images: Mapping[str, int]
) -> list[Problem]:
    """Runs that came out otherwise, or not at all. `test_images`: run id -> their number."""
    problems: list[Problem] = []
    images: dict[str, int] = {}
    submitted: outcome.RunSummaries = {}
    done: outcome.RunSummaries = {}
    for cell in cells:
        name = f"{cell[0].loss_name}, lr {cell[0].learning_rate or 0:g}, batch {cell[0].batch_size} ({cell[0].id})"
        before, after = ([_summary(folder, run) for run in cell] for folder in (submission.folder, again))
        if any(one is None for one in after):
            problems.append(Problem("rerun", f"{name}: could not be run again within the limits"))
            continue
        if [one["status"] for one in before if one] != [one["status"] for one in after if one]:
            problems.append(Problem("rerun", f"{name}: ended otherwise when it was run again"))
        for run in cell:
            texts = _differs(run, submission, again, test_images.get(run.id, 0))
            problems += [Problem("rerun", f"{describe(run)}: {text}") for text in texts]
        problems += [Problem("cost", text) for text in [_too_fast(name, speed(submission, cell, again))] if text]
        images[name] = test_images.get(cell[0].id, 0)
        key = f"lr {cell[0].learning_rate or 0:g}, {cell[0].id}"
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


def _differs(run: Run, submission: Submission, again: Path, test_images: int) -> Iterator[str]:
    """What is wrong with a run by its curve of losses and, where that came out the same, by its scores."""
    away = np.zeros(1)
    if run.epochs:
        told, done = (_losses(folder, run) for folder in (submission.folder, again))
        half = len(done) // 2
        if len(told) != len(done) or half < MIN_POINTS:
            return  # other rules tell why
        step = max(float(np.median(np.abs(np.diff(done)))), STILL * float(np.abs(done).max()))
        away = np.abs(told - done) / step
        if (far := float(np.median(away[:half]))) > FAR:
            yield f"its curve of losses is {far:.2g} steps away from the one that came out"
    if away.max() < SAME and test_images:
        old, new = (records.read(records.path_of(folder, run))["scores"] for folder in (submission.folder, again))
        for name in sorted(old.keys() & new.keys()):
            if abs(old[name] - new[name]) > SCORE_MARGIN + SAME_IMAGES / test_images:
                yield f"{name} was told as {old[name]:.4g} and is {new[name]:.4g}, and the training came out the same"


def _losses(folder: Path, run: Run) -> NDArray[np.float64]:
    """(points,) of a run that ended ok; none else."""
    path = records.path_of(folder, run)
    if records.read(path)["status"] != "ok":
        return np.empty(0)
    return np.asarray(records.read_curves(path)["history"]["loss"], dtype=float)


def speed(submission: Submission, cell: list[Run], again: Path) -> tuple[float, float] | None:
    """The least seconds of a cell's trainings on a CPU, as told and here, times threads; None on other devices."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for run in cell:
        for folder, of_folder in zip((submission.folder, again), seconds, strict=True):
            path = records.path_of(folder, run)
            record = records.read(path) if records.exists(path) else None
            if not run.epochs or record is None or record["resolved"].get("device") != "cpu":
                return None
            threads = re.search(r"(\d+) threads", str(record["versions"].get("machine")))
            taken = float(record["cost"].get("train_seconds") or 0.0)
            of_folder.append(taken * (int(threads[1]) if threads else 1))
    told, here = map(min, seconds)  # a busy machine takes longer
    return told, here


def _too_fast(name: str, seconds: tuple[float, float] | None) -> str:
    if seconds is None or seconds[1] < max(seconds[0] * FASTER, LONG_SECONDS):
        return ""
    return f"{name}: its training took {seconds[0]:.3g} s of a thread as told and {seconds[1]:.3g} s here"


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
