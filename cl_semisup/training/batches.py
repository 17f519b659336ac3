"""The batches of a training: which images a step sees, and what is random in their views.

All draws are made on the host and are functions of names and the step, so every device sees the same.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cl_semisup.data.views import ViewMaker
from cl_semisup.device import send
from cl_semisup.losses import requirements_of
from cl_semisup.seeds import seed
from cl_semisup.training.setup import TrainingSetup


@dataclass(frozen=True)
class Slot:
    """One view of a step: its maker, and what the maker's draws depend on; `support` if it shows the support images."""

    maker: ViewMaker
    seed: int
    view: int
    shared_seed: int = 0
    support: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """A step as it is drawn on the host: indices of images (N,), and of support images (S,) or None, and its views."""

    step: int
    index: Tensor
    support_index: Tensor | None
    slots: list[Slot]

    def indices(self, slot: Slot) -> Tensor:
        return self.support_index if slot.support and self.support_index is not None else self.index


@dataclass(eq=False)
class Batches:
    """The plan of every step, and its views.

    The views of a step are V (N, channels, side, side), followed by the local views if the loss needs them, and by one
    view of the support images if there are any.
    """

    setup: TrainingSetup
    batch_size: int
    _order: tuple[int, Tensor] = field(default=(-1, torch.empty(0)), init=False)

    def __post_init__(self) -> None:
        self.steps_per_epoch = len(self.setup.pool) // self.batch_size
        self.host_labels = self.setup.visible_labels.cpu()  # so that no step waits for the device
        bound = requirements_of(self.setup.loss).bound
        bound_seed = seed("bound", *self.setup.seed_key)
        self._bound = draw_per_class(self.host_labels, bound, bound_seed) if bound else None

    def plan(self, step: int) -> Plan:
        setup, requirements, seed_key = self.setup, requirements_of(self.setup.loss), self.setup.seed_key
        epoch, batch = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, epoch_order(setup, epoch, self.steps_per_epoch * self.batch_size)
        index = self._order[1][batch * self.batch_size : (batch + 1) * self.batch_size]
        if self._bound is not None:
            index = torch.cat([index, self._bound])
        shared = seed("views", *seed_key, step)
        slots = [
            Slot(setup.views[recipe], seed("views", *seed_key, step, view), view, shared)
            for view, recipe in enumerate(requirements.views)
        ]
        if "local_projections" in requirements.needs:
            for view in range(len(slots), len(slots) + setup.local_views):
                slots.append(Slot(setup.views["local"], seed("local views", *seed_key, step, view), view))
        support_index = None
        if requirements.support:
            support_seed = seed("support", *seed_key, step)
            support_index = draw_per_class(self.host_labels, requirements.support, support_seed)
            slots.append(Slot(setup.views["full"], seed("support views", *seed_key, step), 0, support=True))
        return Plan(step, index, support_index, slots)

    def made(self, plan: Plan) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """Indices (N,), views, and support indices (S,) or None, on the training's device."""
        setup, device = self.setup, self.setup.visible_labels.device
        index = send(plan.index, device)
        support_index = None if plan.support_index is None else send(plan.support_index, device)
        images = self.images_at(plan.index, index)
        views = []
        for slot in plan.slots:
            rows = index
            if slot.support and plan.support_index is not None and support_index is not None:
                rows, images = support_index, self.images_at(plan.support_index, support_index)
            views.append(slot.maker(images, slot.seed, slot.view, rows, setup.images, slot.shared_seed))
        return index, views, support_index

    def images_at(self, host_index: Tensor, index: Tensor) -> Tensor:
        """The images on the device of `index`. A data set that does not fit on the device is on the host."""
        images = self.setup.stored
        if images.device == index.device:
            return images.index_select(0, index)
        return send(images.index_select(0, host_index), index.device)


def epoch_order(setup: TrainingSetup, epoch: int, length: int) -> Tensor:
    """(length,) image indices of an epoch: random passes over all images that the loss trains on, cut to `length`."""
    pool = setup.pool
    if requirements_of(setup.loss).trains_on == "labelled":
        pool = pool[setup.visible_labels.cpu()[pool] >= 0]
    generator = torch.Generator().manual_seed(seed("order", *setup.seed_key, epoch))
    passes = -(-length // len(pool))
    return torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(passes)])[:length]


def draw_per_class(labels: Tensor, count: int, draw_seed: int) -> Tensor:
    """(C' * count,) indices of random labelled images, `count` of each class. Images of smaller classes repeat."""
    generator = torch.Generator().manual_seed(draw_seed)
    indices = []
    for label in labels[labels >= 0].unique().tolist():
        members = torch.nonzero(labels == label).squeeze(1)
        passes = -(-count // len(members))
        order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(passes)])
        indices.append(members[order[:count]])
    return torch.cat(indices) if indices else torch.empty(0, dtype=torch.long)
