"""`validation: own`: the data's own validation part tunes. A run says so in its data set, by `val: validate`."""

from collections.abc import Mapping
from dataclasses import replace

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.config.grid import GridValue, Problem
from cl_semisup.suite.run import Named

VALIDATES = "validate"


def is_used(dataset: Named) -> bool:
    """Does the data set's own validation part tune?"""
    return any(settings.get("val") == VALIDATES for settings in dataset.values())


def resolved(cell: Mapping[str, GridValue], problems: list[Problem]) -> dict[str, GridValue] | None:
    """The cell with `val: validate` in its data set in place of `validation: own`: one question has one id.

    None, and a problem, if its data cannot have such a part.
    """
    validation, data = cell["validation"], cell["datasets"]
    if validation.value != "own":
        return dict(cell)
    (name, settings) = next(iter(data.value.items()))
    got = ""
    if "val" not in grid.annotations(plugins.load("datasets", name)):
        got = f"{name}, which has none"
    elif settings.get("val") not in (None, VALIDATES):
        got = f"{name} with `val: {settings['val']}`"
    if got:
        problem = Problem(validation.path, f"own needs a data set with a validation part. Got {got}. Write `held_out`.")
        if problem not in problems:
            problems.append(problem)
        return None
    own = replace(data, value={name: {**settings, "val": VALIDATES}})
    return {**cell, "datasets": own, "validation": replace(validation, value="held_out")}
