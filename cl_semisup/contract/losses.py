"""The contract of losses.

A loss is built anew for every evaluation, so no state passes from one evaluation to the next. Inputs beyond the
projections are made from z1 and z2 row by row, so that every image has its own features, logits and further views.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_semisup import losses, plugins
from cl_semisup.config import grid
from cl_semisup.contract.checks import Broken, require_documentation
from cl_semisup.contract.clauses import Contract, PluginUnderTest
from cl_semisup.contract.other_process import Questions
from cl_semisup.losses import Loss, Requirements, requirements_of

IMAGES, DIM, CLASSES = 12, 16, 4


@dataclass(frozen=True, eq=False)
class Batch:
    """Synthetic embeddings: (N, D) projections of two similar views, and (N,) labels with -1 for unlabelled images."""

    z1: Tensor
    z2: Tensor
    labels: Tensor | None

    @classmethod
    def draw(cls, images: int = IMAGES, dim: int = DIM, classes: int = CLASSES, seed: int = 0) -> "Batch":
        generator = torch.Generator().manual_seed(seed)
        z1 = torch.randn(images, dim, generator=generator, dtype=torch.float64)
        z2 = z1 + 0.5 * torch.randn(images, dim, generator=generator, dtype=torch.float64)
        labels = torch.arange(images) % classes
        labels[1::3] = -1  # a third is unlabelled
        return cls(z1, z2, labels)

    def rows(self, order: Tensor) -> "Batch":
        return Batch(self.z1[order], self.z2[order], None if self.labels is None else self.labels[order])

    def to(self, dtype: torch.dtype) -> "Batch":
        return Batch(self.z1.to(dtype), self.z2.to(dtype), self.labels)


@dataclass(frozen=True)
class Subject(PluginUnderTest):
    """A loss under test, built for embeddings (N, dim) and so many classes."""

    folder = "losses"

    dim: int = DIM
    classes: int = CLASSES

    def build(self) -> Loss:
        return losses.build(self.name, dim=self.dim, classes=self.classes, seed=0, images=IMAGES, **self.settings)

    def exempt(self) -> Mapping[str, str]:
        try:
            return requirements_of(self.build()).exempt
        except Exception:  # every clause will say why it cannot be built
            return {}

    def value(self, batch: Batch, index: Tensor | None = None, teacher_batch: Batch | None = None) -> Tensor:
        """Value of a newly built loss; the momentum copy sees `teacher_batch`, by default the same batch."""
        loss = self.build()
        if isinstance(loss, torch.nn.Module):
            loss.to(batch.z1.dtype)
        index = torch.arange(len(batch.z1)) if index is None else index
        extras = extra_inputs(requirements_of(loss), batch, index, self.classes, teacher_batch)
        labels_before = None if batch.labels is None else batch.labels.clone()
        value = loss(batch.z1, batch.z2, batch.labels, **extras)
        if labels_before is not None and not torch.equal(labels_before, batch.labels):  # type: ignore[arg-type]
            raise Broken("the labels are changed in place: other losses and later steps see them. Change a copy.")
        return value

    def gradient(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(value, gradient to z1, gradient to z2)."""
        z1, z2 = batch.z1.clone().requires_grad_(), batch.z2.clone().requires_grad_()
        value = self.value(Batch(z1, z2, batch.labels))
        if not value.requires_grad:
            raise Broken("the value has no graph, so backward fails. Add `nothing(z1, z2)` where no anchor is left.")
        gradients = torch.autograd.grad(value, (z1, z2), allow_unused=True)
        g1, g2 = (torch.zeros_like(z1) if g is None else g for g in gradients)
        return value.detach(), g1, g2

    def questions(self) -> Questions:
        """Values and gradients of two batches."""

        def ask(seed: int) -> list[float]:
            value, *gradients = self.gradient(Batch.draw(seed=seed))
            return torch.cat([part.flatten() for part in (value, *gradients)]).tolist()

        return {f"the loss or gradient of batch {seed}": partial(ask, seed) for seed in range(2)}


