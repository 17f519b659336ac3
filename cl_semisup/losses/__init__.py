"""One loss a file. `build(name, dim=..., classes=..., **parameters)` gives `loss(z1, z2, labels=None) -> scalar`.

    z1, z2   (N, D) projections of two views, row i of both the same image, not normalised
    labels   (N,) int64 class or -1 for unlabelled; None means that every image is unlabelled

A loss file holds one frozen dataclass whose fields are its hyperparameters. A loss without state is its own callable
(`__call__`); one with parameters, buffers or another loss inside has `build(setting)`, which returns a module.

What a loss needs beyond projections it declares in `needs`, a tuple of names from `cl_semisup.training.needs`; the
trainer hands each over as a keyword argument. `trains_on = "labelled"` draws its batches from labelled images only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cl_semisup import grid
from cl_semisup.errors import InputError

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Setting:
    """What a loss may know when it is built.

    Args:
        dim: width of the projections, D
        classes: number of classes, C
        seed: names the draw of anything random, e.g. fixed prototypes
    """

    dim: int | None
    classes: int | None
    seed: int

    def require(self, what: str) -> tuple[int, int]:
        """(D, C), for a loss that cannot be built without them."""
        if self.dim is None or self.classes is None:
            raise InputError(f"{what}: needs dim and classes. Got dim={self.dim}, classes={self.classes}. Give both.")
        return self.dim, self.classes

    def loss(self, named: str | dict[str, Any]) -> Loss:
        """Another loss in the same setting: a name, or {name: parameters}. For losses that wrap or extend a base."""
        name, params = (named, {}) if isinstance(named, str) else next(iter(named.items()))
        return build(name, dim=self.dim, classes=self.classes, seed=self.seed, **params)


def build(name: str, *, dim: int | None = None, classes: int | None = None, seed: int = 0, **params: Any) -> Loss:
    """The loss of that name as a callable `loss(z1, z2, labels=None)`; a bad parameter raises InputError."""
    plugin = grid.build("losses", name, params)
    return plugin.build(Setting(dim, classes, seed)) if hasattr(plugin, "build") else plugin
