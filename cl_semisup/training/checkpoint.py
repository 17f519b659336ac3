"""The state of a training on disk. A resumed training gives the same bits on a CPU.

Random draws are functions of names and the step, so the state is the step and the tensors that training changes.
A training with a truncated, damaged or foreign file starts anew (`state_file`).
"""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cl_semisup.errors import ProcessMustStop
from cl_semisup.text import show, visible
from cl_semisup.training import state_file


class Preempted(ProcessMustStop):
    """Training has stopped on request, with its state saved."""


class Checkpoint:
    """One file, replaced atomically, at most once in `interval` seconds.

    `code_version` names the code that makes the state; a state of other code is not loaded. `should_stop` tells whether
    the process has been asked to stop. States are signed with `key`. `seconds` is the training time before the state
    that was loaded.
    """

    def __init__(
        self,
        path: Path,
        interval: float,
        code_version: str = "",
        should_stop: Callable[[], bool] = lambda: False,
        key: bytes = b"",
    ):
        self.key = key
        self.path, self.interval, self.code_version, self.should_stop = path, interval, code_version, should_stop
        self.seconds = 0.0
        self._started = self._last_save = time.monotonic()
        self._saved = False

    def due(self, last: bool = False) -> bool:
        """Whether to save now. After the `last` step: if the run was ever saved, in case evaluation is interrupted."""
        return self.stop_requested() or time.monotonic() - self._last_save >= self.interval or (last and self._saved)

    def save(self, state: dict[str, Any]) -> None:
        """Write the file. Raises Preempted if the process has been asked to stop.

        If the disk is full, training goes on without a state.
        """
        payload = io.BytesIO()
        seconds = self.seconds + time.monotonic() - self._started
        torch.save({"code_version": self.code_version, "seconds": seconds, **state}, payload)
        try:
            state_file.write(self.path, payload.getbuffer(), self.key)
            self._saved = True
        except OSError as error:
            show(f"{visible(self.path)}: no state is kept: {error.strerror}. The run goes on.", error=True)
        self._last_save = time.monotonic()
        if self.stop_requested():
            raise Preempted

    def stop_requested(self) -> bool:
        return self.should_stop()

    def read(self) -> bytes | None:
        """The payload of the file; None if it cannot be read or trusted."""
        return state_file.read(self.path, self.key)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state; None if there is none, or one that is damaged, foreign or of other code."""
        payload = self.read()
        if payload is None:
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
            if state["code_version"] != self.code_version:
                return None
            self.seconds, self._saved = float(state["seconds"]), True
        except Exception:  # a file that another program wrote can raise anything
            return None
        return state
