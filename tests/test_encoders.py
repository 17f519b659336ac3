"""Encoders against the same network written out plainly."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_semisup import plugins


@pytest.mark.parametrize(("channels", "side", "blocks"), [(1, 8, 3), (3, 32, 4)])
def test_a_convnet_that_pools_before_it_rectifies_has_the_digits_of_one_that_rectifies_first(
    channels: int, side: int, blocks: int
) -> None:
    torch.manual_seed(0)
    network = plugins.load("encoders", "convnet")(width=8, blocks=blocks).build(channels, side).train()
    images = torch.randn(32, channels, side, side)
    parameters = list(network.parameters())
    slopes = torch.randn(32, network.dim)

    def usual(x: Tensor) -> Tensor:
        for kernel, weight, bias in zip(*(iter(parameters),) * 3, strict=True):
            x = F.conv2d(x, kernel, padding=1)
            x = F.relu(F.batch_norm(x, None, None, weight, bias, training=True))
            x = F.max_pool2d(x, 2) if x.shape[-1] > 2 else x
        return x.mean(dim=(2, 3))

    found, expected = network(images), usual(images)
    assert torch.equal(found, expected)
    pairs = zip(*(torch.autograd.grad(out, parameters, slopes) for out in (found, expected)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
