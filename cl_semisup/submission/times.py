"""Times, speeds and energy of a record: do they agree with each other, with the clock, and with other runs?

A sender who changes all of them together, in all runs, is told by nothing but a run that is done again (rerun.py); the
times of an unknown machine can never be proved.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any

from cl_semisup.execution.training_groups import group
from cl_semisup.results.numbers import is_number
from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run

ROUNDING = 1e-6
MAX_IMAGES_A_SECOND = 1e7
FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)  # before this package, on any clock that is set
ENERGY = ("cpu_joules", "gpu_joules", "energy_joules", "grams_co2_per_kwh", "co2_kg")
STAMP_SECONDS = 1.5  # start is rounded to a second, and a clock may be set while a run goes on
OTHER_CLOCK = 300.0  # seconds by which the clock of a sender's machine may be ahead
FASTER = 20.0  # than the median of runs of the same network on the same machine: no machine varies so much
LIKE_RUNS = 3  # from which their median is known
UNTOLD = (2.0, 30.0)  # a run lasts so many seconds, and so many times what it tells, longer than that: a note says so


def problems(run: Run, record: Record) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong) with one run that has not failed."""
    cost = record["cost"]
    yield from _training(run, record)
    for name, value in cost.items():
        if name not in ENERGY and not (is_number(value) and value >= 0):
            yield "cost", f"{name} is {value!r}, and what is spent is at least 0"
    yield from _energy(cost)
    yield from _stamps(record)


def _training(run: Run, record: Record) -> Iterator[tuple[str, str]]:
    """Seconds, speed and steps of a training."""
    cost, resolved = record["cost"], record["resolved"]
    seconds, speed = cost.get("train_seconds"), cost.get("images_per_second")
    if run.epochs and record["status"] == "ok" and not (is_number(seconds) and seconds > 0):
        yield "cost", f"train_seconds is {seconds!r}, and a training takes time"
    if is_number(speed) and speed > MAX_IMAGES_A_SECOND:
        yield "cost", f"images_per_second is {speed:.3g}, more than any machine trains"
    stopped, steps = resolved.get("stopped_at_step"), resolved.get("steps")
    steps = stopped + 1 if type(stopped) is int else steps
    if is_number(seconds) and is_number(speed) and is_number(steps) and run.batch_size:
        expected = steps * run.batch_size
        if expected and abs(seconds * speed / expected - 1) > ROUNDING:
            yield "cost", f"{seconds:.3g} s at {speed:.4g} images a second are not {steps} steps of {run.batch_size}"


def _energy(cost: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    parts = [cost.get(name, 0.0) for name in ("cpu_joules", "gpu_joules")]
    joules, grams = cost.get("energy_joules", 0.0), cost.get("grams_co2_per_kwh", 0.0)
    co2 = cost.get("co2_kg", 0.0)
    if not all(is_number(value) and value >= 0 for value in (*parts, joules, grams, co2)):
        yield "cost", "joules, CO2 and its factor are at least 0"
    elif not math.isclose(joules, sum(parts), rel_tol=ROUNDING):
        yield "cost", f"energy_joules is {joules:.4g}, and its parts are {sum(parts):.4g} together"
    elif not math.isclose(co2, joules * grams / 3.6e9, rel_tol=ROUNDING):
        yield "cost", f"co2_kg is {co2:.4g}, which {joules:.4g} joules at {grams:.4g} g a kWh are not"


def _stamps(record: Record) -> Iterator[tuple[str, str]]:
    """Start and end against today and against what the evaluation took."""
    began, ended = _time(record, "started_at"), _time(record, "finished_at")
    for name, what, at in (("started_at", "began", began), ("finished_at", "ended", ended)):
        if at is None:
            yield "cost", f"{name} is no time"
        elif at < FIRST_DAY:
            yield "cost", f"it {what} before there was this package, at {at.isoformat()}"
        elif (at - datetime.now(UTC)).total_seconds() > OTHER_CLOCK:
            yield "cost", f"it {what} in the future, at {at.isoformat()}"
    if began is None or ended is None:
        return
    lasted, evaluation = (ended - began).total_seconds(), record["cost"].get("evaluation_seconds", 0.0)
    if lasted < -STAMP_SECONDS:
        yield "cost", f"it ended {-lasted:.3g} s before it began"
    elif is_number(evaluation) and evaluation > lasted + STAMP_SECONDS:
        yield (
            "cost",
            f"its evaluation took {evaluation:.3g} s, and all of it {max(lasted, 0):.3g} s by its start and end",
        )


def together(runs: Iterable[Run], found: Mapping[str, Record]) -> Iterator[tuple[Run, str]]:
    """(run, what is wrong) by comparison with other runs of the submission."""
    told = [run for run in runs if run.id in found and found[run.id]["status"] in ("ok", "collapsed") and run.epochs]
    for training in group(told):
        yield from _training_fits(training.runs, found)
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in told:
        machine = (found[run.id]["resolved"].get("device"), found[run.id]["versions"].get("machine"))
        key = (run.dataset, run.encoder, run.projector, run.batch_size, run.views, run.local_views, *machine)
        if is_number(found[run.id]["cost"].get("images_per_second")):
            alike[repr(key)].append(run)
    for same in alike.values():
        speeds = [found[run.id]["cost"]["images_per_second"] for run in same]
        usual = median(speeds)
        for run, speed in zip(same, speeds, strict=True):
            if len(same) > LIKE_RUNS and speed > FASTER * usual:
                what = f"{speed:.4g} images a second, and {usual:.4g} are usual for its network on this machine here"
                yield run, what


def _training_fits(runs: Iterable[Run], found: Mapping[str, Record]) -> Iterator[tuple[Run, str]]:
    """Is there time for a training between the first start and the last end of the runs that it may be for?"""
    of_group = list(runs)
    began, ended = ([_time(found[run.id], name) for run in of_group] for name in ("started_at", "finished_at"))
    if None in began or None in ended:
        return  # told for each run
    lasted = (max(filter(None, ended)) - min(filter(None, began))).total_seconds()
    for run in of_group:
        cost = found[run.id]["cost"]
        seconds, shared = cost.get("train_seconds"), cost.get("trained_for")
        if not is_number(shared) or shared < 1:
            yield run, f"trained_for is {shared!r}, and a training is for one run or more"
        elif shared > len(of_group) or cost.get("resumed") or not is_number(seconds):
            continue  # some of its time passed in runs of another suite, or before it was resumed
        elif seconds > lasted + STAMP_SECONDS:
            yield run, f"its training took {seconds:.3g} s, and all of it {lasted:.3g} s by its start and end"


def notes(runs: Iterable[Run], found: Mapping[str, Record]) -> Iterator[str]:
    """What may be honest and is worth a look."""
    untold = []
    for run in runs:
        record = found.get(run.id)
        if record and record["status"] in ("ok", "collapsed") and record["cost"].get("trained_for") == 1:
            began, ended = _time(record, "started_at"), _time(record, "finished_at")
            told = [record["cost"].get(name) for name in ("train_seconds", "evaluation_seconds")]
            if began and ended and all(map(is_number, told)) and not record["cost"].get("resumed"):
                lasted, seconds = (ended - began).total_seconds(), float(sum(filter(None, told)))
                if lasted > UNTOLD[0] + UNTOLD[1] * seconds:
                    untold.append((lasted, seconds))
    if untold:
        lasted, seconds = max(untold)
        text = f"{len(untold)} runs last much longer than they tell, one {lasted:.3g} s by its start and end"
        yield f"{text} and {seconds:.3g} s by its training and evaluation. Loading data takes time, too."


def _time(record: Record, name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(str(record.get(name))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
