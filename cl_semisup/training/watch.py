"""What a recorded step would repeat: the numbers that its operations take; and what cannot be recorded at all."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cl_semisup.training.changing import CannotRecordError

aten = torch.ops.aten
WAITS = {  # the host reads what the device has computed
    aten._local_scalar_dense.default: "reads a number of the device",
    aten.equal.default: "reads a number of the device",
    aten.allclose.default: "reads a number of the device",
    aten.is_nonzero.default: "reads a number of the device",
    aten.nonzero.default: "looks for entries, whose number the host must know",
    aten.masked_select.default: "takes rows by a mask, whose number the host must know",
    aten._unique2.default: "looks for different values, whose number the host must know",
    aten.unique_dim.default: "looks for different values, whose number the host must know",
    aten.unique_consecutive.default: "looks for different values, whose number the host must know",
    aten.repeat_interleave.Tensor: "repeats rows by numbers that the host must know",
    aten.bincount.default: "counts values, whose largest the host must know",
    aten._linalg_svd.default: "computes singular values, which the host checks",
    aten.linalg_pinv.atol_rtol_tensor: "computes singular values, which the host checks",
    aten._linalg_eigh.default: "computes eigenvalues, which the host checks",
    aten._linalg_check_errors.default: "factorises a matrix, which the host checks",
}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
COPIES = {aten.copy_.default, aten._to_copy.default}


class Watch(TorchDispatchMode):
    """`calls` has every operation with its numbers and sizes. CannotRecordError at the end if one cannot be recorded.

    Not at once: errors within a backward pass go through torch's engine, which may be another thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self._reason = ""

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        super().__exit__(kind, error, traceback)
        if self._reason and error is None:
            raise CannotRecordError(self._reason)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = list(_leaves((args, kwargs)))
        self._reason = self._reason or _obstacle(func, args, leaves)
        self.calls.append((str(func), tuple(_seen(leaf) for leaf in leaves)))
        return func(*args, **kwargs)


def _obstacle(func: Any, args: Any, leaves: list[Any]) -> str:
    """Why an operation cannot be recorded; "" if it can."""
    masks = func in INDEXING and any(_is_mask(index) for index in args[1])
    if func in WAITS or masks:
        return WAITS.get(func, "takes rows by a mask, whose number the host must know")
    if torch.Tag.nondeterministic_seeded in func.tags:
        return f"draws random numbers in the step ({func})"
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    targets = [leaf for leaf in leaves if isinstance(leaf, torch.device)] if func is aten._to_copy.default else []
    on_host = {device.type == "cpu" for device in (*(x.device for x in tensors), *targets)}
    if len(on_host) > 1 and (func in COPIES or any(_on_host(x) and x.ndim for x in tensors)):
        return "copies between the host and the device"
    return ""


def first_difference(one: list[tuple[str, tuple[object, ...]]], two: list[tuple[str, tuple[object, ...]]]) -> str:
    """What two steps do differently, in words; "" if nothing."""
    for (name, seen), (other, others) in zip(one, two, strict=False):
        if name != other:
            return f"calls {name} in one step and {other} in another"
        if seen != others:
            pair = next(((a, b) for a, b in zip(seen, others, strict=False) if a != b), (len(seen), len(others)))
            return f"gives {name} {pair[0]} in one step and {pair[1]} in another"
    return "" if len(one) == len(two) else f"calls {len(one)} operations in one step and {len(two)} in another"


def python_state(loss: object) -> list[tuple[str, object]]:
    """What a loss keeps outside of its buffers and parameters, in a form that can be compared."""
    kept = ("_parameters", "_buffers", "_modules")
    members = loss.named_modules() if isinstance(loss, nn.Module) else [("", loss)]
    return [
        (f"{path}.{name}".lstrip("."), _kept(value))
        for path, member in members
        for name, value in getattr(member, "__dict__", {}).items()
        if name not in kept
    ]


def _kept(value: object) -> object:
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, list | tuple | set | frozenset):
        return type(value).__name__, tuple(_kept(item) for item in value)
    if isinstance(value, dict):
        return tuple((str(key), _kept(item)) for key, item in value.items())
    return repr(value) if isinstance(value, int | float | str | bytes) else id(value)


def _leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, list | tuple):
        for value in values:
            yield from _leaves(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from _leaves(value)
    else:
        yield values


def _seen(leaf: Any) -> object:
    if isinstance(leaf, Tensor):  # a number of the host is an argument of a kernel, whatever it is wrapped in
        return tuple(leaf.shape), str(leaf.dtype), repr(leaf.item()) if _on_host(leaf) and leaf.ndim == 0 else None
    if isinstance(leaf, float):
        return repr(leaf)  # NaN is equal to NaN
    return leaf if isinstance(leaf, int | bool | str | type(None)) else str(leaf)


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _on_host(x: Tensor) -> bool:
    return x.device.type == "cpu"
