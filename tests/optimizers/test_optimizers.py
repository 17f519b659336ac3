"""Parameters whose first gradient comes late (frozen at first, or used by few batches) are stepped like any other."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from cl_semisup import plugins

NAMES = plugins.names("optimizers")
LATE, STEPS = 3, 6


def _gradient(step: int) -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(step))


def _start() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3))


def _steps(optimizer: Any, early: nn.Parameter, late: nn.Parameter, between: range) -> None:
    for step in between:
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        early.grad = _gradient(step)
        late.grad = _gradient(step) if step >= LATE else None
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_may_get_its_first_gradient_late(name: str) -> None:
    """It rests until then, and then moves as it would have done on its own from the first step on."""
    early, late = _start(), _start()
    optimizer = plugins.load("optimizers", name)().build([early, late], [])
    _steps(optimizer, early, late, range(LATE))
    assert torch.equal(late, _start())
    _steps(optimizer, early, late, range(LATE, STEPS))

    other, alone = _start(), _start()
    fresh = plugins.load("optimizers", name)().build([other, alone], [])
    _steps(fresh, other, alone, range(LATE, STEPS))
    assert torch.equal(late, alone)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_saved_before_the_first_gradient_goes_on_the_same(name: str) -> None:
    early, late = _start(), _start()
    optimizer = plugins.load("optimizers", name)().build([early, late], [])
    _steps(optimizer, early, late, range(LATE - 1))
    kept = [nn.Parameter(p.detach().clone()) for p in (early, late)]
    resumed = plugins.load("optimizers", name)().build(kept, [])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _steps(optimizer, early, late, range(LATE - 1, STEPS))
    _steps(resumed, kept[0], kept[1], range(LATE - 1, STEPS))
    assert torch.equal(early, kept[0])
    assert torch.equal(late, kept[1])


def test_fused_momentum_steps_are_those_of_plain_sgd() -> None:
    """The buffers that `build` makes beforehand change nothing, nesterov included."""
    for nesterov in (False, True):
        ours, theirs = _start(), _start()
        built = plugins.load("optimizers", "sgd")(nesterov=nesterov).build([ours], [])
        plain = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=nesterov, foreach=False)
        for step in range(STEPS):
            for group in built.param_groups:
                group["lr"] = 0.1
            ours.grad, theirs.grad = _gradient(step), _gradient(step)
            built.step()
            plain.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("zero", ["weights", "gradient"])
def test_lars_takes_the_plain_step_where_its_ratio_would_be_of_nothing(zero: str) -> None:
    """trust |w| / |g| is 0 for weights of 0, which could then never move, and infinite for a gradient of 0."""
    weight, gradient = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.6, -0.8]])
    (weight if zero == "weights" else gradient).zero_()
    parameter, moved = nn.Parameter(weight.clone()), nn.Parameter(torch.tensor([[3.0, 4.0]]))
    parameter.grad, moved.grad = gradient.clone(), torch.tensor([[0.6, -0.8]])
    optimizer = plugins.load("optimizers", "lars")(momentum=0.0, weight_decay=0.0, trust=0.001).build(
        [parameter, moved], []
    )
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), weight - 0.1 * gradient)
    torch.testing.assert_close(moved.detach(), torch.tensor([[3.0, 4.0]]) - 0.1 * 0.005 * torch.tensor([[0.6, -0.8]]))
