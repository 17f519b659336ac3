"""The training loop of one run."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from cl_semisup.data.views import ViewMaker
from cl_semisup.device import send
from cl_semisup.errors import InputError
from cl_semisup.losses import Loss, asks
from cl_semisup.measures.geometry import alignment, effective_rank, feature_std
from cl_semisup.seeds import seed
from cl_semisup.suite.settings import Schedule
from cl_semisup.training import ema
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.chunks import ChunkedEncoder
from cl_semisup.training.model import Model
from cl_semisup.training.needs import NEEDS, StepContext
from cl_semisup.training.parallel import prepare_model, reduce_gradients, run_sharded
from cl_semisup.training.schedule import lr_factor

LOGGED_POINTS = 40  # points of a run's curves


class Diverged(ArithmeticError):
    """The loss, a gradient or a feature is not finite. The history up to this step is complete."""

    def __init__(self, step: int, quantity: str, details: str = ""):
        self.step = step
        super().__init__(f"{quantity} is not finite at step {step}{details}")


class Hopeless(Exception):
    """The curves say that going on is in vain. Network and history are those after this step."""

    def __init__(self, step: int):
        self.step = step
        super().__init__(f"stopped at step {step}")


@dataclass
class History:
    """Curves of a run with one value per logged step. The loss is the mean since the last logged step.

    Effective rank, feature_std and alignment are computed from the normalized projections of the batch.
    """

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    effective_rank: list[float] = field(default_factory=list)
    feature_std: list[float] = field(default_factory=list)
    alignment: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """What a run trains with.

    Args:
        views: recipe (`full`, `weak`, `local`) -> maker of random views
        images: (M, channels, side, side) uint8, or float32 features (M, F, 1, 1)
        visible_labels: (M,) int64, the labels that the run may see; -1 elsewhere
        seed_key: (data set, repetition), the start of every seed. The loss is not part of it, so that all losses of a
            repetition draw the same batches and views
        encode: a fast version of the encoder, if there is one
        local_views: local views of an image, for a loss that needs their projections
        larger_images: (M, channels, S, S) the same images at a larger side, which the views are cropped from; or none
        hopeless: whether the curves so far say that going on is in vain; a function of them alone, so that a resumed
            training and all processes stop at the same step
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
    local_views: int = 0
    larger_images: Tensor | None = None
    hopeless: Callable[[History], bool] = lambda history: False


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
    """Train model and loss of `setup` in place and fill `setup.history`. Raises Diverged, Hopeless and Preempted.

    Args:
        base_learning_rate: after the scaling rule, before warm-up and decay
        autocast: dtype of the network's computations; None for float32
        chunks: number of chunks in which a batch goes through the encoder
    """
    model, device, requirements = setup.model, setup.visible_labels.device, asks(setup.loss)
    prepare_model(model, setup.loss)
    encode = ChunkedEncoder(model.encoder if setup.encode is None else setup.encode, chunks, autocast)
    steps_per_epoch = len(setup.images) // batch_size
    steps = epochs * steps_per_epoch
    log_every = max(1, steps // LOGGED_POINTS)
    step_log = torch.zeros(2, steps, device=device)  # per step: the loss, and the largest absolute projection
    ema_model = ema.make(model) if any(NEEDS[need].needs_ema for need in requirements.needs) else None
    start_step = _resume(checkpoint, setup, ema_model, step_log) if checkpoint else 0
    labels = setup.visible_labels if requirements.labels else torch.full_like(setup.visible_labels, -1)
    mean, std = setup.views["full"].mean, setup.views["full"].std
    pixels = (-mean / std, (1 - mean) / std)

    model.train()
    for step, index, inputs, support_index in _draw_batches(setup, start_step, steps, batch_size):
        features, projections = _forward(setup, encode, torch.cat(inputs))
        sizes = [len(view) for view in inputs]
        h, z = features.float().split(sizes), projections.float().split(sizes)
        support = None
        if support_index is not None:
            support, h, z = (z[-1], setup.visible_labels[support_index]), h[:-1], z[:-1]
        count = len(requirements.views)
        views, h, z, local = tuple(inputs[:count]), h[:count], z[:count], z[count:]
        epoch, progress = step // steps_per_epoch, step / steps
        context = StepContext(
            model, ema_model, views, h, z, index, epoch, progress, support, pixels, chunks, local, autocast
        )
        extras = {need: NEEDS[need].value(context) for need in requirements.needs}
        loss = setup.loss(z[0], z[1], labels[index], **extras)

        learning_rate = base_learning_rate * lr_factor(step, steps, steps_per_epoch, schedule)
        _optimizer_step(setup, loss, encode, learning_rate)
        if ema_model is not None:
            ema.update(ema_model, model, ema.decay(requirements.momentum, progress))
        step_log[0, step], step_log[1, step] = loss.detach(), projections.detach().abs().amax()

        if (step + 1) % log_every == 0 or step == steps - 1:
            _log(setup, step, step_log, learning_rate, z[0].detach(), z[1].detach())
        if checkpoint and checkpoint.due(last=step == steps - 1):
            checkpoint.save(_state(step + 1, setup, ema_model, step_log))  # raises Preempted if asked to stop


def _draw_batches(
    setup: TrainingSetup, start_step: int, steps: int, batch_size: int
) -> Iterator[tuple[int, Tensor, list[Tensor], Tensor | None]]:
    """(step, indices (N,), views, support indices (S,) or None) of every step.

    The views are V (N, channels, side, side), followed by the local views if the loss needs them, and by one view of
    the support images if there are any.
    """
    requirements, device, seed_key = asks(setup.loss), setup.visible_labels.device, setup.seed_key
    host_labels = setup.visible_labels.cpu()  # indices are drawn on the host, so that no step waits for the device
    fixed_index = support_index = None
    if requirements.bound:
        fixed_index = _draw_per_class(host_labels, requirements.bound, seed("bound", *seed_key))
    steps_per_epoch = len(setup.images) // batch_size
    stored = setup.images if setup.larger_images is None else setup.larger_images
    for step in range(start_step, steps):
        epoch, batch = divmod(step, steps_per_epoch)
        if batch == 0 or step == start_step:
            order = epoch_order(setup, epoch, steps_per_epoch * batch_size)
        host_index = order[batch * batch_size : (batch + 1) * batch_size]
        if fixed_index is not None:
            host_index = torch.cat([host_index, fixed_index])
        index = send(host_index, device)
        images = _images_at(stored, host_index, index)
        inputs = [
            setup.views[recipe](
                images, seed("views", *seed_key, step, view), view, index, setup.images, seed("views", *seed_key, step)
            )
            for view, recipe in enumerate(requirements.views)
        ]
        if "local_projections" in requirements.needs:
            for view in range(len(inputs), len(inputs) + setup.local_views):
                local_seed = seed("local views", *seed_key, step, view)
                inputs.append(setup.views["local"](images, local_seed, view, index, setup.images))
        if requirements.support:
            host_index = _draw_per_class(host_labels, requirements.support, seed("support", *seed_key, step))
            support_index = send(host_index, device)
            images = _images_at(stored, host_index, support_index)
            support_seed = seed("support views", *seed_key, step)
            inputs.append(setup.views["full"](images, support_seed, 0, support_index, setup.images))
        yield step, index, inputs, support_index


def _forward(setup: TrainingSetup, encode: ChunkedEncoder, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Features (V N + S, F) and projections (V N + S, D)."""

    def forward_shard(shard: Tensor) -> tuple[Tensor, Tensor]:
        features = encode(shard)
        return features, setup.model.projector(features)

    with torch.autocast(inputs.device.type, encode.autocast) if encode.autocast else contextlib.nullcontext():
        features, projections = run_sharded(forward_shard, inputs)
    return features, projections


def _optimizer_step(setup: TrainingSetup, loss: Tensor, encode: ChunkedEncoder, learning_rate: float) -> None:
    for group in setup.optimizer.param_groups:
        group["lr"] = learning_rate
        for weight in group["params"]:  # the optimizer's zero_grad takes ten times as long
            weight.grad = None
    if not loss.requires_grad and not any(p.requires_grad for p in setup.model.encoder.parameters()):
        rule = "a loss must reach weights that are trained. Got a frozen encoder and nothing else that it depends on"
        raise InputError(f"freeze: {rule}. Add layers to the projector.")
    loss.backward()
    encode.backward()
    reduce_gradients(setup.model, setup.loss)
    setup.optimizer.step()


def epoch_order(setup: TrainingSetup, epoch: int, length: int) -> Tensor:
    """(length,) image indices of an epoch: random passes over all images that the loss trains on, cut to `length`."""
    if asks(setup.loss).trains_on == "labelled":
        pool = torch.nonzero(setup.visible_labels.cpu() >= 0).squeeze(1)
    else:
        pool = torch.arange(len(setup.images))
    generator = torch.Generator().manual_seed(seed("order", *setup.seed_key, epoch))
    passes = -(-length // len(pool))
    return torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(passes)])[:length]


def split_parameters(model: nn.Module, loss: Loss) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of model and loss: matrices and kernels (with weight decay), vectors and scalars (without).

    Frozen parameters are left out.
    """
    parameters = [*model.parameters(), *(loss.parameters() if isinstance(loss, nn.Module) else [])]
    trainable = [p for p in parameters if p.requires_grad]
    return [p for p in trainable if p.ndim > 1], [p for p in trainable if p.ndim <= 1]


def _draw_per_class(labels: Tensor, count: int, draw_seed: int) -> Tensor:
    """(C' * count,) indices of random labelled images, `count` of each class. Images of smaller classes repeat."""
    generator = torch.Generator().manual_seed(draw_seed)
    indices = []
    for label in labels[labels >= 0].unique().tolist():
        members = torch.nonzero(labels == label).squeeze(1)
        passes = -(-count // len(members))
        order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(passes)])
        indices.append(members[order[:count]])
    return torch.cat(indices) if indices else torch.empty(0, dtype=torch.long)


def _images_at(images: Tensor, host_index: Tensor, index: Tensor) -> Tensor:
    """The images on the device of `index`. A data set that does not fit on the device is on the host."""
    if images.device == index.device:
        return images.index_select(0, index)
    return send(images.index_select(0, host_index), index.device)


def _log(setup: TrainingSetup, step: int, step_log: Tensor, learning_rate: float, z1: Tensor, z2: Tensor) -> None:
    """Append one point to every curve. Nothing else in the loop waits for the device.

    Raises Diverged, and Hopeless before the last step.
    """
    model, history = setup.model, setup.history
    first = history.step[-1] + 1 if history.step else 0
    losses, max_projections = step_log[:, first : step + 1]
    not_finite = torch.nonzero(~torch.isfinite(losses))
    if len(not_finite):
        only_loss = bool(torch.isfinite(max_projections[not_finite[0]]))
        rest = ", though the projections are" if only_loss else ", and neither are the projections: the weights blew up"
        raise Diverged(first + int(not_finite[0]), "the loss", rest)
    norm = float(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
    if not math.isfinite(norm):
        bad = [n for n, p in model.named_parameters() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
        raise Diverged(step, f"the gradient of {bad[0]} and {len(bad) - 1} more" if bad else "the gradient's norm")
    history.step.append(step)
    history.loss.append(float(losses.mean()))
    history.learning_rate.append(learning_rate)
    history.gradient_norm.append(norm)
    u, v = nn.functional.normalize(z1, dim=1), nn.functional.normalize(z2, dim=1)
    history.effective_rank.append(float(effective_rank(u)))
    history.feature_std.append(float(feature_std(u)))
    history.alignment.append(float(alignment(u, v)))
    if step + 1 < step_log.shape[1] and setup.hopeless(history):
        raise Hopeless(step)


def _state(step: int, setup: TrainingSetup, ema_model: Model | None, step_log: Tensor) -> dict[str, object]:
    """All that training changes. Draws are functions of names and the step, so no generator state is saved."""
    return {
        "step": step,
        "model": setup.model.state_dict(),
        "ema_model": ema_model.state_dict() if ema_model else {},
        "loss": setup.loss.state_dict() if isinstance(setup.loss, nn.Module) else {},
        "optimizer": setup.optimizer.state_dict(),
        "step_log": step_log,
        "history": asdict(setup.history),
    }


def _resume(checkpoint: Checkpoint, setup: TrainingSetup, ema_model: Model | None, step_log: Tensor) -> int:
    """Restore a saved state, if there is one, and return the next step."""
    state = checkpoint.load(setup.visible_labels.device)
    if state is None:
        return 0
    setup.model.load_state_dict(state["model"])
    if ema_model is not None:
        ema_model.load_state_dict(state["ema_model"])
    if isinstance(setup.loss, nn.Module):
        setup.loss.load_state_dict(state["loss"])
    setup.optimizer.load_state_dict(state["optimizer"])
    step_log.copy_(state["step_log"])
    for name, values in state["history"].items():
        getattr(setup.history, name)[:] = values
    return int(state["step"])
