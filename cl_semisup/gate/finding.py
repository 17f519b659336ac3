"""What a check found: one line a check, with what was, what is and whether that is more than noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TIERS = ("function", "trajectory", "outcome")
RTOL = 1e-8
ATOL = 1e-12  # a quantity this small is rounding of larger ones
Numbers = Sequence[float | None]
SAME, MOVED, INCONCLUSIVE = "same", "moved", "inconclusive"


@dataclass(frozen=True)
class Finding:
    """One check of one loss.

    Args:
        tier: function, trajectory or outcome
        loss: as the gate names it: the plug-in and the settings that are not its defaults
        where: input, cell or nothing
        quantity: value, gradient norm, score ...
        then, now: of the reference and of this run; None where there is no number
        verdict: same, moved or inconclusive
        sigmas: size of the change in standard errors (outcome); the exact tiers have no noise to compare with
        step: the first training step that differs; -1 the end of training
        note: what else there is to say
    """

    tier: str
    loss: str
    where: str
    quantity: str
    then: float | None
    now: float | None
    verdict: str
    sigmas: float | None = None
    step: int | None = None
    note: str = ""

    @property
    def steps(self) -> float:
        """Training steps before it shows; infinite for the end of training and for what has no steps."""
        return math.inf if self.step is None or self.step < 0 else self.step

    @property
    def change(self) -> float:
        """Relative change; infinite where a number appears or disappears."""
        if self.then is None or self.now is None:
            return 0.0 if self.then == self.now else math.inf
        scale = max(abs(self.then), abs(self.now))
        return (self.now - self.then) / scale if scale else 0.0


def deviation(then: float | None, now: float | None) -> float:
    """Difference of two numbers over their size, with ATOL as the size of nothing; infinite if one is none."""
    if then is None or now is None:
        return 0.0 if then == now else math.inf
    return abs(now - then) / (ATOL / RTOL + max(abs(then), abs(now)))


def exact(names: Sequence[str], then: Numbers, now: Numbers, **place: Any) -> Finding:
    """The largest deviation among quantities that must be equal to rounding; `place` is the finding's tier, loss ..."""
    sizes = [deviation(a, b) for a, b in zip(then, now, strict=True)]
    worst = max(range(len(sizes)), key=sizes.__getitem__)
    verdict = MOVED if sizes[worst] > RTOL else SAME
    return Finding(quantity=names[worst], then=then[worst], now=now[worst], verdict=verdict, **place)


def rounded(value: float | None) -> float | None:
    """11 digits: three more than are compared. JSON has no NaN, so what is not finite is none."""
    return float(f"{value:.11g}") if value is not None and math.isfinite(value) else None
