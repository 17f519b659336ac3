"""Weights & Biases, offline: nothing leaves the machine until its owner runs `wandb sync DIR/wandb/offline-run-*`.

benchmark.py export SUITE --to wandb DIR

Where its owner sets WANDB_MODE=online, runs go to the server at once.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import wandb

from cl_semisup.report.exporters import ExportedRun

OPENS = ("wandb",)


def write(runs: Iterable[ExportedRun], folder: Path, suite: str) -> int:
    """One offline run a record, in a project named like the suite; the run's id makes a second sync an update."""
    count = 0
    for run in runs:
        opened = wandb.init(
            project=suite,
            id=run.id,
            name=run.name,
            group=run.loss,
            tags=[run.status],
            notes=run.reason,
            config=run.settings,
            dir=folder,
            mode="online" if os.environ.get("WANDB_MODE") == "online" else "offline",
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True, save_code=False
            ),
        )
        at_step: defaultdict[int, dict[str, float]] = defaultdict(dict)
        for name, points in run.series.items():
            for step, value in points:
                at_step[step][name] = value
        for step, values in sorted(at_step.items()):
            opened.log(values, step=step)
        opened.summary.update({**run.metrics, "status": run.status})
        opened.finish(exit_code=int(run.status == "failed"))
        count += 1
    return count
