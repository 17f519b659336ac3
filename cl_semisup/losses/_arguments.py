"""What every loss is called with must fit: otherwise rows would be paired wrongly, or broadcast, without a word."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from numbers import Integral
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from cl_semisup.errors import InputError

_SIZES = "_checked_sizes"  # attribute of a loss: (dim, classes) that it was built for
# what a loss may need beside views and labels: a tensor a view, (N, ...) -> which size its columns have, if any
_OF_VIEWS = {
    **dict.fromkeys(("projections", "local_projections", "momentum_projections"), "dim"),
    **dict.fromkeys(("logits", "momentum_logits"), "classes"),
    **dict.fromkeys(("features", "momentum_features", "inputs"), ""),
}
_ANY_NUMBER = ("local_projections",)  # of views; elsewhere there are two at least
_known: list[None] = []  # as long as it holds something, the values of labels need no check


@contextmanager
def known_labels() -> Iterator[None]:
    """Within, the values of labels are not looked at: the caller has checked them, and on a GPU each look is a wait."""
    _known.append(None)
    try:
        yield
    finally:
        _known.pop()


def check_sizes(name: Any, seed: Any, **sizes: Any) -> None:
    """Raise InputError unless every size is whole and at least 1, or None, the seed whole, and the name a text."""
    if not isinstance(name, str):
        raise InputError(f"a loss must be built by its name. Got {name!r:.80}. Give its settings as keywords.")
    for what, size in sizes.items():
        if size is not None and (not isinstance(size, Integral) or isinstance(size, bool) or size < 1):
            raise InputError(f"{name}: {what} must be a whole number, at least 1. Got {size!r}. Change it.")
    if not isinstance(seed, Integral) or not -(2**63) <= int(seed) < 2**63:
        raise InputError(f"{name}: seed must be a whole number of at most 64 bits. Got {seed!r}. Change it.")


def checked(loss: Any, name: str, dim: int | None, classes: int | None) -> Any:
    """The loss, which from now on raises InputError for views or labels that do not fit.

    Its class does the check, so an instance stays what it is: it pickles and copies as before.
    """
    if isinstance(loss, FunctionType):
        return _checked(loss, name, (dim, classes))
    kind = type(loss)
    for method in ("__call__", "forward", "per_image") if issubclass(kind, nn.Module) else ("__call__", "per_image"):
        owner = next((cls for cls in kind.__mro__ if method in vars(cls)), object)
        function = vars(owner).get(method)
        ours = isinstance(function, FunctionType) and not owner.__module__.startswith("torch.")
        if ours and not hasattr(function, "checks_arguments"):
            setattr(owner, method, _checked(function, name))
    if hasattr(loss, "__dict__"):
        vars(loss)[_SIZES] = (dim, classes)
    return loss


def _checked(function: Any, name: str, sizes: tuple[int | None, int | None] | None = None) -> Any:
    """The function, or without sizes the method, with a check of z1, z2 and labels."""

    @wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        own = arguments[1:] if sizes is None else arguments
        given = dict(zip(("z1", "z2", "labels"), own, strict=False)) | named
        dim, classes = getattr(arguments[0], _SIZES, (None, None)) if sizes is None else sizes
        _check_views(name, given.get("z1"), given.get("z2"), dim)
        if given.get("labels") is not None:
            _check_labels(name, given["labels"], given["z1"], classes)
        for need in _OF_VIEWS.keys() & named.keys():
            _check_needed(name, need, named[need], len(given["z1"]), {"dim": dim, "classes": classes, "": None})
        if named.get("index") is not None:
            _check_index(name, named["index"], given["z1"])
        try:
            return function(*arguments, **named)
        except (TypeError, KeyError) as error:  # some losses can do without some of what they ask the trainer for
            loss = function if sizes is not None else arguments[0]
            needs = getattr(getattr(loss, "requirements", getattr(loss, "asks", None)), "needs", ())
            if missing := [need for need in needs if need not in given]:
                rule = f"must be called with what it needs beside views and labels, by name: {', '.join(missing)}"
                raise InputError(f"{name}: {rule}. Got none of it. Give it, as a training does.") from error
            raise

    called.checks_arguments = True  # type: ignore[attr-defined]
    return called


def _check_views(name: str, z1: Any, z2: Any, dim: int | None) -> None:
    shapes = [tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__ for z in (z1, z2)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or not isinstance(z1, Tensor):
        got = f"Got {shapes[0]} and {shapes[1]}. Give one row an image to both"
        raise InputError(f"{name}: z1 and z2 must be two views (N, D) of the same images. {got}.")
    if 0 in shapes[0]:
        raise InputError(f"{name}: z1 and z2 must have rows and columns. Got {shapes[0]}. Leave out empty batches.")
    if dim not in (None, shapes[0][1]):
        got = f"Got {shapes[0][1]}. Build the loss for the width that the views have"
        raise InputError(f"{name}: z1 and z2 must have dim = {dim} columns. {got}.")
    for view in (z1, z2):
        if not view.is_floating_point():
            raise InputError(f"{name}: z1 and z2 must be of real floats. Got {view.dtype}. Convert them.")
    for what in ("dtype", "layout", "device"):
        first, second = getattr(z1, what), getattr(z2, what)
        halves = what == "dtype" and torch.float64 not in (first, second)  # every loss widens these to float32
        if first != second and not halves:
            raise InputError(f"{name}: z1 and z2 must be of one {what}. Got {first} and {second}. Convert one.")
    if z1.layout != torch.strided or z1.is_meta:
        got = "meta tensors" if z1.is_meta else str(z1.layout)
        raise InputError(f"{name}: z1 and z2 must hold every number. Got {got}. Give dense tensors.")


def _check_labels(name: str, labels: Any, z1: Tensor, classes: int | None) -> None:
    shape = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
    if shape != z1.shape[:1]:
        raise InputError(f"{name}: labels must be one an image, ({len(z1)},). Got {shape}. Give (N,) or None.")
    if labels.dtype != torch.int64:
        rule = "labels must be whole numbers (int64), -1 where there is none"
        raise InputError(f"{name}: {rule}. Got {labels.dtype}. Convert them with .long().")
    if labels.device != z1.device:
        rule = f"labels must be on the device of the views, {z1.device}"
        raise InputError(f"{name}: {rule}. Got {labels.device}. Move them with .to(z1.device).")
    if not _known:
        least, largest = map(int, labels.aminmax())
        if least < -1:
            raise InputError(f"{name}: labels must be classes from 0 on, -1 where there is none. Got {least}. Mend it.")
        if classes is not None and largest >= classes:
            rule = f"labels must be below classes, the {classes} that the loss was built for"
            raise InputError(f"{name}: {rule}. Got {largest}. Build it for more classes.")


def _check_needed(name: str, need: str, views: Any, count: int, sizes: dict[str, int | None]) -> None:
    """A tensor a view, with a row an image: others would be broadcast, or paired with other images."""
    if views is None:
        return
    views = tuple(views) if isinstance(views, list | tuple) else (views,)
    shapes = [tuple(view.shape) if isinstance(view, Tensor) else type(view).__name__ for view in views]
    least = 0 if need in _ANY_NUMBER else 2
    if len(shapes) < least or any(len(shape) < 2 or shape[0] != count for shape in shapes):
        rule = f"{need} must be {'' if not least else 'two or more '}views ({count}, ...), a row an image each"
        raise InputError(f"{name}: {rule}. Got {shapes!r:.200}. Give them as a training does.")
    columns, size = {shape[1:] for shape in shapes}, sizes[_OF_VIEWS[need]]
    if need != "inputs" and (len(columns) > 1 or (size is not None and columns - {(size,)})):
        width = f"{_OF_VIEWS[need]} = {size} columns" if size is not None else "equally many columns"
        raise InputError(f"{name}: {need} must have {width}. Got {shapes!r:.200}. Give them as a training does.")


def _check_index(name: str, index: Any, z1: Tensor) -> None:
    shape = tuple(index.shape) if isinstance(index, Tensor) else type(index).__name__
    if shape != z1.shape[:1] or index.dtype != torch.int64:
        kind = f" of {index.dtype}" if isinstance(index, Tensor) else ""
        rule = f"index must be the number of each training image, ({len(z1)},) of int64"
        raise InputError(f"{name}: {rule}. Got {shape}{kind}. Give it as a training does.")
    if not _known and int(index.min()) < 0:
        raise InputError(f"{name}: index must be numbers from 0 on. Got {int(index.min())}. Mend it.")
