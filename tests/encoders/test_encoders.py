"""Encoders against the same network written out plainly."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_semisup import plugins


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("channels", "side", "blocks"), [(1, 8, 3), (1, 28, 3), (3, 32, 3), (3, 32, 4)])
def test_a_convnet_in_its_fast_order_has_the_digits_of_one_in_the_usual_order(
    channels: int, side: int, blocks: int, layout: torch.memory_format
) -> None:
    """It pools before it rectifies, and its spatial mean looks at channels last."""
    torch.manual_seed(0)
    network = plugins.load("encoders", "convnet")(width=8, blocks=blocks).build(channels, side).train()
    network.to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(32, channels, side, side)
    parameters = list(network.parameters())
    slopes = torch.randn(32, network.dim)

    def usual(x: Tensor) -> Tensor:
        for kernel, weight, bias in zip(*(iter(parameters),) * 3, strict=True):
            x = F.conv2d(x, kernel, padding=1)
            x = F.relu(F.batch_norm(x, None, None, weight, bias, training=True))
            x = F.max_pool2d(x, 2) if x.shape[-1] > 2 else x
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    found, expected = network(images), usual(images)
    assert torch.equal(found, expected)
    pairs = zip(*(torch.autograd.grad(out, parameters, slopes) for out in (found, expected)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
