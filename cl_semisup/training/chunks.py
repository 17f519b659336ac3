"""A batch whose activations do not fit in memory goes through the encoder in chunks; its gradient stays what it is.

    1. the features of every chunk without a graph; then projector, heads and loss see the whole batch of features
    2. the loss's gradient with respect to the features
    3. every chunk once more, with a graph, through which its part of that gradient goes back

Exact to rounding, negatives and all, for a quarter more computation, where each image's features depend on that image
alone. Through batch norm they do not, and no order of computation makes such a batch smaller.

Source: arXiv 2101.06983
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cl_semisup.training.parallel import on_shard


class Chunks:
    """An encoder that takes its batch in `count` chunks. After the loss's own `backward()` comes this one's."""

    def __init__(self, encoder: Callable[[Tensor], Tensor], count: int, autocast: torch.dtype | None = None):
        self.encoder, self.count, self.autocast = encoder, count, autocast
        self._inputs, self._features = torch.empty(0), torch.empty(0)

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, ...) -> (N, F), the encoder itself if it takes the batch in one."""
        if self.count == 1:
            return self.encoder(inputs)
        self._inputs, self._features = inputs, apart(self.encoder, inputs, self.count).requires_grad_()
        return self._features

    def backward(self) -> None:
        """Pass the features' gradient on to the encoder's weights, chunk by chunk."""
        gradient, self._features.grad = self._features.grad, None
        if self.count == 1 or gradient is None:  # None: nothing of the loss reaches the encoder
            return
        inputs = self._inputs
        for part, slope in zip(inputs.tensor_split(self.count), gradient.tensor_split(self.count), strict=True):
            with on_shard(), torch.autocast(inputs.device.type, self.autocast, enabled=self.autocast is not None):
                features = self.encoder(part)
            features.backward(slope)


@torch.no_grad()
def apart(encoder: Callable[[Tensor], Tensor], inputs: Tensor, count: int) -> Tensor:
    """The features of a batch, a chunk at a time, without a graph."""
    return torch.cat([encoder(part) for part in inputs.tensor_split(count)])


def divisible(encoder: nn.Module, images: Tensor) -> bool:
    """Are a few images' features the same whether they come together or apart? The encoder is asked, not believed.

    They are not with batch norm, nor with dropout, whose two forward passes would differ.
    """
    trial = copy.deepcopy(encoder)  # batch norm would remember the trial
    whole, halves = apart(trial, images, 1), apart(trial, images, 2)
    return torch.allclose(whole, halves, rtol=1e-3, atol=1e-3 * float(whole.std()))
