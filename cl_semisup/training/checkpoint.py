"""A training run's state on disk, so that it goes on bit for bit on a CPU.

Randomness is a function of names and the step, so the state is the tensors that training changes and the step alone.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import torch


class Checkpoint:
    """One file, replaced atomically, at most every `every` seconds.

    `made_by` names the code that makes the state; a state made by other code is not continued.
    """

    def __init__(self, path: Path, every: float, made_by: str = ""):
        self.path, self.every, self.made_by = path, every, made_by
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last >= self.every

    def save(self, state: dict[str, Any]) -> None:
        """Write beside, flush, rename: a crash leaves the old state or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                torch.save({"made_by": self.made_by, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        self._last = time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state; None if there is none to go on from. Tensors and plain values only: no code can hide in it."""
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except FileNotFoundError:
            return None
        return state if state["made_by"] == self.made_by else None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
