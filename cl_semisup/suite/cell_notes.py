"""What is no fault of a cell, yet gives other numbers than its settings seem to ask for."""

import math
from collections.abc import Iterator

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.config.grid import GridValue, Problem
from cl_semisup.data import labels
from cl_semisup.data.images import Facts


def notes(cell: dict[str, GridValue], facts: Facts) -> Iterator[Problem]:
    """Notes with their places: a budget below one label of a class, and more neighbours asked for than there are."""
    fraction = cell["label_fraction"]
    if fraction.value is not None and (few := _below_one(cell, facts)):
        rule = f"is less than one image of {few} of {facts.classes} classes; one of each has its label all the same"
        yield Problem(fraction.path, f"{rule}. Got {fraction.value:g}.")
    for name, settings in cell["probes"].value.items():
        asked = settings.get("k", 0)
        default = grid.defaults(plugins.load("evaluation", name)).get("k")
        if asked > facts.labelled > 0 and asked != default:
            rule = f"there are {facts.labelled} training images with a label, and all of them vote"
            yield Problem((*cell["probes"].path, name, "k"), f"{rule}. Got {asked}.")


def _below_one(cell: dict[str, GridValue], facts: Facts) -> int:
    """The number of classes of which the label fraction is no image, rounded half up."""
    sizes = facts.class_sizes or (facts.smallest_class,) * facts.classes
    held_out = cell["validation"].value == "held_out"
    drawn = (size - labels.held_out_of(size) * held_out for size in sizes if size)
    return sum(math.floor(cell["label_fraction"].value * size + 0.5) < 1 for size in drawn)
