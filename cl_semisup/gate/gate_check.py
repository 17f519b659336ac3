"""One check of the gate: a number of the reference, the current one, and whether they differ by more than noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

TIERS = ("function", "trajectory", "outcome")
RTOL = 1e-8
ATOL = 1e-12  # a smaller number is rounding of larger ones
Numbers = Sequence[float | None]
SAME, CHANGED, INCONCLUSIVE = "same", "moved", "inconclusive"


@dataclass(frozen=True)
class GateCheck:
    """One check of one loss.

    Args:
        tier: function, trajectory or outcome
        loss: name in the gate: the plug-in and its settings that are not defaults
        where: input or cell; may be empty
        quantity: value, gradient norm, score ...
        reference, current: the two numbers; None where there is no number
        status: SAME, CHANGED or INCONCLUSIVE
        sigmas: size of the change in standard errors (outcome tier only: the exact tiers have no noise)
        step: the first training step that differs; -1 is the end of training
        note: further explanation
    """

    tier: str
    loss: str
    where: str
    quantity: str
    reference: float | None
    current: float | None
    status: str
    sigmas: float | None = None
    step: int | None = None
    note: str = ""

    @property
    def first_step(self) -> float:
        """The first training step that differs; infinite for the end of training and for checks without steps."""
        return math.inf if self.step is None or self.step < 0 else self.step

    @property
    def relative_change(self) -> float:
        """Signed difference over the larger of the two sizes; infinite where a number appears or disappears."""
        if self.reference is None or self.current is None:
            return 0.0 if self.reference == self.current else math.inf
        scale = max(abs(self.reference), abs(self.current))
        return (self.current - self.reference) / scale if scale else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data with the field names of the gate's JSON; an infinite change is None."""
        keys = {"reference": "then", "current": "now", "status": "verdict"}
        data = {keys.get(name, name): value for name, value in vars(self).items()}
        return data | {"change": self.relative_change if math.isfinite(self.relative_change) else None}


def is_finite(value: float | None) -> TypeGuard[float]:
    """Is it a number? JSON has no NaN: None stands for a number that was not finite."""
    return value is not None and math.isfinite(value)


def relative_deviation(reference: float | None, current: float | None) -> float:
    """|difference| over the size of the numbers plus ATOL / RTOL; infinite if exactly one is no number."""
    if not (is_finite(reference) and is_finite(current)):
        return math.inf if is_finite(reference) or is_finite(current) else 0.0
    return abs(current - reference) / (ATOL / RTOL + max(abs(reference), abs(current)))


def exact_check(names: Sequence[str], reference: Numbers, current: Numbers, **fields: Any) -> GateCheck:
    """A check of the largest deviation among named numbers that must agree to RTOL; `fields`: tier, loss, where ...

    Numbers that were not finite, neither then nor now, cannot be compared: without a larger deviation the check is
    inconclusive.
    """
    if not len(names) == len(reference) == len(current):
        note = f"{len(reference)} figures before, {len(current)} now"
        return GateCheck(quantity=names[0], reference=None, current=None, status=CHANGED, note=note, **fields)
    deviations = [relative_deviation(a, b) for a, b in zip(reference, current, strict=True)]
    i = max(range(len(deviations)), key=deviations.__getitem__)
    if deviations[i] > RTOL:
        return GateCheck(quantity=names[i], reference=reference[i], current=current[i], status=CHANGED, **fields)
    for name, value in zip(names, reference, strict=True):
        if not is_finite(value):
            note = "not finite, neither before nor now"
            return GateCheck(quantity=name, reference=None, current=None, status=INCONCLUSIVE, note=note, **fields)
    return GateCheck(quantity=names[i], reference=reference[i], current=current[i], status=SAME, **fields)


def round_for_storage(value: float | None) -> float | None:
    """11 digits, three more than are compared. JSON has no NaN: a number that is not finite becomes None."""
    return float(f"{value:.11g}") if value is not None and math.isfinite(value) else None
