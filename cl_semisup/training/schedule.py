"""The learning rate of every step: scaled to the batch once, then warmed up and let down."""

import math

from cl_semisup.suite.settings import Schedule

BASE_BATCH = 256  # the batch size at which asked and effective learning rate are equal


def effective(learning_rate: float, batch_size: int, schedule: Schedule) -> float:
    """The peak learning rate after scaling."""
    power = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}[schedule.scaling]
    return learning_rate * (batch_size / BASE_BATCH) ** power


def factor(step: int, steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """The share of the peak at a step in [0, steps): linear warm-up from the first step on, then the decay."""
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), steps // 2)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.decay == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
