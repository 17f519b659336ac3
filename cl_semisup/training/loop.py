"""One run's training, from top to bottom."""

import contextlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cl_semisup.geometry import effective_rank
from cl_semisup.losses import Loss
from cl_semisup.seeds import seed
from cl_semisup.settings import Schedule
from cl_semisup.training.model import Model
from cl_semisup.training.needs import NEEDS, Step
from cl_semisup.training.schedule import factor
from cl_semisup.views import ViewMaker

LOGGED_POINTS = 40  # points of a run's curves


class Diverged(ArithmeticError):
    """The loss or a gradient is no longer a number; the curves up to there are kept."""

    def __init__(self, step: int, what: str):
        self.step = step
        super().__init__(f"{what} is not finite at step {step}")


@dataclass
class History:
    """Curves of a run, one value a logged step: means of the loss since the last one, the rest at that step."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    effective_rank: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a run trains with. Images are uint8 (M, C, side, side); `shown` (M,) holds the labels the run may see.

    `names` name every draw: data set and repetition, never the loss, so that differences between losses are paired.
    """

    model: Model
    loss: Loss
    views: ViewMaker
    optimizer: torch.optim.Optimizer
    images: Tensor
    shown: Tensor
    names: tuple[object, ...]
    history: History


def train(
    parts: Parts, *, epochs: int, batch_size: int, peak: float, schedule: Schedule, autocast: torch.dtype | None
) -> None:
    """Train in place; the curves grow in `parts.history`. `peak` is the effective learning rate; `autocast` the network's arithmetic, None for float32."""
    model, device = parts.model, parts.shown.device
    needs: tuple[str, ...] = getattr(parts.loss, "needs", ())
    steps_per_epoch = len(parts.images) // batch_size
    steps = epochs * steps_per_epoch
    log_every = max(1, steps // LOGGED_POINTS)
    losses = torch.zeros(steps, device=device)
    model.train()
    for step in range(steps):
        epoch, batch = divmod(step, steps_per_epoch)
        if batch == 0:
            order = epoch_order(parts, epoch, steps_per_epoch * batch_size).to(device)
        index = order[batch * batch_size : (batch + 1) * batch_size]  # (N,)
        rate = peak * factor(step, steps, steps_per_epoch, schedule)
        for group in parts.optimizer.param_groups:
            group["lr"] = rate

        images = _gather(parts.images, index)
        views = parts.views.two(images, seed("views", *parts.names, step))  # (2N, C, side, side)
        with torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext():
            features = model.encoder(views)  # (2N, F)
            projections = model.projector(features)  # (2N, D)
        z1, z2 = projections.float().chunk(2)
        at_hand = Step(model, features.float(), projections.float(), index, epoch)
        extras = {need: NEEDS[need].value(at_hand) for need in needs}
        loss = parts.loss(z1, z2, parts.shown[index], **extras)

        parts.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parts.optimizer.step()
        losses[step] = loss.detach()

        if (step + 1) % log_every == 0 or step == steps - 1:
            _log(parts.history, step, losses, rate, model, z1)


def epoch_order(parts: Parts, epoch: int, length: int) -> Tensor:
    """(length,) image indices of an epoch: whole random passes over the images the loss trains on, cut to length."""
    if getattr(parts.loss, "trains_on", "all") == "labelled":
        pool = torch.nonzero(parts.shown.cpu() >= 0).squeeze(1)
    else:
        pool = torch.arange(len(parts.images))
    generator = torch.Generator().manual_seed(seed("order", *parts.names, epoch))
    passes = -(-length // len(pool))
    return torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(passes)])[:length]


def parameters(model: nn.Module, loss: Loss) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(weights, others): matrices and kernels of the model; its vectors, and all that the loss itself learns."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return weights, others + (list(loss.parameters()) if isinstance(loss, nn.Module) else [])


def _gather(images: Tensor, index: Tensor) -> Tensor:
    """The batch's images on the training device; data too large for the device waits on the host."""
    if images.device == index.device:
        return images[index]
    return images[index.to(images.device)].to(index.device, non_blocking=True)


def _log(history: History, step: int, losses: Tensor, rate: float, model: Model, z1: Tensor) -> None:
    """One point of every curve; the only place where the host waits for the device."""
    first = history.step[-1] + 1 if history.step else 0
    recent = losses[first : step + 1]
    bad = torch.nonzero(~torch.isfinite(recent))
    if len(bad):
        raise Diverged(first + int(bad[0]), "the loss")
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = float(nn.utils.get_total_norm(gradients))
    if not torch.isfinite(torch.tensor(norm)):
        raise Diverged(step, "the gradient")
    history.step.append(step)
    history.loss.append(float(recent.mean()))
    history.learning_rate.append(rate)
    history.gradient_norm.append(norm)
    history.effective_rank.append(float(effective_rank(nn.functional.normalize(z1.detach(), dim=1))))
