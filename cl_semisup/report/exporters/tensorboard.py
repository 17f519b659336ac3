"""TensorBoard: one event file a run, with its curves, its final metrics and its settings as hyperparameters.

benchmark.py export SUITE --to tensorboard DIR && tensorboard --logdir DIR
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from cl_semisup.report.exporters import ExportedRun
from cl_semisup.system import files

OPENS: tuple[str, ...] = ()


def write(runs: Iterable[ExportedRun], folder: Path, suite: str) -> int:
    """Write DIR/<suite>/<data set>/<loss>/<run>/events.out.tfevents.<id>; an older file is replaced."""
    count = 0
    for run in runs:
        path = folder / suite / run.name / f"events.out.tfevents.{int(run.seconds)}.{run.id}"
        for old in files.entries(folder, path.parent):
            if old.name.startswith("events.out.tfevents."):
                files.remove(folder, old)
        content = io.BytesIO()
        writer = RecordWriter(content)
        for event in _events(run):
            writer.write(event.SerializeToString())
        files.write(folder, path, content.getvalue())
        count += 1
    return count


def _events(run: ExportedRun) -> Iterator[Event]:
    yield Event(wall_time=run.seconds, file_version="brain.Event:2")
    hyperparameters = hparams_pb(run.settings, trial_id=run.id, start_time_secs=run.seconds)
    yield Event(wall_time=run.seconds, summary=hyperparameters)
    for name, points in run.series.items():
        for step, value in points:
            yield _scalar(run, name, step, value)
    for name, value in run.metrics.items():
        yield _scalar(run, name, run.last_step, value)


def _scalar(run: ExportedRun, name: str, step: int, value: float) -> Event:
    summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
    return Event(wall_time=run.seconds, step=step, summary=summary)
