"""The learning rate: scaled to the batch size once, then linear warm-up and decay over the steps."""

import math

from cl_semisup.suite.settings import Schedule

BASE_BATCH = 256  # the batch size at which scaling leaves the learning rate as it is


def scaled_learning_rate(learning_rate: float, batch_size: int, schedule: Schedule) -> float:
    """The base learning rate of a batch size, by the schedule's scaling rule."""
    power = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}[schedule.scaling]
    return learning_rate * (batch_size / BASE_BATCH) ** power


def lr_factor(step: int, steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """Learning rate / base learning rate, in (0, 1], at a step in [0, steps); the last step's is not 0."""
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), steps // 2)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.decay == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
