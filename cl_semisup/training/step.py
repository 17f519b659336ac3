"""One step of a training: what is computed on its device."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_semisup.device import is_lost, is_out_of_memory
from cl_semisup.errors import InputError, described
from cl_semisup.losses import requirements_of
from cl_semisup.training import changing, ema, layer_causal
from cl_semisup.training.batches import Batches
from cl_semisup.training.changing import Changing
from cl_semisup.training.chunks import ChunkedEncoder
from cl_semisup.training.layer_causal import LayerCausal
from cl_semisup.training.model import Model
from cl_semisup.training.needs import NEEDS, StepContext
from cl_semisup.training.parallel import reduce_gradients, run_sharded
from cl_semisup.training.setup import TrainingSetup


@dataclass(eq=False)
class StepInputs:
    """What differs from step to step: indices, views, and numbers, which are `Changing` in a step that is recorded."""

    index: Tensor  # (N,)
    views: list[Tensor]  # V (N, channels, side, side), then the local views, then one of the support images
    support_index: Tensor | None  # (S,)
    epoch: int | Changing
    progress: float | Changing
    learning_rate: float | Changing
    decay: float | Changing  # of the EMA model


@dataclass(eq=False)
class StepOutputs:
    """Loss () and largest absolute projection () of a step, and the projections (N, D) of its first two views."""

    loss: Tensor
    largest: Tensor
    z1: Tensor
    z2: Tensor

    def tensors(self) -> list[Tensor]:
        return [self.loss, self.largest, self.z1, self.z2]


class GaveUp(ArithmeticError):
    """A loss has raised an error over numbers that no loss can be computed from; the message names its error."""


@dataclass(frozen=True)
class Schedules:
    """The numbers of a training, as functions of the step."""

    epoch: Callable[[int], int]
    progress: Callable[[int], float]
    learning_rate: Callable[[int], float]
    decay: Callable[[int], float]

    def at(self, step: int) -> tuple[int, float, float, float]:
        """Epoch, progress, learning rate and decay of a step."""
        return self.epoch(step), self.progress(step), self.learning_rate(step), self.decay(step)


class Step:
    """Forward, loss, backward, optimizer, EMA model."""

    def __init__(self, setup: TrainingSetup, encode: ChunkedEncoder, ema_model: Model | None):
        self.setup, self.encode, self.ema_model = setup, encode, ema_model
        self.requirements, labels = requirements_of(setup.loss), setup.visible_labels
        self.labels = labels if self.requirements.labels else torch.full_like(labels, -1)
        mean, std = setup.views["full"].mean, setup.views["full"].std
        self.pixels = (-mean / std, (1 - mean) / std)
        self.causal = LayerCausal(setup.model, encode.count) if setup.layer_causal else None
        self.is_recorded = False  # then no number of the device can be read, and an error is left as it is

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        setup, causal = self.setup, self.causal
        watched: contextlib.AbstractContextManager[list[Tensor]] = contextlib.nullcontext([])
        with causal.watching() if causal else watched as lower:
            features, projections = self._forward(torch.cat(inputs.views))
        loss_of_lower = layer_causal.reading(setup.loss) if causal else setup.loss  # as it is before this step
        loss, z1, z2 = self._loss(setup.loss, inputs, features, projections)
        total = loss
        if causal:
            for output in lower:
                total = total + self._loss(loss_of_lower, inputs, output, causal.read(output))[0]
        self._optimize(total, inputs.learning_rate)
        if self.ema_model is not None:
            ema.update(self.ema_model, setup.model, inputs.decay)
        return StepOutputs(loss.detach(), projections.detach().abs().amax(), z1.detach(), z2.detach())

    def _loss(
        self, loss: Callable[..., Tensor], inputs: StepInputs, features: Tensor, projections: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of a step, and the projections (N, D) of its first two views."""
        try:
            return self._compute_loss(loss, inputs, features, projections)
        except Exception as error:  # factorisations and assignments refuse what is not finite
            if self.is_recorded or is_out_of_memory(error) or is_lost(features.device):
                raise
            if self._is_sound(features, projections):
                raise
            raise GaveUp(f"it raised {described(error)}") from error

    def _is_sound(self, features: Tensor, projections: Tensor) -> bool:
        """Whether losses can be computed: sums of fourth powers, as of products of similarities, are finite."""
        setup = self.setup
        state = [*setup.model.state_dict().values()]
        state += setup.loss.state_dict().values() if isinstance(setup.loss, nn.Module) else []
        numbers = (x.detach().float() for x in (features, projections, *state))
        return all(bool(x.square().square().sum().isfinite()) for x in numbers)

    def _compute_loss(
        self, loss: Callable[..., Tensor], inputs: StepInputs, features: Tensor, projections: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        setup, requirements = self.setup, self.requirements
        sizes = [len(view) for view in inputs.views]
        h, z = features.float().split(sizes), projections.float().split(sizes)
        support = None
        if inputs.support_index is not None:
            support, h, z = (z[-1], setup.visible_labels[inputs.support_index]), h[:-1], z[:-1]
        count = len(requirements.views)
        views, h, z, local = tuple(inputs.views[:count]), h[:count], z[:count], z[count:]
        context = StepContext(
            setup.model, self.ema_model, views, h, z, inputs.index, inputs.epoch, inputs.progress, support,
            self.pixels, self.encode.count, local, self.encode.autocast,
        )  # fmt: skip
        extras = {need: NEEDS[need].value(context) for need in requirements.needs}
        return loss(z[0], z[1], self.labels[inputs.index], **extras), z[0], z[1]

    def _forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Features (V N + S, F) and projections (V N + S, D)."""
        encode = self.setup.model.encoder if self.causal else self.encode

        def forward_shard(shard: Tensor) -> tuple[Tensor, Tensor]:
            features = encode(shard)
            return features, self.setup.model.projector(features)

        with (
            torch.autocast(inputs.device.type, self.encode.autocast)
            if self.encode.autocast
            else contextlib.nullcontext()
        ):
            features, projections = run_sharded(forward_shard, inputs)
        return features, projections

    def _optimize(self, loss: Tensor, learning_rate: float | Changing) -> None:
        setup = self.setup
        rate = changing.tensor_or_number(learning_rate)
        for group in setup.optimizer.param_groups:
            group["lr"] = rate
            for weight in group["params"]:  # the optimizer's zero_grad takes ten times as long
                weight.grad = None
        if not loss.requires_grad and not any(p.requires_grad for p in setup.model.encoder.parameters()):
            rule = (
                "a loss must reach weights that are trained. Got a frozen encoder and nothing else that it depends on"
            )
            raise InputError(f"freeze: {rule}. Add layers to the projector.")
        loss.backward()
        self.encode.backward()
        reduce_gradients(setup.model, setup.loss)
        setup.optimizer.step()


class Steps:
    """`steps(number)` does a step of a training. Call it within `steps.stream()`."""

    def __init__(self, step: Step, batches: Batches, schedules: Schedules):
        self.step, self.batches, self.schedules = step, batches, schedules

    def __call__(self, number: int) -> StepOutputs:
        index, views, support_index = self.batches.made(self.batches.plan(number))
        return self.step(StepInputs(index, views, support_index, *self.schedules.at(number)))

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        """Within, steps are done."""
        return contextlib.nullcontext()

    @property
    def outcome(self) -> str:
        """For the record: whether steps were replayed, and why not."""
        return ""