def extra_inputs(
    requirements: Requirements, batch: Batch, index: Tensor, classes: int, teacher_batch: Batch | None = None
) -> dict[str, Any]:
    """The keyword arguments that a loss asks for, made from z1 and z2 by fixed linear maps of each row."""
    dim = batch.z1.shape[1]

    def fixed_matrix(seed: int, rows: int, columns: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(batch.z1)

    def all_views(source: Batch) -> tuple[Tensor, ...]:
        matrices = (fixed_matrix(100 + v, dim, dim) for v in range(len(requirements.views) - 2))
        return (source.z1, source.z2, *(source.z1 @ matrix / dim**0.5 + source.z2 for matrix in matrices))

    views, teacher_views = all_views(batch), tuple(view.detach() for view in all_views(teacher_batch or batch))
    head = fixed_matrix(1, dim, classes)
    to_pixels = fixed_matrix(2, dim, 64)
    support_labels = torch.arange(classes).repeat_interleave(max(requirements.support, 1))
    values: dict[str, Callable[[], Any]] = {
        "features": lambda: views,
        "projections": lambda: views,
        "local_projections": lambda: (),
        "logits": lambda: tuple(view @ head for view in views),
        "index": lambda: index,
        "epoch": lambda: 0,
        "progress": lambda: 0.5,
        "inputs": lambda: tuple((view @ to_pixels).reshape(-1, 1, 8, 8) for view in views),
        "encode": lambda: lambda inputs: inputs.flatten(1) @ to_pixels.T / 64,
        "patches": lambda: (
            lambda boxes: (
                batch.z1 @ fixed_matrix(6, dim, dim) + boxes.to(batch.z1) @ fixed_matrix(7, 4, dim),
                (batch.z1 * (1 + boxes.to(batch.z1).sum(dim=1, keepdim=True))).detach(),
            )
        ),
        "pixels": lambda: (torch.full_like(head[:1, :1, None], -20), torch.full_like(head[:1, :1, None], 20)),
        "support": lambda: (fixed_matrix(3, len(support_labels), dim), support_labels),
        "weights": lambda: (fixed_matrix(4, dim, 3), fixed_matrix(5, 3, dim)),
        "momentum_features": lambda: teacher_views,
        "momentum_projections": lambda: teacher_views,
        "momentum_logits": lambda: tuple(view @ head for view in teacher_views),
    }
    return {need: values[need]() for need in requirements.needs}


CONTRACT = Contract[Subject](basic=False)


@CONTRACT.clause
def documented(subject: Subject) -> None:
    """The docstring has a formula, `Source:`, `Difference:` and, where there are parameters, each in `Args:`."""
    require_documentation("losses", subject.name, "Source:", "Difference:")


@CONTRACT.clause
def scalar(subject: Subject) -> None:
    """The value is one finite number of the input's kind."""
    for dtype in (torch.float32, torch.float64):
        value = subject.value(Batch.draw().to(dtype))
        if value.shape != () or value.dtype != dtype:
            raise Broken(f"for {dtype} input the value is {value.dtype} of shape {tuple(value.shape)}.")
        _finite(value, "value")


@CONTRACT.clause
def gradient(subject: Subject) -> None:
    """The gradient is finite, not zero everywhere, and what finite differences say (float64)."""
    batch = Batch.draw()
    _, g1, g2 = subject.gradient(batch)
    _finite(torch.cat([g1, g2]), "gradient")
    if not (g1.abs().max() + g2.abs().max()) > 0:
        raise Broken("the gradient is zero everywhere.")
    generator, step = torch.Generator().manual_seed(1), 1e-6
    for _ in range(3):
        d1, d2 = (torch.randn(g.shape, generator=generator, dtype=g.dtype) for g in (g1, g2))
        after = subject.value(Batch(batch.z1 + step * d1, batch.z2 + step * d2, batch.labels), teacher_batch=batch)
        before = subject.value(Batch(batch.z1 - step * d1, batch.z2 - step * d2, batch.labels), teacher_batch=batch)
        numeric, exact = float((after - before).detach()) / (2 * step), float((g1 * d1).sum() + (g2 * d2).sum())
        if abs(numeric - exact) > 1e-4 * (1 + abs(exact)):
            raise Broken(f"along a random direction the gradient is {exact:.6g}, finite differences say {numeric:.6g}.")


@CONTRACT.clause
def repeatable(subject: Subject) -> None:
    """The same input gives the same value: a loss draws nothing that its seed does not fix."""
    _equal(subject.value(Batch.draw()), subject.value(Batch.draw()), "built twice")


@CONTRACT.clause
def batch_order(subject: Subject) -> None:
    """The order of the images does not matter."""
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(2))
    batch = Batch.draw()
    _equal(subject.value(batch), subject.value(batch.rows(order), index=order), "images in another order")


@CONTRACT.clause
def view_swap(subject: Subject) -> None:
    """The two views may be exchanged."""
    batch = Batch.draw()
    _equal(subject.value(batch), subject.value(Batch(batch.z2, batch.z1, batch.labels)), "views exchanged")


