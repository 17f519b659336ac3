"""Double precision for code that asks for single: the package's own training runs unchanged in float64.

Within 20 steps in single precision, other threads or instruction sets change a training by 1e-6; in double precision
by 1e-15. A fault changes it by 1e-4 or more, so double precision allows a tolerance that unchanged code always meets.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Float32AsFloat64(TorchFunctionMode):
    """`.float()` and `float32` mean float64; half precision is left alone."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(_widen, args), **{key: _widen(value) for key, value in (kwargs or {}).items()})


def _widen(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@contextmanager
def float64() -> Iterator[None]:
    """Inside, torch makes float64 tensors by default and where float32 is asked for."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float32AsFloat64():
            yield
    finally:
        torch.set_default_dtype(before)
