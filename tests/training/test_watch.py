"""What the watch refuses and notes while a step is recorded, on tensors of a host."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cl_semisup.training.changing import CannotRecordError
from cl_semisup.training.watch import Watch

STEPS: dict[str, Callable[[Tensor], object]] = {
    "reads a number of the device": lambda x: x.sum().item(),
    "looks for entries": lambda x: torch.nonzero(x > 0),
    "takes rows by a mask": lambda x: x[x[:, 0] > 0],
    "draws random numbers in the step": lambda x: torch.rand_like(x),
    "computes singular values": lambda x: torch.linalg.svdvals(x),
    "copies between the host and the device": lambda x: x.to("meta"),
}


@pytest.mark.parametrize("words", STEPS)
def test_a_step_that_cannot_be_recorded_is_refused_with_the_reason(words: str) -> None:
    x = torch.randn(3, 2)
    with pytest.raises(CannotRecordError, match=words), Watch():
        STEPS[words](x)


def test_a_step_that_can_be_recorded_is_noted_with_its_numbers_and_sizes() -> None:
    x, rows = torch.ones(3, 2), torch.tensor([2, 0])
    with Watch() as watch:
        found = (x * 3.0)[rows]
    assert torch.equal(found, torch.full((2, 2), 3.0))
    (multiplied, (size, number)), (indexed, _) = watch.calls
    assert (multiplied, size, number) == ("aten.mul.Tensor", ((3, 2), "torch.float32", None), "3.0")
    assert indexed == "aten.index.Tensor"
