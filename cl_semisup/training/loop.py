"""One run's training, from top to bottom."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from cl_semisup.data.views import ViewMaker
from cl_semisup.losses import Loss, asks
from cl_semisup.measures.geometry import alignment, effective_rank, spread
from cl_semisup.seeds import seed
from cl_semisup.suite.settings import Schedule
from cl_semisup.training import momentum
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.chunks import Chunks
from cl_semisup.training.model import Model
from cl_semisup.training.needs import NEEDS, Step
from cl_semisup.training.parallel import begin, finish_gradients, on_shards
from cl_semisup.training.schedule import factor

LOGGED_POINTS = 40  # points of a run's curves


class Diverged(ArithmeticError):
    """The loss, a gradient or a feature is no longer a number; the curves up to there are kept."""

    def __init__(self, step: int, what: str, why: str = ""):
        self.step = step
        super().__init__(f"{what} is not finite at step {step}{why}")


@dataclass
class History:
    """Curves of a run, one value a logged step: means of the loss since the last one, the rest at that step.

    Effective rank, spread and alignment are those of the batch's projections on the unit sphere.
    """

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    effective_rank: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    alignment: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """What a run trains with.

    Args:
        views: recipe (`full`, `weak`) -> maker of random views
        images: (M, channels, side, side) uint8
        visible_labels: (M,) int64, the labels that the run may see; -1 elsewhere
        seed_key: (data set, repetition), the start of every seed. The loss is no part of it: differences between
            losses are paired
        encode: the encoder in a faster form, if there is one
    """

    model: Model
    loss: Loss
    views: dict[str, ViewMaker]
    optimizer: torch.optim.Optimizer
    images: Tensor
    visible_labels: Tensor
    seed_key: tuple[object, ...]
    history: History
    encode: Callable[[Tensor], Tensor] | None = None


def train(
    setup: TrainingSetup,
    *,
    epochs: int,
    batch_size: int,
    base_learning_rate: float,
    schedule: Schedule,
    autocast: torch.dtype | None = None,
    checkpoint: Checkpoint | None = None,
    chunks: int = 1,
) -> None:
    """Train in place; the curves grow in `setup.history`.

    Args:
        base_learning_rate: after the scaling rule, before warm-up and decay
        autocast: the network's arithmetic; None for float32
        chunks: in how many parts a batch goes through the encoder
    """
    model, device, asked = setup.model, setup.visible_labels.device, asks(setup.loss)
    begin(model, setup.loss)
    encode = Chunks(model.encoder if setup.encode is None else setup.encode, chunks, autocast)
    steps_per_epoch = len(setup.images) // batch_size
    steps = epochs * steps_per_epoch
    log_every = max(1, steps // LOGGED_POINTS)
    trace = torch.zeros(2, steps, device=device)  # the loss, and the largest absolute projection
    teacher = momentum.make(model) if any(NEEDS[need].momentum for need in asked.needs) else None
    first = _resume(checkpoint, setup, teacher, trace) if checkpoint else 0
    on_host = setup.visible_labels.cpu()  # draws are made there, so that no step waits for the device
    bound = _per_class(on_host, asked.bound, seed("bound", *setup.seed_key)).to(device) if asked.bound else None
    labels = (
        setup.visible_labels if asked.labels else torch.full_like(setup.visible_labels, -1)
    )  # (M,) none but what is declared
    look = setup.views["full"]
    pixels = (-look.mean / look.std, (1 - look.mean) / look.std)
    learned = [weight for group in setup.optimizer.param_groups for weight in group["params"]]

    def forward(shard: Tensor) -> tuple[Tensor, Tensor]:
        features = encode(shard)
        return features, model.projector(features)

    model.train()
    for step in range(first, steps):
        epoch, batch = divmod(step, steps_per_epoch)
        if batch == 0 or step == first:
            order = epoch_order(setup, epoch, steps_per_epoch * batch_size).to(device, non_blocking=True)
        index = order[batch * batch_size : (batch + 1) * batch_size]  # (N,)
        if bound is not None:
            index = torch.cat([index, bound])
        rate = base_learning_rate * factor(step, steps, steps_per_epoch, schedule)
        for group in setup.optimizer.param_groups:
            group["lr"] = rate

        images = _gather(setup.images, index)
        inputs = [
            setup.views[recipe](images, seed("views", *setup.seed_key, step, view))
            for view, recipe in enumerate(asked.views)
        ]
        supported = None
        if asked.support:
            supported = _per_class(on_host, asked.support, seed("support", *setup.seed_key, step))
            supported = supported.to(device, non_blocking=True)
            inputs.append(
                setup.views["full"](_gather(setup.images, supported), seed("support views", *setup.seed_key, step))
            )
        with torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext():
            features, projections = on_shards(forward, torch.cat(inputs))  # (V N + S, F), (V N + S, D)

        sizes = [len(part) for part in inputs]
        h, z = features.float().split(sizes), projections.float().split(sizes)
        support = None
        if supported is not None:
            support, h, z = (z[-1], setup.visible_labels[supported]), h[:-1], z[:-1]
            inputs.pop()
        at_hand = Step(model, teacher, tuple(inputs), h, z, index, epoch, step / steps, support, pixels, chunks)
        extras = {need: NEEDS[need].value(at_hand) for need in asked.needs}
        loss = setup.loss(z[0], z[1], labels[index], **extras)

        for weight in learned:  # as the optimizer's zero_grad, which takes ten times as long
            weight.grad = None
        loss.backward()
        encode.backward()
        finish_gradients(model, setup.loss)
        setup.optimizer.step()
        if teacher is not None:
            momentum.update(teacher, model, momentum.decay(asked.momentum, step / steps))
        trace[0, step], trace[1, step] = loss.detach(), projections.detach().abs().amax()

        if (step + 1) % log_every == 0 or step == steps - 1:
            _log(setup.history, step, trace, rate, model, z[0].detach(), z[1].detach())
        if checkpoint and checkpoint.due(last=step == steps - 1):
            checkpoint.save(_state(step + 1, setup, teacher, trace))  # the way out, if the process has to leave


def epoch_order(setup: TrainingSetup, epoch: int, length: int) -> Tensor:
    """(length,) image indices of an epoch: whole random passes over the images the loss trains on, cut to length."""
    if asks(setup.loss).trains_on == "labelled":
        pool = torch.nonzero(setup.visible_labels.cpu() >= 0).squeeze(1)
    else:
        pool = torch.arange(len(setup.images))
    generator = torch.Generator().manual_seed(seed("order", *setup.seed_key, epoch))
    passes = -(-length // len(pool))
    return torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(passes)])[:length]


def parameters(model: nn.Module, loss: Loss) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(weights, others) of model and loss: matrices and kernels, which decay; vectors and scalars, which do not."""
    learned = [*model.parameters(), *(loss.parameters() if isinstance(loss, nn.Module) else [])]
    return [p for p in learned if p.ndim > 1], [p for p in learned if p.ndim <= 1]


