"""The form of stored references. Every value has its type, shape and range, or the place of the first fault is told.

A file also holds the hash of all that is in it: what was cut off, or changed by hand, could look like a shorter
measurement that still agrees.

A form is a function of a value and its place. It raises ValueError: `{place}: must be {rule}. Got {value}`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from cl_semisup.gate import function, trajectory
from cl_semisup.results.records import STATUSES
from cl_semisup.system import files

MAX_BYTES = 5_000_000  # the shipped reference has 155,000
MAX_VALUE = 1e300  # a diverging float64 training gets far
HASH = "sha256"  # the key of the hash
Form = Callable[[Any, str], None]


def read(path: Path) -> Any:
    """The value of a JSON file of the user's own; OSError or ValueError says what is wrong."""
    with files.open_regular(path, MAX_BYTES) as file:
        return files.parse_json(file.read())


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its hash."""
    rest = {key: value for key, value in content.items() if key != HASH}
    canonical = json.dumps(rest, sort_keys=True, allow_nan=False)
    return {**rest, HASH: hashlib.sha256(canonical.encode()).hexdigest()}


def require_seal(content: Mapping[str, Any]) -> None:
    """ValueError for a content that is not what was written; its form is checked before."""
    if content[HASH] != sealed(content)[HASH]:
        raise ValueError(f"{HASH}: must be the hash of all else in the file. Got another: it was damaged or changed")


def text(value: Any, place: str) -> None:
    if not isinstance(value, str):
        _refuse(value, place, "text")


def text_or_null(value: Any, place: str) -> None:
    if value is not None:
        text(value, place)


def anything(value: Any, place: str) -> None:
    pass


def number(value: Any, place: str) -> None:
    if type(value) not in (int, float) or not abs(value) <= MAX_VALUE:
        _refuse(value, place, "a finite number")


def number_or_null(value: Any, place: str) -> None:
    """A measurement; null stands for one that was not finite."""
    if value is not None:
        number(value, place)


def size(value: Any, place: str) -> None:
    number(value, place)
    if value < 0:
        _refuse(value, place, "at least 0")


def count(value: Any, place: str) -> None:
    if type(value) is not int or value < 0:
        _refuse(value, place, "a whole number of at least 0")


def fraction_or_null(value: Any, place: str) -> None:
    number_or_null(value, place)
    if value is not None and not 0 <= value <= 1 + 1e-6:
        _refuse(value, place, "a fraction in [0, 1]")


def status(value: Any, place: str) -> None:
    if value not in STATUSES:
        _refuse(value, place, f"one of {', '.join(STATUSES)}")


def array(form: Form, least: int = 1, most: int | None = None) -> Form:
    """A list of `least` to `most` members."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list):
            _refuse(value, place, "a list")
        if len(value) < least or (most is not None and len(value) > most):
            numbers = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            raise ValueError(f"{place}: must have {numbers} members. Got {len(value)}")
        for index, member in enumerate(value):
            form(member, f"{place}[{index}]")

    return check


def mapping(form: Form, least: int = 0, **required: Form) -> Form:
    """An object with these keys, and any others of `form`, at least `least` of them all."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, Mapping):
            _refuse(value, place, "an object")
        for key in required.keys() - value.keys():
            raise ValueError(f"{place}: must have the key {key!r}. Got none")
        if len(value) < least:
            raise ValueError(f"{place}: must have {least} or more members. Got {len(value)}")
        for key, member in value.items():
            required.get(key, form)(member, f"{place}.{key}" if place else key)

    return check


def _refuse(value: Any, place: str, rule: str) -> NoReturn:
    raise ValueError(f"{place}: must be {rule}. Got {value!r:.60}")


def _trajectory(value: Any, place: str) -> None:
    """Without any step, only a failed run says anything."""
    _TRAJECTORY(value, place)
    if value["end"] != {}:
        _END(value["end"], f"{place}.end")
    if not value["steps"] and value["end"].get("status") != "failed":
        raise ValueError(f"{place}.steps: must have 1 or more members. Got 0")


def _cell(value: Any, place: str) -> None:
    """One list for each quantity, all over the same runs; a sound run has a loss and every score."""
    _COLUMNS(value, place)
    columns = {"loss": value["loss"], **{f"scores.{name}": scores for name, scores in value["scores"].items()}}
    for name, column in columns.items():
        if len(column) != len(value["status"]):
            raise ValueError(f"{place}.{name}: must have {len(value['status'])} members. Got {len(column)}")
    for run, how in enumerate(value["status"]):
        if how in ("ok", "collapsed"):
            for name, column in columns.items():
                number(column[run], f"{place}.{name}[{run}]")
            if not value["scores"]:
                raise ValueError(f"{place}.scores: must have 1 or more members. Got 0")


_ROW = array(number_or_null, len(trajectory.QUANTITIES), len(trajectory.QUANTITIES))
_END = mapping(number_or_null, status=status, reason=text)
_TRAJECTORY = mapping(anything, steps=array(_ROW, 0, trajectory.STEPS), end=mapping(anything))
_COLUMNS = mapping(anything, status=array(status), loss=array(number_or_null), scores=mapping(array(fraction_or_null)))


def _metric(value: Any, place: str) -> None:
    array(number, 2, 2)(value, place)
    size(value[1], f"{place}[1]")


HISTORY = array(
    mapping(
        anything,
        at=text,
        commit=text_or_null,
        torch=text,
        reason=text,
        moved=count,
        figures=mapping(mapping(_metric)),
    )
)
FUNCTION = mapping(array(number_or_null, len(function.QUANTITIES), len(function.QUANTITIES)), least=1)
DESCENT = array(_ROW, 1, trajectory.STEPS)
REFERENCE = mapping(
    anything,
    sha256=text,
    schema=count,
    recipe=count,
    suite=text,
    asked=text,
    made=mapping(anything, at=text, torch=text),
    plugins=mapping(text),
    history=HISTORY,
    function=mapping(FUNCTION, least=1),
    free=mapping(DESCENT, least=1),
    trajectory=mapping(mapping(_trajectory, least=1), least=1),
    outcome=mapping(mapping(_cell, least=1)),
)
"""Of a whole file of `reference`; without an outcome it was made without that tier."""
PROJECT = mapping(
    anything,
    sha256=text,
    schema=count,
    losses=mapping(mapping(anything, history=array(anything), function=FUNCTION, free=DESCENT)),
)
"""Of a file of the pytest plug-in."""
