"""Arguments of the Python interface: checked by their annotations before anything is done, and made plain."""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
MAX_DEPTH = 60  # lists and mappings in each other; a suite may have 50


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which raises InputError with the argument's name where a value is not what its annotation says."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from cl_semisup.config import grid

        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            annotation = signature.parameters[name].annotation
            if annotation is not Any:
                given.arguments[name] = grid.leaf(annotation, to_yaml_data(value), f"{function.__name__}: {name}")
        return function(*given.args, **given.kwargs)

    return call


def to_yaml_data(value: Any, depth: int = 0) -> Any:
    """Numbers, arrays, tuples and paths as YAML has them: `numpy.float32(0.1)` is 0.1; anything else as it is."""
    numpy = sys.modules.get("numpy")  # without it there are no arrays
    if depth > MAX_DEPTH:
        return value  # what reads the result tells that it is too deep, or contains itself
    if numpy and isinstance(value, numpy.floating):
        return float(str(value))  # the shortest decimal that names it, not float32's 0.10000000149011612
    if numpy and isinstance(value, numpy.generic):
        return value.item()
    if numpy and isinstance(value, numpy.ndarray):
        return to_yaml_data(list(value) if value.ndim else value[()], depth)
    if isinstance(value, list | tuple):
        return [to_yaml_data(entry, depth + 1) for entry in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {to_yaml_data(key, depth + 1): to_yaml_data(entry, depth + 1) for key, entry in value.items()}
    return value
