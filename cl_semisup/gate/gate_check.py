"""One check of the gate: a number of the reference, the current one, and whether they differ by more than noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


def relative_deviation(reference: float | None, current: float | None) -> float:
    """|difference| over the size of the numbers plus ATOL / RTOL; infinite if exactly one of them is None."""
    if reference is None or current is None:
        return 0.0 if reference == current else math.inf
    return abs(current - reference) / (ATOL / RTOL + max(abs(reference), abs(current)))


def exact_check(names: Sequence[str], reference: Numbers, current: Numbers, **fields: Any) -> GateCheck:
    """A check of the largest deviation among named numbers that must agree to RTOL; `fields`: tier, loss, where ..."""
    deviations = [relative_deviation(a, b) for a, b in zip(reference, current, strict=True)]
    i = max(range(len(deviations)), key=deviations.__getitem__)
    status = CHANGED if deviations[i] > RTOL else SAME
    return GateCheck(quantity=names[i], reference=reference[i], current=current[i], status=status, **fields)


def round_for_storage(value: float | None) -> float | None:
    """11 digits, three more than are compared. JSON has no NaN: a number that is not finite becomes None."""
    return float(f"{value:.11g}") if value is not None and math.isfinite(value) else None
