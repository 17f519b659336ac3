"""Losses with local views, against their oracles, and to the bit as before without any."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import losses
from cl_semisup.contract import Batch, extra_inputs
from cl_semisup.contrast import unit
from cl_semisup.losses import requirements_of
from tests.oracles import dino, paws, swav

ORACLES: dict[str, Any] = {"dino": dino, "swav": swav, "paws": paws}
IMAGES, D, CLASSES = 5, 4, 3


def build(name: str, **params: Any) -> Any:
    return losses.build(name, dim=D, classes=CLASSES, images=IMAGES, **params).double()


def local_views(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    return [torch.randn(IMAGES, D, generator=generator, dtype=torch.float64) for _ in range(count)]


CASES = [(name, params, count) for name in ORACLES for params in ORACLES[name].CASES for count in (1, 3)]


@pytest.mark.parametrize(("name", "params", "count"), CASES)
def test_each_local_view_has_the_targets_of_both_global_ones(name: str, params: dict[str, Any], count: int) -> None:
    batch = Batch.draw(images=IMAGES, dim=D, classes=CLASSES)
    assert batch.labels is not None
    loss = build(name, **params)
    extras = extra_inputs(requirements_of(loss), batch, torch.arange(IMAGES), CLASSES)
    rows = [row.requires_grad_() for row in (batch.z1.clone(), batch.z2.clone(), *local_views(count))]
    z1, z2, *local = rows
    oracle = ORACLES[name].oracle
    expected = oracle(
        list(z1),
        list(z2),
        batch.labels.tolist(),
        loss=loss,
        **params,
        **extras | {"local_projections": local},
    )
    wanted = torch.autograd.grad(expected, rows)
    value = loss(z1, z2, batch.labels, **extras | {"local_projections": tuple(local)})
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    found = torch.autograd.grad(value, rows)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_without_local_views_values_are_those_of_two_views_to_the_bit() -> None:
    """The formulas as they were before local views came: versions of plug-ins are declared equivalent for this."""
    z1, z2 = (torch.randn(64, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))

    def guesses(prototypes: Tensor, temperature: float) -> list[Tensor]:
        return [nn.functional.log_softmax(unit(z) @ unit(prototypes).T / temperature, dim=1) for z in (z1, z2)]

    def in_two(targets: list[Tensor], logs: list[Tensor]) -> Tensor:
        return -((targets[1] * logs[0]).sum(dim=1) + (targets[0] * logs[1]).sum(dim=1)).mean() / 2

    built = losses.build("swav", dim=16, prototypes=12)
    codes = [built._codes(unit(z) @ unit(built.prototypes).T).detach() for z in (z1, z2)]
    assert torch.equal(built(z1, z2), in_two(codes, guesses(built.prototypes, 0.1)))

    built = losses.build("dino", dim=16, prototypes=12)
    scores = [unit(z) @ unit(built.slow_prototypes).T for z in (z1, z2)]
    targets = [(score / 0.04).softmax(dim=1) for score in scores]
    assert torch.equal(built(z1, z2, momentum_projections=(z1, z2)), in_two(targets, guesses(built.prototypes, 0.1)))

    built = losses.build("paws", dim=16, classes=3)
    support = (torch.randn(24, 16, generator=torch.Generator().manual_seed(3)), torch.arange(24) % 3)
    member = 0.9 * nn.functional.one_hot(support[1], 3).float() + 0.1 / 3
    logs = [built._log_guess(unit(z), unit(support[0]), member) for z in (z1, z2)]
    sharp = [(log / 0.25).softmax(dim=1) for log in logs]
    targets = [torch.where(q < 1e-4, 0.0, q) for q in sharp]
    agreement = -(targets[1] * logs[0] + targets[0] * logs[1]).sum(dim=1).mean() / 2
    average = torch.cat(sharp).mean(dim=0)
    assert torch.equal(built(z1, z2, support=support), agreement - -(average * average.log()).sum())
