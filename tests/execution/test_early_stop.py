"""Trainings that have collapsed or diverged beyond return end there, are evaluated, and are recorded with their step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cl_semisup import plugins
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import group, single_run
from cl_semisup.gate import execute as gate_execute
from cl_semisup.results import records
from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from cl_semisup.training import batches
from cl_semisup.training.checkpoint import Preempted

COLLAPSING = '''
from dataclasses import dataclass
import torch
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class Collapsing:
    """Pulls all embeddings to one point, from where nothing leads back. Source: None. Difference: None"""

    requirements = Requirements(labels=False)

    def __call__(self, z1, z2, labels=None):
        return (torch.cat([z1, z2]) - 100).square().sum(1).mean()
'''


@pytest.fixture
def runs(tmp_path: Path, parse: Callable[[str], Suite], text: str, forget_plugins: None) -> tuple[Run, Run]:
    """Two runs that differ in labels alone, of a loss that collapses within a few steps."""
    file = tmp_path / "collapsing.py"
    file.write_text(COLLAPSING)
    plugins.add(file)
    text = text.replace("[nt_xent, clop]", "collapsing").replace("{mlp: {width: 16, layers: 1}}", "linear")
    text = text.replace("epochs: 1", "epochs: 8\nprojector: {layers: 0}\nprobes: {knn: false}")
    one, other = (run for run in parse(text.replace("fraction: 0.1", "fraction: [0.1, 0.5]")).runs if run.epochs)
    return one, other


def same(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in records.OF_ONE_ATTEMPT}


def test_a_planted_collapse_is_stopped_and_recorded_with_its_step(runs: tuple[Run, Run]) -> None:
    stopped, curves = Executor(Machine("cpu", "data", early_stop=True))(runs[0])
    whole, all_curves = Executor(Machine("cpu", "data"))(runs[0])
    assert stopped["status"] == whole["status"] == "collapsed"
    step = stopped["resolved"].pop("stopped_at_step")
    steps = whole["resolved"]["steps"]
    assert stopped["reason"].endswith(f"; stopped at step {step} of {steps}")
    assert stopped["resolved"] == whole["resolved"]
    assert (stopped["id"], stopped["protocol"]) == (whole["id"], whole["protocol"])
    assert stopped["scores"].keys() == whole["scores"].keys()  # evaluated where it stopped
    points = len(curves["history"]["step"])
    assert curves["history"] == {name: values[:points] for name, values in all_curves["history"].items()}
    assert curves["history"]["step"][-1] == step < 0.7 * steps


def test_a_sound_run_is_the_same_with_early_stopping_and_without(parse: Callable[[str], Suite], text: str) -> None:
    run = parse(text).runs[-1]
    records = [same(Executor(Machine("cpu", "data", early_stop=early))(run)[0]) for early in (True, False)]
    assert records[0] == records[1]


def test_all_runs_of_a_shared_training_stop_at_the_same_step(runs: tuple[Run, Run]) -> None:
    (training,) = group(runs)
    both = Executor(Machine("cpu", "data", early_stop=True)).run_group(training)
    steps = {record["resolved"]["stopped_at_step"] for record, _ in both}
    assert len(steps) == 1
    assert {record["status"] for record, _ in both} == {"collapsed"}


def test_a_training_that_was_killed_before_it_stops_ends_in_the_same_record(
    tmp_path: Path, runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine("cpu", "data", early_stop=True, checkpoints=str(tmp_path / "states"), checkpoint_seconds=0.0)
    undisturbed = Executor(replace(machine, checkpoints=""))(runs[0])
    (tmp_path / "states").mkdir()
    asked = iter(range(10**6))
    with pytest.raises(Preempted):
        Executor(machine, should_stop=lambda: next(asked) > 20).run_group(single_run(runs[0]))
    drawn: list[int] = []
    plan = batches.Batches.plan
    monkeypatch.setattr(batches.Batches, "plan", lambda own, step: drawn.append(step) or plan(own, step))
    resumed = Executor(machine)(runs[0])
    assert drawn[0] > 0
    assert (same(resumed[0]), resumed[1]) == (same(undisturbed[0]), undisturbed[1])


def test_the_gate_and_the_reference_mode_train_to_the_end() -> None:
    assert not Machine("cpu", "data").early_stop  # which the gate uses as it is
    assert "early_stop" not in Path(gate_execute.__file__).read_text()
