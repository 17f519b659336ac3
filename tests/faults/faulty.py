"""A loss with a fault at one of its calls, for tests of what a benchmark survives."""

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor


@dataclass(frozen=True)
class Faulty:
    """InfoNCE, with a fault at one call.

    Source: None

    Args:
        fault: what happens: the process is killed, asked to stop, or hangs; its parent is asked to stop; the loss or
            its gradient is not finite; the same and then an error over what is not finite; an error; memory runs out;
            the loss raises SystemExit; nothing
        at: calls before the fault
        times: how often in all, over all processes that share the folder named by FAULTS
    """

    fault: Literal[
        "kill", "leave", "hang", "sigterm", "nan", "nan_gradient", "strict", "error", "memory", "exit", "none"
    ] = "none"
    at: Annotated[int, Ge(0)] = 0
    times: Annotated[int, Ge(0)] = 1

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        u1, u2 = torch.nn.functional.normalize(z1), torch.nn.functional.normalize(z2)
        loss = torch.logsumexp(u1 @ u2.T / 0.5, dim=1).mean() - (u1 * u2).sum(1).mean() / 0.5
        if _count("calls") <= self.at or self.fault == "none" or _count("faults") > self.times:
            return loss
        match self.fault:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave":
                os.kill(os.getpid(), signal.SIGTERM)
            case "sigterm":
                os.kill(multiprocessing.parent_process().pid, signal.SIGTERM)
                time.sleep(1)  # until it has passed the signal on
            case "hang":
                time.sleep(600)
            case "nan":
                return loss * float("nan")
            case "nan_gradient":
                return loss + (z1.sum() * 0).sqrt()  # 0, with an infinite gradient
            case "strict":
                torch.linalg.cholesky(u1.T @ u1 + torch.eye(u1.shape[1]))
                return loss + (z1.sum() * 0).sqrt()
            case "error":
                torch.linalg.cholesky(-torch.eye(3))
            case "memory":
                raise torch.OutOfMemoryError("tried to allocate 3 TiB")
            case "exit":
                raise SystemExit("a loss wants to leave")
        return loss


def _count(name: str) -> int:
    """How often it was called, over all processes: the length of a file, which a kill leaves intact."""
    path = Path(os.environ["FAULTS"]) / name
    with open(path, "ab") as file:
        file.write(b".")
        return file.tell()
