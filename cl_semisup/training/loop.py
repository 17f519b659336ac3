"""The training loop of one run."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from cl_semisup.losses import Loss, requirements_of
from cl_semisup.losses._arguments import known_labels
from cl_semisup.suite.settings import Schedule
from cl_semisup.training import ema
from cl_semisup.training.batches import Batches, epoch_order
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.chunks import ChunkedEncoder
from cl_semisup.training.curves import LOGGED_POINTS, Curves
from cl_semisup.training.graph import RecordedSteps
from cl_semisup.training.model import Model
from cl_semisup.training.needs import NEEDS
from cl_semisup.training.parallel import prepare_model
from cl_semisup.training.schedule import lr_factor
from cl_semisup.training.setup import Diverged, History, TrainingSetup
from cl_semisup.training.step import GaveUp, Schedules, Step, Steps

__all__ = ["Diverged", "History", "TrainingEnd", "TrainingSetup", "epoch_order", "split_parameters", "train"]


@dataclass(frozen=True)
class TrainingEnd:
    """How a training ended.

    Args:
        replayed: whether steps were recorded and replayed, and else why not; "" if they were not to be
        stopped_at: the step after which it was stopped as hopeless, if it was
    """

    replayed: str
    stopped_at: int | None = None


@known_labels()  # they are those of the data, which were checked when they were read
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
    record_steps: bool = False,
    window: tuple[int, int] | None = None,
) -> TrainingEnd:
    """Train the model and the loss of `setup` in place and fill `setup.history`. Raises Diverged and Preempted.

    Args:
        base_learning_rate: after the scaling rule, before warm-up and decay
        autocast: dtype of the network's computations; None for float32
        chunks: number of chunks in which a batch goes through the encoder
        window: the first of these steps, and the number of all, in a training that is done in parts
        record_steps: replay a CUDA graph of the step, on CUDA and with one chunk; see `graph`
    """
    model, device, requirements = setup.model, setup.visible_labels.device, requirements_of(setup.loss)
    prepare_model(model, setup.loss)
    encode = ChunkedEncoder(model.encoder if setup.encode is None else setup.encode, chunks, autocast)
    batches = Batches(setup, batch_size)
    per_epoch = batches.steps_per_epoch
    steps = epochs * per_epoch
    first, total = window or (0, steps)
    schedules = Schedules(
        epoch=lambda step: (first + step) // per_epoch,
        progress=lambda step: (first + step) / total,
        learning_rate=lambda step: base_learning_rate * lr_factor(first + step, total, per_epoch, schedule),
        decay=lambda step: ema.decay(requirements.momentum, (first + step) / total),
    )
    log_every = max(1, steps // LOGGED_POINTS)
    step_log = torch.zeros(2, steps, device=device)  # per step: the loss, and the largest absolute projection
    ema_model = ema.make(model) if any(NEEDS[need].needs_ema for need in requirements.needs) else None
    start_step = _resume(checkpoint, setup, ema_model, step_log) if checkpoint else 0
    curves = Curves(setup, step_log)
    run = Steps(Step(setup, encode, ema_model), batches, schedules)
    if record_steps:
        run = RecordedSteps(run.step, batches, schedules, start_step, steps)

    model.train()
    with run.stream():
        for step in range(start_step, steps):
            try:
                outputs = run(step)
            except GaveUp as error:
                curves.give_up(step, error)
            step_log[0, step], step_log[1, step] = outputs.loss, outputs.largest
            is_logged = (step + 1) % log_every == 0 or step == steps - 1
            if is_logged and curves.add(step, schedules.learning_rate(step), outputs.z1, outputs.z2):
                return TrainingEnd(run.outcome, step)
            if checkpoint and checkpoint.due(last=step == steps - 1):
                curves.complete()
                checkpoint.save(_state(step + 1, setup, ema_model, step_log))  # raises Preempted if asked to stop
        curves.complete()
    return TrainingEnd(run.outcome)


def split_parameters(model: nn.Module, loss: Loss) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of model and loss: matrices and kernels (with weight decay), vectors and scalars (without).

    Frozen parameters are left out.
    """
    parameters = [*model.parameters(), *(loss.parameters() if isinstance(loss, nn.Module) else [])]
    trainable = [p for p in parameters if p.requires_grad]
    return [p for p in trainable if p.ndim > 1], [p for p in trainable if p.ndim <= 1]


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
