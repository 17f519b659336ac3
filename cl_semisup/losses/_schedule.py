"""What depends on the progress of a training, in eager steps and in those that are recorded once and replayed.

In a recorded step the progress is a `cl_semisup.training.changing.Changing`: a number with `map` and `drawn`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cl_semisup.device import send


def of(function: Callable[[Any], float], number: Any) -> Any:
    """`function(number)`: a function of `math` takes no number that changes."""
    return number.map(function) if hasattr(number, "map") else function(number)


def drawn(make: Callable[[Any], Tensor], number: Any, device: torch.device) -> Tensor:
    """`make(number)`, which draws on the host, on the device."""
    made: Tensor = number.drawn(make) if hasattr(number, "drawn") else send(make(number), device)
    return made
