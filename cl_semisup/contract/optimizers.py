"""The contract of optimizers: what the training loop, weight decay and resumed runs rely on."""

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cl_semisup.contract.checks import Broken, other_randomness
from cl_semisup.contract.clauses import Contract, PluginUnderTest
from cl_semisup.contract.other_process import Questions

SHAPES = ((4, 3), (2, 2), (3,), (2,))  # of two weights and two others
WEIGHTS = 2
RATE = 0.01


class Training:
    """Parameters, and an optimizer that a plug-in has built for them; gradients are drawn from the step's number."""

    def __init__(self, plugin: Any):
        random = torch.Generator().manual_seed(0)
        self.parameters = [nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]
        self.optimizer = plugin.build(self.parameters[:WEIGHTS], self.parameters[WEIGHTS:])
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise Broken(f"build gives {type(self.optimizer).__name__}, not a torch.optim.Optimizer.")

    def step(self, number: int, rate: float = RATE, skip: Sequence[int] = (), zero: Sequence[int] = ()) -> None:
        """One step as in training: the rate of every group is set first; gradients of `skip` are None, of `zero` 0."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for position, parameter in enumerate(self.parameters):
            random = torch.Generator().manual_seed(100 * number + position)
            gradient = torch.randn(parameter.shape, generator=random)
            parameter.grad = None if position in skip else gradient * (position not in zero)
        self.gradients = [torch.empty(0) if p.grad is None else p.grad.clone() for p in self.parameters]
        self.optimizer.step()

    def values(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]


@dataclass(frozen=True)
class Subject(PluginUnderTest):
    """An optimizer under test."""

    folder = "optimizers"

    def training(self) -> Training:
        return Training(self.make())

    def questions(self) -> Questions:
        """Where two trainings end."""

        def ask(steps: range) -> list[float]:
            training = self.training()
            for number in steps:
                training.step(number)
            return torch.cat([value.flatten() for value in training.values()]).tolist()

        return {
            "the end of four steps": partial(ask, range(4)),
            "the end of other steps": partial(ask, range(10, 12)),
        }


CONTRACT = Contract[Subject]()


@CONTRACT.clause
def builds(subject: Subject) -> None:
    """It is built over every parameter once, and a step moves the parameters to finite values."""
    training = subject.training()
    ids = [id(p) for group in training.optimizer.param_groups for p in group["params"]]
    if sorted(ids) != sorted(map(id, training.parameters)):
        raise Broken(f"its groups must hold each of the {len(SHAPES)} parameters once. They hold {len(ids)}.")
    before = training.values()
    for number in range(3):
        training.step(number)
    for old, new in zip(before, training.values(), strict=True):
        if not bool(torch.isfinite(new).all()):
            raise Broken("a parameter is not finite after three steps.")
        if torch.equal(old, new):
            raise Broken("a parameter with gradients has not moved in three steps.")


@CONTRACT.clause
def downhill(subject: Subject) -> None:
    """The first step of `others` goes against their gradient."""
    training = subject.training()
    before = training.values()
    training.step(0)
    for old, new, parameter in list(zip(before, training.values(), training.parameters, strict=True))[WEIGHTS:]:
        assert parameter.grad is not None
        if float(((new - old) * parameter.grad).sum()) >= 0:
            raise Broken("the first step goes uphill.")


@CONTRACT.clause
def learning_rate(subject: Subject) -> None:
    """The rate that is set in a group before a step rules that step and that group: at 0 nothing moves."""
    for frozen in range(len(subject.training().optimizer.param_groups)):
        training = subject.training()
        training.step(0)
        before = training.values()
        for position, group in enumerate(training.optimizer.param_groups):
            group["lr"] = 0.0 if position == frozen else RATE
        training.optimizer.step()
        still = {id(p) for p in training.optimizer.param_groups[frozen]["params"]}
        for old, parameter in zip(before, training.parameters, strict=True):
            if id(parameter) in still and not torch.equal(old, parameter):
                raise Broken(f"a parameter moves though the learning rate of its group ({frozen}) is 0.")
    moved = []
    for rate in (RATE, RATE / 10):
        training = subject.training()
        before = training.values()
        training.step(0, rate)
        moved.append(sum(float((new - old).norm()) for old, new in zip(before, training.values(), strict=True)))
    if not moved[0] > moved[1]:
        raise Broken(f"a tenth of the learning rate moves the parameters by {moved[1]:.3g} instead of {moved[0]:.3g}.")


@CONTRACT.clause
def without_gradient(subject: Subject) -> None:
    """A parameter without a gradient stays where it is, and may get its first one later."""
    training = subject.training()
    before = training.values()
    for number in range(3):
        training.step(number, skip=(0, WEIGHTS))
    for position in (0, WEIGHTS):
        if not torch.equal(before[position], training.parameters[position]):
            raise Broken("a parameter whose gradient is None moves.")
    training.step(3)
    training.step(4, skip=range(len(SHAPES)))
    if torch.equal(before[0], training.parameters[0]):
        raise Broken("a parameter that gets its first gradient in the fourth step does not move.")


@CONTRACT.clause
def no_decay_of_others(subject: Subject) -> None:
    """`others` have no weight decay: with gradients of 0 they stay where they are."""
    training = subject.training()
    before = training.values()
    for number in range(3):
        training.step(number, zero=range(len(SHAPES)))
    for old, parameter in list(zip(before, training.parameters, strict=True))[WEIGHTS:]:
        if not torch.equal(old, parameter):
            raise Broken("a parameter of `others` moves though its gradient is 0.")


@CONTRACT.clause
def gradients(subject: Subject) -> None:
    """A step leaves the gradients as they are."""
    training = subject.training()
    training.step(0)
    after = [parameter.grad for parameter in training.parameters]
    if any(
        grad is None or not torch.equal(grad, before) for grad, before in zip(after, training.gradients, strict=True)
    ):
        raise Broken("a step changes the gradients.")


@CONTRACT.clause
def deterministic(subject: Subject) -> None:
    """The same gradients give the same parameters, whatever else is trained or drawn meanwhile."""
    plugin, ends = subject.make(), []
    for seed in (1, 2):
        with other_randomness(seed):
            training, other = Training(plugin), Training(plugin)
            for number in range(4):
                training.step(number)
                for again in range(seed - 1):  # another training goes on beside it, in the second round
                    other.step(7 + number + again)
            ends.append(training.values())
    if not all(map(torch.equal, *ends)):
        raise Broken("the same steps end at other parameters. Keep all state in the optimizer's `state`.")


@CONTRACT.clause
def resuming(subject: Subject) -> None:
    """Its state_dict, through a file, is all there is: a resumed training goes on to the bit."""
    whole = subject.training()
    for number in range(3):
        whole.step(number, skip=(1,))  # one parameter has no state yet
    file = io.BytesIO()
    torch.save(whole.optimizer.state_dict(), file)
    file.seek(0)
    try:
        state = torch.load(file, weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise Broken(
            f"its state_dict must hold tensors, numbers and texts alone. {type(error).__name__}: {first}"
        ) from error
    resumed = subject.training()
    with torch.no_grad():
        for parameter, value in zip(resumed.parameters, whole.values(), strict=True):
            parameter.copy_(value)
    resumed.optimizer.load_state_dict(copy.deepcopy(state))
    for number in range(3, 6):
        whole.step(number)
        resumed.step(number)
    if not all(map(torch.equal, whole.values(), resumed.values())):
        raise Broken("a training that is resumed from its state_dict goes elsewhere.")
