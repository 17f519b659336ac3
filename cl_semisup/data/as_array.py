"""What a caller passes for an array -> a numpy array: arrays, tensors, data frames, lists."""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def as_array(value: Any, where: str) -> NDArray[Any]:
    """A numpy array of `value`; DataError with `where` if it is none, or if some of its values are masked."""
    torch = sys.modules.get("torch")  # data sets are listed without it, and without it nothing is a tensor
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = on_cpu(value, where)
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # numpy has no bfloat16
    if isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise DataError(f"{where}: must have no masked values. Got {value.mask.sum()}. Leave their rows out.")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _no_array(value, where, error) from error


def on_cpu(value: "Tensor", where: str) -> "Tensor":
    """The tensor in the memory of the CPU; DataError if it has no values there (`meta`), or is sparse."""
    try:
        return value.detach().cpu().to_dense()
    except (TypeError, RuntimeError) as error:  # NotImplementedError is a RuntimeError
        raise _no_array(value, where, error) from error


def _no_array(value: Any, where: str, error: Exception) -> DataError:
    got = f"{type(value).__module__}.{type(value).__qualname__} ({error!s:.200})"
    return DataError(f"{where}: must be an array, a tensor, a data frame or a list of rows. Got {got}.")
