"""One loss a file. `build(name, dim=..., classes=..., **parameters)` gives `loss(z1, z2, labels=None) -> scalar`.

    z1, z2   (N, D) projections of two views, row i of both the same image, not normalised
    labels   (N,) int64 class or -1 for unlabelled; None means that every image is unlabelled

A loss file holds one frozen dataclass whose fields are its hyperparameters. A loss without state is its own callable
(`__call__`); one with parameters, buffers or another loss inside has `build(setting)`, which returns a module.

What a loss asks for beyond projections it declares in `asks`, an `Asks`; the trainer provides it. A loss that is a mean
over images may offer `per_image(z1, z2, labels, ...) -> (N,)` for losses that weigh images. One with directions of its
own among the projections may offer them as `prototypes` (K, D), row c for class c, and reports draw them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cl_semisup.config import grid
from cl_semisup.errors import InputError

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Asks:
    """What a loss asks of the trainer: `asks: ClassVar[Asks] = Asks(needs=("logits",))`, or set on a module.

    Args:
        labels: whether the labels change the loss; a loss that does not say so is shown none (all -1)
        needs: names from `cl_semisup.training.needs`, each handed over as a keyword argument of that name
        views: the recipe of every view: `full` (the suite's views) or `weak` (a mirror if allowed, a small shift);
            z1 and z2 are the projections of the first two
        trains_on: `all` images, or `labelled` ones only
        momentum: decay of the momentum copy of the network at the first and the last step, cosine between
        bound: labelled images of each class, the same in every step, that join every batch as rows of their own
        support: labelled images of each class drawn anew for every step, for the need `support`
        exempt: clause of the contract (`cl_semisup.contract`) -> why it does not hold for this loss
    """

    labels: bool = False
    needs: tuple[str, ...] = ()
    views: tuple[str, ...] = ("full", "full")
    trains_on: str = "all"
    momentum: tuple[float, float] = (0.99, 1.0)
    bound: int = 0
    support: int = 0
    exempt: Mapping[str, str] = field(default_factory=dict)

    @property
    def free_of_labels(self) -> bool:
        """Is the trained network the same whatever the labels are? Runs that differ in labels alone then share it."""
        return not (self.labels or self.bound or self.support or self.trains_on == "labelled")


def asks(loss: Any) -> Asks:
    """What a built loss asks for; nothing unless it says so."""
    return getattr(loss, "asks", Asks())


@dataclass(frozen=True)
class Setting:
    """What a loss may know when it is built.

    Args:
        dim: width of the projections, D
        classes: number of classes, C
        seed: names the draw of anything random, e.g. fixed prototypes
        images: number of training images, M, for losses that remember something of each
    """

    dim: int | None
    classes: int | None
    seed: int
    images: int | None = None

    def require(self, what: str) -> tuple[int, int]:
        """(D, C), for a loss that cannot be built without them."""
        if self.dim is None or self.classes is None:
            raise InputError(f"{what}: needs dim and classes. Got dim={self.dim}, classes={self.classes}. Give both.")
        return self.dim, self.classes

    def width(self, what: str) -> int:
        """D, for a loss with matrices of that size."""
        if self.dim is None:
            raise InputError(f"{what}: needs dim, the width of the projections. Got dim=None. Give it.")
        return self.dim

    def loss(self, named: str | dict[str, Any]) -> Loss:
        """Another loss in the same setting: a name, or {name: parameters}. For losses that wrap or extend a base."""
        name, params = (named, {}) if isinstance(named, str) else next(iter(named.items()))
        return build(name, dim=self.dim, classes=self.classes, seed=self.seed, images=self.images, **params)


def build(
    name: str,
    *,
    dim: int | None = None,
    classes: int | None = None,
    seed: int = 0,
    images: int | None = None,
    **params: Any,
) -> Loss:
    """The loss of that name as a callable `loss(z1, z2, labels=None)`; a bad parameter raises InputError."""
    plugin = grid.build("losses", name, params)
    return plugin.build(Setting(dim, classes, seed, images)) if hasattr(plugin, "build") else plugin
