"""Gradient caching: a batch whose activations do not fit in memory goes through the encoder in chunks.

    1. compute the features of every chunk without a graph; projector, heads and loss see those of the whole batch
    2. compute the gradient of the loss with respect to the features
    3. encode every chunk again, with a graph, and backpropagate its rows of that gradient

The gradient is that of the whole batch, up to rounding and with all negatives, for a quarter more computation. This
requires that the features of an image depend on this image alone, which batch norm breaks.

Source: arXiv 2101.06983
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cl_semisup.training.parallel import inside_shard


class ChunkedEncoder:
    """An encoder that takes its batch in `count` chunks. Call `backward()` after the `backward()` of the loss."""

    def __init__(self, encoder: Callable[[Tensor], Tensor], count: int, autocast: torch.dtype | None = None):
        self.encoder, self.count, self.autocast = encoder, count, autocast
        self._inputs, self._features = torch.empty(0), torch.empty(0)

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, ...) -> (N, F). With one chunk this is the encoder itself."""
        if self.count == 1:
            return self.encoder(inputs)
        self._inputs, self._features = inputs, encode_in_chunks(self.encoder, inputs, self.count).requires_grad_()
        return self._features

    def backward(self) -> None:
        """Backpropagate the gradient of the features to the encoder's weights, chunk by chunk."""
        gradient, self._features.grad = self._features.grad, None
        if self.count == 1 or gradient is None:  # None: the loss does not depend on the features
            return
        inputs = self._inputs
        for chunk, grad_output in zip(inputs.tensor_split(self.count), gradient.tensor_split(self.count), strict=True):
            with inside_shard(), torch.autocast(inputs.device.type, self.autocast, enabled=self.autocast is not None):
                features = self.encoder(chunk)
            if features.requires_grad:  # else the encoder is frozen, or has no weights
                features.backward(grad_output)


@torch.no_grad()
def encode_in_chunks(encoder: Callable[[Tensor], Tensor], inputs: Tensor, count: int) -> Tensor:
    """(N, ...) -> (N, F), one of `count` chunks at a time, without a graph."""
    return torch.cat([encoder(chunk) for chunk in inputs.tensor_split(count)])


def can_be_chunked(encoder: nn.Module, images: Tensor) -> bool:
    """Whether these images get the same features in one batch and in two chunks: tried, not read from the modules.

    Batch norm fails, and so does dropout, which draws another mask in the second forward pass.
    """
    trial = copy.deepcopy(encoder)  # the trial would change running statistics
    whole, halves = encode_in_chunks(trial, images, 1), encode_in_chunks(trial, images, 2)
    return torch.allclose(whole, halves, rtol=1e-3, atol=1e-3 * float(whole.std()))
