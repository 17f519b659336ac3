"""Runs of a loss with a fault that the test chooses, and an engine with one worker to execute them."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cl_semisup import plugins
from cl_semisup.engines.local import LocalEngine
from cl_semisup.execution.machine import Machine
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run

FAULTY = Path(__file__).with_name("faulty.py")
SUITE = """\
question: Which faults does a benchmark survive?
datasets: digits
encoder: {mlp: {width: 16, layers: 1}}
losses: {faulty: {fault: FAULT, at: AT, times: TIMES}}
label_fraction: 0.1
learning_rate: 0.1
batch_size: 128
repetitions: 1
epochs: 8
score: knn_top1
probes: {linear: false}
validation: all
"""  # 88 steps, every second one logged

MakeRun = Callable[..., Run]


@pytest.fixture
def faulty_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeRun]:
    """`faulty_run("kill", at=20, times=1)`: the trained run of a suite whose loss has this fault."""
    (tmp_path / "faults").mkdir()
    monkeypatch.setenv("FAULTS", str(tmp_path / "faults"))
    outside = dict(plugins._user_files)
    plugins.add(FAULTY)

    def make(fault: str, at: int = 0, times: int = 1) -> Run:
        text = SUITE.replace("FAULT", fault).replace("AT", str(at)).replace("TIMES", str(times))
        return suite.parse(text, "s.yaml").runs[-1]

    yield make
    plugins._user_files.clear()
    plugins._user_files.update(outside)
    plugins.load.cache_clear()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """States are saved after every step."""
    return Machine("cpu", "data", checkpoints=str(tmp_path / "results" / "checkpoints"), checkpoint_seconds=0.0)


@pytest.fixture
def engine(machine: Machine) -> Iterator[Callable[..., LocalEngine]]:
    """`engine(limit)`: one worker, with the faulty loss as a plug-in."""
    engines = []

    def make(limit: float = math.inf, workers: int = 1) -> LocalEngine:
        engines.append(LocalEngine(machine, workers, [FAULTY], limit))
        return engines[-1]

    yield make
    for local in engines:
        local.cancel()
