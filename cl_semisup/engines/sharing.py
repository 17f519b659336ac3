"""How many workers share a GPU: as many as fit in its memory, if they do more together than one does alone.

A small network leaves a GPU idle most of the time, which several processes fill; a large one does not. Neither can be
known before, so it is measured: the first training says how much memory it takes and how fast it is alone; then as many
workers as fit, at most those of `execution/workers.py`, train side by side; if together they are not faster by GAIN,
one a GPU stays.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cl_semisup.results.records import Record

GAIN = 1.15


@dataclass(eq=False)
class Sharing:
    """The number of workers of an engine whose GPUs may be shared; `slots` is what it is now.

    Args:
        devices: number of GPUs
        most: workers of the engine
        fitting: peak memory of a training in bytes -> how many such trainings fit on one GPU at once
        compare: without, as many as fit stay, whatever they gain
    """

    devices: int
    most: int
    fitting: Callable[[int], int]
    compare: bool = True
    slots: int = field(init=False)
    _alone: dict[str, float] = field(default_factory=dict, init=False)  # kind of training -> images a second
    _together: list[float] = field(default_factory=list, init=False)  # speeds beside others, relative to alone
    _full_since: float | None = field(default=None, init=False)
    is_settled: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.slots = max(1, min(self.most, self.devices if self.compare else 1))

    def sent(self, busy: int, now: float) -> None:
        """`busy` workers train now."""
        if self._full_since is None and busy >= self.slots:
            self._full_since = now

    def finished(self, record: Record, started: float) -> None:
        """A training that started then has ended."""
        trained = record["status"] != "failed" and bool(record["run"]["epochs"])
        if self.is_settled or not trained:
            return
        speed = float(record["cost"].get("images_per_second", 0.0))
        if not self._alone:
            self._alone[_kind(record)] = speed
            fitting = self.devices * self.fitting(int(record["cost"]["peak_memory_bytes"]))
            slots = max(1, min(self.most, fitting))
            self.is_settled = slots <= self.slots or not self.compare
            self.slots, self._full_since = max(slots, self.slots) if self.compare else slots, None
        elif self._full_since is not None and started >= self._full_since:
            alone = self._alone.get(_kind(record))
            self._together += [speed / alone] if alone else []
            if len(self._together) == self.slots:
                self.is_settled = True
                if sum(self._together) < GAIN * self.devices:
                    self.slots = min(self.devices, self.most)


def _kind(record: Record) -> str:
    """Trainings of one kind take about as long."""
    run: Any = record["run"]
    return json.dumps([run[name] for name in ("dataset", "encoder", "batch_size", "views")], sort_keys=True)
