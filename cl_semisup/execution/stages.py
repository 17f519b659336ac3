"""Training in parts: increments of classes one after the other, or clients that are averaged after each round.

A stage is an increment, or a round of all clients. Its state is saved at its end; a training that is stopped within a
stage goes on from the start of that stage and comes to the same bits. Every part has an optimizer and, if the loss
wants one, a momentum encoder of its own.
"""

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from cl_semisup.data import scenario
from cl_semisup.errors import InputError
from cl_semisup.evaluation import Increment
from cl_semisup.execution.data import Data
from cl_semisup.execution.outputs import Outputs
from cl_semisup.losses import requirements_of
from cl_semisup.suite.run import Run
from cl_semisup.training.checkpoint import Checkpoint, Preempted
from cl_semisup.training.loop import History, TrainingEnd, TrainingSetup

State = dict[str, Any]
Train = Callable[..., TrainingEnd]  # (setup, epochs=..., checkpoint=..., window=...) -> how it went
Part = Callable[..., TrainingEnd]  # (part, name, (stage, stages), epochs, logged=True) -> how it went


class Stages:
    """The stages of one training. `increments` are the features after each increment, for probes.

    Args:
        run, data: as drawn for the run
        setup: what is trained, and how
        optimizer: makes a new one
        outputs: of the network for training images, and for test images
    """

    def __init__(
        self,
        run: Run,
        data: Data,
        setup: TrainingSetup,
        optimizer: Callable[[], torch.optim.Optimizer],
        outputs: tuple[Outputs, ...],
    ):
        assert run.scenario is not None
        assert run.batch_size is not None
        self.setup, self.optimizer, self.outputs, self.data = setup, optimizer, outputs, data
        self.epochs, self.batch_size = run.epochs, run.batch_size
        labels, key = data.train_labels.cpu().numpy(), (run.dataset_name, run.repetition)
        drawn = scenario.parts(labels, data.classes, run.scenario, *key)
        self.rows = [torch.from_numpy(rows) for rows in drawn]
        self.rounds = 0 if "increments" in run.scenario else run.scenario.get("rounds", run.epochs)
        self.groups = [] if self.rounds else scenario.groups(data.classes, len(drawn), *key)
        self.history, self.increments, self.steps = setup.history, list[Increment](), 0
        labelled, visible = requirements_of(setup.loss).trains_on == "labelled", setup.visible_labels.cpu()
        self.trained = [
            len(rows) >= run.batch_size and (not labelled or bool((visible[rows] >= 0).any())) for rows in self.rows
        ]
        sizes = list(map(len, drawn))
        steps = sum(size // run.batch_size for size, trained in zip(sizes, self.trained, strict=True) if trained)
        self.facts: dict[str, Any] = {"part_images": sizes, "steps": run.epochs * steps}
        if not any(self.trained):
            rule = f"must leave a part with a batch of images that the loss trains on; parts have {sizes}"
            raise InputError(f"scenario: {rule}. Got batch_size {run.batch_size}. Lower it.")

    def train(self, train: Train, checkpoint: Checkpoint | None) -> TrainingEnd:
        """All stages, from the first that no state holds. A training that a part finds hopeless is stopped there."""
        stages, device = self.rounds or len(self.rows), self.setup.visible_labels.device
        first = self._resume(checkpoint.load(device)) if checkpoint else 0
        for stage in range(first, stages):
            part = partial(self._part, train, _StopOnly(checkpoint) if checkpoint else None)
            outcome = self._round(stage, part) if self.rounds else self._increment(stage, part)
            if outcome.stopped_at is not None:
                return outcome
            if checkpoint and checkpoint.due(last=stage == stages - 1):
                checkpoint.save(self._state(stage + 1))  # raises Preempted if asked to stop
        return TrainingEnd("")

    def _increment(self, number: int, part: Part) -> TrainingEnd:
        outcome = part(number, ("increment", number), (0, 1), self.epochs)
        rows, images = self.rows[number], self.data.train_images
        self.setup.model.eval()
        train, _ = self.outputs[0].not_augmented(images[rows.to(images.device)])
        test, _ = self.outputs[1].not_augmented(self.data.test_images)
        self.increments.append(Increment(tuple(self.groups[number]), rows, train, test))
        return outcome

    def _round(self, number: int, part: Part) -> TrainingEnd:
        """Every client starts from the same weights; the mean of theirs, by their images, is where the next starts."""
        start, ended = self._weights(), list[tuple[int, State]]()
        for client in [client for client, trained in enumerate(self.trained) if trained]:
            self._load(start)
            name, logged = ("round", number, "client", client), not ended
            outcome = part(client, name, (number, self.rounds), self.epochs // self.rounds, logged)
            if outcome.stopped_at is not None:
                return outcome
            ended.append((len(self.rows[client]), self._weights()))
        self._load(averaged(ended))
        return TrainingEnd("")

    def _part(
        self,
        train: Train,
        stop: Checkpoint | None,
        part: int,
        name: tuple[object, ...],
        stage: tuple[int, int],
        epochs: int,
        logged: bool = True,
    ) -> TrainingEnd:
        """Train on one part; its labels alone are there. Its curves go behind those of the parts before, if logged."""
        if not self.trained[part]:
            return TrainingEnd("")
        setup, rows, history = self.setup, self.rows[part], History()
        labels = torch.full_like(setup.visible_labels, -1)
        labels[rows] = setup.visible_labels[rows]
        own = replace(
            setup,
            rows=rows,
            visible_labels=labels,
            seed_key=(*setup.seed_key, *name),
            history=history,
            optimizer=self.optimizer(),
        )
        steps = epochs * (len(rows) // self.batch_size)
        window = (stage[0] * steps, stage[1] * steps)
        try:
            outcome = train(own, epochs=epochs, checkpoint=stop, window=window)
        finally:
            if logged:
                history.step[:] = [self.steps + step for step in history.step]
                for field in fields(History):
                    getattr(self.history, field.name).extend(getattr(history, field.name))
        stopped = None if outcome.stopped_at is None else self.steps + outcome.stopped_at
        self.steps += steps
        return TrainingEnd(outcome.replayed, stopped)

    def _weights(self) -> State:
        """Copies of all that parts change in network and loss."""
        loss = self.setup.loss.state_dict() if isinstance(self.setup.loss, nn.Module) else {}
        return {
            "model": {name: value.detach().clone() for name, value in self.setup.model.state_dict().items()},
            "loss": {name: value.detach().clone() for name, value in loss.items()},
        }

    def _load(self, weights: State) -> None:
        self.setup.model.load_state_dict(weights["model"])
        if isinstance(self.setup.loss, nn.Module):
            self.setup.loss.load_state_dict(weights["loss"])

    def _state(self, stage: int) -> State:
        seen = [increment._asdict() for increment in self.increments]
        return {"stage": stage, "steps": self.steps, "history": asdict(self.history), "seen": seen, **self._weights()}

    def _resume(self, state: State | None) -> int:
        """The first stage that is not done."""
        if state is None:
            return 0
        self._load(state)
        self.steps = int(state["steps"])
        for name, values in state["history"].items():
            getattr(self.history, name)[:] = values
        self.increments = [Increment(**{**seen, "classes": tuple(seen["classes"])}) for seen in state["seen"]]
        return int(state["stage"])


def averaged(states: list[tuple[int, State]]) -> State:
    """The mean of the states' tensors by their weights; whole numbers, which are counts, are those of the first."""
    total = sum(weight for weight, _ in states)
    mean: State = {}
    for part, tensors in states[0][1].items():
        mean[part] = {}
        for name, first in tensors.items():
            if first.is_floating_point():
                terms = [state[part][name] * (weight / total) for weight, state in states]
                mean[part][name] = torch.stack(terms).sum(dim=0).to(first.dtype)
            else:
                mean[part][name] = first
    return mean


class _StopOnly(Checkpoint):
    """Within a stage nothing is saved; a request to stop is obeyed."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint

    def due(self, last: bool = False) -> bool:
        return self.checkpoint.due() and self.checkpoint.stop_requested()

    def save(self, state: State) -> None:
        raise Preempted

    def load(self, device: torch.device) -> None:
        return None
