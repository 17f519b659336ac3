"""What losses share that change or extend another loss."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from cl_semisup.losses import Loss, requirements_of


class Wrapper(nn.Module):
    """A base loss with what it asks for, and the needs of the wrapper itself."""

    def __init__(self, base: Loss, *needs: str):
        super().__init__()
        self.base, self.base_needs = base, requirements_of(base).needs
        self.requirements = replace(requirements_of(base), needs=tuple(dict.fromkeys((*self.base_needs, *needs))))

    def base_loss(self, z1: Tensor, z2: Tensor, labels: Tensor | None, needed: dict[str, Any]) -> Tensor:
        """The base loss with those of the needs that it asks for."""
        return self.base(z1, z2, labels, **self.for_base(needed))

    def for_base(self, needed: dict[str, Any]) -> dict[str, Any]:
        """The needs of the base loss."""
        return {name: needed[name] for name in self.base_needs if name in needed}