@CONTRACT.clause
def rotation(subject: Subject) -> None:
    """Turning all embeddings together does not matter."""
    batch = Batch.draw()
    matrix = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    q = torch.linalg.qr(matrix).Q
    _equal(subject.value(batch), subject.value(Batch(batch.z1 @ q, batch.z2 @ q, batch.labels)), "turned")


@CONTRACT.clause
def labels(subject: Subject) -> None:
    """Labels matter exactly if the loss declares it."""
    batch = Batch.draw()
    assert batch.labels is not None
    other = batch.labels.roll(1)
    changed = not torch.equal(subject.value(batch), subject.value(replace(batch, labels=other)))
    declared = requirements_of(subject.build()).labels
    if changed != declared:
        raise Broken(f"other labels {'change' if changed else 'do not change'} the value, but it declares {declared}.")


@CONTRACT.clause
def unlabelled(subject: Subject) -> None:
    """Unlabelled images are not one class: all -1 equals no labels, and differs from one class for all."""
    batch = Batch.draw()
    none, minus = (subject.value(replace(batch, labels=y)) for y in (None, torch.full((IMAGES,), -1)))
    _equal(none, minus, "labels of -1 instead of None")
    one = subject.value(replace(batch, labels=torch.zeros(IMAGES, dtype=torch.long)))
    if requirements_of(subject.build()).labels and torch.equal(minus, one):
        raise Broken("all unlabelled gives the same value as all in one class.")


@CONTRACT.clause
def small_temperature(subject: Subject) -> None:
    """A temperature of 0.005 stays finite in float32."""
    if "temperature" in grid.annotations(plugins.load("losses", subject.name)):
        changed = replace(subject, settings={**subject.settings, "temperature": 0.005})
        _all_finite(changed, Batch.draw().to(torch.float32), "temperature 0.005")


@CONTRACT.clause
def half_precision(subject: Subject) -> None:
    """Under bfloat16 and float16 autocast, with projections in half precision, value and gradient are finite."""
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            _all_finite(subject, Batch.draw().to(torch.float32), f"autocast {dtype}")


@CONTRACT.clause
def degenerate(subject: Subject) -> None:
    """One image, one class, a missing class, nothing labelled, all rows equal, views equal: finite, with a graph."""
    for what, batch in _degenerate_batches():
        _all_finite(subject, batch, what)


@CONTRACT.clause
def state(subject: Subject) -> None:
    """Whatever the loss remembers is in its state_dict: a restored copy goes on with the same values."""
    first, second = subject.build(), subject.build()
    if not isinstance(first, torch.nn.Module) or not isinstance(second, torch.nn.Module):
        return
    first, second = first.double(), second.double()
    extras = lambda batch: extra_inputs(requirements_of(first), batch, torch.arange(IMAGES), CLASSES)  # noqa: E731
    for seed in range(3):
        batch = Batch.draw(seed=seed)
        first(batch.z1, batch.z2, batch.labels, **extras(batch))
    second.load_state_dict(first.state_dict())
    batch = Batch.draw(seed=9)
    values = [module(batch.z1, batch.z2, batch.labels, **extras(batch)) for module in (first, second)]
    _equal(values[0], values[1], "restored from its state")


def _degenerate_batches() -> Iterator[tuple[str, Batch]]:
    batch = Batch.draw()
    assert batch.labels is not None
    first, one_class = torch.arange(1), torch.zeros(IMAGES, dtype=torch.long)
    row = batch.z1[:1].expand(IMAGES, -1).clone()
    yield "one labelled image", batch.rows(first)
    yield "one unlabelled image", replace(batch.rows(first), labels=torch.tensor([-1]))
    yield "two images", batch.rows(torch.arange(2))
    yield "no label", replace(batch, labels=None)
    yield "one class", replace(batch, labels=one_class)
    yield "a missing class", replace(batch, labels=torch.arange(IMAGES) % (CLASSES - 1))
    yield "all rows equal", Batch(row, row.clone(), batch.labels)
    yield "views equal", Batch(batch.z1, batch.z1.clone(), batch.labels)
    yield "all rows zero", Batch(torch.zeros_like(row), torch.zeros_like(row), batch.labels)


def _all_finite(subject: Subject, batch: Batch, what: str) -> None:
    value, g1, g2 = subject.gradient(batch)
    _finite(value, f"value with {what}")
    _finite(torch.cat([g1, g2]), f"gradient with {what}")


def _finite(tensor: Tensor, what: str) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise Broken(f"the {what} is not finite.")


def _equal(one: Tensor, other: Tensor, what: str) -> None:
    if not torch.allclose(one, other, rtol=1e-8, atol=1e-10):
        raise Broken(f"{what}: {float(one.detach()):.10g} becomes {float(other.detach()):.10g}.")
