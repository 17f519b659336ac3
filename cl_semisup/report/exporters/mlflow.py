"""MLflow, in a SQLite file: nothing leaves the machine.

benchmark.py export SUITE --to mlflow DIR && mlflow ui --backend-store-uri sqlite:///DIR/mlflow.db

Where MLFLOW_TRACKING_URI names a server, that server takes the runs instead of the file.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from cl_semisup.report.exporters import ExportedRun

OPENS = ("mlflow.db",)  # and its journals
ID = "cl_semisup.id"
MAX_TEXT = 500  # characters of a setting, the least that versions of MLflow take
MAX_PARAMS = 100  # in one request
MAX_METRICS = 1000


def write(runs: Iterable[ExportedRun], folder: Path, suite: str) -> int:
    """One run a record, in an experiment named like the suite; a run that is there already is replaced."""
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    found = client.get_experiment_by_name(suite)
    experiment = found.experiment_id if found else client.create_experiment(suite)
    count = 0
    for run in runs:
        for old in client.search_runs([experiment], f"tags.`{ID}` = '{run.id}'"):
            client.delete_run(old.info.run_id)
        _write(client, experiment, run)
        count += 1
    return count


def _write(client: MlflowClient, experiment: str, run: ExportedRun) -> None:
    began = int(1000 * run.seconds)
    tags = {ID: run.id, "loss": run.loss, "status": run.status, "reason": run.reason[:MAX_TEXT]}
    name = client.create_run(experiment, start_time=began, run_name=run.name, tags=tags).info.run_id
    params = iter([Param(key, str(value)[:MAX_TEXT]) for key, value in run.settings.items()])
    while some := list(islice(params, MAX_PARAMS)):
        client.log_batch(name, params=some)
    metrics = _metrics(run, began)
    while batch := list(islice(metrics, MAX_METRICS)):
        client.log_batch(name, metrics=batch)
    client.log_batch(name, tags=[RunTag("steps", str(run.last_step))])
    ended = began + int(1000 * run.metrics.get("cost/train_seconds", 0.0))
    client.set_terminated(name, "FAILED" if run.status == "failed" else "FINISHED", ended)


def _metrics(run: ExportedRun, began: int) -> Iterator[Metric]:
    for key, points in run.series.items():
        for step, value in points:
            yield Metric(key, value, began, step)
    for key, value in run.metrics.items():
        yield Metric(key, value, began, run.last_step)
