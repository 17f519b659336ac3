"""Tiny runs for an imitated GPU."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from cl_semisup import plugins
from cl_semisup.data.images import Images
from cl_semisup.data.settings import Views
from cl_semisup.execution.data import Data, load_images, to_device
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run

TRAIN, TEST, BATCH = 36, 30, 12
STEPS = TRAIN // BATCH  # of one epoch
# Losses whose steps wait for the GPU. A new entry needs a reason; a loss that no longer waits is taken out.
EIGENVALUES = "cuSOLVER's eigenvalues and singular values are checked on the host"
WAITS = {
    "lorac": EIGENVALUES,
    "mmcr": EIGENVALUES,
    "orthogonality": EIGENVALUES,
    "sgeg": EIGENVALUES,
    "pauc": "clusters its memory once in each epoch, on the host",
    "targeted_supcon": "solves the assignment of targets to classes on the host, as its docstring says",
}
EAGER = {  # losses whose steps are not replayed from a CUDA graph
    "label_redraw": "is recorded anew in every epoch, which must not be short",
    "lorac": EIGENVALUES,
    "mmcr": EIGENVALUES,
    "orthogonality": EIGENVALUES,
    "pauc": WAITS["pauc"],
    "sgeg": EIGENVALUES,
    "targeted_supcon": WAITS["targeted_supcon"],
}
SUITE = """\
question: Does it run on a GPU?
datasets: digits
encoder: {mlp: {width: 16, layers: 1}}
projector: {dim: 16, hidden: 16}
losses: [nt_xent]
label_fraction: 0.5
learning_rate: 0.1
batch_size: 12
repetitions: 1
epochs: 1
validation: all
"""


@cache
def _template() -> Run:
    return next(run for run in suite.parse(SUITE, "s.yaml").runs if run.epochs)


def run(loss: str = "nt_xent", **settings: Any) -> Run:
    """A run of four steps, with one cheap probe."""
    defaults: dict[str, Any] = {"loss": {loss: {}}, "probes": {"nearest_mean": {"layer": "features"}}}
    return replace(_template(), **defaults | settings)


@cache
def images(channels: int = 1) -> Images:
    """The first digits, eight pixels wide."""
    whole = load_images({"digits": {}}, "data")
    train = np.repeat(whole.train_images[:TRAIN], channels, axis=1)
    test = np.repeat(whole.test_images[:TEST], channels, axis=1)
    return replace(
        whole,
        train_images=train,
        train_labels=whole.train_labels[:TRAIN],
        test_images=test,
        test_labels=whole.test_labels[:TEST],
    )


def data(device: str, channels: int = 1) -> Data:
    return to_device(images(channels), torch.device(device))


def machine(device: str, **settings: Any) -> Machine:
    return Machine(device, "data", **settings)


def execute(trial: Run, device: str, channels: int = 1, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record and the curves."""
    executor = Executor(machine(device, **settings), read_images=lambda _: images(channels))
    record, curves = executor(trial, data(device, channels))
    return dict(record), curves


def require_ok(record: dict[str, Any], curves: dict[str, Any]) -> None:
    """The run was executed; so few steps may end in a collapse."""
    assert record["status"] in ("ok", "collapsed"), f"{record['reason']}\n{curves.get('traceback', '')}"


def require_same_training(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Equal to the bit, but for the curve of a singular value decomposition, which sees another layout of memory."""
    one, two = dict(first["history"]), dict(second["history"])
    assert one.pop("effective_rank") == pytest.approx(two.pop("effective_rank"), rel=1e-5)
    assert one == two


def names(folder: str) -> list[str]:
    return sorted(plugins.names(folder))


def basic_views(**settings: float) -> Views:
    return Views(**settings)  # type: ignore[arg-type]
