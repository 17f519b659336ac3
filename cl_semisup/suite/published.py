"""Numbers of papers and repositories that a suite repeats, to stand beside our own in its report."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Interval, MaxLen, MinLen

from cl_semisup.config import grid
from cl_semisup.config.grid import Problem
from cl_semisup.config.shown import short

MAX_NUMBERS = 1000  # of one suite
Share = Annotated[float, Interval(gt=0, lt=1)]


@dataclass(frozen=True)
class Published:
    """One published number. What is left out (data set, batch size, ...) holds for every cell.

    Args:
        loss: the loss, by its name in `losses`; where settings tell several of this name apart, with them as in tables:
            `clop(base=dcl)`
        value: the published score, a fraction between 0 and 1
        source: where it stands: paper and table, or repository and file
        interval: half of its published 95 % interval, if there is one
        score: the score that it is compared with; the suite's unless given
        dataset: name of the data set that it holds for
        batch_size: batch size that it holds for
        label_fraction: label fraction that it holds for
        remark: in what our recipe differs, or why the number is doubtful
    """

    loss: Annotated[str, MinLen(1), MaxLen(100)]
    value: Share
    source: Annotated[str, MinLen(1), MaxLen(300)]
    interval: Share | None = None
    score: Annotated[str, MaxLen(100)] = ""
    dataset: Annotated[str, MaxLen(100)] = ""
    batch_size: Annotated[int, Interval(ge=1)] | None = None
    label_fraction: Annotated[float, Interval(gt=0, le=1)] | None = None
    remark: Annotated[str, MaxLen(300)] = ""


def read(node: Any, problems: list[Problem]) -> tuple[Published, ...]:
    """The list under `published`; every wrong entry is a problem with its place."""
    if node is None:
        return ()
    if not isinstance(node, list) or len(node) > MAX_NUMBERS:
        rule = f"must be a list of at most {MAX_NUMBERS} mappings, one a published number"
        problems.append(Problem(("published",), f"{rule}. Got {short(node)}. Write `- {{loss: ...}}`."))
        return ()
    found = []
    for index, member in enumerate(node):
        path = ("published", index)
        rows = grid.mapping(member, Published, path, problems, grid.defaults(Published))
        if len(rows) > 1:
            problems.append(Problem(path, "must be one number, not a grid. Got a list. Write one entry a number."))
        found += [Published(**rows[0])] if len(rows) == 1 and rows[0].keys() >= {"loss", "value", "source"} else []
    return tuple(found)


def check(published: tuple[Published, ...], known: Mapping[str, Collection[Any]], problems: list[Problem]) -> None:
    """Each must speak of a loss, data set, batch size, label fraction and score of the suite: `known` has them.

    Of losses, `known` has the names, and each setting behind the name: `clop(base=dcl)`.
    """
    for index, number in enumerate(published):
        for key, values in known.items():
            value = getattr(number, key)
            named = _one_by_one(value) if key == "loss" else {value}
            if value not in ("", None) and not named <= {*values}:
                listed = ", ".join(sorted(str(one) for one in values if key != "loss" or "(" not in one))
                rule = f"must be a {key.replace('_', ' ')} of this suite. Got {value!r}. It has: {listed}."
                problems.append(Problem(("published", index, key), rule))


def name_and_settings(loss: str) -> tuple[str, frozenset[str]]:
    """`clop(base=dcl, weight=1)` -> clop, {base=dcl, weight=1}"""
    name, _, rest = loss.partition("(")
    return name, frozenset(part.strip() for part in rest.removesuffix(")").split(",") if part.strip())


def _one_by_one(loss: str) -> set[str]:
    name, settings = name_and_settings(loss)
    return {name} | {f"{name}({setting})" for setting in settings}


def problem(plain: Any) -> str:
    """The first broken rule of a number in plain data, which a stranger may have written; "" if there is none."""
    problems: list[Problem] = []
    found = read([plain], problems)
    return problems[0].text if problems else "" if found else "needs loss, value and source."
