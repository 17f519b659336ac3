"""The inputs of a recorded step: tensors that stay where they are on a GPU and are filled before each replay.

All floats come in one copy from the host, all indices in another. Views of the basic recipe are made from their draws
on the GPU (`make`), which can be recorded too.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cl_semisup.device import send
from cl_semisup.native import CHANGES
from cl_semisup.training.batches import Batches, Plan, Slot
from cl_semisup.training.changing import CAPACITY, Numbers


@dataclass(eq=False)
class _View:
    """A view of every step: where it is made, the draws of its recipe, and the order of the recipe's steps now."""

    slot: Slot
    made: Tensor  # (n, channels, side, side)
    draws: dict[str, Tensor] = field(default_factory=dict)
    order: tuple[str, ...] = ()


class Feed:
    """Made for the plan of one step; those of other steps have the same sizes."""

    def __init__(self, batches: Batches, plan: Plan):
        self.batches, setup = batches, batches.setup
        device, stored = setup.visible_labels.device, setup.stored
        self.images_are_here = stored.device == device
        support = [] if plan.support_index is None else [plan.support_index]
        self._indices = torch.zeros(sum(map(len, (plan.index, *support))), dtype=torch.long, device=device)
        self.index = self._indices[: len(plan.index)]
        self.support_index = self._indices[len(plan.index) :] if support else None
        self._images = [torch.empty(len(i), *stored.shape[1:], dtype=stored.dtype, device=device) for i in self._rows()]
        draws = [self._draws(slot, len(plan.indices(slot))) if slot.maker.is_basic else {} for slot in plan.slots]
        sizes = [CAPACITY, *(numbers.numel() for each in draws for _, numbers in sorted(each.items()))]
        self._floats = torch.zeros(sum(sizes), device=device)
        values, *parts = self._floats.split(sizes)
        self.numbers, places, self.views = Numbers(values), iter(parts), list[_View]()
        for slot, each in zip(plan.slots, draws, strict=True):
            made = torch.empty(len(plan.indices(slot)), *setup.images.shape[1:], device=device)
            here = {name: next(places).view(numbers.shape) for name, numbers in sorted(each.items())}
            self.views.append(_View(slot, made, here, tuple(each)))
        # The order of colour changes decides which kernels are called, so each order is a recording of its own.
        self.has_one_order = all(v.slot.maker.is_basic and len(v.draws.keys() & set(CHANGES)) < 2 for v in self.views)

    def fill(self, plan: Plan) -> None:
        """Send what is drawn for a step. Views that are no basic recipe are made at once."""
        self.numbers.step = plan.step
        support = [] if plan.support_index is None else [plan.support_index]
        self._indices.copy_(send(torch.cat([plan.index, *support]), self._indices.device))
        floats = [self.numbers.on_host()]
        for view, slot in zip(self.views, plan.slots, strict=True):
            view.slot = slot
            if slot.maker.is_basic:
                drawn = self._draws(slot, len(view.made))
                view.order = tuple(drawn)
                floats += [numbers.flatten() for _, numbers in sorted(drawn.items())]
        self._floats.copy_(send(torch.cat(floats), self._floats.device))
        self.numbers.fill_drawn()
        if not self.images_are_here:
            stored = self.batches.setup.stored
            for images, rows in zip(self._images, (plan.index, *support), strict=True):
                images.copy_(send(stored.index_select(0, rows), images.device))
        if not self.has_one_order:
            self.gather()
        for view in self.views:
            if not view.slot.maker.is_basic:
                self._make_chain(view)

    def gather(self) -> None:
        """Take the images of the step, if the data set is on the device."""
        if self.images_are_here:
            for images, rows in zip(self._images, self._rows(), strict=True):
                torch.index_select(self.batches.setup.stored, 0, rows, out=images)

    def make(self, view: _View) -> None:
        """A view of the basic recipe from its draws."""
        draws = {name: view.draws[name] for name in view.order}
        view.made.copy_(view.slot.maker.basic(self._images[view.slot.support], draws))

    def _make_chain(self, view: _View) -> None:
        slot, images = view.slot, self._images[view.slot.support]
        rows = self._rows()[slot.support]
        data = self.batches.setup.images
        view.made.copy_(slot.maker(images, slot.seed, slot.view, rows, data, slot.shared_seed))

    def _rows(self) -> list[Tensor]:
        return [self.index] if self.support_index is None else [self.index, self.support_index]

    def _draws(self, slot: Slot, count: int) -> dict[str, Tensor]:
        shape = torch.Size((count, *self.batches.setup.stored.shape[1:]))
        return slot.maker.draws(shape, slot.seed)
