"""Numbers of the host that change from step to step, in a step that is recorded once and replayed.

A recorded step repeats its kernels with the numbers that they had. So while it is recorded, what changes is given as a
`Changing`, which knows how it is used:

    progress < 0.5            a condition: a replay is right as long as it comes out the same
    weight * tensor           the number is taken from a place on the device, which is filled before each replay
    float(progress), f"{x}"   the number itself: a replay is right for this number alone
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cl_semisup.device import send

Number = float | int
CAPACITY = 64  # numbers on the device


class Numbers:
    """The changing numbers of a recorded step; `values` (CAPACITY,) float32 are their places on the device."""

    def __init__(self, values: Tensor):
        self.values, self.step, self._anew = values, 0, True
        self._sources: list[Callable[[], Number]] = []  # of the places in use
        self._drawn: list[tuple[Callable[[], Tensor], Tensor]] = []
        self._used = self._drawn_used = 0
        self._conditions: list[tuple[Callable[[], object], object]] = []

    def changing(self, of_step: Callable[[int], Number]) -> "Changing":
        return Changing(self, lambda: of_step(self.step))

    def begin(self, anew: bool) -> None:
        """Before the step is executed: its numbers will be used in the same order. `anew`: they are not known yet."""
        self._used, self._drawn_used, self._anew = 0, 0, anew
        if anew:
            self._sources, self._drawn, self._conditions = [], [], []

    def place(self, source: Callable[[], Number]) -> Tensor:
        """() float32, a copy of the number's place, which may be written again before a backward pass needs the number.

        A number that is new is written at once.
        """
        if self._used == len(self._sources):
            if self._used == CAPACITY or not self._anew:
                raise CannotRecordError(f"takes more than {self._used} changing numbers to the device")
            self._sources.append(source)
            self.values[self._used].fill_(float(source()))
        self._used += 1
        return self.values[self._used - 1].clone()

    def drawn(self, source: Callable[[], Tensor]) -> Tensor:
        """A tensor of the host, whose place on the device is filled before each replay."""
        if self._drawn_used == len(self._drawn):
            if not self._anew:
                raise CannotRecordError(f"takes more than {self._drawn_used} drawn tensors to the device")
            self._drawn.append((source, send(source(), self.values.device).clone()))
        self._drawn_used += 1
        return self._drawn[self._drawn_used - 1][1]

    def fill_drawn(self) -> None:
        for source, place in self._drawn:
            place.copy_(send(source(), place.device))

    def on_host(self) -> Tensor:
        """(CAPACITY,) the numbers of the current step."""
        known = [float(source()) for source in self._sources]
        return torch.tensor(known + [0.0] * (CAPACITY - len(known)))

    def remember(self, condition: Callable[[], object]) -> Any:
        outcome = condition()
        if self._anew:
            self._conditions.append((condition, outcome))
        return outcome

    def hold(self, step: int) -> bool:
        """Would the recorded step be right for this one?"""
        before, self.step = self.step, step
        try:
            return all(condition() == outcome for condition, outcome in self._conditions)
        finally:
            self.step = before


class CannotRecordError(Exception):
    """Why a step cannot be recorded."""


def _both_ways(function: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    """The methods of an operator: `changing + other` and `other + changing`."""
    return (
        lambda changing, other: changing._with(other, function),
        lambda changing, other: changing._with(other, function, swapped=True),
    )


def _comparison(function: Callable[[Any, Any], Any]) -> Any:
    return lambda changing, other: changing._compared(other, function)


class Changing:
    """A number that depends on the step. Arithmetic with numbers gives another one; see the module."""

    def __init__(self, numbers: Numbers, now: Callable[[], Number]):
        self._numbers, self._now = numbers, now

    def tensor(self) -> Tensor:
        """() float32 on the device."""
        return self._numbers.place(self._now)

    def drawn(self, make: Callable[[Any], Tensor]) -> Tensor:
        """`make(number)`, which draws on the host, on the device."""
        return self._numbers.drawn(lambda: make(self._now()))

    def map(self, function: Callable[[Any], Number]) -> "Changing":
        return Changing(self._numbers, lambda: function(self._now()))

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """In an operation of torch it is a tensor."""
        plain = [arg.tensor() if isinstance(arg, Changing) else arg for arg in args]
        return function(*plain, **{k: v.tensor() if isinstance(v, Changing) else v for k, v in (kwargs or {}).items()})

    def _with(self, other: Any, function: Callable[[Any, Any], Any], swapped: bool = False) -> Any:
        if isinstance(other, Tensor):
            return function(other, self.tensor()) if swapped else function(self.tensor(), other)
        if not isinstance(other, int | float | Changing):
            return NotImplemented
        theirs = other._now if isinstance(other, Changing) else lambda: other
        if swapped:
            return Changing(self._numbers, lambda: function(theirs(), self._now()))
        return Changing(self._numbers, lambda: function(self._now(), theirs()))

    def _compared(self, other: Any, function: Callable[[Any, Any], bool]) -> Any:
        if isinstance(other, Tensor):
            return function(self.tensor(), other)
        theirs = other._now if isinstance(other, Changing) else lambda: other
        return self._numbers.remember(lambda: function(self._now(), theirs()))

    def _itself(self) -> Any:
        return self._numbers.remember(self._now)

    __add__, __radd__ = _both_ways(operator.add)
    __sub__, __rsub__ = _both_ways(operator.sub)
    __mul__, __rmul__ = _both_ways(operator.mul)
    __truediv__, __rtruediv__ = _both_ways(operator.truediv)
    __floordiv__, __rfloordiv__ = _both_ways(operator.floordiv)
    __mod__, __rmod__ = _both_ways(operator.mod)
    __pow__, __rpow__ = _both_ways(operator.pow)

    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)
    __eq__ = _comparison(operator.eq)
    __ne__ = _comparison(operator.ne)

    def __neg__(self) -> "Changing":
        return self.map(operator.neg)

    def __bool__(self) -> bool:
        return bool(self._numbers.remember(lambda: bool(self._now())))

    def __float__(self) -> float:
        return float(self._itself())

    def __int__(self) -> int:
        return int(self._itself())

    def __index__(self) -> int:
        return operator.index(self._itself())

    def __hash__(self) -> int:
        return hash(self._itself())

    def __repr__(self) -> str:
        return repr(self._itself())

    def __format__(self, spec: str) -> str:
        return format(self._itself(), spec)


def tensor_or_number(number: Any) -> Any:
    """A changing number as a tensor; anything else as it is."""
    return number.tensor() if isinstance(number, Changing) else number
