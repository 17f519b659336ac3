"""Every loss keeps its contract and equals its oracle; a loss without an oracle fails here."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup import contract, losses, plugins
from cl_semisup.contract import Batch, Subject, extra_inputs
from cl_semisup.losses import requirements_of

LOSSES = plugins.names("losses")
ORACLES = Path(__file__).parents[1] / "oracles"


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_keeps_its_contract(name: str) -> None:
    broken = [f"{v.clause}: {v.text}" for v in contract.check("losses", name) if v.outcome == "broken"]
    assert not broken, "\n".join(broken)


def test_every_loss_has_an_oracle() -> None:
    assert {path.stem for path in ORACLES.glob("*.py")} - {"__init__", "loops"} == set(LOSSES)


def _cases() -> list[Any]:
    cases = []
    for name in LOSSES:
        if (ORACLES / f"{name}.py").exists():
            for case in importlib.import_module(f"tests.oracles.{name}").CASES:
                cases.append(pytest.param(name, case, id=f"{name}-{json.dumps(case)}"))
    return cases


@pytest.mark.parametrize("labelled", ["some", "all", "none"])
@pytest.mark.parametrize(("name", "params"), _cases())
def test_value_and_gradient_equal_python_loops(name: str, params: dict[str, Any], labelled: str) -> None:
    oracle = importlib.import_module(f"tests.oracles.{name}").oracle
    batch = Batch.draw(images=7, dim=5, classes=3, seed=5)
    assert batch.labels is not None
    labels = {"some": batch.labels, "all": torch.arange(7) % 3, "none": None}[labelled]
    subject = Subject(name, params, dim=5, classes=3)
    gradients, values = [], []
    for use_oracle in (False, True):
        z1, z2 = batch.z1.clone().requires_grad_(), batch.z2.clone().requires_grad_()
        loss = subject.build()
        if isinstance(loss, torch.nn.Module):
            loss.double()
        extras = extra_inputs(requirements_of(loss), Batch(z1, z2, labels), torch.arange(7), 3)
        if use_oracle:
            if "loss" in inspect.signature(oracle).parameters:
                extras["loss"] = loss  # for its prototypes or weights, which are drawn when it is built
            value = oracle(list(z1), list(z2), None if labels is None else labels.tolist(), **params, **extras)
        else:
            value = loss(z1, z2, labels, **extras)
        grads = torch.autograd.grad(value, (z1, z2), allow_unused=True)
        gradients.append(torch.cat([torch.zeros_like(z1) if g is None else g for g in grads]))
        values.append(value.detach())
    torch.testing.assert_close(values[0], values[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


def test_unlabelled_images_are_not_one_class() -> None:
    """If -1 were a class, the value would differ, so the oracle would catch this mistake."""
    batch = Batch.draw()
    as_class = torch.where(batch.labels < 0, 3, batch.labels) if batch.labels is not None else None
    for name in ("supcon", "supcon_in"):
        loss = losses.build(name)
        assert float(loss(batch.z1, batch.z2, batch.labels)) != pytest.approx(float(loss(batch.z1, batch.z2, as_class)))
