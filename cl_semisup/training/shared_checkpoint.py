"""The checkpoint of a training on several processes. Rank 0 writes and reads it; all ranks stop at the same step."""

import torch
from torch import Tensor, distributed

from cl_semisup.training.checkpoint import Checkpoint, Preempted
from cl_semisup.training.exchange import comm_errors, rank


class SharedCheckpoint(Checkpoint):
    """All ranks hold the same state, so one file is enough. The other ranks need no access to its folder."""

    _stop = False

    def due(self, last: bool = False) -> bool:
        """All ranks call this after every step. Rank 0 decides about stopping; otherwise some ranks would wait."""
        self._stop = bool(_broadcast_from_rank0(torch.tensor([self.should_stop()], dtype=torch.uint8)))
        return self._stop or (rank() == 0 and super().due(last))

    def save(self, state: dict[str, object]) -> None:
        if rank() == 0:
            super().save(state)
        if self._stop:
            raise Preempted

    def stop_requested(self) -> bool:
        return self._stop

    def read(self) -> bytes | None:
        own = (super().read() or b"") if rank() == 0 else b""
        length = int(_broadcast_from_rank0(torch.tensor([len(own)])))
        if length == 0:
            return None
        content = torch.frombuffer(bytearray(own or bytes(length)), dtype=torch.uint8)
        return bytes(_broadcast_from_rank0(content).numpy())


def _broadcast_from_rank0(value: Tensor) -> Tensor:
    """In place. `value` is on the host, so that no rank waits for its GPU."""
    with comm_errors():
        distributed.broadcast(value, src=0)
    return value
