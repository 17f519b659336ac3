"""Double precision for code that asks for single: the package's own training runs in float64, unchanged.

In single precision threads and instruction sets move a training by 1e-6 within 20 steps, in double by 1e-15. A fault
moves it by 1e-4 or more, so double leaves room for a tolerance that never fails without cause.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Double(TorchFunctionMode):
    """`.float()` and `float32` mean float64; half precision stays what it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        widened = {key: _wide(value) for key, value in (kwargs or {}).items()}
        return func(*map(_wide, args), **widened)


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@contextmanager
def float64() -> Iterator[None]:
    """Everything torch makes inside is float64, what it is asked to make as float32 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double():
            yield
    finally:
        torch.set_default_dtype(before)
