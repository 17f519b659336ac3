"""A training run's state on disk, so that it goes on bit for bit on a CPU.

Randomness is a function of names and the step, so the state is the tensors that training changes and the step alone.
The file is a SHA-256 and what it is of: a state that is cut short or damaged is not continued, the run begins anew.
"""

import contextlib
import hashlib
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

DIGEST = 32  # bytes of a SHA-256


class Preempted(BaseException):
    """Training has stopped with its state saved, because its process was asked to leave."""


class Checkpoint:
    """One file, replaced atomically, at most every `every` seconds.

    `made_by` names the code that makes the state; a state made by other code is not continued. `leave` says whether
    the process has been asked to go. `seconds` is the training time behind the state that was loaded.
    """

    def __init__(self, path: Path, every: float, made_by: str = "", leave: Callable[[], bool] = lambda: False):
        self.path, self.every, self.made_by, self.leave = path, every, made_by, leave
        self.seconds = 0.0
        self._began = self._last = time.monotonic()
        self._kept = False

    def due(self, last: bool = False) -> bool:
        """Is it time? The `last` step of a run that was ever saved is too, so that evaluation may be cut short."""
        return self.asked_to_leave() or time.monotonic() - self._last >= self.every or (last and self._kept)

    def save(self, state: dict[str, Any]) -> None:
        """Write beside, flush, rename: a crash leaves the old state or the new one. Raises Preempted if asked to leave.

        A disk that is full costs the state and not the run.
        """
        payload = io.BytesIO()
        seconds = self.seconds + time.monotonic() - self._began
        torch.save({"made_by": self.made_by, "seconds": seconds, **state}, payload)
        try:
            self._replace(payload.getbuffer())
            self._kept = True
        except OSError as error:
            print(f"{self.path}: no state is kept: {error.strerror}. The run goes on.", file=sys.stderr, flush=True)
        self._last = time.monotonic()
        if self.asked_to_leave():
            raise Preempted

    def asked_to_leave(self) -> bool:
        return self.leave()

    def content(self) -> bytes | None:
        """What the file holds; None where there is none that can be read."""
        try:
            return self.path.read_bytes()
        except OSError:
            return None

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state; None if there is none to go on from. Tensors and plain values: no code can hide in it."""
        content = self.content()
        if content is None:
            return None
        digest, payload = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
            if state["made_by"] != self.made_by:
                return None
            self.seconds, self._kept = float(state["seconds"]), True
        except Exception:  # whatever a file raises that is none of ours
            return None
        return state

    def _replace(self, payload: memoryview) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(hashlib.sha256(payload).digest())
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
