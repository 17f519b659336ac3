"""Layer-causal descent: layer l moves by gradients that see only layers up to l.

    dW_l = -lr d/dW_l L( P(h_l) ),   h_l = f_l(stop(h_{l-1}))

h_l is the output of layer l, and P, the projector, reads every layer as it reads the last one; its own weights move by
the last layer alone. In ordinary descent the gradient of layer l passes through all layers above it. A loss with a
memory remembers the last layer's projections alone, and the lower layers read what it held before the step.

Source: arXiv 2311.07772, where P is a language model's unembedding; the equation is reconstructed from its description
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from cl_semisup.encoders import linear_layers
from cl_semisup.errors import InputError
from cl_semisup.training import exchange
from cl_semisup.training.model import Model


class LayerCausal:
    """Finds the layers of an encoder. InputError if it is no row of layers as wide as its features."""

    def __init__(self, model: Model, chunks: int):
        self.model = model
        starts = linear_layers(model.encoder)
        members = list(model.encoder.children())
        if chunks > 1 or exchange.world_size() > 1:
            raise InputError("optimizer: layer_causal takes whole batches in one process. Got parts. Lower batch_size.")
        self.firsts = [members[place] for place in starts[1:]]  # of every layer but the lowest
        self.lasts = [members[place - 1] for place in starts[1:]]  # of every layer but the highest

    @contextmanager
    def watching(self) -> Iterator[list[Tensor]]:
        """Within, no layer passes a gradient down. The list gets the output of every layer but the highest."""
        outputs: list[Tensor] = []

        def cut(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0].detach(),)

        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            outputs.append(output)

        hooks = [module.register_forward_pre_hook(cut) for module in self.firsts]
        hooks += [module.register_forward_hook(keep) for module in self.lasts]
        try:
            yield outputs
        finally:
            for hook in hooks:
                hook.remove()

    def read(self, output: Tensor) -> Tensor:
        """(N, D) the projections of a lower layer's output, through weights that take no gradient."""
        projector = self.model.projector
        fixed = {
            name: value.detach().clone() for name, value in (*projector.named_parameters(), *projector.named_buffers())
        }
        projections: Tensor = functional_call(projector, fixed, (output,))
        return projections


def reading(loss: Any) -> Callable[..., Tensor]:
    """The loss with the memory that it has now: calls read this memory, and the loss keeps nothing of them."""
    if not isinstance(loss, nn.Module):
        return loss
    before = {name: value.clone() for name, value in loss.named_buffers()}

    def call(*args: Any, **extras: Any) -> Tensor:
        made: Tensor = functional_call(loss, {name: value.clone() for name, value in before.items()}, args, extras)
        return made

    return call