def _per_class(labels: Tensor, count: int, name: int) -> Tensor:
    """(C' * count,) indices of random labelled images, `count` of each class that has any, with repeats if it must."""
    generator = torch.Generator().manual_seed(name)
    drawn = []
    for label in labels[labels >= 0].unique().tolist():
        members = torch.nonzero(labels == label).squeeze(1)
        passes = -(-count // len(members))
        order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(passes)])
        drawn.append(members[order[:count]])
    return torch.cat(drawn) if drawn else torch.empty(0, dtype=torch.long)


def _gather(images: Tensor, index: Tensor) -> Tensor:
    """The batch's images on the training device; data too large for the device waits on the host."""
    if images.device == index.device:
        return images.index_select(0, index)
    return images[index.to(images.device)].to(index.device, non_blocking=True)


def _log(history: History, step: int, trace: Tensor, rate: float, model: Model, z1: Tensor, z2: Tensor) -> None:
    """One point of every curve; the only place where the host waits for the device."""
    first = history.step[-1] + 1 if history.step else 0
    recent, widest = trace[:, first : step + 1]
    bad = torch.nonzero(~torch.isfinite(recent))
    if len(bad):
        itself = bool(torch.isfinite(widest[bad[0]]))
        why = ", though the projections are" if itself else ", and neither are the projections: the weights blew up"
        raise Diverged(first + int(bad[0]), "the loss", why)
    norm = float(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
    if not math.isfinite(norm):
        ill = [n for n, p in model.named_parameters() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
        raise Diverged(step, f"the gradient of {ill[0]} and {len(ill) - 1} more" if ill else "the gradient's norm")
    history.step.append(step)
    history.loss.append(float(recent.mean()))
    history.learning_rate.append(rate)
    history.gradient_norm.append(norm)
    u, v = nn.functional.normalize(z1, dim=1), nn.functional.normalize(z2, dim=1)
    history.effective_rank.append(float(effective_rank(u)))
    history.spread.append(float(spread(u)))
    history.alignment.append(float(alignment(u, v)))


def _state(step: int, setup: TrainingSetup, teacher: Model | None, trace: Tensor) -> dict[str, object]:
    """All that training changes. Draws are functions of names and the step, so no generator is saved."""
    return {
        "step": step,
        "model": setup.model.state_dict(),
        "teacher": teacher.state_dict() if teacher else {},
        "loss": setup.loss.state_dict() if isinstance(setup.loss, nn.Module) else {},
        "optimizer": setup.optimizer.state_dict(),
        "trace": trace,
        "history": asdict(setup.history),
    }


def _resume(checkpoint: Checkpoint, setup: TrainingSetup, teacher: Model | None, trace: Tensor) -> int:
    """Restore a saved state, if there is one, and say which step comes next."""
    state = checkpoint.load(setup.visible_labels.device)
    if state is None:
        return 0
    setup.model.load_state_dict(state["model"])
    if teacher is not None:
        teacher.load_state_dict(state["teacher"])
    if isinstance(setup.loss, nn.Module):
        setup.loss.load_state_dict(state["loss"])
    setup.optimizer.load_state_dict(state["optimizer"])
    trace.copy_(state["trace"])
    for name, values in state["history"].items():
        getattr(setup.history, name)[:] = values
    return int(state["step"])
