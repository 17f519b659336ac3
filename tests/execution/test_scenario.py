"""Trainings in parts: what each part sees, how clients are averaged, and that an interrupted one comes to the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_semisup.data import scenario
from cl_semisup.execution import trainer
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.stages import averaged
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run
from cl_semisup.training.checkpoint import Preempted

SUITE = """
question: Do parts of the images make a whole?
datasets: digits
encoder: {mlp: {width: 8, layers: 1}}
projector: {dim: 8}
losses: LOSS
label_fraction: 0.5
learning_rate: 0.1
batch_size: 64
epochs: 2
repetitions: 1
scenario: SETTING
probes: {linear: false, knn: {}, nearest_mean: {}, increments: {}}
score: knn_top1
"""


def _run(setting: str, loss: str = "ntce") -> Run:
    runs = suite.parse(SUITE.replace("SETTING", setting).replace("LOSS", loss), "s.yaml").runs
    return next(run for run in runs if run.scenario)


class Watched:
    """The parts of a training: what each had, and the weights before and after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_in: int | None = None):
        self.setups: list[Any] = []
        self.settings: list[dict[str, Any]] = []
        self.before: list[dict[str, Tensor]] = []
        self.after: list[dict[str, Tensor]] = []
        train = trainer.loop.train

        def watched(setup: Any, **settings: Any) -> Any:
            if len(self.setups) == stop_in:
                raise Preempted
            self.setups.append(setup)
            self.settings.append(settings)
            self.before.append(self._weights(setup))
            outcome = train(setup, **settings)
            self.after.append(self._weights(setup))
            return outcome

        monkeypatch.setattr(trainer.loop, "train", watched)

    @staticmethod
    def _weights(setup: Any) -> dict[str, Tensor]:
        both = {**setup.model.state_dict(), **{f"loss.{k}": v for k, v in setup.loss.state_dict().items()}}
        return {name: value.clone() for name, value in both.items()}


def _equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def test_increments_see_their_own_classes_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    run, watched = _run("{increments: 5}"), Watched(monkeypatch)
    record, curves = Executor(Machine("cpu", "data"))(run)
    assert record["status"] in ("ok", "collapsed"), record["reason"]
    groups = scenario.groups(10, 5, "digits", 0)
    assert len(watched.setups) == 5
    for number, setup in enumerate(watched.setups):
        labels = setup.visible_labels
        assert set(labels[labels >= 0].tolist()) == set(groups[number])
        assert set(torch.nonzero(labels >= 0).squeeze(1).tolist()) <= set(setup.rows.tolist())
        assert len(setup.images) > len(setup.rows)  # indices stay those of the whole set
        if number:
            assert _equal(watched.before[number], watched.after[number - 1])  # the network goes on
            assert watched.setups[number - 1].optimizer is not setup.optimizer
            assert watched.setups[number - 1].seed_key != setup.seed_key
    resolved = record["resolved"]
    assert resolved["steps"] == sum(2 * (size // 64) for size in resolved["part_images"])
    assert sum(resolved["part_images"]) == resolved["train_images"]
    accuracy = curves["increment_accuracy"]
    assert [len(row) for row in accuracy] == [1, 2, 3, 4, 5]
    assert accuracy[0] != accuracy[-1][:1] or accuracy[1] != accuracy[-1][:2]  # each row is of the network at its time
    assert record["scores"]["increment_last_top1"] > 0.1
    steps = curves["step"] if "step" in curves else curves["history"]["step"] if "history" in curves else []
    assert steps == sorted(set(steps))


def test_clients_start_a_round_from_the_mean_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    run, watched = _run("{clients: 2, alpha: 0.5}"), Watched(monkeypatch)
    trained: list[Any] = []
    features = trainer.Trainer.features
    monkeypatch.setattr(
        trainer.Trainer, "features", lambda self, *rest: trained.append(self.model) or features(self, *rest)
    )
    record, _ = Executor(Machine("cpu", "data"))(run)
    assert record["status"] in ("ok", "collapsed"), record["reason"]
    assert len(watched.setups) == 4  # two rounds, one of each epoch
    assert _equal(watched.before[0], watched.before[1])
    assert [settings["epochs"] for settings in watched.settings] == [1] * 4
    for setup, settings in zip(watched.setups, watched.settings, strict=True):
        steps = len(setup.rows) // 64
        assert settings["window"] in ((0, 2 * steps), (steps, 2 * steps))
    sizes = [len(setup.rows) for setup in watched.setups[:2]]
    for name, first in watched.after[0].items():
        if first.is_floating_point():
            mean = (sizes[0] * first.double() + sizes[1] * watched.after[1][name].double()) / sum(sizes)
            torch.testing.assert_close(watched.before[2][name].double(), mean, rtol=1e-5, atol=1e-6)
    assert _equal(watched.before[2], watched.before[3])
    assert not _equal(watched.after[3], {**watched.after[3], **trained[0].state_dict()})


@pytest.mark.parametrize("setting", ["{increments: 3}", "{clients: 2, alpha: 1, rounds: 2}"])
def test_a_training_that_is_stopped_within_a_stage_comes_to_the_same_bits(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(setting)
    machine = Machine("cpu", "data", checkpoints=str(tmp_path), checkpoint_seconds=0.0)
    whole, curves = Executor(replace(machine, checkpoints=""))(run)
    with monkeypatch.context() as patch:
        Watched(patch, stop_in=2 if "increments" in setting else 3)
        with pytest.raises(Preempted):
            Executor(machine)(run)
    with monkeypatch.context() as patch:
        watched = Watched(patch)
        resumed, resumed_curves = Executor(machine)(run)
        assert len(watched.setups) == (1 if "increments" in setting else 2)
    assert resumed["scores"] == whole["scores"]
    assert resumed["diagnostics"] == whole["diagnostics"]
    assert resumed_curves == curves


def test_a_request_to_stop_is_obeyed_within_a_stage(tmp_path: Path) -> None:
    machine = Machine("cpu", "data", checkpoints=str(tmp_path), checkpoint_seconds=1e9)
    asked = iter([False] * 10)
    with pytest.raises(Preempted):
        Executor(machine, should_stop=lambda: next(asked, True))(_run("{increments: 2}"))


def test_the_mean_of_states_weighs_by_images_and_keeps_counts() -> None:
    states = [
        (3, {"model": {"w": torch.tensor([1.0]), "n": torch.tensor(5)}, "loss": {}}),
        (1, {"model": {"w": torch.tensor([5.0]), "n": torch.tensor(7)}, "loss": {}}),
    ]
    mean = averaged(states)
    assert (float(mean["model"]["w"]), int(mean["model"]["n"]), mean["loss"]) == (2.0, 5, {})


def test_parts_without_a_batch_train_nothing_and_if_none_is_left_it_is_said() -> None:
    run = replace(_run("{clients: 2, alpha: 1}"), scenario={"clients": 400, "alpha": 1.0})
    record, _ = Executor(Machine("cpu", "data"))(run)
    assert record["status"] == "failed"
    assert "scenario: must leave a part with a batch of images that the loss trains on" in record["reason"]
