"""CUDA graphs on the imitated GPU: operations between begin and end are kept, not done, and repeated by `replay`.

A replay repeats each operation with the tensors and numbers that it had, and writes into the same memory. What a step
reads from elsewhere (a Python number, a tensor of the host, a buffer that is bound anew) is therefore frozen, as on a
GPU. Where the host would wait, where random numbers are drawn, and where tensors of the host are copied, recording ends
in the error that CUDA raises.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.gpu import imitated

FORBIDDEN = "CUDA error: operation not permitted when stream is capturing"


_recordings: list["_Recording"] = []


def current_recording() -> "_Recording | None":
    return _recordings[-1] if _recordings else None


class Graph:
    """Stands in for `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []  # function, arguments, and the results that are no views
        self.replays = 0

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        self._recording = _Recording(self)
        self._recording.__enter__()
        _recordings.append(self._recording)

    def capture_end(self) -> None:
        _recordings.remove(self._recording)
        self._recording.__exit__(None, None, None)
        self._recording.undo()

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for function, args, kwargs, kept in self.calls:
                done = function(*args, **kwargs)
                for before, now in zip(kept, imitated.leaves(done), strict=True):
                    if before is not None:
                        before.held.copy_(now.held)


class _Recording(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # address -> memory, and a copy of it
        self._made: dict[int, torch.Tensor] = {}  # address -> memory that was allocated while recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, waits = kwargs or {}, len(imitated.current().waits)
        tensors = [x for x in imitated.leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        given = [x.held for x in tensors if isinstance(x, imitated.OnGpu)]
        if given and any(not isinstance(x, imitated.OnGpu) and x.ndim for x in tensors):
            imitated.fail(RuntimeError(FORBIDDEN))
        for held in given:
            if _address(held) not in self._made:
                self._before.setdefault(_address(held), (held, _memory(held).clone()))
        done = func(*args, **kwargs)
        results = list(imitated.leaves(done))
        drawn = torch.Tag.nondeterministic_seeded in func.tags
        if len(imitated.current().waits) > waits or (drawn and any(isinstance(x, imitated.OnGpu) for x in results)):
            imitated.fail(RuntimeError(FORBIDDEN))
        if given or any(isinstance(x, imitated.OnGpu) for x in results):
            addresses = {_address(held) for held in given}
            kept = [x if isinstance(x, imitated.OnGpu) and _address(x.held) not in addresses else None for x in results]
            self._made |= {_address(x.held): x.held for x in kept if x is not None}
            self.graph.calls.append((func, args, kwargs, kept))
        return done

    def add(self, launch: Callable[[], None]) -> None:
        """Keep the launch of a kernel that is no operation of torch."""

        def replayed() -> list[Any]:
            launch()
            return []

        self.graph.calls.append((replayed, (), {}, []))

    def undo(self) -> None:
        """What was there is as it was; what was allocated has no values yet."""
        for held, before in self._before.values():
            _memory(held).copy_(before)
        for held in self._made.values():
            if held.is_floating_point():
                held.fill_(torch.nan)


def _address(held: torch.Tensor) -> int:
    return held.untyped_storage().data_ptr()


def _memory(held: torch.Tensor) -> torch.Tensor:
    """All of its storage, as bytes."""
    return torch.empty(0, dtype=torch.uint8).set_(held.untyped_storage())  # type: ignore[call-overload, no-any-return]
