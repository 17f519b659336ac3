"""The state of a training on several processes: the first writes and reads it, all leave at the same step."""

import torch
from torch import Tensor, distributed

from cl_semisup.training.checkpoint import Checkpoint, Preempted
from cl_semisup.training.exchange import heard, rank


class SharedCheckpoint(Checkpoint):
    """Every process holds the same state, so one file is enough; the folder need not be shared."""

    _leaving = False

    def due(self, last: bool = False) -> bool:
        """Asked after every step by all processes: whether to leave is the first one's word, or some would wait."""
        self._leaving = bool(_from_first(torch.tensor([self.leave()], dtype=torch.uint8)))
        return self._leaving or (rank() == 0 and super().due(last))

    def save(self, state: dict[str, object]) -> None:
        if rank() == 0:
            super().save(state)
        if self._leaving:
            raise Preempted

    def asked_to_leave(self) -> bool:
        return self._leaving

    def content(self) -> bytes | None:
        own = (super().content() or b"") if rank() == 0 else b""
        length = int(_from_first(torch.tensor([len(own)])))
        if length == 0:
            return None
        whole = torch.frombuffer(bytearray(own or bytes(length)), dtype=torch.uint8)
        return bytes(_from_first(whole).numpy())


def _from_first(value: Tensor) -> Tensor:
    """The first process's, on the host: of no device's queue of work is the end waited for."""
    with heard():
        distributed.broadcast(value, src=0)
    return value
