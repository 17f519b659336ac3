"""Losses, one a file. `build(name, dim=..., classes=..., **parameters)` gives `loss(z1, z2, labels=None) -> scalar`.

    z1, z2   (N, D) projections of two views, row i of both the same image, not normalised
    labels   (N,) int64 class or -1 for unlabelled; None means that every image is unlabelled

To add one, write a frozen dataclass whose fields are its hyperparameters. A loss without state is its own callable
(`__call__`). A loss with parameters, buffers or another loss inside has `build(setting)`, which returns a module.

Other members are optional:

    requirements  a `Requirements`: whether it uses labels, and what it needs from the trainer beside projections
    per_image     (z1, z2, labels, ...) -> (N,), for a loss that is a mean over images; losses that weigh images use it
    counts        (z1, labels) -> (N,) bool, the images that have such a value; all if left out
    prototypes    (K, D) directions among the projections, row c for class c, which reports draw
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.config import grid
from cl_semisup.contrast import nothing
from cl_semisup.errors import InputError
from cl_semisup.losses import _arguments

Loss = Callable[..., Tensor]
Views = tuple[Tensor, ...]  # one tensor a view
Share = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True)
class Requirements:
    """What a loss needs from the trainer.

    A dataclass declares it as `requirements: ClassVar[Requirements] = Requirements(needs=("logits",))`, a module sets
    `self.requirements`.

    Args:
        labels: whether the labels change the loss; if False, all labels that it gets are -1
        needs: names from `cl_semisup.training.needs`, each passed as a keyword argument of that name
        views: the recipe of every view: `full` (the suite's views) or `weak` (a mirror if allowed, a small shift);
            z1 and z2 are the projections of the first two
        trains_on: `all` images, or `labelled` ones only
        momentum: decay of the momentum (EMA) copy of the network at the first and the last step, cosine between
        bound: labelled images of each class, the same in every step, that join every batch as rows of their own
        support: labelled images of each class drawn anew for every step, for the need `support`
        exempt: clause of the contract (`cl_semisup.contract`) -> the reason why it does not hold for this loss
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
        """Whether the trained network is the same for all labels, so that runs which differ only in labels share it."""
        return not (self.labels or self.needs_labelled_images)

    @property
    def needs_labelled_images(self) -> bool:
        """Whether there must be images with labels; other losses that use labels can do without."""
        return bool(self.bound or self.support or self.trains_on == "labelled")


def requirements_of(loss: Any) -> Requirements:
    """Those of a built loss; the defaults if it declares none. `asks` is an older name of the attribute."""
    return getattr(loss, "requirements", getattr(loss, "asks", Requirements()))


Asks = Requirements  # its older name, in losses that people have written


@dataclass(frozen=True)
class Setting:
    """What a loss may depend on when it is built.

    Args:
        dim: width of the projections, D
        classes: number of classes, C
        seed: of anything random, e.g. fixed prototypes
        images: number of training images, M, for losses with a memory of every image
    """

    dim: int | None
    classes: int | None
    seed: int
    images: int | None = None

    def require(self, what: str) -> tuple[int, int]:
        """(D, C); raises InputError if one is missing."""
        if self.dim is None or self.classes is None:
            raise InputError(f"{what}: needs dim and classes. Got dim={self.dim}, classes={self.classes}. Give both.")
        return self.dim, self.classes

    def width(self, what: str) -> int:
        """D; raises InputError if it is missing."""
        if self.dim is None:
            raise InputError(f"{what}: needs dim, the width of the projections. Got dim=None. Give it.")
        return self.dim

    def memory_size(self, what: str) -> int:
        """M; raises InputError if it is missing."""
        if self.images is None:
            raise InputError(f"{what}: needs the number of training images. Got images=None. Give it.")
        return self.images

    def generator(self) -> torch.Generator:
        """A new generator on the CPU that starts from the seed."""
        return torch.Generator().manual_seed(self.seed)

    def loss(self, named: str | dict[str, Any]) -> Loss:
        """Another loss in the same setting, for losses that wrap one: a name, {name: parameters}, or "none" (0)."""
        if named == "none":
            return _no_loss
        name, params = (named, {}) if isinstance(named, str) else next(iter(named.items()))
        return build(name, dim=self.dim, classes=self.classes, seed=self.seed, images=self.images, **params)


def _no_loss(z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
    """The base loss `none`: 0 with a graph."""
    return nothing(z1, z2)


def build(
    name: str,
    *,
    dim: int | None = None,
    classes: int | None = None,
    seed: int = 0,
    images: int | None = None,
    **params: Any,
) -> Loss:
    """The loss of that name as a callable `loss(z1, z2, labels=None)`; a bad parameter raises InputError.

    So does a call whose views or labels do not fit (`_arguments`).
    """
    _arguments.check_sizes(name, seed, dim=dim, classes=classes, images=images)
    plugin = grid.build("losses", name, params)
    loss = plugin.build(Setting(dim, classes, seed, images)) if hasattr(plugin, "build") else plugin
    return _arguments.checked(loss, name, dim, classes)
